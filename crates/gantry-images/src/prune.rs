//! Removing what nobody needs.

use std::collections::HashSet;

use gantry_model::digest::Digest;
use gantry_store::{Policy, Store};

use crate::Images;
use crate::docs::{self, Removed};
use crate::error::Result;
use crate::filter::{Filter, Filters, Subject};
use crate::local::{self, Local};
use crate::remove::{ContainerUse, delete, exclusive_layers};

/// What is pruned.
#[derive(Clone, Debug, Default)]
pub struct PruneOptions {
    /// `dangling`, `label`, `label!` and `until`. Without `dangling=false` only images without a name go.
    pub filters: Filters,
    /// Whether it is only told what would be removed.
    pub dry_run: bool,
    /// The containers that there are. Their images stay.
    pub containers: Vec<ContainerUse>,
}

/// What was removed or pruned, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names, images and layers.
    pub removed: Vec<Removed>,
    /// Bytes that became free.
    pub bytes: u64,
}

impl Images {
    /// Removes images that have no name, or with `dangling=false` all that no container uses.
    pub async fn prune(&self, options: PruneOptions) -> Result<Pruned> {
        self.blocking("prune", move |store| prune(store, &options)).await
    }
}

fn prune(store: &Store, options: &PruneOptions) -> Result<Pruned> {
    let filter = Filter::of_prune(&options.filters, store.now())?;
    let mut used: HashSet<Digest> = options.containers.iter().map(|one| one.image.clone()).collect();
    let tops: HashSet<Digest> = store.snapshots()?.iter().filter_map(|one| one.chain().cloned()).collect();
    let all = local::all(store)?;
    used.extend(
        all.iter()
            .filter(|one| one.image.top().is_some_and(|top| tops.contains(&top)))
            .map(|one| one.image.id().clone()),
    );
    let picked = |one: &&Local| {
        let names = one.references();
        let config = &one.image.config;
        let subject = Subject { names: &names, labels: &config.config.labels, created: docs::created(config) };
        !used.contains(one.image.id()) && filter.matches(subject)
    };
    let picked: Vec<&Local> = all.iter().filter(picked).collect();
    if options.dry_run {
        return dry(store, &picked);
    }
    let mut removed = Vec::new();
    for one in picked {
        for name in one.references() {
            if store.untag(&name)?.is_some() {
                removed.push(Removed::Untagged(name.familiar()));
            }
        }
        delete(store, one, &mut removed)?;
    }
    let collected = store.collect(&Policy::unreferenced(), store.now(), false)?;
    // Who prunes wants the room more than the beginnings of downloads that may never go on.
    let partials = store.forget_partials(false)?;
    Ok(Pruned { removed, bytes: collected.bytes + partials.bytes })
}

/// What would be removed: the images, the layers that only they have, and their blobs.
fn dry(store: &Store, picked: &[&Local]) -> Result<Pruned> {
    let gone: HashSet<Digest> =
        picked.iter().flat_map(|one| one.targets.iter().map(|target| target.digest.clone())).collect();
    let mut pruned = Pruned { bytes: store.usage()?.unreferenced, ..Pruned::default() };
    for one in picked {
        pruned.removed.extend(one.references().iter().map(|name| Removed::Untagged(name.familiar())));
        pruned.removed.push(Removed::Deleted(one.image.id().to_string()));
    }
    for chain in exclusive_layers(store, &gone)? {
        pruned.bytes += store.layer(&chain)?.map_or(0, |layer| layer.size);
        pruned.removed.push(Removed::Deleted(chain.to_string()));
    }
    for blob in exclusive_blobs(store, &gone)? {
        pruned.bytes += store.blob_size(&blob)?.unwrap_or_default();
    }
    Ok(pruned)
}

/// The blobs that only these targets have.
fn exclusive_blobs(store: &Store, gone: &HashSet<Digest>) -> Result<HashSet<Digest>> {
    let (mut blobs, mut kept) = (HashSet::new(), HashSet::new());
    for image in store.images()? {
        let list = if gone.contains(&image.target.digest) { &mut blobs } else { &mut kept };
        list.insert(image.target.digest.clone());
        for one in local::variants(store, &image.target)? {
            list.extend([one.descriptor.digest, one.manifest.config.digest]);
            list.extend(one.manifest.layers.into_iter().map(|layer| layer.digest));
        }
    }
    blobs.retain(|blob| !kept.contains(blob));
    Ok(blobs)
}
