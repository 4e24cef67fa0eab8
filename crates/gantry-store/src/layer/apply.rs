//! The writer: makes what entries say, one after the other, in a directory of its own.

mod make;

use std::collections::BTreeMap;
use std::io::BufRead;
use std::os::fd::BorrowedFd;

use gantry_tar::{Entry, Kind, Reader, Time};
use rustix::fs::{Mode, XattrFlags, fsetxattr, fstat, mkdirat};
use rustix::io::Errno;

use super::attributes::{DEFAULT_ACL, Maker, set_times};
use super::dirs::{Dirs, Walk};
use super::error::LayerError;
use super::names::{Reserved, normalise, reserved, split};
use super::tree::{self, open_directory};
use super::{OPAQUE, Options, Pending, PendingLink, Result, WHITEOUT, WHITEOUT_META, WHITEOUT_OPAQUE};

/// Bytes that a directory, or the rest of a file's last block, takes on disk.
const DISK_BLOCK: u64 = 4096;

/// The state of an unpacking.
pub struct Applier<'a> {
    root: BorrowedFd<'a>,
    options: &'a Options,
    /// Where the last entry was made.
    dirs: Dirs<'a>,
    /// Where the target of the last hard link was.
    targets: Dirs<'a>,
    maker: Maker,
    /// Directories that were made, by name, and what becomes of them in the end.
    directories: BTreeMap<Vec<u8>, Directory>,
    links: Vec<PendingLink>,
    /// Whether there are whiteouts, so that the target of a hard link may be one.
    whiteouts: bool,
    opaque_root: bool,
    entries: u64,
    disk: u64,
    /// Bytes of names that are remembered.
    remembered: usize,
}

/// What is set on a directory when nothing more is made in it.
#[derive(Default)]
struct Directory {
    /// Whether the archive has no entry for it.
    implied: bool,
    mtime: Time,
    default_acl: Option<Vec<u8>>,
}

impl<'a> Applier<'a> {
    pub fn new(root: BorrowedFd<'a>, options: &'a Options) -> Result<Self> {
        let mut maker = Maker::current();
        let stat = fstat(root).map_err(LayerError::kernel("look at", b"/"))?;
        maker.inherits = stat.st_mode & 0o2000 != 0;
        let depth = options.limits.depth;
        Ok(Self {
            root,
            options,
            dirs: Dirs::new(root, depth),
            targets: Dirs::new(root, depth),
            maker,
            directories: BTreeMap::from([(Vec::new(), Directory { implied: true, ..Directory::default() })]),
            links: Vec::new(),
            whiteouts: false,
            opaque_root: false,
            entries: 0,
            disk: DISK_BLOCK,
            remembered: 0,
        })
    }

    /// Makes what an entry says. Its data is what `reader` has.
    pub fn apply<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        self.entries += 1;
        if self.entries > self.options.limits.entries {
            return Err(LayerError::limit(&entry.path, "the number of entries", self.options.limits.entries));
        }
        let mut path = Vec::with_capacity(entry.path.len());
        normalise(&entry.path, &self.options.limits, &mut path)?;
        if path.is_empty() {
            return self.root_entry(entry);
        }
        let (parent, name) = split(&path);
        let meta = name.starts_with(WHITEOUT_META) && name != WHITEOUT_OPAQUE;
        match reserved(parent) {
            Reserved::No if meta => return Ok(()),
            Reserved::No => {}
            Reserved::Ignored => return Ok(()),
            Reserved::Refused => {
                return Err(LayerError::refused(
                    &entry.path,
                    "it is inside of a whiteout, whose names begin with .wh.",
                ));
            }
        }
        self.enter(parent, entry)?;
        if name == WHITEOUT_OPAQUE {
            return self.opaque(entry);
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(hidden, entry);
        }
        match entry.kind {
            Kind::File => self.file(name, entry, reader),
            Kind::Directory => self.directory(name, entry),
            Kind::Symlink => self.symlink(name, entry),
            Kind::Link => self.link(name, entry),
            // That is how overlayfs itself stores a whiteout; there is no such device.
            Kind::Char if (entry.major, entry.minor) == (0, 0) => self.whiteout(name, entry),
            Kind::Char | Kind::Block | Kind::Fifo => self.node(name, entry),
        }
    }

    /// Sets what has to wait until everything is made, and tells bytes on disk, entries, and what is left to do.
    pub fn finish(mut self) -> Result<(u64, u64, Pending)> {
        let mut implied = Vec::new();
        for (path, directory) in std::mem::take(&mut self.directories) {
            let (parent, name) = split(&path);
            let walk = self.dirs.go(parent).map_err(LayerError::kernel("open the directory of", &path))?;
            if walk != Walk::There {
                continue;
            }
            // The name of the root is the empty one, and an empty name means nothing to the kernel.
            let name: &[u8] = if name.is_empty() { b"." } else { name };
            if let Some(acl) = directory.default_acl {
                let set = |fd| fsetxattr(fd, DEFAULT_ACL, &acl, XattrFlags::empty());
                let set = open_directory(self.dirs.fd(), name).and_then(set);
                set.or_else(|errno| if errno == Errno::OPNOTSUPP { Ok(()) } else { Err(errno) })
                    .map_err(LayerError::kernel("set the default access list of", &path))?;
            }
            set_times(self.dirs.fd(), name, directory.mtime).map_err(LayerError::kernel("set the time of", &path))?;
            if directory.implied {
                implied.push(path);
            }
        }
        let pending = Pending { implied, links: self.links, opaque_root: self.opaque_root };
        Ok((self.disk, self.entries, pending))
    }

    /// Goes to the directory of an entry, and makes what of it is not there.
    fn enter(&mut self, parent: &[u8], entry: &Entry) -> Result<()> {
        const ACTION: &str = "open the directory of";
        let mut walk = self.dirs.go(parent).map_err(LayerError::kernel(ACTION, &entry.path))?;
        loop {
            let rest = match walk {
                Walk::There => return Ok(()),
                Walk::TooDeep => {
                    let limit = self.options.limits.depth as u64;
                    return Err(LayerError::limit(&entry.path, "the number of directories above it", limit));
                }
                Walk::Missing { rest, occupied } => {
                    let name = rest.split(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
                    self.imply(&name, occupied, entry)?;
                    rest
                }
            };
            walk = self.dirs.go_on(rest).map_err(LayerError::kernel(ACTION, &entry.path))?;
        }
    }

    /// Makes a directory that the archive has no entry for, or not yet.
    fn imply(&mut self, name: &[u8], occupied: bool, entry: &Entry) -> Result<()> {
        let kernel = |errno| LayerError::kernel("make a directory for", &entry.path)(errno);
        if occupied {
            let stat = tree::look(self.dirs.fd(), name).map_err(kernel)?;
            if !stat.is_some_and(|stat| tree::is_whiteout(&stat)) {
                return Err(LayerError::refused(&entry.path, "a part of its name is no directory"));
            }
            tree::remove(self.dirs.fd(), name).map_err(kernel)?;
        }
        mkdirat(self.dirs.fd(), name, Mode::from_raw_mode(0o755)).map_err(kernel)?;
        let plain = Entry { mode: 0o755, path: entry.path.clone(), ..Entry::default() };
        let fd = open_directory(self.dirs.fd(), name).map_err(kernel)?;
        self.maker.set_open(std::os::fd::AsFd::as_fd(&fd), &plain, true)?;
        if occupied {
            // What the parents have of it is gone, so nothing is taken from there.
            fsetxattr(&fd, OPAQUE, b"y", XattrFlags::empty()).map_err(kernel)?;
        }
        self.disk += DISK_BLOCK;
        self.remember(name, Directory { implied: !occupied, ..Directory::default() }, entry)
    }

    /// The name from the root of something in the directory of the entry.
    fn name_of(&self, name: &[u8]) -> Vec<u8> {
        super::names::join(&self.dirs.path(), name)
    }

    /// Notes a directory.
    fn remember(&mut self, name: &[u8], directory: Directory, entry: &Entry) -> Result<()> {
        let path = self.name_of(name);
        self.reserve(path.len(), entry)?;
        self.directories.insert(path, directory);
        Ok(())
    }

    /// Accounts for names that are remembered: a hostile archive could have any number.
    fn reserve(&mut self, bytes: usize, entry: &Entry) -> Result<()> {
        // What the map itself takes for each is about as much as a short name.
        self.remembered += bytes + 64;
        if self.remembered <= self.options.limits.names {
            return Ok(());
        }
        let what = "the size in bytes of the names of all directories";
        Err(LayerError::limit(&entry.path, what, self.options.limits.names as u64))
    }

    /// Removes what has the name, since a later entry wins.
    fn make_room(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        match tree::remove(self.dirs.fd(), name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(LayerError::kernel("replace what was before", &entry.path)(errno)),
        }
        let path = self.name_of(name);
        if self.directories.remove(&path).is_some() {
            let below = [path.as_slice(), b"/"].concat();
            self.directories.retain(|path, _| !path.starts_with(&below));
            self.targets.forget();
        }
        Ok(())
    }
}
