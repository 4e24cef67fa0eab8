//! The same over S3. The service is the one that `GANTRY_S3_ENDPOINT` names, or moto's server as an earlier
//! `cargo xtask test --lane root` installed it; without either the test says loudly that it was skipped.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gantry_model::digest::Algorithm;

use crate::kit::{RUNTIME, Server, digest_of, noise};

/// The program, in the directory of all that is built.
fn program() -> Option<PathBuf> {
    let tests = std::env::current_exe().unwrap();
    tests.ancestors().map(|above| above.join("s3-venv/bin/moto_server")).find(|program| program.exists())
}

struct Service {
    endpoint: String,
    child: Option<Child>,
}

impl Service {
    fn find() -> Option<Self> {
        if let Ok(endpoint) = std::env::var("GANTRY_S3_ENDPOINT") {
            return Some(Self { endpoint, child: None });
        }
        let program = program()?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let errors = child.stderr.take().unwrap();
        // It is read, so that it does not fill.
        std::thread::spawn(move || BufReader::new(errors).lines().map_while(Result::ok).count());
        let service = Self { endpoint: format!("http://127.0.0.1:{port}"), child: Some(child) };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "moto's server does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(service)
    }

    fn make_bucket(&self, name: &str) {
        let address = self.endpoint.trim_start_matches("http://").parse().unwrap();
        let call = crate::kit::Call::new(address, "PUT", &format!("/{name}")).header("Content-Length", "0");
        let reply = call.send();
        assert!(reply.status == 200 || reply.status == 409, "{}", reply.text());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn images_lie_in_a_bucket() {
    let Some(service) = Service::find() else {
        eprintln!("SKIPPED: no S3 service: set GANTRY_S3_ENDPOINT, or run cargo xtask test --lane root once");
        return;
    };
    let bucket = format!("gantry-{}", std::process::id());
    service.make_bucket(&bucket);
    let text = format!(
        "[gc]\ngrace = 0\n[storage.s3]\nbucket = '{bucket}'\nprefix = 'a/b'\nregion = 'us-east-1'\nendpoint = '{}'\n\
         allow_http = true\naccess_key_id = 'x'\nsecret_access_key_file = '@/secret'",
        service.endpoint
    );
    let directory = crate::kit::Directory::new();
    std::fs::write(directory.path().join("secret"), "y\n").unwrap();
    let mut server = Server::start_in(&text, directory);
    // More than one part of an upload to S3.
    let (large, small) = (noise(21, (17 << 20) + 5), noise(22, 100));
    let digest = server.push_image("team/app", "v1", &[&large, &small, b""]);
    let large_digest = digest_of(Algorithm::Sha256, &large);
    for restarted in [false, true] {
        if restarted {
            server.restart();
        }
        server.get(&format!("/v2/team/app/manifests/{digest}")).expect(200);
        assert_eq!(server.get("/v2/team/app/tags/list").json()["tags"], serde_json::json!(["v1"]));
        assert_eq!(server.get("/v2/_catalog").json()["repositories"], serde_json::json!(["team/app"]));
        let path = format!("/v2/team/app/blobs/{large_digest}");
        assert!(server.get(&path).expect(200).body == large);
        let part = server.call("GET", &path).header("Range", "bytes=9000000-9000099").send().expect(206);
        assert!(part.body == large[9_000_000..9_000_100]);
        let none = digest_of(Algorithm::Sha256, b"");
        assert!(server.get(&format!("/v2/team/app/blobs/{none}")).expect(200).body.is_empty());
    }
    let collected = RUNTIME.block_on(server.registry().collect(false)).unwrap();
    assert_eq!((collected.unlinked, collected.removed), (0, 0));
    server.call("DELETE", &format!("/v2/team/app/manifests/{digest}")).send().expect(202);
    server.pass(10_000_000_000);
    let collected = RUNTIME.block_on(server.registry().collect(false)).unwrap();
    assert_eq!((collected.unlinked, collected.removed), (4, 4));
    assert_eq!(server.get("/v2/_catalog").json()["repositories"], serde_json::json!([]));
    let left = std::fs::read_dir(server.directory.path().join("store/uploads")).unwrap().count();
    assert_eq!(left, 0, "uploads leave nothing behind");
}

#[test]
fn a_service_that_is_gone_is_told_in_time() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "listen = '127.0.0.1:0'\n[storage.s3]\nbucket = 'b'\nregion = 'us-east-1'\nallow_http = true\n\
         endpoint = 'http://127.0.0.1:{port}'\naccess_key_id = 'x'\nsecret_access_key_file = '@/secret'"
    );
    let directory = crate::kit::Directory::new();
    std::fs::write(directory.path().join("secret"), "y\n").unwrap();
    let text = text.replace('@', directory.path().to_str().unwrap());
    let mut config = gantry_registry::Config::parse(&text).unwrap();
    config.storage.root = directory.path().join("store");
    let begun = Instant::now();
    let error = RUNTIME.block_on(gantry_registry::Registry::start(config)).err().unwrap();
    println!("{:?}: {error}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(error.to_string().contains("reach the bucket"), "{error}");
}

#[test]
fn a_bucket_that_is_missing_or_goes_away() {
    let Some(mut service) = Service::find().filter(|service| service.child.is_some()) else {
        eprintln!("SKIPPED: no S3 service that may be ended: run cargo xtask test --lane root once");
        return;
    };
    let text = format!(
        "[storage.s3]\nbucket = 'missing'\nregion = 'us-east-1'\nendpoint = '{}'\nallow_http = true\n\
         access_key_id = 'x'\nsecret_access_key_file = '@/secret'",
        service.endpoint
    );
    let directory = crate::kit::Directory::new();
    std::fs::write(directory.path().join("secret"), "y\n").unwrap();
    let whole = format!("listen = '127.0.0.1:0'\n{}", text.replace('@', directory.path().to_str().unwrap()));
    let mut config = gantry_registry::Config::parse(&whole).unwrap();
    config.storage.root = directory.path().join("missing");
    let error = RUNTIME.block_on(gantry_registry::Registry::start(config)).err().expect("it starts without a bucket");
    assert!(error.to_string().contains("reach the bucket"), "{error}");

    service.make_bucket("there");
    let server = Server::start_in(&text.replace("'missing'", "'there'"), directory);
    let large = noise(31, 3 << 20);
    server.push_image("app", "v1", &[&large]);
    let blob = format!("/v2/app/blobs/{}", digest_of(Algorithm::Sha256, &large));
    server.get(&blob).expect(200);
    if let Some(child) = &mut service.child {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let begun = Instant::now();
    let status = server.get(&blob).status;
    assert!(status >= 500 && begun.elapsed() < Duration::from_secs(40), "{status} after {:?}", begun.elapsed());
    // It lives on, and says so.
    server.get("/v2/").expect(200);
}
