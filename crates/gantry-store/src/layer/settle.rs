//! What a layer needs its parents for, done when they are there.

pub(super) mod union;

use std::collections::HashMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use gantry_tar::{Entry, Extent, Kind, Time, show};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, XattrFlags, fsetxattr, fstat, ftruncate, linkat, makedev, mkdirat, mknodat,
    openat, symlinkat,
};
use rustix::io::Errno;

use self::union::{Child, Found, Union};
use super::attributes::{Maker, set_times};
use super::describe::{describe, holes};
use super::error::LayerError;
use super::names::split;
use super::tree::{self, open_directory};
use super::{OPAQUE, Pending, Result};

/// Finishes an unpacked layer against the layers below it, of which the top one is the first.
///
/// Directories that the archive only implied get the attributes they have below. Hard links to files below are copied up,
/// under both names, as the overlay file system would have done it.
pub fn settle(root: BorrowedFd<'_>, pending: &Pending, lowers: &[BorrowedFd<'_>]) -> Result<()> {
    let settle = Settle { root, pending, union: Union::new(lowers)?, maker: inheriting() };
    let top = tree::look(root, b".").map_err(LayerError::kernel("look at", b"/"))?;
    settle.links()?;
    if pending.opaque_root {
        settle.hide_roots()?;
    }
    if let Some(top) = top {
        set_times(root, b".", time(&top)).map_err(LayerError::kernel("set the time of", b"/"))?;
    }
    for path in &pending.implied {
        settle.imply(path)?;
    }
    Ok(())
}

/// A maker that takes nothing for granted.
fn inheriting() -> Maker {
    let mut maker = Maker::current();
    maker.inherits = true;
    maker
}

fn time(stat: &rustix::fs::Stat) -> Time {
    Time { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 }
}

struct Settle<'a> {
    root: BorrowedFd<'a>,
    pending: &'a Pending,
    union: Union,
    maker: Maker,
}

impl Settle<'_> {
    /// Gives a directory what it has below. One that is not there, or is something else there, stays plain.
    fn imply(&self, path: &[u8]) -> Result<()> {
        let kernel = |errno| LayerError::kernel("set the attributes of", path)(errno);
        let Some(entry) = self.below(path)? else { return Ok(()) };
        let Some(fd) = self.inside(path).map_err(kernel)? else { return Ok(()) };
        self.maker.set_open(fd.as_fd(), &entry, false)?;
        set_times(fd.as_fd(), b".", entry.mtime).map_err(kernel)
    }

    /// What the layers below have as the attributes of a directory.
    fn below(&self, path: &[u8]) -> Result<Option<Entry>> {
        let kernel = |errno| LayerError::kernel("look below for", path)(errno);
        let Some(directory) = self.union.directory(path).map_err(kernel)? else { return Ok(None) };
        let stat = fstat(&directory).map_err(kernel)?;
        describe(directory.as_fd(), b".", &stat, path).map_err(kernel)
    }

    /// Opens a directory of this layer, by a name without links in it.
    fn inside(&self, path: &[u8]) -> rustix::io::Result<Option<OwnedFd>> {
        let mut fd = open_directory(self.root, b".")?;
        for part in super::names::parts(path) {
            fd = match open_directory(fd.as_fd(), part) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                other => other?,
            };
        }
        Ok(Some(fd))
    }

    /// Makes the hard links. One whose name was used again later in the archive is not made.
    fn links(&self) -> Result<()> {
        // What was copied up, and the name it got.
        let mut copied: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        for link in &self.pending.links {
            let kernel = |errno| LayerError::kernel("make the hard link", &link.path)(errno);
            let (parent, name) = split(&link.path);
            let Some(directory) = self.inside(parent).map_err(kernel)? else { continue };
            if tree::look(directory.as_fd(), name).map_err(kernel)?.is_some() {
                continue;
            }
            let before = fstat(&directory).map_err(kernel)?;
            if let Some(first) = copied.get(&link.target) {
                let (parent, first) = split(first);
                let from = self.inside(parent).map_err(kernel)?.ok_or_else(|| kernel(Errno::NOENT))?;
                linkat(&from, first, &directory, name, AtFlags::empty()).map_err(kernel)?;
            } else {
                let found = self.union.find(&link.target).map_err(kernel)?;
                let found = found
                    .ok_or_else(|| LayerError::Dangling { entry: show(&link.path), target: show(&link.target) })?;
                self.copy(&found, directory.as_fd(), name, &link.path)?;
                self.place(&found.path, directory.as_fd(), name)?;
                copied.insert(link.target.clone(), link.path.clone());
                // A link to a link of this kind.
                copied.insert(link.path.clone(), link.path.clone());
            }
            set_times(directory.as_fd(), b".", time(&before)).map_err(kernel)?;
        }
        Ok(())
    }

    /// Copies a file of a layer below with everything that belongs to it.
    fn copy(&self, found: &Found, into: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<()> {
        let kernel = |errno| LayerError::kernel("copy up", path)(errno);
        let from = found.directory.as_fd();
        let entry = describe(from, &found.name, &found.stat, path).map_err(kernel)?;
        let entry = entry.ok_or_else(|| LayerError::refused(path, "it is a hard link to a socket"))?;
        let mode = Maker::mode(entry.mode);
        match entry.kind {
            Kind::File => return self.copy_data(found, into, name, &entry),
            Kind::Symlink => symlinkat(entry.link.as_slice(), into, name),
            Kind::Fifo => mknodat(into, name, FileType::Fifo, mode, 0),
            Kind::Char => mknodat(into, name, FileType::CharacterDevice, mode, makedev(entry.major, entry.minor)),
            Kind::Block => mknodat(into, name, FileType::BlockDevice, mode, makedev(entry.major, entry.minor)),
            Kind::Directory | Kind::Link => Err(Errno::PERM),
        }
        .map_err(kernel)?;
        self.maker.set_named(into, name, &entry, entry.kind != Kind::Symlink)
    }

    fn copy_data(&self, found: &Found, into: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<()> {
        let kernel = |errno| LayerError::kernel("copy up", &entry.path)(errno);
        let from = openat(
            &found.directory,
            found.name.as_slice(),
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let from = from.map_err(kernel)?;
        let all = [Extent { offset: 0, length: entry.size }];
        let map = holes(&from, &found.stat).map_err(kernel)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = openat(into, name, flags, Maker::mode(entry.mode)).map_err(kernel)?;
        let (mut from, mut to) = (std::fs::File::from(from), std::fs::File::from(to));
        for extent in map.as_deref().unwrap_or(&all) {
            let copy = from
                .seek(SeekFrom::Start(extent.offset))
                .and_then(|_| to.seek(SeekFrom::Start(extent.offset)))
                .and_then(|_| std::io::copy(&mut from.by_ref().take(extent.length), &mut to));
            copy.map_err(|error| kernel(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        }
        ftruncate(&to, entry.size).map_err(kernel)?;
        self.maker.set_open(to.as_fd(), entry, true)?;
        set_times(into, name, entry.mtime).map_err(kernel)
    }

    /// Gives what was copied up its old name too, so that both are one file, unless this layer has or hides that name.
    fn place(&self, path: &[u8], from: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let kernel = |errno| LayerError::kernel("copy up", path)(errno);
        if self.pending.opaque_root {
            return Ok(());
        }
        let (parent, file) = split(path);
        let mut fd = open_directory(self.root, b".").map_err(kernel)?;
        let mut so_far = Vec::new();
        for part in super::names::parts(parent) {
            so_far = super::names::join(&so_far, part);
            let before = fstat(&fd).map_err(kernel)?;
            let made = match mkdirat(&fd, part, Mode::from_raw_mode(0o755)) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(kernel(errno)),
            };
            let Ok(next) = open_directory(fd.as_fd(), part) else { return Ok(()) };
            if made {
                self.imply(&so_far)?;
                set_times(fd.as_fd(), b".", time(&before)).map_err(kernel)?;
            } else if union::is_opaque(&next).map_err(kernel)? {
                return Ok(());
            }
            fd = next;
        }
        let before = fstat(&fd).map_err(kernel)?;
        match linkat(from, name, &fd, file, AtFlags::empty()) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(kernel(errno)),
        }
        set_times(fd.as_fd(), b".", time(&before)).map_err(kernel)
    }

    /// Hides everything below: overlayfs merges roots whatever they say.
    fn hide_roots(&self) -> Result<()> {
        for name in self.union.names().map_err(LayerError::kernel("read the directory", b"/"))? {
            let kernel = |errno| LayerError::kernel("hide", &name)(errno);
            if matches!(self.union.child(&name).map_err(kernel)?, Child::Missing) {
                continue;
            }
            match tree::look(self.root, &name).map_err(kernel)? {
                None => {
                    let made = mknodat(self.root, name.as_slice(), FileType::CharacterDevice, Mode::empty(), 0);
                    made.map_err(kernel)?;
                }
                Some(stat) if tree::is_directory(&stat) => {
                    let fd = open_directory(self.root, &name).map_err(kernel)?;
                    fsetxattr(&fd, OPAQUE, b"y", XattrFlags::empty()).map_err(kernel)?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
