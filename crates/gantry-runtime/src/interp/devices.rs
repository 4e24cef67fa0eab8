//! Device files of the container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gantry_model::names::device::Node;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, mknodat, statat};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::mounts::Cause;
use super::paths::{make_dirs, make_file, open_host, split};
use crate::step::Attributes;

fn cause(error: impl Into<std::io::Error>) -> Cause {
    crate::error::cause_text(&error.into())
}

/// Makes a device file with its mode and owner. One that is there already must be the same device.
pub(super) fn make(root: BorrowedFd<'_>, path: &str, node: &Node) -> Result<(), Cause> {
    let (parent, name) = split(path).map_err(cause)?;
    let dir = make_dirs(root, parent, Mode::from_raw_mode(0o755)).map_err(cause)?;
    make_in(dir.as_fd(), name, node)
}

fn make_in(dir: BorrowedFd<'_>, name: &str, node: &Node) -> Result<(), Cause> {
    let kind = FileType::from_raw_mode(node.mode);
    match mknodat(dir, name, kind, Mode::from_raw_mode(0o600), node.rdev) {
        Err(Errno::EXIST) => {
            let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(cause)?;
            if FileType::from_raw_mode(stat.st_mode) != kind || (kind != FileType::Fifo && stat.st_rdev != node.rdev) {
                return Err("something else is there already".to_owned());
            }
        }
        result => result.map_err(cause)?,
    }
    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(cause)?;
    // The name was just made, or checked, in a directory of the container that nothing else uses yet.
    chmodat(dir, name, Mode::from_raw_mode(node.mode & 0o7777), AtFlags::empty()).map_err(cause)
}

/// Makes a device file in a directory of the runtime's own, which keeps it as long as the container lives: a file
/// without a name cannot be mounted. Returns it as a detached mount, which works as a device even where that directory's
/// file system is mounted without.
pub(super) fn make_tree(directory: BorrowedFd<'_>, name: &str, node: &Node) -> Result<OwnedFd, Cause> {
    make_in(directory, name, node)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(directory, name, flags).map_err(cause)?;
    let clear = u64::from(MountAttrFlags::MOUNT_ATTR_NODEV.bits());
    super::mounts::apply(tree.as_fd(), Attributes { clear, ..DEVICE }, false).map_err(cause)?;
    Ok(tree)
}

/// What holds for the mount of a device: it is no program.
const DEVICE: Attributes = Attributes {
    set: (MountAttrFlags::MOUNT_ATTR_NOSUID.bits() | MountAttrFlags::MOUNT_ATTR_NOEXEC.bits()) as u64,
    clear: 0,
};

/// Attaches a device that was made as a mount of its own.
pub(super) fn place(root: BorrowedFd<'_>, path: &str, tree: BorrowedFd<'_>) -> Result<(), Cause> {
    let target = make_file(root, path).map_err(cause)?;
    super::mounts::attach(tree, target.as_fd()).map_err(cause)
}

/// Binds a device file of the host, where making one is not allowed.
pub(super) fn bind(root: BorrowedFd<'_>, path: &str, source: &str) -> Result<(), Cause> {
    let source = open_host(source, OFlags::PATH).map_err(|e| format!("open {source}: {}", cause(e)))?;
    let tree = super::mounts::tree_of(source.as_fd(), false).map_err(cause)?;
    super::mounts::apply(tree.as_fd(), DEVICE, false).map_err(cause)?;
    place(root, path, tree.as_fd())
}
