//! TLS: whom to trust, and how to prove who we are. Not only registries are reached so: whoever is a client of TLS has its
//! configuration from here.
//!
//! The provider of cryptography is ring, named here, since no default is compiled in. The system's authorities are read
//! when the first connection needs them: a machine without any can still use registries that need none.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Error, Result};

/// The most of a file with certificates that is read, in bytes.
const MAX_PEM: u64 = 8 << 20;
/// The most files of one directory of certificates.
const MAX_FILES: usize = 64;

/// Whom to trust and who we are, for one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Files of certificates of authorities.
    pub authorities: Vec<PathBuf>,
    /// Certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Take any certificate.
    pub unchecked: bool,
}

impl Identity {
    /// Adds what Docker's directory of certificates holds for a host: `HOST[:PORT]/`.
    pub(crate) fn add_directory(&mut self, directory: &Path, host: &str) -> Result<()> {
        // The host comes from a URL, but becomes a part of a path here.
        if host.is_empty() || host.starts_with('.') || host.contains('/') {
            return Ok(());
        }
        let directory = directory.join(host);
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::file("reading", directory, error)),
        };
        let mut paths: Vec<_> = entries.flatten().take(MAX_FILES).map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            match path.extension().and_then(|e| e.to_str()) {
                Some("crt") => self.authorities.push(path),
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !key.exists() {
                        let why = "its key is missing: NAME.cert needs NAME.key beside it".to_owned();
                        return Err(Error::Content { path, why });
                    }
                    self.client.get_or_insert((path, key));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The configuration for a registry's host. `system` says whether the system's authorities are needed at all.
pub(crate) fn config(identity: &Identity, system: bool) -> Result<ClientConfig> {
    let mut config = client(identity, system)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The configuration of a client, which offers no protocols. `system` says whether the system's authorities are trusted
/// beside those that are named.
///
/// # Errors
/// A file cannot be read, or has not what it should have.
pub fn client(identity: &Identity, system: bool) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Config(format!("TLS: {error}")))?;
    let builder = if identity.unchecked {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
    } else {
        let mut roots = if system { RootCertStore::clone(system_roots()) } else { RootCertStore::empty() };
        for path in &identity.authorities {
            for certificate in certificates(path)? {
                let bad = |error| Error::Content { path: path.clone(), why: format!("no authority: {error}") };
                roots.add(certificate).map_err(bad)?;
            }
        }
        builder.with_root_certificates(roots)
    };
    match &identity.client {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let bad = |error| Error::Content { path: certificate.clone(), why: format!("client certificate: {error}") };
            builder.with_client_auth_cert(certificates(certificate)?, private_key(key)?).map_err(bad)
        }
    }
}

/// The authorities that the system trusts; there may be none.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "authorities of the system");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        roots
    })
}

/// What to say beside a failed handshake if the system has no authorities.
pub(crate) fn hint() -> &'static str {
    if system_roots().is_empty() {
        "; this machine has no certificates of authorities: install ca-certificates, or name them as ca of the registry"
    } else {
        ""
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_PEM + 1).read_to_end(&mut bytes));
    read.map_err(|error| Error::file("reading", path, error))?;
    if bytes.len() as u64 > MAX_PEM {
        return Err(Error::Content { path: path.into(), why: format!("larger than {MAX_PEM} bytes") });
    }
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bad = |why: String| Error::Content { path: path.into(), why };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let found = found.map_err(|error| bad(format!("no PEM: {error}")))?;
    if found.is_empty() {
        return Err(bad("there is no certificate (PEM) in it".to_owned()));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let bad = |error| Error::Content { path: path.into(), why: format!("no private key (PEM): {error}") };
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(bad)
}

/// Takes any certificate, as asked for by `insecure`. The handshake itself is still verified.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
