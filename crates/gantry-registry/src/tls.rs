//! Certificates, which are read again when their files change.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use crate::config;
use crate::error::{Error, Result};

/// The certificate in force.
#[derive(Debug)]
pub(crate) struct Certificate {
    config: config::Tls,
    current: RwLock<(Arc<CertifiedKey>, Stamp)>,
}

type Stamp = (Option<SystemTime>, Option<SystemTime>);

impl Certificate {
    /// Reads certificate and key.
    pub fn open(config: &config::Tls) -> Result<Self> {
        let stamp = stamp(config);
        Ok(Self { config: config.clone(), current: RwLock::new((Arc::new(load(config)?), stamp)) })
    }

    /// Reads them again if they changed, or always. A pair that cannot be used leaves the old one in force.
    pub fn reload(&self, always: bool) -> Result<bool> {
        let now = stamp(&self.config);
        if !always && self.current.read().unwrap_or_else(PoisonError::into_inner).1 == now {
            return Ok(false);
        }
        let key = load(&self.config)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = (Arc::new(key), now);
        Ok(true)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).0.clone())
    }
}

fn stamp(config: &config::Tls) -> Stamp {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    (modified(&config.certificate), modified(&config.key))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io("read", path, e))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_slice_iter(&read(path)?).collect::<std::result::Result<Vec<_>, _>>();
    let chain = chain.map_err(|e| Error::secret(path, e.to_string()))?;
    if chain.is_empty() {
        return Err(Error::secret(path, "there is no certificate (PEM) in it"));
    }
    Ok(chain)
}

fn load(config: &config::Tls) -> Result<CertifiedKey> {
    let chain = certificates(&config.certificate)?;
    let key =
        PrivateKeyDer::from_pem_slice(&read(&config.key)?).map_err(|e| Error::secret(&config.key, e.to_string()))?;
    let key =
        rustls::crypto::ring::sign::any_supported_type(&key).map_err(|e| Error::secret(&config.key, e.to_string()))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(pair),
        Err(error) => Err(Error::secret(&config.key, format!("it is not the key of the certificate: {error}"))),
    }
}

/// What the server speaks.
pub(crate) fn server(certificate: Arc<Certificate>) -> Result<Arc<rustls::ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| Error::config("tls", e.to_string()))?;
    let mut server = builder.with_no_client_auth().with_cert_resolver(certificate);
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}

/// What a server speaks that lets nobody in but clients with a certificate of an authority in the PEM file `authority`. It
/// speaks HTTP/1.1 alone. The files are read now, and not again.
///
/// # Errors
/// A file cannot be read, holds no certificate or key, or the key is not that of the certificate.
pub fn mutual(tls: &config::Tls, authority: &Path) -> Result<Arc<rustls::ServerConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots.add(certificate).map_err(|e| Error::secret(authority, e.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let clients = clients.map_err(|e| Error::secret(authority, e.to_string()))?;
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| Error::config("tls", e.to_string()))?;
    let own = rustls::sign::SingleCertAndKey::from(load(tls)?);
    let mut server = builder.with_client_cert_verifier(clients).with_cert_resolver(Arc::new(own));
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}
