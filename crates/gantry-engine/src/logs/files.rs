//! The files of a log: which there are, and how they are opened while the monitor renames and removes them.
//!
//! A file that was rotated away keeps its number, so it is either found by it or gone. Only the newest has none yet: it is
//! the one after the last, if that is still the last after the newest was opened.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use gantry_model::monitor::LogFile;

use super::piece::Piece;

/// How often it is looked again because something was renamed meanwhile.
const TRIES: usize = 64;

/// The path of a file that was rotated away.
pub(super) fn rotated(file: &LogFile, number: u64) -> String {
    format!("{}.{number}", file.path)
}

/// The path that it has when it is compressed.
pub(super) fn packed(file: &LogFile, number: u64) -> String {
    format!("{}.{number}.zst", file.path)
}

/// The numbers of the files that were rotated away, the oldest first.
pub(super) fn numbers(file: &LogFile) -> io::Result<Vec<u64>> {
    let path = Path::new(&file.path);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?.file_name();
        found.extend(entry.to_str().and_then(|entry| number(name, entry)));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn number(name: &str, entry: &str) -> Option<u64> {
    let text = entry.strip_prefix(name)?.strip_prefix('.')?;
    let text = text.strip_suffix(".zst").unwrap_or(text);
    text.parse().ok().filter(|number: &u64| *number < u64::MAX && number.to_string() == text)
}

/// The first file whose number is not below `wanted`.
pub(super) fn open(file: &LogFile, wanted: u64) -> io::Result<Option<Piece>> {
    for _ in 0..TRIES {
        let before = numbers(file)?;
        if let Some(number) = before.iter().find(|number| **number >= wanted) {
            match open_rotated(file, *number)? {
                Some(piece) => return Ok(Some(piece)),
                None => continue,
            }
        }
        let opened = present(File::open(&file.path))?;
        let last = numbers(file)?.last().copied();
        if last == before.last().copied() {
            let number = last.map_or(1, |last| last + 1).max(wanted);
            return Ok(opened.map(|opened| Piece::plain(opened, file.format, number, false)));
        }
    }
    // It is rotated faster than it can be opened. Later it will be slower.
    Ok(None)
}

/// The newest file.
pub(super) fn open_newest(file: &LogFile) -> io::Result<Option<Piece>> {
    let mut wanted = 0;
    for _ in 0..TRIES {
        wanted = numbers(file)?.last().map_or(1, |last| last + 1).max(wanted);
        match open(file, wanted)? {
            Some(piece) if piece.is_closed() => {}
            other => return Ok(other),
        }
    }
    Ok(None)
}

/// A file that was rotated away; none if it is gone.
pub(super) fn open_rotated(file: &LogFile, number: u64) -> io::Result<Option<Piece>> {
    if let Some(opened) = present(File::open(rotated(file, number)))? {
        return Ok(Some(Piece::plain(opened, file.format, number, true)));
    }
    match present(File::open(packed(file, number)))? {
        Some(opened) => Piece::packed(opened, file.format, number).map(Some),
        None => Ok(None),
    }
}

fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
