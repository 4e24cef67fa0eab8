//! What each kind of entry makes. A name that is taken is an exception, so it is the kernel that finds it.

use std::io::BufRead;
use std::os::fd::{AsFd as _, OwnedFd};

use gantry_tar::{Entry, Kind, Reader};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, XattrFlags, fsetxattr, ftruncate, futimens, linkat, makedev, mkdirat, mknodat,
    openat, symlinkat,
};
use rustix::io::{Errno, pwrite, write};

use super::{Applier, DISK_BLOCK, Directory};
use crate::layer::attributes::{DEFAULT_ACL, Maker, times};
use crate::layer::dirs::Walk;
use crate::layer::error::LayerError;
use crate::layer::names::{join, normalise, split};
use crate::layer::tree::{self, open_directory};
use crate::layer::{OPAQUE, PendingLink, Result};

impl Applier<'_> {
    /// The entry of the root itself.
    pub(super) fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(LayerError::refused(&entry.path, "the root of a layer is a directory and nothing else"));
        }
        let kernel = |errno| LayerError::kernel("open", &entry.path)(errno);
        let fd = open_directory(self.root, b".").map_err(kernel)?;
        let directory = self.set_directory(&fd, entry, false)?;
        self.directories.insert(Vec::new(), directory);
        Ok(())
    }

    pub(super) fn file<R: BufRead>(&mut self, name: &[u8], entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        const FLAGS: OFlags =
            OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
        if entry.size > self.options.limits.bytes {
            return Err(LayerError::limit(&entry.path, "the size in bytes of a file", self.options.limits.bytes));
        }
        let mode = Maker::mode(entry.mode);
        let fd = self.taking(name, entry, |applier| openat(applier.dirs.fd(), name, FLAGS, mode))?;
        match &entry.sparse {
            None => self.whole(&fd, entry, reader)?,
            Some(map) => {
                for extent in map {
                    self.part(&fd, entry, reader, extent.offset, extent.length)?;
                }
                ftruncate(&fd, entry.size).map_err(LayerError::kernel("set the size of", &entry.path))?;
            }
        }
        self.maker.set_open(fd.as_fd(), entry, true)?;
        futimens(&fd, &times(entry.mtime)).map_err(LayerError::kernel("set the time of", &entry.path))
    }

    /// Writes the data of a file without holes.
    fn whole<R: BufRead>(&mut self, fd: &OwnedFd, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        self.disk += entry.size.next_multiple_of(DISK_BLOCK);
        loop {
            let piece = reader.fill_data()?;
            if piece.is_empty() {
                return Ok(());
            }
            let count = retry(|| write(fd, piece)).map_err(LayerError::kernel("write", &entry.path))?;
            reader.consume_data(count);
        }
    }

    /// Writes one extent of a sparse file.
    fn part<R: BufRead>(
        &mut self,
        fd: &OwnedFd,
        entry: &Entry,
        reader: &mut Reader<R>,
        mut offset: u64,
        length: u64,
    ) -> Result<()> {
        self.disk += length.next_multiple_of(DISK_BLOCK);
        let mut left = length;
        while left > 0 {
            let piece = reader.fill_data()?;
            let piece = &piece[..usize::try_from(left).unwrap_or(usize::MAX).min(piece.len())];
            if piece.is_empty() {
                // The reader has checked the map against the data.
                return Err(LayerError::refused(&entry.path, "it has less data than its map says"));
            }
            let count = retry(|| pwrite(fd, piece, offset)).map_err(LayerError::kernel("write", &entry.path))?;
            reader.consume_data(count);
            offset += count as u64;
            left -= count as u64;
        }
        Ok(())
    }

    pub(super) fn directory(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        let kernel = |errno| LayerError::kernel("make the directory", &entry.path)(errno);
        let mode = Maker::mode(entry.mode);
        let mut new = true;
        let mut opaque = false;
        match mkdirat(self.dirs.fd(), name, mode) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = tree::look(self.dirs.fd(), name).map_err(kernel)?;
                if stat.is_some_and(|stat| tree::is_directory(&stat)) {
                    new = false;
                } else {
                    // Whatever it was, it hid what the parents have, and so does what takes its place.
                    self.make_room(name, entry)?;
                    mkdirat(self.dirs.fd(), name, mode).map_err(kernel)?;
                    opaque = true;
                }
            }
            Err(errno) => return Err(kernel(errno)),
        }
        self.disk += if new { DISK_BLOCK } else { 0 };
        let directory = if !new || opaque || self.maker.needs_fd(entry.mode, entry) {
            let fd = open_directory(self.dirs.fd(), name).map_err(kernel)?;
            if opaque {
                fsetxattr(&fd, OPAQUE, b"y", XattrFlags::empty()).map_err(kernel)?;
            }
            self.set_directory(&fd, entry, new)?
        } else {
            self.maker.set_owner(self.dirs.fd(), name, entry)?;
            Directory { mtime: entry.mtime, ..Directory::default() }
        };
        self.remember(name, directory, entry)
    }

    /// Gives a directory its attributes. Its times, and what would rub off on what is made in it, wait until the end.
    fn set_directory(&mut self, fd: &OwnedFd, entry: &Entry, new: bool) -> Result<Directory> {
        self.maker.inherits |= entry.mode & 0o2000 != 0;
        let mut default_acl = None;
        if let Some(at) = entry.xattrs.iter().position(|(name, _)| name == DEFAULT_ACL) {
            let mut rest = entry.clone();
            default_acl = Some(rest.xattrs.remove(at).1);
            self.maker.set_open(fd.as_fd(), &rest, new)?;
        } else {
            self.maker.set_open(fd.as_fd(), entry, new)?;
        }
        Ok(Directory { implied: false, mtime: entry.mtime, default_acl })
    }

    pub(super) fn symlink(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        if entry.link.len() > self.options.limits.path {
            let limit = self.options.limits.path as u64;
            return Err(LayerError::limit(&entry.path, "the length in bytes of its target", limit));
        }
        let target = entry.link.as_slice();
        self.taking(name, entry, |applier| symlinkat(target, applier.dirs.fd(), name))?;
        self.maker.set_named(self.dirs.fd(), name, entry, false)
    }

    /// A device or a named pipe.
    pub(super) fn node(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        let (kind, device) = match entry.kind {
            Kind::Fifo => (FileType::Fifo, 0),
            Kind::Char => (FileType::CharacterDevice, makedev(entry.major, entry.minor)),
            _ => (FileType::BlockDevice, makedev(entry.major, entry.minor)),
        };
        if kind != FileType::Fifo && !self.options.devices {
            return Err(LayerError::refused(&entry.path, "it is a device node, and these are not allowed here"));
        }
        let mode = Maker::mode(entry.mode);
        self.taking(name, entry, |applier| mknodat(applier.dirs.fd(), name, kind, mode, device))?;
        self.maker.set_named(self.dirs.fd(), name, entry, true)
    }

    /// A further name of a file of this layer, or else of a parent.
    pub(super) fn link(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        let mut target = Vec::new();
        normalise(&entry.link, &self.options.limits, &mut target)?;
        let (directory, file) = split(&target);
        let kernel = |errno| LayerError::kernel("find the target of the link", &entry.path)(errno);
        let there = !file.is_empty() && self.targets.go(directory).map_err(kernel)? == Walk::There;
        if there && file == name && self.dirs.is_at(&self.targets.path()) {
            // A link to itself changes nothing, so long as it is there.
            return match tree::look(self.dirs.fd(), name).map_err(kernel)? {
                Some(_) => Ok(()),
                None => self.link_to_parent(name, target, entry),
            };
        }
        let hidden = self.whiteouts && there && {
            let stat = tree::look(self.targets.fd(), file).map_err(kernel)?;
            stat.is_some_and(|stat| tree::is_whiteout(&stat))
        };
        if !there || hidden {
            return self.link_to_parent(name, target, entry);
        }
        let try_link =
            |applier: &mut Self| match linkat(applier.targets.fd(), file, applier.dirs.fd(), name, AtFlags::empty()) {
                Err(Errno::NOENT) => Ok(false),
                other => other.map(|()| true),
            };
        let made = match try_link(self) {
            Err(Errno::EXIST) => {
                self.make_room(name, entry)?;
                match self.targets.go(directory).map_err(kernel)? {
                    Walk::There => try_link(self),
                    _ => Ok(false),
                }
            }
            other => other,
        };
        match made {
            Ok(true) => Ok(()),
            Ok(false) => self.link_to_parent(name, join(&self.targets.path(), file), entry),
            Err(errno) => Err(LayerError::kernel("make the hard link", &entry.path)(errno)),
        }
    }

    /// Notes a link for when the parents are known.
    fn link_to_parent(&mut self, name: &[u8], target: Vec<u8>, entry: &Entry) -> Result<()> {
        self.make_room(name, entry)?;
        let path = self.name_of(name);
        self.reserve(path.len() + target.len(), entry)?;
        self.links.push(PendingLink { path, target });
        Ok(())
    }

    /// Hides what the parents have of a name.
    pub(super) fn whiteout(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        if matches!(name, b"" | b"." | b"..") {
            return Err(LayerError::refused(&entry.path, "it is a whiteout of nothing"));
        }
        let kernel = |errno| LayerError::kernel("make the whiteout", &entry.path)(errno);
        match mknodat(self.dirs.fd(), name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => {
                self.whiteouts = true;
                return Ok(());
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(kernel(errno)),
        }
        // Something of this layer, which stays. All but a directory hides what is below it anyway.
        let stat = tree::look(self.dirs.fd(), name).map_err(kernel)?;
        if stat.is_some_and(|stat| tree::is_directory(&stat)) {
            let fd = open_directory(self.dirs.fd(), name).map_err(kernel)?;
            fsetxattr(&fd, OPAQUE, b"y", XattrFlags::empty()).map_err(kernel)?;
            let path = self.name_of(name);
            if let Some(directory) = self.directories.get_mut(&path) {
                directory.implied = false;
            }
        }
        Ok(())
    }

    /// Hides all that the parents have of the directory of the entry.
    pub(super) fn opaque(&mut self, entry: &Entry) -> Result<()> {
        let kernel = |errno| LayerError::kernel("make opaque the directory of", &entry.path)(errno);
        if self.dirs.is_at(b"") {
            // The overlay file system does not look at this attribute of a root.
            self.opaque_root = true;
            return Ok(());
        }
        let fd = open_directory(self.dirs.fd(), b".").map_err(kernel)?;
        fsetxattr(&fd, OPAQUE, b"y", XattrFlags::empty()).map_err(kernel)
    }

    /// Makes something; if its name is taken, what has it goes first.
    fn taking<T>(&mut self, name: &[u8], entry: &Entry, make: impl Fn(&Self) -> rustix::io::Result<T>) -> Result<T> {
        let made = match make(self) {
            Err(Errno::EXIST) => {
                self.make_room(name, entry)?;
                make(self)
            }
            other => other,
        };
        made.map_err(LayerError::kernel("make", &entry.path))
    }
}

fn retry(write: impl Fn() -> rustix::io::Result<usize>) -> rustix::io::Result<usize> {
    rustix::io::retry_on_intr(write)
}
