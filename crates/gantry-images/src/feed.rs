//! The way of bytes from a download to the thread that unpacks them.
//!
//! Pieces are shared, not copied, and how many are under way is bounded, so a slow disk slows the network. A sender that
//! goes away without saying that it was all makes the reader fail: a cut-off layer never looks like a whole one.

use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Pieces under way. Of a fast network each has up to half a megabyte.
const AHEAD: usize = 6;

enum Item {
    Bytes(Bytes),
    End,
}

/// Where pieces are put in.
pub(crate) struct Feed(mpsc::Sender<Item>);

/// Where they come out.
pub(crate) struct Source {
    items: mpsc::Receiver<Item>,
    current: Bytes,
    ended: bool,
}

/// Both ends.
pub(crate) fn feed() -> (Feed, Source) {
    let (sender, items) = mpsc::channel(AHEAD);
    (Feed(sender), Source { items, current: Bytes::new(), ended: false })
}

impl Feed {
    /// Puts a piece in, when there is room. False if nobody takes it any more.
    pub(crate) async fn put(&self, piece: Bytes) -> bool {
        self.0.send(Item::Bytes(piece)).await.is_ok()
    }

    /// The same, for a thread.
    pub(crate) fn put_blocking(&self, piece: Bytes) -> bool {
        self.0.blocking_send(Item::Bytes(piece)).is_ok()
    }

    /// Says that it was all.
    pub(crate) async fn end(self) {
        // Who no longer listens needs not be told.
        let _ = self.0.send(Item::End).await;
    }

    /// The same, for a thread.
    pub(crate) fn end_blocking(self) {
        let _ = self.0.blocking_send(Item::End);
    }
}

impl Source {
    /// The next piece; none at the end.
    pub(crate) fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        match self.items.blocking_recv() {
            Some(Item::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Item::End) => {
                self.ended = true;
                Ok(None)
            }
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the download was given up")),
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.next_piece()? {
                Some(piece) => self.current = piece,
                None => break,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, count: usize) {
        self.current.advance(count.min(self.current.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn pieces_pass_and_a_cut_is_seen() {
        let check = |pieces: &'static [&'static [u8]], whole: bool, expect: Option<&[u8]>| {
            let (feed, mut source) = feed();
            let sender = thread::spawn(move || {
                for piece in pieces {
                    assert!(feed.put_blocking(Bytes::from_static(piece)));
                }
                if whole {
                    feed.end_blocking();
                }
            });
            let mut all = Vec::new();
            let read = source.read_to_end(&mut all);
            sender.join().unwrap();
            assert_eq!(read.ok().map(|_| all.as_slice()), expect);
        };
        check(&[], true, Some(b""));
        check(&[b"ab", b"", b"c"], true, Some(b"abc"));
        check(&[b"ab"], false, None);
        check(&[], false, None);
    }

    #[test]
    fn a_reader_that_goes_away_is_noticed() {
        let (feed, source) = feed();
        drop(source);
        assert!(!feed.put_blocking(Bytes::from_static(b"x")));
    }
}
