//! The server in one namespace: datagrams and streams.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::Site;
use super::forward::{forward, framed};
use super::local::{Decision, decide};
use super::wire::{self, Code, Question, Read};

/// The most bytes of a question.
const LONGEST: usize = 2048;
/// The most questions of one container that others are asked at a time.
const FORWARDED: usize = 128;
/// The most streams of one container; the oldest makes room for a new one.
const STREAMS: usize = 32;
/// How long a stream may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// How long nothing is taken after the kernel refused to give.
const PAUSE: Duration = Duration::from_millis(50);

/// What is to be done about a message, as far as it can be said at once.
enum Step {
    Answer(Vec<u8>),
    Forward(Question),
    Nothing,
}

impl Site {
    /// Answers from memory where that is possible. An answer has at most `room` bytes, or as many as the question says.
    fn step(&self, message: &[u8], room: Option<usize>) -> Step {
        let question = match wire::read(message) {
            Read::Question(question) => question,
            Read::Refuse(code) => return Step::Answer(wire::refusal(message, code)),
            Read::Ignore => return Step::Nothing,
        };
        let view = self.view();
        let zone = self.shared.zone.read().unwrap_or_else(PoisonError::into_inner);
        let room = room.unwrap_or(usize::from(question.room));
        match decide(&zone, &view, &question, self.shared.chance()) {
            Decision::Answer(code, records) => Step::Answer(wire::answer(message, &question, code, &records, room)),
            Decision::Forward => Step::Forward(question),
        }
    }

    /// Has others answer, if not too many are asked already.
    async fn ask_others(&self, message: &[u8], question: &Question, room: usize) -> Vec<u8> {
        let Ok(_permit) = self.shared.forwarded.try_acquire() else {
            return wire::answer(message, question, Code::ServFail, &[], room);
        };
        let view = self.view();
        forward(message, question, &view.upstreams, room).await
    }
}

/// Answers datagrams, for good. What others are asked is dropped with it.
pub async fn datagrams(site: Arc<Site>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let permits = Arc::new(Semaphore::new(FORWARDED));
    let mut forwarded = JoinSet::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        while forwarded.try_join_next().is_some() {}
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "a question did not come through");
                sleep(PAUSE).await;
                continue;
            }
        };
        let message = buffer.get(..length).unwrap_or_default();
        match site.step(message, None) {
            Step::Nothing => {}
            Step::Answer(answer) => tell(&socket, &answer, client).await,
            Step::Forward(question) => {
                let room = usize::from(question.room);
                let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                    tell(&socket, &wire::answer(message, &question, Code::ServFail, &[], room), client).await;
                    continue;
                };
                let (site, socket, message) = (Arc::clone(&site), Arc::clone(&socket), message.to_vec());
                forwarded.spawn(async move {
                    let answer = site.ask_others(&message, &question, room).await;
                    tell(&socket, &answer, client).await;
                    drop(permit);
                });
            }
        }
    }
}

async fn tell(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(answer, client).await {
        tracing::debug!(%error, "an answer did not go out");
    }
}

/// Answers streams, for good.
pub async fn streams(site: Arc<Site>, listener: TcpListener) {
    let mut running = JoinSet::new();
    let mut oldest: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        while running.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a stream did not come through");
                sleep(PAUSE).await;
                continue;
            }
        };
        oldest.retain(|handle| !handle.is_finished());
        if oldest.len() >= STREAMS
            && let Some(handle) = oldest.pop_front()
        {
            handle.abort();
        }
        let site = Arc::clone(&site);
        oldest.push_back(running.spawn(async move {
            if let Err(error) = converse(&site, stream).await {
                tracing::debug!(%error, "a stream ended");
            }
        }));
    }
}

/// Answers the questions of a stream, one after the other.
async fn converse(site: &Site, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let Ok(length) = timeout(SILENCE, stream.read_u16()).await? else { return Ok(()) };
        let mut message = vec![0; usize::from(length).min(LONGEST)];
        if usize::from(length) > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        timeout(SILENCE, stream.read_exact(&mut message)).await??;
        let room = usize::from(u16::MAX);
        let answer = match site.step(&message, Some(room)) {
            Step::Nothing => return Ok(()),
            Step::Answer(answer) => answer,
            Step::Forward(question) => site.ask_others(&message, &question, room).await,
        };
        timeout(SILENCE, stream.write_all(&framed(&answer))).await??;
    }
}
