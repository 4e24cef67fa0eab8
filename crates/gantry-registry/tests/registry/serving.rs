//! The server itself: who it listens for, TLS, slow clients, operators, and its end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_model::digest::Algorithm;
use gantry_registry::{Config, Error, Registry};
use rustls::pki_types::ServerName;

use crate::kit::{Directory, OPERATED, RUNTIME, Server, digest_of, noise};

#[test]
fn it_is_not_open_by_accident() {
    let check = |text: &str, expect: &str| {
        let directory = Directory::new();
        let mut config = Config::parse(text).unwrap();
        config.storage.root = directory.path().join("store");
        let error = RUNTIME.block_on(Registry::start(config)).err().unwrap_or_else(|| panic!("{text} started"));
        assert!(error.to_string().contains(expect), "{text}: {error}");
        assert!(!directory.path().join("store").exists(), "nothing is made before it is refused");
    };
    check("listen = '0.0.0.0:0'", "--insecure-open");
    check("listen = '[::]:0'", "127.0.0.1");
    check("listen = '0.0.0.0:0'\n[auth]\nhtpasswd = '/none'", "TLS");
    check("admin_listen = '0.0.0.0:0'", "admin_listen");
}

#[test]
fn a_directory_has_one_registry() {
    let server = Server::start("");
    let mut config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
    config.storage.root = server.directory.path().join("store");
    let error = RUNTIME.block_on(Registry::start(config)).err().unwrap();
    assert!(matches!(error, Error::InUse(_)), "{error}");
}

pub fn certificate(directory: &Directory) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(directory.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(directory.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made
}

fn connect(
    server: &Server,
    trusted: &rcgen::Certificate,
) -> std::io::Result<rustls::StreamOwned<rustls::ClientConnection, TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let mut connection = rustls::ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    connection.complete_io(&mut stream)?;
    Ok(rustls::StreamOwned::new(connection, stream))
}

#[test]
fn certificates_change_while_it_runs() {
    let directory = Directory::new();
    let first = certificate(&directory);
    let server = Server::start_in("[tls]\ncertificate = '@/cert.pem'\nkey = '@/key.pem'", directory);
    server.call("GET", "/v2/").over(connect(&server, &first.cert).unwrap()).expect(200);
    let blob = noise(7, 1 << 20);
    let digest = digest_of(Algorithm::Sha256, &blob);
    let path = format!("/v2/tls/blobs/uploads/?digest={digest}");
    server.call("POST", &path).body(&blob).over(connect(&server, &first.cert).unwrap()).expect(201);
    let reply = server.call("GET", &format!("/v2/tls/blobs/{digest}")).over(connect(&server, &first.cert).unwrap());
    assert!(reply.expect(200).body == blob);
    let second = certificate(&server.directory);
    server.registry().reload().unwrap();
    assert!(connect(&server, &first.cert).is_err());
    server.call("GET", "/v2/").over(connect(&server, &second.cert).unwrap()).expect(200);
    // A pair that does not fit changes nothing.
    let third = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(server.directory.path().join("key.pem"), third.signing_key.serialize_pem()).unwrap();
    let error = server.registry().reload().unwrap_err();
    assert!(error.to_string().contains("not the key"), "{error}");
    server.call("GET", "/v2/").over(connect(&server, &second.cert).unwrap()).expect(200);
}

#[test]
fn slow_clients_are_let_go() {
    let server = Server::start("[limits]\nheader_timeout = 1\nidle_timeout = 1");
    for start in ["", "G", "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(start.as_bytes()).unwrap();
        let begun = Instant::now();
        let mut rest = vec![];
        // Closed, or told so and closed.
        let _ = stream.read_to_end(&mut rest);
        assert!(begun.elapsed() < Duration::from_secs(5), "{start:?} {}", String::from_utf8_lossy(&rest));
    }
    let place = server.call("POST", "/v2/slow/blobs/uploads/").send().expect(202);
    let place = place.header("location").unwrap().to_owned();
    let call = server.call("PATCH", &place).header("Content-Length", "1000");
    let mut stream = call.begin();
    stream.write_all(b"some").unwrap();
    call.receive(stream).refused(400, "BLOB_UPLOAD_INVALID");
    assert_eq!(server.get(&place).expect(204).header("range"), Some("0-3"));
}

#[test]
fn operators_see_what_happens() {
    let server = Server::start(&format!("{OPERATED}[gc]\ngrace = 0"));
    let admin = server.registry().admin_address().unwrap();
    let operator = |method: &str, path: &str| crate::kit::Call::new(admin, method, path).send();
    server.push_image("m", "x", &[b"layer"]);
    server.get("/v2/m/manifests/none").expect(404);
    let text = operator("GET", "/metrics").expect(200).text();
    for line in [
        "gantry_registry_requests_total{operation=\"manifest_put\",status=\"201\"} 1",
        "gantry_registry_requests_total{operation=\"manifest_get\",status=\"404\"} 1",
        "gantry_registry_request_seconds_count{operation=\"manifest_put\"} 1",
        "gantry_registry_uploads 0",
        "# TYPE gantry_registry_request_seconds histogram",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
    server.push_blob("m", b"unused");
    assert_eq!(operator("GET", "/gantry/gc").expect(200).json()["unlinked"], 1);
    let done = operator("POST", "/gantry/gc").expect(200).json();
    assert_eq!((&done["unlinked"], &done["removed"]), (&1.into(), &1.into()));
    let received = server.push_blob("m", &noise(1, 5000)).to_string();
    server.get(&format!("/v2/m/blobs/{received}")).expect(200);
    let open = server.call("POST", "/v2/m/blobs/uploads/").send().expect(202);
    for (name, least, most) in [
        ("gc_runs_total", 1, 1),
        ("gc_blobs_total", 1, 1),
        ("gc_bytes_total", 6, 6),
        ("sent_bytes_total", 5000, 9000),
        ("received_bytes_total", 5000, 5200),
        ("uploads", 1, 1),
        ("connections", 1, 100),
        ("uploads_expired_total", 0, 0),
    ] {
        let value = server.metric(name);
        assert!((least..=most).contains(&value), "{name}: {value}");
    }
    server.call("DELETE", open.header("location").unwrap()).send().expect(204);
    assert_eq!(server.metric("uploads"), 0);
    check_exposition(&operator("GET", "/metrics").text());
    assert_eq!(operator("GET", "/gantry/retention").expect(200).json(), serde_json::json!([]));
    operator("GET", "/healthz").expect(200);
    operator("GET", "/v2/").expect(404);
    operator("DELETE", "/metrics").expect(405);
}

/// That each sample has a type before it and a number, and that the classes of a histogram add up.
fn check_exposition(text: &str) {
    let (mut typed, mut last, mut samples) = (vec![], (String::new(), 0.0), 0);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            typed.push(rest.split(' ').next().unwrap().to_owned());
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        assert!(typed.last().is_some_and(|name| series.starts_with(name.as_str())), "{line}");
        if let Some((name, _)) = series.split_once(",le=") {
            assert!(last.0 != name || last.1 <= value, "{line}");
            last = (name.to_owned(), value);
        }
        samples += 1;
    }
    assert!(samples > 30, "{text}");
}

#[test]
fn downloads_end_before_the_server_does() {
    let mut server = Server::start("");
    // More than the buffers of both ends hold.
    let bytes = noise(8, 32 << 20);
    let digest = server.push_blob("end", &bytes);
    let call = server.call("GET", &format!("/v2/end/blobs/{digest}"));
    let mut stream = call.begin();
    let mut first = [0];
    stream.read_exact(&mut first).unwrap();
    let stop = RUNTIME.spawn(server.registry.take().unwrap().stop());
    std::thread::sleep(Duration::from_millis(200));
    assert!(!stop.is_finished());
    assert!(call.receive((&first[..]).chain(stream)).expect(200).body == bytes);
    RUNTIME.block_on(async { tokio::time::timeout(Duration::from_secs(5), stop).await }).unwrap().unwrap();
}

#[test]
fn transfers_end_before_the_server_does() {
    let mut server = Server::start("");
    let bytes = noise(9, 4 << 20);
    let digest = digest_of(Algorithm::Sha256, &bytes);
    let call =
        server.call("POST", &format!("/v2/end/blobs/uploads/?digest={digest}")).header("Content-Length", "4194304");
    let mut stream = call.begin();
    stream.write_all(&bytes[..1 << 20]).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let (address, registry) = (server.address, server.registry.take().unwrap());
    let stop = RUNTIME.spawn(registry.stop());
    std::thread::sleep(Duration::from_millis(200));
    assert!(TcpStream::connect(address).is_err(), "it takes no new connection");
    assert!(!stop.is_finished());
    stream.write_all(&bytes[1 << 20..]).unwrap();
    call.receive(stream).expect(201);
    RUNTIME.block_on(async { tokio::time::timeout(Duration::from_secs(5), stop).await }).unwrap().unwrap();
    server.restart();
    assert!(server.get(&format!("/v2/end/blobs/{digest}")).expect(200).body == bytes);
}

#[test]
fn transfers_that_do_not_end_are_cut_off() {
    let mut server = Server::start("[limits]\nshutdown = 1");
    let place = server.call("POST", "/v2/end/blobs/uploads/").send().expect(202).header("location").unwrap().to_owned();
    let call = server.call("PATCH", &place).header("Content-Length", "1000");
    let mut stream = call.begin();
    stream.write_all(b"some").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    RUNTIME.block_on(server.registry.take().unwrap().stop());
    assert!(begun.elapsed() < Duration::from_secs(5));
    server.restart();
    server.get(&place).expect(204);
}
