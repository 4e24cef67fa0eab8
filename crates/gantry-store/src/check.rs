//! Looking whether a store is what it should be: every blob hashed again, every layer, snapshot and image looked at.

use std::collections::HashSet;

use gantry_model::digest::Digest;

use crate::erofs;
use crate::error::{Error, Result};
use crate::hash::Hasher;
use crate::rows::{BLOBS, BlobRow, LayerKind, LayerRow, TARGETS, TargetRow};
use crate::store::{Claimed, Store};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes of a blob are not those of its digest, or cannot be read.
    Blob {
        /// The blob.
        digest: Digest,
        /// What is wrong.
        why: String,
    },
    /// A layer's tree or its parent is not there.
    Layer {
        /// Its chain id.
        chain: Digest,
        /// What is wrong.
        why: String,
    },
    /// A snapshot's directories or its layers are not there.
    Snapshot {
        /// Its key.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// An image's manifest is not there.
    Image {
        /// The manifest or index.
        target: Digest,
        /// What is wrong.
        why: String,
    },
    /// Something lies in the store that nobody knows.
    Stray {
        /// Where it lies, below the root.
        path: String,
    },
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Blobs that were hashed.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Layers.
    pub layers: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Images.
    pub images: u64,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

impl Store {
    /// Looks at everything; reads every blob. Others may use the store meanwhile: what comes or goes is no fault.
    pub fn check(&self) -> Result<Checked> {
        let mut checked = Checked::default();
        self.check_blobs(&mut checked)?;
        self.check_layers(&mut checked)?;
        self.check_snapshots(&mut checked)?;
        self.check_images(&mut checked)?;
        Ok(checked)
    }

    fn check_blobs(&self, checked: &mut Checked) -> Result<()> {
        let inner = self.inner();
        let rows = inner.db.read("list blobs", |tx| tx.list::<BlobRow>(BLOBS, ""))?;
        let mut known = HashSet::new();
        for (key, row) in rows {
            let digest: Digest = key.parse().map_err(|error| Error::corrupt("a blob's row", format!("{error}")))?;
            let fault = self.check_blob(&digest, row.size);
            // One that was collected meanwhile is none.
            if let Some(why) = fault.filter(|_| matches!(self.blob_size(&digest), Ok(Some(_)))) {
                checked.faults.push(Fault::Blob { digest: digest.clone(), why });
            }
            checked.blobs += 1;
            checked.bytes += row.size;
            known.insert(digest);
        }
        for algorithm in gantry_model::digest::Algorithm::ALL {
            for name in inner.dirs.names(&inner.dirs.blobs(algorithm))? {
                let path = format!("content/blobs/{}/{name}", algorithm.as_str());
                match Digest::from_hex(algorithm, &name) {
                    Ok(digest) if known.contains(&digest) => {}
                    Ok(digest) if self.blob_size(&digest)?.is_some() => {}
                    Ok(digest) if inner.state().claims.contains_key(&Claimed::Blob(digest.clone())) => {}
                    _ => checked.faults.push(Fault::Stray { path }),
                }
            }
        }
        Ok(())
    }

    /// What is wrong with a blob.
    fn check_blob(&self, digest: &Digest, size: u64) -> Option<String> {
        let mut file = match self.open_blob(digest) {
            Ok(file) => file,
            Err(error) => return Some(error.to_string()),
        };
        let mut hasher = Hasher::new(digest.algorithm());
        match hasher.read(&mut file) {
            Ok(read) if read != size => Some(format!("it has {read} bytes instead of {size}")),
            Ok(_) => match hasher.finish() {
                Ok(found) if found == *digest => None,
                Ok(found) => Some(format!("its bytes have the digest {found}")),
                Err(error) => Some(error.to_string()),
            },
            Err(error) => Some(error.to_string()),
        }
    }

    fn check_layers(&self, checked: &mut Checked) -> Result<()> {
        let inner = self.inner();
        let layers = inner.state().layers.clone();
        for row in layers.values() {
            checked.layers += 1;
            let dir = inner.dirs.layer(row.number);
            let record = std::fs::read(dir.join("record")).ok().and_then(|text| serde_json::from_slice(&text).ok());
            let why = match record {
                _ if row.kind == LayerKind::Directory && !dir.join("fs").is_dir() => "its tree is not there",
                _ if erofs::is_broken(&dir, &row.kind) => "its image is not there, or is none",
                Some::<LayerRow>(record) if record.chain != row.chain => "its record is of another layer",
                None => "its record cannot be read",
                Some(_) if row.parent.as_ref().is_some_and(|parent| !layers.contains_key(parent)) => {
                    "the layer below it is not there"
                }
                Some(_) => continue,
            };
            if inner.state().layers.contains_key(&row.chain) {
                checked.faults.push(Fault::Layer { chain: row.chain.clone(), why: why.to_owned() });
            }
        }
        let now: HashSet<String> = {
            let state = inner.state();
            layers.values().chain(state.layers.values()).map(|row| row.number.to_string()).collect()
        };
        // What is published gets its row just after its name.
        let busy = inner.state().claims.keys().any(|claim| matches!(claim, Claimed::Layer(_)));
        let strays = inner.dirs.names(&inner.dirs.layers)?.into_iter().filter(|name| !busy && !now.contains(name));
        checked.faults.extend(strays.map(|name| Fault::Stray { path: format!("layers/{name}") }));
        Ok(())
    }

    fn check_snapshots(&self, checked: &mut Checked) -> Result<()> {
        for snapshot in self.snapshots()? {
            checked.snapshots += 1;
            let dir = snapshot.dir();
            let lost = snapshot.chain().is_some_and(|chain| !self.inner().state().layers.contains_key(chain));
            let why = match () {
                () if lost => "its layers are not there: pull or unpack its image again",
                () if !dir.join("fs").is_dir() || !dir.join("work").is_dir() => "its directories are not there",
                () => continue,
            };
            if self.snapshot(snapshot.key())?.is_some() {
                checked.faults.push(Fault::Snapshot { key: snapshot.key().to_owned(), why: why.to_owned() });
            }
        }
        Ok(())
    }

    fn check_images(&self, checked: &mut Checked) -> Result<()> {
        let inner = self.inner();
        for (_, row) in inner.db.read("list images", |tx| tx.list::<TargetRow>(TARGETS, ""))? {
            checked.images += 1;
            let target = row.descriptor.digest;
            if let Err(error) = self.read_blob(&target, gantry_model::image::MAX_MANIFEST) {
                checked.faults.push(Fault::Image { target, why: error.to_string() });
            }
        }
        Ok(())
    }
}
