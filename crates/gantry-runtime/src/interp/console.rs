//! The container's terminal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags, fstat, fstatfs, makedev};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::mounts::Cause;
use super::paths::{make_file, open_plain};

/// The magic number of devpts (statfs(2)).
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

fn cause(error: impl Into<std::io::Error>) -> Cause {
    crate::error::cause_text(&error.into())
}

/// A pseudo-terminal.
pub(super) struct Pty {
    /// The side that goes to whoever shows the terminal.
    pub(super) master: OwnedFd,
    /// The side that the program gets.
    pub(super) slave: OwnedFd,
}

/// Makes a pseudo-terminal in the devpts that is mounted at `/dev/pts` of the container. Everything is checked to be
/// what it claims to be, and the slave is opened through the master, never by a name.
pub(super) fn open_pty(root: BorrowedFd<'_>, size: Option<(u16, u16)>) -> Result<Pty, Cause> {
    let master = open_plain(root, "/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY)
        .map_err(|e| format!("open /dev/pts/ptmx: {}", cause(e)))?;
    let stat = fstat(&master).map_err(cause)?;
    let genuine = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == makedev(5, 2)
        && fstatfs(&master).map_err(cause)?.f_type as u64 == DEVPTS_SUPER_MAGIC;
    if !genuine {
        return Err("/dev/pts/ptmx is not the multiplexer of a devpts; mount devpts at /dev/pts".to_owned());
    }
    unlockpt(&master).map_err(cause)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).map_err(cause)?;
    if let Some((ws_row, ws_col)) = size {
        tcsetwinsize(&slave, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).map_err(cause)?;
    }
    Ok(Pty { master, slave })
}

/// Sends the master over a connected unix socket.
pub(super) fn send_master(socket: BorrowedFd<'_>, master: BorrowedFd<'_>) -> Result<(), Cause> {
    crate::console::send_terminal(socket, master).map_err(cause)
}

/// Mounts the slave at `/dev/console`, by descriptor on both sides.
pub(super) fn mount_console(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> Result<(), Cause> {
    let target = match open_plain(root, "/dev/console", OFlags::PATH) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make_file(root, "/dev/console"),
        result => result,
    }
    .map_err(|e| format!("open /dev/console: {}", cause(e)))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(slave, "", flags).map_err(cause)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&tree, "", &target, "", flags).map_err(|e| format!("mount at /dev/console: {}", cause(e)))
}

/// Makes the slave the controlling terminal and the standard streams.
pub(super) fn take(slave: &OwnedFd) -> Result<(), Cause> {
    rustix::process::ioctl_tiocsctty(slave.as_fd()).map_err(cause)?;
    rustix::stdio::dup2_stdin(slave).map_err(cause)?;
    rustix::stdio::dup2_stdout(slave).map_err(cause)?;
    rustix::stdio::dup2_stderr(slave).map_err(cause)
}
