//! An archive put into a container's tree.
//!
//! Each name is resolved by the kernel inside the root, through links that may be there, and what is made is made beside a
//! parent that is open: a link that is put in the way leads nowhere else.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use gantry_store::layer;
use gantry_tar::{Entry, Kind, Reader};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chmodat, chownat, linkat, lsetxattr, makedev,
    mkdirat, mknodat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::open_in;
use crate::error::{Context, Error, Result};

/// How an archive is put in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Whether a directory is never replaced by something else, nor the other way.
    pub(crate) keep_kinds: bool,
    /// Who everything belongs to; none is as the archive says.
    pub(crate) owner: Option<(u32, u32)>,
}

/// The most entries of an archive.
const MAX_ENTRIES: u64 = 4_000_000;
/// How deep a directory that is replaced may be.
const DEPTH: usize = 256;

/// Puts an archive, compressed or not, into the directory at `path`.
pub(crate) fn extract(root: BorrowedFd<'_>, path: &str, archive: &mut dyn Read, options: Options) -> Result<()> {
    let failed = |error: gantry_tar::Error| Error::Invalid(format!("read the archive: {error}"));
    let plain = layer::decompress(archive).context(|| "read the archive".to_owned())?;
    let mut reader = Reader::new(BufReader::with_capacity(64 << 10, plain));
    let mut work =
        Work { root, base: path.trim_matches('/').to_owned(), options, times: Vec::new(), parents: HashMap::new() };
    let mut entry = Entry::default();
    let mut count = 0;
    while reader.read_entry(&mut entry).map_err(failed)? {
        count += 1;
        if count > MAX_ENTRIES {
            return Err(Error::Invalid(format!("the archive has more than {MAX_ENTRIES} entries")));
        }
        work.put(&entry, &mut reader)?;
    }
    work.finish();
    Ok(())
}

struct Work<'a> {
    root: BorrowedFd<'a>,
    base: String,
    options: Options,
    /// Directories whose times are set at the end.
    times: Vec<(OwnedFd, Timestamps)>,
    /// The directory that was last put into, by its name.
    parents: HashMap<Vec<u8>, OwnedFd>,
}

/// A name without what does nothing, and without what leads up.
fn cleaned(path: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

impl Work<'_> {
    fn put(&mut self, entry: &Entry, reader: &mut Reader<impl BufRead>) -> Result<()> {
        let parts = cleaned(&entry.path);
        let Some((name, above)) = parts.split_last() else { return Ok(()) };
        let what = || format!("extract {}", shown(&entry.path));
        let parent = self.parent(above).context(what)?;
        let name = OsStr::from_bytes(name);
        self.make_room(&parent, name, entry)?;
        match entry.kind {
            Kind::Directory => match mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error).context(what),
            },
            Kind::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(0o600);
                let mut file = std::fs::File::from(openat(&parent, name, flags, mode).context(what)?);
                write(&mut file, entry, reader)?;
            }
            Kind::Symlink => symlinkat(entry.link.as_slice(), &parent, name).context(what)?,
            Kind::Link => {
                let target = cleaned(&entry.link);
                let Some((old, above)) = target.split_last() else {
                    return Err(Error::Invalid(format!("extract {}: it is a link to nothing", shown(&entry.path))));
                };
                let from = self.parent(above).context(what)?;
                linkat(&from, OsStr::from_bytes(old), &parent, name, AtFlags::empty()).context(what)?;
                // It has what the other name has.
                return Ok(());
            }
            Kind::Char | Kind::Block | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::Char => FileType::CharacterDevice,
                    Kind::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = makedev(entry.major, entry.minor);
                mknodat(&parent, name, kind, Mode::from_raw_mode(0o600), device).context(what)?;
            }
        }
        self.attributes(&parent, name, entry)
    }

    /// The directory of these names, made where it is missing.
    fn parent(&mut self, parts: &[&[u8]]) -> Result<OwnedFd, Errno> {
        let key = parts.join(&b'/');
        if let Some(known) = self.parents.get(&key) {
            return known.try_clone().map_err(|_| Errno::MFILE);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut path = self.base.clone().into_bytes();
        let mut current = self.open(&path, flags)?;
        for part in parts {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
            current = match self.open(&path, flags) {
                Err(Errno::NOENT) => {
                    match mkdirat(&current, OsStr::from_bytes(part), Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error),
                    }
                    self.open(&path, flags)?
                }
                other => other?,
            };
        }
        self.parents.clear();
        if let Ok(kept) = current.try_clone() {
            self.parents.insert(key, kept);
        }
        Ok(current)
    }

    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        open_in(self.root, OsStr::from_bytes(path), flags)
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
            let path = shown(&entry.path);
            let words = if was {
                "cannot overwrite directory with non-directory"
            } else {
                "cannot overwrite non-directory with directory"
            };
            return Err(Error::Invalid(format!("{words}: {path}")));
        }
        self.parents.clear();
        remove(parent.as_fd(), name, 0).context(what)
    }

    fn attributes(&mut self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
        let what = || format!("extract {}", shown(&entry.path));
        let (uid, gid) = self.options.owner.unwrap_or((entry.uid as u32, entry.gid as u32));
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).context(what)?;
        if entry.kind != Kind::Symlink {
            // It was made a moment ago; if it is a link by now, the mode of what it leads to is not touched.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = openat(parent, name, flags, Mode::empty()).context(what)?;
            let kind = FileType::from_raw_mode(rustix::fs::fstat(&made).context(what)?.st_mode);
            if kind != FileType::Symlink {
                let path = format!("/proc/self/fd/{}", made.as_raw_fd());
                chmodat(rustix::fs::CWD, path, Mode::from_raw_mode(entry.mode & 0o7777), AtFlags::empty())
                    .context(what)?;
            }
        }
        let place = format!("/proc/self/fd/{}/", parent.as_raw_fd());
        let place = [place.as_bytes(), name.as_bytes()].concat();
        for (key, value) in &entry.xattrs {
            match lsetxattr(place.as_slice(), key.as_slice(), value, rustix::fs::XattrFlags::empty()) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(error) => return Err(error).context(what),
            }
        }
        let time = Timespec { tv_sec: entry.mtime.seconds, tv_nsec: entry.mtime.nanos.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        if entry.kind == Kind::Directory {
            // What comes into it changes its time.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if self.times.len() < 4096
                && let Ok(dir) = openat(parent, name, flags, Mode::empty())
            {
                self.times.push((dir, times));
            }
            return Ok(());
        }
        utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW).context(what)
    }

    fn finish(self) {
        for (dir, times) in self.times {
            // A time that cannot be set is worth no failure.
            let _ = rustix::fs::futimens(dir, &times);
        }
    }
}

fn write(file: &mut std::fs::File, entry: &Entry, reader: &mut Reader<impl BufRead>) -> Result<()> {
    let what = || format!("extract {}", shown(&entry.path));
    let mut data = reader.data();
    let Some(extents) = &entry.sparse else {
        std::io::copy(&mut data, file).context(what)?;
        return file.flush().context(what);
    };
    file.set_len(entry.size).context(what)?;
    for extent in extents {
        use std::io::Seek as _;
        file.seek(std::io::SeekFrom::Start(extent.offset)).context(what)?;
        std::io::copy(&mut (&mut data).take(extent.length), file).context(what)?;
    }
    Ok(())
}

/// Removes whatever has the name.
fn remove(parent: BorrowedFd<'_>, name: &OsStr, depth: usize) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other,
    }
    if depth > DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let below = entry.file_name().to_bytes();
        if below != b"." && below != b".." {
            remove(directory.as_fd(), OsStr::from_bytes(below), depth + 1)?;
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}
