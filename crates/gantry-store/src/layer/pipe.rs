//! The way of the archive's bytes between threads: a few large buffers that go round.
//!
//! Whoever fills them decompresses, the next one hashes, the last one writes, and gives them back. Nothing is copied, and
//! the memory is the same for every layer.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use sha2::{Digest as _, Sha256};

/// Bytes of a buffer. Small enough to be in the processor's cache while it goes from one thread to the next.
const SIZE: usize = 256 * 1024;
/// Buffers that go round.
const COUNT: usize = 12;

/// A buffer and how much of it is filled.
struct Piece {
    bytes: Vec<u8>,
    filled: usize,
}

/// Fills buffers.
pub struct Source {
    free: Receiver<Vec<u8>>,
    full: SyncSender<Piece>,
}

/// Hashes what passes through.
pub struct Hash {
    from: Receiver<Piece>,
    to: SyncSender<Piece>,
}

/// The bytes as they arrive. It ends when the source is dropped.
pub struct Sink {
    from: Receiver<Piece>,
    free: Sender<Vec<u8>>,
    piece: Option<Piece>,
    at: usize,
}

/// A pipe of three ends.
pub fn pipe() -> (Source, Hash, Sink) {
    let (free_sender, free) = channel();
    let (full, from_source) = sync_channel(COUNT);
    let (to, from_hash) = sync_channel(COUNT);
    for _ in 0..COUNT {
        // The receiver is beside it, so this cannot fail. Memory is touched when a buffer is first used.
        let _ = free_sender.send(vec![0; SIZE]);
    }
    let sink = Sink { from: from_hash, free: free_sender, piece: None, at: 0 };
    (Source { free, full }, Hash { from: from_source, to }, sink)
}

impl Source {
    /// Passes on one buffer of `reader`'s bytes, and tells how many; none at its end. `None` if nobody takes them.
    pub fn pass(&self, reader: &mut dyn Read) -> io::Result<Option<usize>> {
        let Ok(mut bytes) = self.free.recv() else { return Ok(None) };
        let mut filled = 0;
        while filled < bytes.len() {
            match reader.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if filled > 0 && self.full.send(Piece { bytes, filled }).is_err() {
            return Ok(None);
        }
        Ok(Some(filled))
    }
}

impl Hash {
    /// Passes everything on, and gives its SHA-256, if that is wanted, and its size.
    pub fn run(self, wanted: bool) -> ([u8; 32], u64) {
        let mut hash = Sha256::new();
        let mut size = 0;
        while let Ok(piece) = self.from.recv() {
            if wanted {
                hash.update(&piece.bytes[..piece.filled]);
            }
            size += piece.filled as u64;
            if self.to.send(piece).is_err() {
                break;
            }
        }
        (hash.finalize().into(), size)
    }
}

impl Read for Sink {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Sink {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.piece.as_ref().is_none_or(|piece| self.at >= piece.filled) {
            if let Some(piece) = self.piece.take() {
                // The source may have ended already.
                let _ = self.free.send(piece.bytes);
            }
            (self.piece, self.at) = (self.from.recv().ok(), 0);
        }
        Ok(self.piece.as_ref().map_or(&[], |piece| &piece.bytes[self.at..piece.filled]))
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}
