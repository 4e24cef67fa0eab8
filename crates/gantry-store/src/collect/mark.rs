//! What refers to what: from a manifest or an index to the blobs and layers that it needs.
//!
//! An index of which only one platform was pulled is whole for our purposes: what is not here is skipped.

use std::collections::{BTreeMap, HashSet};

use gantry_model::digest::Digest;
use gantry_model::image::{Descriptor, Document, ImageConfig, MAX_CONFIG, MAX_MANIFEST, media};

use crate::blob::read;
use crate::error::{Error, Result};
use crate::hash::chain_ids;
use crate::lease::Lease;
use crate::store::{Claimed, Inner};

/// How deep indexes may lie in each other.
const DEPTH: usize = 8;

/// What a target needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    pub(crate) blobs: HashSet<Digest>,
    /// Chain ids of all its layers.
    pub(crate) layers: HashSet<Digest>,
    /// Of these, the tops: one a platform.
    pub(crate) tops: HashSet<Digest>,
    pub(crate) labels: Vec<BTreeMap<String, String>>,
}

/// What a manifest or index needs. `touch` is called with each digest before it is looked at.
pub(crate) fn needs(inner: &Inner, target: &Descriptor, touch: &mut dyn FnMut(&Digest)) -> Result<Needs> {
    let mut needs = Needs::default();
    let mut stack = vec![(target.clone(), 0)];
    touch(&target.digest);
    needs.blobs.insert(target.digest.clone());
    while let Some((one, depth)) = stack.pop() {
        let Some(document) = document(inner, &one)? else { continue };
        let config = match &document {
            Document::Manifest(manifest) => Some(manifest.config.clone()),
            Document::Index(_) => None,
        };
        for child in document.children() {
            if needs.blobs.insert(child.digest.clone()) {
                touch(&child.digest);
                let known = media::is_index(&child.media_type) || media::is_manifest(&child.media_type);
                if config.is_none() && known && depth < DEPTH {
                    stack.push((child.clone(), depth + 1));
                }
            }
        }
        let Some(config) = config else { continue };
        let Some(bytes) = absent(read(inner, &config.digest, MAX_CONFIG))? else { continue };
        // What is no image (an artifact) has no layers to unpack.
        let Ok(config) = ImageConfig::parse(&bytes) else { continue };
        let chains = chain_ids(&config.rootfs.diff_ids);
        needs.tops.extend(chains.last().cloned());
        needs.layers.extend(chains);
        needs.labels.push(config.config.labels);
    }
    Ok(needs)
}

fn document(inner: &Inner, descriptor: &Descriptor) -> Result<Option<Document>> {
    let Some(bytes) = absent(read(inner, &descriptor.digest, MAX_MANIFEST))? else { return Ok(None) };
    Ok(Document::parse(&bytes, &descriptor.media_type).ok())
}

/// What is not here, or cannot be a document, needs nothing.
fn absent(read: Result<Vec<u8>>) -> Result<Option<Vec<u8>>> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Error::Missing { .. } | Error::TooLarge { .. } | Error::Corrupt { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Lease {
    /// Holds a manifest or index, which is here, and all that it needs and is here.
    pub fn hold_target(&self, target: &Descriptor) -> Result<()> {
        let inner = self.store.inner();
        let needs = needs(inner, target, &mut |digest| {
            let state = inner.unclaimed_by_other(&Claimed::Blob(digest.clone()), self.id);
            self.add_blob(state, digest);
        })?;
        for chain in &needs.layers {
            self.hold_layer(chain)?;
        }
        match self.store.blob_size(&target.digest)? {
            Some(_) => Ok(()),
            None => Err(Error::missing("the manifest", &target.digest)),
        }
    }
}
