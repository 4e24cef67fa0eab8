//! A server on loopback, and a client that says exactly what it is told to.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use gantry_model::digest::{Algorithm, Digest};
use gantry_registry::{Config, Registry};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// What a configuration begins with for operators to reach the server.
pub const OPERATED: &str = "listen = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\n";
/// The time at which the clocks of servers begin.
pub const BEGIN: i64 = 1_000_000;

pub static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

/// A directory that is removed in the end.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let name = format!("gantry-registry-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server, its directory and its clock.
pub struct Server {
    pub registry: Option<Registry>,
    pub address: SocketAddr,
    pub directory: Directory,
    pub clock: Arc<AtomicI64>,
    config: Config,
}

impl Server {
    /// Starts one with a configuration in which `@` is its directory. Nothing is done by itself.
    pub fn start(text: &str) -> Self {
        let directory = Directory::new();
        Self::start_in(text, directory)
    }

    pub fn start_in(text: &str, directory: Directory) -> Self {
        let text = text.replace('@', directory.path().to_str().unwrap());
        let mut config = Config::parse(&text).unwrap();
        if !text.contains("listen") {
            config.listen = "127.0.0.1:0".parse().unwrap();
        }
        config.storage.root = directory.path().join("store");
        if !text.contains("\ninterval") {
            config.gc.interval = gantry_registry::Span(0);
            config.retention.interval = gantry_registry::Span(0);
        }
        let clock = Arc::new(AtomicI64::new(BEGIN));
        let registry = run(&config, &clock);
        Self { address: registry.address(), registry: Some(registry), directory, clock, config }
    }

    /// Stops it in good order and starts it again.
    pub fn restart(&mut self) {
        self.stop();
        let registry = run(&self.config, &self.clock);
        self.address = registry.address();
        self.registry = Some(registry);
    }

    /// Stops it in good order.
    pub fn stop(&mut self) {
        if let Some(registry) = self.registry.take() {
            RUNTIME.block_on(registry.stop());
        }
    }

    pub fn registry(&self) -> &Registry {
        self.registry.as_ref().unwrap()
    }

    pub fn pass(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(self.address, method, path)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.call("GET", path).send()
    }

    /// A counter or gauge that operators see. The configuration begins with [`OPERATED`].
    pub fn metric(&self, name: &str) -> u64 {
        let admin = self.registry().admin_address().unwrap();
        let text = Call::new(admin, "GET", "/metrics").send().expect(200).text();
        let line =
            text.lines().find_map(|line| line.strip_prefix("gantry_registry_")?.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}: {text}")).parse().unwrap()
    }

    /// Where it keeps a blob.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
        self.directory.path().join("store/blobs").join(algorithm).join(&hex[..2]).join(hex)
    }

    /// Sends a head as it is written.
    pub fn raw(&self, method: &str, head: &str) -> Reply {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        Call::new(self.address, method, head).receive(stream)
    }

    /// Pushes a blob in one request.
    pub fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = digest_of(Algorithm::Sha256, bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.call("POST", &path).body(bytes).send().expect(201);
        digest
    }

    /// Pushes an image of some layers, and gives its digest.
    pub fn push_image(&self, repository: &str, tag: &str, layers: &[&[u8]]) -> Digest {
        let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        self.push_blob(repository, config);
        for layer in layers {
            self.push_blob(repository, layer);
        }
        let manifest = manifest(config, layers, "");
        self.push_manifest(repository, tag, MANIFEST, &manifest).expect(201);
        digest_of(Algorithm::Sha256, manifest.as_bytes())
    }

    pub fn push_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &str) -> Reply {
        let path = format!("/v2/{repository}/manifests/{tag}");
        self.call("PUT", &path).header("Content-Type", media_type).body(manifest.as_bytes()).send()
    }
}

fn run(config: &Config, clock: &Arc<AtomicI64>) -> Registry {
    let clock = clock.clone();
    RUNTIME.block_on(Registry::start_at(config.clone(), Arc::new(move || clock.load(Ordering::Relaxed)))).unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.take() {
            let _ = RUNTIME.block_on(async { tokio::time::timeout(Duration::from_secs(5), registry.stop()).await });
        }
    }
}

pub fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let kind = match algorithm {
        Algorithm::Sha256 => &ring::digest::SHA256,
        Algorithm::Sha512 => &ring::digest::SHA512,
    };
    Digest::from_bytes(algorithm, ring::digest::digest(kind, bytes).as_ref()).unwrap()
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> String {
    let digest = digest_of(Algorithm::Sha256, bytes);
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#, bytes.len())
}

/// A manifest; `more` are fields, each after a comma.
pub fn manifest(config: &[u8], layers: &[&[u8]], more: &str) -> String {
    let config = descriptor("application/vnd.oci.image.config.v1+json", config);
    let layers: Vec<_> = layers.iter().map(|l| descriptor("application/vnd.oci.image.layer.v1.tar", l)).collect();
    let layers = layers.join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layers}]{more}}}"#)
}

/// Bytes that look random, from a seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed | 1);
    (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(length).collect()
}

/// A generator of numbers from a seed (xorshift).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// A seed: the one in `GANTRY_SEED`, or a new one. It is printed.
pub fn seed() -> u64 {
    let seed = match std::env::var("GANTRY_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => std::collections::hash_map::RandomState::new().hash_one_time(),
    };
    println!("GANTRY_SEED={seed}");
    seed
}

trait HashOneTime {
    fn hash_one_time(&self) -> u64;
}

impl HashOneTime for std::collections::hash_map::RandomState {
    fn hash_one_time(&self) -> u64 {
        std::hash::BuildHasher::hash_one(self, 0_u8)
    }
}

/// A request.
pub struct Call {
    address: SocketAddr,
    method: String,
    path: String,
    headers: String,
    body: Vec<u8>,
    length: bool,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    what: String,
}

impl Call {
    pub fn new(address: SocketAddr, method: &str, path: &str) -> Self {
        let (method, path) = (method.to_owned(), path.to_owned());
        Self { address, method, path, headers: String::new(), body: vec![], length: false }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.length |= name.eq_ignore_ascii_case("content-length");
        write!(self.headers, "{name}: {value}\r\n").unwrap();
        self
    }

    pub fn basic(self, name: &str, password: &str) -> Self {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
        self.header("Authorization", &format!("Basic {text}"))
    }

    pub fn body(mut self, bytes: &[u8]) -> Self {
        self.body = bytes.to_vec();
        self
    }

    fn head(&self) -> String {
        let length = if self.length || (self.method != "POST" && self.method != "PUT" && self.body.is_empty()) {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", self.body.len())
        };
        let Self { address, method, path, headers, .. } = self;
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{length}{headers}\r\n")
    }

    /// Opens a connection and writes head and body.
    pub fn begin(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(self.head().as_bytes()).unwrap();
        // A server that has refused need not read the rest.
        let _ = stream.write_all(&self.body);
        stream
    }

    pub fn send(self) -> Reply {
        let stream = self.begin();
        self.receive(stream)
    }

    /// The same over an open connection.
    pub fn over(self, mut stream: impl Read + Write) -> Reply {
        stream.write_all(self.head().as_bytes()).unwrap();
        stream.write_all(&self.body).unwrap();
        self.receive(stream)
    }

    pub fn receive(&self, stream: impl Read) -> Reply {
        let what = format!("{} {}", self.method, self.path);
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap_or_else(|e| panic!("{what}: {e}"));
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{what}: {line:?}"));
        let mut headers = vec![];
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut reply = Reply { status, headers, body: vec![], what };
        if self.method != "HEAD" && status != 204 && status != 304 {
            match reply.header("content-length").and_then(|l| l.parse().ok()) {
                Some(length) => reply.body.resize(length, 0),
                None => assert_eq!(reply.header("transfer-encoding"), None, "an answer of unknown length: {reply:?}"),
            }
            reader.read_exact(&mut reply.body).unwrap_or_else(|e| panic!("{}: {e}", reply.what));
        }
        reply
    }
}

thread_local! {
    static CHECKED: Cell<u64> = const { Cell::new(0) };
}

/// Prints how many answers this thread has checked, and sees to it that they are no fewer than they were.
pub fn checked(what: &str, least: u64) {
    let checked = CHECKED.take();
    println!("{checked} answers checked: {what}");
    assert!(checked >= least, "{what}: {checked} answers checked, not {least}");
}

impl Reply {
    pub fn expect(self, status: u16) -> Self {
        CHECKED.set(CHECKED.get() + 1);
        assert_eq!(self.status, status, "{}: {}", self.what, self.text());
        self
    }

    /// That it is an error with this code, in the form of the specification.
    pub fn refused(self, status: u16, code: &str) -> Self {
        let reply = self.expect(status);
        assert_eq!(reply.json()["errors"][0]["code"], code, "{}: {}", reply.what, reply.text());
        assert!(reply.json()["errors"][0]["message"].is_string());
        assert_eq!(reply.header("content-type"), Some("application/json"));
        reply
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{}: {e}: {}", self.what, self.text()))
    }
}
