//! Loading images: docker-archives of every age, and OCI layouts, from a stream or a directory.
//!
//! A stream is read once. What it holds goes to the store as it comes, by its digest where the name says one, which is then
//! verified; what it means is told by documents that may come last. An archive is hostile: its names are only ever
//! compared, never used as paths, and what no document refers to is collected like everything without a name.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;

use gantry_model::digest::{Algorithm, Digest};
use gantry_model::image::{
    Compression, Descriptor, Document, ImageConfig, Index, MAX_CONFIG, MAX_LAYERS, MAX_MANIFEST, media,
};
use gantry_model::platform::Platform;
use gantry_model::reference::Reference;
use gantry_store::{Claim, Expect, Lease, Store, layer};
use gantry_tar::{Entry, Kind, Reader, show};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::{Error, Result};
use crate::local::{self, Loaded};
use crate::progress::Reporter;
use crate::save::{ArchiveImage, CONTAINERD_NAME, REF_NAME, plain_manifest};
use crate::{Images, LEASE, plan, unpack};

/// Bytes that are read at a time.
const BUFFER: usize = 256 * 1024;
/// The most entries of an archive of images.
const MAX_ENTRIES: usize = 100_000;
/// The longest name in it.
const MAX_NAME: usize = 4096;
/// How far links in an archive are followed.
const MAX_LINKS: usize = 8;
/// The most images in an archive.
const MAX_IMAGES: usize = 4096;

/// What is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Only this platform is unpacked. Without it that of this host is, or else all.
    pub platform: Option<Platform>,
}

/// An image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loading {
    /// Its id.
    pub id: Digest,
    /// The names that it got.
    pub names: Vec<Reference>,
}

impl Images {
    /// Loads the images of an archive, compressed or not.
    pub async fn load(
        &self,
        archive: impl Read + Send + 'static,
        options: LoadOptions,
        reporter: Reporter,
    ) -> Result<Vec<Loading>> {
        self.blocking("load", move |store| {
            let lease = store.lease("load", LEASE)?;
            let mut intake = Intake::new(store, &lease);
            intake.archive(archive)?;
            intake.finish(&options, &reporter)
        })
        .await
    }

    /// Loads the images of an OCI layout in a directory.
    pub async fn load_layout(
        &self,
        directory: &Path,
        options: LoadOptions,
        reporter: Reporter,
    ) -> Result<Vec<Loading>> {
        let directory = directory.to_owned();
        self.blocking("load", move |store| {
            let lease = store.lease("load", LEASE)?;
            let mut intake = Intake::new(store, &lease);
            intake.layout(&directory)?;
            intake.finish(&options, &reporter)
        })
        .await
    }
}

/// What has come in so far.
struct Intake<'s> {
    store: &'s Store,
    lease: &'s Lease,
    /// The documents at the top.
    documents: HashMap<String, Vec<u8>>,
    /// Everything else that is a file: its name, and the blob that it became.
    files: HashMap<String, (Digest, u64)>,
    /// Links within the archive.
    links: HashMap<String, String>,
    loaded: Vec<Loading>,
}

/// A name within an archive, made plain. None for one that leads out of it.
fn plain_name(name: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(name).ok().filter(|text| text.len() <= MAX_NAME && !text.starts_with('/'))?;
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The digest that the name of a blob in a layout says.
fn blob_digest(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    let algorithm = Algorithm::ALL.into_iter().find(|known| known.as_str() == algorithm)?;
    Digest::from_hex(algorithm, hex).ok()
}

fn is_document(name: &str) -> bool {
    matches!(name, "oci-layout" | "index.json" | "manifest.json" | "repositories")
}

impl<'s> Intake<'s> {
    fn new(store: &'s Store, lease: &'s Lease) -> Self {
        let (documents, files, links) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { store, lease, documents, files, links, loaded: Vec::new() }
    }

    fn archive(&mut self, archive: impl Read) -> Result<()> {
        let plain = layer::decompress(archive).map_err(Error::io("read the archive"))?;
        let mut reader = Reader::new(BufReader::with_capacity(BUFFER, plain));
        let mut entry = Entry::default();
        let mut count = 0;
        while reader.read_entry(&mut entry)? {
            count += 1;
            if count > MAX_ENTRIES {
                return Err(Error::Load(format!(
                    "the archive has more than {MAX_ENTRIES} entries: it is none of images"
                )));
            }
            let refuse = |why: &str| Error::Load(format!("entry {}: {why}", show(&entry.path)));
            let name = plain_name(&entry.path).ok_or_else(|| refuse("the name leads out of the archive"))?;
            match entry.kind {
                Kind::File if entry.sparse.is_some() => {
                    return Err(refuse("sparse files are none of an archive of images"));
                }
                Kind::File => self.file(&name, entry.size, &mut reader)?,
                Kind::Symlink | Kind::Link => {
                    // The target of a symlink begins at its directory, that of a hard link at the top.
                    let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                    let base = if entry.kind == Kind::Symlink { directory } else { "" };
                    let target = [base.as_bytes(), b"/", &entry.link].concat();
                    let target = plain_name(target.strip_prefix(b"/").unwrap_or(&target));
                    self.links.insert(name, target.ok_or_else(|| refuse("the link leads out of the archive"))?);
                }
                Kind::Directory => {}
                _ => return Err(refuse("devices and pipes are none of an archive of images")),
            }
        }
        // What a compressed archive says of its end is checked only when it is read.
        let mut rest = reader.into_inner();
        std::io::copy(&mut rest, &mut std::io::sink()).map_err(Error::io("read the archive"))?;
        Ok(())
    }

    fn file(&mut self, name: &str, size: u64, reader: &mut Reader<impl std::io::BufRead>) -> Result<()> {
        if is_document(name) {
            if size > MAX_MANIFEST {
                return Err(Error::document(name, format!("it has {size} bytes, at most {MAX_MANIFEST} are read")));
            }
            let mut bytes = Vec::new();
            reader.data().read_to_end(&mut bytes).map_err(Error::io(format!("read {name}")))?;
            self.documents.insert(name.to_owned(), bytes);
            return Ok(());
        }
        let expect = match blob_digest(name) {
            Some(digest) => Expect::Known { digest, size: Some(size) },
            None => Expect::Unknown,
        };
        let known = blob_digest(name);
        let Claim::Mine(mut ingest) = self.store.ingest(self.lease, expect)? else {
            if let Some(digest) = known {
                self.files.insert(name.to_owned(), (digest, size));
            }
            return Ok(());
        };
        ingest.restart()?;
        loop {
            let piece = reader.fill_data()?;
            if piece.is_empty() {
                break;
            }
            let count = piece.len();
            ingest.append(piece)?;
            reader.consume_data(count);
        }
        let committed = ingest.commit()?;
        self.files.insert(name.to_owned(), committed);
        Ok(())
    }

    /// Reads a directory: its documents, and the blobs that they lead to.
    fn layout(&mut self, directory: &Path) -> Result<()> {
        let fail = |name: &str| Error::io(format!("read {}", directory.join(name).display()));
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let root =
            openat(CWD, directory, flags | OFlags::DIRECTORY, Mode::empty()).map_err(|errno| fail("")(errno.into()))?;
        let open = |name: &str| -> Result<Option<File>> {
            // Beneath the root and through no link: a layout has none.
            let how = rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS;
            match rustix::fs::openat2(root.as_fd(), name, flags, Mode::empty(), how) {
                Ok(fd) => Ok(Some(File::from(fd))),
                Err(rustix::io::Errno::NOENT) => Ok(None),
                Err(errno) => Err(fail(name)(errno.into())),
            }
        };
        for name in ["oci-layout", "index.json"] {
            let file = open(name)?
                .ok_or_else(|| Error::Load(format!("{} has no {name}: it is no OCI layout", directory.display())))?;
            let mut bytes = Vec::new();
            file.take(MAX_MANIFEST + 1).read_to_end(&mut bytes).map_err(fail(name))?;
            if bytes.len() as u64 > MAX_MANIFEST {
                return Err(Error::document(name, format!("at most {MAX_MANIFEST} bytes are read")));
            }
            self.documents.insert(name.to_owned(), bytes);
        }
        let mut next: Vec<Descriptor> = self.index()?.manifests;
        let mut seen = std::collections::HashSet::new();
        while let Some(descriptor) = next.pop() {
            if !seen.insert(descriptor.digest.clone()) || seen.len() > MAX_ENTRIES {
                continue;
            }
            let name = crate::save::blob_name(&descriptor.digest);
            let Some(file) = open(&name)? else { continue };
            self.blob(&descriptor, file)?;
            if media::is_index(&descriptor.media_type) || media::is_manifest(&descriptor.media_type) {
                next.extend(local::document(self.store, &descriptor)?.children().into_iter().cloned());
            }
        }
        Ok(())
    }

    fn blob(&mut self, descriptor: &Descriptor, mut file: File) -> Result<()> {
        let expect = Expect::Known { digest: descriptor.digest.clone(), size: Some(descriptor.size) };
        if let Claim::Mine(mut ingest) = self.store.ingest(self.lease, expect)? {
            ingest.restart()?;
            let what = format!("copy blob {}", descriptor.digest);
            crate::layer_tar::copy(&mut file, &mut ingest).map_err(Error::io(what))?;
            ingest.commit()?;
        }
        Ok(())
    }

    fn index(&self) -> Result<Index> {
        let bytes = self.documents.get("index.json").map(Vec::as_slice).unwrap_or_default();
        match Document::parse(bytes, media::OCI_INDEX).map_err(|error| Error::document("index.json", error))? {
            Document::Index(index) => Ok(index),
            Document::Manifest(_) => Err(Error::document("index.json", "it is no index")),
        }
    }

    /// Makes images of what came.
    fn finish(mut self, options: &LoadOptions, reporter: &Reporter) -> Result<Vec<Loading>> {
        let oci = self.documents.contains_key("oci-layout") && self.documents.contains_key("index.json");
        if oci {
            self.oci(options, reporter)?;
        }
        if let Some(bytes) = self.documents.remove("manifest.json") {
            let images: Vec<ArchiveImage> =
                serde_json::from_slice(&bytes).map_err(|error| Error::document("manifest.json", error))?;
            if images.len() > MAX_IMAGES {
                return Err(Error::document("manifest.json", format!("it lists more than {MAX_IMAGES} images")));
            }
            for image in &images {
                self.docker(image, reporter)?;
            }
        } else if !oci {
            let why = "it has neither index.json nor manifest.json: it is no archive of images; a root file system is imported";
            return Err(Error::Load(why.to_owned()));
        }
        Ok(self.loaded)
    }

    fn oci(&mut self, options: &LoadOptions, reporter: &Reporter) -> Result<()> {
        for descriptor in self.index()?.manifests {
            let annotations = descriptor.annotations.clone();
            let mut target = Descriptor::new(descriptor.media_type, descriptor.digest, descriptor.size);
            target.platform = descriptor.platform;
            if self.store.blob_size(&target.digest)?.is_none() {
                return Err(Error::Load(format!(
                    "the archive lists the manifest {} and does not have it",
                    target.digest
                )));
            }
            let variants = local::variants(self.store, &target)?;
            let shown = target.digest.to_string();
            let wanted = match local::select(self.store, &shown, &target, options.platform.as_ref()) {
                Ok(wanted) => wanted,
                Err(error) if options.platform.is_some() => return Err(error),
                // An attestation or another artifact that lies beside.
                Err(Error::NoPlatform { .. }) => continue,
                Err(error) => return Err(error),
            };
            self.unpack(&wanted, reporter)?;
            tracing::debug!(manifest = shown, variants = variants.len(), "loaded");
            let name = oci_name(&annotations);
            self.named(&wanted, &target, name.into_iter().collect())?;
        }
        Ok(())
    }

    fn unpack(&self, image: &Loaded, reporter: &Reporter) -> Result<()> {
        let name = image.id().to_string();
        let plans = plan::layers(&name, &image.manifest, &image.config)?;
        unpack::image(self.store, self.lease, &name, &plans, reporter)
    }

    /// Gives names, or keeps an image without.
    fn named(&mut self, image: &Loaded, target: &Descriptor, names: Vec<Reference>) -> Result<()> {
        if names.is_empty() {
            self.store.keep_target(self.lease, target)?;
        }
        for name in &names {
            self.store.tag(self.lease, name, target)?;
        }
        match self.loaded.iter_mut().find(|there| there.id == *image.id()) {
            Some(there) => {
                for name in names {
                    if !there.names.contains(&name) {
                        there.names.push(name);
                    }
                }
            }
            None => self.loaded.push(Loading { id: image.id().clone(), names }),
        }
        Ok(())
    }

    /// The blob of a file of the archive, through its links.
    fn resolve(&self, name: &str) -> Result<(Digest, u64)> {
        let missing = || Error::Load(format!("manifest.json names {name:?}, which the archive does not have"));
        let mut at = plain_name(name.as_bytes()).ok_or_else(missing)?;
        for _ in 0..MAX_LINKS {
            if let Some(found) = self.files.get(&at) {
                return Ok(found.clone());
            }
            at.clone_from(self.links.get(&at).ok_or_else(missing)?);
        }
        Err(missing())
    }

    fn docker(&mut self, image: &ArchiveImage, reporter: &Reporter) -> Result<()> {
        let mut names = Vec::new();
        for name in image.repo_tags.iter().flatten() {
            let parsed: Reference = name.parse().map_err(|error| Error::document("manifest.json", error))?;
            names.push(parsed.with_default_tag());
        }
        let (config_digest, config_size) = self.resolve(&image.config)?;
        // The layout beside it told of this image already, and has its manifest.
        if let Some(target) = self.target_of(&config_digest)? {
            let loaded = local::select(self.store, &image.config, &target, None)?;
            return self.named(&loaded, &target, names);
        }
        let bytes = self.store.read_blob(&config_digest, MAX_CONFIG)?;
        let config = ImageConfig::parse(&bytes).map_err(|error| Error::document(image.config.as_str(), error))?;
        if image.layers.len() > MAX_LAYERS || image.layers.len() != config.rootfs.diff_ids.len() {
            let (layers, diff_ids) = (image.layers.len(), config.rootfs.diff_ids.len());
            let why = format!("it lists {layers} layers, the configuration {diff_ids}");
            return Err(Error::document("manifest.json", why));
        }
        let mut layers = Vec::new();
        for name in &image.layers {
            let (digest, size) = self.resolve(name)?;
            layers.push(Descriptor::new(self.compression(&digest)?.layer_type(), digest, size));
        }
        let manifest = plain_manifest(config_digest, config_size, layers);
        let bytes = serde_json::to_vec(&manifest).map_err(|error| Error::document("manifest", error))?;
        let digest = self.store.put_blob(self.lease, &bytes)?;
        let descriptor = Descriptor::new(media::OCI_MANIFEST, digest, bytes.len() as u64);
        let loaded = Loaded { descriptor: descriptor.clone(), manifest, config };
        self.unpack(&loaded, reporter)?;
        self.named(&loaded, &descriptor, names)
    }

    /// The image of this archive's layout that has a configuration.
    fn target_of(&self, config: &Digest) -> Result<Option<Descriptor>> {
        if !self.loaded.iter().any(|one| one.id == *config) {
            return Ok(None);
        }
        let Ok(index) = self.index() else { return Ok(None) };
        for descriptor in index.manifests {
            let has = local::variants(self.store, &descriptor)?.iter().any(|one| one.id() == config);
            if has {
                return Ok(Some(Descriptor::new(descriptor.media_type, descriptor.digest, descriptor.size)));
            }
        }
        Ok(None)
    }

    fn compression(&self, digest: &Digest) -> Result<Compression> {
        let mut start = Vec::new();
        let file = self.store.open_blob(digest)?;
        file.take(8).read_to_end(&mut start).map_err(Error::io(format!("read layer {digest}")))?;
        Ok(Compression::detect(&start))
    }
}

/// The name that a layout gives to a manifest: containerd's whole one, or the specification's. That one may also be no
/// more than a tag, which does not tell of what.
fn oci_name(annotations: &BTreeMap<String, String>) -> Option<Reference> {
    let parse = |text: &String| text.parse::<Reference>().ok().filter(|name| name.digest().is_none());
    if let Some(name) = annotations.get(CONTAINERD_NAME).and_then(parse) {
        return Some(name.with_default_tag());
    }
    let name = annotations.get(REF_NAME).filter(|text| text.contains(['/', ':']) || !is_tag(text));
    name.and_then(parse).map(Reference::with_default_tag)
}

/// Whether a word without a repository is more likely a version than a name: `latest`, `1.2`, `v3`.
fn is_tag(text: &str) -> bool {
    text == "latest" || text.strip_prefix('v').unwrap_or(text).starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, expect: Option<&str>| {
            assert_eq!(plain_name(name.as_bytes()).as_deref(), expect, "{name:?}");
        };
        check("a/layer.tar", Some("a/layer.tar"));
        check("./a//b/../c", Some("a/c"));
        check("a/..", Some(""));
        check("..", None);
        check("a/../../b", None);
        check("/etc/passwd", None);
        check(&"a".repeat(MAX_NAME + 1), None);
        assert_eq!(plain_name(b"\xff"), None);
        let hex = "a".repeat(64);
        assert!(blob_digest(&format!("blobs/sha256/{hex}")).is_some());
        for name in ["blobs/sha256/x", "blobs/md5/00", "sha256/x", "blobs/sha256"] {
            assert_eq!(blob_digest(name), None, "{name}");
        }
    }

    #[test]
    fn names_of_layouts() {
        let check = |list: &[(&str, &str)], expect: Option<&str>| {
            let annotations = list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(oci_name(&annotations).map(|name| name.familiar()).as_deref(), expect, "{list:?}");
        };
        check(&[], None);
        check(&[(REF_NAME, "latest")], None);
        check(&[(REF_NAME, "1.0")], None);
        check(&[(REF_NAME, "v2")], None);
        check(&[(REF_NAME, "two")], Some("two:latest"));
        check(&[(REF_NAME, "voice")], Some("voice:latest"));
        check(&[(REF_NAME, "No Name")], None);
        check(&[(REF_NAME, "x.io/app:1")], Some("x.io/app:1"));
        check(&[(REF_NAME, "1"), (CONTAINERD_NAME, "docker.io/library/busybox:1")], Some("busybox:1"));
        check(&[(CONTAINERD_NAME, "..")], None);
    }
}
