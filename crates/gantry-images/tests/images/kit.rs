//! What the tests share: a store and a registry that go away, images made on the spot, and a wire that can be cut.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use gantry_distribution::{Anonymous, Client, Config, Open, Registry as How, Upload};
use gantry_images::{Images, Progress, Reporter};
use gantry_model::digest::{Algorithm, Digest};
use gantry_model::image::{Compression, Descriptor, ImageConfig, Manifest, media};
use gantry_model::platform::Platform;
use gantry_model::reference::Reference;
use gantry_registry::Registry;
use gantry_store::{Options, Store};
use gantry_tar::{Entry, Kind, Writer};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A directory for one test.
pub struct Place(pub PathBuf);

impl Place {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("gantry-images-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn store(&self, name: &str) -> Store {
        let options = Options { auto_collect: None, lock_wait: Duration::from_secs(20), ..Options::default() };
        Store::open(&self.0.join(name), options).unwrap()
    }

    pub fn images(&self, name: &str) -> Images {
        Images::new(self.store(name), client())
    }

    /// What is in a directory of a store.
    pub fn entries(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.join(name)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Waits until the store has the beginning of a blob.
    pub async fn partial(&self, bytes: u64) {
        for _ in 0..2000 {
            let entries = std::fs::read_dir(self.0.join("store/ingest")).unwrap();
            if entries.flatten().any(|entry| entry.metadata().is_ok_and(|stat| stat.len() >= bytes)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("there is no beginning of a blob with {bytes} bytes");
    }

    pub async fn registry(&self) -> Registry {
        let mut config = gantry_registry::Config::parse("").unwrap();
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.storage.root = self.0.join("registry");
        config.gc.interval = gantry_registry::Span(0);
        Registry::start(config).await.unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A client that speaks plain http to everybody.
pub fn client() -> Client {
    let how = How { plain_http: true, ..How::default() };
    let mut config = Config { registry: BTreeMap::from([("*".to_owned(), how)]), ..Config::default() };
    config.retry.attempts = 3;
    Client::new(config, Arc::new(Anonymous)).unwrap()
}

pub fn name(address: SocketAddr, rest: &str) -> Reference {
    format!("{address}/{rest}").parse().unwrap()
}

pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Algorithm::Sha256, &Sha256::digest(bytes)).unwrap()
}

/// Content that follows from a number, and compresses to about half.
pub fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..size).map(|at| if at % 8 < 4 { b'a' } else { next() }).collect()
}

/// An archive of files; a name that ends with a slash is a directory.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, data) in files {
        let kind = if name.ends_with('/') { Kind::Directory } else { Kind::File };
        let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
        let entry = Entry { path: name.as_bytes().to_vec(), kind, mode, size: data.len() as u64, ..Entry::default() };
        writer.append(&entry, data).unwrap();
    }
    writer.finish().unwrap()
}

pub fn compressed(how: Compression, data: &[u8]) -> Vec<u8> {
    match how {
        Compression::None => data.to_vec(),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(data, 1).unwrap(),
    }
}

/// An image: its documents and blobs.
#[derive(Clone)]
pub struct Made {
    pub blobs: Vec<Vec<u8>>,
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
    pub target: Descriptor,
}

impl Made {
    pub fn id(&self) -> Digest {
        sha256(&self.config)
    }
}

pub fn described(kind: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(kind, sha256(bytes), bytes.len() as u64)
}

/// An image of layers, each given as an archive and how it is compressed. `edit` may falsify its configuration.
pub fn image(layers: &[(Vec<u8>, Compression)], docker: bool, edit: impl FnOnce(&mut ImageConfig)) -> Made {
    let mut config = ImageConfig { platform: Platform::host(), ..ImageConfig::default() };
    config.created = Some("2024-05-06T07:08:09Z".to_owned());
    config.rootfs.kind = "layers".into();
    config.rootfs.diff_ids = layers.iter().map(|(tar, _)| sha256(tar)).collect();
    edit(&mut config);
    let config = serde_json::to_vec(&config).unwrap();
    let blobs: Vec<Vec<u8>> = layers.iter().map(|(tar, how)| compressed(*how, tar)).collect();
    let layer_type = |how: Compression| match (docker, how) {
        (true, Compression::Gzip) => media::DOCKER_LAYER_GZIP,
        (true, _) => panic!("Docker's layers are gzip here"),
        (false, how) => how.layer_type(),
    };
    let (manifest_type, config_type) =
        if docker { (media::DOCKER_MANIFEST, media::DOCKER_CONFIG) } else { (media::OCI_MANIFEST, media::OCI_CONFIG) };
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(manifest_type.to_owned()),
        artifact_type: None,
        config: described(config_type, &config),
        layers: layers.iter().zip(&blobs).map(|((_, how), blob)| described(layer_type(*how), blob)).collect(),
        subject: None,
        annotations: BTreeMap::new(),
    };
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let target = described(manifest_type, &manifest);
    Made { blobs, config, manifest, target }
}

/// An image of gzip layers with one file each, that follows from numbers.
pub fn simple(seeds: &[u64]) -> Made {
    let layer = |seed: &u64| (tar(&[(&format!("f{seed}"), &content(*seed, 50_000))]), Compression::Gzip);
    image(&seeds.iter().map(layer).collect::<Vec<_>>(), false, |_| {})
}

pub async fn push_blob(to: &Reference, bytes: &[u8]) {
    let data = Bytes::copy_from_slice(bytes);
    let open: Open = Arc::new(move |offset| {
        let rest = data.slice(offset as usize..);
        Box::pin(async move { Ok(futures_util::stream::once(async move { Ok(rest) }).boxed()) })
    });
    let upload = Upload::Known { digest: sha256(bytes), size: bytes.len() as u64, open };
    client().push_blob(to, upload).await.unwrap();
}

/// Puts an image into a registry, without this crate's help.
pub async fn publish(to: &Reference, made: &Made) {
    for blob in made.blobs.iter().chain([&made.config]) {
        push_blob(to, blob).await;
    }
    let bytes = Bytes::copy_from_slice(&made.manifest);
    client().push_manifest(&to.clone().with_default_tag(), &made.target.media_type, bytes).await.unwrap();
}

/// Keeps what is told.
#[derive(Clone, Default)]
pub struct Told(pub Arc<Mutex<Vec<Progress>>>);

impl Told {
    pub fn reporter(&self) -> Reporter {
        let list = self.0.clone();
        Arc::new(move |event| list.lock().unwrap().push(event))
    }

    pub fn count(&self, wanted: impl Fn(&gantry_images::Step) -> bool) -> usize {
        let list = self.0.lock().unwrap();
        list.iter().filter(|event| matches!(event, Progress::Layer { step, .. } if wanted(step))).count()
    }
}

/// A wire to a server that counts what is asked for, and can be cut or stopped in the middle of an answer.
pub struct Wire {
    pub address: SocketAddr,
    pub shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
pub struct Shared {
    /// Everything that was asked, as it went over the wire.
    asked: Mutex<Vec<u8>>,
    /// After so many more bytes of answers a connection is cut, once. Negative: never.
    pub cut: AtomicI64,
    /// After so many more bytes of answers no more come, until it is set anew. Negative: never.
    pub stop: AtomicI64,
    /// Told when answers are stopped.
    pub stopped: Notify,
}

impl Wire {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared { cut: AtomicI64::new(-1), stop: AtomicI64::new(-1), ..Shared::default() });
        let (address, share) = (listener.local_addr().unwrap(), shared.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, share.clone()));
            }
        });
        Self { address, shared, task }
    }

    /// How often something was asked for.
    pub fn asked(&self, text: &str) -> usize {
        let asked = self.shared.asked.lock().unwrap();
        String::from_utf8_lossy(&asked).to_ascii_lowercase().matches(&text.to_ascii_lowercase()).count()
    }

    pub fn forget(&self) {
        self.shared.asked.lock().unwrap().clear();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, server: SocketAddr, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let share = shared.clone();
    let up = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            share.asked.lock().unwrap().extend_from_slice(&buffer[..count]);
            if to_server.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    let down = async move {
        let mut buffer = vec![0; 4 * 1024];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            let left = |counter: &AtomicI64| {
                let before = counter.load(Ordering::SeqCst);
                before >= 0 && counter.fetch_sub(count as i64, Ordering::SeqCst) < count as i64
            };
            if left(&shared.cut) {
                shared.cut.store(-1, Ordering::SeqCst);
                break;
            }
            if left(&shared.stop) {
                shared.stop.store(0, Ordering::SeqCst);
                shared.stopped.notify_one();
                while shared.stop.load(Ordering::SeqCst) == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            if to_client.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = up => {},
        () = down => {},
    }
}
