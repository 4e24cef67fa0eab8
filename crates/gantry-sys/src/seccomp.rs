//! Loading system call filters (seccomp(2)), and answering calls that a filter hands on (seccomp_unotify(2)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction of classic BPF, as `struct sock_filter` lays it out.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when a jump's condition holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// The flag that makes [`set_filter`] return a listener.
pub const NEW_LISTENER: u64 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;

/// Installs a filter for this thread. With [`NEW_LISTENER`] the result is the notify descriptor, closed on exec.
pub fn set_filter(program: &[Instruction], flags: u64) -> io::Result<Option<OwnedFd>> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: `filter` points to `len` instructions of the kernel's layout, which the kernel only reads and verifies.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: with the flag the kernel returns a new descriptor that nothing else owns.
        fd if flags & NEW_LISTENER != 0 => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) })),
        _ => Ok(None),
    }
}

/// Whether the kernel knows an action (`SECCOMP_RET_*`).
pub fn action_available(action: u32) -> bool {
    // SAFETY: the kernel reads one u32.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

/// Whether the kernel knows filter flags: with them a null program gives EFAULT, without EINVAL.
pub fn flags_available(flags: u64) -> bool {
    // SAFETY: a null program is refused before anything is installed.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::null::<u8>()) };
    result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// A system call that waits for a listener's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Names the call in the answer.
    pub id: u64,
    /// The thread that made it, as this process's PID namespace numbers it; 0 where that has no number.
    pub pid: u32,
    /// The call's number.
    pub number: i32,
    /// Its arguments.
    pub args: [u64; 6],
}

/// Waits for the next call that the filter of `listener` hands on (seccomp_unotify(2)). ENOENT: the caller was killed
/// meanwhile, or no process has the filter any more.
pub fn receive_notification(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    const SECCOMP_IOCTL_NOTIF_RECV: libc::c_ulong = 0xc050_2100;
    // SAFETY: all fields are numbers, for which zero is a value; the kernel wants them zero.
    let mut found: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one such structure, the size of which is part of the request.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_RECV as _, &raw mut found) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Notification { id: found.id, pid: found.pid, number: found.data.nr, args: found.data.args })
}

/// Answers a call that was handed on: with `Ok` it returns that value without having been done, with `Err` that error
/// number.
pub fn answer_notification(listener: BorrowedFd<'_>, id: u64, answer: Result<i64, i32>) -> io::Result<()> {
    const SECCOMP_IOCTL_NOTIF_SEND: libc::c_ulong = 0xc018_2101;
    let response = libc::seccomp_notif_resp {
        id,
        val: answer.unwrap_or_default(),
        // The kernel takes error numbers negated.
        error: answer.err().unwrap_or_default().saturating_neg(),
        flags: 0,
    };
    // SAFETY: the kernel reads one such structure, the size of which is part of the request.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_SEND as _, &raw const response) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const _: () = assert!(size_of::<libc::seccomp_notif>() == 0x50 && size_of::<libc::seccomp_notif_resp>() == 0x18);
