//! Saving images: as a docker-archive that is an OCI layout too, or as a plain OCI layout.
//!
//! The docker-archive is what current Docker writes: blobs under their digests, an index for those who read OCI layouts, and
//! `manifest.json` and `repositories` for all others. Layers in it are not compressed, as old readers expect. The plain
//! layout has everything as it came from the registry, with all platforms that are here, so its digests are those of the
//! registry.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::Path;

use gantry_model::digest::{Algorithm, Digest};
use gantry_model::image::{Compression, Descriptor, Document, Index, Manifest, media};
use gantry_model::platform::Platform;
use gantry_model::reference::Reference;
use gantry_store::{Lease, Store};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::docs;
use crate::error::{Error, Result};
use crate::layer_tar::{self, Source};
use crate::local::{self, Asked, Loaded};
use crate::pattern::familiar_name;
use crate::query::pick;
use crate::sink::{Directory, Sink, Tar};
use crate::{Images, LEASE};

/// The annotation by which a layout names an image (annotations.md).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// That by which containerd, and with it Docker, does.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// In which form images are saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// What `docker save` writes and every tool loads.
    #[default]
    DockerArchive,
    /// An OCI layout in an archive.
    OciArchive,
}

/// What is saved.
#[derive(Clone, Debug, Default)]
pub struct SaveOptions {
    /// The form.
    pub format: Format,
    /// Only this platform. Without it a docker-archive has that of this host, and an OCI layout all that are here.
    pub platform: Option<Platform>,
}

/// An entry of `manifest.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ArchiveImage {
    pub(crate) config: String,
    pub(crate) repo_tags: Option<Vec<String>>,
    pub(crate) layers: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) layer_sources: BTreeMap<String, Descriptor>,
}

/// An image that is to be saved, and the names that it gets.
struct Wanted {
    image: Loaded,
    target: Descriptor,
    names: Vec<Reference>,
}

impl Images {
    /// Saves images, given by name or id, to a stream. A name without a tag stands for all tags of the repository.
    pub async fn save(&self, names: &[String], out: impl Write + Send + 'static, options: SaveOptions) -> Result<()> {
        let names = names.to_vec();
        self.blocking("save", move |store| {
            let lease = store.lease("save", LEASE)?;
            let wanted = wanted(store, &names, options.platform.as_ref())?;
            for one in &wanted {
                lease.hold_target(&one.target)?;
            }
            let seconds = wanted.iter().map(|one| docs::created(&one.image.config)).max().unwrap_or_default();
            let mut tar = Tar::new(out, seconds.div_euclid(1_000_000_000).max(0));
            write(store, &lease, &wanted, &mut tar, &options)?;
            tar.finish()
        })
        .await
    }

    /// Saves images as an OCI layout in a directory.
    pub async fn save_layout(&self, names: &[String], directory: &Path, options: SaveOptions) -> Result<()> {
        let (names, directory) = (names.to_vec(), directory.to_owned());
        self.blocking("save", move |store| {
            let lease = store.lease("save", LEASE)?;
            let wanted = wanted(store, &names, options.platform.as_ref())?;
            for one in &wanted {
                lease.hold_target(&one.target)?;
            }
            write(store, &lease, &wanted, &mut Directory::new(&directory)?, &options)
        })
        .await
    }
}

/// Finds what is to be saved.
fn wanted(store: &Store, names: &[String], platform: Option<&Platform>) -> Result<Vec<Wanted>> {
    let mut all: Vec<Wanted> = Vec::new();
    for text in names {
        let whole = text.parse::<Reference>().ok().filter(|name| name.tag().is_none() && name.digest().is_none());
        let tags: Vec<Reference> = match &whole {
            Some(name) => {
                let names = store.images()?.into_iter().flat_map(|one| one.names);
                names.filter(|one| one.name() == name.name() && one.digest().is_none()).collect()
            }
            None => Vec::new(),
        };
        if tags.is_empty() {
            add(store, text, platform, &mut all)?;
        }
        for tag in tags {
            add(store, &tag.to_string(), platform, &mut all)?;
        }
    }
    Ok(all)
}

fn add(store: &Store, text: &str, platform: Option<&Platform>, all: &mut Vec<Wanted>) -> Result<()> {
    let (_, asked) = local::find(store, text)?;
    let (local, image) = pick(store, text, platform)?;
    let name = match asked {
        Asked::Name(name) => Some(name),
        Asked::Id => None,
    };
    let named = name.as_ref().and_then(|name| local.names.iter().find(|(there, _)| there == name));
    let target = named.map(|(_, target)| target).or(local.targets.first());
    let target = target.ok_or_else(|| Error::NoSuchImage(text.to_owned()))?.clone();
    let names: Vec<Reference> = name.into_iter().filter(|name| name.digest().is_none()).collect();
    match all.iter_mut().find(|one| one.image.id() == image.id() && one.target.digest == target.digest) {
        Some(there) => {
            for name in names {
                if !there.names.contains(&name) {
                    there.names.push(name);
                }
            }
        }
        None => all.push(Wanted { image, target, names }),
    }
    Ok(())
}

/// Writes files, each only once.
struct Saver<'s> {
    store: &'s Store,
    lease: &'s Lease,
    sink: &'s mut dyn Sink,
    done: HashSet<Digest>,
    manifests: Vec<Descriptor>,
}

fn write(store: &Store, lease: &Lease, wanted: &[Wanted], sink: &mut dyn Sink, options: &SaveOptions) -> Result<()> {
    for directory in ["blobs", "blobs/sha256"] {
        sink.directory(directory)?;
    }
    let mut saver = Saver { store, lease, sink, done: HashSet::new(), manifests: Vec::new() };
    let mut images = Vec::new();
    for one in wanted {
        match options.format {
            Format::DockerArchive => images.push(saver.docker(one)?),
            Format::OciArchive => saver.oci(one, options.platform.is_some())?,
        }
    }
    let Saver { sink, manifests, .. } = saver;
    let index = Index {
        schema_version: 2,
        media_type: Some(media::OCI_INDEX.to_owned()),
        artifact_type: None,
        manifests,
        subject: None,
        annotations: BTreeMap::new(),
    };
    sink.document("index.json", &json(&index)?)?;
    if options.format == Format::DockerArchive {
        sink.document("manifest.json", &json(&images)?)?;
        sink.document("repositories", &json(&repositories(wanted))?)?;
    }
    sink.document("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
}

/// The oldest form of names: a repository to its tags, and these to the top layer.
fn repositories(wanted: &[Wanted]) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for one in wanted {
        let Some(top) = one.image.config.rootfs.diff_ids.last() else { continue };
        for name in &one.names {
            let tag = name.tag().unwrap_or_default().to_owned();
            repositories.entry(familiar_name(name)).or_default().insert(tag, top.hex().to_owned());
        }
    }
    repositories
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::document("a document of the archive", error))
}

/// The name of a blob in a layout.
pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// The sha256 of a document.
pub(crate) fn sha256(bytes: &[u8]) -> Result<Digest> {
    let hash = sha2::Sha256::digest(bytes);
    Digest::from_bytes(Algorithm::Sha256, &hash).map_err(|error| Error::document("a digest", error))
}

impl Saver<'_> {
    /// A blob as it is.
    fn blob(&mut self, digest: &Digest) -> Result<()> {
        if !self.done.insert(digest.clone()) {
            return Ok(());
        }
        let size = self.store.blob_size(digest)?.ok_or_else(|| Error::LayerGone(digest.clone()))?;
        let source = Source::Plain(digest.clone(), size);
        self.archive(digest, size, &source)
    }

    fn archive(&mut self, digest: &Digest, size: u64, source: &Source) -> Result<()> {
        if digest.algorithm() == Algorithm::Sha512 {
            self.sink.directory("blobs/sha512")?;
        }
        let store = self.store;
        self.sink.file(&blob_name(digest), size, &mut |out| source.write(store, out))
    }

    /// An image with uncompressed layers, and a manifest that says so. Returns its descriptor.
    fn plain(&mut self, image: &Loaded) -> Result<Descriptor> {
        let diff_ids = &image.config.rootfs.diff_ids;
        let mut layers = Vec::new();
        for (index, (diff_id, chain)) in diff_ids.iter().zip(image.chains()).enumerate() {
            let blob = image.manifest.layers.get(index).ok_or_else(|| Error::LayerGone(diff_id.clone()))?;
            let source = layer_tar::source(self.store, self.lease, blob, diff_id, &chain)?;
            let size = source.size(self.store)?;
            if self.done.insert(diff_id.clone()) {
                self.archive(diff_id, size, &source)?;
            }
            layers.push(Descriptor::new(Compression::None.layer_type(), diff_id.clone(), size));
        }
        self.blob(image.id())?;
        let manifest = plain_manifest(image.id().clone(), image.manifest.config.size, layers);
        let bytes = json(&manifest)?;
        let digest = sha256(&bytes)?;
        if self.done.insert(digest.clone()) {
            self.sink.document(&blob_name(&digest), &bytes)?;
        }
        let mut descriptor = Descriptor::new(media::OCI_MANIFEST, digest, bytes.len() as u64);
        descriptor.platform = Some(image.config.platform.clone());
        Ok(descriptor)
    }

    fn docker(&mut self, one: &Wanted) -> Result<ArchiveImage> {
        let descriptor = self.plain(&one.image)?;
        self.name(&descriptor, &one.names);
        let layers = one.image.config.rootfs.diff_ids.iter().map(blob_name).collect();
        let tags: Vec<String> = one.names.iter().map(Reference::familiar).collect();
        let repo_tags = (!tags.is_empty()).then_some(tags);
        let config = blob_name(one.image.id());
        Ok(ArchiveImage { config, repo_tags, layers, layer_sources: BTreeMap::new() })
    }

    fn oci(&mut self, one: &Wanted, only_one: bool) -> Result<()> {
        let target = if only_one { &one.image.descriptor } else { &one.target };
        let variants = if only_one { vec![one.image.clone()] } else { local::variants(self.store, target)? };
        if variants.iter().all(|variant| self.complete(variant)) {
            self.tree(target)?;
            self.name(target, &one.names);
            return Ok(());
        }
        // A layer that another image brought in another compression is not here as this manifest has it.
        for variant in &variants {
            let descriptor = self.plain(variant)?;
            self.name(&descriptor, &one.names);
        }
        Ok(())
    }

    fn complete(&self, image: &Loaded) -> bool {
        let here = |layer: &Descriptor| matches!(self.store.blob_size(&layer.digest), Ok(Some(_)));
        image.manifest.layers.iter().all(here)
    }

    /// A manifest or index with all below it that is here.
    fn tree(&mut self, descriptor: &Descriptor) -> Result<()> {
        if self.done.contains(&descriptor.digest) || self.store.blob_size(&descriptor.digest)?.is_none() {
            return Ok(());
        }
        match local::document(self.store, descriptor)? {
            Document::Manifest(manifest) => {
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    if self.store.blob_size(&blob.digest)?.is_some() {
                        self.blob(&blob.digest)?;
                    }
                }
            }
            Document::Index(index) => {
                for child in &index.manifests {
                    self.tree(child)?;
                }
            }
        }
        self.blob(&descriptor.digest)
    }

    /// Lists a manifest under its names.
    fn name(&mut self, descriptor: &Descriptor, names: &[Reference]) {
        if names.is_empty() && !self.manifests.iter().any(|there| there.digest == descriptor.digest) {
            self.manifests.push(descriptor.clone());
        }
        for name in names {
            let mut named = descriptor.clone();
            named.annotations.insert(CONTAINERD_NAME.to_owned(), name.to_string());
            named.annotations.insert(REF_NAME.to_owned(), name.tag().unwrap_or_default().to_owned());
            self.manifests.push(named);
        }
    }
}

/// The manifest of an image whose layers are not compressed.
pub(crate) fn plain_manifest(config: Digest, config_size: u64, layers: Vec<Descriptor>) -> Manifest {
    Manifest {
        schema_version: 2,
        media_type: Some(media::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::new(media::OCI_CONFIG, config, config_size),
        layers,
        subject: None,
        annotations: BTreeMap::new(),
    }
}
