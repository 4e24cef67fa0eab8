//! Where things lie under the root of a store, and how they are thrown away.
//!
//! ```text
//! lock  store.redb  reserve
//! content/            an OCI image layout: oci-layout, index.json, blobs/ALGORITHM/HEX
//! layers/N/           fs or image, record   what `record` says can be read without the database
//! snapshots/N/        fs, work, record
//! ingest/             beginnings of blobs, named by their digest so that they can be resumed
//! leases/N            what is protected, for the case of a crash
//! tmp/                what is being made; a start throws it away
//! trash/              what is thrown away; the keeper removes it at leisure
//! ```
//!
//! Nothing in here is reachable for anybody but root, so names below the root are not raced for; trees that come from
//! outside (layers, snapshots) are only ever entered by descriptor.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use gantry_model::digest::{Algorithm, Digest};
use rustix::fs::{AtFlags, CWD, Dir, FileType, IFlags, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

use crate::error::{Result, io_error};

/// How deep a tree is removed in place; what lies deeper is first moved up.
const DEPTH: usize = 32;

/// The directories of a store.
#[derive(Debug)]
pub(crate) struct Dirs {
    pub(crate) root: PathBuf,
    pub(crate) content: PathBuf,
    pub(crate) layers: PathBuf,
    pub(crate) snapshots: PathBuf,
    pub(crate) ingest: PathBuf,
    pub(crate) leases: PathBuf,
    pub(crate) tmp: PathBuf,
    pub(crate) trash: PathBuf,
    next: AtomicU64,
    /// Held by the one who empties the trash: two would trip over each other.
    emptying: Mutex<()>,
}

impl Dirs {
    /// Makes them where they are missing.
    pub(crate) fn create(root: &Path) -> Result<Self> {
        let dirs = Self {
            root: root.to_owned(),
            content: root.join("content"),
            layers: root.join("layers"),
            snapshots: root.join("snapshots"),
            ingest: root.join("ingest"),
            leases: root.join("leases"),
            tmp: root.join("tmp"),
            trash: root.join("trash"),
            next: AtomicU64::new(1),
            emptying: Mutex::new(()),
        };
        let blobs = Algorithm::ALL.map(|algorithm| dirs.content.join("blobs").join(algorithm.as_str()));
        let own = [&dirs.content, &dirs.layers, &dirs.snapshots, &dirs.ingest, &dirs.leases, &dirs.tmp, &dirs.trash];
        for dir in own.into_iter().chain(&blobs) {
            let made = DirBuilder::new().mode(0o700).recursive(true).create(dir);
            made.map_err(|error| dirs.error(format!("make {}", dir.display()), error))?;
        }
        for dir in [&dirs.layers, &dirs.snapshots, &dirs.leases, &dirs.tmp, &dirs.trash] {
            for name in dirs.names(dir)? {
                dirs.saw(&name);
            }
        }
        Ok(dirs)
    }

    /// Takes note of a number in use: `12`, `layer-12`.
    fn saw(&self, name: &str) {
        if let Some(number) = name.rsplit('-').next().and_then(|number| number.parse::<u64>().ok()) {
            self.next.fetch_max(number.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// A number that nothing here has.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The file of a blob.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs(digest.algorithm()).join(digest.hex())
    }

    /// The directory of the blobs of an algorithm.
    pub(crate) fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.content.join("blobs").join(algorithm.as_str())
    }

    /// The beginning of a blob.
    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.ingest.join(format!("{}-{}", digest.algorithm().as_str(), digest.hex()))
    }

    /// The directory of a layer.
    pub(crate) fn layer(&self, number: u64) -> PathBuf {
        self.layers.join(number.to_string())
    }

    /// The directory of a snapshot.
    pub(crate) fn snapshot(&self, number: u64) -> PathBuf {
        self.snapshots.join(number.to_string())
    }

    /// Names in a directory; those that are no UTF-8 are none of ours, and left out.
    pub(crate) fn names(&self, dir: &Path) -> Result<Vec<String>> {
        let fail = |error| self.error(format!("list {}", dir.display()), error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(fail)? {
            names.extend(entry.map_err(fail)?.file_name().into_string());
        }
        Ok(names)
    }

    /// Throws a file or tree away: it is out of sight at once, and removed later.
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        let to = self.trash.join(self.number().to_string());
        match std::fs::rename(path, &to) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.error(format!("throw away {}", path.display()), error)),
        }
    }

    /// Removes what was thrown away, until `stop` is set. Failures are told and left for the next time.
    pub(crate) fn empty_trash(&self, stop: &AtomicBool) -> Result<bool> {
        let _turn = self.emptying.lock().unwrap_or_else(PoisonError::into_inner);
        let trash = open_dir(CWD, &self.trash).map_err(|error| self.error("open the trash", error))?;
        let mut clean = true;
        // What is moved up from the deep lands here again, hence the rounds.
        for _ in 0..10_000 {
            let names = self.names(&self.trash)?;
            if names.is_empty() || stop.load(Ordering::Relaxed) {
                break;
            }
            let mut progress = false;
            for name in names {
                match self.remove(trash.as_fd(), trash.as_fd(), &name, 0, stop) {
                    Ok(()) => progress = true,
                    Err(Errno::CANCELED) => return Ok(false),
                    Err(errno) => tracing::warn!(name, %errno, "thrown-away files could not be removed"),
                }
            }
            clean = progress;
            if !progress {
                break;
            }
        }
        Ok(clean)
    }

    fn remove(
        &self,
        trash: BorrowedFd<'_>,
        parent: BorrowedFd<'_>,
        name: impl rustix::path::Arg + Copy,
        depth: usize,
        stop: &AtomicBool,
    ) -> Result<(), Errno> {
        match unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(Errno::PERM) => unprotect(parent, name),
            Err(errno) => return Err(errno),
        }
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(Errno::NOTDIR) => return unlinkat(parent, name, AtFlags::empty()),
            other => return other,
        }
        if depth >= DEPTH {
            return renameat(parent, name, trash, self.number().to_string());
        }
        let dir = open_dir(parent, name)?;
        let mut entries = Dir::read_from(&dir)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Errno::CANCELED);
            }
            self.remove(trash, dir.as_fd(), name, depth + 1, stop)?;
        }
        unlinkat(parent, name, AtFlags::REMOVEDIR)
    }

    /// An error of the system.
    pub(crate) fn error(&self, action: impl Into<String>, source: impl Into<io::Error>) -> crate::Error {
        io_error(&self.root, action, None, source)
    }

    /// Brings a directory's entries to the disk.
    pub(crate) fn sync_dir(&self, dir: &Path) -> Result<()> {
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| self.error(format!("sync {}", dir.display()), error))
    }
}

/// Opens a directory, following no link.
pub(crate) fn open_dir(at: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, path, flags, Mode::empty())
}

/// Takes away what keeps a file from being removed (chattr +i, +a), its own and its directory's.
fn unprotect(parent: BorrowedFd<'_>, name: impl rustix::path::Arg + Copy) {
    let clear = |fd: BorrowedFd<'_>| {
        if let Ok(flags) = rustix::fs::ioctl_getflags(fd) {
            let clear = flags - IFlags::IMMUTABLE - IFlags::APPEND;
            if clear != flags && rustix::fs::ioctl_setflags(fd, clear).is_err() {
                tracing::debug!("a protected file stays protected");
            }
        }
    };
    clear(parent);
    // Only what can be opened without an effect: a device's or a fifo's opening may have one.
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
    if matches!(kind, Ok(FileType::RegularFile | FileType::Directory)) {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        if let Ok(fd) = openat(parent, name, flags, Mode::empty()) {
            clear(fd.as_fd());
        }
    }
}
