//! One file of a log: records read from a place on, and the place of the last lines found from its end.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use gantry_model::logrecord::{Found, MAX_TEXT, OVERHEAD, Stream, first};
use gantry_model::monitor::LogFormat;
use serde::Deserialize;

use super::Entry;

/// What is read at once.
const PIECE: usize = 128 << 10;
/// The longest line of JSON: text at its most, escaped at its worst.
const MAX_LINE: usize = 6 * MAX_TEXT + 256;

/// A file of a log.
#[derive(Debug)]
pub(super) struct Piece {
    file: File,
    format: LogFormat,
    /// Where the next record begins.
    at: u64,
    /// Records that are passed over from there on.
    skip: u64,
}

/// A line of JSON.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    time: String,
}

impl Piece {
    pub(super) fn new(file: File, format: LogFormat) -> Self {
        Self { file, format, at: 0, skip: 0 }
    }

    /// What tells it from other files, whatever they are called.
    pub(super) fn identity(&self) -> io::Result<(u64, u64)> {
        let found = self.file.metadata()?;
        Ok((found.dev(), found.ino()))
    }

    /// The next records, as many as lie close together; nothing at the end.
    pub(super) fn next(&mut self) -> io::Result<Vec<Entry>> {
        let mut bytes = vec![0; PIECE];
        let got = read_at(&self.file, &mut bytes, self.at)?;
        let mut rest = &bytes[..got];
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let used = match self.format {
                LogFormat::Local => match first(rest) {
                    Found::Record(record, length) => {
                        let mut text = record.text.to_vec();
                        if !record.partial {
                            text.push(b'\n');
                        }
                        entries.push(Entry { time: record.time as i64, stream: record.stream, text });
                        length
                    }
                    Found::Short => 0,
                    // What comes after it cannot be told from it: the rest of the file is lost.
                    Found::Damaged => rest.len(),
                },
                LogFormat::JsonFile => match rest.iter().position(|byte| *byte == b'\n') {
                    Some(end) => {
                        entries.extend(parse(&rest[..end]));
                        end + 1
                    }
                    None if rest.len() > MAX_LINE => rest.len(),
                    None => 0,
                },
            };
            if used == 0 {
                break;
            }
            self.at += used as u64;
            rest = &rest[used..];
        }
        let skipped = self.skip.min(entries.len() as u64);
        self.skip -= skipped;
        entries.drain(..skipped as usize);
        if entries.is_empty() && skipped > 0 {
            return self.next();
        }
        Ok(entries)
    }

    /// Goes to where the last lines begin, `wanted` at most; returns how many there are.
    pub(super) fn seek_tail(&mut self, wanted: u64) -> io::Result<u64> {
        let end = self.file.metadata()?.len();
        self.at = end;
        let mut found = 0;
        while found < wanted && self.at > 0 {
            let before = match self.format {
                LogFormat::Local => self.record_before()?,
                LogFormat::JsonFile => self.line_before()?,
            };
            let Some(before) = before else {
                // It is damaged, or being written: all of it is looked at.
                self.at = 0;
                let all = self.count_all()?;
                self.skip = all.saturating_sub(wanted);
                return Ok(all.min(wanted));
            };
            self.at = before;
            found += 1;
        }
        Ok(found)
    }

    fn count_all(&mut self) -> io::Result<u64> {
        let mut count = 0;
        loop {
            let entries = self.next()?;
            if entries.is_empty() {
                self.at = 0;
                return Ok(count);
            }
            count += entries.len() as u64;
        }
    }

    /// Where the record begins that ends here.
    fn record_before(&self) -> io::Result<Option<u64>> {
        let mut length = [0; 4];
        let Some(at) = self.at.checked_sub(4) else { return Ok(None) };
        if read_at(&self.file, &mut length, at)? < length.len() {
            return Ok(None);
        }
        let length = u64::from(u32::from_le_bytes(length));
        if length > (MAX_TEXT + OVERHEAD) as u64 {
            return Ok(None);
        }
        Ok(self.at.checked_sub(length + 8))
    }

    /// Where the line begins that ends here.
    fn line_before(&self) -> io::Result<Option<u64>> {
        let from = self.at.saturating_sub(MAX_LINE as u64);
        let mut bytes = vec![0; (self.at - from) as usize];
        let got = read_at(&self.file, &mut bytes, from)?;
        let bytes = &bytes[..got];
        let Some((b'\n', line)) = bytes.split_last() else { return Ok(None) };
        match line.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => Ok(Some(from + end as u64 + 1)),
            None => Ok((from == 0).then_some(0)),
        }
    }
}

fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < bytes.len() {
        match file.read_at(&mut bytes[got..], at + got as u64) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

fn parse(line: &[u8]) -> Option<Entry> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let stream = if line.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
    Some(Entry { time: crate::logs::reader::time(&line.time).unwrap_or_default(), stream, text: line.log.into_bytes() })
}
