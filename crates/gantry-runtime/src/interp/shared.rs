//! The root of a container that shares the runtime's mount namespace.
//!
//! Nothing takes its mounts away when its last process ends. So they all lie on one mount of the root file system onto
//! itself, which is known again by the identity that the kernel gave it, and is detached with all that is on it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::mounts::{self, Cause};

/// The file in the container's directory that names the mount.
const FILE: &str = "mount";
/// `MS_PRIVATE | MS_REC`.
const PRIVATE: u32 = 1 << 18 | 0x4000;
/// Asks statx(2) for an identity that is never given again (Linux 6.8).
const UNIQUE_ID: u32 = 0x4000;

fn cause(error: impl Into<io::Error>) -> Cause {
    crate::error::cause_text(&error.into())
}

/// Mounts the root file system onto itself, noted before it is done.
pub(super) fn bind_root(directory: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Cause> {
    let tree = mounts::host_tree(path, true, true).map_err(cause)?;
    mounts::propagate(tree.as_fd(), PRIVATE).map_err(cause)?;
    let id = mount_id(tree.as_fd(), "", AtFlags::EMPTY_PATH).map_err(cause)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, FILE, flags, Mode::from_raw_mode(0o600)).map_err(cause)?;
    std::fs::File::from(file).write_all(id.to_string().as_bytes()).map_err(cause)?;
    mounts::bind_root(tree.as_fd(), path)?;
    Ok(tree)
}

/// Takes that mount away, if it was made and is there.
pub(crate) fn release(directory: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    let file = match openat(directory, FILE, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        result => std::fs::File::from(result?),
    };
    let mut noted = String::new();
    file.take(64).read_to_string(&mut noted)?;
    let ours = match mount_id(CWD, path, AtFlags::empty()) {
        Err(Errno::NOENT) => false,
        found => noted.parse() == Ok(found?),
    };
    if ours {
        unmount(path, UnmountFlags::DETACH)?;
    }
    Ok(())
}

fn mount_id(fd: BorrowedFd<'_>, path: &str, flags: AtFlags) -> Result<u64, Errno> {
    let wanted = StatxFlags::from_bits_retain(UNIQUE_ID) | StatxFlags::MNT_ID;
    Ok(statx(fd, path, flags | AtFlags::NO_AUTOMOUNT, wanted)?.stx_mnt_id)
}
