//! TLS to a daemon elsewhere: it is known by its authority, and knows this client by a certificate.

use std::io;
use std::sync::Arc;

use gantry_distribution::tls::{self, Identity};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::TlsFiles;
use crate::failure::Outcome;

/// What is needed to reach a daemon.
pub struct Tls(TlsConnector);

impl Tls {
    /// Reads the files.
    pub fn read(files: &TlsFiles) -> Outcome<Self> {
        let identity = Identity {
            authorities: files.authority.iter().cloned().collect(),
            client: files.identity.clone(),
            // What `--tls` without `--tlsverify` asks for: whoever answers is taken for the daemon.
            unchecked: files.authority.is_none(),
        };
        let config = tls::client(&identity, false)?;
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Speaks TLS over a stream.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.0.connect(name, stream).await
    }
}
