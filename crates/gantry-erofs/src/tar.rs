//! From the archive of a layer to an image.
//!
//! The names that archives of layers use for what is removed become what the overlay file system looks for (image-spec,
//! layer.md, Whiteouts): a whiteout a character device 0:0, an opaque one an attribute of its directory. They mean the
//! layers below only: an entry of the same layer stands beside a whiteout of its name, before or after it, and a
//! directory is then opaque.
//!
//! Two things cannot be known without the layers below, and are told instead: what directories are like that are implied
//! ([`Builder::implied`]), and the files that hard links of this layer lead to. Whoever has the layers below adds both as
//! entries before the image is finished.

use crate::xattr;
use crate::{Attributes, Builder, Error, Found, Kind, Result, Summary};
use gantry_tar::{Entry, Reader};
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};

/// What the overlay file system keeps in its layers, and an archive may not.
const OVERLAY_PREFIX: &[u8] = b"trusted.overlay.";
const WHITEOUT: &[u8] = b".wh.";
/// What AUFS kept for itself begins so.
const WHITEOUT_META: &[u8] = b".wh..wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";
/// Names of attributes that are told of when they were left out.
const LEFT_OUT: usize = 64;

/// How an archive is read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether device nodes are allowed. If not, an archive that has some is refused.
    pub devices: bool,
    /// What its headers may take.
    pub headers: gantry_tar::Limits,
    /// Bytes of the names of hard links to files of layers below.
    pub links: usize,
    /// Bytes of the path of an entry, and of the target of a link.
    pub path: usize,
    /// Names that a path is made of.
    pub depth: usize,
    /// Bytes of any one file with its holes.
    pub file: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            devices: true,
            headers: gantry_tar::Limits::default(),
            links: 64 << 20,
            path: 4096,
            depth: 2048,
            file: 1 << 40,
        }
    }
}

/// What an archive holds that is not in the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Entries of the archive.
    pub entries: u64,
    /// Hard links to files that are not in this layer: path and target, in the order of the archive.
    pub links: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the root hides all that the layers below have. The overlay file system does not look at this attribute of a
    /// root: leave the layers below out.
    pub opaque_root: bool,
    /// Names of attributes that no image can hold, and that were left out; at most 64 of them.
    pub left_out: BTreeSet<Vec<u8>>,
}

/// Writes an image of a layer that needs none below it. `reader` gives the archive without its compression and is read
/// to its end, so that whoever wraps it sees all bytes that the layer's digest is of.
pub fn from_tar<W: Write + Seek>(reader: impl Read, out: W, options: crate::Options) -> Result<(W, Summary, Contents)> {
    let mut builder = Builder::new(out, options)?;
    let contents = read(reader, &mut builder, &Options::default())?;
    let (out, summary) = builder.finish()?;
    Ok((out, summary, contents))
}

/// Adds all entries of an archive to an image, and reads it to its end.
pub fn read<W: Write + Seek>(reader: impl Read, builder: &mut Builder<W>, options: &Options) -> Result<Contents> {
    read_buffered(BufReader::with_capacity(256 * 1024, reader), builder, options)
}

/// The same for what has buffers of its own.
pub fn read_buffered<W: Write + Seek>(
    reader: impl BufRead,
    builder: &mut Builder<W>,
    options: &Options,
) -> Result<Contents> {
    let mut reader = Reader::with_limits(reader, options.headers);
    let mut layer = Layer { builder, options, contents: Contents::default(), held: 0 };
    let mut entry = Entry::default();
    while reader.read_entry(&mut entry)? {
        layer.contents.entries += 1;
        layer.entry(&mut entry, &mut reader)?;
    }
    io::copy(&mut reader.into_inner(), &mut io::sink())?;
    let Layer { builder, mut contents, .. } = layer;
    // What came later under the same name has replaced the link.
    let mut links = Vec::new();
    for (path, target) in contents.links {
        if builder.find(&path)?.is_none() {
            links.push((path, target));
        }
    }
    contents.links = links;
    Ok(contents)
}

/// What an entry's name says of it.
enum Name<'a> {
    Plain,
    /// The path that it hides.
    Whiteout(Vec<u8>),
    /// The directory that hides another.
    Opaque(&'a [u8]),
    /// A private matter of AUFS, which every engine leaves out.
    Ignored,
}

struct Layer<'a, W: Write + Seek> {
    builder: &'a mut Builder<W>,
    options: &'a Options,
    contents: Contents,
    held: usize,
}

impl<W: Write + Seek> Layer<'_, W> {
    fn entry<R: BufRead>(&mut self, entry: &mut Entry, reader: &mut Reader<R>) -> Result<()> {
        if entry.path.len().max(entry.link.len()) > self.options.path {
            let what = "the length in bytes of the name or of its target";
            return Err(Error::limit(&entry.path, what, self.options.path as u64));
        }
        let parts = entry.path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").count();
        if parts > self.options.depth {
            return Err(Error::limit(&entry.path, "the number of directories above it", self.options.depth as u64));
        }
        match name(&entry.path)? {
            Name::Ignored => return Ok(()),
            Name::Whiteout(path) => return self.whiteout(&path),
            Name::Opaque(directory) => return self.opaque(directory),
            Name::Plain => {}
        }
        let kind = match entry.kind {
            gantry_tar::Kind::File => return self.file(entry, reader),
            gantry_tar::Kind::Link => return self.link(entry),
            gantry_tar::Kind::Directory => return self.directory(entry),
            gantry_tar::Kind::Symlink => Kind::Symlink(&entry.link),
            gantry_tar::Kind::Fifo => Kind::Fifo,
            // That is how overlayfs itself stores a whiteout; there is no such device.
            gantry_tar::Kind::Char if (entry.major, entry.minor) == (0, 0) => return self.whiteout(&entry.path),
            gantry_tar::Kind::Char | gantry_tar::Kind::Block if !self.options.devices => {
                return Err(Error::entry(&entry.path, "it is a device node, and these are not allowed here"));
            }
            gantry_tar::Kind::Char => Kind::Char(entry.major, entry.minor),
            gantry_tar::Kind::Block => Kind::Block(entry.major, entry.minor),
        };
        let mut attributes = attributes(&entry.path, entry, &mut self.contents.left_out)?;
        if entry.kind == gantry_tar::Kind::Symlink {
            // Links have none of their own, whatever archives say.
            attributes.mode = 0o777;
        }
        self.builder.add(&entry.path, kind, attributes)
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        match self.builder.find(path)? {
            Some(Found::Directory) => self.builder.opaque(path),
            // Something of this layer, which hides what is below it anyway.
            Some(_) => Ok(()),
            None => self.builder.add(path, Kind::Char(0, 0), Attributes::default()),
        }
    }

    fn opaque(&mut self, directory: &[u8]) -> Result<()> {
        let trimmed = directory.split(|byte| *byte == b'/').any(|part| !part.is_empty() && part != b".");
        if !trimmed {
            self.contents.opaque_root = true;
            return Ok(());
        }
        self.builder.opaque_as_below(directory)
    }

    fn directory(&mut self, entry: &Entry) -> Result<()> {
        let before = self.builder.find(&entry.path)?;
        let attributes = attributes(&entry.path, entry, &mut self.contents.left_out)?;
        self.builder.add(&entry.path, Kind::Directory, attributes)?;
        // Whatever it was, it hid what the layers below have, and so does what takes its place.
        if matches!(before, Some(Found::Whiteout | Found::Other)) {
            self.builder.opaque(&entry.path)?;
        }
        Ok(())
    }

    fn link(&mut self, entry: &Entry) -> Result<()> {
        match self.builder.find(&entry.link)? {
            Some(Found::Other | Found::Directory) => {
                self.builder.add(&entry.path, Kind::Link(&entry.link), Attributes::default())
            }
            None | Some(Found::Whiteout) => {
                self.held += entry.path.len() + entry.link.len() + 64;
                if self.held > self.options.links {
                    let what = "the size in bytes of the names of hard links to layers below";
                    return Err(Error::limit(&entry.path, what, self.options.links as u64));
                }
                self.builder.remove(&entry.path)?;
                let pair = (self.builder.real(&entry.path)?, self.builder.real(&entry.link)?);
                self.contents.links.push(pair);
                Ok(())
            }
        }
    }

    fn file<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        if entry.size > self.options.file {
            return Err(Error::limit(&entry.path, "the size in bytes of a file", self.options.file));
        }
        let attributes = attributes(&entry.path, entry, &mut self.contents.left_out)?;
        self.builder.add(&entry.path, Kind::File(entry.size), attributes)?;
        let Some(map) = &entry.sparse else { return self.data(entry.size, reader) };
        let mut at = 0;
        for extent in map {
            self.builder.hole(extent.offset - at)?;
            self.data(extent.length, reader)?;
            at = extent.offset + extent.length;
        }
        self.builder.hole(entry.size - at)
    }

    fn data<R: BufRead>(&mut self, mut length: u64, reader: &mut Reader<R>) -> Result<()> {
        while length > 0 {
            let piece = reader.fill_data()?;
            let piece = &piece[..usize::try_from(length).unwrap_or(usize::MAX).min(piece.len())];
            if piece.is_empty() {
                return Err(Error::entry(b"", "a sparse file has less data than its map says"));
            }
            self.builder.data(piece)?;
            let count = piece.len();
            reader.consume_data(count);
            length -= count as u64;
        }
        Ok(())
    }
}

/// Looks for the prefixes of whiteouts in a path.
fn name(path: &[u8]) -> Result<Name<'_>> {
    let end = path.len() - path.iter().rev().take_while(|byte| **byte == b'/').count();
    let split = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (directory, last) = (&path[..split], &path[split..end]);
    let mut above = directory.split(|byte| *byte == b'/').filter(|part| part.starts_with(WHITEOUT)).peekable();
    if above.peek().is_some() {
        if above.any(|part| part.starts_with(WHITEOUT_META)) {
            return Ok(Name::Ignored);
        }
        return Err(Error::entry(path, "it is inside of a whiteout, whose names begin with .wh."));
    }
    if last == WHITEOUT_OPAQUE {
        return Ok(Name::Opaque(directory));
    }
    if last.starts_with(WHITEOUT_META) {
        return Ok(Name::Ignored);
    }
    match last.strip_prefix(WHITEOUT) {
        None => Ok(Name::Plain),
        Some(b"" | b"." | b"..") => Err(Error::entry(path, "it is a whiteout of nothing")),
        Some(hidden) => Ok(Name::Whiteout([directory, hidden].concat())),
    }
}

fn attributes(path: &[u8], entry: &Entry, left_out: &mut BTreeSet<Vec<u8>>) -> Result<Attributes> {
    // The highest means nobody to the kernel.
    let number = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    let number = |id: u64| number(id).ok_or_else(|| Error::entry(path, "its owner is no id that the kernel has"));
    let mut xattrs = Vec::new();
    for (name, value) in &entry.xattrs {
        if name.starts_with(OVERLAY_PREFIX) {
            continue;
        }
        // A user's attribute is one of files and directories alone: the kernel would list it and not read it.
        let fits =
            !name.starts_with(b"user.") || matches!(entry.kind, gantry_tar::Kind::File | gantry_tar::Kind::Directory);
        if fits && xattr::possible(name) {
            xattrs.push((name.clone(), value.clone()));
        } else if left_out.len() < LEFT_OUT {
            left_out.insert(name.clone());
        }
    }
    Ok(Attributes {
        mode: entry.mode & 0o7777,
        uid: number(entry.uid)?,
        gid: number(entry.gid)?,
        mtime: entry.mtime,
        xattrs,
    })
}
