//! Names as the layers below show them together: what a mounted overlay would give, without a mount.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Stat, fgetxattr, readlinkat};
use rustix::io::Errno;

use crate::layer::error::LayerError;
use crate::layer::names::parts;
use crate::layer::tree::{self, open_directory};
use crate::layer::{OPAQUE, Result};

/// Links on the way to one file, as the kernel allows.
const MOST_LINKS: usize = 40;

/// Layers, the top one first.
pub struct Union {
    roots: Merged,
}

/// A directory: what each layer has of it, the top one first.
type Merged = Vec<OwnedFd>;

/// What a name in a directory stands for.
pub enum Child {
    Missing,
    Directory(Merged),
    /// Anything else, and the layer that has it.
    Other(usize, Box<Stat>),
}

/// A file of one of the layers.
pub struct Found {
    /// The directory that holds it.
    pub directory: OwnedFd,
    pub name: Vec<u8>,
    /// Its name from the root, without links.
    pub path: Vec<u8>,
    pub stat: Stat,
}

impl Union {
    pub fn new(lowers: &[BorrowedFd<'_>]) -> Result<Self> {
        let roots = lowers.iter().map(|lower| open_directory(*lower, b".")).collect::<rustix::io::Result<_>>();
        Ok(Self { roots: roots.map_err(LayerError::kernel("open", b"/"))? })
    }

    /// The uppermost of the directories of a name, whose attributes count. Links are not followed: the overlay file system
    /// merges names.
    pub fn directory(&self, path: &[u8]) -> rustix::io::Result<Option<OwnedFd>> {
        let mut merged: Option<Merged> = None;
        for part in parts(path) {
            match child(merged.as_ref().unwrap_or(&self.roots), part)? {
                Child::Directory(next) => merged = Some(next),
                _ => return Ok(None),
            }
        }
        let top = merged.as_ref().unwrap_or(&self.roots).first();
        top.map(|top| open_directory(top.as_fd(), b".")).transpose()
    }

    /// All names that any layer has in its root.
    pub fn names(&self) -> rustix::io::Result<BTreeSet<Vec<u8>>> {
        let mut all = BTreeSet::new();
        for root in &self.roots {
            all.extend(tree::names(root.as_fd())?);
        }
        Ok(all)
    }

    /// A name in the root.
    pub fn child(&self, name: &[u8]) -> rustix::io::Result<Child> {
        child(&self.roots, name)
    }

    /// A file that is no directory. Links on the way to it are followed within the layers; it may be a link itself.
    pub fn find(&self, path: &[u8]) -> rustix::io::Result<Option<Found>> {
        let mut rest: VecDeque<Vec<u8>> = parts(path).map(<[u8]>::to_vec).collect();
        let mut way: Vec<(Vec<u8>, Merged)> = Vec::new();
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == b".." {
                way.pop();
                continue;
            }
            let here = way.last().map_or(&self.roots, |(_, merged)| merged);
            let (index, stat) = match child(here, &part)? {
                Child::Missing => return Ok(None),
                Child::Directory(next) => {
                    way.push((part, next));
                    continue;
                }
                Child::Other(index, stat) => (index, stat),
            };
            if rest.is_empty() {
                let directory = open_directory(here[index].as_fd(), b".")?;
                let names = way.iter().map(|(name, _)| name.as_slice()).chain([part.as_slice()]);
                let path = names.collect::<Vec<_>>().join(&b'/');
                return Ok(Some(Found { directory, name: part, path, stat: *stat }));
            }
            links += 1;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink || links > MOST_LINKS {
                return Ok(None);
            }
            let target = readlinkat(&here[index], part.as_slice(), Vec::new())?.into_bytes();
            if target.starts_with(b"/") {
                way.clear();
            }
            for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                rest.push_front(part.to_vec());
            }
        }
        Ok(None)
    }
}

/// A name in a merged directory: what is above hides or merges with what is below, as overlayfs has it.
fn child(merged: &[OwnedFd], name: &[u8]) -> rustix::io::Result<Child> {
    let mut found = Merged::new();
    for (index, directory) in merged.iter().enumerate() {
        let Some(stat) = tree::look(directory.as_fd(), name)? else { continue };
        if tree::is_whiteout(&stat) {
            break;
        }
        if !tree::is_directory(&stat) {
            if found.is_empty() {
                return Ok(Child::Other(index, Box::new(stat)));
            }
            break;
        }
        let fd = open_directory(directory.as_fd(), name)?;
        let opaque = is_opaque(&fd)?;
        found.push(fd);
        if opaque {
            break;
        }
    }
    Ok(if found.is_empty() { Child::Missing } else { Child::Directory(found) })
}

/// Whether a directory hides those of its name below.
pub fn is_opaque(directory: &OwnedFd) -> rustix::io::Result<bool> {
    let mut value = [0; 8];
    match fgetxattr(directory, OPAQUE, value.as_mut_slice()) {
        Ok(size) => Ok(value[..size] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}
