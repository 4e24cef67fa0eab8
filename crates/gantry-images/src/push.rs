//! Pushing: from the store to a registry, with what is compressed on the way.
//!
//! What the registry has is not sent, and what another of its repositories has is asked to be taken from there: the names
//! of the images that are here tell which. A layer that is not compressed is compressed while it is sent; what comes out is
//! kept, and the name points from then on to what was pushed, so that a second push sends nothing. Other names of the image
//! stay as they are; with the last of them the uncompressed blob is collected.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gantry_model::digest::Digest;
use gantry_model::image::{
    Compression, Descriptor, Document, ImageConfig, Index, MAX_CONFIG, MAX_MANIFEST, Manifest, media,
};
use gantry_model::platform::Platform;
use gantry_model::reference::Reference;
use gantry_store::{Lease, Store, chain_ids};

use crate::compress::Method;
use crate::error::{Error, Result};
use crate::progress::{Meter, Progress, Reporter, Step};
use crate::pull::{Task, turn};
use crate::upload::{self, Sender};
use crate::{Images, LEASE, local, plan};

/// Repositories that are tried for a mount.
const MOST_MOUNTS: usize = 3;
/// How deep indexes may lie in each other.
const DEPTH: usize = 4;

/// How an image is pushed.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// Only the image of this platform. Without it everything is pushed that the name points to; if some of it is not
    /// here, the image for this host alone.
    pub platform: Option<Platform>,
    /// What layers that are not compressed become: gzip without it.
    pub compression: Option<Compression>,
    /// The level of it.
    pub level: Option<u32>,
    /// Whether layers that are compressed otherwise are compressed anew.
    pub recompress: bool,
}

/// What was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The name.
    pub name: Reference,
    /// What it points to at the registry.
    pub target: Descriptor,
}

/// A manifest or index to push, and what is below it.
struct Node {
    descriptor: Descriptor,
    bytes: Vec<u8>,
    kind: NodeKind,
}

enum NodeKind {
    Index(Box<Index>, Vec<Node>),
    Image(Box<Manifest>, Vec<LayerPush>),
}

/// A layer to push.
#[derive(Clone, Debug)]
pub(crate) struct LayerPush {
    /// As the manifest has it.
    pub(crate) blob: Descriptor,
    /// The type of that manifest.
    pub(crate) manifest_type: String,
    /// The digest of its uncompressed archive, and what it is in the store. None for what is no layer of an image.
    pub(crate) layer: Option<(Digest, Digest)>,
}

impl Images {
    /// Pushes an image to the registry of its name.
    pub async fn push(&self, name: &Reference, options: PushOptions, reporter: Reporter) -> Result<Pushed> {
        let name = name.clone().with_default_tag();
        let method = Method::new(options.compression.unwrap_or(Compression::Gzip), options.level)?;
        let (wanted, platform, report) = (name.clone(), options.platform.clone(), reporter.clone());
        let (lease, tree, mounts, old) = self
            .blocking("push", move |store| {
                let lease = store.lease(&format!("push {wanted}"), LEASE)?;
                let target = store.image(&wanted)?.ok_or_else(|| Error::NotLocal(wanted.familiar()))?;
                lease.hold_target(&target)?;
                let tree = tree(store, &lease, &wanted, &target, platform.as_ref(), &report)?;
                Ok((Arc::new(lease), tree, mounts(store, &wanted)?, target))
            })
            .await?;
        let whole = tree.descriptor.digest == old.digest;
        let sender = Arc::new(Sender {
            images: self.clone(),
            name: name.clone(),
            lease: lease.clone(),
            method,
            recompress: options.recompress,
            mounts,
            reporter,
        });
        let blobs = send_layers(&sender, &tree).await?;
        let mut documents = Vec::new();
        let target = rebuild(tree, &blobs, &mut documents)?;
        for (descriptor, bytes, config) in &documents {
            if let Some(config) = config {
                sender.config(config).await?;
            }
            let to = if descriptor.digest == target.digest { name.clone() } else { name.at(descriptor.digest.clone()) };
            self.client().push_manifest(&to, &descriptor.media_type, bytes.clone().into()).await?;
        }
        if whole && target.digest != old.digest {
            let (pushed, new) = (name.clone(), target.clone());
            self.blocking("push", move |store| replace(store, &lease, &pushed, &old, &new, &documents)).await?;
        }
        Ok(Pushed { name, target })
    }
}

/// A document to push: its descriptor, its bytes, and its configuration, which comes first.
type PushDocument = (Descriptor, Vec<u8>, Option<Descriptor>);

/// Reads what is to be pushed.
fn tree(
    store: &Store,
    lease: &Lease,
    name: &Reference,
    target: &Descriptor,
    platform: Option<&Platform>,
    reporter: &Reporter,
) -> Result<Node> {
    if platform.is_none()
        && let Some(node) = node(store, lease, target, 0)?
    {
        return Ok(node);
    }
    let image = local::select(store, &name.familiar(), target, platform)?;
    if platform.is_none() {
        let (name, platform) = (name.familiar(), image.platform());
        reporter(Progress::Note(format!("not all platforms of {name} are here: only {platform} is pushed")));
    }
    node(store, lease, &image.descriptor, 0)?.ok_or_else(|| Error::NoSuchImage(name.familiar()))
}

/// A document with all below it; none if some of it is not here.
fn node(store: &Store, lease: &Lease, descriptor: &Descriptor, depth: usize) -> Result<Option<Node>> {
    if depth > DEPTH || store.blob_size(&descriptor.digest)?.is_none() {
        return Ok(None);
    }
    let bytes = store.read_blob(&descriptor.digest, MAX_MANIFEST)?;
    let parsed = Document::parse(&bytes, &descriptor.media_type);
    let kind = match parsed.map_err(|error| Error::document(format!("manifest {}", descriptor.digest), error))? {
        Document::Manifest(manifest) => {
            if store.blob_size(&manifest.config.digest)?.is_none() {
                return Ok(None);
            }
            let layers = layers(store, &manifest, &descriptor.media_type)?;
            for layer in &layers {
                let unpacked = match &layer.layer {
                    Some((diff_id, chain)) => {
                        lease.hold_layer(chain)?.is_some() || !store.blobs_of(diff_id)?.is_empty()
                    }
                    None => false,
                };
                if !unpacked && store.blob_size(&layer.blob.digest)?.is_none() {
                    return Ok(None);
                }
            }
            NodeKind::Image(Box::new(manifest), layers)
        }
        Document::Index(index) => {
            let mut children = Vec::new();
            for child in &index.manifests {
                let Some(child) = node(store, lease, child, depth + 1)? else { return Ok(None) };
                children.push(child);
            }
            NodeKind::Index(Box::new(index), children)
        }
    };
    Ok(Some(Node { descriptor: descriptor.clone(), bytes, kind }))
}

fn layers(store: &Store, manifest: &Manifest, manifest_type: &str) -> Result<Vec<LayerPush>> {
    // What is no image has a configuration that says nothing of layers.
    let config = store.read_blob(&manifest.config.digest, MAX_CONFIG).map(|bytes| ImageConfig::parse(&bytes).ok())?;
    let diff_ids = config.map(|config| config.rootfs.diff_ids).filter(|ids| ids.len() == manifest.layers.len());
    let known: Vec<Option<(Digest, Digest)>> = match diff_ids {
        Some(ids) => ids.iter().cloned().zip(chain_ids(&ids)).map(Some).collect(),
        None => vec![None; manifest.layers.len()],
    };
    let manifest_type = if manifest_type.is_empty() { media::OCI_MANIFEST } else { manifest_type };
    let push = |(blob, layer): (&Descriptor, Option<(Digest, Digest)>)| LayerPush {
        blob: blob.clone(),
        manifest_type: manifest_type.to_owned(),
        layer,
    };
    Ok(manifest.layers.iter().zip(known).map(push).collect())
}

/// In which other repositories of the same registry blobs are, as the images here tell.
fn mounts(store: &Store, name: &Reference) -> Result<HashMap<Digest, Vec<String>>> {
    let mut mounts: HashMap<Digest, Vec<String>> = HashMap::new();
    for image in store.images()? {
        let elsewhere = |one: &&Reference| one.registry() == name.registry() && one.repository() != name.repository();
        let repositories: Vec<&str> = image.names.iter().filter(elsewhere).map(Reference::repository).collect();
        if repositories.is_empty() {
            continue;
        }
        for variant in local::variants(store, &image.target).unwrap_or_default() {
            for blob in variant.manifest.layers.iter().chain([&variant.manifest.config]) {
                let list = mounts.entry(blob.digest.clone()).or_default();
                for repository in &repositories {
                    if list.len() < MOST_MOUNTS && !list.iter().any(|there| there == repository) {
                        list.push((*repository).to_owned());
                    }
                }
            }
        }
    }
    Ok(mounts)
}

/// Sends all layers, several at a time. Returns what each blob became.
async fn send_layers(sender: &Arc<Sender>, tree: &Node) -> Result<HashMap<Digest, Descriptor>> {
    let mut layers = BTreeMap::new();
    gather(tree, &mut layers);
    let mut tasks = Vec::new();
    for (digest, layer) in layers {
        Meter::new(&sender.reporter, &digest).tell(Step::Waiting { total: layer.blob.size });
        let sender = sender.clone();
        tasks.push((
            digest,
            Task::spawn(async move {
                let _turn = turn(&sender.images.uploads).await?;
                upload::layer(&sender, &layer).await
            }),
        ));
    }
    let mut blobs = HashMap::new();
    for (digest, task) in tasks {
        blobs.insert(digest, task.join().await??);
    }
    Ok(blobs)
}

fn gather(node: &Node, layers: &mut BTreeMap<Digest, LayerPush>) {
    match &node.kind {
        NodeKind::Image(_, list) => layers.extend(list.iter().map(|one| (one.blob.digest.clone(), one.clone()))),
        NodeKind::Index(_, children) => children.iter().for_each(|child| gather(child, layers)),
    }
}

/// The documents to push, the lowest first, with blobs as they became. Returns the descriptor of the top one.
fn rebuild(node: Node, blobs: &HashMap<Digest, Descriptor>, documents: &mut Vec<PushDocument>) -> Result<Descriptor> {
    let Node { descriptor, bytes, kind } = node;
    let (descriptor, bytes, config) = match kind {
        NodeKind::Image(manifest, _) => {
            let config = manifest.config.clone();
            match changed(&manifest, blobs) {
                None => (descriptor, bytes, Some(config)),
                Some(layers) => {
                    let (kind, manifest) = rewritten(*manifest, &descriptor.media_type, layers);
                    let bytes = json(&manifest)?;
                    (of_bytes(&descriptor, kind, &bytes)?, bytes, Some(config))
                }
            }
        }
        NodeKind::Index(mut index, children) => {
            let mut renamed = Vec::new();
            for (entry, child) in index.manifests.iter_mut().zip(children) {
                let new = rebuild(child, blobs, documents)?;
                if new.digest != entry.digest {
                    renamed.push((entry.digest.to_string(), new.digest.to_string()));
                    (entry.media_type, entry.digest, entry.size) = (new.media_type, new.digest, new.size);
                }
            }
            if renamed.is_empty() {
                (descriptor, bytes, None)
            } else {
                follow(&mut index, &renamed);
                let bytes = json(&index)?;
                (of_bytes(&descriptor, descriptor.media_type.clone(), &bytes)?, bytes, None)
            }
        }
    };
    documents.push((descriptor.clone(), bytes, config));
    Ok(descriptor)
}

/// Attestations name the manifest that they are about.
fn follow(index: &mut Index, renamed: &[(String, String)]) {
    for entry in &mut index.manifests {
        if let Some(about) = entry.annotations.get_mut("vnd.docker.reference.digest")
            && let Some((_, new)) = renamed.iter().find(|(old, _)| old == about)
        {
            about.clone_from(new);
        }
    }
}

fn of_bytes(like: &Descriptor, media_type: String, bytes: &[u8]) -> Result<Descriptor> {
    let digest = crate::save::sha256(bytes)?;
    Ok(Descriptor { platform: like.platform.clone(), ..Descriptor::new(media_type, digest, bytes.len() as u64) })
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::document("manifest", error))
}

/// The layers of a manifest as they became, if one did.
fn changed(manifest: &Manifest, blobs: &HashMap<Digest, Descriptor>) -> Option<Vec<Descriptor>> {
    let became = |layer: &Descriptor| blobs.get(&layer.digest).cloned().unwrap_or_else(|| layer.clone());
    let layers: Vec<Descriptor> = manifest.layers.iter().map(became).collect();
    (layers.iter().zip(&manifest.layers).any(|(new, old)| new.digest != old.digest)).then_some(layers)
}

/// A manifest with other layers. Docker's own type knows no zstd, so then it becomes an OCI one.
fn rewritten(mut manifest: Manifest, media_type: &str, layers: Vec<Descriptor>) -> (String, Manifest) {
    let zstd = |layer: &Descriptor| plan::compression(&layer.media_type) == Some(Compression::Zstd);
    let docker = media_type == media::DOCKER_MANIFEST && !layers.iter().any(zstd);
    let media_type = if docker { media::DOCKER_MANIFEST } else { media::OCI_MANIFEST };
    let typed = |mut layer: Descriptor| {
        if let Some(compression) = plan::compression(&layer.media_type) {
            plan::layer_type(media_type, compression).clone_into(&mut layer.media_type);
        }
        layer
    };
    manifest.layers = layers.into_iter().map(typed).collect();
    if !docker && manifest.config.media_type == media::DOCKER_CONFIG {
        media::OCI_CONFIG.clone_into(&mut manifest.config.media_type);
    }
    manifest.media_type = Some(media_type.to_owned());
    (media_type.to_owned(), manifest)
}

/// Lets the name point to what was pushed under it. An image that has no name then goes.
fn replace(
    store: &Store,
    lease: &Lease,
    name: &Reference,
    old: &Descriptor,
    new: &Descriptor,
    documents: &[PushDocument],
) -> Result<()> {
    // A name by digest says what it points to, and a name that moved during the push is somebody else's.
    let moved = store.image(name)?.is_none_or(|now| now.digest != old.digest);
    if name.digest().is_some() || moved {
        return Ok(());
    }
    for (_, bytes, _) in documents {
        store.put_blob(lease, bytes)?;
    }
    store.tag(lease, name, new)?;
    let images = store.images()?;
    if images.iter().any(|image| image.target.digest == old.digest && image.names.is_empty()) {
        store.remove_target(&old.digest)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digit: &str) -> Digest {
        format!("sha256:{}", digit.repeat(64)).parse().unwrap()
    }

    #[test]
    fn manifests_are_rewritten() {
        let check = |manifest_type: &str, layer_type: &str, expect: &str, expect_layer: &str| {
            let mut manifest = crate::save::plain_manifest(digest("c"), 1, vec![]);
            manifest.config.media_type = media::DOCKER_CONFIG.to_owned();
            manifest.layers = vec![Descriptor::new(media::DOCKER_LAYER, digest("a"), 1)];
            let blobs = HashMap::from([(digest("a"), Descriptor::new(layer_type, digest("b"), 2))]);
            let layers = changed(&manifest, &blobs).unwrap();
            let (found, manifest) = rewritten(manifest, manifest_type, layers);
            assert_eq!((found.as_str(), manifest.layers[0].media_type.as_str()), (expect, expect_layer));
            assert_eq!(manifest.layers[0].digest, digest("b"));
        };
        check(media::OCI_MANIFEST, media::OCI_LAYER_GZIP, media::OCI_MANIFEST, media::OCI_LAYER_GZIP);
        check(media::DOCKER_MANIFEST, media::OCI_LAYER_GZIP, media::DOCKER_MANIFEST, media::DOCKER_LAYER_GZIP);
        check(media::DOCKER_MANIFEST, media::OCI_LAYER_ZSTD, media::OCI_MANIFEST, media::OCI_LAYER_ZSTD);
    }

    #[test]
    fn what_stays_is_not_written_anew() {
        let mut manifest = crate::save::plain_manifest(digest("c"), 1, vec![]);
        manifest.layers = vec![Descriptor::new(media::OCI_LAYER_GZIP, digest("a"), 1)];
        assert_eq!(changed(&manifest, &HashMap::new()), None);
    }
}
