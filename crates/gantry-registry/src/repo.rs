//! A repository: what it has, in memory as in storage, and the order in which it changes.
//!
//! Readers look at memory and wait for nobody. Writers of one repository take turns: they write the object, then change
//! memory. Another repository is not their concern.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use gantry_model::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::keys;
use crate::storage::Storage;

/// The longest line before a manifest's bytes: lists of digests and annotations.
const MAX_HEAD: usize = 16 << 20;
/// Objects read at a time when a repository is loaded.
const LOADERS: usize = 32;

/// What a tag points to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Tag {
    pub digest: Digest,
    /// When it was set, in unix seconds.
    pub pushed: i64,
    /// When upstream last said so, for a cached one.
    #[serde(default)]
    pub checked: i64,
}

/// What is known of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Record {
    pub media_type: String,
    pub size: u64,
    /// When it was pushed, in unix seconds.
    pub pushed: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// Of a referrer only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Of a referrer only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Blobs that it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<Digest>,
    /// Manifests that it lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<Digest>,
}

/// That a repository has a blob.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Link {
    pub size: u64,
    /// When it came, or a client last relied on it (in memory only), in unix seconds.
    pub used: i64,
}

/// What a repository has.
#[derive(Default)]
pub(crate) struct State {
    pub tags: BTreeMap<String, Tag>,
    pub manifests: HashMap<Digest, Arc<Record>>,
    pub blobs: HashMap<Digest, Link>,
    /// By subject.
    pub referrers: HashMap<Digest, BTreeSet<Digest>>,
    /// How many manifests need a blob.
    pub needed: HashMap<Digest, u32>,
    /// Of blobs and manifests.
    pub bytes: u64,
    /// Bytes that are about to come from upstream.
    pub reserved: u64,
}

impl State {
    /// Whether there is such a repository at all.
    pub fn exists(&self) -> bool {
        !(self.tags.is_empty() && self.manifests.is_empty() && self.blobs.is_empty())
    }

    /// Roughly how much memory it takes, in entries.
    pub fn weight(&self) -> usize {
        self.tags.len()
            + self.blobs.len()
            + self.manifests.values().map(|m| 1 + m.blobs.len() + m.annotations.len()).sum::<usize>()
    }

    fn add_manifest(&mut self, digest: Digest, record: Record) {
        self.remove_manifest(&digest, None);
        if let Some(subject) = &record.subject {
            self.referrers.entry(subject.clone()).or_default().insert(digest.clone());
        }
        for blob in &record.blobs {
            *self.needed.entry(blob.clone()).or_default() += 1;
        }
        self.bytes += record.size;
        self.manifests.insert(digest, Arc::new(record));
    }

    /// `now`: what its blobs were last needed at.
    fn remove_manifest(&mut self, digest: &Digest, now: Option<i64>) {
        let Some(record) = self.manifests.remove(digest) else { return };
        if let Some(subject) = &record.subject
            && let Some(list) = self.referrers.get_mut(subject)
        {
            list.remove(digest);
            if list.is_empty() {
                self.referrers.remove(subject);
            }
        }
        for blob in &record.blobs {
            if let Some(count) = self.needed.get_mut(blob) {
                *count -= 1;
                if *count == 0 {
                    self.needed.remove(blob);
                }
            }
            if let (Some(now), Some(link)) = (now, self.blobs.get_mut(blob)) {
                link.used = now;
            }
        }
        self.bytes = self.bytes.saturating_sub(record.size);
    }
}

/// A repository.
pub(crate) struct Repo {
    pub name: String,
    storage: Arc<Storage>,
    state: RwLock<State>,
    /// Held by the one who changes manifests and tags, or removes links.
    pub turn: tokio::sync::Mutex<()>,
}

impl Repo {
    /// Reads a repository from storage.
    pub async fn load(storage: Arc<Storage>, name: &str) -> Result<Self> {
        let prefix = keys::repository(name);
        let mut state = State::default();
        let entries = storage.list(&prefix).await?;
        let reads = entries.into_iter().map(|entry| {
            let storage = storage.clone();
            async move {
                let limit = MAX_HEAD as u64 + gantry_model::image::MAX_MANIFEST;
                Ok::<_, Error>((storage.get(&entry.key, limit).await?, entry))
            }
        });
        let mut reads = futures_util::stream::iter(reads).buffer_unordered(LOADERS);
        while let Some((bytes, entry)) = reads.try_next().await? {
            // Removed meanwhile.
            let Some(bytes) = bytes else { continue };
            let below = entry.key.strip_prefix(&prefix).unwrap_or_default();
            let bad = |e: serde_json::Error| Error::content(&entry.key, e.to_string());
            match below.split_once('/') {
                Some(("tags", tag)) => {
                    state.tags.insert(tag.to_owned(), serde_json::from_slice(&bytes).map_err(bad)?);
                }
                Some(("blobs", name)) => {
                    let Some(digest) = keys::unflat(name) else { continue };
                    let link: Link = serde_json::from_slice(&bytes).map_err(bad)?;
                    state.bytes += link.size;
                    state.blobs.insert(digest, link);
                }
                Some(("manifests", name)) => {
                    let Some(digest) = keys::unflat(name) else { continue };
                    let (head, _) = split(&entry.key, &bytes)?;
                    state.add_manifest(digest, serde_json::from_slice(&head).map_err(bad)?);
                }
                _ => tracing::warn!(key = entry.key, "not an object of a registry, ignored"),
            }
        }
        let state = RwLock::new(state);
        Ok(Self { name: name.to_owned(), storage: storage.clone(), state, turn: tokio::sync::Mutex::new(()) })
    }

    /// What it has now. Not to be held across a wait.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of a manifest that it has.
    pub async fn manifest_bytes(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let key = keys::manifest(&self.name, digest);
        let limit = MAX_HEAD as u64 + gantry_model::image::MAX_MANIFEST;
        match self.storage.get(&key, limit).await? {
            Some(bytes) => Ok(Some(split(&key, &bytes)?.1)),
            None => Ok(None),
        }
    }

    /// Adds a manifest. The caller holds the turn and has checked it.
    pub async fn put_manifest(&self, digest: &Digest, record: Record, bytes: &[u8]) -> Result<()> {
        let key = keys::manifest(&self.name, digest);
        let mut object = serde_json::to_vec(&record).map_err(|e| Error::content(&key, e.to_string()))?;
        if object.len() > MAX_HEAD {
            return Err(Error::content(&key, "it lists too much"));
        }
        object.push(b'\n');
        object.extend_from_slice(bytes);
        self.storage.put(&key, object.into()).await?;
        self.change().add_manifest(digest.clone(), record);
        Ok(())
    }

    /// Removes a manifest. The caller holds the turn, and has removed its tags.
    pub async fn remove_manifest(&self, digest: &Digest, now: i64) -> Result<()> {
        self.storage.delete(&keys::manifest(&self.name, digest)).await?;
        self.change().remove_manifest(digest, Some(now));
        Ok(())
    }

    /// Sets a tag. The caller holds the turn.
    pub async fn put_tag(&self, name: &str, tag: Tag) -> Result<()> {
        let key = keys::tag(&self.name, name);
        let bytes = serde_json::to_vec(&tag).map_err(|e| Error::content(&key, e.to_string()))?;
        self.storage.put(&key, bytes.into()).await?;
        self.change().tags.insert(name.to_owned(), tag);
        Ok(())
    }

    /// Notes that upstream still says so. Memory is enough: asking once more after a start does no harm.
    pub fn note_checked(&self, name: &str, now: i64) {
        if let Some(tag) = self.change().tags.get_mut(name) {
            tag.checked = now;
        }
    }

    /// Removes a tag. The caller holds the turn.
    pub async fn remove_tag(&self, name: &str) -> Result<()> {
        self.storage.delete(&keys::tag(&self.name, name)).await?;
        self.change().tags.remove(name);
        Ok(())
    }

    /// Notes that it has a blob. The caller holds the blob's gate shared.
    pub async fn put_link(&self, digest: &Digest, link: Link) -> Result<()> {
        let key = keys::link(&self.name, digest);
        let bytes = serde_json::to_vec(&link).map_err(|e| Error::content(&key, e.to_string()))?;
        self.storage.put(&key, bytes.into()).await?;
        let mut state = self.change();
        state.bytes += link.size;
        if let Some(old) = state.blobs.insert(digest.clone(), link) {
            state.bytes = state.bytes.saturating_sub(old.size);
        }
        Ok(())
    }

    /// Forgets a blob. The caller holds the turn and the blob's gate alone.
    pub async fn remove_link(&self, digest: &Digest) -> Result<()> {
        self.storage.delete(&keys::link(&self.name, digest)).await?;
        let mut state = self.change();
        if let Some(old) = state.blobs.remove(digest) {
            state.bytes = state.bytes.saturating_sub(old.size);
        }
        Ok(())
    }

    /// Reserves room for bytes that are about to come, if it may hold so many.
    pub fn reserve(self: &Arc<Self>, bytes: u64, most: u64) -> Option<Reservation> {
        let mut state = self.change();
        if state.bytes.saturating_add(state.reserved).saturating_add(bytes) > most {
            return None;
        }
        state.reserved = state.reserved.saturating_add(bytes);
        Some(Reservation { repo: self.clone(), bytes })
    }

    /// The size of a blob that it has, noting that a client relies on it.
    pub fn use_blob(&self, digest: &Digest, now: i64) -> Option<u64> {
        // Noting takes the lock from readers, so it is done once a minute.
        let (size, used) = self.state().blobs.get(digest).map(|link| (link.size, link.used))?;
        if now - used >= 60
            && let Some(link) = self.change().blobs.get_mut(digest)
        {
            link.used = now;
        }
        Some(size)
    }
}

/// Room for bytes that are about to come. Given back when it is dropped: by then they are here and count, or never come.
pub(crate) struct Reservation {
    repo: Arc<Repo>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.repo.change();
        state.reserved = state.reserved.saturating_sub(self.bytes);
    }
}

/// A manifest's object: the line of what is known of it, and its bytes.
fn split(key: &str, object: &Bytes) -> Result<(Bytes, Bytes)> {
    let end = object.iter().position(|b| *b == b'\n').ok_or_else(|| Error::content(key, "it has no first line"))?;
    Ok((object.slice(..end), object.slice(end + 1..)))
}
