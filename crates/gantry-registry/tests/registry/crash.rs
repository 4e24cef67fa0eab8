//! Kill -9 at any moment: what was accepted is there and whole, what was not is not seen, and the next server works.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use gantry_model::digest::{Algorithm, Digest};
use gantry_registry::{Config, Registry};

use crate::kit::{Call, Directory, RUNTIME, Random, digest_of, manifest, noise, seed};

const VARIABLE: &str = "GANTRY_REGISTRY_CHILD";
const ROUNDS: u64 = 12;

/// Not a test by itself: the server that is killed. Without the variable there is nothing to do.
#[test]
fn child() {
    let Ok(root) = std::env::var(VARIABLE) else { return };
    let text = format!("listen = '127.0.0.1:0'\n[storage]\nroot = '{root}'\n[gc]\ngrace = 0\ninterval = 0");
    let registry = RUNTIME.block_on(Registry::start(Config::parse(&text).unwrap())).unwrap();
    println!("\nlistens {}", registry.address());
    std::io::stdout().flush().unwrap();
    loop {
        // Collections run all the time, so that kills hit them too.
        RUNTIME.block_on(registry.collect(false)).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
}

struct Victim {
    child: Child,
    address: SocketAddr,
}

impl Victim {
    fn start(root: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["crash::child", "--exact", "--nocapture", "--test-threads=1"]);
        let mut child = command.env(VARIABLE, root).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("listens ").map(str::to_owned));
        let Some(address) = address else {
            child.kill().unwrap();
            panic!("the server did not start: {:?}", child.wait());
        };
        Self { child, address: address.parse().unwrap() }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request that may find nobody.
fn attempt(address: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    line.split(' ').nth(1)?.parse().ok()
}

/// Pushes images until the server is gone. Returns those that were accepted: tag, manifest's digest, layer's digest.
fn push(address: SocketAddr, name: u64, accepted: &Mutex<Vec<(String, Digest, Digest)>>) {
    let config = b"{}";
    for number in 0.. {
        let layer = noise(name * 1000 + number, 200_000);
        for bytes in [&config[..], &layer] {
            let digest = digest_of(Algorithm::Sha256, bytes);
            let path = format!("/v2/crash/blobs/uploads/?digest={digest}");
            if attempt(address, "POST", &path, "", bytes).is_none() {
                return;
            }
        }
        let text = manifest(config, &[&layer], "");
        let tag = format!("t{name}-{number}");
        let kind = format!("Content-Type: {}\r\n", crate::kit::MANIFEST);
        match attempt(address, "PUT", &format!("/v2/crash/manifests/{tag}"), &kind, text.as_bytes()) {
            // Without a grace period, a blob may be collected before its manifest comes.
            Some(400) => {}
            Some(201) => {
                let digests = (digest_of(Algorithm::Sha256, text.as_bytes()), digest_of(Algorithm::Sha256, &layer));
                accepted.lock().unwrap().push((tag, digests.0, digests.1));
            }
            Some(status) => panic!("{tag}: {status}"),
            None => return,
        }
    }
}

#[test]
fn nothing_accepted_is_lost() {
    let seed = seed();
    let mut random = Random(seed | 1);
    let directory = Directory::new();
    let accepted = Mutex::new(vec![]);
    let mut torn = 0;
    for round in 0..ROUNDS {
        let mut victim = Victim::start(directory.path());
        check(victim.address, &accepted.lock().unwrap());
        std::thread::scope(|scope| {
            for n in 0..2 {
                let (address, accepted) = (victim.address, &accepted);
                scope.spawn(move || push(address, round * 2 + n, accepted));
            }
            std::thread::sleep(Duration::from_millis(5 + random.below(120)));
            victim.child.kill().unwrap();
        });
        victim.child.wait().unwrap();
        torn += std::fs::read_dir(directory.path().join("tmp")).unwrap().count();
    }
    let victim = Victim::start(directory.path());
    let accepted = accepted.into_inner().unwrap();
    check(victim.address, &accepted);
    // What was torn goes at the start; a collection that runs writes files of its own for moments.
    let clean = || std::fs::read_dir(directory.path().join("tmp")).unwrap().count() == 0;
    assert!(
        (0..200).any(|_| clean() || {
            std::thread::sleep(Duration::from_millis(10));
            false
        }),
        "torn writes stay"
    );
    println!("{ROUNDS} kills, {} images accepted and whole, {torn} writes torn", accepted.len());
    assert!(accepted.len() > 3);
}

/// That all that was accepted is there, and that all that is seen is whole.
fn check(address: SocketAddr, accepted: &[(String, Digest, Digest)]) {
    let get = |path: String| Call::new(address, "GET", &path).send();
    for (tag, manifest, layer) in accepted {
        let reply = get(format!("/v2/crash/manifests/{tag}")).expect(200);
        assert_eq!(digest_of(Algorithm::Sha256, &reply.body), *manifest, "{tag}");
        let reply = get(format!("/v2/crash/blobs/{layer}")).expect(200);
        assert_eq!(digest_of(Algorithm::Sha256, &reply.body), *layer, "{tag}");
    }
    let tags = get("/v2/crash/tags/list".to_owned());
    if tags.status == 404 {
        return assert!(accepted.is_empty());
    }
    for tag in tags.json()["tags"].as_array().unwrap() {
        let reply = get(format!("/v2/crash/manifests/{}", tag.as_str().unwrap())).expect(200);
        for layer in reply.json()["layers"].as_array().unwrap() {
            Call::new(address, "HEAD", &format!("/v2/crash/blobs/{}", layer["digest"].as_str().unwrap()))
                .send()
                .expect(200);
        }
    }
}
