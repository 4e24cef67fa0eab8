//! Compression by all processors.
//!
//! A stream is cut into pieces that are compressed independently. For gzip each is a run of deflate blocks that ends at a
//! byte, and all of them are one member with one checksum, which is computed from those of the pieces: every reader of gzip
//! takes it. For zstd each piece is a frame. The result depends on the level alone, not on how many processors there are.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use flate2::{Compress, FlushCompress};
use gantry_model::image::Compression;

use crate::error::{Error, Result};

/// Bytes of a piece. Independent pieces cost a percent of the size or so at this length.
const PIECE: usize = 1 << 20;
/// The most processors that are used.
const MOST_WORKERS: usize = 16;
/// Pieces that are under way for each worker.
const AHEAD: usize = 2;

/// The level for gzip if none is asked for: by measurement, that which makes a push over a fast network shortest.
pub const DEFAULT_GZIP: u32 = 2;
/// The same for zstd.
pub const DEFAULT_ZSTD: u32 = 3;

/// How layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// The format.
    pub compression: Compression,
    /// The level: 1 to 9 for gzip, 1 to 19 for zstd.
    pub level: u32,
}

impl Method {
    /// A method with a level, or with the usual one.
    pub fn new(compression: Compression, level: Option<u32>) -> Result<Self> {
        let (usual, most) = match compression {
            Compression::Gzip => (DEFAULT_GZIP, 9),
            Compression::Zstd => (DEFAULT_ZSTD, 19),
            Compression::None => (0, 0),
        };
        let level = level.unwrap_or(usual);
        if level > most || (level == 0 && most > 0) {
            let why = format!("it is 1 to {most} for this compression");
            return Err(Error::invalid("compression level", level.to_string(), why));
        }
        Ok(Self { compression, level })
    }
}

/// A piece on its way: what it is, and where it goes.
struct Job {
    input: Vec<u8>,
    output: SyncSender<Done>,
}

/// A piece that is compressed.
struct Done {
    input: Vec<u8>,
    compressed: io::Result<Vec<u8>>,
    crc: crc32fast::Hasher,
}

/// Compresses what `fill` writes, and gives it to `emit` in pieces, in order.
pub fn compress(
    method: Method,
    emit: &mut dyn FnMut(Bytes) -> io::Result<()>,
    fill: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    if method.compression == Compression::None {
        let mut plain = Plain { buffer: Vec::with_capacity(PIECE), emit };
        fill(&mut plain)?;
        return plain.flush().map_err(Error::io("write a layer"));
    }
    let count = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_WORKERS);
    let (jobs, queue) = sync_channel::<Job>(count);
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| work(&queue, method));
        }
        let mut stream = Stream::new(method, jobs, count, emit);
        // The stream's end of the queue goes with it, whatever happens, and with that the workers.
        fill(&mut stream)?;
        stream.finish().map_err(Error::io("compress a layer"))
    })
}

/// Compresses pieces until there are no more.
fn work(queue: &Mutex<Receiver<Job>>, method: Method) {
    let mut deflate = None;
    let mut zstd = None;
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { input, output }) = job else { return };
        let mut crc = crc32fast::Hasher::new();
        let compressed = if method.compression == Compression::Gzip {
            crc.update(&input);
            let level = flate2::Compression::new(method.level);
            blocks(deflate.get_or_insert_with(|| Compress::new(level, false)), &input)
        } else {
            frame(&mut zstd, method.level, &input)
        };
        // Nobody waits for it if the whole was given up.
        let _ = output.send(Done { input, compressed, crc });
    }
}

/// A run of deflate blocks that ends at a byte, and refers to nothing before it.
fn blocks(deflate: &mut Compress, input: &[u8]) -> io::Result<Vec<u8>> {
    deflate.reset();
    let mut output = Vec::with_capacity(input.len() / 2 + 1024);
    loop {
        let consumed = deflate.total_in() as usize;
        deflate.compress_vec(&input[consumed..], &mut output, FlushCompress::Sync).map_err(io::Error::other)?;
        // Room that is left says that all of it is out.
        if output.len() < output.capacity() && deflate.total_in() as usize == input.len() {
            return Ok(output);
        }
        output.reserve(input.len() / 4 + 1024);
    }
}

fn frame(kept: &mut Option<zstd::bulk::Compressor<'static>>, level: u32, input: &[u8]) -> io::Result<Vec<u8>> {
    let compressor = match kept {
        Some(compressor) => compressor,
        None => kept.insert(zstd::bulk::Compressor::new(level as i32)?),
    };
    compressor.compress(input)
}

/// Cuts what is written into pieces, and puts the results in order.
struct Stream<'e> {
    method: Method,
    jobs: SyncSender<Job>,
    ahead: usize,
    emit: &'e mut dyn FnMut(Bytes) -> io::Result<()>,
    waiting: VecDeque<Receiver<Done>>,
    buffer: Vec<u8>,
    free: Vec<Vec<u8>>,
    crc: crc32fast::Hasher,
    size: u64,
    begun: bool,
}

impl<'e> Stream<'e> {
    fn new(
        method: Method,
        jobs: SyncSender<Job>,
        count: usize,
        emit: &'e mut dyn FnMut(Bytes) -> io::Result<()>,
    ) -> Self {
        Self {
            method,
            jobs,
            ahead: count * AHEAD,
            emit,
            waiting: VecDeque::new(),
            buffer: Vec::with_capacity(PIECE),
            free: Vec::new(),
            crc: crc32fast::Hasher::new(),
            size: 0,
            begun: false,
        }
    }

    /// Sends the buffer off.
    fn send(&mut self) -> io::Result<()> {
        while self.waiting.len() >= self.ahead {
            self.receive()?;
        }
        let (output, done) = sync_channel(1);
        let next = self.free.pop().unwrap_or_else(|| Vec::with_capacity(PIECE));
        let input = std::mem::replace(&mut self.buffer, next);
        self.size += input.len() as u64;
        self.jobs.send(Job { input, output }).map_err(|_| ended())?;
        self.waiting.push_back(done);
        Ok(())
    }

    /// Takes the oldest result.
    fn receive(&mut self) -> io::Result<()> {
        let Some(done) = self.waiting.pop_front() else { return Ok(()) };
        let Done { mut input, compressed, crc } = done.recv().map_err(|_| ended())?;
        input.clear();
        self.free.push(input);
        self.crc.combine(&crc);
        self.head()?;
        (self.emit)(compressed?.into())
    }

    fn head(&mut self) -> io::Result<()> {
        if self.begun || self.method.compression != Compression::Gzip {
            return Ok(());
        }
        self.begun = true;
        // RFC 1952, 2.3: deflate, no flags, no time, and the system is not said.
        (self.emit)(Bytes::from_static(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]))
    }

    fn finish(mut self) -> io::Result<()> {
        if !self.buffer.is_empty() || (self.size == 0 && self.method.compression == Compression::Zstd) {
            self.send()?;
        }
        while !self.waiting.is_empty() {
            self.receive()?;
        }
        if self.method.compression == Compression::Gzip {
            self.head()?;
            // An empty last block, the checksum, and the size modulo 2^32.
            let mut tail = vec![3, 0];
            tail.extend(self.crc.clone().finalize().to_le_bytes());
            tail.extend((self.size as u32).to_le_bytes());
            (self.emit)(tail.into())?;
        }
        Ok(())
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PIECE {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// No compression at all: only the pieces.
struct Plain<'e> {
    buffer: Vec<u8>,
    emit: &'e mut dyn FnMut(Bytes) -> io::Result<()>,
}

impl Write for Plain<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        (self.emit)(full.into())
    }
}

fn ended() -> io::Error {
    io::Error::other("a thread of the compression ended unexpectedly")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn data(size: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 24
        };
        (0..size).map(|at| if at % 7 < 4 { b'a' + (at % 11) as u8 } else { next() as u8 }).collect()
    }

    fn run(compression: Compression, level: Option<u32>, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let method = Method::new(compression, level).unwrap();
        compress(method, &mut |piece| out.write_all(&piece), |to| {
            to.write_all(data).and_then(|()| to.flush()).map_err(Error::io("write"))
        })
        .unwrap();
        out
    }

    #[test]
    fn what_is_compressed_comes_back() {
        for size in [0, 1, 1000, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 77] {
            let data = data(size);
            for level in [1, 2, 6, 9] {
                let gzip = run(Compression::Gzip, Some(level), &data);
                let mut back = Vec::new();
                // One member, not several: some readers stop after the first.
                flate2::read::GzDecoder::new(gzip.as_slice()).read_to_end(&mut back).unwrap();
                assert!(back == data, "gzip of {size}, level {level}");
                assert!(size < 10_000 || gzip.len() < size, "{size} became {}", gzip.len());
            }
            let zstd = run(Compression::Zstd, None, &data);
            assert!(zstd::decode_all(zstd.as_slice()).unwrap() == data, "zstd of {size}");
            assert!(run(Compression::None, None, &data) == data, "{size}");
        }
    }

    #[test]
    fn what_cannot_be_compressed_fits_too() {
        let mut state = 7_u64;
        let noise: Vec<u8> = (0..2 * PIECE + 3)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        let gzip = run(Compression::Gzip, Some(1), &noise);
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(gzip.as_slice()).read_to_end(&mut back).unwrap();
        assert!(back == noise);
    }

    #[test]
    fn a_failure_ends_it() {
        let method = Method::new(Compression::Gzip, None).unwrap();
        let data = data(8 * PIECE);
        let refused = compress(method, &mut |_| Err(io::Error::other("no more")), |to| {
            to.write_all(&data).map_err(Error::io("write"))
        });
        assert!(refused.unwrap_err().to_string().contains("no more"));
        let refused = compress(method, &mut |_| Ok(()), |_| Err(Error::Task("test")));
        assert!(matches!(refused, Err(Error::Task("test"))));
        assert!(Method::new(Compression::Gzip, Some(10)).is_err());
        assert!(Method::new(Compression::Zstd, Some(0)).is_err());
    }
}
