//! Writing: what fits an ustar header goes there, and a pax header comes before it for what does not.
//!
//! The same entries give the same bytes. Nothing is written that the caller did not say, neither a time nor a name.

use crate::BLOCK;
use crate::entry::{Entry, Extent, Kind};
use crate::error::{Error, Result, show};
use crate::header::{self, Block};
use crate::{pax, sparse};
use std::io::{self, Write};
use std::ops::Range;

/// Blocks of zeros that end an archive.
const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Writes an archive to a stream.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    /// Data of the entry that was not written yet.
    remaining: u64,
    /// Zeros that follow it.
    padding: usize,
    current: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// A writer to `out`, which gets many small writes: give it a buffer.
    pub fn new(out: W) -> Self {
        Self { out, remaining: 0, padding: 0, current: Vec::new() }
    }

    /// Begins an entry. Then come the [`Entry::stored`] bytes of its data, through [`Write`].
    pub fn begin(&mut self, entry: &Entry) -> Result<()> {
        self.end_entry()?;
        self.current.clone_from(&entry.path);
        check(entry)?;
        let mut records = Vec::new();
        let mut block = [0; BLOCK];
        let map = entry.sparse.as_deref().map(map_text).unwrap_or_default();
        let stored = entry.stored() + map.len() as u64;
        fill(&mut block, &mut records, entry, stored)?;
        if !records.is_empty() {
            self.extended(&records, &entry.path)?;
        }
        self.out.write_all(&block)?;
        self.out.write_all(&map)?;
        self.remaining = entry.stored();
        self.padding = padding(self.remaining);
        Ok(())
    }

    /// An entry with data that is in memory.
    pub fn append(&mut self, entry: &Entry, data: &[u8]) -> Result<()> {
        self.begin(entry)?;
        self.write_all(data)?;
        self.end_entry()
    }

    /// Ends the archive, and gives the stream back.
    pub fn finish(mut self) -> Result<W> {
        self.end_entry()?;
        self.out.write_all(&END)?;
        Ok(self.out)
    }

    fn end_entry(&mut self) -> Result<()> {
        if self.remaining > 0 {
            return Err(Error::Write { entry: show(&self.current), why: "there is less data than was announced" });
        }
        let padding = std::mem::take(&mut self.padding);
        self.out.write_all(&END[..padding])?;
        Ok(())
    }

    fn extended(&mut self, records: &[u8], path: &[u8]) -> Result<()> {
        let mut block = [0; BLOCK];
        let name = path.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty()).unwrap_or(b"entry");
        put_text(&mut block, header::NAME, &[b"PaxHeaders/", &name[..name.len().min(80)]].concat());
        header::put_octal(&mut block[header::MODE], 0o644);
        for zero in [header::UID, header::GID, header::MTIME] {
            header::put_octal(&mut block[zero], 0);
        }
        header::put_octal(&mut block[header::SIZE], records.len() as u64);
        finish(&mut block, b'x');
        self.out.write_all(&block)?;
        self.out.write_all(records)?;
        self.out.write_all(&END[..padding(records.len() as u64)])?;
        Ok(())
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.remaining {
            let error = Error::Write { entry: show(&self.current), why: "there is more data than was announced" };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        let count = self.out.write(bytes)?;
        self.remaining -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Bytes up to the next whole block.
fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}

/// What no reader could make sense of.
fn check(entry: &Entry) -> Result<()> {
    let refuse = |why| Err(Error::Write { entry: show(&entry.path), why });
    let link = matches!(entry.kind, Kind::Link | Kind::Symlink);
    if entry.path.is_empty() || entry.path.contains(&0) {
        return refuse("a name is empty or holds a NUL");
    }
    if link == entry.link.is_empty() || entry.link.contains(&0) {
        return refuse("links have a target without NUL, and nothing else has one");
    }
    if entry.kind != Kind::File && (entry.size > 0 || entry.sparse.is_some()) {
        return refuse("only regular files have a size");
    }
    if entry.mode > 0o7777 || entry.mtime.nanos > 999_999_999 {
        return refuse("the mode or the time is out of range");
    }
    if entry.xattrs.iter().any(|(name, _)| name.is_empty() || name.iter().any(|byte| matches!(byte, b'=' | 0))) {
        return refuse("an extended attribute has a name that a pax header cannot hold");
    }
    match &entry.sparse {
        Some(map) => sparse::check(map, entry.size, entry.stored()).map_err(|why| Error::Field {
            entry: show(&entry.path),
            field: "the map of the sparse file",
            why,
        }),
        None => Ok(()),
    }
}

/// Fills the header and the records that it needs, which are in a fixed order.
fn fill(block: &mut Block, records: &mut Vec<u8>, entry: &Entry, stored: u64) -> Result<()> {
    let mut decimal = |key: &str, value: u64| pax::put(records, key.as_bytes(), value.to_string().as_bytes());
    header::put_octal(&mut block[header::MODE], entry.mode.into());
    if entry.sparse.is_some() {
        decimal("GNU.sparse.major", 1);
        decimal("GNU.sparse.minor", 0);
        decimal("GNU.sparse.realsize", entry.size);
    }
    let numbers = [(header::UID, "uid", entry.uid), (header::GID, "gid", entry.gid), (header::SIZE, "size", stored)];
    for (range, key, value) in numbers {
        if !header::put_octal(&mut block[range.clone()], value) {
            header::put_octal(&mut block[range], 0);
            decimal(key, value);
        }
    }
    put_time(block, records, entry);
    for (range, key, value) in [(header::USER, "uname", &entry.user), (header::GROUP, "gname", &entry.group)] {
        // These fields end with a NUL.
        if value.len() < range.len() { put_text(block, range, value) } else { pax::put(records, key.as_bytes(), value) }
    }
    put_path(block, records, entry);
    put_text(block, header::LINK, &entry.link[..entry.link.len().min(header::LINK.len())]);
    if entry.link.len() > header::LINK.len() {
        pax::put(records, b"linkpath", &entry.link);
    }
    if matches!(entry.kind, Kind::Char | Kind::Block) {
        let fits = header::put_octal(&mut block[header::MAJOR], entry.major.into())
            && header::put_octal(&mut block[header::MINOR], entry.minor.into());
        if !fits {
            return Err(Error::Write { entry: show(&entry.path), why: "the device number has no room in a header" });
        }
    }
    let mut xattrs: Vec<_> = entry.xattrs.iter().collect();
    xattrs.sort();
    for (name, value) in xattrs {
        pax::put(records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    finish(block, flag(entry.kind));
    Ok(())
}

fn put_time(block: &mut Block, records: &mut Vec<u8>, entry: &Entry) {
    let (seconds, nanos) = (entry.mtime.seconds, entry.mtime.nanos);
    let fits = header::put_octal(&mut block[header::MTIME], u64::try_from(seconds).unwrap_or(u64::MAX));
    if !fits {
        header::put_octal(&mut block[header::MTIME], 0);
    }
    if fits && nanos == 0 {
        return;
    }
    // A time before the epoch counts its decimals downwards.
    let text = match (seconds < 0, nanos) {
        (_, 0) => seconds.to_string(),
        (true, _) => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
        (false, _) => format!("{seconds}.{nanos:09}"),
    };
    let text = if nanos == 0 { text.as_str() } else { text.trim_end_matches('0') };
    pax::put(records, b"mtime", text.as_bytes());
}

fn put_path(block: &mut Block, records: &mut Vec<u8>, entry: &Entry) {
    let path = &entry.path;
    if entry.sparse.is_some() {
        // A reader that knows nothing of sparse files would otherwise unpack the map under the file's own name.
        pax::put(records, b"GNU.sparse.name", path);
        let name = path.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty()).unwrap_or(b"file");
        put_text(block, header::NAME, &[b"GNUSparseFile.0/", &name[..name.len().min(80)]].concat());
    } else if path.len() <= header::NAME.len() {
        put_text(block, header::NAME, path);
    } else if let Some(at) = split(path) {
        put_text(block, header::PREFIX, &path[..at]);
        put_text(block, header::NAME, &path[at + 1..]);
    } else {
        pax::put(records, b"path", path);
        put_text(block, header::NAME, &path[..header::NAME.len()]);
    }
}

/// The slash at which a path can be parted into a prefix and a name: the last that leaves something after it.
fn split(path: &[u8]) -> Option<usize> {
    let last = path.len().saturating_sub(1).min(header::PREFIX.len() + 1);
    let at = path[..last].iter().rposition(|byte| *byte == b'/')?;
    (at > 0 && path.len() - at - 1 <= header::NAME.len()).then_some(at)
}

fn put_text(block: &mut Block, range: Range<usize>, text: &[u8]) {
    block[range.start..range.start + text.len()].copy_from_slice(text);
}

fn finish(block: &mut Block, flag: u8) {
    block[header::TYPE] = flag;
    block[header::MAGIC].copy_from_slice(header::POSIX);
    let sum = header::checksum(block) as u64;
    header::put_octal(&mut block[header::CHECKSUM.start..header::CHECKSUM.end - 1], sum);
    block[header::CHECKSUM.end - 1] = b' ';
}

fn flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::Link => b'1',
        Kind::Symlink => b'2',
        Kind::Char => b'3',
        Kind::Block => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

/// The map of a sparse file as version 1.0 has it: numbers of one line each, padded to whole blocks.
fn map_text(map: &[Extent]) -> Vec<u8> {
    use std::fmt::Write as _;
    let mut text = format!("{}\n", map.len());
    for extent in map {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}\n{}", extent.offset, extent.length);
    }
    let mut text = text.into_bytes();
    text.resize(text.len().next_multiple_of(BLOCK), 0);
    text
}
