//! A terminal joined to a process in a container: what is typed goes there, what it writes comes here.
//!
//! Reading and writing of this terminal block, so each has a thread; everything else waits for events.

use std::io::{self, IsTerminal, Read, Write};

use bytes::{Bytes, BytesMut};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use crate::client::frames::{Channel, Frames};
use crate::client::hijack::Hijacked;
use crate::client::keys::{self, Watch};
use crate::failure::{Failure, Of, Outcome};
use crate::terminal;
use crate::user;

/// Pieces that wait for a slow terminal, at most.
const QUEUE: usize = 64;
/// Bytes that are read at once.
const PIECE: usize = 32 << 10;

/// What is joined.
#[derive(Clone, Debug)]
pub struct Session {
    /// Standard input.
    pub input: bool,
    /// Standard output and standard error, if either is.
    pub output: bool,
    /// Whether the process has a terminal, and one stream of output with it.
    pub terminal: bool,
    /// Keys that leave it.
    pub keys: Vec<u8>,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process writes no more.
    Over,
    /// The keys were typed that leave it.
    Left,
}

/// The keys that were asked for: by the flag, or as people have set it for themselves.
pub fn asked_keys(flag: Option<&str>) -> Option<String> {
    flag.filter(|text| !text.is_empty()).map(str::to_owned).or_else(|| user::setting("detachKeys"))
}

/// The keys that leave; what cannot be understood counts as the usual ones.
pub fn leaving(asked: Option<&str>) -> Vec<u8> {
    let Some(text) = asked else { return keys::DEFAULT.to_vec() };
    keys::parse(text).unwrap_or_else(|why| {
        terminal::tell(&format!("WARNING: invalid detach keys, using the usual ones: {why}\n"));
        keys::DEFAULT.to_vec()
    })
}

/// Refuses a terminal for the process where standard input is none.
pub fn check_terminal(input: bool, wanted: bool) -> Outcome {
    if input && wanted && !io::stdin().is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    Ok(())
}

impl Session {
    /// Joins them until the process ends its output, or is left.
    pub async fn run(self, connection: Hijacked) -> Outcome<End> {
        let raw = if self.input && self.terminal { Raw::enter()? } else { None };
        let Hijacked { mut reader, mut writer, framed } = connection;
        let framed = framed.unwrap_or(!self.terminal);
        let (sender, done) = output_thread();
        let output = async {
            let mut read = BytesMut::with_capacity(PIECE);
            let mut frames = framed.then(Frames::default);
            // The keys' watch and this loop see a cut-off connection alike: the daemon is gone.
            while reader.read_buf(&mut read).await.of("read what the container writes")? > 0 {
                pass_on(&mut read, frames.as_mut(), &sender).await?;
            }
            if let Some(frames) = frames {
                frames.end()?;
            }
            drop(sender);
            done.await.unwrap_or(Ok(())).map_err(written)?;
            Ok(End::Over)
        };
        let typed = self.input.then(input_thread);
        let watch = Watch::new(if self.terminal { self.keys.clone() } else { Vec::new() });
        let input = async {
            let left = pass_in(typed, watch, &mut writer).await;
            if left {
                return End::Left;
            }
            // It may write on for as long as it likes.
            let _ = writer.shutdown().await;
            if self.output { std::future::pending().await } else { End::Over }
        };
        let ended = tokio::select! {
            ended = output => ended,
            end = input => Ok(end),
        };
        drop(raw);
        ended
    }
}

/// Hands on what was read.
async fn pass_on(read: &mut BytesMut, frames: Option<&mut Frames>, sender: &mpsc::Sender<(Channel, Bytes)>) -> Outcome {
    let closed = |_| Failure::Closed;
    match frames {
        None => sender.send((Channel::Out, read.split().freeze())).await.map_err(closed)?,
        Some(frames) => {
            frames.feed(read);
            read.clear();
            // Frames may be of a line each: what came at once is handed on at once, as far as it is of one output.
            let mut joined: Option<(Channel, BytesMut)> = None;
            while let Some((channel, piece)) = frames.next()? {
                match &mut joined {
                    Some((same, bytes)) if *same == channel => bytes.extend_from_slice(&piece),
                    _ => {
                        let before = joined.replace((channel, BytesMut::from(piece)));
                        if let Some((channel, bytes)) = before {
                            sender.send((channel, bytes.freeze())).await.map_err(closed)?;
                        }
                    }
                }
            }
            if let Some((channel, bytes)) = joined {
                sender.send((channel, bytes.freeze())).await.map_err(closed)?;
            }
        }
    }
    read.reserve(PIECE);
    Ok(())
}

/// Hands on what is typed, until there is no more. Says whether the keys were typed that leave.
async fn pass_in(
    typed: Option<mpsc::Receiver<Vec<u8>>>,
    mut watch: Watch,
    writer: &mut (impl AsyncWriteExt + Unpin),
) -> bool {
    let Some(mut typed) = typed else { return false };
    while let Some(bytes) = typed.recv().await {
        let (bytes, left) = watch.pass(&bytes);
        // That nobody takes it is seen where the output ends.
        if writer.write_all(&bytes).await.is_err() {
            return false;
        }
        if left {
            return true;
        }
    }
    false
}

fn written(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::Closed;
    }
    Failure::from(error).of("write what the container wrote")
}

/// A thread that writes, and says at last how it went.
fn output_thread() -> (mpsc::Sender<(Channel, Bytes)>, oneshot::Receiver<io::Result<()>>) {
    let (sender, mut pieces) = mpsc::channel::<(Channel, Bytes)>(QUEUE);
    let (say, done) = oneshot::channel();
    std::thread::spawn(move || {
        let mut outcome = Ok(());
        while let Some((channel, bytes)) = pieces.blocking_recv() {
            outcome = match channel {
                Channel::Out => {
                    let mut out = io::stdout().lock();
                    out.write_all(&bytes).and_then(|()| out.flush())
                }
                Channel::Err => io::stderr().lock().write_all(&bytes),
            };
            if outcome.is_err() {
                break;
            }
        }
        drop(pieces);
        let _ = say.send(outcome);
    });
    (sender, done)
}

/// A thread that reads standard input. It is not waited for: nothing wakes it.
fn input_thread() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        let mut stdin = io::stdin().lock();
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(size) => {
                    if sender.blocking_send(buffer[..size].to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receiver
}

/// While it lives, the terminal hands on every key as it is.
struct Raw(Termios);

impl Raw {
    /// None if standard input is no terminal.
    fn enter() -> Outcome<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&stdin).map_err(io::Error::from)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).map_err(io::Error::from)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
