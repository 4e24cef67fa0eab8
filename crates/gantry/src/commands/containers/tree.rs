//! Files of this machine to an archive, and an archive to files of this machine.
//!
//! What comes out of a container is hostile: a name in the archive leads nowhere but below the directory that was asked
//! for, since every part of it is opened by itself and no symbolic link is followed.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use gantry_tar::{Entry, Kind, Reader, Time, Writer};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};

use crate::failure::{Failure, Of, Outcome};

/// The first part of the names in an archive, and what stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebase {
    /// As the archive has it.
    pub from: Vec<u8>,
    /// As it is to be.
    pub to: Vec<u8>,
}

impl Rebase {
    /// A name with its first part replaced.
    pub fn apply(&self, name: &[u8]) -> Vec<u8> {
        // What is in a directory itself has its name with a dot before it, or without.
        if self.from == b"." {
            let rest = name.strip_prefix(b"./").unwrap_or(name);
            return if matches!(rest, b"" | b".") {
                self.to.clone()
            } else {
                [self.to.as_slice(), b"/", rest].concat()
            };
        }
        match name.strip_prefix(self.from.as_slice()) {
            Some(rest) if rest.is_empty() || rest.starts_with(b"/") => [self.to.as_slice(), rest].concat(),
            _ => name.to_vec(),
        }
    }
}

/// Writes a file or directory to an archive, under a name.
pub fn pack(path: &Path, name: &[u8], out: &mut dyn Write) -> Outcome {
    let mut pack = Pack { writer: Writer::new(out), seen: HashMap::new() };
    pack.add(path, name)?;
    pack.writer.finish().map(drop).of("write the archive")
}

/// The same for several, each under its own name.
pub fn pack_all(all: &[(PathBuf, OsString)], out: &mut dyn Write) -> Outcome {
    let mut pack = Pack { writer: Writer::new(out), seen: HashMap::new() };
    for (path, name) in all {
        pack.add(path, name.as_bytes())?;
    }
    pack.writer.finish().map(drop).of("write the archive")
}

struct Pack<'a> {
    writer: Writer<&'a mut dyn Write>,
    /// Files with several names, by device and inode.
    seen: HashMap<(u64, u64), Vec<u8>>,
}

impl Pack<'_> {
    fn add(&mut self, path: &Path, name: &[u8]) -> Outcome {
        let what = || path.display().to_string();
        let found = fs::symlink_metadata(path).of(what())?;
        let kind = found.file_type();
        let mut entry = Entry {
            path: name.to_vec(),
            mode: found.mode() & 0o7777,
            uid: found.uid().into(),
            gid: found.gid().into(),
            mtime: Time { seconds: found.mtime(), nanos: found.mtime_nsec() as u32 },
            ..Entry::default()
        };
        if kind.is_dir() {
            entry.kind = Kind::Directory;
            entry.path.push(b'/');
            self.writer.begin(&entry).of(what())?;
            let mut names = fs::read_dir(path).of(what())?.collect::<io::Result<Vec<_>>>().of(what())?;
            names.sort_by_key(fs::DirEntry::file_name);
            for one in names {
                self.add(&one.path(), &[name, b"/", one.file_name().as_bytes()].concat())?;
            }
            return Ok(());
        }
        if kind.is_socket() {
            // An archive has none, and a socket without its process is none.
            return Ok(());
        }
        if kind.is_symlink() {
            entry.kind = Kind::Symlink;
            entry.link = fs::read_link(path).of(what())?.into_os_string().into_vec();
        } else if kind.is_fifo() {
            entry.kind = Kind::Fifo;
        } else if kind.is_char_device() || kind.is_block_device() {
            entry.kind = if kind.is_char_device() { Kind::Char } else { Kind::Block };
            (entry.major, entry.minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
        } else if found.nlink() > 1
            && let Some(first) = self.seen.insert((found.dev(), found.ino()), name.to_vec())
        {
            entry.kind = Kind::Link;
            entry.link.clone_from(&first);
            self.seen.insert((found.dev(), found.ino()), first);
        } else {
            return self.file(path, entry, found.len());
        }
        self.writer.begin(&entry).of(what())
    }

    fn file(&mut self, path: &Path, mut entry: Entry, size: u64) -> Outcome {
        let what = || path.display().to_string();
        entry.size = size;
        let file = File::open(path).of(what())?;
        self.writer.begin(&entry).of(what())?;
        let copied = io::copy(&mut file.take(size), &mut self.writer).of(what())?;
        if copied < size {
            return Err(Failure::new(format!("{}: it became shorter while it was read", path.display())));
        }
        Ok(())
    }
}

/// Takes an archive apart below a directory.
pub fn unpack(archive: impl BufRead, directory: &Path, rebase: Option<&Rebase>, owners: bool) -> Outcome {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let root =
        rustix::fs::openat(CWD, directory, flags, Mode::empty()).map_err(io::Error::from).of(directory.display())?;
    let mut unpack = Unpack { root, owners, directories: Vec::new() };
    let mut reader = Reader::new(archive);
    let mut entry = Entry::default();
    while reader.read_entry(&mut entry).of("read the archive")? {
        let shown = gantry_tar::show(&entry.path);
        let name = rebase.map_or_else(|| entry.path.clone(), |rebase| rebase.apply(&entry.path));
        // A symbolic link says what it says; a further name of a file names one in this archive.
        let hard = rebase.filter(|_| entry.kind == Kind::Link);
        let link = hard.map_or_else(|| entry.link.clone(), |rebase| rebase.apply(&entry.link));
        unpack.entry(&name, &link, &entry, &mut reader.data()).of(format!("{}/{shown}", directory.display()))?;
    }
    unpack.finish();
    Ok(())
}

struct Unpack {
    root: OwnedFd,
    owners: bool,
    /// Times and modes of directories, which what is put into them would change.
    directories: Vec<(OwnedFd, Entry)>,
}

/// The parts of a name that lead somewhere. One that leads up leads out.
fn parts(name: &[u8]) -> io::Result<Vec<&[u8]>> {
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "its name leads out of the directory"));
    }
    Ok(parts)
}

impl Unpack {
    /// The directory that a name is in, which is made if it is missing, and the last part of the name.
    fn parent<'a>(&self, name: &'a [u8]) -> io::Result<(OwnedFd, Option<&'a [u8]>)> {
        let parts = parts(name)?;
        let mut at = self.root.try_clone()?;
        let Some((last, above)) = parts.split_last() else { return Ok((at, None)) };
        for part in above {
            at = enter(&at, part, 0o755)?;
        }
        Ok((at, Some(last)))
    }

    fn entry(&mut self, name: &[u8], link: &[u8], entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        let (at, Some(last)) = self.parent(name)? else {
            // The directory itself, which is there.
            return Ok(());
        };
        let mode = Mode::from_raw_mode(entry.mode & 0o7777);
        if entry.kind == Kind::Directory {
            let directory = enter(&at, last, 0o700)?;
            self.directories.push((directory, entry.clone()));
            return Ok(());
        }
        clear(&at, last)?;
        match entry.kind {
            Kind::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(rustix::fs::openat(&at, last, flags, Mode::from_raw_mode(0o600))?);
                io::copy(data, &mut file)?;
                self.own(&file, entry)?;
                rustix::fs::fchmod(&file, mode)?;
                rustix::fs::futimens(&file, &times(entry))?;
                return Ok(());
            }
            Kind::Symlink => rustix::fs::symlinkat(link, &at, last)?,
            Kind::Link => {
                let (from, Some(first)) = self.parent(link)? else {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a link to the directory itself"));
                };
                return Ok(rustix::fs::linkat(&from, first, &at, last, AtFlags::empty())?);
            }
            Kind::Fifo => rustix::fs::mknodat(&at, last, FileType::Fifo, mode, 0)?,
            Kind::Char | Kind::Block => {
                let kind = if entry.kind == Kind::Char { FileType::CharacterDevice } else { FileType::BlockDevice };
                let device = rustix::fs::makedev(entry.major, entry.minor);
                rustix::fs::mknodat(&at, last, kind, mode, device)?;
            }
            Kind::Directory => {}
        }
        if self.owners {
            let (user, group) = owner(entry);
            rustix::fs::chownat(&at, last, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        rustix::fs::utimensat(&at, last, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    fn own(&self, file: &impl AsFd, entry: &Entry) -> io::Result<()> {
        if self.owners {
            let (user, group) = owner(entry);
            rustix::fs::fchown(file, user, group)?;
        }
        Ok(())
    }

    /// Gives directories what they are to have, the deepest first.
    fn finish(self) {
        for (directory, entry) in self.directories.iter().rev() {
            // They hold what they are to hold, whatever their dates.
            let _ = self.own(directory, entry);
            let _ = rustix::fs::fchmod(directory, Mode::from_raw_mode(entry.mode & 0o7777));
            let _ = rustix::fs::futimens(directory, &times(entry));
        }
    }
}

fn owner(entry: &Entry) -> (Option<rustix::fs::Uid>, Option<rustix::fs::Gid>) {
    let raw = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    (raw(entry.uid).map(rustix::fs::Uid::from_raw), raw(entry.gid).map(rustix::fs::Gid::from_raw))
}

fn times(entry: &Entry) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: entry.mtime.seconds, tv_nsec: entry.mtime.nanos.into() },
    }
}

/// A directory in another, made if it is missing; never what a link leads to.
fn enter(at: &OwnedFd, name: &[u8], mode: u32) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(at, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    rustix::fs::openat(at, name, flags, Mode::empty()).map_err(|error| match error {
        rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP => {
            let name = String::from_utf8_lossy(name).into_owned();
            io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("cannot overwrite non-directory {name:?} with a directory"),
            )
        }
        other => other.into(),
    })
}

/// Takes away what has a name, unless it is a directory.
fn clear(at: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {
            let name = String::from_utf8_lossy(name).into_owned();
            Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("cannot overwrite directory {name:?} with a non-directory"),
            ))
        }
        Err(error) => Err(error.into()),
    }
}

/// A path below the present directory in full, without `.` and `..`; a dot or slash at its end stays, as it means something.
pub fn absolute(path: &str, here: &Path) -> PathBuf {
    let mut full = PathBuf::new();
    for part in here.join(path).components() {
        match part {
            std::path::Component::ParentDir => drop(full.pop()),
            std::path::Component::CurDir => {}
            other => full.push(other),
        }
    }
    let mut text = full.into_os_string();
    if path == "." || path.ends_with("/.") {
        text.push("/.");
    } else if path.ends_with('/') && text.len() > 1 {
        text.push("/");
    }
    PathBuf::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gantry-tree-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn there_and_back() {
        let (from, to) = (Dir::new("from"), Dir::new("to"));
        let source = from.0.join("a");
        fs::create_dir_all(source.join("b")).unwrap();
        fs::write(source.join("b/file"), b"content").unwrap();
        fs::hard_link(source.join("b/file"), source.join("twin")).unwrap();
        std::os::unix::fs::symlink("b/file", source.join("link")).unwrap();
        let mut archive = Vec::new();
        pack(&source, b"a", &mut archive).unwrap();
        let rebase = Rebase { from: b"a".to_vec(), to: b"z".to_vec() };
        unpack(archive.as_slice(), &to.0, Some(&rebase), false).unwrap();
        assert_eq!(fs::read(to.0.join("z/b/file")).unwrap(), b"content");
        assert_eq!(fs::read_link(to.0.join("z/link")).unwrap(), Path::new("b/file"));
        let inode = |name: &str| fs::metadata(to.0.join(name)).unwrap().ino();
        assert_eq!(inode("z/b/file"), inode("z/twin"));
        let time = |path: PathBuf| fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(time(to.0.join("z/b")), time(source.join("b")));
        // Once more over what is there.
        unpack(archive.as_slice(), &to.0, Some(&rebase), false).unwrap();
    }

    /// Names and links of an archive lead nowhere else.
    #[test]
    fn hostile_archives() {
        let (outside, root) = (Dir::new("outside"), Dir::new("root"));
        std::os::unix::fs::symlink(&outside.0, root.0.join("out")).unwrap();
        let check = |entries: &[(&str, Kind, &str)], expect: &str| {
            let mut writer = Writer::new(Vec::new());
            for (name, kind, link) in entries {
                let entry = Entry {
                    path: name.as_bytes().to_vec(),
                    kind: *kind,
                    link: link.as_bytes().to_vec(),
                    mode: 0o644,
                    ..Entry::default()
                };
                writer.append(&entry, b"").unwrap();
            }
            let archive = writer.finish().unwrap();
            let error = unpack(archive.as_slice(), &root.0, None, false).unwrap_err();
            assert!(error.text().contains(expect), "{entries:?}: {}", error.text());
            assert_eq!(fs::read_dir(&outside.0).unwrap().count(), 0, "{entries:?}");
        };
        check(&[("../x", Kind::File, "")], "leads out of the directory");
        check(&[("a/../../x", Kind::File, "")], "leads out of the directory");
        check(&[("out/x", Kind::File, "")], "cannot overwrite non-directory \"out\" with a directory");
        check(&[("l", Kind::Symlink, "/"), ("l/x", Kind::File, "")], "cannot overwrite non-directory \"l\"");
        check(&[("h", Kind::Link, "../outside")], "leads out of the directory");
        check(&[("d/", Kind::Directory, ""), ("d", Kind::File, "")], "cannot overwrite directory \"d\"");
    }

    #[test]
    fn names() {
        let rebase = Rebase { from: b"a".to_vec(), to: b"b".to_vec() };
        assert_eq!(rebase.apply(b"a/x"), b"b/x");
        assert_eq!(rebase.apply(b"a"), b"b");
        assert_eq!(rebase.apply(b"ab"), b"ab");
        let rebase = Rebase { from: b".".to_vec(), to: b"b".to_vec() };
        assert_eq!(rebase.apply(b"./"), b"b");
        assert_eq!(rebase.apply(b"./x/y"), b"b/x/y");
        assert_eq!(rebase.apply(b".x"), b"b/.x");
        let check =
            |path: &str, expect: &str| assert_eq!(absolute(path, Path::new("/here")), Path::new(expect), "{path}");
        check("x", "/here/x");
        check("../x/./y", "/x/y");
        assert_eq!(absolute("x/.", Path::new("/here")).as_os_str(), "/here/x/.");
        assert_eq!(absolute("x/", Path::new("/here")).as_os_str(), "/here/x/");
        assert_eq!(absolute(".", Path::new("/here")).as_os_str(), "/here/.");
    }
}
