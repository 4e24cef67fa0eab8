//! What the tests share: a directory that goes away, archives, whole images, chance that can be had again.

use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gantry_model::digest::Digest;
use gantry_model::image::{Descriptor, ImageConfig, Manifest, media};
use gantry_store::{Claim, Expect, LayerClaim, LayerForm, Lease, Options, Result, Store, chain_id};
use sha2::{Digest as _, Sha256};

/// A directory for one test.
pub struct Place(pub PathBuf, pub LayerForm);

impl Place {
    pub fn new() -> Self {
        Self::of(LayerForm::Directories)
    }

    /// One whose layers are images; none, with a line that says so, where the kernel cannot.
    pub fn of_images() -> Option<Self> {
        let place = Self::of(LayerForm::Erofs);
        match Store::open(&place.0.join("s"), options_of(LayerForm::Erofs)) {
            Ok(_) => Some(place),
            Err(error) => {
                let name = std::thread::current().name().unwrap_or("?").to_owned();
                // The harness would hide what is printed by a test that passes.
                let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {error}");
                None
            }
        }
    }

    pub fn of(form: LayerForm) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("gantry-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path, form)
    }

    pub fn open(&self) -> Store {
        self.open_with(options_of(self.1))
    }

    pub fn open_with(&self, options: Options) -> Store {
        Store::open(&self.0.join("s"), options).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join("s").join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Nothing is collected unless a test asks for it.
pub fn options() -> Options {
    Options { auto_collect: None, lock_wait: Duration::from_secs(20), ..Options::default() }
}

pub fn options_of(layers: LayerForm) -> Options {
    Options { layers, ..options() }
}

/// Tests that are run with layers as directories and as images.
macro_rules! each_form {
    ($($name:ident),* $(,)?) => {
        mod directories {
            $(#[test]
            fn $name() {
                super::$name(&crate::kit::Place::new());
            })*
        }

        mod images {
            $(#[test]
            fn $name() {
                if let Some(place) = crate::kit::Place::of_images() {
                    super::$name(&place);
                }
            })*
        }
    };
}
pub(crate) use each_form;

pub const HOUR: Duration = Duration::from_secs(3600);

pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_bytes(gantry_model::digest::Algorithm::Sha256, &Sha256::digest(bytes)).unwrap()
}

pub fn known(bytes: &[u8]) -> Expect {
    Expect::Known { digest: sha256(bytes), size: Some(bytes.len() as u64) }
}

/// A blob in the store.
pub fn put(store: &Store, lease: &Lease, bytes: &[u8]) -> Result<Digest> {
    match store.ingest(lease, known(bytes))? {
        Claim::Present(size) => assert_eq!(size, bytes.len() as u64),
        Claim::Mine(mut ingest) => {
            let from = usize::try_from(ingest.offset()).unwrap();
            for piece in bytes[from..].chunks(3000) {
                ingest.append(piece)?;
            }
            ingest.commit()?;
        }
    }
    Ok(sha256(bytes))
}

/// An archive of directories (no content) and files.
pub fn tar(entries: &[(&str, Option<&[u8]>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in entries {
        let bytes = content.unwrap_or_default();
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        let (mode, kind) = if content.is_some() { ("0000644\0", b'0') } else { ("0000755\0", b'5') };
        header[100..108].copy_from_slice(mode.as_bytes());
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
        header[136..148].copy_from_slice(b"14000000000\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// Unpacks an archive on top of a layer, as a pull does.
pub fn unpack(store: &Store, lease: &Lease, parent: Option<&Digest>, tar: &[u8]) -> Result<Digest> {
    let chain = chain_id(parent, &sha256(tar));
    match store.claim_layer(lease, &chain)? {
        LayerClaim::Present(layer) => Ok(layer.chain),
        LayerClaim::Mine(_guard) => {
            let pending = store.unpack_layer(lease, &mut &*tar, &|_| {})?;
            assert_eq!(*pending.diff_id(), sha256(tar));
            store.commit_layer(lease, parent, pending)
        }
    }
}

/// An image that follows from its number: some layers, a configuration, a manifest.
pub struct Made {
    pub tars: Vec<Vec<u8>>,
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
    pub target: Descriptor,
    pub top: Digest,
}

pub fn image(number: u64) -> Made {
    let mut random = Random(number);
    let mut tars = Vec::new();
    for layer in 0..=random.below(3) {
        // The lowest layer is shared by several images.
        let own = if layer == 0 { number % 3 } else { number };
        tars.push(layer_tar(own, layer));
    }
    let chains = tars.iter().fold(Vec::<Digest>::new(), |mut all, tar| {
        all.push(chain_id(all.last(), &sha256(tar)));
        all
    });
    let mut config = ImageConfig::default();
    config.platform.os = "linux".into();
    config.platform.architecture = "amd64".into();
    config.rootfs.kind = "layers".into();
    config.rootfs.diff_ids = tars.iter().map(|tar| sha256(tar)).collect();
    config.config.labels.insert("number".into(), number.to_string());
    let config = serde_json::to_vec(&config).unwrap();
    let descriptor = |kind: &str, bytes: &[u8]| Descriptor::new(kind, sha256(bytes), bytes.len() as u64);
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::OCI_MANIFEST.into()),
        artifact_type: None,
        config: descriptor(media::OCI_CONFIG, &config),
        layers: tars.iter().map(|tar| descriptor(media::OCI_LAYER, tar)).collect(),
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    };
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let target = descriptor(media::OCI_MANIFEST, &manifest);
    let top = chains.last().unwrap().clone();
    Made { tars, config, manifest, target, top }
}

/// Files of a layer: name and content.
pub fn layer_files(number: u64, layer: usize) -> Vec<(String, Vec<u8>)> {
    let mut random = Random(number * 31 + layer as u64);
    let file = |index: usize| {
        let mut bytes = vec![0_u8; random.below(9000)];
        bytes.fill_with(|| random.next() as u8);
        (format!("d{layer}/f{index}"), bytes)
    };
    (0..4).map(file).collect()
}

fn layer_tar(number: u64, layer: usize) -> Vec<u8> {
    let files = layer_files(number, layer);
    let dir = format!("d{layer}/");
    let mut entries: Vec<(&str, Option<&[u8]>)> = vec![(&dir, None)];
    entries.extend(files.iter().map(|(name, bytes)| (name.as_str(), Some(bytes.as_slice()))));
    tar(&entries)
}

/// Puts an image into the store, as a pull does, and gives it a name.
pub fn pull(store: &Store, number: u64, name: &str) -> Result<Made> {
    let lease = store.lease("test", HOUR)?;
    let made = image(number);
    fetch(store, &lease, &made)?;
    store.tag(&lease, &name.parse().unwrap(), &made.target)?;
    Ok(made)
}

pub fn fetch(store: &Store, lease: &Lease, made: &Made) -> Result<()> {
    let mut parent = None;
    for tar in &made.tars {
        put(store, lease, tar)?;
        let chain = unpack(store, lease, parent.as_ref(), tar)?;
        parent = Some(chain);
    }
    store.put_blob(lease, &made.config)?;
    store.put_blob(lease, &made.manifest)?;
    Ok(())
}

/// Chance from a seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

pub fn read_all(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}
