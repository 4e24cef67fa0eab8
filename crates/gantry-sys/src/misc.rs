//! Single system calls that rustix lacks: session keyrings, ranges of descriptors and of files, texts of errors.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Joins a new session keyring of that name (keyctl_join_session_keyring(3)).
pub fn join_session_keyring(name: &CStr) -> io::Result<i32> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: the name ends in NUL.
    let id = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if id < 0 { Err(io::Error::last_os_error()) } else { Ok(id as i32) }
}

/// Lets the possessor's user link and search a keyring, so that processes of the container's user find it
/// (keyctl_describe(3), keyctl_setperm(3)).
pub fn widen_keyring(id: i32) -> io::Result<()> {
    const KEYCTL_SETPERM: libc::c_int = 5;
    // Possessor: everything; user: view, read, search, link.
    const PERMISSIONS: u32 = 0x3f00_0000 | 0x001b_0000;
    // SAFETY: no memory arguments.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, id, PERMISSIONS) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Marks every descriptor from `first` on to be closed on exec (close_range(2)).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: marking descriptors closes none before exec.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Begins to write a part of a file to the disk, and does not wait for it (sync_file_range(2)). Says nothing of what a crash
/// leaves: that takes a sync, which then has less to do.
pub fn start_writing(file: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    let (offset, length) = (offset.cast_signed(), length.cast_signed());
    // SAFETY: no memory arguments.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes a descriptor over that whoever started this program left open for it. Everything that is opened here is closed on
/// exec, and so is what was taken over; so a descriptor that is not came from outside and is nobody's yet.
pub fn take_inherited(number: i32) -> io::Result<OwnedFd> {
    // Two threads that ask for the same must not both get it.
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: reads the flags of a descriptor, which may as well not be open.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & libc::FD_CLOEXEC != 0 || number < 3 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: sets a flag of a descriptor that is open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and nobody here owns it: it was inherited, and now cannot be taken over again.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Microseconds of the clock that only goes forward (CLOCK_MONOTONIC), as service managers want to be told them.
pub fn monotonic_micros() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to the structure that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// What was written to a socket and was not taken by its peer yet (SIOCOUTQ). For unix sockets the kernel counts what it
/// spends on it, which is more than the bytes: only zero says something exact.
pub fn unread(socket: BorrowedFd<'_>) -> io::Result<i32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: this request, which shares its number with TIOCOUTQ, writes one int to the address, which is valid.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ as _, &raw mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(bytes) }
}

/// Sends a signal, by number, to the process that `pidfd` is open on (pidfd_send_signal(2)). Real-time signals, which
/// rustix's type leaves out, can be sent too; 0 only asks whether the process is there.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo asks the kernel to fill it as for kill(2).
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<u8>(), 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The kernel's text for an error number, in lower case, as the field's tools print it: `no such file or directory`.
pub fn error_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn texts() {
        assert_eq!(super::error_text(libc::ENOENT), "no such file or directory");
        assert_eq!(super::error_text(libc::EACCES), "permission denied");
    }
}
