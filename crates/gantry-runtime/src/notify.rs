//! The socket by which a container's program says that it is ready (sd_notify(3)).
//!
//! A service manager gives the runtime a socket of its own. The container cannot be let near it, so it gets another: a
//! directory of the container's state, bound read-only where the manager's socket would be, holds it. What comes in
//! there is not passed on as it is: of all that could be said, readiness alone is.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chmodat, chownat, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

/// The directory in the container's own.
pub(crate) const DIRECTORY: &str = "notify";
/// The socket in it.
pub(crate) const SOCKET: &str = "notify";
/// What a program sends when it is ready, and what is sent on.
const READY: &[u8] = b"READY=1";

/// Makes the directory for the container's root, and returns it as a detached mount.
pub(crate) fn make_directory(container: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<OwnedFd, Errno> {
    mkdirat(container, DIRECTORY, Mode::from_raw_mode(0o700))?;
    chownat(container, DIRECTORY, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)?;
    open_tree(container, DIRECTORY, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

/// Listens for the container's program; none if its container has no socket for that.
pub(crate) fn listen(container: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match openat(container, DIRECTORY, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        result => result?,
    };
    match unlinkat(&directory, SOCKET, AtFlags::empty()) {
        Err(Errno::NOENT) => {}
        result => result?,
    }
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))?)?;
    // Any user of the container may say that it is ready; the directory is closed to those of the host.
    chmodat(&directory, SOCKET, Mode::from_raw_mode(0o777), AtFlags::empty())?;
    Ok(Some(socket))
}

/// Waits until the program says that it is ready, and tells the service manager's socket at `to`; or until it ends.
/// That the manager cannot be told is no failure: it may be gone, and the program runs.
pub fn forward(socket: &OwnedFd, process: BorrowedFd<'_>, to: &str) {
    let mut buffer = [0; 4096];
    loop {
        let mut fds = [PollFd::new(socket, PollFlags::IN), PollFd::from_borrowed_fd(process, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return,
        }
        let [said, ended] = fds.map(|fd| !fd.revents().is_empty());
        let length = match recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) => length,
            Err(_) if said || !ended => continue,
            Err(_) => return,
        };
        if buffer[..length].split(|&byte| byte == b'\n').any(|line| line == READY) {
            let _ = tell(to);
            return;
        }
    }
}

fn tell(to: &str) -> Result<(), Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sendto(socket.as_fd(), READY, SendFlags::NOSIGNAL, &SocketAddrUnix::new(to)?).map(drop)
}

/// Removes the directory with the socket.
pub(crate) fn remove(container: BorrowedFd<'_>) -> Result<(), Errno> {
    match unlinkat(container, format!("{DIRECTORY}/{SOCKET}"), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => unlinkat(container, DIRECTORY, AtFlags::REMOVEDIR),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_alone_is_told() {
        let check = |messages: &[&str], expect: &[u8]| {
            let path = std::env::temp_dir().join(format!("gantry-notify-{}-{}", std::process::id(), messages.len()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir(&path).unwrap();
            let manager = std::os::unix::net::UnixDatagram::bind(path.join("manager")).unwrap();
            let directory = openat(rustix::fs::CWD, &path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
            std::fs::create_dir(path.join(DIRECTORY)).unwrap();
            let socket = listen(directory.as_fd()).unwrap().unwrap();
            let program = std::os::unix::net::UnixDatagram::unbound().unwrap();
            for message in messages {
                program.send_to(message.as_bytes(), path.join(DIRECTORY).join(SOCKET)).unwrap();
            }
            // A process that has ended already: what it had to say is read nevertheless.
            let mut child = std::process::Command::new("true").spawn().unwrap();
            let pid = rustix::process::Pid::from_child(&child);
            let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
            child.wait().unwrap();
            forward(&socket, pidfd.as_fd(), path.join("manager").to_str().unwrap());
            manager.set_nonblocking(true).unwrap();
            let mut told = [0; 64];
            let length = manager.recv(&mut told).unwrap_or(0);
            assert_eq!(&told[..length], expect, "{messages:?}");
            remove(directory.as_fd()).unwrap();
            std::fs::remove_dir_all(&path).unwrap();
        };
        check(&["READY=1"], b"READY=1");
        check(&["STATUS=up\nMAINPID=1", "STATUS=there\nREADY=1\nMAINPID=1"], b"READY=1");
        check(&["READY=0", "NOTREADY=1", "MAINPID=1"], b"");
    }
}
