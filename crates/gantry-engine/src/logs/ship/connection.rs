//! Connections to servers of logs, of all kinds.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gantry_distribution::tls::{self, Identity};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::journald::Journal;
use super::syslog::TlsFiles;
use crate::logs::option::Address;

/// How long a server may take to answer, and to take what it is sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer in bytes.
const MAX_ANSWER: usize = 1024;

/// A connection.
pub(super) enum Connection {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
    Udp(UdpSocket),
    Unixgram(UnixDatagram),
    Journal(Arc<Journal>),
}

impl Connection {
    pub(super) async fn open(address: &Address, tls: &TlsFiles) -> io::Result<Self> {
        timely(async {
            match address {
                Address::Tcp(host, port) => TcpStream::connect((host.as_str(), *port)).await.map(Self::Tcp),
                Address::Tls(host, port) => {
                    let files = tls.clone();
                    let config =
                        tokio::task::spawn_blocking(move || config(&files)).await.map_err(io::Error::other)??;
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
                    Ok(Self::Tls(Box::new(stream)))
                }
                Address::Udp(host, port) => udp(host, *port).await.map(Self::Udp),
                Address::Unix(path) => match UnixStream::connect(path).await {
                    // The same name may be that of a socket of packets.
                    Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) => {
                        unixgram(path)
                    }
                    other => other.map(Self::Unix),
                },
                Address::Unixgram(path) => unixgram(path),
            }
        })
        .await
    }

    pub(super) async fn journal(path: &Path) -> io::Result<Self> {
        let path = PathBuf::from(path);
        let journal =
            tokio::task::spawn_blocking(move || Journal::connect(&path)).await.map_err(io::Error::other)??;
        Ok(Self::Journal(Arc::new(journal)))
    }

    /// Whether messages are sent one by one.
    pub(super) fn is_packets(&self) -> bool {
        matches!(self, Self::Udp(_) | Self::Unixgram(_) | Self::Journal(_))
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        timely(async {
            match self {
                Self::Tcp(stream) => stream.write_all(bytes).await,
                Self::Tls(stream) => {
                    stream.write_all(bytes).await?;
                    stream.flush().await
                }
                Self::Unix(stream) => stream.write_all(bytes).await,
                Self::Udp(socket) => match socket.send(bytes).await {
                    // Nobody listens: packets are sent without knowing, and this is word of an earlier one.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
                    other => other.map(drop),
                },
                Self::Unixgram(socket) => socket.send(bytes).await.map(drop),
                Self::Journal(journal) => {
                    let (journal, message) = (Arc::clone(journal), bytes.to_vec());
                    let sent = tokio::task::spawn_blocking(move || journal.send(&message)).await;
                    sent.map_err(io::Error::other)?
                }
            }
        })
        .await
    }

    /// Whether the other side hung up, of which a stream knows before it is written to, or else not.
    pub(super) fn is_closed(&self) -> bool {
        let mut byte = [0];
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut byte),
            Self::Unix(stream) => stream.try_read(&mut byte),
            Self::Tls(stream) => stream.get_ref().0.peek_closed(),
            _ => return false,
        };
        match read {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Reads until `word` was said.
    pub(super) async fn expect(&mut self, word: &[u8]) -> io::Result<()> {
        timely(async {
            let mut answer = Vec::new();
            let mut bytes = [0; 256];
            while !answer.windows(word.len()).any(|part| part == word) {
                let got = match self {
                    Self::Tcp(stream) => stream.read(&mut bytes).await?,
                    Self::Tls(stream) => stream.read(&mut bytes).await?,
                    Self::Unix(stream) => stream.read(&mut bytes).await?,
                    _ => return Ok(()),
                };
                if got == 0 {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no acknowledgement came"));
                }
                answer.extend_from_slice(&bytes[..got]);
                if answer.len() > MAX_ANSWER {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is no acknowledgement"));
                }
            }
            Ok(())
        })
        .await
    }
}

/// Whether a stream whose bytes are somebody else's to read has ended.
trait PeekClosed {
    fn peek_closed(&self) -> io::Result<usize>;
}

impl PeekClosed for TcpStream {
    fn peek_closed(&self) -> io::Result<usize> {
        let mut byte = [0_u8];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        Ok(rustix::net::recv(self, &mut byte, flags).map(|(count, _)| count)?)
    }
}

async fn udp(host: &str, port: u16) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        match UdpSocket::bind(local).await {
            Ok(socket) => match socket.connect(address).await {
                Ok(()) => return Ok(socket),
                Err(error) => last = error,
            },
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn unixgram(path: &str) -> io::Result<Connection> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(Connection::Unixgram(socket))
}

async fn timely<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn config(files: &TlsFiles) -> io::Result<ClientConfig> {
    let client = files.certificate.as_ref().zip(files.key.as_ref());
    let identity = Identity {
        authorities: files.ca.iter().map(PathBuf::from).collect(),
        client: client.map(|(certificate, key)| (certificate.into(), key.into())),
        unchecked: files.skip_verify,
    };
    tls::client(&identity, files.ca.is_none()).map_err(io::Error::other)
}
