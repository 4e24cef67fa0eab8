//! What is sent in an upload: bytes that can be read again from anywhere, or a stream of which the last part is kept.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;

/// Bytes, piece by piece.
pub type Stream = BoxStream<'static, io::Result<Bytes>>;
/// Opens the bytes of a blob at an offset.
pub type Open = Arc<dyn Fn(u64) -> BoxFuture<'static, io::Result<Stream>> + Send + Sync>;

/// How much of a stream is kept for the case that the registry lost it, in bytes.
pub(crate) const WINDOW: usize = 4 << 20;

/// How the sending of a body goes: for finding out that it does not.
#[derive(Default)]
pub(crate) struct Progress {
    /// When the last piece was given to the connection; none while we are the ones who are waited for.
    given: Mutex<Option<Instant>>,
    ended: AtomicBool,
    failure: Mutex<Option<io::Error>>,
}

impl Progress {
    fn set(&self, given: Option<Instant>) {
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = given;
    }

    /// Why reading the source failed, if it did.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ends when the other side took nothing for `stall`, or did not answer for `answer` after the end.
    pub(crate) async fn stalled(&self, stall: Duration, answer: Duration) {
        loop {
            tokio::time::sleep((stall / 4).min(Duration::from_secs(1))).await;
            let given = *self.given.lock().unwrap_or_else(PoisonError::into_inner);
            let limit = if self.ended.load(Ordering::Acquire) { answer } else { stall };
            if given.is_some_and(|since| since.elapsed() > limit) {
                return;
            }
        }
    }
}

/// A body of exactly `length` bytes, or as many as there are; its course is noted.
pub(crate) fn body(source: Stream, length: Option<u64>, progress: Arc<Progress>) -> reqwest::Body {
    progress.set(Some(Instant::now()));
    let pieces =
        futures_util::stream::unfold((source, 0_u64, progress), move |(mut source, sent, progress)| async move {
            if length == Some(sent) {
                progress.set(Some(Instant::now()));
                progress.ended.store(true, Ordering::Release);
                return None;
            }
            progress.set(None);
            let piece = source.next().await;
            progress.set(Some(Instant::now()));
            let short =
                |length: u64| io::Error::new(io::ErrorKind::UnexpectedEof, format!("{sent} bytes instead of {length}"));
            let piece = match (piece, length) {
                (Some(piece), _) => piece,
                (None, Some(length)) => Err(short(length)),
                (None, None) => {
                    progress.ended.store(true, Ordering::Release);
                    return None;
                }
            };
            match piece {
                Ok(mut piece) => {
                    if let Some(length) = length {
                        piece.truncate(usize::try_from(length - sent).unwrap_or(usize::MAX));
                    }
                    let sent = sent + piece.len() as u64;
                    Some((Ok(piece), (source, sent, progress)))
                }
                Err(error) => {
                    let text = io::Error::new(error.kind(), error.to_string());
                    *progress.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                    Some((Err(error), (source, sent, progress)))
                }
            }
        });
    reqwest::Body::wrap_stream(pieces)
}

/// A stream that comes once, of which the last part is kept, so that an upload can go on after a cut.
pub(crate) struct Replay {
    chunks: mpsc::Receiver<Bytes>,
    kept: VecDeque<Bytes>,
    /// Where in the stream what is kept begins, and where it ends.
    start: u64,
    end: u64,
}

impl Replay {
    pub(crate) fn new(chunks: mpsc::Receiver<Bytes>) -> Self {
        Self { chunks, kept: VecDeque::new(), start: 0, end: 0 }
    }

    /// How much came so far.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// Whether the stream can be read from an offset on.
    pub(crate) const fn reaches(&self, offset: u64) -> bool {
        self.start <= offset && offset <= self.end
    }

    /// The bytes from an offset on; none at the end.
    async fn read(&mut self, offset: u64) -> io::Result<Option<Bytes>> {
        if !self.reaches(offset) {
            return Err(io::Error::other(format!("byte {offset} of the stream is no longer there")));
        }
        let mut at = self.start;
        for piece in &self.kept {
            let after = at + piece.len() as u64;
            if offset < after {
                return Ok(Some(piece.slice((offset - at) as usize..)));
            }
            at = after;
        }
        loop {
            let Some(piece) = self.chunks.recv().await else { return Ok(None) };
            if piece.is_empty() {
                continue;
            }
            self.end += piece.len() as u64;
            self.kept.push_back(piece.clone());
            while self.end - self.start > WINDOW as u64 && self.kept.len() > 1 {
                self.start += self.kept.pop_front().map_or(0, |old| old.len() as u64);
            }
            return Ok(Some(piece));
        }
    }

    /// The stream from an offset on.
    pub(crate) fn stream(this: Arc<tokio::sync::Mutex<Self>>, offset: u64) -> Stream {
        let pieces = futures_util::stream::try_unfold((this, offset), |(this, offset)| async move {
            let piece = this.lock().await.read(offset).await?;
            io::Result::Ok(piece.map(|piece| {
                let after = offset + piece.len() as u64;
                (piece, (this, after))
            }))
        });
        pieces.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_part_of_a_stream_is_kept() {
        let (sender, chunks) = mpsc::channel(64);
        let size = WINDOW / 4;
        for n in 0..10_u8 {
            sender.send(Bytes::from(vec![n; size])).await.unwrap();
        }
        drop(sender);
        let replay = Arc::new(tokio::sync::Mutex::new(Replay::new(chunks)));
        let total = (10 * size) as u64;
        let all: Vec<_> = Replay::stream(replay.clone(), 0).map(Result::unwrap).collect().await;
        assert_eq!(all.iter().map(Bytes::len).sum::<usize>() as u64, total);
        let check = |offset: u64, reaches| {
            let replay = replay.clone();
            async move {
                assert_eq!(replay.lock().await.reaches(offset), reaches, "{offset}");
                let rest: Vec<_> = Replay::stream(replay, offset).collect().await;
                assert_eq!(rest.iter().all(Result::is_ok), reaches, "{offset}");
                let length = rest.iter().flatten().map(Bytes::len).sum::<usize>() as u64;
                assert_eq!(length, if reaches { total - offset } else { 0 }, "{offset}");
            }
        };
        check(0, false).await;
        check(total - WINDOW as u64 - 1, false).await;
        check(total - WINDOW as u64, true).await;
        check(total - 7, true).await;
        check(total, true).await;
        check(total + 1, false).await;
    }
}
