//! From a directory to an archive: the same directory gives the same bytes.
//!
//! Names are in the order of their bytes, numbers stand for owners, and nothing of the host or the time of the day gets in.
//! The order in which a file system lists names, and the numbers of its inodes, make no difference.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use gantry_model::digest::{Algorithm, Digest};
use gantry_tar::{Entry, Extent, Kind, Writer};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, StatxFlags, fstat, openat, statx};
use rustix::io::{Errno, pread};
use sha2::{Digest as _, Sha256};

use super::attributes::allowed;
use super::describe::{describe, holes};
use super::error::LayerError;
use super::names::join;
use super::{OPAQUE, Result, WHITEOUT, WHITEOUT_OPAQUE, tree};

/// Bytes of a file that are read at a time.
const PIECE: usize = 256 * 1024;
/// Bytes of headers and small files that are gathered.
const GATHERED: usize = 64 * 1024;
/// How deep a tree may be.
const DEEPEST: usize = 1024;
/// How often a file is looked at that changes all the time.
const TRIES: u32 = 5;
/// Attributes by which a directory or a file of an upper directory depends on what is below it.
const DEPENDENT: [&[u8]; 2] = [b"trusted.overlay.redirect", b"trusted.overlay.metacopy"];

/// What is put into an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiffOptions {
    /// Whether there is an entry for the root itself, `./`, which carries its owner, mode and attributes.
    pub root: bool,
    /// Files that are left out if they are empty: places that were made for what was mounted on them.
    pub places: &'static [&'static str],
}

impl Default for DiffOptions {
    fn default() -> Self {
        Self { root: true, places: &[] }
    }
}

/// Writes an upper directory of overlayfs as a layer: its whiteouts and opaque directories become those of the image
/// specification. Returns the digest and the size of what was written, which is not compressed.
///
/// The directory must not change meanwhile. It has to be one that was mounted without `redirect_dir` and `metacopy`.
pub fn diff(upper: BorrowedFd<'_>, out: &mut dyn Write, options: impl Borrow<DiffOptions>) -> Result<(Digest, u64)> {
    run(upper, out, *options.borrow(), true)
}

/// Writes a whole tree as an archive.
pub fn archive(root: BorrowedFd<'_>, out: &mut dyn Write, options: impl Borrow<DiffOptions>) -> Result<(Digest, u64)> {
    run(root, out, *options.borrow(), false)
}

/// A tree that its owner goes on using while it is read, and may mean harm by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// The ids that stand for 0 and up, and how many there are, if the tree is seen through a mapping of ids. Whatever has
    /// another one belongs to nobody.
    pub ids: Option<(u32, u32)>,
    /// Mounts that are not gone into, by their numbers (statx(2), `STATX_MNT_ID`).
    pub skip: Vec<u64>,
}

/// The id of nobody.
const NOBODY: u64 = 65_534;

impl Live {
    fn id(&self, id: u64) -> u64 {
        let Some((first, count)) = self.ids else { return id };
        id.checked_sub(first.into()).filter(|id| *id < count.into()).unwrap_or(NOBODY)
    }

    fn skips(&self, directory: BorrowedFd<'_>) -> rustix::io::Result<bool> {
        if self.skip.is_empty() {
            return Ok(false);
        }
        let stat = statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
        Ok(self.skip.contains(&stat.stx_mnt_id))
    }
}

/// Writes one file, or a directory with all that is in it, as an archive under another name. What comes to be or goes away
/// meanwhile is in it or not, a file that becomes shorter is filled up with zeros, and nothing but files is opened.
pub fn archive_as(parent: BorrowedFd<'_>, name: &[u8], path: &[u8], live: &Live, out: &mut dyn Write) -> Result<()> {
    let hashed = Hashed { out, hash: Sha256::new(), size: 0 };
    let writer = Writer::new(BufWriter::with_capacity(GATHERED, hashed));
    let mut walk = Walk::new(writer, false, &[], Some(live));
    walk.file(parent, name, path, 0)?;
    let buffered = walk.writer.finish().map_err(output)?;
    let mut hashed = buffered.into_inner().map_err(|error| LayerError::Output(error.into_error()))?;
    hashed.flush().map_err(LayerError::Output)
}

fn run(root: BorrowedFd<'_>, out: &mut dyn Write, options: DiffOptions, layer: bool) -> Result<(Digest, u64)> {
    let hashed = Hashed { out, hash: Sha256::new(), size: 0 };
    let writer = Writer::new(BufWriter::with_capacity(GATHERED, hashed));
    let mut walk = Walk::new(writer, layer, options.places, None);
    if options.root {
        let kernel = |errno| LayerError::kernel("read", b"/")(errno);
        let stat = tree::look(root, b".").map_err(kernel)?;
        let stat = stat.ok_or_else(|| kernel(Errno::NOENT))?;
        if let Some(mut entry) = describe(root, b".", &stat, b"./").map_err(kernel)? {
            walk.take_overlay(&mut entry)?;
            walk.writer.begin(&entry).map_err(output)?;
        }
    }
    let top = tree::open_directory(root, b".").map_err(LayerError::kernel("open", b"/"))?;
    walk.directory(&top, b"", 0)?;
    let buffered = walk.writer.finish().map_err(output)?;
    let mut hashed = buffered.into_inner().map_err(|error| LayerError::Output(error.into_error()))?;
    hashed.flush().map_err(LayerError::Output)?;
    let digest = Digest::from_bytes(Algorithm::Sha256, &hashed.hash.finalize());
    Ok((digest.map_err(|_| LayerError::Thread)?, hashed.size))
}

/// The way through a tree.
struct Walk<'a> {
    writer: Writer<BufWriter<Hashed<'a>>>,
    /// Whether whiteouts are translated.
    layer: bool,
    /// First name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    /// Empty files that are left out.
    places: &'static [&'static str],
    /// Whether the tree changes meanwhile, and how it is seen.
    live: Option<&'a Live>,
}

impl<'a> Walk<'a> {
    fn new(
        writer: Writer<BufWriter<Hashed<'a>>>,
        layer: bool,
        places: &'static [&'static str],
        live: Option<&'a Live>,
    ) -> Self {
        Self { writer, layer, links: HashMap::new(), buffer: vec![0; PIECE], places, live }
    }

    /// All that is in a directory.
    fn directory(&mut self, directory: &OwnedFd, path: &[u8], depth: usize) -> Result<()> {
        // Each level takes an open file and a part of the stack, of both of which there is only so much.
        if depth > DEEPEST {
            return Err(LayerError::limit(path, "the number of directories above it", DEEPEST as u64));
        }
        let names = tree::names(directory.as_fd()).map_err(LayerError::kernel("read the directory", path))?;
        for name in names {
            self.file(directory.as_fd(), &name, &join(path, &name), depth)?;
        }
        Ok(())
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8], depth: usize) -> Result<()> {
        let kernel = |errno| LayerError::kernel("read", path)(errno);
        let Some((stat, mut entry)) = self.found(parent, name, path, depth)? else { return Ok(()) };
        if self.layer {
            if tree::is_whiteout(&stat) {
                return self.marker(path, &[WHITEOUT, name].concat());
            }
            if name.starts_with(WHITEOUT) {
                return Err(LayerError::refused(path, "a layer cannot hold names that begin with .wh."));
            }
        }
        if entry.kind == Kind::File && entry.size == 0 && self.places.iter().any(|place| place.as_bytes() == path) {
            return Ok(());
        }
        let opaque = self.take_overlay(&mut entry)?;
        if entry.kind == Kind::Directory {
            let directory = match tree::open_directory(parent, name) {
                Err(errno) if self.is_gone(depth, errno) => return Ok(()),
                other => other.map_err(kernel)?,
            };
            entry.path.push(b'/');
            self.writer.begin(&entry).map_err(output)?;
            if opaque {
                self.marker(&join(path, b"x"), WHITEOUT_OPAQUE)?;
            }
            let skips = self.live.map_or(Ok(false), |live| live.skips(directory.as_fd()));
            return if skips.map_err(kernel)? { Ok(()) } else { self.directory(&directory, path, depth + 1) };
        }
        if stat.st_nlink > 1
            && let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino))
        {
            let link = Entry { kind: Kind::Link, link: first.clone(), size: 0, xattrs: Vec::new(), ..entry };
            return self.writer.begin(&link).map_err(output);
        }
        let written = if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            self.content(parent, name, &stat, entry, depth)?
        } else {
            self.writer.begin(&entry).map_err(output)?;
            true
        };
        // Only what is there can be linked to.
        if written && stat.st_nlink > 1 {
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        Ok(())
    }

    /// What has a name, and what the archive says of it; none for what no archive holds, and for what went away.
    fn found(&self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8], depth: usize) -> Result<Option<(Stat, Entry)>> {
        let kernel = |errno| LayerError::kernel("read", path)(errno);
        let mut tries = if self.live.is_some() { TRIES } else { 1 };
        loop {
            tries -= 1;
            let Some(stat) = tree::look(parent, name).map_err(kernel)? else {
                if self.is_gone(depth, Errno::NOENT) {
                    return Ok(None);
                }
                return Err(LayerError::refused(path, "it was removed while it was read"));
            };
            // By its name in several calls: it may be something else by then, which is looked at anew.
            match describe(parent, name, &stat, path) {
                Ok(None) => return Ok(None),
                Ok(Some(mut entry)) => {
                    if let Some(live) = self.live {
                        (entry.uid, entry.gid) = (live.id(entry.uid), live.id(entry.gid));
                    }
                    return Ok(Some((stat, entry)));
                }
                Err(Errno::NOENT | Errno::INVAL | Errno::NODATA | Errno::RANGE) if tries > 0 => {}
                Err(errno) => return Err(kernel(errno)),
            }
        }
    }

    /// Whether a failure to open what was there a moment ago is no failure, since it may have gone. What was asked for by
    /// its name is to be there.
    fn is_gone(&self, depth: usize, errno: Errno) -> bool {
        depth > 0 && self.live.is_some() && matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE)
    }

    /// A regular file; whether there is an entry for it.
    fn content(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        stat: &Stat,
        mut entry: Entry,
        depth: usize,
    ) -> Result<bool> {
        let path = entry.path.clone();
        let kernel = |errno| LayerError::kernel("read", &path)(errno);
        if entry.size == 0 {
            return self.writer.begin(&entry).map_err(output).map(|()| true);
        }
        let file = match self.open(parent, name, stat) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(false),
            Err(errno) if self.is_gone(depth, errno) => return Ok(false),
            Err(errno) => return Err(kernel(errno)),
        };
        entry.sparse = holes(&file, stat).map_err(kernel)?;
        self.writer.begin(&entry).map_err(output)?;
        let all = [Extent { offset: 0, length: entry.size }];
        for extent in entry.sparse.as_deref().unwrap_or(&all) {
            let end = extent.offset + extent.length;
            let mut at = extent.offset;
            while at < end {
                let most = self.buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
                let mut count = pread(&file, &mut self.buffer[..most], at).map_err(kernel)?;
                if count == 0 {
                    if self.live.is_none() {
                        return Err(LayerError::refused(&path, "it became shorter while it was read"));
                    }
                    // Its size was told already.
                    self.buffer[..most].fill(0);
                    count = most;
                }
                self.writer.write_all(&self.buffer[..count]).map_err(LayerError::Output)?;
                at += count as u64;
            }
        }
        Ok(true)
    }

    /// Opens a regular file to read it; none if there is another one by now. In a tree that changes, it could be a device
    /// by now, whose opening does something: it is held first, then looked at, and opened only then.
    fn open(&self, parent: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> rustix::io::Result<Option<OwnedFd>> {
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if self.live.is_none() {
            return openat(parent, name, flags | OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).map(Some);
        }
        let held = openat(parent, name, flags | OFlags::PATH, Mode::empty())?;
        let now = fstat(&held)?;
        if (now.st_dev, now.st_ino, now.st_mode) != (stat.st_dev, stat.st_ino, stat.st_mode) {
            return Ok(None);
        }
        let path = format!("/proc/self/fd/{}", held.as_raw_fd());
        openat(CWD, path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()).map(Some)
    }

    /// Takes away what the overlay file system noted, and tells whether that makes a directory opaque. What depends on the
    /// layers below in another way is refused.
    fn take_overlay(&self, entry: &mut Entry) -> Result<bool> {
        let mut opaque = false;
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| self.layer && !allowed(name)) {
            if DEPENDENT.contains(&name.as_slice()) {
                let why = "it depends on the layers below: mount overlays without redirect_dir and metacopy";
                return Err(LayerError::refused(&entry.path, why));
            }
            opaque |= name == OPAQUE.as_bytes() && value == b"y";
        }
        entry.xattrs.retain(|(name, _)| allowed(name));
        Ok(opaque)
    }

    /// An empty file whose name says something.
    fn marker(&mut self, beside: &[u8], name: &[u8]) -> Result<()> {
        let path = join(super::names::split(beside).0, name);
        self.writer.begin(&Entry { path, ..Entry::default() }).map_err(output)
    }
}

fn output(error: gantry_tar::Error) -> LayerError {
    match error {
        gantry_tar::Error::Io(error) => LayerError::Output(error),
        error => LayerError::Archive(error),
    }
}

/// Hashes what is written.
struct Hashed<'a> {
    out: &'a mut dyn Write,
    hash: Sha256,
    size: u64,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
