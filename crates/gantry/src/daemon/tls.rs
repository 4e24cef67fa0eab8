//! The door of TCP: whoever comes shows a certificate of an authority that was named, or is not let in.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use gantry_docker_api::Door;
use gantry_registry::Tls;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::config::TlsConfig;
use crate::failure::Outcome;

/// How long a connection may be idle.
const PATIENCE: Duration = Duration::from_secs(300);

/// Who the daemon is, and whom it lets in. It can change.
#[derive(Default)]
pub struct Identity(RwLock<Option<Arc<ServerConfig>>>);

impl Identity {
    /// Reads the files.
    pub fn read(config: &TlsConfig) -> Outcome<Arc<ServerConfig>> {
        let own = Tls { certificate: config.certificate.clone(), key: config.key.clone() };
        Ok(gantry_registry::mutual(&own, &config.ca)?)
    }

    /// Who comes from now on meets this.
    pub fn set(&self, config: Arc<ServerConfig>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(config);
    }

    fn get(&self) -> Option<Arc<ServerConfig>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A door of TCP with TLS.
pub struct TlsDoor {
    pub listener: TcpListener,
    pub identity: Arc<Identity>,
    /// How many connections are served at a time.
    pub connections: usize,
}

impl Door for TlsDoor {
    type Raw = TcpStream;
    type Stream = TlsStream<TcpStream>;

    fn connections(&self) -> usize {
        self.connections
    }

    fn patience(&self) -> Option<Duration> {
        Some(PATIENCE)
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        accept(&self.listener).await
    }

    async fn greet(&self, raw: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = self.identity.get().ok_or_else(|| io::Error::other("there is no certificate"))?;
        TlsAcceptor::from(config).accept(raw).await
    }
}

/// A door of TCP without TLS, for what everybody who reaches it may read.
pub struct PlainDoor {
    pub listener: TcpListener,
    /// How many connections are served at a time.
    pub connections: usize,
}

impl Door for PlainDoor {
    type Raw = TcpStream;
    type Stream = TcpStream;

    fn connections(&self) -> usize {
        self.connections
    }

    fn patience(&self) -> Option<Duration> {
        Some(PATIENCE)
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        accept(&self.listener).await
    }

    async fn greet(&self, raw: TcpStream) -> io::Result<TcpStream> {
        Ok(raw)
    }
}

async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    // Answers are written whole; a client that went away without a word is noticed sometime.
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
    Ok(stream)
}
