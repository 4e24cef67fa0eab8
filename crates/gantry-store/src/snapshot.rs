//! Snapshots: what containers write to.
//!
//! A snapshot is two directories, what is written (`fs`) and what overlayfs keeps for itself (`work`), and a record of what
//! they belong to. It is made for every container that starts, so it costs a handful of
//! system calls and no wait for the disk.
//! That is why the record is no row of the database: it is the target of a symbolic link beside the directories, which is
//! made whole or not at all, and goes through the file system's journal in the order of what was done. All of them are
//! read once, when the store is opened.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use gantry_model::digest::Digest;
use rustix::fs::{CWD, Gid, Mode, Timespec, Timestamps, Uid, fchmod, fchown, fstat, futimens};
use serde::{Deserialize, Serialize};

use crate::collect::Root;
use crate::dirs::open_dir;
use crate::error::{Error, Result};
use crate::layer;
use crate::layers::{Place, places};
use crate::rows;
use crate::store::{Inner, State, Store};
use crate::usage::{TreeUsage, tree_usage};

/// Longest key of a snapshot.
const MAX_KEY: usize = 200;
/// The most layers that overlayfs stacks, one of which is the snapshot's own.
pub const MAX_LAYERS: usize = 499;

/// A writable or read-only view of a chain of layers.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) store: Store,
    pub(crate) key: String,
    pub(crate) row: SnapshotRow,
}

/// What a snapshot says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotRow {
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) number: u64,
    pub(crate) chain: Option<Digest>,
    pub(crate) read_only: bool,
    pub(crate) created: i64,
}

impl Snapshot {
    /// Its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The top of its layers; none for one that begins empty.
    pub const fn chain(&self) -> Option<&Digest> {
        self.row.chain.as_ref()
    }

    /// Whether it can only be read.
    pub const fn read_only(&self) -> bool {
        self.row.read_only
    }

    /// When it was made, in nanoseconds since 1970.
    pub const fn created(&self) -> i64 {
        self.row.created
    }

    /// What was written to it, as a directory that overlayfs understands.
    pub fn upper(&self) -> PathBuf {
        self.dir().join("fs")
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.store.inner().dirs.snapshot(self.row.number)
    }

    pub(crate) fn open_upper(&self) -> Result<OwnedFd> {
        let upper = self.upper();
        let open = open_dir(CWD, &upper);
        open.map_err(|errno| self.store.inner().dirs.error(format!("open {}", upper.display()), errno))
    }
}

impl Store {
    /// Makes a writable snapshot of a chain of layers, or an empty one.
    pub fn prepare(&self, key: &str, chain: Option<&Digest>) -> Result<Snapshot> {
        self.make(key, chain, false)
    }

    /// Makes a snapshot that can only be read.
    pub fn view(&self, key: &str, chain: Option<&Digest>) -> Result<Snapshot> {
        self.make(key, chain, true)
    }

    /// A snapshot, if it is here.
    pub fn snapshot(&self, key: &str) -> Result<Option<Snapshot>> {
        let row = self.inner().state().snapshots.get(key).cloned();
        Ok(row.map(|row| Snapshot { store: self.clone(), key: key.to_owned(), row }))
    }

    /// All snapshots, by key.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let rows = self.inner().state().snapshots.clone();
        Ok(rows.into_iter().map(|(key, row)| Snapshot { store: self.clone(), key, row }).collect())
    }

    /// Removes a snapshot with what was written to it.
    pub fn remove_snapshot(&self, key: &str) -> Result<()> {
        let inner = self.inner();
        let row = inner.state().snapshots.get(key).cloned().ok_or_else(|| Error::missing("snapshot", key))?;
        inner.dirs.discard(&inner.dirs.snapshot(row.number))?;
        let mut state = inner.state();
        if state.snapshots.get(key).is_some_and(|there| there.number == row.number) {
            state.snapshots.remove(key);
        }
        let now = inner.now();
        touch(&mut state, row.chain.as_ref(), now);
        drop(state);
        self.0.keeper.removed();
        Ok(())
    }

    /// Writes what was changed in a snapshot as an archive. Returns its digest and size.
    pub fn diff_snapshot(&self, key: &str, out: &mut dyn Write) -> Result<(Digest, u64)> {
        self.diff_snapshot_with(key, layer::DiffOptions::default(), out)
    }

    /// The same with options.
    pub fn diff_snapshot_with(
        &self,
        key: &str,
        options: layer::DiffOptions,
        out: &mut dyn Write,
    ) -> Result<(Digest, u64)> {
        let snapshot = self.snapshot(key)?.ok_or_else(|| Error::missing("snapshot", key))?;
        let upper = snapshot.open_upper()?;
        layer::diff(upper.as_fd(), out, options).map_err(|error| self.layer_error("pack a snapshot", error))
    }

    /// What a snapshot takes on disk beyond its layers.
    pub fn usage_of(&self, key: &str) -> Result<TreeUsage> {
        let snapshot = self.snapshot(key)?.ok_or_else(|| Error::missing("snapshot", key))?;
        tree_usage(&self.inner().dirs, snapshot.open_upper()?)
    }

    fn make(&self, key: &str, chain: Option<&Digest>, read_only: bool) -> Result<Snapshot> {
        check_key(key)?;
        let inner = self.inner();
        let created = inner.now();
        let number = inner.dirs.number();
        let row = SnapshotRow { key: key.to_owned(), number, chain: chain.cloned(), read_only, created };
        let mut state = inner.state();
        if state.snapshots.contains_key(key) {
            return Err(Error::Exists(key.to_owned()));
        }
        let lowers = chain.map(|chain| places(&state, chain)).transpose()?.unwrap_or_default();
        if lowers.len() > MAX_LAYERS {
            let why = format!("it has {} layers, overlayfs takes {MAX_LAYERS}", lowers.len());
            return Err(Error::Invalid { what: "the layers of snapshot", value: key.to_owned(), why });
        }
        // From here on its layers are not collected.
        state.snapshots.insert(key.to_owned(), row.clone());
        touch(&mut state, chain, created);
        drop(state);
        if let Some(chain) = chain {
            self.root_added(Root::Layer(chain.clone()));
        }
        let made = self.make_dirs(&row, lowers.first());
        if let Err(error) = made {
            inner.state().snapshots.remove(key);
            inner.dirs.discard(&inner.dirs.tmp.join(format!("snapshot-{number}")))?;
            return Err(error);
        }
        Ok(Snapshot { store: self.clone(), key: key.to_owned(), row })
    }

    fn make_dirs(&self, row: &SnapshotRow, top: Option<&Place>) -> Result<()> {
        let dirs = &self.inner().dirs;
        let fail = |error| dirs.error(format!("make snapshot {}", row.key), error);
        let tmp = dirs.tmp.join(format!("snapshot-{}", row.number));
        let record =
            String::from_utf8(rows::encode(row)?).map_err(|error| Error::corrupt("a record", error.to_string()))?;
        let mut builder = DirBuilder::new();
        builder.mode(0o700).create(&tmp).map_err(fail)?;
        builder.create(tmp.join("work")).map_err(fail)?;
        builder.mode(0o755).create(tmp.join("fs")).map_err(fail)?;
        if let Some(top) = top {
            like(&tmp.join("fs"), &self.open_tree(top)?).map_err(fail)?;
        }
        std::os::unix::fs::symlink(record, tmp.join("record")).map_err(fail)?;
        std::fs::rename(&tmp, dirs.snapshot(row.number)).map_err(fail)
    }
}

/// Notes that a layer is used; its row follows when there is time.
fn touch(state: &mut State, chain: Option<&Digest>, now: i64) {
    if let Some(layer) = chain.and_then(|chain| state.layers.get_mut(chain)) {
        layer.used = now;
        let chain = layer.chain.clone();
        state.touched.insert(chain);
    }
}

/// Gives a snapshot's root directory the owner, mode, attributes and time of the layer below, which it hides.
fn like(own: &std::path::Path, from: &OwnedFd) -> io::Result<()> {
    let stat = fstat(from)?;
    let fd = open_dir(CWD, own)?;
    if (stat.st_uid, stat.st_gid) != (0, 0) {
        fchown(&fd, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    }
    fchmod(&fd, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let time = |seconds, nanos| Timespec { tv_sec: seconds, tv_nsec: nanos };
    let mtime = time(stat.st_mtime as i64, stat.st_mtime_nsec as i64);
    let times = Timestamps { last_access: mtime, last_modification: mtime };
    let size = rustix::fs::flistxattr_query(from)?;
    if size == 0 {
        return futimens(&fd, &times).map_err(Into::into);
    }
    let mut names = vec![0_u8; size];
    let size = rustix::fs::flistxattr(from, names.as_mut_slice())?;
    let overlay = |name: &&[u8]| !name.is_empty() && !name.starts_with(b"trusted.overlay.");
    for name in names[..size].split(|byte| *byte == 0).filter(overlay) {
        let mut value = vec![0_u8; rustix::fs::fgetxattr_query(from, name)?];
        let length = rustix::fs::fgetxattr(from, name, value.as_mut_slice())?;
        rustix::fs::fsetxattr(&fd, name, &value[..length], rustix::fs::XattrFlags::empty())?;
    }
    futimens(&fd, &times).map_err(Into::into)
}

fn check_key(key: &str) -> Result<()> {
    let invalid = |why: &str| {
        Err(Error::Invalid { what: "snapshot key", value: key.chars().take(80).collect(), why: why.into() })
    };
    if key.is_empty() || key.len() > MAX_KEY {
        return invalid("it has 1 to 200 bytes");
    }
    if key.chars().any(char::is_control) {
        return invalid("it has no control characters");
    }
    Ok(())
}

/// Reads the snapshots that are on disk. What is none is thrown away.
pub(crate) fn restore(inner: &Inner) -> Result<BTreeMap<String, SnapshotRow>> {
    let mut snapshots: BTreeMap<String, SnapshotRow> = BTreeMap::new();
    for name in inner.dirs.names(&inner.dirs.snapshots)? {
        let dir = inner.dirs.snapshots.join(&name);
        let row = std::fs::read_link(dir.join("record")).ok().and_then(|record| {
            let row: SnapshotRow = serde_json::from_str(record.to_str()?).ok()?;
            (row.number.to_string() == name && check_key(&row.key).is_ok()).then_some(row)
        });
        match row {
            Some(row) if !snapshots.contains_key(&row.key) => {
                snapshots.insert(row.key.clone(), row);
            }
            _ => {
                tracing::warn!(name, "a snapshot that says nothing of itself is thrown away");
                inner.dirs.discard(&dir)?;
            }
        }
    }
    Ok(snapshots)
}
