//! The tree of a container as the container sees it, whether it runs or not.
//!
//! Of one that runs it is what its process has for its root, with everything that is mounted there. One that does not run
//! gets its volumes mounted for the moment, in a mount namespace of one thread: nobody else sees them, and they go with it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use gantry_model::ContainerId;
use gantry_model::oci::state::Status as Kernel;
use gantry_runtime::Runtime;
use gantry_store::layer::Live;
use gantry_sys::mount::{Attributes, set_attributes};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, fstat, mkdirat, openat, statx};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::{Ids, open_in};
use crate::container::{Mount, Record};
use crate::engine::{Engine, blocking};
use crate::error::{Context, Error, Result};
use crate::life::container_id;
use crate::request::{MountKind, UserNamespace};
use crate::rootfs;
use crate::table::Container;
use crate::volumes;

/// A new mount namespace, with directories of its own.
const NEWNS: i32 = 0x0002_0000;
/// Where a container has file systems of the kernel and of its own making that are no files of it.
const KERNEL: [&str; 6] = ["dev", "dev/mqueue", "dev/pts", "dev/shm", "proc", "sys"];

/// The tree of a container.
pub(crate) struct Tree {
    /// Its root.
    pub(crate) root: OwnedFd,
    /// How ids are seen through it; none as they are.
    pub(crate) ids: Option<Ids>,
}

impl Tree {
    /// How what is in it is packed, from a directory on: file systems of the kernel are not gone into, but from inside.
    pub(super) fn live(&self, record: &Record, from: BorrowedFd<'_>) -> Result<Live> {
        let number = |fd: BorrowedFd<'_>| {
            let found = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
            found.map(|stat| stat.stx_mnt_id).context(|| "look at a mount".to_owned())
        };
        let own = [number(self.root.as_fd())?, number(from)?];
        let mut skip = Vec::new();
        for place in KERNEL {
            let asked = record.mounts.iter().any(|mount| mount.target.trim_start_matches('/') == place);
            if !asked && let Ok(there) = open_in(self.root.as_fd(), place, OFlags::PATH) {
                skip.push(number(there.as_fd())?);
            }
        }
        skip.retain(|number| !own.contains(number));
        Ok(Live { ids: self.ids.map(|ids| (ids.first, ids.count)), skip })
    }
}

impl Engine {
    /// Does something with the tree of a container.
    pub(crate) async fn in_tree<T: Send + 'static>(
        &self,
        asked: &str,
        work: impl FnOnce(&Tree, &Record) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let container = self.find(asked)?;
        let record = container.record();
        if let Some(tree) = self.running_tree(&container, &record).await? {
            return blocking(move || work(&tree, &record)).await;
        }
        // It is not started meanwhile: an overlay is not to be mounted twice.
        let _life = container.life.lock().await;
        if let Some(tree) = self.running_tree(&container, &record).await? {
            return blocking(move || work(&tree, &record)).await;
        }
        let (engine, first) = (self.clone(), container.state().started == 0);
        blocking(move || {
            // A thread of its own: its mounts are its own.
            let thread = std::thread::Builder::new().name("tree".to_owned()).spawn(move || {
                let root = engine.stopped_tree(&record, first)?;
                work(&Tree { root, ids: None }, &record)
            });
            thread.context(|| "start a thread".to_owned())?.join().map_err(|_| Error::Closed)?
        })
        .await
    }

    /// The tree of a container that runs.
    async fn running_tree(&self, container: &Container, record: &Record) -> Result<Option<Tree>> {
        let (pid, id) = (container.state().pid, container_id(&container.id)?);
        let mapped = record.host.user_namespace == UserNamespace::Auto;
        if pid == 0 {
            return Ok(None);
        }
        self.runtime(move |runtime| {
            let process = PathBuf::from(format!("/proc/{pid}"));
            let Ok(root) = rootfs::open(&process.join("root")) else { return Ok(None) };
            let ids = std::fs::read_to_string(process.join("uid_map")).ok().and_then(|map| Ids::read(&map));
            // What has the number may be another by now. If it is the container's still, it was so before.
            let is_it = is_process(runtime, &id, pid);
            if mapped && ids.is_none() {
                return Ok(None);
            }
            Ok(is_it.then_some(Tree { root, ids: ids.filter(|_| mapped) }))
        })
        .await
    }

    /// The tree of a container that does not run, in a mount namespace of this thread. `first` is whether it has not run.
    fn stopped_tree(&self, record: &Record, first: bool) -> Result<OwnedFd> {
        let store = self.images().store();
        let snapshot = store.snapshot(&record.id)?.ok_or_else(|| Error::NoSuch("snapshot", record.id.clone()))?;
        let tree = snapshot.mount()?;
        let what = || "make a mount namespace".to_owned();
        gantry_sys::ns::unshare(NEWNS).context(what)?;
        let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
        rustix::mount::mount_change("/", private).context(what)?;
        // Any directory will do: nobody else sees what is mounted on it here.
        let at = self.0.options.run.join("containers");
        let mut mounts: Vec<&Mount> =
            record.mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Bind | MountKind::Volume)).collect();
        // A place before what lies below it.
        mounts.sort_by_key(|mount| mount.target.split('/').filter(|part| !part.is_empty()).count());
        let mut sources = Vec::with_capacity(mounts.len());
        for mount in mounts {
            // Before their places are covered.
            sources.extend(self.source(mount, tree.as_fd(), first)?.map(|source| (mount, source)));
        }
        move_mount(tree.as_fd(), "", CWD, &at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).context(what)?;
        let root = rootfs::open(&at)?;
        for (mount, source) in sources {
            attach(root.as_fd(), mount, &source)?;
        }
        if record.host.readonly_root {
            read_only(root.as_fd(), false).context(|| "make the root read-only".to_owned())?;
        }
        Ok(root)
    }

    /// What is mounted, attached nowhere. A source of the host that is not there is left out, so that the rest can be had.
    fn source(&self, mount: &Mount, tree: BorrowedFd<'_>, first: bool) -> Result<Option<OwnedFd>> {
        let what = || format!("mount {} at {}", mount.source, mount.target);
        let open = if mount.kind == MountKind::Volume {
            let volume = self.volume(&mount.name)?;
            volumes::mount(&volume)?;
            if first && !mount.no_copy && mount.subpath.is_empty() {
                volumes::fill(&volume, tree, &mount.target)?;
            }
            let data = rootfs::open(Path::new(&volume.mountpoint))?;
            match open_in(data.as_fd(), &mount.subpath, OFlags::PATH) {
                Err(Errno::NOENT) => return Ok(None),
                other => other.context(what)?,
            }
        } else {
            match openat(CWD, mount.source.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                other => other.context(what)?,
            }
        };
        let mut flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        if !mount.non_recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        let source = open_tree(&open, "", flags).context(what)?;
        if !mount.writable {
            read_only(source.as_fd(), true).context(what)?;
        }
        Ok(Some(source))
    }
}

/// Whether a number is that of a container's process.
fn is_process(runtime: &Runtime, id: &ContainerId, pid: i32) -> bool {
    let report = runtime.report(id);
    report.is_ok_and(|report| report.record.pid == pid && matches!(report.status, Kernel::Running | Kernel::Paused))
}

fn read_only(tree: BorrowedFd<'_>, recursive: bool) -> std::io::Result<()> {
    let set = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    set_attributes(tree, c"", &Attributes { set, recursive, ..Attributes::default() })
}

/// Mounts a source at its place inside a root, which is made if it is not there.
fn attach(root: BorrowedFd<'_>, mount: &Mount, source: &OwnedFd) -> Result<()> {
    let what = || format!("mount {} at {}", mount.source, mount.target);
    let directory = FileType::from_raw_mode(fstat(source).context(what)?.st_mode) == FileType::Directory;
    let place = match open_in(root, &mount.target, OFlags::PATH) {
        Err(Errno::NOENT) => make_place(root, &mount.target, directory),
        other => other,
    };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(source.as_fd(), "", place.context(what)?.as_fd(), "", flags).context(what)
}

/// Makes a directory, or an empty file, with the directories above it.
fn make_place(root: BorrowedFd<'_>, path: &str, directory: bool) -> Result<OwnedFd, Errno> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let mut at = open_in(root, "", OFlags::PATH | OFlags::DIRECTORY)?;
    for (number, part) in parts.iter().enumerate() {
        let so_far = parts[..=number].join("/");
        let last = number + 1 == parts.len();
        at = match open_in(root, so_far.as_str(), OFlags::PATH) {
            Err(Errno::NOENT) => {
                let name = OsStr::from_bytes(part.as_bytes());
                if last && !directory {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    openat(&at, name, flags, Mode::from_raw_mode(0o755))?;
                } else {
                    mkdirat(&at, name, Mode::from_raw_mode(0o755))?;
                }
                open_in(root, so_far.as_str(), OFlags::PATH)?
            }
            other => other?,
        };
    }
    Ok(at)
}
