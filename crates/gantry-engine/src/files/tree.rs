//! Whole trees: their size, and copies of them.

use std::collections::HashSet;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use gantry_store::layer::{self, DiffOptions, Options};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

use crate::error::{Context, Error, Result};

/// How deep a tree is looked at.
const DEPTH: usize = 512;

/// Bytes of the files of a tree; one with several names counts once.
pub(crate) fn size(path: &Path) -> Result<u64> {
    let what = || format!("look at {}", path.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, path, flags, Mode::empty()).context(what)?;
    let (mut total, mut seen) = (0, HashSet::new());
    let mut open = vec![root];
    let mut dirs: Vec<Dir> = vec![Dir::read_from(&open[0]).context(what)?];
    while let Some(dir) = dirs.last_mut() {
        let Some(entry) = dir.read() else {
            dirs.pop();
            open.pop();
            continue;
        };
        let entry = entry.context(what)?;
        let name = entry.file_name();
        let Some(at) = open.last().filter(|_| !matches!(name.to_bytes(), b"." | b"..")) else { continue };
        // What goes away meanwhile takes nothing.
        let Ok(stat) = statat(at, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let counts = stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino));
            total += if counts { stat.st_size as u64 } else { 0 };
        } else if open.len() < DEPTH {
            let Ok(below) = openat(at, name, flags, Mode::empty()) else { continue };
            dirs.push(Dir::read_from(&below).context(what)?);
            open.push(below);
        }
    }
    Ok(total)
}

/// Whether a directory has nothing in it.
pub(crate) fn is_empty(dir: BorrowedFd<'_>) -> Result<bool> {
    let what = || "look into a directory".to_owned();
    for entry in Dir::read_from(dir).context(what)? {
        let entry = entry.context(what)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b".." | b"lost+found") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Copies a tree with everything that files have, its own directory's too, into an empty directory.
pub(crate) fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let (mut reader, writer): (PipeReader, PipeWriter) = io::pipe().context(|| "make a pipe".to_owned())?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let mut writer = writer;
            layer::archive(from.as_fd(), &mut writer, DiffOptions { root: true, ..DiffOptions::default() }).map(drop)
        });
        let unpacked = layer::unpack(&mut reader, to.as_fd(), &Options::default(), &|_| {});
        // Whoever still writes learns that nobody reads.
        drop(reader);
        let packed = packing.join().map_err(|_| Error::Closed)?;
        let failed =
            |error: layer::LayerError| Error::Invalid(format!("copy the image's files into a volume: {error}"));
        unpacked.map_err(failed)?;
        packed.map_err(failed)
    })
}
