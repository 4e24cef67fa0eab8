//! The mounts of a container that starts: volumes get what the image has at their place, what lies inside of something is
//! opened there, and everything becomes a path that the runtime binds.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use gantry_store::Store;
use rustix::fs::{CWD, OFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::container::{Mount, Record};
use crate::engine::make_dir;
use crate::error::{Context, Error, Result};
use crate::files::open_in;
use crate::request::{MountKind, UserNamespace};
use crate::rootfs;
use crate::settings::{MountSetting, MountSource, Reach};
use crate::volumes::{self, Volume, Volumes};

/// Where mounts are that are made for one run, below its directory.
pub(super) const PLACE: &str = "mounts";

/// Where the shared memory of a container is that others may join.
pub(super) const SHM: &str = "shm";
/// Bytes of it, if nothing is said.
const SHM_SIZE: u64 = 64 << 20;

/// Makes the shared memory of a container that others may join.
pub(super) fn shared_memory(run: &Path, size: u64) -> Result<()> {
    use rustix::mount::{MountFlags, mount};
    let at = run.join(SHM);
    rootfs::unmount_all(&at)?;
    make_dir(&at)?;
    let options = format!("mode=1777,size={}", if size == 0 { SHM_SIZE } else { size });
    let options = std::ffi::CString::new(options).map_err(|_| Error::Invalid("a size has a NUL".to_owned()))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("shm", &at, "tmpfs", flags, Some(options.as_c_str())).context(|| format!("mount at {}", at.display()))
}

/// What the mounts of a container are made with.
pub(super) struct Mounting<'a> {
    /// The record.
    pub(super) record: &'a Record,
    /// The container's own tree.
    pub(super) root: BorrowedFd<'a>,
    /// What it has only while it runs.
    pub(super) run: &'a Path,
    /// The store.
    pub(super) store: &'a Store,
    /// The volumes.
    pub(super) volumes: &'a Volumes,
    /// Whether it has not run before.
    pub(super) first: bool,
    /// Top layers of the images that are mounted, by their names.
    pub(super) images: &'a [(String, Option<gantry_model::digest::Digest>)],
}

impl Mounting<'_> {
    /// All mounts, as the configuration has them.
    pub(super) fn all(&self) -> Result<Vec<MountSetting>> {
        let mounts = self.record.mounts.iter().enumerate();
        mounts.map(|(number, mount)| self.one(number, mount)).collect()
    }

    fn one(&self, number: usize, mount: &Mount) -> Result<MountSetting> {
        let bind = |path: String| MountSource::Bind {
            path,
            propagation: mount.propagation.clone(),
            non_recursive: mount.non_recursive,
            reach: Reach::default(),
        };
        let source = match mount.kind {
            MountKind::Tmpfs => MountSource::Tmpfs { options: mount.options.clone() },
            MountKind::Bind => bind(mount.source.clone()),
            MountKind::Volume => bind(self.volume(number, mount)?),
            MountKind::Image => bind(self.image(number, mount)?),
        };
        Ok(MountSetting { target: mount.target.clone(), readonly: !mount.writable, source })
    }

    fn volume(&self, number: usize, mount: &Mount) -> Result<String> {
        let volume = self.volumes.get(&mount.name).ok_or_else(|| Error::NoVolume(mount.name.clone()))?;
        self.volumes.hold(&volume, &self.record.id)?;
        let data = rootfs::open(Path::new(&volume.mountpoint))?;
        if self.first && !mount.no_copy && mount.subpath.is_empty() {
            self.fill(&volume, mount)?;
        }
        if mount.subpath.is_empty() {
            return Ok(volume.mountpoint.clone());
        }
        let inside = open_in(data.as_fd(), &mount.subpath, OFlags::PATH)
            .context(|| format!("cannot access path {} of volume {}", mount.subpath, mount.name))?;
        self.attach(number, &inside)
    }

    /// Copies what the image has at the place of an empty volume.
    fn fill(&self, volume: &Volume, mount: &Mount) -> Result<()> {
        if self.record.host.user_namespace == UserNamespace::Host {
            return volumes::fill(volume, self.root, &mount.target);
        }
        // Through its own tree ids are seen mapped, but the volume gets those of the image.
        let key = format!("{}-image", self.record.id);
        let gone = || match self.store.remove_snapshot(&key) {
            Err(error) if !error.is_missing() => Err(Error::from(error)),
            _ => Ok(()),
        };
        gone()?;
        let chain = self.record.image.as_ref().and_then(|image| image.chain.as_ref());
        let tree = self.store.view(&key, chain)?.mount();
        let filled = tree.map_err(Error::from).and_then(|tree| volumes::fill(volume, tree.as_fd(), &mount.target));
        gone()?;
        filled
    }

    /// Mounts the content of an image.
    fn image(&self, number: usize, mount: &Mount) -> Result<String> {
        let chain = self.images.iter().find(|(name, _)| *name == mount.name).and_then(|(_, chain)| chain.as_ref());
        let key = view_key(&self.record.id, number);
        match self.store.remove_snapshot(&key) {
            Err(error) if !error.is_missing() => return Err(error.into()),
            _ => {}
        }
        let tree = self.store.view(&key, chain)?.mount()?;
        if mount.subpath.is_empty() {
            return self.settle(number, &tree);
        }
        let inside = open_in(tree.as_fd(), &mount.subpath, OFlags::PATH);
        let inside = inside.context(|| format!("cannot access path {} of image {}", mount.subpath, mount.name))?;
        self.attach(number, &inside)
    }

    /// Gives what is open a path of its own: nobody can put something else there.
    fn attach(&self, number: usize, inside: &OwnedFd) -> Result<String> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(inside, "", flags).context(|| "clone a mount".to_owned())?;
        self.settle(number, &tree)
    }

    fn settle(&self, number: usize, tree: &OwnedFd) -> Result<String> {
        let at = self.run.join(PLACE).join(number.to_string());
        let what = || format!("mount at {}", at.display());
        make_dir(at.parent().unwrap_or(self.run))?;
        let kind = rustix::fs::fstat(tree).context(what)?.st_mode;
        if rustix::fs::FileType::from_raw_mode(kind) == rustix::fs::FileType::Directory {
            make_dir(&at)?;
        } else {
            std::fs::write(&at, "").context(what)?;
        }
        move_mount(tree.as_fd(), "", CWD, &at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).context(what)?;
        Ok(at.display().to_string())
    }
}

/// The key of the view of an image that a container has mounted.
fn view_key(id: &str, number: usize) -> String {
    format!("{id}-image-{number}")
}

/// Takes away the mounts of a run.
pub(super) fn clear(store: &Store, id: &str, run: &Path) -> Result<()> {
    rootfs::unmount_all(&run.join(SHM))?;
    let place = run.join(PLACE);
    let names = match std::fs::read_dir(&place) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect::<Vec<PathBuf>>(),
        Err(_) => return Ok(()),
    };
    for path in names {
        rootfs::unmount_all(&path)?;
        if let Some(number) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) {
            match store.remove_snapshot(&view_key(id, number)) {
                Err(error) if !error.is_missing() => return Err(error.into()),
                _ => {}
            }
        }
        let removed = if path.is_dir() { std::fs::remove_dir(&path) } else { std::fs::remove_file(&path) };
        removed.context(|| format!("remove {}", path.display()))?;
    }
    std::fs::remove_dir(&place).context(|| format!("remove {}", place.display()))
}
