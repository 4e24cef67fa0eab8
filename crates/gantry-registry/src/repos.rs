//! All repositories: loaded when they are asked for, forgotten when memory is short.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use gantry_model::digest::Digest;
use tokio::sync::{OnceCell, RwLock};

use crate::error::Result;
use crate::keys;
use crate::repo::Repo;
use crate::storage::Storage;

/// Entries that loaded repositories may have together before some are forgotten. One takes some 200 bytes.
const MAX_WEIGHT: usize = 500_000;
/// Gates that blobs share.
const GATES: usize = 256;

struct Slot {
    cell: Arc<OnceCell<Arc<Repo>>>,
    used: u64,
}

#[derive(Default)]
struct Loaded {
    slots: HashMap<String, Slot>,
    clock: u64,
}

/// All repositories.
pub(crate) struct Repos {
    storage: Arc<Storage>,
    loaded: Mutex<Loaded>,
    /// One who places or links a blob holds its gate shared, one who removes it holds it alone.
    gates: Vec<RwLock<()>>,
}

impl Repos {
    pub fn new(storage: Arc<Storage>) -> Self {
        let gates = std::iter::repeat_with(|| RwLock::new(())).take(GATES).collect();
        Self { storage, loaded: Mutex::default(), gates }
    }

    /// The gate of a blob.
    pub fn gate(&self, digest: &Digest) -> &RwLock<()> {
        let byte = u8::from_str_radix(&digest.hex()[..2], 16).unwrap_or_default();
        &self.gates[usize::from(byte) % GATES]
    }

    /// A repository, which may have nothing yet. Its name has been checked.
    pub async fn get(&self, name: &str) -> Result<Arc<Repo>> {
        let cell = {
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.clock += 1;
            let used = loaded.clock;
            if let Some(slot) = loaded.slots.get_mut(name) {
                slot.used = used;
                if let Some(repo) = slot.cell.get() {
                    return Ok(repo.clone());
                }
                slot.cell.clone()
            } else {
                let cell = Arc::new(OnceCell::new());
                loaded.slots.insert(name.to_owned(), Slot { cell: cell.clone(), used });
                cell
            }
        };
        let load = || async { Repo::load(self.storage.clone(), name).await.map(Arc::new) };
        let result = cell.get_or_try_init(load).await.cloned();
        drop(cell);
        self.forget();
        result
    }

    /// Forgets repositories that nobody uses: those that have nothing, and the longest unused while there is too much.
    fn forget(&self) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody who waits for a load holds the cell, somebody who works holds the repository.
        let idle = |slot: &Slot| {
            Arc::strong_count(&slot.cell) == 1 && slot.cell.get().is_none_or(|repo| Arc::strong_count(repo) == 1)
        };
        let weight = |slot: &Slot| slot.cell.get().map_or(0, |repo| repo.state().weight());
        let empty = |slot: &Slot| slot.cell.get().is_none_or(|repo| !repo.state().exists());
        loaded.slots.retain(|_, slot| !(idle(slot) && empty(slot)));
        let mut total: usize = loaded.slots.values().map(weight).sum();
        if total <= MAX_WEIGHT {
            return;
        }
        let mut order: Vec<(u64, String)> = loaded.slots.iter().map(|(name, slot)| (slot.used, name.clone())).collect();
        order.sort_unstable();
        for (_, name) in order {
            if total <= MAX_WEIGHT / 2 {
                break;
            }
            if loaded.slots.get(&name).is_some_and(idle)
                && let Some(slot) = loaded.slots.remove(&name)
            {
                total -= weight(&slot).min(total);
            }
        }
    }

    /// The names of all repositories that have something, sorted.
    pub async fn names(&self) -> Result<Vec<String>> {
        let directories = self.storage.directories(keys::REPOSITORIES).await?;
        let mut names: Vec<String> = directories.iter().map(|d| keys::repository_name(d)).collect();
        names.retain(|name| gantry_model::reference::check_repository(name).is_ok());
        names.sort_unstable();
        Ok(names)
    }
}
