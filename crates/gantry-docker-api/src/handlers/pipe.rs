//! Between bodies, which come and go piece by piece, and readers and writers that wait.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::{Buf as _, Bytes};
use futures_util::Stream;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use crate::request::Content;

/// Pieces that may be on their way.
const DEPTH: usize = 8;

/// Reads a body from a thread.
pub(crate) struct BodyReader {
    pieces: Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

/// Begins to read a body.
pub(crate) fn reader(mut body: Content) -> BodyReader {
    let (sender, pieces) = sync_channel(DEPTH);
    tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            let piece = match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(data)) => Ok(data),
                Ok(Err(_)) => continue,
                Err(error) => Err(io::Error::other(error)),
            };
            let sender = sender.clone();
            // It waits for a thread that may be slow.
            let sent = tokio::task::spawn_blocking(move || sender.send(piece).is_ok()).await;
            if !sent.unwrap_or_default() {
                return;
            }
        }
    });
    BodyReader { pieces, rest: Bytes::new() }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.recv() {
                Ok(piece) => self.rest = piece?,
                Err(_) => return Ok(0),
            }
        }
        let length = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Writes from a thread into a body.
pub(crate) struct BodyWriter {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    rest: Vec<u8>,
}

/// The largest piece that is sent.
const PIECE: usize = 64 << 10;

/// A writer, what ends it with an error, and the pieces that come of what is written to it.
pub(crate) fn writer() -> (BodyWriter, Failer, impl Stream<Item = io::Result<Bytes>> + Send + 'static) {
    let (pieces, receiver) = mpsc::channel(DEPTH);
    let failer = Failer(pieces.clone());
    (BodyWriter { pieces, rest: Vec::with_capacity(PIECE) }, failer, stream_of(receiver))
}

/// The pieces of a channel.
pub(crate) fn stream_of<T: Send + 'static>(receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> + Send + 'static {
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        let next = receiver.recv().await?;
        Some((next, receiver))
    })
}

/// Ends a body with an error: the client sees that it is not whole.
pub(crate) struct Failer(mpsc::Sender<io::Result<Bytes>>);

impl Failer {
    pub(crate) async fn fail(self, error: impl std::fmt::Display) {
        // Nobody may listen.
        let _ = self.0.send(Err(io::Error::other(error.to_string()))).await;
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        // Whoever wrote to it may not have said that that was all.
        let _ = self.flush();
    }
}

impl Write for BodyWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(buffer);
        if self.rest.len() >= PIECE {
            self.flush()?;
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.rest, Vec::with_capacity(PIECE));
        self.pieces.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
