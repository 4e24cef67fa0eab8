//! Attaching by a WebSocket (RFC 6455): what a process writes comes in messages that do not tell of which stream they are,
//! and messages are what is typed.

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::stream::{Joined, LINGER, PIECE, Typed, join, read_process};
use crate::error::{Failure, Outcome};
use crate::reply::{Reply, full};
use crate::request::{Request, Version};
use crate::server::Api;

/// The longest message that a client may send, in bytes.
const MAX_MESSAGE: usize = 1 << 20;
/// Bytes in front of each piece of a process without a terminal: its stream and its length.
const HEAD: usize = 8;

/// `GET /containers/ID/attach/ws`.
pub(crate) async fn attach(api: &Api, id: &str, mut request: Request) -> Outcome<Reply> {
    // Who is not there is told before what is wrong with the handshake.
    api.engine.container(id)?;
    let accept = accepted(&request)?;
    let Some(upgrade) = request.upgrade.take() else { return Err(no_handshake()) };
    let Joined { attached, keys, stdin, before } = join(api, id, &request).await?;
    let talk = Talk { keys, stdin, framed: !attached.terminal, binary: request.version >= Version(1, 28) };
    tokio::spawn(async move {
        let ended = match upgrade.await {
            Ok(connection) => {
                let limits =
                    WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
                let io = TokioIo::new(connection);
                let (sink, messages) = WebSocketStream::from_raw_socket(io, Role::Server, Some(limits)).await.split();
                relay(sink, messages, attached.socket, before, &talk).await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = ended {
            tracing::debug!("attached client: {error}");
        }
    });
    let mut reply = Response::new(full(""));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(reply)
}

fn no_handshake() -> Failure {
    Failure::invalid("this is for a client that opens a WebSocket of version 13")
}

/// What shows the client that its handshake was understood (RFC 6455, 4.2.2).
fn accepted(request: &Request) -> Outcome<HeaderValue> {
    let header = |name| request.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::trim);
    let is_asked = header(UPGRADE).is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    let (Some(key), Some("13"), true) = (header(SEC_WEBSOCKET_KEY), header(SEC_WEBSOCKET_VERSION), is_asked) else {
        return Err(no_handshake());
    };
    HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| no_handshake())
}

/// How a client and a process talk.
struct Talk {
    /// The keys that detach.
    keys: Vec<u8>,
    /// Whether messages are for the process.
    stdin: bool,
    /// Whether what the process writes has heads.
    framed: bool,
    /// Whether the client takes binary messages; those of text were before.
    binary: bool,
}

impl Talk {
    fn message(&self, bytes: Vec<u8>) -> Message {
        if self.binary {
            Message::Binary(bytes.into())
        } else {
            Message::Text(String::from_utf8_lossy(&bytes).into_owned().into())
        }
    }
}

/// Passes on both ways until the process ends, the client goes, or it detaches.
async fn relay(
    mut sink: impl Sink<Message, Error = Error> + Unpin,
    mut messages: impl Stream<Item = Result<Message, Error>> + Unpin,
    process: UnixStream,
    before: Option<Bytes>,
    talk: &Talk,
) -> Result<(), Error> {
    let (mut from_process, mut to_process) = process.into_split();
    let output = async {
        let mut piece = vec![0; PIECE];
        if let Some(before) = before {
            let text = if talk.framed { Heads::default().without(&before) } else { before.to_vec() };
            sink.send(talk.message(text)).await?;
        }
        let mut heads = Heads::default();
        loop {
            let length = read_process(&mut from_process, &mut piece).await?;
            if length == 0 {
                return sink.close().await;
            }
            let text = if talk.framed { heads.without(&piece[..length]) } else { piece[..length].to_vec() };
            if !text.is_empty() {
                sink.send(talk.message(text)).await?;
            }
        }
    };
    let input = async {
        let mut typed = Typed { keys: &talk.keys, held: 0 };
        while let Some(message) = messages.next().await {
            let message = message?;
            if !talk.stdin || !(message.is_binary() || message.is_text()) {
                continue;
            }
            let (text, detached) = typed.take(&message.into_data());
            // That the process takes no more is no reason not to pass on what it wrote.
            let _ = to_process.write_all(&text).await;
            if detached {
                break;
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = output => ended?,
        ended = input => return ended,
    }
    // The client answers the end with its own.
    let rest = async { while messages.next().await.is_some_and(|message| message.is_ok()) {} };
    let _ = tokio::time::timeout(LINGER, rest).await;
    Ok(())
}

/// Takes the heads out of what a process without a terminal writes.
#[derive(Default)]
struct Heads {
    head: [u8; HEAD],
    /// How much of a head there is.
    have: usize,
    /// How much of a piece is to come.
    left: usize,
}

impl Heads {
    fn without(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes.len());
        while !bytes.is_empty() {
            if self.left > 0 {
                let (piece, rest) = bytes.split_at(self.left.min(bytes.len()));
                text.extend_from_slice(piece);
                (self.left, bytes) = (self.left - piece.len(), rest);
                continue;
            }
            let (part, rest) = bytes.split_at((HEAD - self.have).min(bytes.len()));
            self.head[self.have..self.have + part.len()].copy_from_slice(part);
            (self.have, bytes) = (self.have + part.len(), rest);
            if self.have == HEAD {
                let [.., a, b, c, d] = self.head;
                (self.have, self.left) = (0, u32::from_be_bytes([a, b, c, d]) as usize);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    fn framed(stream: u8, text: &str) -> Vec<u8> {
        let mut bytes = vec![stream, 0, 0, 0];
        bytes.extend((text.len() as u32).to_be_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn heads_are_taken_out_however_they_are_cut() {
        let all = [framed(1, "out"), framed(2, ""), framed(2, "error\n")].concat();
        for cut in 1..=all.len() {
            let mut heads = Heads::default();
            let text: Vec<u8> = all.chunks(cut).flat_map(|piece| heads.without(piece)).collect();
            assert_eq!(text, b"outerror\n", "cut into pieces of {cut}");
        }
    }

    /// What a client gets in messages, and what the process gets, when the client sends `sent` and the process `written`.
    async fn talk(talk: Talk, before: Option<&str>, sent: &[Message], written: &[u8]) -> (Vec<Message>, Vec<u8>) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (process, mut other) = UnixStream::pair().unwrap();
        let before = before.map(|text| Bytes::from(framed(1, text)));
        let served = tokio::spawn(async move {
            let (sink, messages) = WebSocketStream::from_raw_socket(ours, Role::Server, None).await.split();
            relay(sink, messages, process, before, &talk).await.unwrap();
        });
        let mut client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        for message in sent {
            client.send(message.clone()).await.unwrap();
        }
        let mut got = Vec::new();
        if !sent.is_empty() {
            let mut buffer = [0; 100];
            let length = other.read(&mut buffer).await.unwrap();
            got.extend_from_slice(&buffer[..length]);
        }
        other.write_all(written).await.unwrap();
        drop(other);
        let mut messages = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            messages.push(message);
        }
        drop(client);
        served.await.unwrap();
        messages.retain(|message| !message.is_close());
        (messages, got)
    }

    #[tokio::test]
    async fn messages_both_ways() {
        let how = |framed: bool, binary: bool| Talk { keys: vec![16, 17], stdin: true, framed, binary };
        let typed = [Message::Binary("hel".into())];
        let (messages, got) = talk(how(true, true), Some("was "), &typed, &framed(2, "is")).await;
        assert_eq!(messages, [Message::Binary("was ".into()), Message::Binary("is".into())]);
        assert_eq!(got, b"hel");
        let (messages, got) = talk(how(false, false), None, &[Message::Text("x".into())], b"\xffy").await;
        assert_eq!((messages, got), (vec![Message::Text("\u{fffd}y".into())], b"x".to_vec()));
        // The keys detach, and are not passed on.
        let (messages, got) = talk(how(false, true), None, &[Message::Text("a\u{10}\u{11}b".into())], b"").await;
        assert_eq!((messages, got), (vec![], b"a".to_vec()));
    }
    /// Which of both ways has its turn first is by chance, so there are some rounds.
    #[tokio::test]
    async fn output_is_whole_though_nobody_takes_the_input() {
        for _ in 0..24 {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let (process, mut other) = UnixStream::pair().unwrap();
            other.write_all(b"done").await.unwrap();
            drop(other);
            let mut client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
            client.send(Message::Binary("late".into())).await.unwrap();
            let talk = Talk { keys: Vec::new(), stdin: true, framed: false, binary: true };
            let served = tokio::spawn(async move {
                let (sink, messages) = WebSocketStream::from_raw_socket(ours, Role::Server, None).await.split();
                relay(sink, messages, process, None, &talk).await
            });
            let told = client.next().await.unwrap().unwrap();
            assert_eq!(told, Message::Binary("done".into()));
            assert!(client.next().await.unwrap().unwrap().is_close());
            drop(client);
            served.await.unwrap().unwrap();
        }
    }
}
