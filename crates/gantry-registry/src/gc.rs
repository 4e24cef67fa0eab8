//! Collection of content that nothing needs, while the registry works.
//!
//! First each repository forgets blobs that none of its manifests has needed for the grace period. Then blobs that no
//! repository has are noted, and removed once they were noted for the grace period. Nobody waits for more than the
//! removal of one object: a blob is removed with its gate held, and everybody who links a blob passes that gate and says
//! so in `touched`. So a blob that was linked after the collection began to look is never removed. What a cache let go of
//! to make room has no grace period: nobody pushes there.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use gantry_model::digest::Digest;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::keys;
use crate::registry::Inner;
use crate::storage::Storage;

const MAX_PENDING: u64 = 1 << 30;

/// What a collection removed, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Blobs that repositories no longer have.
    pub unlinked: u64,
    /// Bytes of those.
    pub unlinked_bytes: u64,
    /// Blobs removed from the storage.
    pub removed: u64,
    /// Blobs that nothing needs, whose grace period is not over.
    pub waiting: u64,
}

/// What collections remember.
pub(crate) struct State {
    /// Blobs linked since the last collection began.
    touched: Mutex<HashSet<Digest>>,
    /// Blobs that a cache let go of to make room. Nobody is about to refer to them, so they need no grace.
    evicted: Mutex<HashSet<Digest>>,
    /// Since when blobs are not needed, in unix seconds. Held by the one collection that runs.
    pending: tokio::sync::Mutex<HashMap<Digest, i64>>,
}

impl State {
    pub async fn load(storage: &Storage) -> Result<Self> {
        let pending = match storage.get(keys::PENDING, MAX_PENDING).await? {
            // It can be worked out again; what is lost is only the time that blobs have waited.
            Some(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            None => HashMap::new(),
        };
        Ok(Self { touched: Mutex::default(), evicted: Mutex::default(), pending: tokio::sync::Mutex::new(pending) })
    }

    /// Notes that a blob was linked. The caller holds its gate.
    pub fn touched(&self, digest: &Digest) {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone());
    }

    /// Notes that a cache let go of a blob.
    pub fn evicted(&self, digest: &Digest) {
        self.evicted.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone());
    }

    fn take_evicted(&self, dry_run: bool) -> HashSet<Digest> {
        let mut evicted = self.evicted.lock().unwrap_or_else(PoisonError::into_inner);
        if dry_run { evicted.clone() } else { std::mem::take(&mut *evicted) }
    }

    fn begin(&self) -> HashSet<Digest> {
        std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_touched(&self, digest: &Digest) -> bool {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }
}

/// Collects. A second one waits for the first.
pub(crate) async fn collect(registry: &Inner, dry_run: bool) -> Result<Collected> {
    let mut pending = registry.gc.pending.lock().await;
    let now = (registry.clock)();
    let oldest = now - registry.config.gc.grace.0 as i64;
    let mut collected = Collected::default();
    // A dry run looks, and leaves what was touched to the next collection.
    let touched = if dry_run { HashSet::new() } else { registry.gc.begin() };
    for digest in &touched {
        pending.remove(digest);
    }
    let evicted = registry.gc.take_evicted(dry_run);
    let needed = mark(registry, oldest, dry_run, &mut collected).await?;
    let mut found = HashMap::new();
    for shard in shards(registry).await? {
        for entry in registry.storage.list(&shard).await? {
            let Some(digest) = keys::blob_digest(&entry.key).filter(|digest| !needed.contains(digest)) else {
                continue;
            };
            // One that was placed and is not linked yet has been there for the time since it was written. A storage whose
            // clock is ahead of ours says nothing about that.
            let written = Some(entry.modified).filter(|written| *written <= now).unwrap_or(0);
            let since = pending.get(&digest).copied().unwrap_or(now).max(written);
            if since > oldest && !evicted.contains(&digest) {
                collected.waiting += 1;
                found.insert(digest, since);
            } else if dry_run {
                collected.removed += u64::from(!registry.gc.is_touched(&digest));
                found.insert(digest, since);
            } else if remove(registry, &digest).await? {
                collected.removed += 1;
            }
        }
    }
    if !dry_run {
        *pending = found;
        let bytes = serde_json::to_vec(&*pending).map_err(|e| Error::content(keys::PENDING, e.to_string()))?;
        registry.storage.put(keys::PENDING, bytes.into()).await?;
        registry.metrics.gc_runs.fetch_add(1, Ordering::Relaxed);
        registry.metrics.gc_blobs.fetch_add(collected.removed, Ordering::Relaxed);
        registry.metrics.gc_bytes.fetch_add(collected.unlinked_bytes, Ordering::Relaxed);
    }
    Ok(collected)
}

/// The blobs that repositories have, after they forgot those that they have not needed since `oldest`.
async fn mark(registry: &Inner, oldest: i64, dry_run: bool, collected: &mut Collected) -> Result<HashSet<Digest>> {
    let mut needed = HashSet::new();
    for name in registry.repos.names().await? {
        let repo = registry.repos.get(&name).await?;
        let stale = |state: &crate::repo::State, digest: &Digest| {
            let old = state.blobs.get(digest).filter(|link| link.used <= oldest).map(|link| link.size);
            old.filter(|_| !state.needed.contains_key(digest))
        };
        let candidates: Vec<Digest> = {
            let state = repo.state();
            state.blobs.keys().filter(|digest| stale(&state, digest).is_some()).cloned().collect()
        };
        let mut forgotten = HashSet::new();
        for digest in candidates {
            let _gate = registry.repos.gate(&digest).write().await;
            let _turn = repo.turn.lock().await;
            let Some(size) = stale(&repo.state(), &digest) else { continue };
            if !dry_run {
                repo.remove_link(&digest).await?;
            }
            collected.unlinked += 1;
            collected.unlinked_bytes += size;
            forgotten.insert(digest);
        }
        let state = repo.state();
        needed.extend(state.blobs.keys().filter(|digest| !forgotten.contains(*digest)).cloned());
    }
    Ok(needed)
}

/// The prefixes that blobs are listed by, so that no list holds all of them.
async fn shards(registry: &Inner) -> Result<Vec<String>> {
    let mut shards = vec![];
    for algorithm in gantry_model::digest::Algorithm::ALL {
        let prefix = format!("{}{}/", keys::BLOBS, algorithm.as_str());
        let below = registry.storage.directories(&prefix).await?;
        shards.extend(below.iter().map(|shard| format!("{prefix}{shard}/")));
    }
    Ok(shards)
}

/// Removes a blob, unless somebody linked it since the collection began.
async fn remove(registry: &Inner, digest: &Digest) -> Result<bool> {
    let _gate = registry.repos.gate(digest).write().await;
    if registry.gc.is_touched(digest) {
        return Ok(false);
    }
    registry.storage.delete(&keys::blob(digest)).await?;
    Ok(true)
}
