//! Putting in order what a crash left behind.
//!
//! Everything is renamed into place when it is whole, and says what it is without the database: a blob by its name, a
//! layer and a snapshot by their `record`. So rows that were lost are made again, things that are half are those in `tmp`,
//! and opening costs one look at each directory. Nothing is deleted here but names: trees go to the trash.
//!
//! After a loss of power, files that were not synced may be empty. Blobs were, before they got their names. Layers are not,
//! since they can be unpacked again: a layer's row says in which boot it was unpacked until the keeper has synced the file
//! system, and if that was another boot the layer is thrown away. So nobody waits for the disk when layers are unpacked.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use gantry_model::digest::{Algorithm, Digest};

use crate::error::{Error, Result, io_error};
use crate::hash::Hasher;
use crate::rows::{BLOBS, BlobRow, LAYERS, LayerRow, META, NAMES, TARGETS, TargetRow, VERSION};
use crate::store::Inner;
use crate::{index, lease, snapshot};

/// Largest record of a layer that is read.
const MAX_RECORD: u64 = 64 << 10;

/// Which boot of the machine this is.
pub(crate) fn boot_id(root: &Path) -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let read = std::fs::read_to_string(path);
    read.map(|text| text.trim().to_owned()).map_err(|error| io_error(root, format!("read {path}"), None, error))
}

/// Brings a store that was just opened into order.
pub(crate) fn run(inner: &Inner) -> Result<()> {
    version(inner)?;
    for name in inner.dirs.names(&inner.dirs.tmp)? {
        inner.dirs.discard(&inner.dirs.tmp.join(name))?;
    }
    {
        let mut state = inner.state();
        lease::restore(&inner.dirs, inner.now(), &mut state)?;
    }
    let blobs = blobs(inner)?;
    let layers = layers(inner)?;
    let bytes = blobs.values().map(|row| row.size).chain(layers.values().map(|row| row.size)).sum();
    inner.bytes.store(bytes, Ordering::Relaxed);
    let snapshots = snapshot::restore(inner)?;
    let mut state = inner.state();
    (state.layers, state.snapshots) = (layers, snapshots);
    drop(state);
    targets(inner)?;
    index::write(inner)
}

/// Refuses a store of a later program; writes the version into a new one.
fn version(inner: &Inner) -> Result<()> {
    match inner.db.read("read the version of the store", |tx| tx.get::<u32>(META, "version"))? {
        Some(VERSION) => Ok(()),
        None => inner.db.write("write the version of the store", true, |tx| tx.put(META, "version", &VERSION)),
        Some(other) => {
            let why = format!("its layout has version {other}, this program knows {VERSION}: use a newer program");
            Err(Error::corrupt(format!("the store {}", inner.dirs.root.display()), why))
        }
    }
}

/// Blobs on disk with their sizes. What is named like none is thrown away.
fn blob_files(inner: &Inner) -> Result<HashMap<Digest, u64>> {
    let mut files = HashMap::new();
    for algorithm in Algorithm::ALL {
        let dir = inner.dirs.blobs(algorithm);
        for name in inner.dirs.names(&dir)? {
            let path = dir.join(&name);
            let stat = path.symlink_metadata().map_err(|error| inner.dirs.error(format!("stat {name}"), error))?;
            match Digest::from_hex(algorithm, &name) {
                Ok(digest) if stat.is_file() => {
                    files.insert(digest, stat.len());
                }
                _ => inner.dirs.discard(&path)?,
            }
        }
    }
    Ok(files)
}

/// Brings the rows of blobs and their files together.
fn blobs(inner: &Inner) -> Result<HashMap<Digest, BlobRow>> {
    let mut files = blob_files(inner)?;
    let rows = inner.db.read("list blobs", |tx| tx.list::<BlobRow>(BLOBS, ""))?;
    let mut here = HashMap::new();
    let mut gone = Vec::new();
    for (key, row) in rows {
        let digest: Digest = key.parse().map_err(|error| Error::corrupt("a blob's row", format!("{error}")))?;
        match files.remove(&digest) {
            Some(size) if size == row.size => {
                here.insert(digest, row);
            }
            found => {
                tracing::warn!(%digest, ?found, "a blob is not as it was, and is forgotten");
                if found.is_some() {
                    inner.dirs.discard(&inner.dirs.blob(&digest))?;
                }
                gone.push(key);
            }
        }
    }
    let mut found = Vec::new();
    // A name without a row is newer than the last durable commit: its name may have reached the disk before its bytes.
    for (digest, size) in files {
        if whole(inner, &digest)? {
            let row = BlobRow { size, created: inner.now() };
            found.push((digest.to_string(), row.clone()));
            here.insert(digest, row);
        } else {
            inner.dirs.discard(&inner.dirs.blob(&digest))?;
        }
    }
    if !gone.is_empty() || !found.is_empty() {
        inner.db.write("bring blobs into order", true, |tx| {
            gone.iter().try_for_each(|key| tx.remove(BLOBS, key).map(|_| ()))?;
            found.iter().try_for_each(|(key, row)| tx.put(BLOBS, key, row))
        })?;
    }
    Ok(here)
}

/// Whether a blob's bytes are those of its name. They are synced if so.
fn whole(inner: &Inner, digest: &Digest) -> Result<bool> {
    let fail = |error: io::Error| inner.dirs.error(format!("verify blob {digest}"), error);
    let mut file = std::fs::File::open(inner.dirs.blob(digest)).map_err(fail)?;
    let mut hasher = Hasher::new(digest.algorithm());
    hasher.read(&mut file).map_err(fail)?;
    file.sync_data().map_err(fail)?;
    Ok(hasher.finish()? == *digest)
}

/// Brings the rows of layers and their directories together.
fn layers(inner: &Inner) -> Result<HashMap<Digest, LayerRow>> {
    let mut dirs: HashSet<String> = inner.dirs.names(&inner.dirs.layers)?.into_iter().collect();
    let rows = inner.db.read("list layers", |tx| tx.list::<LayerRow>(LAYERS, ""))?;
    let mut candidates = HashMap::new();
    let mut known = HashSet::new();
    for (key, row) in rows {
        known.insert(key);
        let other_boot = row.boot.as_ref().is_some_and(|boot| *boot != inner.boot);
        if !other_boot && dirs.remove(&row.number.to_string()) {
            candidates.insert(row.chain.clone(), row);
        }
    }
    let mut fresh = Vec::new();
    for name in dirs {
        let row = record(&inner.dirs.layers.join(&name)).filter(|row| row.number.to_string() == name);
        match row {
            Some(row) if row.boot.as_ref() == Some(&inner.boot) && !candidates.contains_key(&row.chain) => {
                fresh.push(row.chain.clone());
                candidates.insert(row.chain.clone(), row);
            }
            _ => inner.dirs.discard(&inner.dirs.layers.join(&name))?,
        }
    }
    let here = rooted(candidates, |row| inner.dirs.discard(&inner.dirs.layer(row.number)))?;
    let gone: Vec<&String> =
        known.iter().filter(|key| key.parse::<Digest>().map_or(true, |chain| !here.contains_key(&chain))).collect();
    let fresh: Vec<&LayerRow> = fresh.iter().filter_map(|chain| here.get(chain)).collect();
    if !gone.is_empty() || !fresh.is_empty() {
        inner.db.write("bring layers into order", true, |tx| {
            gone.iter().try_for_each(|key| tx.remove(LAYERS, key).map(|_| ()))?;
            fresh.iter().try_for_each(|row| tx.put(LAYERS, &row.chain.to_string(), row))
        })?;
    }
    Ok(here)
}

/// Keeps the layers whose parents are all here; the others are handed to `discard`.
fn rooted(
    mut layers: HashMap<Digest, LayerRow>,
    discard: impl Fn(&LayerRow) -> Result<()>,
) -> Result<HashMap<Digest, LayerRow>> {
    loop {
        let orphan = |row: &LayerRow| row.parent.as_ref().is_some_and(|parent| !layers.contains_key(parent));
        let orphans: Vec<Digest> = layers.values().filter(|row| orphan(row)).map(|row| row.chain.clone()).collect();
        if orphans.is_empty() {
            return Ok(layers);
        }
        for chain in orphans {
            if let Some(row) = layers.remove(&chain) {
                tracing::warn!(%chain, "a layer lost what it stands on, and is unpacked again when it is needed");
                discard(&row)?;
            }
        }
    }
}

/// What a layer's directory says of itself.
fn record(dir: &Path) -> Option<LayerRow> {
    let path = dir.join("record");
    if path.symlink_metadata().ok()?.size() > MAX_RECORD {
        return None;
    }
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Drops images whose manifest is gone, and names that lead nowhere.
fn targets(inner: &Inner) -> Result<()> {
    let (targets, names, blobs) = inner.db.read("list images", |tx| {
        let targets = tx.list::<TargetRow>(TARGETS, "")?;
        let blobs = tx.list::<BlobRow>(BLOBS, "")?;
        Ok((targets, tx.list::<String>(NAMES, "")?, blobs))
    })?;
    let blobs: HashSet<String> = blobs.into_iter().map(|(key, _)| key).collect();
    let lost: HashSet<String> = targets.iter().map(|(key, _)| key.clone()).filter(|key| !blobs.contains(key)).collect();
    let known: HashSet<String> = targets.into_iter().map(|(key, _)| key).collect();
    let nowhere = |target: &String| lost.contains(target) || !known.contains(target);
    let names: Vec<String> = names.into_iter().filter(|(_, target)| nowhere(target)).map(|(name, _)| name).collect();
    if lost.is_empty() && names.is_empty() {
        return Ok(());
    }
    tracing::warn!(?lost, ?names, "images whose manifest is gone are forgotten: pull them again");
    inner.db.write("bring images into order", true, |tx| {
        lost.iter().try_for_each(|key| tx.remove(TARGETS, key).map(|_| ()))?;
        names.iter().try_for_each(|name| tx.remove(NAMES, name).map(|_| ()))
    })
}

/// Writes rows again that were lost with a database that had to be opened anew: what lies on disk is right.
pub(crate) fn restore_rows(inner: &Inner) -> Result<()> {
    let files = blob_files(inner)?;
    let layers = inner.state().layers.clone();
    let now = inner.now();
    inner.db.write("write rows again", false, |tx| {
        for (key, _) in tx.list::<BlobRow>(BLOBS)? {
            if !key.parse::<Digest>().is_ok_and(|digest| files.contains_key(&digest)) {
                tx.remove(BLOBS, &key)?;
            }
        }
        for (digest, size) in &files {
            let key = digest.to_string();
            if tx.get::<BlobRow>(BLOBS, &key)?.is_none() {
                tx.put(BLOBS, &key, &BlobRow { size: *size, created: now })?;
            }
        }
        for (key, _) in tx.list::<LayerRow>(LAYERS)? {
            if !key.parse::<Digest>().is_ok_and(|chain| layers.contains_key(&chain)) {
                tx.remove(LAYERS, &key)?;
            }
        }
        layers.iter().try_for_each(|(chain, row)| tx.put(LAYERS, &chain.to_string(), row))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::LayerKind;

    #[test]
    fn layers_need_their_parents() {
        let digest = |name: &str| -> Digest { format!("sha256:{}", name.repeat(64)).parse().unwrap() };
        let check = |layers: &[(&str, Option<&str>)], expect: &[&str]| {
            let row = |name: &str, parent: Option<&str>| LayerRow {
                number: 1,
                chain: digest(name),
                parent: parent.map(digest),
                diff_id: digest(name),
                size: 0,
                created: 0,
                used: 0,
                kind: LayerKind::Directory,
                boot: None,
            };
            let all = layers.iter().map(|(name, parent)| (digest(name), row(name, *parent))).collect();
            let here = rooted(all, |_| Ok(())).unwrap();
            let mut names: Vec<Digest> = here.into_keys().collect();
            names.sort();
            assert_eq!(names, expect.iter().map(|name| digest(name)).collect::<Vec<_>>());
        };
        check(&[("a", None), ("b", Some("a")), ("c", Some("b"))], &["a", "b", "c"]);
        check(&[("b", Some("a")), ("c", Some("b")), ("d", None)], &["d"]);
        check(&[], &[]);
    }
}
