//! Leases: what is in use by somebody who has not yet given it a name.
//!
//! A pull adds blobs and layers long before a name refers to them. Under a lease they are not collected. A lease ends when
//! it is dropped. After a crash it lives on until its time is over, so that a pull that is tried again finds what it had;
//! for this each lease has a file, to which a line is added for each thing. The file is not synced: it outlives the process,
//! and a machine that lost power may download something twice.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use gantry_model::digest::Digest;

use crate::dirs::Dirs;
use crate::error::Result;
use crate::layers::Layer;
use crate::store::{Claimed, State, Store};

/// Largest file of a lease that is read.
const MAX_FILE: u64 = 16 << 20;

/// Protection from collection for what is added or touched under it, until it is dropped.
#[derive(Debug)]
pub struct Lease {
    pub(crate) store: Store,
    pub(crate) id: u64,
    path: PathBuf,
}

/// What a lease holds.
#[derive(Debug)]
pub(crate) struct LeaseState {
    pub(crate) expires: i64,
    pub(crate) blobs: HashSet<Digest>,
    pub(crate) layers: HashSet<Digest>,
    /// Whether its holder ended in a crash.
    restored: bool,
    /// Where it is noted for the case of a crash.
    file: Option<File>,
}

impl Store {
    /// A lease for `what` (a few words for people). After a crash it lasts until `ttl` from now.
    pub fn lease(&self, what: &str, ttl: Duration) -> Result<Lease> {
        let inner = self.inner();
        let id = inner.dirs.number();
        let path = inner.dirs.leases.join(id.to_string());
        let expires = inner.now().saturating_add(i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX));
        let what: String = what.chars().filter(|c| !c.is_control()).take(200).collect();
        let opened = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path);
        // On a full disk there is still protection while we live.
        let file = opened.and_then(|mut file| writeln!(file, "{expires} {what}").map(|()| file));
        let file = file.map_err(|error| tracing::debug!(%error, "a lease is not noted for a crash")).ok();
        let lease = LeaseState { expires, blobs: HashSet::new(), layers: HashSet::new(), restored: false, file };
        inner.state().leases.insert(id, lease);
        Ok(Lease { store: self.clone(), id, path })
    }
}

impl Lease {
    /// Holds a blob if it is here, and says its size.
    pub fn hold_blob(&self, digest: &Digest) -> Result<Option<u64>> {
        let inner = self.store.inner();
        let state = inner.unclaimed_by_other(&Claimed::Blob(digest.clone()), self.id);
        self.add_blob(state, digest);
        self.store.blob_size(digest)
    }

    /// Holds a layer and those below it if it is here. One that is being unpacked or removed just now is waited for.
    pub fn hold_layer(&self, chain: &Digest) -> Result<Option<Layer>> {
        let inner = self.store.inner();
        let mut state = inner.unclaimed_by_other(&Claimed::Layer(chain.clone()), self.id);
        Ok(self.add_layer(&mut state, chain))
    }

    pub(crate) fn add_blob(&self, mut state: std::sync::MutexGuard<'_, State>, digest: &Digest) {
        if let Some(lease) = state.leases.get_mut(&self.id) {
            lease.hold_blob(digest);
        }
    }

    /// Adds a layer that is here, with those below it.
    pub(crate) fn add_layer(&self, state: &mut State, chain: &Digest) -> Option<Layer> {
        let found = Layer::from(state.layers.get(chain)?);
        let mut next = Some(chain.clone());
        while let Some(chain) = next {
            next = state.layers.get(&chain).and_then(|row| row.parent.clone());
            let Some(lease) = state.leases.get_mut(&self.id) else { break };
            if !lease.layers.insert(chain.clone()) {
                break;
            }
            lease.note('l', &chain);
        }
        Some(found)
    }

    /// Holds a layer before it is here.
    pub(crate) fn expect_layer(&self, state: &mut State, chain: &Digest) {
        if let Some(lease) = state.leases.get_mut(&self.id) {
            lease.layers.insert(chain.clone());
            lease.note('l', chain);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let removed = self.store.inner().state().leases.remove(&self.id);
        drop(removed);
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the file of a lease is gone already");
        }
    }
}

impl LeaseState {
    pub(crate) fn hold_blob(&mut self, digest: &Digest) {
        if self.blobs.insert(digest.clone()) {
            self.note('b', digest);
        }
    }

    fn note(&mut self, kind: char, digest: &Digest) {
        if let Some(file) = &mut self.file
            && let Err(error) = writeln!(file, "{kind} {digest}")
        {
            tracing::debug!(%error, "a lease is not noted for a crash");
            self.file = None;
        }
    }
}

impl State {
    /// Whether some lease holds a blob.
    pub(crate) fn holds_blob(&self, digest: &Digest) -> bool {
        self.leases.values().any(|lease| lease.blobs.contains(digest))
    }

    /// Whether some lease holds a layer.
    pub(crate) fn holds_layer(&self, chain: &Digest) -> bool {
        self.leases.values().any(|lease| lease.layers.contains(chain))
    }
}

/// Reads the leases that a crash left; removes those whose time is over.
pub(crate) fn restore(dirs: &Dirs, now: i64, state: &mut State) -> Result<()> {
    for name in dirs.names(&dirs.leases)? {
        let path = dirs.leases.join(&name);
        match (name.parse::<u64>(), read(&path)) {
            (Ok(id), Some(lease)) if lease.expires > now => {
                state.leases.insert(id, lease);
            }
            _ => dirs.discard(&path)?,
        }
    }
    Ok(())
}

/// Ends leases of before a crash whose time is over.
pub(crate) fn expire(dirs: &Dirs, now: i64, state: &mut State) -> Vec<PathBuf> {
    let over = state.leases.iter().filter(|(_, lease)| lease.restored && lease.expires <= now).map(|(id, _)| *id);
    let over: Vec<u64> = over.collect();
    for id in &over {
        state.leases.remove(id);
    }
    over.into_iter().map(|id| dirs.leases.join(id.to_string())).collect()
}

fn read(path: &std::path::Path) -> Option<LeaseState> {
    if path.metadata().ok()?.len() > MAX_FILE {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let mut lines = text.lines();
    let expires = lines.next()?.split(' ').next()?.parse().ok()?;
    let mut lease = LeaseState { expires, blobs: HashSet::new(), layers: HashSet::new(), restored: true, file: None };
    for line in lines {
        match line.split_once(' ') {
            Some(("b", digest)) => lease.blobs.extend(digest.parse::<Digest>().ok()),
            Some(("l", digest)) => lease.layers.extend(digest.parse::<Digest>().ok()),
            _ => {}
        }
    }
    Some(lease)
}
