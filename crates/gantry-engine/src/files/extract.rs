//! An archive put into a container's tree.
//!
//! Each name is resolved by the kernel inside the root, through links that may be there, and what is made is made beside a
//! parent that is open: a link that is put in the way leads nowhere else. What was made is given its attributes through what
//! was opened, so that a container that puts something else in its place gets nothing for it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek as _, SeekFrom};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use gantry_store::layer;
use gantry_tar::{Entry, Kind, Reader};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmod, chownat, fchmod, fchown,
    fsetxattr, fstat, futimens, linkat, makedev, mkdirat, mknodat, openat, setxattr, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::{Ids, open_in, tree};
use crate::error::{Context, Error, Result};

/// How an archive is put in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Whether a directory is never replaced by something else, nor the other way.
    pub(crate) keep_kinds: bool,
    /// Who everything belongs to; none is as the archive says.
    pub(crate) owner: Option<(u32, u32)>,
    /// How ids are seen through the tree.
    pub(crate) ids: Option<Ids>,
}

/// The most entries of an archive.
const MAX_ENTRIES: u64 = 4_000_000;
/// How many directories get their times together: what comes into one changes its time, so it is set late.
const LATE: usize = 4096;
/// What overlayfs keeps of directories and files: nobody else sets it.
const OVERLAY: &[u8] = b"trusted.overlay.";

/// Puts an archive, compressed or not, into the directory at `path`.
pub(crate) fn extract(root: BorrowedFd<'_>, path: &str, archive: &mut dyn Read, options: Options) -> Result<()> {
    let failed = |error: gantry_tar::Error| Error::Invalid(format!("read the archive: {error}"));
    let plain = layer::decompress(archive).map_err(|error| Error::Invalid(format!("read the archive: {error}")))?;
    let mut reader = Reader::new(BufReader::with_capacity(64 << 10, plain));
    let base = path.trim_matches('/').as_bytes().to_vec();
    let mut work = Work { root, base, options, times: Vec::new(), last: None };
    let mut entry = Entry::default();
    let mut count = 0;
    while reader.read_entry(&mut entry).map_err(failed)? {
        count += 1;
        if count > MAX_ENTRIES {
            return Err(Error::Invalid(format!("the archive has more than {MAX_ENTRIES} entries")));
        }
        work.put(&entry, &mut reader)?;
    }
    work.set_times();
    Ok(())
}

struct Work<'a> {
    root: BorrowedFd<'a>,
    base: Vec<u8>,
    options: Options,
    /// Directories whose times are set late, by their paths from the root.
    times: Vec<(Vec<u8>, Timestamps)>,
    /// The directory that was last put into, by its name.
    last: Option<(Vec<u8>, OwnedFd)>,
}

/// The parts of a name, without what does nothing; none if it leads out of where it begins.
fn parts(path: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts)
}

/// A name as messages have it: in quotes, with nothing in it that a terminal heeds.
fn shown(path: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(path))
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(&b'/')
}

fn times_of(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime.seconds, tv_nsec: entry.mtime.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

impl Work<'_> {
    fn put(&mut self, entry: &Entry, reader: &mut Reader<impl BufRead>) -> Result<()> {
        let what = || format!("extract {}", shown(&entry.path));
        let Some(parts) = parts(&entry.path) else {
            return Err(Error::Invalid(format!("{} is outside of {}", shown(&entry.path), self.at())));
        };
        let Some((name, above)) = parts.split_last() else { return self.top(entry) };
        let parent = self.parent(above).context(what)?;
        let name = OsStr::from_bytes(name);
        self.make_room(&parent, name, entry)?;
        match entry.kind {
            Kind::Directory => {
                match mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error).context(what),
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = openat(&parent, name, flags, Mode::empty()).context(what)?;
                self.open(made.as_fd(), entry)?;
                let mut path = self.base.clone();
                path.push(b'/');
                path.extend(joined(&parts));
                self.later(path, times_of(entry));
                Ok(())
            }
            Kind::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(openat(&parent, name, flags, Mode::from_raw_mode(0o600)).context(what)?);
                write(&mut file, entry, reader)?;
                self.open(file.as_fd(), entry)?;
                futimens(&file, &times_of(entry)).context(what)
            }
            Kind::Symlink => {
                symlinkat(entry.link.as_slice(), &parent, name).context(what)?;
                let made = held(&parent, name, entry, (FileType::Symlink, 0))?;
                let (uid, gid) = self.owner(entry)?;
                chownat(&made, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH).context(what)?;
                // A time that came to something else is all that who swaps it gains.
                utimensat(&parent, name, &times_of(entry), AtFlags::SYMLINK_NOFOLLOW).context(what)
            }
            Kind::Link => self.link(&parent, name, entry),
            Kind::Char | Kind::Block | Kind::Fifo => self.node(&parent, name, entry),
        }
    }

    /// The directory that is extracted to, as messages have it.
    fn at(&self) -> String {
        shown(&[b"/", self.base.as_slice()].concat())
    }

    /// An entry for the directory itself.
    fn top(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Ok(());
        }
        let what = || format!("extract {}", shown(&entry.path));
        let made = open_in(self.root, self.base.as_slice(), OFlags::RDONLY | OFlags::DIRECTORY).context(what)?;
        self.open(made.as_fd(), entry)?;
        self.later(self.base.clone(), times_of(entry));
        Ok(())
    }

    /// A further name of a file.
    fn link(&mut self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
        let what = || format!("extract {}: link to {}", shown(&entry.path), shown(&entry.link));
        let target = parts(&entry.link);
        let Some((old, above)) = target.as_ref().and_then(|parts| parts.split_last()) else {
            let (path, link) = (shown(&entry.path), shown(&entry.link));
            return Err(Error::Invalid(format!("invalid hardlink {path} -> {link}")));
        };
        let mut path = self.base.clone();
        path.push(b'/');
        path.extend(joined(above));
        let from = open_in(self.root, path.as_slice(), OFlags::PATH | OFlags::DIRECTORY).context(what)?;
        // It has what the other name has.
        linkat(&from, OsStr::from_bytes(old), parent, name, AtFlags::empty()).context(what)
    }

    /// A device or a pipe. It cannot be opened without effect, so it is held and set by what holds it.
    fn node(&self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
        let what = || format!("extract {}", shown(&entry.path));
        let (kind, device) = match entry.kind {
            Kind::Char => (FileType::CharacterDevice, makedev(entry.major, entry.minor)),
            Kind::Block => (FileType::BlockDevice, makedev(entry.major, entry.minor)),
            _ => (FileType::Fifo, 0),
        };
        mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device).context(what)?;
        let made = held(parent, name, entry, (kind, device))?;
        let (uid, gid) = self.owner(entry)?;
        chownat(&made, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH).context(what)?;
        let path = format!("/proc/self/fd/{}", made.as_raw_fd());
        chmod(path.as_str(), Mode::from_raw_mode(entry.mode & 0o7777)).context(what)?;
        set_xattrs(entry, |key, value| setxattr(path.as_str(), key, value, XattrFlags::empty()))?;
        utimensat(CWD, path.as_str(), &times_of(entry), AtFlags::empty()).context(what)
    }

    /// The directory of these names, made where it is missing.
    fn parent(&mut self, parts: &[&[u8]]) -> Result<OwnedFd, Errno> {
        let key = joined(parts);
        if let Some((_, known)) = self.last.as_ref().filter(|(name, _)| *name == key) {
            return known.try_clone().map_err(|_| Errno::MFILE);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let path = |length: usize| {
            let mut path = self.base.clone();
            path.push(b'/');
            path.extend(joined(&parts[..length]));
            path
        };
        // Most are there: those that are not are looked for from the end.
        let mut there = parts.len();
        let mut current = loop {
            match open_in(self.root, path(there).as_slice(), flags) {
                Err(Errno::NOENT) if there > 0 => there -= 1,
                other => break other?,
            }
        };
        for length in there + 1..=parts.len() {
            let name = OsStr::from_bytes(parts[length - 1]);
            current = match mkdirat(&current, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    let made = openat(&current, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
                    let (uid, gid) = self.ids(0, 0).ok_or(Errno::INVAL)?;
                    chownat(&made, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
                    made
                }
                // Somebody else made it, or a link that leads somewhere: it stays as it is.
                Err(Errno::EXIST) => open_in(self.root, path(length).as_slice(), flags)?,
                Err(error) => return Err(error),
            };
        }
        self.last = current.try_clone().ok().map(|kept| (key, kept));
        Ok(current)
    }

    /// Takes away what is there and cannot stay.
    fn make_room(&mut self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
        let what = || format!("extract {}", shown(&entry.path));
        let there = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).context(what),
        };
        let (was, is) = (there == FileType::Directory, entry.kind == Kind::Directory);
        if was && is {
            return Ok(());
        }
        if self.options.keep_kinds && was != is {
            let parts = parts(&entry.path).unwrap_or_default();
            let path = shown(&[b"/", self.base.as_slice(), b"/", joined(&parts).as_slice()].concat());
            let (old, new) = if was { ("directory", "non-directory") } else { ("non-directory", "directory") };
            return Err(Error::Invalid(format!("cannot overwrite {old} {path} with {new} {}", self.at())));
        }
        self.last = None;
        tree::remove(parent.as_fd(), name).context(what)
    }

    /// Ids as they are to be set from here.
    fn ids(&self, uid: u64, gid: u64) -> Option<(Uid, Gid)> {
        let outside = |id: u64| {
            let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX)?;
            self.options.ids.map_or(Some(id), |ids| ids.outside(id))
        };
        Some((Uid::from_raw(outside(uid)?), Gid::from_raw(outside(gid)?)))
    }

    fn owner(&self, entry: &Entry) -> Result<(Uid, Gid)> {
        let (uid, gid) = self.options.owner.map_or((entry.uid, entry.gid), |(uid, gid)| (uid.into(), gid.into()));
        let invalid =
            || Error::Invalid(format!("extract {}: the container has no ids {uid}:{gid}", shown(&entry.path)));
        self.ids(uid, gid).ok_or_else(invalid)
    }

    /// Owner, mode and attributes of what is open, in the order in which none undoes another.
    fn open(&self, made: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
        let what = || format!("extract {}", shown(&entry.path));
        let (uid, gid) = self.owner(entry)?;
        fchown(made, Some(uid), Some(gid)).context(what)?;
        fchmod(made, Mode::from_raw_mode(entry.mode & 0o7777)).context(what)?;
        set_xattrs(entry, |key, value| fsetxattr(made, key, value, XattrFlags::empty()))
    }

    fn later(&mut self, path: Vec<u8>, times: Timestamps) {
        if self.times.len() == LATE {
            self.set_times();
        }
        self.times.push((path, times));
    }

    fn set_times(&mut self) {
        for (path, times) in self.times.drain(..) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            if let Ok(dir) = open_in(self.root, path.as_slice(), flags) {
                // A time that cannot be set is worth no failure.
                let _ = futimens(dir, &times);
            }
        }
    }
}

/// Holds what was just made, and cannot be opened without effect, if it is that still: of its kind, for its device.
fn held(parent: &OwnedFd, name: &OsStr, entry: &Entry, is: (FileType, u64)) -> Result<OwnedFd> {
    let what = || format!("extract {}", shown(&entry.path));
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(parent, name, flags, Mode::empty()).context(what)?;
    let stat = fstat(&made).context(what)?;
    if (FileType::from_raw_mode(stat.st_mode), stat.st_rdev) != is {
        return Err(Error::Invalid(format!("extract {}: it was replaced meanwhile", shown(&entry.path))));
    }
    Ok(made)
}

/// Sets what a file system takes.
fn set_xattrs(entry: &Entry, set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>) -> Result<()> {
    for (key, value) in entry.xattrs.iter().filter(|(key, _)| !key.starts_with(OVERLAY)) {
        match set(key, value) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error).context(|| format!("extract {}", shown(&entry.path))),
        }
    }
    Ok(())
}

fn write(file: &mut File, entry: &Entry, reader: &mut Reader<impl BufRead>) -> Result<()> {
    let what = || format!("extract {}", shown(&entry.path));
    let mut data = reader.data();
    let Some(extents) = &entry.sparse else {
        std::io::copy(&mut data, file).context(what)?;
        return Ok(());
    };
    file.set_len(entry.size).context(what)?;
    for extent in extents {
        file.seek(SeekFrom::Start(extent.offset)).context(what)?;
        std::io::copy(&mut (&mut data).take(extent.length), file).context(what)?;
    }
    Ok(())
}
