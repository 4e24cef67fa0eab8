//! Mounting a snapshot: an overlay that is attached nowhere, so nothing sees it and nothing is left after a crash.
//!
//! Layers are handed to the kernel one by one, which takes up to 500 of them; the option string of old would be full after
//! some 120. Kernels before 6.7 have only that, there mount(2) is used on a directory of our own and the mount is taken
//! off it again.

use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use gantry_sys::mount::{Attributes, set_attributes};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, open_tree, unmount,
};
use std::os::fd::{AsFd, AsRawFd};

use crate::error::{Error, Result};
use crate::layers::places;
use crate::rows::LayerKind;
use crate::snapshot::Snapshot;

/// Longest value that fsconfig(2) takes.
const MAX_VALUE: usize = 255;
/// Longest option string that mount(2) takes.
const MAX_OPTIONS: usize = 4095;
/// What overlayfs is told beside its directories: nothing that would make the upper directory depend on more than the
/// whole contents of files, so that it can be packed as a layer.
const PLAIN: [(&str, &str); 3] = [("index", "off"), ("metacopy", "off"), ("redirect_dir", "nofollow")];

/// How a snapshot is mounted.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountOptions {
    /// Read-only, whatever the snapshot is.
    pub read_only: bool,
    /// Leaves out every sync of what is written: for containers that are thrown away. After a loss of power the snapshot
    /// may be damaged.
    pub volatile: bool,
}

impl Snapshot {
    /// Mounts it, attached nowhere: the descriptor is for move_mount(2), and the mount goes with it.
    pub fn mount(&self) -> Result<OwnedFd> {
        self.mount_with(MountOptions::default())
    }

    /// Mounts it with options.
    pub fn mount_with(&self, options: MountOptions) -> Result<OwnedFd> {
        let inner = self.store.inner();
        let read_only = options.read_only || self.row.read_only;
        let fail = |errno: Errno| inner.dirs.error(format!("mount snapshot {}", self.key), errno);
        let Some(chain) = &self.row.chain else { return self.bind(read_only).map_err(fail) };
        let places = places(&inner.state(), chain)?;
        // Paths, not descriptors: /proc/mounts then tells people what a mount is made of. An image has no path.
        let mut lowers: Vec<Lower> = Vec::with_capacity(places.len() + 1);
        for place in places {
            lowers.push(match &place.kind {
                LayerKind::Directory => Lower::Path(text(&inner.dirs.layer(place.number).join("fs"))?),
                LayerKind::Erofs { .. } => Lower::Open(self.store.open_tree(&place)?),
            });
        }
        let upper = text(&self.upper())?;
        let work = text(&self.dir().join("work"))?;
        let writable = if read_only {
            // A single layer is no overlay; the empty directory of the snapshot makes it one, and hides its whiteouts.
            lowers.insert(0, Lower::Path(upper));
            None
        } else {
            if options.volatile {
                self.forget_volatile();
            }
            Some((upper, work))
        };
        let writable = writable.as_ref().map(|(upper, work)| (upper.as_str(), work.as_str()));
        match detached(&lowers, writable, options.volatile) {
            Err(Errno::INVAL) if !takes_single_layers() => self.attached(&lowers, writable, options.volatile),
            other => other.map_err(fail),
        }
    }

    /// An empty beginning needs no overlay.
    fn bind(&self, read_only: bool) -> Result<OwnedFd, Errno> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, self.upper(), flags)?;
        if read_only {
            let attributes =
                Attributes { set: u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits()), ..Attributes::default() };
            let set = set_attributes(tree.as_fd(), c"", &attributes);
            set.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
        }
        Ok(tree)
    }

    /// The kernel refuses to mount again what was mounted volatile before. Its fear is a loss of power in between.
    pub(crate) fn forget_volatile(&self) {
        let mark = self.dir().join("work/work/incompat");
        if mark.exists()
            && let Err(error) = std::fs::remove_dir_all(&mark)
        {
            tracing::warn!(%error, "a volatile mount's mark stays");
        }
    }

    fn attached(&self, lowers: &[Lower], writable: Option<(&str, &str)>, volatile: bool) -> Result<OwnedFd> {
        let dirs = &self.store.inner().dirs;
        let paths: Vec<String> = lowers.iter().map(Lower::path).collect();
        let mut options = format!("lowerdir={}", paths.join(":"));
        if let Some((upper, work)) = writable {
            options.extend([",upperdir=", upper, ",workdir=", work]);
            options.push_str(if volatile { ",volatile" } else { "" });
        }
        for (key, value) in PLAIN {
            options.extend([",", key, "=", value]);
        }
        if options.len() > MAX_OPTIONS {
            let why = format!("{} layers are more than this kernel can mount: it needs Linux 6.7", lowers.len());
            return Err(Error::Invalid { what: "snapshot", value: self.key.clone(), why });
        }
        let fail = |errno: Errno| dirs.error(format!("mount snapshot {}", self.key), errno);
        let at = dirs.tmp.join(format!("mount-{}", dirs.number()));
        let options = std::ffi::CString::new(options).map_err(|_| fail(Errno::INVAL))?;
        DirBuilder::new().mode(0o700).create(&at).map_err(|error| dirs.error("make a mount point", error))?;
        let flags = if writable.is_none() { MountFlags::RDONLY } else { MountFlags::empty() };
        let mounted = mount("overlay", &at, "overlay", flags, Some(options.as_c_str()));
        let tree = mounted.and_then(|()| {
            let tree = open_tree(CWD, &at, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
            unmount(&at, UnmountFlags::DETACH).and(tree)
        });
        std::fs::remove_dir(&at).map_err(|error| dirs.error("remove a mount point", error))?;
        tree.map_err(fail)
    }
}

/// A layer for an overlay.
#[derive(Debug)]
pub(crate) enum Lower {
    /// A directory that has a path.
    Path(String),
    /// A directory that is open, in a mount that may have no place.
    Open(OwnedFd),
}

impl Lower {
    /// A path that leads to it while it is open.
    fn path(&self) -> String {
        match self {
            Self::Path(path) => path.clone(),
            Self::Open(fd) => format!("/proc/self/fd/{}", fd.as_raw_fd()),
        }
    }

    /// Hands it to the kernel. Before Linux 6.13 that takes no descriptors, but follows the path to one.
    fn add(&self, fs: &OwnedFd) -> Result<(), Errno> {
        match self {
            Self::Path(path) => fsconfig_set_string(fs, "lowerdir+", path.as_str()),
            Self::Open(fd) => match fsconfig_set_fd(fs, "lowerdir+", fd) {
                Err(Errno::INVAL) => fsconfig_set_string(fs, "lowerdir+", self.path()),
                other => other,
            },
        }
    }
}

/// An overlay by the newer calls.
pub(crate) fn detached(lowers: &[Lower], writable: Option<(&str, &str)>, volatile: bool) -> Result<OwnedFd, Errno> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "source", "overlay")?;
    for lower in lowers {
        lower.add(&fs)?;
    }
    if let Some((upper, work)) = writable {
        fsconfig_set_string(&fs, "upperdir", upper)?;
        fsconfig_set_string(&fs, "workdir", work)?;
        if volatile {
            fsconfig_set_flag(&fs, "volatile")?;
        }
    }
    for (key, value) in PLAIN {
        fsconfig_set_string(&fs, key, value)?;
    }
    fsconfig_create(&fs)?;
    let attributes = if writable.is_none() { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Whether this kernel takes layers one by one.
fn takes_single_layers() -> bool {
    let probe = || -> Result<(), Errno> {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&fs, "lowerdir+", "/")
    };
    probe().is_ok()
}

/// A path as an option of a mount.
fn text(path: &Path) -> Result<String> {
    let invalid = |why: &str| Error::Invalid {
        what: "the path of the store",
        value: path.display().to_string(),
        why: format!("{why}, so nothing can be mounted from it: choose another root"),
    };
    let text = path.to_str().ok_or_else(|| invalid("it is no UTF-8"))?;
    if text.len() > MAX_VALUE {
        return Err(invalid("it is longer than 255 bytes"));
    }
    if text.contains([',', ':', '\\']) {
        return Err(invalid("it holds a comma, a colon or a backslash"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags, openat};

    use super::*;
    use crate::{Options, Store};

    /// The way of older kernels works on newer ones too, and leaves nothing behind.
    #[test]
    fn the_older_way() {
        let root = std::env::temp_dir().join(format!("gantry-store-mount-{}", std::process::id()));
        let store = Store::open(&root, Options::default()).unwrap();
        let dirs = &store.inner().dirs;
        let mut lowers = Vec::new();
        for name in ["a", "b"] {
            let dir = root.join(name);
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join(name), name).unwrap();
            lowers.push(Lower::Path(text(&dir).unwrap()));
        }
        let snapshot = store.prepare("one", None).unwrap();
        let (upper, work) = (text(&snapshot.upper()).unwrap(), text(&snapshot.dir().join("work")).unwrap());
        for writable in [None, Some((upper.as_str(), work.as_str()))] {
            let mount = snapshot.attached(&lowers, writable, false).unwrap();
            for name in ["a", "b"] {
                openat(&mount, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
            let written = openat(&mount, "new", flags, Mode::from_raw_mode(0o644));
            assert_eq!(written.is_ok(), writable.is_some(), "{written:?}");
        }
        assert_eq!(std::fs::read_dir(&dirs.tmp).unwrap().count(), 0);
        let many: Vec<Lower> = (0..50).map(|_| Lower::Path("/x".repeat(100))).collect();
        let error = snapshot.attached(&many, None, false).unwrap_err();
        assert!(error.to_string().contains("Linux 6.7"), "{error}");
        drop((snapshot, store));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
