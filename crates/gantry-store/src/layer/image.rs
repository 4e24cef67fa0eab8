//! From a tar to an EROFS image of the layer, which is mounted as it is.
//!
//! As with directories, unpacking needs no parent: what does need the parents is done at the end. The image is not whole
//! before that, so it stays a [`gantry_erofs::Builder`] until then.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;

use gantry_erofs::tar::{Contents, read_buffered};
use gantry_erofs::{Attributes, Builder, Found, Kind};
use gantry_model::digest::Digest;
use gantry_tar::{Entry, Extent, show};
use rustix::fs::{Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use super::attributes::allowed;
use super::describe::{describe, holes};
use super::error::LayerError;
use super::names::{join, parts, split};
use super::settle::union::{self, Child, Union};
use super::unpack::run;
use super::{Options, Result};

/// Bytes that are copied at a time.
const PIECE: usize = 128 * 1024;

/// A layer as an image that is not whole yet.
#[derive(Debug)]
pub struct Image {
    diff_id: Digest,
    size: u64,
    contents: Contents,
    /// None when it is finished.
    builder: Option<Builder<File>>,
}

/// Writes a layer as an image into an empty file, but for its end. See [`super::unpack`] for the rest.
pub fn image(compressed: &mut dyn Read, file: File, options: &Options, progress: &dyn Fn(u64)) -> Result<Image> {
    let limits = &options.limits;
    let how = gantry_erofs::tar::Options {
        devices: options.devices,
        headers: gantry_tar::Limits { extended: limits.pax, ..gantry_tar::Limits::default() },
        links: limits.names,
        path: limits.path,
        depth: limits.depth,
        file: limits.bytes,
    };
    // All names are held up to the end, hence the second bound.
    let entries = limits.entries.min(gantry_erofs::Limits::default().entries);
    let own = gantry_erofs::Limits { entries, depth: limits.depth as u64, held: limits.names as u64 };
    let own = gantry_erofs::Options { limits: own, ..gantry_erofs::Options::default() };
    let write = move |sink| {
        let mut builder = Builder::new(file, own)?;
        let contents = read_buffered(sink, &mut builder, &how)?;
        Ok((builder, contents))
    };
    let ((builder, contents), diff_id, size) = run(compressed, limits, progress, true, write)?;
    if let Some(name) = contents.left_out.first() {
        tracing::debug!(count = contents.left_out.len(), first = show(name), "attributes that no image can hold");
    }
    Ok(Image { diff_id, size, contents, builder: Some(builder) })
}

impl Image {
    /// SHA-256 of the uncompressed archive.
    pub const fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    /// Bytes of the uncompressed archive.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Entries of the archive.
    pub const fn entries(&self) -> u64 {
        self.contents.entries
    }

    /// Bytes of the image so far.
    pub fn written(&self) -> u64 {
        self.builder.as_ref().map_or(0, Builder::written)
    }

    /// Finishes it against the layers below, of which the top one is the first, as [`super::settle`] does a directory.
    /// Returns the bytes that it takes on disk. Nothing is synced.
    pub fn finish(&mut self, lowers: &[BorrowedFd<'_>]) -> Result<u64> {
        let union = Union::new(lowers)?;
        let mut builder = self.builder.take().ok_or(LayerError::Thread)?;
        let mut settle = Settle { builder: &mut builder, contents: &self.contents, union };
        settle.links()?;
        if self.contents.opaque_root {
            settle.hide_roots()?;
        }
        settle.implied()?;
        let (file, _) = builder.finish()?;
        Ok(file.metadata().map_err(LayerError::Output)?.blocks() * 512)
    }
}

struct Settle<'a> {
    builder: &'a mut Builder<File>,
    contents: &'a Contents,
    union: Union,
}

impl Settle<'_> {
    /// Copies up what hard links lead to in the layers below, under both names.
    fn links(&mut self) -> Result<()> {
        // What was copied up, and the name it got.
        let mut copied: HashMap<&[u8], &[u8]> = HashMap::new();
        for (path, target) in &self.contents.links {
            let parent = self.builder.find(split(path).0)?;
            if self.builder.find(path)?.is_some() || parent.is_some_and(|parent| parent == Found::Other) {
                continue;
            }
            if let Some(first) = copied.get(target.as_slice()) {
                self.builder.add(path, Kind::Link(first), Attributes::default())?;
                continue;
            }
            let found = self.union.find(target).map_err(LayerError::kernel("make the hard link", path))?;
            let dangling = || LayerError::Dangling { entry: show(path), target: show(target) };
            let found = found.ok_or_else(dangling)?;
            self.copy(&found, path)?;
            self.place(&found.path, path)?;
            copied.insert(target, path);
            // A link to a link of this kind.
            copied.insert(path, path);
        }
        Ok(())
    }

    /// Makes a file of a layer below with everything that belongs to it.
    fn copy(&mut self, found: &union::Found, path: &[u8]) -> Result<()> {
        let kernel = |errno| LayerError::kernel("copy up", path)(errno);
        let from = found.directory.as_fd();
        let entry = describe(from, &found.name, &found.stat, path).map_err(kernel)?;
        let entry = entry.ok_or_else(|| LayerError::refused(path, "it is a hard link to a socket"))?;
        let attributes = attributes(&entry)?;
        let kind = match entry.kind {
            gantry_tar::Kind::File => return self.copy_data(found, &entry, attributes),
            gantry_tar::Kind::Symlink => Kind::Symlink(&entry.link),
            gantry_tar::Kind::Fifo => Kind::Fifo,
            gantry_tar::Kind::Char => Kind::Char(entry.major, entry.minor),
            gantry_tar::Kind::Block => Kind::Block(entry.major, entry.minor),
            gantry_tar::Kind::Directory | gantry_tar::Kind::Link => return Err(kernel(Errno::PERM)),
        };
        Ok(self.builder.add(path, kind, attributes)?)
    }

    fn copy_data(&mut self, found: &union::Found, entry: &Entry, attributes: Attributes) -> Result<()> {
        let kernel = |errno| LayerError::kernel("copy up", &entry.path)(errno);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let from = openat(&found.directory, found.name.as_slice(), flags, Mode::empty()).map_err(kernel)?;
        let all = [Extent { offset: 0, length: entry.size }];
        let map = holes(&from, &found.stat).map_err(kernel)?;
        let mut from = File::from(from);
        let failed = |error: std::io::Error| kernel(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        self.builder.add(&entry.path, Kind::File(entry.size), attributes)?;
        let (mut at, mut buffer) = (0, vec![0; PIECE]);
        for extent in map.as_deref().unwrap_or(&all) {
            self.builder.hole(extent.offset - at)?;
            from.seek(SeekFrom::Start(extent.offset)).map_err(failed)?;
            let mut left = extent.length;
            while left > 0 {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
                from.read_exact(&mut buffer[..count]).map_err(failed)?;
                self.builder.data(&buffer[..count])?;
                left -= count as u64;
            }
            at = extent.offset + extent.length;
        }
        Ok(self.builder.hole(entry.size - at)?)
    }

    /// Gives what was copied up its old name too, so that both are one file, unless this layer has or hides that name.
    fn place(&mut self, path: &[u8], copy: &[u8]) -> Result<()> {
        if self.contents.opaque_root {
            return Ok(());
        }
        let mut so_far = Vec::new();
        for part in parts(split(path).0) {
            so_far = join(&so_far, part);
            match self.builder.find(&so_far)? {
                None => break,
                Some(Found::Directory) if !self.builder.is_opaque(&so_far)? => {}
                Some(_) => return Ok(()),
            }
        }
        if self.builder.find(path)?.is_none() {
            self.builder.add(path, Kind::Link(copy), Attributes::default())?;
        }
        Ok(())
    }

    /// Hides everything below: overlayfs merges roots whatever they say.
    fn hide_roots(&mut self) -> Result<()> {
        for name in self.union.names().map_err(LayerError::kernel("read the directory", b"/"))? {
            if matches!(self.union.child(&name).map_err(LayerError::kernel("hide", &name))?, Child::Missing) {
                continue;
            }
            match self.builder.find(&name)? {
                None => self.builder.add(&name, Kind::Char(0, 0), Attributes::default())?,
                Some(Found::Directory) => self.builder.opaque(&name)?,
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Gives directories that the archive only implied the attributes they have below. One that is not there, or is
    /// something else there, stays plain.
    fn implied(&mut self) -> Result<()> {
        for path in self.builder.implied() {
            let kernel = |errno| LayerError::kernel("look below for", &path)(errno);
            let Some(directory) = self.union.directory(&path).map_err(kernel)? else { continue };
            let stat = fstat(&directory).map_err(kernel)?;
            if let Some(entry) = describe(directory.as_fd(), b".", &stat, &path).map_err(kernel)? {
                self.builder.add(&path, Kind::Directory, attributes(&entry)?)?;
            }
        }
        Ok(())
    }
}

/// What a file of a layer below has beside its kind and its data.
fn attributes(entry: &Entry) -> Result<Attributes> {
    let id = |id: u64| u32::try_from(id).map_err(|_| LayerError::refused(&entry.path, "its owner is no id"));
    let xattrs = entry.xattrs.iter().filter(|(name, _)| allowed(name)).cloned().collect();
    Ok(Attributes { mode: entry.mode, uid: id(entry.uid)?, gid: id(entry.gid)?, mtime: entry.mtime, xattrs })
}
