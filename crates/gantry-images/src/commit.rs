//! From what was written to a snapshot to an image of one layer more.

use std::thread;

use gantry_model::digest::Digest;
use gantry_model::image::{ContainerConfig, Descriptor, History, ImageConfig, media};
use gantry_model::platform::Platform;
use gantry_model::reference::Reference;
use gantry_store::layer::DiffOptions;
use gantry_store::{Lease, PendingLayer, Store};

use crate::error::{Error, Result};
use crate::import::receive;
use crate::local::{Loaded, select};
use crate::save::plain_manifest;
use crate::{Images, LEASE, changes, plan, time};

/// Fields of older configurations that tell of one container or build, and would be false of an image made from it.
const OF_ONE_IMAGE: [&str; 6] = ["container", "container_config", "docker_version", "id", "parent", "throwaway"];
/// Beginning of the names of fields that tell of one build.
const OF_ONE_BUILD: &str = "moby.buildkit.";

/// What becomes of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// The name that the image gets.
    pub name: Option<Reference>,
    /// Who made it.
    pub author: Option<String>,
    /// The comment of the layer.
    pub message: Option<String>,
    /// What made it, for its history.
    pub created_by: String,
    /// Changes of the configuration: `CMD ["sh"]`.
    pub changes: Vec<String>,
    /// Files that do not belong to it if they are empty: places of what was mounted in the container.
    pub places: &'static [&'static str],
}

impl Images {
    /// Makes an image of what was written to a snapshot on top of the image that it stands on; none for one that began
    /// empty. Returns the new image's id. What writes to the snapshot should be paused meanwhile.
    ///
    /// # Errors
    /// The snapshot or the image below it is not here, the snapshot stands on other layers than that image has, or a change
    /// cannot be made.
    pub async fn commit(
        &self,
        key: &str,
        parent: Option<&Descriptor>,
        config: ContainerConfig,
        options: CommitOptions,
    ) -> Result<Digest> {
        let (key, parent) = (key.to_owned(), parent.cloned());
        self.blocking("commit", move |store| {
            let mut config = config;
            for change in &options.changes {
                changes::apply(&mut config, change)?;
            }
            commit(store, &key, parent.as_ref(), config, &options)
        })
        .await
    }
}

fn commit(
    store: &Store,
    key: &str,
    parent: Option<&Descriptor>,
    config: ContainerConfig,
    options: &CommitOptions,
) -> Result<Digest> {
    let lease = store.lease("commit", LEASE)?;
    let below = parent.map(|parent| select(store, key, parent, None)).transpose()?;
    if let Some(parent) = parent {
        lease.hold_target(parent)?;
    }
    let top = below.as_ref().and_then(Loaded::top);
    let snapshot = store.snapshot(key)?.ok_or_else(|| Error::invalid("snapshot", key, "it is not in the store"))?;
    if snapshot.chain() != top.as_ref() {
        return Err(Error::invalid("snapshot", key, "it stands on other layers than the image that was given with it"));
    }
    let (pending, blob) = pack(store, &lease, key, options.places)?;
    let diff_id = pending.diff_id().clone();
    store.note_blob(&diff_id, &blob)?;
    store.commit_layer(&lease, top.as_ref(), pending)?;
    let created = Some(time::format(store.now()));
    let new = || ImageConfig { platform: Platform::host(), ..ImageConfig::default() };
    let mut image = below.as_ref().map_or_else(new, |below| below.config.clone());
    image.config = config;
    image.created.clone_from(&created);
    image.author.clone_from(&options.author);
    "layers".clone_into(&mut image.rootfs.kind);
    image.rootfs.diff_ids.push(diff_id);
    image.history.push(History {
        created,
        created_by: Some(options.created_by.clone()).filter(|text| !text.is_empty()),
        author: options.author.clone(),
        comment: options.message.clone(),
        empty_layer: false,
    });
    image.other.retain(|name, _| !OF_ONE_IMAGE.contains(&name.as_str()) && !name.starts_with(OF_ONE_BUILD));
    let layers = layers(below.as_ref(), blob);
    publish(store, &lease, &image, layers, options.name.as_ref())
}

/// The blobs of the new image's layers, with the media types that belong into an OCI manifest.
fn layers(below: Option<&Loaded>, top: Descriptor) -> Vec<Descriptor> {
    let below = below.map_or(&[][..], |below| &below.manifest.layers).iter().cloned().map(|mut layer| {
        if let (Some(how), true) = (plan::compression(&layer.media_type), layer.media_type.contains("docker")) {
            plan::layer_type(media::OCI_MANIFEST, how).clone_into(&mut layer.media_type);
        }
        layer
    });
    below.chain([top]).collect()
}

/// Keeps an image of these layers, under a name or without one. Returns its id.
pub(crate) fn publish(
    store: &Store,
    lease: &Lease,
    image: &ImageConfig,
    layers: Vec<Descriptor>,
    name: Option<&Reference>,
) -> Result<Digest> {
    let bytes = serde_json::to_vec(image).map_err(|error| Error::document("configuration", error))?;
    let id = store.put_blob(lease, &bytes)?;
    let manifest = plain_manifest(id.clone(), bytes.len() as u64, layers);
    let bytes = serde_json::to_vec(&manifest).map_err(|error| Error::document("manifest", error))?;
    let digest = store.put_blob(lease, &bytes)?;
    let target = Descriptor::new(media::OCI_MANIFEST, digest, bytes.len() as u64);
    match name {
        Some(name) => drop(store.tag(lease, &name.clone().with_default_tag(), &target)?),
        None => store.keep_target(lease, &target)?,
    }
    Ok(id)
}

/// Writes what is in a snapshot to a blob, and unpacks it as a layer at the same time.
fn pack(
    store: &Store,
    lease: &Lease,
    key: &str,
    places: &'static [&'static str],
) -> Result<(PendingLayer, Descriptor)> {
    let (reader, mut writer) = std::io::pipe().map_err(Error::io("make a pipe"))?;
    thread::scope(|scope| {
        let packer = scope.spawn(move || {
            store.diff_snapshot_with(key, DiffOptions { places, ..DiffOptions::default() }, &mut writer).map(drop)
        });
        let received = receive(store, lease, reader);
        let packed = packer.join().map_err(|_| Error::Task("commit"))?;
        match (received, packed) {
            (Ok(received), Ok(())) => Ok(received),
            (Err(error), Ok(())) => Err(error),
            (_, Err(error)) => Err(error.into()),
        }
    })
}
