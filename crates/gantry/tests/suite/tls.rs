//! A daemon elsewhere: it is reached by TLS, it knows its clients by certificates, and they know it by its authority.

#![allow(clippy::unwrap_used, reason = "a test ends where its place cannot be made")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::world::{Said, World, bare, said};

pub type Issuer = CertifiedIssuer<'static, KeyPair>;

pub fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for a name, with its key.
pub fn certificate(issuer: &Issuer, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.signed_by(&key, issuer).unwrap(), key)
}

/// A daemon that answers every request with an empty list; gives its port.
fn serve(ours: &Issuer, clients: &Issuer) -> u16 {
    let (certificate, key) = certificate(ours, "127.0.0.1");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(clients.der().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // It ends with the process of the tests.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let config = Arc::clone(&config);
            std::thread::spawn(move || {
                let connection = ServerConnection::new(config).unwrap();
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                let mut head = Vec::new();
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|size| size == 1) {
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") {
                        let body = if head.starts_with(b"HEAD") { "" } else { "[]" };
                        let length = body.len();
                        let _ = write!(
                            stream,
                            "HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\nContent-Length: {length}\r\n\r\n{body}"
                        );
                        let _ = stream.flush();
                        head.clear();
                    }
                }
            });
        }
    });
    port
}

#[test]
fn a_daemon_elsewhere() {
    let world = World::new();
    let (daemons, clients, others) = (authority(), authority(), authority());
    let port = serve(&daemons, &clients);
    let ca = world.write("ca.pem", daemons.pem().as_bytes());
    let other = world.write("other.pem", others.pem().as_bytes());
    let (own, key) = certificate(&clients, "me");
    let cert = world.write("cert.pem", own.pem().as_bytes());
    let key = world.write("key.pem", key.serialize_pem().as_bytes());
    let call = |flags: &str| -> Said {
        let line = format!("-H tcp://127.0.0.1:{port} {flags} ps --json");
        let mut command = bare();
        command.args(line.split_whitespace()).env("DOCKER_CERT_PATH", &world.dir).env("HOME", &world.dir);
        said(command.output().unwrap())
    };
    let good = call(&format!("--tlsverify --tlscacert {ca} --tlscert {cert} --tlskey {key}"));
    assert_eq!((good.status, good.out.as_str()), (0, "[]\n"), "{good:?}");
    // The files have the names that are looked for.
    assert_eq!(call("--tlsverify").out, "[]\n");
    assert_eq!(call("--tls").out, "[]\n");
    let stranger = call(&format!("--tlsverify --tlscacert {other}"));
    assert!(stranger.status == 1 && stranger.err.contains("invalid peer certificate"), "{stranger:?}");
    let missing = call("--tlsverify --tlscert /none/cert.pem");
    assert!(missing.status == 1 && missing.err.contains("/none/cert.pem"), "{missing:?}");
    let plain = call("");
    assert!(plain.status == 1 && plain.err.contains("it does not speak HTTP"), "{plain:?}");
}
