//! From a directory to an archive: the same directory gives the same bytes.
//!
//! Names are in the order of their bytes, numbers stand for owners, and nothing of the host or the time of the day gets in.
//! The order in which a file system lists names, and the numbers of its inodes, make no difference.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use gantry_model::digest::{Algorithm, Digest};
use gantry_tar::{Entry, Extent, Kind, Writer};
use rustix::fs::{FileType, Mode, OFlags, Stat, openat};
use rustix::io::pread;
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

/// Writes one file, or a directory with all that is in it, as an archive under another name.
pub fn archive_as(parent: BorrowedFd<'_>, name: &[u8], path: &[u8], out: &mut dyn Write) -> Result<()> {
    let hashed = Hashed { out, hash: Sha256::new(), size: 0 };
    let writer = Writer::new(BufWriter::with_capacity(GATHERED, hashed));
    let mut walk = Walk { writer, layer: false, links: HashMap::new(), buffer: vec![0; PIECE], places: &[] };
    walk.file(parent, name, path)?;
    let buffered = walk.writer.finish().map_err(output)?;
    let mut hashed = buffered.into_inner().map_err(|error| LayerError::Output(error.into_error()))?;
    hashed.flush().map_err(LayerError::Output)
}

fn run(root: BorrowedFd<'_>, out: &mut dyn Write, options: DiffOptions, layer: bool) -> Result<(Digest, u64)> {
    let hashed = Hashed { out, hash: Sha256::new(), size: 0 };
    let writer = Writer::new(BufWriter::with_capacity(GATHERED, hashed));
    let mut walk = Walk { writer, layer, links: HashMap::new(), buffer: vec![0; PIECE], places: options.places };
    if options.root {
        let kernel = |errno| LayerError::kernel("read", b"/")(errno);
        let stat = tree::look(root, b".").map_err(kernel)?;
        let stat = stat.ok_or_else(|| kernel(rustix::io::Errno::NOENT))?;
        if let Some(mut entry) = describe(root, b".", &stat, b"./").map_err(kernel)? {
            walk.take_overlay(&mut entry)?;
            walk.writer.begin(&entry).map_err(output)?;
        }
    }
    let top = tree::open_directory(root, b".").map_err(LayerError::kernel("open", b"/"))?;
    walk.directory(&top, b"")?;
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
}

impl Walk<'_> {
    /// All that is in a directory.
    fn directory(&mut self, directory: &OwnedFd, path: &[u8]) -> Result<()> {
        let names = tree::names(directory.as_fd()).map_err(LayerError::kernel("read the directory", path))?;
        for name in names {
            self.file(directory.as_fd(), &name, &join(path, &name))?;
        }
        Ok(())
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<()> {
        let kernel = |errno| LayerError::kernel("read", path)(errno);
        let stat = tree::look(parent, name).map_err(kernel)?;
        let stat = stat.ok_or_else(|| LayerError::refused(path, "it was removed while it was read"))?;
        if self.layer {
            if tree::is_whiteout(&stat) {
                return self.marker(path, &[WHITEOUT, name].concat());
            }
            if name.starts_with(WHITEOUT) {
                return Err(LayerError::refused(path, "a layer cannot hold names that begin with .wh."));
            }
        }
        let Some(mut entry) = describe(parent, name, &stat, path).map_err(kernel)? else { return Ok(()) };
        if entry.kind == Kind::File && entry.size == 0 && self.places.iter().any(|place| place.as_bytes() == path) {
            return Ok(());
        }
        let opaque = self.take_overlay(&mut entry)?;
        if entry.kind == Kind::Directory {
            entry.path.push(b'/');
            self.writer.begin(&entry).map_err(output)?;
            let directory = tree::open_directory(parent, name).map_err(kernel)?;
            if opaque {
                self.marker(&join(path, b"x"), WHITEOUT_OPAQUE)?;
            }
            return self.directory(&directory, path);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let link = Entry { kind: Kind::Link, link: first.clone(), size: 0, xattrs: Vec::new(), ..entry };
                return self.writer.begin(&link).map_err(output);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            return self.content(parent, name, &stat, entry);
        }
        self.writer.begin(&entry).map_err(output)
    }

    /// A regular file.
    fn content(&mut self, parent: BorrowedFd<'_>, name: &[u8], stat: &Stat, mut entry: Entry) -> Result<()> {
        if entry.size == 0 {
            return self.writer.begin(&entry).map_err(output);
        }
        let path = entry.path.clone();
        let kernel = |errno| LayerError::kernel("read", &path)(errno);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(parent, name, flags, Mode::empty()).map_err(kernel)?;
        entry.sparse = holes(&file, stat).map_err(kernel)?;
        self.writer.begin(&entry).map_err(output)?;
        let all = [Extent { offset: 0, length: entry.size }];
        for extent in entry.sparse.as_deref().unwrap_or(&all) {
            let end = extent.offset + extent.length;
            let mut at = extent.offset;
            while at < end {
                let most = self.buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
                let count = pread(&file, &mut self.buffer[..most], at).map_err(kernel)?;
                if count == 0 {
                    return Err(LayerError::refused(&path, "it became shorter while it was read"));
                }
                self.writer.write_all(&self.buffer[..count]).map_err(LayerError::Output)?;
                at += count as u64;
            }
        }
        Ok(())
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
