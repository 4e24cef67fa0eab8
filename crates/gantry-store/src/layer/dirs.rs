//! The directory that entries are made in: reached from the root one part at a time, and kept open, since the next entry
//! is most often in the same one.
//!
//! Each part is opened by itself and without following a link, so the kernel never leaves a directory that was opened
//! before. Links are followed here, with the root as their root: what was reached is a list of directories, all below the
//! root, and `..` takes the last of them away. That is how an image's own paths resolve, as a container would see them.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;

/// Links on the way to one directory, as the kernel allows.
const MOST_LINKS: usize = 40;
/// Directories at the top, and at the end, that are kept open. Those between are opened again when they are needed: a
/// layer may be deeper than a process may have files.
const KEPT: usize = 24;

/// The way from the root to a directory.
pub struct Dirs<'r> {
    root: BorrowedFd<'r>,
    levels: Vec<Level>,
    deepest: usize,
}

struct Level {
    name: Vec<u8>,
    fd: Option<OwnedFd>,
}

/// How far a walk came.
#[derive(Debug, PartialEq, Eq)]
pub enum Walk {
    /// To the end.
    There,
    /// To a directory that does not hold the first part of what is left as a directory or a link.
    Missing {
        /// What is left; its first part has no slash before it.
        rest: Vec<u8>,
        /// Whether there is something else of that name.
        occupied: bool,
    },
    /// Deeper than is allowed.
    TooDeep,
}

/// How one part of a way is followed.
enum Step {
    Done,
    Link(Vec<u8>),
    Missing { occupied: bool },
}

impl<'r> Dirs<'r> {
    /// A way that ends at the root.
    pub fn new(root: BorrowedFd<'r>, deepest: usize) -> Self {
        Self { root, levels: Vec::new(), deepest }
    }

    /// The directory at the end.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.levels.last().and_then(|level| level.fd.as_ref()).map_or(self.root, OwnedFd::as_fd)
    }

    /// Its name from the root: no links in it.
    pub fn path(&self) -> Vec<u8> {
        self.levels.iter().map(|level| level.name.as_slice()).collect::<Vec<_>>().join(&b'/')
    }

    /// Whether the way ends at this name.
    pub fn is_at(&self, path: &[u8]) -> bool {
        let mut rest = path;
        for (index, level) in self.levels.iter().enumerate() {
            if index > 0 {
                let Some(after) = rest.strip_prefix(b"/") else { return false };
                rest = after;
            }
            let Some(after) = rest.strip_prefix(level.name.as_slice()) else { return false };
            rest = after;
        }
        rest.is_empty()
    }

    /// Goes back to the root: a directory on the way may be gone.
    pub fn forget(&mut self) {
        self.levels.clear();
    }

    /// Goes to a directory, given by its name from the root.
    pub fn go(&mut self, path: &[u8]) -> rustix::io::Result<Walk> {
        if self.is_at(path) {
            return Ok(Walk::There);
        }
        let mut rest = path;
        let mut same = 0;
        for level in &self.levels {
            match rest.strip_prefix(level.name.as_slice()) {
                Some([]) => rest = &[],
                Some([b'/', after @ ..]) => rest = after,
                _ => break,
            }
            same += 1;
            if rest.is_empty() {
                break;
            }
        }
        self.truncate(same)?;
        self.go_on(rest.to_vec())
    }

    /// Goes on from where a walk ended.
    pub fn go_on(&mut self, mut rest: Vec<u8>) -> rustix::io::Result<Walk> {
        let mut links = 0;
        let mut at = 0;
        while at < rest.len() {
            let end = rest[at..].iter().position(|byte| *byte == b'/').map_or(rest.len(), |slash| at + slash);
            let part = &rest[at..end];
            match part {
                b"" | b"." => {}
                b".." => self.truncate(self.levels.len().saturating_sub(1))?,
                _ if self.levels.len() >= self.deepest => return Ok(Walk::TooDeep),
                _ => match self.step(part)? {
                    Step::Done => {}
                    Step::Missing { occupied } => return Ok(Walk::Missing { rest: rest.split_off(at), occupied }),
                    Step::Link(target) => {
                        links += 1;
                        if links > MOST_LINKS {
                            return Err(Errno::LOOP);
                        }
                        if target.starts_with(b"/") {
                            self.truncate(0)?;
                        }
                        rest = [&target, &rest[end..]].concat();
                        at = 0;
                        continue;
                    }
                },
            }
            at = end + 1;
        }
        Ok(Walk::There)
    }

    /// One directory further.
    fn step(&mut self, name: &[u8]) -> rustix::io::Result<Step> {
        match open(self.fd(), name) {
            Ok(fd) => {
                self.levels.push(Level { name: name.to_vec(), fd: Some(fd) });
                if self.levels.len() > 2 * KEPT {
                    let between = self.levels.len() - KEPT - 1;
                    self.levels[between].fd = None;
                }
                Ok(Step::Done)
            }
            Err(Errno::NOENT) => Ok(Step::Missing { occupied: false }),
            Err(Errno::NOTDIR | Errno::LOOP) => match readlinkat(self.fd(), name, Vec::new()) {
                Ok(target) => Ok(Step::Link(target.into_bytes())),
                Err(Errno::INVAL) => Ok(Step::Missing { occupied: true }),
                Err(errno) => Err(errno),
            },
            Err(errno) => Err(errno),
        }
    }

    /// Goes back until `length` directories are left, and opens the last again if it is no longer open.
    fn truncate(&mut self, length: usize) -> rustix::io::Result<()> {
        self.levels.truncate(length);
        let open_to = self.levels.iter().rposition(|level| level.fd.is_some()).map_or(0, |index| index + 1);
        for index in open_to..self.levels.len() {
            let parent = index.checked_sub(1).and_then(|index| self.levels[index].fd.as_ref());
            let fd = open(parent.map_or(self.root, OwnedFd::as_fd), &self.levels[index].name)?;
            self.levels[index].fd = Some(fd);
            // The one before is needed for this step only, unless it is among the first.
            if index > KEPT {
                self.levels[index - 1].fd = None;
            }
        }
        Ok(())
    }
}

/// Opens a directory as a place to go on from. A link is none.
fn open(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    openat(parent, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}
