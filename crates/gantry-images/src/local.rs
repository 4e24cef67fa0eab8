//! The images that are here, as people see them: by the id of a configuration, with all names that lead to it.
//!
//! A name points to a manifest or an index; an image is a configuration. Two manifests of one configuration, compressed
//! differently, are one image, and of an index the image for this host is shown, or else the first that is here.

use std::collections::{HashMap, HashSet};

use gantry_model::digest::Digest;
use gantry_model::image::{Descriptor, Document, ImageConfig, Index, MAX_CONFIG, MAX_MANIFEST, Manifest, media};
use gantry_model::platform::Platform;
use gantry_model::reference::Reference;
use gantry_store::{Store, chain_ids};

use crate::error::{Error, Result};
use crate::plan;

/// How deep indexes may lie in each other.
const DEPTH: usize = 4;
/// The fewest digits of an id that are taken for one.
const MIN_PREFIX: usize = 1;

/// The image of one platform, with its documents.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The manifest's descriptor.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub config: ImageConfig,
}

impl Loaded {
    /// The image's id: the digest of its configuration.
    pub fn id(&self) -> &Digest {
        &self.manifest.config.digest
    }

    /// The chain ids of its layers, the lowest first.
    pub fn chains(&self) -> Vec<Digest> {
        chain_ids(&self.config.rootfs.diff_ids)
    }

    /// The chain id of all its layers; none for an image without any.
    pub fn top(&self) -> Option<Digest> {
        self.chains().pop()
    }

    /// What it runs on.
    pub fn platform(&self) -> &Platform {
        &self.config.platform
    }
}

/// An image that is here.
#[derive(Clone, Debug)]
pub struct Local {
    /// Its documents, for the platform that is shown.
    pub image: Loaded,
    /// Its names in order, each with what it points to.
    pub names: Vec<(Reference, Descriptor)>,
    /// The manifests and indexes that lead to it.
    pub targets: Vec<Descriptor>,
    /// When it came here, in nanoseconds since 1970.
    pub arrived: i64,
}

impl Local {
    /// Its names.
    pub fn references(&self) -> Vec<Reference> {
        self.names.iter().map(|(name, _)| name.clone()).collect()
    }
}

/// Reads a manifest or an index.
pub(crate) fn document(store: &Store, descriptor: &Descriptor) -> Result<Document> {
    let bytes = store.read_blob(&descriptor.digest, MAX_MANIFEST)?;
    Document::parse(&bytes, &descriptor.media_type)
        .map_err(|error| Error::document(format!("manifest {}", descriptor.digest), error))
}

/// Reads the configuration of a manifest.
pub(crate) fn config(store: &Store, manifest: &Manifest) -> Result<ImageConfig> {
    let bytes = store.read_blob(&manifest.config.digest, MAX_CONFIG)?;
    ImageConfig::parse(&bytes)
        .map_err(|error| Error::document(format!("configuration {}", manifest.config.digest), error))
}

/// All images of a target that are here: one for a manifest, those of its platforms for an index. What is no image, such
/// as an attestation, is left out.
pub(crate) fn variants(store: &Store, target: &Descriptor) -> Result<Vec<Loaded>> {
    let mut found = Vec::new();
    collect(store, target, 0, &mut found)?;
    Ok(found)
}

fn collect(store: &Store, descriptor: &Descriptor, depth: usize, found: &mut Vec<Loaded>) -> Result<()> {
    if depth > DEPTH || store.blob_size(&descriptor.digest)?.is_none() {
        return Ok(());
    }
    match document(store, descriptor)? {
        Document::Manifest(manifest) => {
            if store.blob_size(&manifest.config.digest)?.is_some() {
                let config = config(store, &manifest)?;
                found.push(Loaded { descriptor: descriptor.clone(), manifest, config });
            }
        }
        Document::Index(index) => {
            for child in index.manifests.iter().filter(|child| plan::is_image(child)) {
                collect(store, child, depth + 1, found)?;
            }
        }
    }
    Ok(())
}

/// The image of a target for a platform, or without one for this host or else the first.
pub(crate) fn select(store: &Store, name: &str, target: &Descriptor, platform: Option<&Platform>) -> Result<Loaded> {
    let mut variants = variants(store, target)?;
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let best = best(variants.iter().map(Loaded::platform), &wanted);
    match (best, platform) {
        (Some(best), _) => Ok(variants.swap_remove(best)),
        (None, None) if !variants.is_empty() => Ok(variants.swap_remove(0)),
        _ => {
            let there: Vec<String> = variants.iter().map(|one| one.platform().to_string()).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            Err(Error::NoPlatform { image: name.to_owned(), wanted: wanted.to_string(), there })
        }
    }
}

/// Which of several platforms serves best; of equals the first.
pub(crate) fn best<'a>(platforms: impl Iterator<Item = &'a Platform>, wanted: &Platform) -> Option<usize> {
    let ranked = platforms.enumerate().filter_map(|(index, one)| Some((one.rank(wanted)?, index)));
    ranked.max_by_key(|(rank, index)| (*rank, std::cmp::Reverse(*index))).map(|(_, index)| index)
}

/// All images, the newest first. Those whose documents are gone or damaged are left out.
pub(crate) fn all(store: &Store) -> Result<Vec<Local>> {
    let mut list: Vec<Local> = Vec::new();
    let mut by_id: HashMap<Digest, usize> = HashMap::new();
    for image in store.images()? {
        let loaded = match select(store, &image.target.digest.to_string(), &image.target, None) {
            Ok(loaded) => loaded,
            Err(error @ Error::Store(gantry_store::Error::Database { .. })) => return Err(error),
            Err(error) => {
                tracing::debug!(target = %image.target.digest, %error, "something that is no whole image is not listed");
                continue;
            }
        };
        let names = image.names.into_iter().map(|name| (name, image.target.clone()));
        if let Some(index) = by_id.get(loaded.id()) {
            let there = &mut list[*index];
            there.names.extend(names);
            there.names.sort_by(|a, b| a.0.cmp(&b.0));
            there.targets.push(image.target);
            there.arrived = there.arrived.max(image.created);
        } else {
            by_id.insert(loaded.id().clone(), list.len());
            list.push(Local {
                image: loaded,
                names: names.collect(),
                targets: vec![image.target],
                arrived: image.created,
            });
        }
    }
    list.sort_by(|a, b| {
        let created = |one: &Local| crate::docs::created(&one.image.config);
        created(b).cmp(&created(a)).then_with(|| a.image.id().cmp(b.image.id()))
    });
    Ok(list)
}

/// How an image was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// By a name.
    Name(Reference),
    /// By its id, or the beginning of it.
    Id,
}

/// Finds an image by name, by name and digest, by id or by the beginning of an id, in Docker's order.
pub(crate) fn find(store: &Store, text: &str) -> Result<(Local, Asked)> {
    let mut list = all(store)?;
    if let Some(index) = by_full_id(&list, text) {
        return Ok((list.swap_remove(index), Asked::Id));
    }
    if let Ok(name) = text.parse::<Reference>() {
        let name = name.with_default_tag();
        if let Some(index) = by_name(store, &list, &name) {
            return Ok((list.swap_remove(index), Asked::Name(name)));
        }
    }
    let index = by_prefix(&list, text)?;
    index.map(|index| (list.swap_remove(index), Asked::Id)).ok_or_else(|| Error::NoSuchImage(shown(text)))
}

/// What a name points to, unless the text is an id, or no name that is here: what [`find`] would find first, without a look
/// at all other images.
pub(crate) fn named(store: &Store, text: &str) -> Result<Option<(Reference, Descriptor)>> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let Ok(name) = text.parse::<Reference>() else { return Ok(None) };
    let name = name.with_default_tag();
    Ok(store.image(&name)?.map(|target| (name, target)))
}

/// A name as Docker tells that there is none of it.
fn shown(text: &str) -> String {
    text.parse::<Reference>()
        .map_or_else(|_| text.chars().take(160).collect(), |name| name.with_default_tag().familiar())
}

fn by_full_id(list: &[Local], text: &str) -> Option<usize> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    list.iter().position(|one| one.image.id().hex() == hex || one.image.id().to_string() == text)
}

fn by_name(store: &Store, list: &[Local], name: &Reference) -> Option<usize> {
    if let Some(index) = list.iter().position(|one| one.names.iter().any(|(there, _)| there == name)) {
        return Some(index);
    }
    let digest = name.digest()?;
    // A name and a digest: whatever of that repository leads to it.
    let leads = |target: &Descriptor| target.digest == *digest || children(store, target).contains(digest);
    list.iter().position(|one| one.names.iter().any(|(there, target)| there.name() == name.name() && leads(target)))
}

/// The digests that an index lists.
fn children(store: &Store, target: &Descriptor) -> HashSet<Digest> {
    if !media::is_index(&target.media_type) {
        return HashSet::new();
    }
    match document(store, target) {
        Ok(Document::Index(Index { manifests, .. })) => manifests.into_iter().map(|one| one.digest).collect(),
        _ => HashSet::new(),
    }
}

fn by_prefix(list: &[Local], text: &str) -> Result<Option<usize>> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.len() < MIN_PREFIX || !hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)) {
        return Ok(None);
    }
    let found: Vec<usize> = list
        .iter()
        .enumerate()
        .filter(|(_, one)| one.image.id().hex().starts_with(hex))
        .map(|(index, _)| index)
        .collect();
    match found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(Error::Ambiguous { prefix: hex.to_owned(), count: found.len() }),
    }
}
