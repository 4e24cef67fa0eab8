//! Certificates: whose authority counts, and who shows one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use gantry_distribution::Registry;
use gantry_distribution::{Anonymous, Client, Config};
use gantry_model::image::media;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::fake::Fake;
use crate::{config, reference, run};

pub const MANIFEST: &[u8] = br#"{"schemaVersion":2,"config":{"mediaType":"c","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;

/// Connections over TLS; those that fail to agree are dropped.
struct Secured(TcpListener, TlsAcceptor);

impl axum::serve::Listener for Secured {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, from) = self.0.accept().await.unwrap();
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// An authority with files of its certificate, and of a client's certificate and key.
pub struct Authority {
    directory: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("gantry-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(directory.join("ca.pem"), issuer.pem()).unwrap();
        let authority = Self { directory, issuer };
        let (certificate, key) = authority.certify("client");
        std::fs::write(authority.file("client.pem"), certificate.pem()).unwrap();
        std::fs::write(authority.file("client.key"), key.serialize_pem()).unwrap();
        authority
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn certify(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name, "127.0.0.1", "registry.test"].map(str::to_owned)).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A registry with a certificate of this authority, which may ask clients for one too.
    pub async fn serve(&self, ask: bool) -> (String, Arc<Fake>) {
        let fake = Arc::new(Fake::new());
        fake.put_manifest("a", "1", media::OCI_MANIFEST, MANIFEST);
        let (certificate, key) = self.certify("localhost");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.unwrap();
        let builder = if ask {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from(self.issuer.der().to_vec())).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = fake.router();
        let secured = Secured(listener, TlsAcceptor::from(Arc::new(tls)));
        tokio::spawn(async move { axum::serve(secured, router).await });
        (address, fake)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

async fn pull(address: &str, registry: Registry) -> Result<(), String> {
    let config = Config { registry: BTreeMap::from([(address.to_owned(), registry)]), ..config() };
    let client = Client::new(config, Arc::new(Anonymous)).map_err(|e| e.to_string())?;
    client.manifest(&reference(address, "a:1")).await.map(drop).map_err(|e| e.to_string())
}

#[test]
fn an_authority_counts_where_it_is_named() {
    run(async {
        let (ours, other) = (Authority::new("ours"), Authority::new("other"));
        let (address, _fake) = ours.serve(false).await;
        let with = |authority: &Authority| Registry { ca: vec![authority.file("ca.pem")], ..Registry::default() };
        pull(&address, with(&ours)).await.unwrap();
        // Loopback is trusted without: what is checked is that an authority that is named is the one that counts.
        let strict = pull(&address, with(&other)).await;
        assert!(strict.as_ref().is_err_and(|why| why.contains("certificate")), "{strict:?}");
        pull(&address, Registry { insecure: true, ..Registry::default() }).await.unwrap();
        let missing = pull(&address, Registry { ca: vec![ours.file("none.pem")], ..Registry::default() }).await;
        assert!(missing.as_ref().is_err_and(|why| why.contains("none.pem")), "{missing:?}");
    });
}

#[test]
fn a_client_shows_its_certificate() {
    run(async {
        let ours = Authority::new("client");
        let (address, _fake) = ours.serve(true).await;
        let ca = vec![ours.file("ca.pem")];
        assert!(pull(&address, Registry { ca: ca.clone(), ..Registry::default() }).await.is_err());
        let certificate = Some(ours.file("client.pem"));
        let key = Some(ours.file("client.key"));
        let registry = Registry { ca, client_certificate: certificate, client_key: key, ..Registry::default() };
        pull(&address, registry).await.unwrap();
    });
}

/// Docker's directory of certificates serves as well.
#[test]
fn certificates_are_found_by_host() {
    run(async {
        let (ours, other) = (Authority::new("by-host"), Authority::new("by-host-other"));
        let (address, _fake) = ours.serve(true).await;
        let directory = ours.file(&address);
        let pull = async || {
            let config = Config { certificates: vec![ours.directory.clone()], ..config() };
            let client = Client::new(config, Arc::new(Anonymous)).unwrap();
            client.manifest(&reference(&address, "a:1")).await.map(drop).map_err(|e| e.to_string())
        };
        assert!(pull().await.is_err(), "there is no certificate of ours yet");
        std::fs::create_dir(&directory).unwrap();
        std::fs::copy(ours.file("ca.pem"), directory.join("ca.crt")).unwrap();
        std::fs::copy(ours.file("client.pem"), directory.join("client.cert")).unwrap();
        let error = pull().await.unwrap_err();
        assert!(error.contains("client.cert: its key is missing"), "{error}");
        std::fs::copy(ours.file("client.key"), directory.join("client.key")).unwrap();
        pull().await.unwrap();
        std::fs::copy(other.file("ca.pem"), directory.join("ca.crt")).unwrap();
        assert!(pull().await.is_err(), "another authority is named");
    });
}
