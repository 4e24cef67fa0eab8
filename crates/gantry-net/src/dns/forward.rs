//! Questions that others answer: from the host's namespace, one server after the other.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::wire::{self, Code, Question};

/// How long one server has.
const PATIENCE: Duration = Duration::from_secs(4);
/// The most servers that are asked.
const SERVERS: usize = 3;
/// The most bytes of an answer in a datagram.
const DATAGRAM: usize = 4096;

/// Asks servers until one answers. An answer of more than `room` bytes is cut. If nobody answers, the answer says so.
pub async fn forward(message: &[u8], question: &Question, servers: &[SocketAddr], room: usize) -> Vec<u8> {
    let mut failure = None;
    for server in servers.iter().take(SERVERS) {
        match timeout(PATIENCE, ask(message, question, *server)).await {
            Ok(Ok(reply)) if wire::has_failed(&reply) => failure = Some(reply),
            Ok(Ok(reply)) => return fitted(reply, message, question, room),
            Ok(Err(error)) => tracing::debug!(%server, %error, "a name server gave no answer"),
            Err(_) => tracing::debug!(%server, "a name server gave no answer in time"),
        }
    }
    match failure {
        Some(reply) => fitted(reply, message, question, room),
        None => wire::answer(message, question, Code::ServFail, &[], room),
    }
}

/// An answer with the number of its question, cut if it is too long.
fn fitted(reply: Vec<u8>, message: &[u8], question: &Question, room: usize) -> Vec<u8> {
    if reply.len() > room {
        return wire::truncated(message, question);
    }
    match message.get(..2).and_then(|number| number.try_into().ok()) {
        Some(number) => wire::with_number(&reply, number),
        None => reply,
    }
}

/// Asks one server by datagram, and if the answer was cut, by stream.
async fn ask(message: &[u8], question: &Question, server: SocketAddr) -> io::Result<Vec<u8>> {
    let number = random()?;
    let sent = wire::with_number(message, number);
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A socket for each question, whose port the kernel chooses: a forger would have to guess that too.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&sent).await?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let reply = buffer.get(..length).unwrap_or_default();
        if !wire::answers(reply, &sent, question, number) {
            continue;
        }
        if wire::is_truncated(reply) {
            let reply = reply.to_vec();
            return Ok(ask_by_stream(&sent, question, server, number).await.unwrap_or(reply));
        }
        buffer.truncate(length);
        return Ok(buffer);
    }
}

async fn ask_by_stream(sent: &[u8], question: &Question, server: SocketAddr, number: [u8; 2]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&framed(sent)).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    if wire::answers(&reply, sent, question, number) { Ok(reply) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// A message as it stands in a stream, behind its length.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(message.iter().take(usize::from(length)));
    bytes
}

fn random() -> io::Result<[u8; 2]> {
    let mut bytes = [0; 2];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes)
}
