//! Mounting a snapshot for a user namespace: its files belong inside to whom they belong on the disk, and what is written
//! there is so on the disk too. Nothing is copied and no owner is changed.
//!
//! An overlay cannot be mapped, but what it is made of can: each layer is bound with its ids mapped, and the overlay made of
//! these. They must have a place for that moment. It is in a mount namespace of a thread's own, which goes with the thread:
//! nobody sees them, and a crash leaves none.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use gantry_sys::mount::{Attributes, set_attributes};
use rustix::fs::{CWD, Mode, mkdir};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change, move_mount, open_tree,
};

use crate::erofs;
use crate::error::{Error, Result};
use crate::layers::places;
use crate::mount::{Lower, MountOptions, detached};
use crate::rows::LayerKind;
use crate::snapshot::Snapshot;

/// `CLONE_NEWNS`.
const NEW_MOUNTS: i32 = 0x2_0000;

impl Snapshot {
    /// Mounts it as [`Snapshot::mount_with`] does, with its ids mapped as those of a user namespace are.
    ///
    /// # Errors
    /// As there; and the kernel, which needs Linux 5.19 for it, or the store's file system cannot map ids.
    pub fn mount_mapped(&self, options: MountOptions, user_namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
        let inner = self.store.inner();
        let mut layers = Vec::new();
        if let Some(chain) = &self.row.chain {
            let places = places(&inner.state(), chain)?;
            for place in places {
                let dir = inner.dirs.layer(place.number);
                layers.push(match &place.kind {
                    LayerKind::Directory => Source::Directory(dir.join("fs")),
                    // Opened here, so that the error of a kernel that cannot mount it names it.
                    LayerKind::Erofs { file } => Source::Image(dir.join(file), self.store.open_tree(&place)?),
                });
            }
        }
        if options.volatile {
            self.forget_volatile();
        }
        let plan = Plan {
            own: self.dir(),
            layers,
            at: inner.dirs.tmp.clone(),
            read_only: options.read_only || self.row.read_only,
            volatile: options.volatile,
        };
        // The rest of this process keeps its mounts: only a thread leaves them.
        let made = std::thread::scope(|scope| scope.spawn(|| plan.mount(user_namespace)).join());
        match made.unwrap_or(Err(Errno::CANCELED)) {
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM) => Err(Error::Invalid {
                what: "snapshot",
                value: self.key.clone(),
                why: "its ids cannot be mapped: that needs Linux 5.19, and a file system of the store that can"
                    .to_owned(),
            }),
            other => other.map_err(|errno| inner.dirs.error(format!("mount snapshot {}", self.key), errno)),
        }
    }
}

/// A layer to be mapped.
enum Source {
    /// A directory.
    Directory(PathBuf),
    /// An image, and its root in a mount that may be had already.
    Image(PathBuf, OwnedFd),
}

impl Source {
    /// The layer with its ids mapped, attached nowhere.
    fn mapped(&self, user_namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        match self {
            Self::Directory(path) => mapped(path, false, user_namespace),
            Self::Image(path, root) => {
                let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                // A mount without a place can be cloned since Linux 6.15; before, the image is mounted once more.
                let tree = open_tree(root, "", flags | OpenTreeFlags::AT_EMPTY_PATH).or_else(|_| erofs::mount(path))?;
                map(tree, false, user_namespace)
            }
        }
    }
}

/// What is mounted of what.
struct Plan {
    /// The snapshot's directory, with `fs` and `work` in it.
    own: PathBuf,
    /// Its layers, the top first.
    layers: Vec<Source>,
    /// A directory to mount over.
    at: PathBuf,
    read_only: bool,
    volatile: bool,
}

impl Plan {
    fn mount(&self, user_namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        if self.layers.is_empty() {
            return mapped(&self.own.join("fs"), self.read_only, user_namespace);
        }
        gantry_sys::ns::unshare(NEW_MOUNTS).map_err(|error| errno(&error))?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        // Looked up before their place is covered.
        let own = mapped(&self.own, false, user_namespace)?;
        let layers: Vec<OwnedFd> =
            self.layers.iter().map(|layer| layer.mapped(user_namespace)).collect::<Result<_, _>>()?;
        mount("tmpfs", &self.at, "tmpfs", MountFlags::empty(), None)?;
        let mut lowers = Vec::with_capacity(layers.len() + 1);
        for (number, layer) in layers.iter().enumerate() {
            lowers.push(Lower::Path(attach(layer, &self.at.join(number.to_string()))?));
        }
        let own = attach(&own, &self.at.join("own"))?;
        let (upper, work) = (format!("{own}/fs"), format!("{own}/work"));
        if self.read_only {
            // As of a snapshot that is not mapped.
            lowers.insert(0, Lower::Path(upper));
            return detached(&lowers, None, false);
        }
        detached(&lowers, Some((&upper, &work)), self.volatile)
    }
}

/// A directory, bound with its ids mapped, attached nowhere.
fn mapped(dir: &Path, read_only: bool, user_namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let tree = open_tree(CWD, dir, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    map(tree, read_only, user_namespace)
}

/// Maps the ids of a mount that is attached nowhere.
fn map(tree: OwnedFd, read_only: bool, user_namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const READ_ONLY: u64 = 1;
    let set = if read_only { READ_ONLY } else { 0 };
    let attributes = Attributes { set, user_namespace: Some(user_namespace), ..Attributes::default() };
    set_attributes(tree.as_fd(), c"", &attributes).map_err(|error| errno(&error))?;
    Ok(tree)
}

/// Gives a tree its place, and tells it as an option of a mount.
fn attach(tree: &OwnedFd, at: &Path) -> Result<String, Errno> {
    mkdir(at, Mode::RWXU)?;
    move_mount(tree.as_fd(), "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    at.to_str().map(str::to_owned).ok_or(Errno::INVAL)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::INVAL)
}
