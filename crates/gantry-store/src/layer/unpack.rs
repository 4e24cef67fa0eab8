//! Unpacking: three threads, of which the caller's reads and decompresses, one hashes and one writes.

use std::cell::Cell;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::thread;

use gantry_model::digest::{Algorithm, Digest};
use gantry_tar::{Entry, Reader};

use super::apply::Applier;
use super::compress::decompress;
use super::error::LayerError;
use super::pipe::{Sink, Source, pipe};
use super::{Limits, Options, Pending, Result, Unpacked};

/// Unpacks a layer into an empty directory, as a lower one of overlayfs.
///
/// `compressed` is the layer as it comes, compressed in any supported way. `progress` is told how many of its bytes were
/// read so far. The directory may hold a part of the layer when this fails. Nothing is synced.
pub fn unpack(
    compressed: &mut dyn Read,
    root: BorrowedFd<'_>,
    options: &Options,
    progress: &dyn Fn(u64),
) -> Result<Unpacked> {
    let run = run(compressed, &options.limits, progress, true, move |sink| write(sink, root, options))?;
    let ((disk, entries, pending), diff_id, size) = run;
    Ok(Unpacked { diff_id, size, disk, entries, pending })
}

/// Does the same without a hash of what comes, as tar does: to measure what unpacking itself costs. Returns the bytes of the
/// uncompressed archive, and its entries.
pub fn unpack_unverified(compressed: &mut dyn Read, root: BorrowedFd<'_>, options: &Options) -> Result<(u64, u64)> {
    let run = run(compressed, &options.limits, &|_| (), false, move |sink| write(sink, root, options))?;
    let ((_, entries, _), _, size) = run;
    Ok((size, entries))
}

/// Reads, decompresses and hashes an archive while `write` makes something of it. Gives what that gave, the digest, which
/// means nothing if it is not to be hashed, and the size of the uncompressed archive.
pub(super) fn run<T: Send>(
    compressed: &mut dyn Read,
    limits: &Limits,
    progress: &dyn Fn(u64),
    hashed: bool,
    write: impl FnOnce(Sink) -> Result<T> + Send,
) -> Result<(T, Digest, u64)> {
    let (source, hash, sink) = pipe();
    thread::scope(|scope| {
        let hasher = scope.spawn(move || hash.run(hashed));
        let writer = scope.spawn(move || write(sink));
        let fed = feed(&source, compressed, limits, progress);
        // That is the end of the stream to those who come after it.
        drop(source);
        let hashed = hasher.join().map_err(|_| LayerError::Thread);
        let written = writer.join().map_err(|_| LayerError::Thread)?;
        // A source that failed looks like a cut-off archive to the writer, so its error is told first.
        fed?;
        let written = written?;
        let (hash, size) = hashed?;
        let diff_id = Digest::from_bytes(Algorithm::Sha256, &hash).map_err(|_| LayerError::Thread)?;
        Ok((written, diff_id, size))
    })
}

/// Reads, decompresses and passes on, within the limits.
fn feed(source: &Source, compressed: &mut dyn Read, limits: &Limits, progress: &dyn Fn(u64)) -> Result<()> {
    let count = Cell::new(0);
    let counted = Counted { inner: compressed, count: &count, progress };
    let mut reader = decompress(counted).map_err(LayerError::Source)?;
    let mut size = 0_u64;
    // The writer's own error is told when nobody takes the bytes any more.
    while let Some(passed) = source.pass(&mut reader).map_err(LayerError::Source)? {
        if passed == 0 {
            break;
        }
        size += passed as u64;
        if size > limits.bytes {
            return Err(archive_limit("the size in bytes of the uncompressed layer", limits.bytes));
        }
        if size > limits.ratio_free && size / limits.ratio.max(1) > count.get() {
            return Err(archive_limit("the ratio of the uncompressed to the compressed layer", limits.ratio));
        }
    }
    Ok(())
}

fn archive_limit(what: &'static str, limit: u64) -> LayerError {
    LayerError::Limit { entry: "(the whole layer)".into(), what, limit }
}

/// Makes what the archive says.
fn write(sink: Sink, root: BorrowedFd<'_>, options: &Options) -> Result<(u64, u64, Pending)> {
    let limits = gantry_tar::Limits { extended: options.limits.pax, ..gantry_tar::Limits::default() };
    let mut reader = Reader::with_limits(sink, limits);
    let mut applier = Applier::new(root, options)?;
    let mut entry = Entry::default();
    while reader.read_entry(&mut entry)? {
        applier.apply(&entry, &mut reader)?;
    }
    // What follows the end of the archive is a part of its digest.
    let mut rest = reader.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(LayerError::Source)?;
    applier.finish()
}

/// Counts what is read.
struct Counted<'a> {
    inner: &'a mut dyn Read,
    count: &'a Cell<u64>,
    progress: &'a dyn Fn(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.set(self.count.get() + count as u64);
        (self.progress)(self.count.get());
        Ok(count)
    }
}
