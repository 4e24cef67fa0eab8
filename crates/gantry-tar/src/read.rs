//! Reading: one entry after the other, and their data without a copy.

use crate::BLOCK;
use crate::entry::{Entry, Extent, Kind, Time};
use crate::error::{Error, Result, show};
use crate::header::{self, Block, Dialect};
use crate::pax::{self, Extras};
use crate::sparse;
use std::io::{self, BufRead, Read};

/// How much an archive may make its reader remember.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one extended header, or of one long name.
    pub extended: u64,
    /// Bytes of a name or the target of a link.
    pub name: u64,
    /// Extents of a sparse file.
    pub extents: u64,
}

impl Default for Limits {
    /// What the kernel can make from an archive is well below these.
    fn default() -> Self {
        Self { extended: 4 << 20, name: 1 << 20, extents: 1 << 18 }
    }
}

/// Reads an archive from a stream.
///
/// [`Self::read_entry`] goes from one entry to the next, and [`Self::data`] reads what it holds; what of it is not read is
/// passed over.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    limits: Limits,
    /// Bytes read so far.
    position: u64,
    /// Data of the entry that was not read yet.
    remaining: u64,
    /// Bytes after it up to the next block.
    padding: u64,
    /// Name of the entry whose data is being read, for errors.
    current: Vec<u8>,
    globals: Option<Extras>,
    extras: Extras,
    ended: bool,
}

/// What extended headers before a header said.
#[derive(Default)]
struct Before {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: bool,
}

impl<R: BufRead> Reader<R> {
    /// A reader with the usual limits.
    pub fn new(inner: R) -> Self {
        Self::with_limits(inner, Limits::default())
    }

    /// A reader with limits of its own.
    pub fn with_limits(inner: R, limits: Limits) -> Self {
        let (current, extras) = (Vec::new(), Extras::default());
        Self { inner, limits, position: 0, remaining: 0, padding: 0, current, globals: None, extras, ended: false }
    }

    /// Bytes of the archive that were read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The stream, at whatever follows what was read. After the last entry that is what follows its end marker.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Reads up to the next entry, over what is left of the data of the last, into `entry`. False at the end.
    pub fn read_entry(&mut self, entry: &mut Entry) -> Result<bool> {
        self.skip_data()?;
        let mut before = Before::default();
        self.extras.clear();
        if let Some(globals) = &self.globals {
            self.extras.clone_from(globals);
            before.pax = true;
        }
        let mut block = [0; BLOCK];
        loop {
            let at = self.position;
            if self.ended || !self.header(&mut block)? {
                self.ended = true;
                return Ok(false);
            }
            let flag = block[header::TYPE];
            match flag {
                b'L' => before.long_name = Some(self.long(&block, at)?),
                b'K' => before.long_link = Some(self.long(&block, at)?),
                b'x' | b'X' => {
                    let records = self.extended(&block, at)?;
                    let most = self.limits.extents as usize;
                    self.extras.read(&records, most).map_err(|refused| at_field(at, refused))?;
                    before.pax = true;
                }
                b'g' => self.global(&block, at, &mut before)?,
                // The label of a volume names nothing.
                b'V' => self.extended(&block, at).map(drop)?,
                _ => {
                    self.entry(&block, at, before, entry)?;
                    return Ok(true);
                }
            }
        }
    }

    /// The data of the entry that was read last. For a sparse file that is what of it is no hole.
    pub fn data(&mut self) -> Data<'_, R> {
        Data { reader: self }
    }

    /// The next piece of the entry's data, which is empty at its end. [`Self::consume_data`] goes on.
    pub fn fill_data(&mut self) -> Result<&[u8]> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let Self { inner, remaining, current, .. } = self;
        let buffer = fill(inner)?;
        if buffer.is_empty() {
            return Err(Error::Truncated { entry: show(current) });
        }
        Ok(&buffer[..usize::try_from(*remaining).unwrap_or(usize::MAX).min(buffer.len())])
    }

    /// Goes on after `count` bytes of what [`Self::fill_data`] gave.
    pub fn consume_data(&mut self, count: usize) {
        let count = count.min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        self.inner.consume(count);
        self.remaining -= count as u64;
        self.position += count as u64;
    }

    /// Bytes of the entry's data that were not read yet.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    fn skip_data(&mut self) -> Result<()> {
        self.remaining += std::mem::take(&mut self.padding);
        while self.remaining > 0 {
            let count = self.fill_data()?.len();
            self.consume_data(count);
        }
        Ok(())
    }

    /// Reads a header. False at the end of the archive: a block of zeros, or of the stream.
    fn header(&mut self, block: &mut Block) -> Result<bool> {
        let at = self.position;
        if !self.block(block, "a header")? {
            return Ok(false);
        }
        if block.iter().all(|byte| *byte == 0) {
            // A second one follows, unless the writer was careless.
            self.block(block, "its end")?;
            return Ok(false);
        }
        if header::checksum_matches(block) {
            return Ok(true);
        }
        Err(Error::Header { at, why: "the checksum of a header is wrong" })
    }

    /// Reads one block. False if the stream is at its end.
    fn block(&mut self, block: &mut Block, what: &str) -> Result<bool> {
        let mut filled = 0;
        while filled < BLOCK {
            let buffer = fill(&mut self.inner)?;
            if buffer.is_empty() {
                return if filled == 0 { Ok(false) } else { Err(Error::Truncated { entry: what.into() }) };
            }
            let count = buffer.len().min(BLOCK - filled);
            block[filled..filled + count].copy_from_slice(&buffer[..count]);
            self.inner.consume(count);
            filled += count;
            self.position += count as u64;
        }
        Ok(true)
    }

    /// Announces the data of a header.
    fn begin_data(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// Reads the data of an extended header.
    fn extended(&mut self, block: &Block, at: u64) -> Result<Vec<u8>> {
        let size = unsigned(&block[header::SIZE], at, "size")?;
        if size > self.limits.extended {
            let (entry, what) = (format!("the header at byte {at}"), "the size in bytes of an extended header");
            return Err(Error::Limit { entry, what, limit: self.limits.extended });
        }
        self.current = b"(an extended header)".to_vec();
        self.begin_data(size);
        let mut bytes = Vec::new();
        while self.remaining > 0 {
            let piece = self.fill_data()?;
            let count = piece.len();
            bytes.extend_from_slice(piece);
            self.consume_data(count);
        }
        self.skip_data()?;
        Ok(bytes)
    }

    /// A long name of GNU's, with a NUL behind it.
    fn long(&mut self, block: &Block, at: u64) -> Result<Vec<u8>> {
        let bytes = self.extended(block, at)?;
        Ok(header::text(&bytes).to_vec())
    }

    /// What holds for all entries that follow. What a local header before it said comes over it.
    fn global(&mut self, block: &Block, at: u64, before: &mut Before) -> Result<()> {
        let records = self.extended(block, at)?;
        let most = self.limits.extents as usize;
        let globals = self.globals.get_or_insert_default();
        globals.read(&records, most).map_err(|refused| at_field(at, refused))?;
        // A hostile archive could add to them with every header.
        if globals.xattrs.len() > 4096 || globals.xattrs.iter().map(|(_, value)| value.len()).sum::<usize>() > 4 << 20 {
            let (entry, what) = (format!("the header at byte {at}"), "the size in bytes of all global headers");
            return Err(Error::Limit { entry, what, limit: 4 << 20 });
        }
        if !before.pax {
            self.extras.clone_from(globals);
        }
        before.pax = true;
        Ok(())
    }

    /// An entry, from its header and all that came before it.
    fn entry(&mut self, block: &Block, at: u64, before: Before, entry: &mut Entry) -> Result<()> {
        entry.clear();
        let dialect = header::dialect(block);
        fields(block, at, dialect, entry)?;
        let mut stored = unsigned(&block[header::SIZE], at, "size")?;
        for (field, long) in [(&mut entry.path, before.long_name), (&mut entry.link, before.long_link)] {
            if let Some(long) = long {
                *field = long;
            }
        }
        if before.pax {
            stored = self.extras.apply(entry).unwrap_or(stored);
            if let Some(name) = self.extras.sparse.name.take() {
                entry.path = name;
            }
        }
        if entry.path.is_empty() {
            return Err(Error::Header { at, why: "an entry has no name" });
        }
        for name in [&entry.path, &entry.link] {
            if name.len() as u64 > self.limits.name {
                let what = "the length in bytes of a name";
                return Err(Error::Limit { entry: show(name), what, limit: self.limits.name });
            }
        }
        entry.kind = kind(block[header::TYPE], entry)?;
        self.current.clone_from(&entry.path);
        match entry.kind {
            Kind::File => self.file(block, stored, entry)?,
            // What such a header has as its size is no data: those who write one there follow old custom. Directories of
            // GNU's incremental archives do have data.
            _ => self.begin_data(if block[header::TYPE] == b'D' { stored } else { 0 }),
        }
        if !matches!(entry.kind, Kind::Link | Kind::Symlink) {
            entry.link.clear();
        } else if entry.link.is_empty() {
            return Err(field(entry, "link", "has no target"));
        }
        Ok(())
    }

    /// The size of a regular file, and its map if it is a sparse one.
    fn file(&mut self, block: &Block, stored: u64, entry: &mut Entry) -> Result<()> {
        entry.size = stored;
        self.begin_data(stored);
        let (size, map) = if block[header::TYPE] == b'S' {
            let size = unsigned(&block[header::GNU_REAL_SIZE], self.position, "real size")?;
            // The blocks of the map are not counted in the size of the data.
            (self.remaining, self.padding) = (0, 0);
            let map = self.old_map(block, entry)?;
            self.begin_data(stored);
            (size, map)
        } else {
            let said = std::mem::take(&mut self.extras.sparse);
            let Some(size) = said.real_size else { return Ok(()) };
            let map = match (said.major, said.map) {
                (Some(1), _) if said.minor == Some(0) => self.new_map(entry)?,
                (Some(_), None) => return Err(field(entry, "GNU.sparse.major", "is no version that is known")),
                (_, Some(map)) => map,
                (None, None) => said.pairs,
            };
            (size, map)
        };
        sparse::check(&map, size, self.remaining).map_err(|why| field(entry, "the map of the sparse file", why))?;
        entry.size = size;
        entry.sparse = Some(map);
        Ok(())
    }

    fn old_map(&mut self, block: &Block, entry: &Entry) -> Result<Vec<Extent>> {
        const FIELD: &str = "the map of the sparse file";
        const WHY: &str = "is not made of numbers";
        let (mut map, mut more) = sparse::old_header(block).ok_or_else(|| field(entry, FIELD, WHY))?;
        let mut next = [0; BLOCK];
        while more {
            if !self.block(&mut next, "the map of a sparse file")? {
                return Err(Error::Truncated { entry: show(&entry.path) });
            }
            let (extents, again) = sparse::old_block(&next).ok_or_else(|| field(entry, FIELD, WHY))?;
            map.extend(extents);
            more = again;
            self.bound_extents(map.len(), entry)?;
        }
        Ok(map)
    }

    /// The map of version 1.0, which is text at the beginning of the data, padded to whole blocks.
    fn new_map(&mut self, entry: &Entry) -> Result<Vec<Extent>> {
        let begin = self.remaining;
        let count = self.map_number(entry)?;
        self.bound_extents(usize::try_from(count).unwrap_or(usize::MAX), entry)?;
        let mut map = Vec::new();
        for _ in 0..count {
            map.push(Extent { offset: self.map_number(entry)?, length: self.map_number(entry)? });
        }
        let rest = (begin - self.remaining).wrapping_neg() % BLOCK as u64;
        let mut rest = usize::try_from(rest.min(self.remaining)).unwrap_or(BLOCK);
        while rest > 0 {
            let count = self.fill_data()?.len().min(rest);
            self.consume_data(count);
            rest -= count;
        }
        Ok(map)
    }

    /// A number with a newline behind it.
    fn map_number(&mut self, entry: &Entry) -> Result<u64> {
        let mut digits = Vec::with_capacity(20);
        loop {
            let byte = self.fill_data()?.first().copied();
            self.consume_data(1);
            match byte {
                Some(b'\n') => break,
                Some(byte) if digits.len() < 20 => digits.push(byte),
                _ => break digits.clear(),
            }
        }
        pax::decimal(&digits).ok_or_else(|| field(entry, "the map of the sparse file", "is not made of numbers"))
    }

    fn bound_extents(&self, count: usize, entry: &Entry) -> Result<()> {
        let limit = self.limits.extents;
        if count as u64 <= limit {
            return Ok(());
        }
        Err(Error::Limit { entry: show(&entry.path), what: "the number of extents of a sparse file", limit })
    }
}

/// The data of an entry.
#[derive(Debug)]
pub struct Data<'a, R> {
    reader: &'a mut Reader<R>,
}

impl<R: BufRead> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let count = piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Data<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_data().map_err(|error| match error {
            Error::Io(error) => error,
            error => io::Error::new(io::ErrorKind::UnexpectedEof, error),
        })
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume_data(count);
    }
}

/// The next piece of a stream.
fn fill<R: BufRead>(inner: &mut R) -> io::Result<&[u8]> {
    loop {
        match inner.fill_buf() {
            Ok([]) => return Ok(&[]),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // Asked twice, since the borrow checker does not see that a borrow ends with a loop. The second answer is at hand.
    inner.fill_buf()
}

/// The fields of the header itself.
fn fields(block: &Block, at: u64, dialect: Dialect, entry: &mut Entry) -> Result<()> {
    let prefix = match dialect {
        Dialect::Posix => header::text(&block[header::PREFIX]),
        Dialect::Star => header::text(&block[header::STAR_PREFIX]),
        Dialect::Gnu | Dialect::V7 => &[],
    };
    if !prefix.is_empty() {
        entry.path.extend_from_slice(prefix);
        entry.path.push(b'/');
    }
    entry.path.extend_from_slice(header::text(&block[header::NAME]));
    entry.link.extend_from_slice(header::text(&block[header::LINK]));
    entry.mode = (unsigned(&block[header::MODE], at, "mode")? & 0o7777) as u32;
    entry.uid = unsigned(&block[header::UID], at, "uid")?;
    entry.gid = unsigned(&block[header::GID], at, "gid")?;
    let seconds = header::number(&block[header::MTIME]).ok_or_else(|| bad_number(at, "mtime"))?;
    entry.mtime = Time { seconds, nanos: 0 };
    if dialect != Dialect::V7 {
        entry.user.extend_from_slice(header::text(&block[header::USER]));
        entry.group.extend_from_slice(header::text(&block[header::GROUP]));
    }
    if matches!(block[header::TYPE], b'3' | b'4') {
        let number = |range, name| {
            let number = unsigned(&block[range], at, name)?;
            u32::try_from(number).map_err(|_| bad_number(at, name))
        };
        entry.major = number(header::MAJOR, "major device number")?;
        entry.minor = number(header::MINOR, "minor device number")?;
    }
    Ok(())
}

fn kind(flag: u8, entry: &Entry) -> Result<Kind> {
    Ok(match flag {
        // Before POSIX a directory was told by its slash.
        0 if entry.path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::Link,
        b'2' => Kind::Symlink,
        b'3' => Kind::Char,
        b'4' => Kind::Block,
        b'5' | b'D' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => return Err(Error::Kind { entry: show(&entry.path), flag: char::from(flag) }),
    })
}

fn unsigned(bytes: &[u8], at: u64, name: &'static str) -> Result<u64> {
    let number = header::number(bytes).and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| bad_number(at, name))
}

fn bad_number(at: u64, field: &'static str) -> Error {
    at_field(at, (field, "is no number that has a meaning"))
}

fn at_field(at: u64, (field, why): pax::Refused) -> Error {
    Error::Field { entry: format!("the entry at byte {at}"), field, why }
}

fn field(entry: &Entry, field: &'static str, why: &'static str) -> Error {
    Error::Field { entry: show(&entry.path), field, why }
}
