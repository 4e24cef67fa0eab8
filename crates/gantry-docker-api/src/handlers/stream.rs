//! Connections that a client takes over: attached streams.

use std::os::fd::AsFd as _;

use bytes::Bytes;
use gantry_engine::Attached;
use gantry_engine::request::Streams;
use http::{HeaderValue, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::error::{Failure, Outcome};
use crate::reply::{Reply, full};
use crate::request::{Request, Version};
use crate::server::Api;

/// Bytes as they come, of which the client knows what they are.
pub(crate) const RAW: &str = "application/vnd.docker.raw-stream";
/// Pieces, each with the stream that it is of.
pub(crate) const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// The keys that detach if nothing else is said.
const DETACH: &str = "ctrl-p,ctrl-q";
/// How long the end of a process is waited for after that of its streams.
const AFTER: std::time::Duration = std::time::Duration::from_secs(2);
/// How long a client may take to read the head of an answer before the rest follows anyway.
const HEAD: std::time::Duration = std::time::Duration::from_secs(2);
/// How long a client may go on sending after the end of the process. What it sent and nobody read would take the last of
/// the output with it when the connection is closed.
pub(crate) const LINGER: std::time::Duration = std::time::Duration::from_secs(10);
/// The longest that is passed on at once.
pub(crate) const PIECE: usize = 32 << 10;

/// How a connection is taken over.
#[derive(Default)]
pub(crate) struct Hijack {
    /// The keys that detach.
    pub(crate) keys: Vec<u8>,
    /// Whether what the client sends is for the process.
    pub(crate) stdin: bool,
    /// What goes to the client before anything else.
    pub(crate) before: Option<Bytes>,
    /// What is waited for, a little while, before the end of the process is shown.
    pub(crate) after: Option<futures_util::future::BoxFuture<'static, ()>>,
}

/// `POST /containers/ID/attach`. What goes wrong is told as a stream would be, in plain words.
pub(crate) async fn attach(api: &Api, id: &str, request: Request) -> Reply {
    match attached(api, id, request).await {
        Ok(reply) => reply,
        Err(failure) => {
            let mut reply = Response::new(full(format!("{}\r\n", failure.message)));
            *reply.status_mut() = failure.status;
            reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(RAW));
            reply
        }
    }
}

async fn attached(api: &Api, id: &str, request: Request) -> Outcome<Reply> {
    let Joined { attached, keys, stdin, before } = join(api, id, &request).await?;
    Ok(hijack(request, attached, Hijack { keys, stdin, before, after: None }))
}

/// What a client asked to attach to.
pub(crate) struct Joined {
    pub(crate) attached: Attached,
    /// The keys that detach.
    pub(crate) keys: Vec<u8>,
    /// Whether what the client sends is for the process.
    pub(crate) stdin: bool,
    /// What was logged, if that was asked for.
    pub(crate) before: Option<Bytes>,
}

/// Joins the streams of a container as a request says.
pub(crate) async fn join(api: &Api, id: &str, request: &Request) -> Outcome<Joined> {
    let streams =
        Streams { stdin: request.flag("stdin"), stdout: request.flag("stdout"), stderr: request.flag("stderr") };
    let view = api.engine.container(id)?;
    if view.state.status == gantry_engine::container::Status::Paused {
        let words = format!("container {id} is paused, unpause the container before attach");
        return Err(Failure::new(StatusCode::CONFLICT, words));
    }
    let terminal = view.record.config.terminal;
    let keys = detach_keys_of(terminal, Some(request.get("detachKeys")).filter(|keys| !keys.is_empty()))?;
    let before = if request.flag("logs") { Some(super::logs::logged(api, id, streams).await?) } else { None };
    let goes_on = request.flag("stream");
    let attached = if goes_on { api.engine.attach(id, streams).await? } else { ended(terminal)? };
    Ok(Joined { attached, keys, stdin: goes_on && streams.stdin, before })
}

/// The keys that detach from a process. One without a terminal gets whatever is sent, as it is.
pub(crate) fn detach_keys_of(terminal: bool, asked: Option<&str>) -> Outcome<Vec<u8>> {
    if terminal { detach_keys(asked.unwrap_or(DETACH)) } else { Ok(Vec::new()) }
}

/// The streams of a process that has ended.
pub(crate) fn ended(terminal: bool) -> Outcome<Attached> {
    let (socket, theirs) = UnixStream::pair().map_err(|error| Failure::internal(error.to_string()))?;
    drop(theirs);
    Ok(Attached { socket, terminal })
}

/// Joins the client's connection to the streams of a process, and answers.
pub(crate) fn hijack(mut request: Request, attached: Attached, how: Hijack) -> Reply {
    let is_framed = request.version >= Version(1, 42) && !attached.terminal && request.upgrade.is_some();
    let kind = if is_framed { MULTIPLEXED } else { RAW };
    let Some(upgrade) = request.upgrade.take() else {
        let out = futures_util::stream::unfold((attached.socket, how.before), |(mut socket, before)| async move {
            if let Some(before) = before {
                return Some((Ok(before), (socket, None)));
            }
            let mut piece = vec![0; PIECE];
            match read_process(&mut socket, &mut piece).await {
                Ok(0) => None,
                Ok(length) => {
                    piece.truncate(length);
                    Some((Ok(piece.into()), (socket, None)))
                }
                Err(error) => Some((Err(error), (socket, None))),
            }
        });
        return crate::reply::stream(kind, out);
    };
    let Hijack { keys, stdin, before, after } = how;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => {
                let client = taken_over(connection).await;
                let ended = relay(client, attached.socket, before, after, stdin, &keys).await;
                if let Err(error) = ended {
                    tracing::debug!("attached client: {error}");
                }
            }
            Err(error) => tracing::debug!("attached client: {error}"),
        }
    });
    let mut reply = Response::new(full(""));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    reply
}

/// Both ways of a client's connection.
trait Client: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Client for T {}

/// The connection of a client that has read the head of the answer.
///
/// Some clients (docker-py) read the head through a buffer and what follows past it: what reaches them together with the
/// head is lost to them. So nothing follows before the head is taken.
async fn taken_over(connection: hyper::upgrade::Upgraded) -> Box<dyn Client> {
    let parts = match connection.downcast::<TokioIo<UnixStream>>() {
        Ok(parts) => parts,
        Err(connection) => return Box::new(TokioIo::new(connection)),
    };
    let socket = parts.io.into_inner();
    let began = tokio::time::Instant::now();
    while gantry_sys::misc::unread(socket.as_fd()).is_ok_and(|bytes| bytes > 0) && began.elapsed() < HEAD {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let (reader, writer) = socket.into_split();
    // What the client sent with its request comes first.
    let early = std::io::Cursor::new(parts.read_buf);
    Box::new(tokio::io::join(early.chain(reader), writer))
}

/// Reads what a process wrote; nothing is its end, which shows in another way where it left something unread.
pub(crate) async fn read_process(process: &mut (impl AsyncRead + Unpin), piece: &mut [u8]) -> std::io::Result<usize> {
    match process.read(piece).await {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(0),
        read => read,
    }
}

/// Passes on both ways until the process ends, the client goes, or it detaches.
async fn relay(
    client: impl AsyncRead + AsyncWrite + Unpin,
    process: UnixStream,
    before: Option<Bytes>,
    after: Option<futures_util::future::BoxFuture<'static, ()>>,
    stdin: bool,
    keys: &[u8],
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_process, mut to_process) = process.into_split();
    if let Some(before) = before {
        to_client.write_all(&before).await?;
    }
    let output = async {
        let mut piece = vec![0; PIECE];
        loop {
            let length = read_process(&mut from_process, &mut piece).await?;
            if length == 0 {
                if let Some(after) = after {
                    // Its status is asked for next.
                    let _ = tokio::time::timeout(AFTER, after).await;
                }
                return to_client.shutdown().await;
            }
            to_client.write_all(&piece[..length]).await?;
        }
    };
    let input = async {
        let mut piece = vec![0; PIECE];
        let mut typed = Typed { keys, held: 0 };
        loop {
            let length = from_client.read(&mut piece).await?;
            if length == 0 {
                // The client has no more to say, and may go on listening.
                let _ = to_process.shutdown().await;
                return std::future::pending().await;
            }
            if !stdin {
                continue;
            }
            let (text, detached) = typed.take(&piece[..length]);
            // That the process takes no more is no reason not to pass on what it wrote.
            let _ = to_process.write_all(&text).await;
            if detached {
                return Ok(());
            }
        }
    };
    tokio::select! {
        ended = output => ended?,
        ended = input => return ended,
    }
    let rest = async { while from_client.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {} };
    let _ = tokio::time::timeout(LINGER, rest).await;
    Ok(())
}

/// Looks for the keys that detach in what is typed.
pub(crate) struct Typed<'a> {
    pub(crate) keys: &'a [u8],
    /// How many of the keys were typed already and not passed on.
    pub(crate) held: usize,
}

impl Typed<'_> {
    /// What is passed on, and whether the keys were typed.
    pub(crate) fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut text = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.keys.get(self.held) == Some(byte) {
                self.held += 1;
                if self.held == self.keys.len() {
                    return (text, true);
                }
                continue;
            }
            text.extend_from_slice(&self.keys[..self.held]);
            self.held = 0;
            if self.keys.first() == Some(byte) {
                self.held = 1;
            } else {
                text.push(*byte);
            }
        }
        (text, false)
    }
}

/// The bytes of keys such as `ctrl-p,ctrl-q` or `a`.
fn detach_keys(text: &str) -> Outcome<Vec<u8>> {
    let key = |name: &str| {
        let control = name.strip_prefix("ctrl-").map(str::as_bytes);
        Ok(match (control, name.as_bytes()) {
            (Some([letter @ b'a'..=b'z']), _) => letter - b'a' + 1,
            (Some(b"@"), _) => 0,
            (Some(b"["), _) => 27,
            (Some(b"\\"), _) => 28,
            (Some(b"]"), _) => 29,
            (Some(b"^"), _) => 30,
            (Some(b"_"), _) => 31,
            (None, [byte]) => *byte,
            _ => return Err(Failure::invalid(format!("invalid detach keys ({text}): unknown character: {name:?}"))),
        })
    };
    text.split(',').map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_is_whole_though_nobody_takes_the_input() {
        let (process, mut other) = UnixStream::pair().unwrap();
        let (client, theirs) = UnixStream::pair().unwrap();
        let text = vec![b'x'; 150_000];
        other.write_all(&text).await.unwrap();
        drop(other);
        let relayed = tokio::spawn(async move { relay(theirs, process, None, None, true, &[]).await });
        let (mut reader, mut writer) = client.into_split();
        // As long as anybody reads it.
        let sending = tokio::spawn(async move { while writer.write_all(&[b'y'; 4096]).await.is_ok() {} });
        let mut all = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match reader.read(&mut piece).await.unwrap() {
                0 => break,
                length => all.extend_from_slice(&piece[..length]),
            }
            tokio::time::sleep(std::time::Duration::from_micros(100)).await;
        }
        assert_eq!(all.len(), text.len());
        sending.abort();
        relayed.await.unwrap().unwrap();
    }

    /// Which of both ways has its turn first is by chance, so there are some rounds.
    #[tokio::test]
    async fn input_that_comes_too_late_does_not_cut_the_output() {
        for _ in 0..24 {
            let (process, mut other) = UnixStream::pair().unwrap();
            let (mut client, theirs) = UnixStream::pair().unwrap();
            other.write_all(b"done").await.unwrap();
            drop(other);
            client.write_all(&vec![b'y'; 64 << 10]).await.unwrap();
            let relayed = tokio::spawn(async move { relay(theirs, process, None, None, true, &[]).await });
            // By now the output is passed on, whether or not anybody lingers.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"done");
            drop(client);
            relayed.await.unwrap().unwrap();
        }
    }

    #[test]
    fn keys_that_detach() {
        let check = |pieces: &[&[u8]], expect: &[u8], detached: bool| {
            let keys = detach_keys(DETACH).unwrap();
            let mut typed = Typed { keys: &keys, held: 0 };
            let (mut text, mut ended) = (Vec::new(), false);
            for piece in pieces {
                let (more, now) = typed.take(piece);
                text.extend(more);
                ended |= now;
            }
            assert_eq!((text.as_slice(), ended), (expect, detached), "{pieces:?}");
        };
        check(&[b"abc"], b"abc", false);
        check(&[b"ab\x10\x11cd"], b"ab", true);
        check(&[b"ab\x10", b"\x11"], b"ab", true);
        check(&[b"\x10x"], b"\x10x", false);
        check(&[b"\x10\x10\x11"], b"\x10", true);
        assert_eq!(detach_keys("a,ctrl-@,ctrl-z,ctrl-_").unwrap(), [97, 0, 26, 31]);
        assert!(detach_keys("ctrl-1").is_err() && detach_keys("").is_err());
    }
}
