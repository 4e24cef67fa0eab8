//! Device files of the container.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, mknodat, statat,
};
use gantry_model::names::device::Node;
use rustix::io::Errno;

use super::mounts::Cause;
use super::paths::{make_dirs, make_file, open_host, split};


fn cause(error: impl Into<std::io::Error>) -> Cause {
    crate::error::cause_text(&error.into())
}

/// Makes a device file with its mode and owner. One that is there already must be the same device.
pub(super) fn make(root: BorrowedFd<'_>, path: &str, node: &Node) -> Result<(), Cause> {
    let (parent, name) = split(path).map_err(cause)?;
    let dir = make_dirs(root, parent, Mode::from_raw_mode(0o755)).map_err(cause)?;
    let kind = FileType::from_raw_mode(node.mode);
    match mknodat(&dir, name, kind, Mode::from_raw_mode(0o600), node.rdev) {
        Err(Errno::EXIST) => {
            let stat = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(cause)?;
            if FileType::from_raw_mode(stat.st_mode) != kind || (kind != FileType::Fifo && stat.st_rdev != node.rdev) {
                return Err("something else is there already".to_owned());
            }
        }
        result => result.map_err(cause)?,
    }
    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(cause)?;
    // The name was just made, or checked, in a directory of the container that nothing else uses yet.
    chmodat(&dir, name, Mode::from_raw_mode(node.mode & 0o7777), AtFlags::empty()).map_err(cause)
}

/// Binds a device file of the host, where making one is not allowed.
pub(super) fn bind(root: BorrowedFd<'_>, path: &str, source: &str) -> Result<(), Cause> {
    let source = open_host(source, OFlags::PATH).map_err(|e| format!("open {source}: {}", cause(e)))?;
    let target = make_file(root, path).map_err(cause)?;
    super::mounts::bind_file(source.as_fd(), target.as_fd()).map_err(cause)
}
