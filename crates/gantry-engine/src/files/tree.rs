//! Whole trees: their size, copies of them, and their removal.
//!
//! What is mounted in a tree is no part of it: it is neither counted nor, above all, removed.

use std::collections::HashSet;
use std::ffi::{CStr, OsStr};
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use gantry_store::layer::{self, DiffOptions, Options};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, openat, openat2, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};

/// How deep a tree is looked at. Each level takes an open file.
const DEPTH: usize = 512;
/// How deep a tree is removed in place; what lies deeper is first moved up.
const SHALLOW: usize = 64;
/// How often what was moved up is gone through: more than any path that the kernel can go has levels.
const ROUNDS: u32 = 100_000;

/// Bytes of the files of a tree; one with several names counts once.
pub(crate) fn size(path: &Path) -> Result<u64> {
    let what = || format!("look at {}", path.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, path, flags, Mode::empty()).context(what)?;
    let (mut total, mut seen) = (0, HashSet::new());
    let mut dirs = vec![Dir::new(root).context(what)?];
    while let Some(dir) = dirs.last_mut() {
        let Some(entry) = dir.read() else {
            dirs.pop();
            continue;
        };
        let entry = entry.context(what)?;
        let name = entry.file_name();
        if is_dots(name) {
            continue;
        }
        let at = dir.fd().context(what)?;
        // What goes away meanwhile takes nothing.
        let Ok(stat) = statat(at, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let counts = stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino));
            total += if counts { stat.st_size as u64 } else { 0 };
        } else if dirs.len() < DEPTH {
            let at = dirs.last().map(Dir::fd).transpose().context(what)?;
            let Some(Ok(below)) = at.map(|at| below(at, name)) else { continue };
            dirs.push(Dir::new(below).context(what)?);
        }
    }
    Ok(total)
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// Opens a directory in another, not through a link, and not one that something is mounted on.
fn below(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(parent, name, flags, Mode::empty(), ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS)
}

/// Whether a directory has nothing in it, but for what its file system or a copy that was cut off left there.
pub(crate) fn is_empty(dir: BorrowedFd<'_>) -> Result<bool> {
    let what = || "look into a directory".to_owned();
    for entry in Dir::read_from(dir).context(what)? {
        let entry = entry.context(what)?;
        if !is_dots(entry.file_name()) && entry.file_name() != c"lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Copies a tree with everything that files have, its own directory's too, into a directory. What is there of the same name
/// is replaced.
pub(crate) fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let (mut reader, writer): (PipeReader, PipeWriter) = io::pipe().context(|| "make a pipe".to_owned())?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let mut writer = writer;
            layer::archive(from.as_fd(), &mut writer, DiffOptions { root: true, ..DiffOptions::default() }).map(drop)
        });
        let unpacked = layer::unpack_unverified(&mut reader, to.as_fd(), &Options::default());
        // Whoever still writes learns that nobody reads.
        drop(reader);
        let packed = packing.join().map_err(|_| Error::Closed)?;
        let failed =
            |error: layer::LayerError| Error::Invalid(format!("copy the image's files into a volume: {error}"));
        unpacked.map_err(failed)?;
        packed.map_err(failed)
    })
}

/// Removes whatever has the name, with all that is below it, however deep. What is mounted there stays, and it too.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    for _ in 0..ROUNDS {
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            other => return other,
        }
        let name = std::ffi::CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
        let top = below(parent, &name)?;
        // What is deep is moved to the top, and its turn comes in the next round.
        let mut moved = 0;
        empty(top.as_fd(), top.as_fd(), 0, &mut moved)?;
    }
    Err(Errno::NOTEMPTY)
}

fn empty(top: BorrowedFd<'_>, dir: BorrowedFd<'_>, depth: usize, moved: &mut u64) -> Result<(), Errno> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_dots(name) {
            continue;
        }
        match unlinkat(dir, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        }
        match unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        }
        if depth < SHALLOW {
            let inside = below(dir, name)?;
            empty(top, inside.as_fd(), depth + 1, moved)?;
            match unlinkat(dir, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            }
        }
        loop {
            *moved += 1;
            let up = format!(".deep-{moved}");
            match renameat_with(dir, name, top, up.as_str(), RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                other => break other?,
            }
        }
    }
    Ok(())
}
