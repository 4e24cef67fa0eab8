//! The root file system of a container that runs, mounted where the runtime and people find it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use gantry_store::Store;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use crate::engine::make_dir;
use crate::error::{Context, Error, Result};

/// Mounts the snapshot of a container at `at`, for the ids of a user namespace if there is one, and opens it.
pub(crate) fn mount(store: &Store, key: &str, at: &Path, ids: Option<&OwnedFd>) -> Result<OwnedFd> {
    let snapshot = store.snapshot(key)?.ok_or_else(|| Error::NoSuch("snapshot", key.to_owned()))?;
    let tree = match ids {
        Some(ids) => snapshot.mount_mapped(gantry_store::MountOptions::default(), ids.as_fd())?,
        None => snapshot.mount()?,
    };
    make_dir(at)?;
    let what = || format!("mount the root file system at {}", at.display());
    move_mount(tree.as_fd(), "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).context(what)?;
    open(at)
}

/// Opens a directory.
pub(crate) fn open(at: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(at, flags, Mode::empty()).context(|| format!("open {}", at.display()))
}

/// Unmounts whatever is mounted at a path; nothing is no error.
pub(crate) fn unmount_all(at: &Path) -> Result<()> {
    loop {
        match unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).context(|| format!("unmount {}", at.display())),
        }
    }
}
