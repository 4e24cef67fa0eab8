//! A log read from all of its files, the oldest first, and on into those that come.

use std::os::unix::fs::MetadataExt as _;

use gantry_model::logrecord::Stream;
use gantry_model::monitor::LogFile;

use super::files;
use super::piece::Piece;
use super::{Entry, Query};
use crate::error::{Context, Result};

/// A place in a log that stays what it is when files are rotated and compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The file's number.
    pub number: u64,
    /// Bytes before it in the file, uncompressed.
    pub offset: u64,
}

/// Reads a log. At most one of its files is open, and little of it in memory.
pub struct Reader {
    file: LogFile,
    query: Query,
    /// What is being read.
    piece: Option<Piece>,
    /// Where to go on after it.
    next: Position,
    over: bool,
}

impl Reader {
    /// Opens a log. One that nothing was written to is empty.
    pub fn open(file: &LogFile, query: Query) -> Result<Self> {
        let what = || format!("open log {}", file.path);
        let mut reader = Self { file: file.clone(), query, piece: None, next: Position::default(), over: false };
        match (query.tail, query.since) {
            (Some(tail), _) => reader.piece = last_records(file, tail).context(what)?,
            (None, Some(since)) => reader.next.number = first_since(file, since).context(what)?,
            (None, None) => {}
        }
        reader.next.number = reader.piece.as_ref().map_or(reader.next.number, Piece::number);
        Ok(reader)
    }

    /// Opens a log to go on from a place, with everything. If that is gone, from what comes after it.
    pub fn resume(file: &LogFile, position: Position) -> Self {
        let query = Query { stdout: true, stderr: true, follow: true, ..Query::default() };
        Self { file: file.clone(), query, piece: None, next: position, over: false }
    }

    /// Whether nothing more can come that is wanted.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Where it goes on.
    pub fn position(&self) -> Position {
        match &self.piece {
            Some(piece) => Position { number: piece.number(), offset: piece.at() },
            None => self.next,
        }
    }

    /// The next entries; nothing at what is now the end.
    pub fn read(&mut self) -> Result<Vec<Entry>> {
        let path = self.file.path.clone();
        let what = || format!("read log {path}");
        loop {
            if self.piece.is_none() && !self.open_next().context(what)? {
                return Ok(Vec::new());
            }
            let Some(piece) = &mut self.piece else { return Ok(Vec::new()) };
            let entries = piece.next().context(what)?;
            if entries.is_empty() {
                if piece.is_closed() {
                    self.next = Position { number: piece.number() + 1, offset: 0 };
                    self.piece = None;
                } else if is_newest(&self.file, piece).context(what)? {
                    return Ok(Vec::new());
                } else {
                    // What was written to it before it was renamed is read first.
                    piece.close();
                }
                continue;
            }
            let wanted: Vec<Entry> = entries.into_iter().filter(|entry| self.wants(entry)).collect();
            if self.over || !wanted.is_empty() {
                return Ok(wanted);
            }
        }
    }

    fn open_next(&mut self) -> std::io::Result<bool> {
        self.piece = files::open(&self.file, self.next.number)?;
        let Some(piece) = &mut self.piece else { return Ok(false) };
        if self.next.offset > 0 && piece.number() == self.next.number {
            piece.go_to(self.next.offset)?;
        }
        Ok(true)
    }

    fn wants(&mut self, entry: &Entry) -> bool {
        let query = &self.query;
        if query.until.is_some_and(|until| entry.time > until) {
            self.over = true;
        }
        let stream = match entry.stream {
            Stream::Stdout => query.stdout,
            Stream::Stderr => query.stderr,
        };
        !self.over && stream && query.since.is_none_or(|since| entry.time >= since)
    }
}

/// The file that the last records begin in, at their place.
fn last_records(file: &LogFile, tail: u64) -> std::io::Result<Option<Piece>> {
    let Some(mut piece) = files::open_newest(file)? else {
        // There was none for a moment: the last that was is the newest.
        let Some(number) = files::numbers(file)?.pop() else { return Ok(None) };
        return tail_before(file, None, number + 1, tail);
    };
    let number = piece.number();
    let found = piece.seek_tail(tail)?;
    tail_before(file, Some(piece), number, tail - found)
}

/// Goes on looking in the files before `number` for as many records as are still wanted.
fn tail_before(
    file: &LogFile,
    mut newest: Option<Piece>,
    number: u64,
    mut wanted: u64,
) -> std::io::Result<Option<Piece>> {
    for number in files::numbers(file)?.into_iter().rev().filter(|one| *one < number) {
        if wanted == 0 && newest.is_some() {
            break;
        }
        let Some(mut piece) = files::open_rotated(file, number)? else { break };
        wanted -= piece.seek_tail(wanted)?;
        newest = Some(piece);
    }
    Ok(newest)
}

/// The number of the first file that has something since then, supposing that clocks go forward: those before one that
/// begins earlier have nothing.
fn first_since(file: &LogFile, since: i64) -> std::io::Result<u64> {
    for number in files::numbers(file)?.into_iter().rev() {
        let Some(mut piece) = files::open_rotated(file, number)? else { break };
        if piece.first_time()?.is_some_and(|time| time < since) {
            return Ok(number);
        }
    }
    Ok(0)
}

/// Whether a piece is still what is being written.
fn is_newest(file: &LogFile, piece: &Piece) -> std::io::Result<bool> {
    match std::fs::metadata(&file.path) {
        Ok(found) => Ok((found.dev(), found.ino()) == piece.identity()?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
