//! The root file system for a restoration: CRIU needs it at a mount point that nothing else covers, with a place for
//! every mount. Both are made in a mount namespace of CRIU's own process, so that nothing of it is ever seen on the
//! host, and nothing can stay.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gantry_sys::mount::{Attributes, set_attributes};
use gantry_sys::ns;
use rustix::fs::{CWD, Mode, OFlags, mkdirat};
use rustix::mount::{
    MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, mount, mount_bind_recursive,
    mount_change, move_mount, unmount,
};

use super::plan::Point;
use crate::error::cause_text;
use crate::interp::mounts::host_tree;
use crate::interp::paths::{make_dirs, make_file, open_host};

const NEW_MOUNTS: i32 = 0x0002_0000;
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);

/// The root for CRIU, under the container's directory of state.
pub(crate) fn root_in(state: &str) -> String {
    format!("{state}/root")
}

fn cause(error: impl Into<std::io::Error>) -> String {
    cause_text(&error.into())
}

/// Leaves for a mount namespace of its own, makes missing places for mounts in the root file system, and mounts that at
/// [`root_in`] the container's directory of state, which is covered in this namespace. CRIU keeps that mount's being
/// read-only.
pub(crate) fn prepare(state: &str, rootfs: &str, points: &[Point], read_only: bool) -> Result<(), String> {
    let at = |path: &str| format!("prepare {path} for criu");
    ns::unshare(NEW_MOUNTS).map_err(|e| format!("make a mount namespace for criu: {}", cause(e)))?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|e| format!("{}: {}", at("/"), cause(e)))?;
    mount("tmpfs", state, "tmpfs", MountFlags::empty(), None).map_err(|e| format!("{}: {}", at(state), cause(e)))?;
    // The places are made below a mount that goes away with everything that was bound on the way.
    make_points(&mounted(state, "places", rootfs)?, rootfs, points)?;
    let places = format!("{state}/places");
    unmount(&places, UnmountFlags::DETACH).map_err(|e| format!("{}: {}", at(&places), cause(e)))?;
    let root = mounted(state, "root", rootfs)?;
    if !read_only {
        return Ok(());
    }
    let set = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    set_attributes(root.as_fd(), c"", &Attributes { set, ..Attributes::default() })
        .map_err(|e| format!("{}: {}", at(rootfs), cause(e)))
}

/// Mounts the root file system at a new directory.
fn mounted(state: &str, name: &str, rootfs: &str) -> Result<OwnedFd, String> {
    let path = format!("{state}/{name}");
    let made = || -> std::io::Result<OwnedFd> {
        mkdirat(CWD, &path, DIRECTORY)?;
        mount_bind_recursive(rootfs, &path)?;
        mount_change(&path, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        open_host(&path, OFlags::PATH | OFlags::DIRECTORY)
    };
    made().map_err(|e| format!("mount {rootfs} at {path}: {}", cause(e)))
}

fn make_points(root: &OwnedFd, rootfs: &str, points: &[Point]) -> Result<(), String> {
    for point in points {
        make_point(root.as_fd(), point)
            .map_err(|e| format!("make {} in {rootfs} for the mount there: {}", point.target, cause(e)))?;
    }
    Ok(())
}

fn make_point(root: BorrowedFd<'_>, point: &Point) -> std::io::Result<()> {
    let Some((source, recursive)) = &point.source else { return make_dirs(root, &point.target, DIRECTORY).map(drop) };
    let tree = host_tree(source, *recursive, true)?;
    let directory = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode).is_dir();
    let target = if directory { make_dirs(root, &point.target, DIRECTORY)? } else { make_file(root, &point.target)? };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", target, "", flags)?)
}
