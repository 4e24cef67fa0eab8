//! The store itself: what its parts share, and how it is opened and closed.
//!
//! # How its parts stay out of each other's way
//! The small state in memory (leases, claims, the layers and snapshots that exist) is behind one lock, which is never held
//! over a disk access. Whoever makes or removes a thing claims its name there first; others who want the same thing wait.
//! What a lease holds is not removed, so nothing needs a lock while it is read or written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use gantry_model::digest::{Algorithm, Digest};

use crate::collect::{Policy, Root};
use crate::db::{Db, Writing};
use crate::dirs::Dirs;
use crate::erofs::Images;
use crate::error::{Error, Result, io_error};
use crate::keeper::Keeper;
use crate::lease::LeaseState;
use crate::options::{LayerForm, Options};
use crate::reserve::Reserve;
use crate::rows::LayerRow;
use crate::snapshot::SnapshotRow;
use crate::{erofs, lock, recover};

/// A store of content, layers and snapshots. Clones share it; it is closed with the last of them and of all that came from
/// it (leases, snapshots and so on).
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Handle>);

/// The owner of the keeper's thread, so that the thread may hold [`Inner`].
pub(crate) struct Handle {
    pub(crate) inner: Arc<Inner>,
    pub(crate) keeper: Keeper,
}

/// What the parts of the store share.
pub(crate) struct Inner {
    pub(crate) dirs: Dirs,
    pub(crate) options: Options,
    pub(crate) db: Db,
    pub(crate) state: Mutex<State>,
    /// Signalled when a claim is given back.
    pub(crate) changed: Condvar,
    /// Which boot of the machine this is.
    pub(crate) boot: String,
    /// Bytes of blobs and layers.
    pub(crate) bytes: AtomicU64,
    /// What is collected without being asked; it can change while the store is open.
    pub(crate) auto_collect: Mutex<Option<Policy>>,
    /// One collection at a time.
    pub(crate) collecting: Mutex<()>,
    /// The layers that are mounted because they are images.
    pub(crate) images: Images,
    /// Orders writers of index.json.
    pub(crate) index: Mutex<()>,
    /// Held for as long as the store is open.
    _lock: File,
}

/// What is claimed: a blob or a layer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Claimed {
    Blob(Digest),
    Layer(Digest),
}

/// The state in memory.
#[derive(Default)]
pub(crate) struct State {
    /// What is being made or removed, and by which lease; 0 is the collection.
    pub(crate) claims: HashMap<Claimed, u64>,
    pub(crate) leases: HashMap<u64, LeaseState>,
    pub(crate) layers: HashMap<Digest, LayerRow>,
    pub(crate) snapshots: BTreeMap<String, SnapshotRow>,
    /// While a collection runs: what came to be referenced since it began.
    pub(crate) new_roots: Option<Vec<Root>>,
    /// Small blobs that are not known to be on the disk itself.
    pub(crate) unsynced: Vec<File>,
    /// Directories of blobs with new names that are not known to be on the disk itself.
    pub(crate) dirty: HashSet<Algorithm>,
    /// Layers whose time of use is newer than in their rows.
    pub(crate) touched: HashSet<Digest>,
    /// Whether rows were written that are not durable.
    pub(crate) pending_rows: bool,
}

impl Store {
    /// Opens the store in a directory, which is made if it is missing; waits for another process that has it, and puts in
    /// order what a crash left behind.
    pub fn open(root: &Path, options: Options) -> Result<Self> {
        let root = absolute(root)?;
        let made = DirBuilder::new().mode(0o711).recursive(true).create(&root);
        made.map_err(|error| io_error(&root, format!("make {}", root.display()), None, error))?;
        let lock = lock::take(&root, &options)?;
        let dirs = Dirs::create(&root)?;
        let db = Db::open(&dirs)?;
        let auto_collect = Mutex::new(options.auto_collect.clone());
        let inner = Inner {
            boot: recover::boot_id(&root)?,
            dirs,
            options,
            db,
            state: Mutex::default(),
            changed: Condvar::new(),
            bytes: AtomicU64::new(0),
            auto_collect,
            collecting: Mutex::new(()),
            index: Mutex::new(()),
            images: Images::default(),
            _lock: lock,
        };
        recover::run(&inner)?;
        if inner.options.layers == LayerForm::Erofs {
            erofs::probe(&inner.dirs)?;
        }
        let inner = Arc::new(inner);
        let keeper = Keeper::start(&inner)?;
        Ok(Self(Arc::new(Handle { inner, keeper })))
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.0.inner.dirs.root
    }

    /// The OCI image layout in it, for other programs to read.
    pub fn layout(&self) -> &Path {
        &self.0.inner.dirs.content
    }

    /// Removes the files of all that was removed before, which otherwise happens at leisure: for a process that ends soon,
    /// and has told how much room comes free.
    ///
    /// # Errors
    /// The directory cannot be read. Files that cannot be removed are left for the next time.
    pub fn empty_trash(&self) -> Result<()> {
        self.0.inner.dirs.empty_trash(&AtomicBool::new(false)).map(|_| ())
    }

    /// Changes what is collected without being asked; none leaves all to [`Store::collect`].
    pub fn set_auto_collect(&self, policy: Option<Policy>) {
        *self.0.inner.auto_collect.lock().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// The time by the store's clock, in nanoseconds since 1970.
    pub fn now(&self) -> i64 {
        (self.0.inner.options.clock)()
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0.inner
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.0.inner.dirs.root).finish()
    }
}

impl Inner {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> i64 {
        (self.options.clock)()
    }

    /// Waits until nobody claims a thing.
    pub(crate) fn unclaimed<'a>(&self, mut state: MutexGuard<'a, State>, thing: &Claimed) -> MutexGuard<'a, State> {
        while state.claims.contains_key(thing) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Waits until nobody but this lease claims a thing.
    pub(crate) fn unclaimed_by_other(&self, thing: &Claimed, lease: u64) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while state.claims.get(thing).is_some_and(|owner| *owner != lease) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Gives claims back.
    pub(crate) fn release(&self, things: impl IntoIterator<Item = Claimed>) {
        let mut state = self.state();
        for thing in things {
            state.claims.remove(&thing);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Writes to the database. A durable commit brings to the disk first what its rows refer to. A write that failed for
    /// the disk is tried once more, with the database opened anew.
    pub(crate) fn write<T>(
        &self,
        action: &'static str,
        durable: bool,
        body: impl Fn(&Writing<'_>) -> Result<T>,
    ) -> Result<T> {
        if durable {
            self.sync_blobs()?;
        } else {
            self.state().pending_rows = true;
        }
        match self.db.write(action, durable, &body) {
            Err(error @ (Error::Full { .. } | Error::Database { .. })) => {
                tracing::warn!(%error, "the database is opened anew");
                self.reserve().give_up();
                self.db.reopen()?;
                recover::restore_rows(self)?;
                self.db.write(action, durable, &body)
            }
            other => other,
        }
    }

    /// Makes rows durable that are not yet.
    pub(crate) fn flush(&self) -> Result<()> {
        if std::mem::take(&mut self.state().pending_rows) {
            self.write("flush", true, |_| Ok(()))?;
        }
        Ok(())
    }

    /// Brings small blobs, and the names of all blobs, to the disk itself.
    fn sync_blobs(&self) -> Result<()> {
        let (files, dirty) = {
            let mut state = self.state();
            (std::mem::take(&mut state.unsynced), std::mem::take(&mut state.dirty))
        };
        let synced =
            files.iter().try_for_each(|file| file.sync_data().map_err(|error| self.dirs.error("sync a blob", error)));
        let synced = synced
            .and_then(|()| dirty.iter().try_for_each(|algorithm| self.dirs.sync_dir(&self.dirs.blobs(*algorithm))));
        if synced.is_err() {
            let mut state = self.state();
            state.unsynced.extend(files);
            state.dirty.extend(dirty);
        }
        synced
    }

    /// Adds to or takes from the count of bytes.
    pub(crate) fn count(&self, added: u64, removed: u64) {
        self.bytes.fetch_add(added, Ordering::Relaxed);
        let take = |bytes: u64| Some(bytes.saturating_sub(removed));
        if removed > 0 && self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            tracing::debug!("the count of bytes did not change");
        }
    }

    /// The space that is kept for a full disk.
    pub(crate) fn reserve(&self) -> Reserve {
        Reserve::new(self.dirs.root.join("reserve"))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.keeper.stop();
        if let Err(error) = self.inner.flush() {
            tracing::warn!(%error, "the store is closed without its last rows; they are made again when it is opened");
        }
    }
}

fn absolute(root: &Path) -> Result<PathBuf> {
    std::path::absolute(root).map_err(|error| io_error(root, format!("find {}", root.display()), None, error))
}
