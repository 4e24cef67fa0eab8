//! How much there is of what.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType};

use crate::collect::{self, Policy};
use crate::dirs::{Dirs, open_dir};
use crate::error::Result;
use crate::rows::{BLOBS, BlobRow, TARGETS, TargetRow};
use crate::store::Store;

/// What a tree takes on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeUsage {
    /// Bytes of disk blocks.
    pub bytes: u64,
    /// Files, directories and so on; hard links count once.
    pub inodes: u64,
}

/// Count and size of one kind of thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What there is in a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Content.
    pub blobs: Tally,
    /// Unpacked layers.
    pub layers: Tally,
    /// What containers wrote.
    pub snapshots: Tally,
    /// Beginnings of blobs whose download was cut off. They are gone on with, expire, or are pruned.
    pub partials: Tally,
    /// Images: their number; their bytes are those of blobs and layers.
    pub images: u64,
    /// Images that no snapshot uses.
    pub unused_images: u64,
    /// What a collection of all unused images would free, with the beginnings of downloads.
    pub reclaimable: u64,
    /// What a collection would free that leaves all images alone, with the beginnings of downloads.
    pub unreferenced: u64,
}

impl Store {
    /// What there is, and what could be freed.
    pub fn usage(&self) -> Result<Usage> {
        let inner = self.inner();
        let (blobs, targets) = inner.db.read("count", |tx| {
            Ok((tx.list::<BlobRow>(BLOBS, "")?, tx.list::<TargetRow>(TARGETS, "")?.len() as u64))
        })?;
        let layers: Vec<u64> = inner.state().layers.values().map(|row| row.size).collect();
        let mut snapshots = Tally::default();
        for snapshot in self.snapshots()? {
            snapshots.count += 1;
            // One that is removed just now counts no more.
            if let Ok(upper) = snapshot.open_upper() {
                snapshots.bytes += tree_usage(&inner.dirs, upper)?.bytes;
            }
        }
        let partials = self.forget_partials(true)?;
        let now = inner.now();
        let unreferenced = collect::run(inner, &Policy::unreferenced(), now, true)?;
        let unused = collect::run(inner, &Policy::unused(), now, true)?;
        Ok(Usage {
            blobs: Tally { count: blobs.len() as u64, bytes: blobs.iter().map(|(_, row)| row.size).sum() },
            layers: Tally { count: layers.len() as u64, bytes: layers.iter().sum() },
            snapshots,
            partials,
            images: targets,
            unused_images: unused.images.len() as u64,
            reclaimable: unused.bytes + partials.bytes,
            unreferenced: unreferenced.bytes + partials.bytes,
        })
    }
}

/// Measures a tree, without following links.
pub(crate) fn tree_usage(dirs: &Dirs, root: OwnedFd) -> Result<TreeUsage> {
    let mut usage = TreeUsage::default();
    let mut linked = HashSet::new();
    let fail = |errno: rustix::io::Errno| dirs.error("measure a tree", errno);
    // A directory is opened when its turn comes, so no more are open than lie above each other.
    let mut stack: Vec<(Rc<OwnedFd>, CString)> = vec![(Rc::new(root), c".".to_owned())];
    while let Some((parent, name)) = stack.pop() {
        let dir = match open_dir(parent.as_fd(), name.as_c_str()) {
            Ok(dir) => Rc::new(dir),
            Err(rustix::io::Errno::NOENT) => continue,
            Err(errno) => return Err(fail(errno)),
        };
        for entry in Dir::read_from(&*dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let stat = match rustix::fs::statat(&*dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(rustix::io::Errno::NOENT) => continue,
                Err(errno) => return Err(fail(errno)),
            };
            let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if !directory && stat.st_nlink > 1 && !linked.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
            usage.inodes += 1;
            usage.bytes += stat.st_blocks.cast_unsigned() * 512;
            if directory {
                stack.push((Rc::clone(&dir), name.to_owned()));
            }
        }
    }
    Ok(usage)
}
