//! Removing images, by Docker's rules.
//!
//! A name is taken away; the image goes with its last one. What a container stands on stays, and an id with names in
//! several repositories is removed only by force. What an image alone had is collected at once, not with the next automatic
//! collection: who removes an image wants its room. Trees of layers go to the store's trash, which is emptied in the
//! background.

use std::collections::{BTreeSet, HashSet};

use gantry_model::digest::Digest;
use gantry_model::image::Descriptor;
use gantry_model::reference::Reference;
use gantry_store::{Policy, Store};

use crate::Images;
use crate::docs::Removed;
use crate::error::{Error, Result};
use crate::local::{self, Asked, Local};
use crate::pattern::familiar_name;
use crate::prune::Pruned;

/// A container, as far as images go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerUse {
    /// The container's id.
    pub id: String,
    /// The id of its image.
    pub image: Digest,
    /// Whether it runs.
    pub running: bool,
}

/// How an image is removed.
#[derive(Clone, Debug, Default)]
pub struct RemoveOptions {
    /// Whether names in several repositories, and stopped containers, are no reason to refuse.
    pub force: bool,
    /// The containers that there are.
    pub containers: Vec<ContainerUse>,
}

impl Images {
    /// Takes a name away, and removes the image if it was the last one; or removes an image by its id.
    pub async fn remove(&self, image: &str, options: RemoveOptions) -> Result<Vec<Removed>> {
        Ok(self.remove_counted(image, options).await?.removed)
    }

    /// The same, and tells how many bytes were collected. What others still need is not counted, and stays. The room of
    /// layers comes free as the store's trash is emptied.
    pub async fn remove_counted(&self, image: &str, options: RemoveOptions) -> Result<Pruned> {
        let image = image.to_owned();
        self.blocking("remove", move |store| {
            let removed = remove(store, &image, &options)?;
            // A name alone has no content.
            if !removed.iter().any(|one| matches!(one, Removed::Deleted(_))) {
                return Ok(Pruned { removed, bytes: 0 });
            }
            let collected = store.collect(&Policy::unreferenced(), store.now(), false)?;
            Ok(Pruned { removed, bytes: collected.bytes })
        })
        .await
    }
}

fn remove(store: &Store, text: &str, options: &RemoveOptions) -> Result<Vec<Removed>> {
    let (local, asked) = local::find(store, text)?;
    let users: Vec<&ContainerUse> = options.containers.iter().filter(|one| one.image == *local.image.id()).collect();
    let mut records = Vec::new();
    match asked {
        Asked::Name(asked) => {
            // A name and a digest may stand for the names that lead there.
            let names: Vec<Reference> = if local.names.iter().any(|(there, _)| *there == asked) {
                vec![asked.clone()]
            } else {
                in_repository(&local, &asked)
            };
            let rest = local.names.len() - names.len();
            if let (Some(user), 0, false) = (users.first(), rest, options.force) {
                let (container, image) = (short(&user.id), local.image.id().short());
                return Err(Error::Conflict(format!(
                    "unable to remove repository reference {text:?} (must force) - container {container} is using its \
                     referenced image {image}"
                )));
            }
            untag(store, &local, &names, &mut records)?;
            // What is left has other names; or it is in use, and stays without one.
            if rest > 0 || conflict(&local, &users, options.force).is_some() {
                return Ok(records);
            }
        }
        Asked::Id => {
            let repositories: BTreeSet<String> = local.names.iter().map(|(name, _)| name.name()).collect();
            if repositories.len() > 1 && !options.force {
                let id = local.image.id().short();
                let why = "image is referenced in multiple repositories";
                return Err(Error::Conflict(format!("unable to delete {id} (must be forced) - {why}")));
            }
            if let Some(conflict) = conflict(&local, &users, options.force) {
                return Err(Error::Conflict(conflict));
            }
            untag(store, &local, &local.references(), &mut records)?;
        }
    }
    delete(store, &local, &mut records)?;
    Ok(records)
}

fn in_repository(local: &Local, asked: &Reference) -> Vec<Reference> {
    local.references().into_iter().filter(|name| name.name() == asked.name()).collect()
}

/// Why an image cannot be removed for the containers that use it.
fn conflict(local: &Local, users: &[&ContainerUse], force: bool) -> Option<String> {
    let id = local.image.id().short();
    if let Some(user) = users.iter().find(|user| user.running) {
        let why = format!("image is being used by running container {}", short(&user.id));
        return Some(format!("unable to delete {id} (cannot be forced) - {why}"));
    }
    let user = users.first().filter(|_| !force)?;
    let why = format!("image is being used by stopped container {}", short(&user.id));
    Some(format!("unable to delete {id} (must be forced) - {why}"))
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Takes names away. With the last of a repository goes the name by digest that the repository gave.
fn untag(store: &Store, local: &Local, names: &[Reference], records: &mut Vec<Removed>) -> Result<()> {
    // One that no registry has by its digest had no name by it.
    let by_digest = !crate::query::repo_digests(&local.image, &local.names).is_empty();
    let mut left: Vec<&Reference> =
        local.names.iter().map(|(name, _)| name).filter(|name| !names.contains(name)).collect();
    for name in names {
        let Some(target) = store.untag(name)? else { continue };
        records.push(Removed::Untagged(name.familiar()));
        left.retain(|other| *other != name);
        let last = !left.iter().any(|other| other.name() == name.name())
            && !names.iter().skip_while(|other| *other != name).skip(1).any(|other| other.name() == name.name());
        if by_digest && last && name.digest().is_none() {
            records.push(Removed::Untagged(format!("{}@{}", familiar_name(name), target.digest)));
        }
    }
    Ok(())
}

/// Removes an image that has no names any more, and tells of the layers that go with it.
pub(crate) fn delete(store: &Store, local: &Local, records: &mut Vec<Removed>) -> Result<()> {
    let gone: HashSet<Digest> = local.targets.iter().map(|target| target.digest.clone()).collect();
    let layers = exclusive_layers(store, &gone)?;
    for target in &local.targets {
        match store.remove_target(&target.digest) {
            Ok(_) => {}
            // Somebody else was faster.
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error.into()),
        }
    }
    records.push(Removed::Deleted(local.image.id().to_string()));
    records.extend(layers.into_iter().map(|chain| Removed::Deleted(chain.to_string())));
    Ok(())
}

/// The layers that only these targets have, the top first.
pub(crate) fn exclusive_layers(store: &Store, gone: &HashSet<Digest>) -> Result<Vec<Digest>> {
    let (mut layers, mut kept) = (Vec::new(), HashSet::new());
    for image in store.images()? {
        let is_gone = gone.contains(&image.target.digest);
        for chain in chains(store, &image.target)? {
            if is_gone {
                layers.push(chain);
            } else {
                kept.insert(chain);
            }
        }
    }
    for snapshot in store.snapshots()? {
        let mut next = snapshot.chain().cloned();
        while let Some(chain) = next {
            next = store.layer(&chain)?.and_then(|layer| layer.parent);
            kept.insert(chain);
        }
    }
    let mut seen = HashSet::new();
    layers.retain(|chain| !kept.contains(chain) && seen.insert(chain.clone()));
    Ok(layers)
}

/// The chain ids of all layers of a target, of each image the top first. What cannot be read has none.
fn chains(store: &Store, target: &Descriptor) -> Result<Vec<Digest>> {
    match local::variants(store, target) {
        Ok(variants) => Ok(variants.iter().flat_map(|one| one.chains().into_iter().rev()).collect()),
        Err(Error::Document { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
