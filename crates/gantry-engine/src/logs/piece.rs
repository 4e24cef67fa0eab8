//! One file of a log: records read from a place on, and the place of the last of them found from its end.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use gantry_model::logrecord::{Found, MAX_TEXT, Stream, first, last};
use gantry_model::monitor::LogFormat;
use serde::Deserialize;

use super::{Entry, time};

/// What is read at once.
const WINDOW: u64 = 128 << 10;
/// The longest line of JSON: text at its most, escaped at its worst.
const MAX_LINE: usize = 6 * MAX_TEXT + 256;

type Decoder = zstd::Decoder<'static, BufReader<File>>;

enum Source {
    Plain(File),
    Packed(Box<Decoder>),
    /// It could not be read on.
    Broken,
}

/// A file of a log.
pub(super) struct Piece {
    source: Source,
    format: LogFormat,
    /// Its number among the files of the log.
    number: u64,
    /// Where the next record begins, in what is not compressed.
    at: u64,
    /// Of a compressed file, what comes after that place and was unpacked already.
    held: Vec<u8>,
    /// Whether nothing is written to it any more.
    closed: bool,
    /// Records that are passed over from there on.
    skip: u64,
}

impl Piece {
    /// A file that is perhaps still written to.
    pub(super) fn plain(file: File, format: LogFormat, number: u64, closed: bool) -> Self {
        Self { source: Source::Plain(file), format, number, at: 0, held: Vec::new(), closed, skip: 0 }
    }

    /// A compressed one.
    pub(super) fn packed(file: File, format: LogFormat, number: u64) -> io::Result<Self> {
        let source = Source::Packed(Box::new(Decoder::new(file)?));
        Ok(Self { source, format, number, at: 0, held: Vec::new(), closed: true, skip: 0 })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Where the next record begins.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Nothing is written to it any more. What was before that is still read.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// What tells it from other files, whatever they are called.
    pub(super) fn identity(&self) -> io::Result<(u64, u64)> {
        let Source::Plain(file) = &self.source else { return Ok((0, 0)) };
        let found = file.metadata()?;
        Ok((found.dev(), found.ino()))
    }

    /// Goes on from a place, which a record begins at, unless the file is shorter.
    pub(super) fn go_to(&mut self, at: u64) -> io::Result<()> {
        match &mut self.source {
            Source::Plain(file) => self.at = if at <= file.metadata()?.len() { at } else { 0 },
            Source::Packed(decoder) => self.at = io::copy(&mut decoder.take(at), &mut io::sink())?,
            Source::Broken => {}
        }
        Ok(())
    }

    /// The next records, as many as lie close together; nothing at the end.
    pub(super) fn next(&mut self) -> io::Result<Vec<Entry>> {
        loop {
            let (bytes, end) = self.window()?;
            let (mut entries, used) = decode(self.format, &bytes, end && self.closed);
            self.at += used as u64;
            if matches!(self.source, Source::Packed(_)) && used < bytes.len() {
                self.held = bytes[used..].to_vec();
            }
            let skipped = self.skip.min(entries.len() as u64);
            self.skip -= skipped;
            entries.drain(..skipped as usize);
            if !entries.is_empty() || used == 0 {
                return Ok(entries);
            }
        }
    }

    /// What comes next, and whether nothing more is there.
    fn window(&mut self) -> io::Result<(Vec<u8>, bool)> {
        match &mut self.source {
            Source::Plain(file) => {
                let length = file.metadata()?.len();
                if length < self.at {
                    // It was begun anew.
                    self.at = 0;
                }
                let count = (length - self.at).min(WINDOW);
                let mut bytes = vec![0; count as usize];
                let got = read_at(file, &mut bytes, self.at)?;
                bytes.truncate(got);
                Ok((bytes, self.at + count >= length))
            }
            Source::Packed(decoder) => {
                let mut bytes = std::mem::take(&mut self.held);
                let wanted = WINDOW.saturating_sub(bytes.len() as u64);
                let got = decoder.take(wanted).read_to_end(&mut bytes);
                // What is damaged or cut off ends there.
                if got.is_err() {
                    self.source = Source::Broken;
                    self.held.clear();
                    return Ok((bytes, true));
                }
                Ok((bytes, got.is_ok_and(|got| (got as u64) < wanted)))
            }
            Source::Broken => Ok((Vec::new(), true)),
        }
    }

    /// When its first record is of, if there is one. Goes back to the beginning.
    pub(super) fn first_time(&mut self) -> io::Result<Option<i64>> {
        let time = self.next()?.first().map(|entry| entry.time);
        self.rewind()?;
        Ok(time)
    }

    fn rewind(&mut self) -> io::Result<()> {
        self.at = 0;
        self.held.clear();
        self.source = match std::mem::replace(&mut self.source, Source::Broken) {
            Source::Packed(decoder) => {
                let mut file = decoder.finish().into_inner();
                file.seek(SeekFrom::Start(0))?;
                Source::Packed(Box::new(Decoder::new(file)?))
            }
            other => other,
        };
        Ok(())
    }

    /// Goes to where the last records begin, `wanted` at most; returns how many there are.
    pub(super) fn seek_tail(&mut self, wanted: u64) -> io::Result<u64> {
        if let Source::Plain(file) = &self.source
            && let Some((found, at)) = tail(file, self.format, wanted)?
        {
            self.at = at;
            return Ok(found);
        }
        // It is compressed, damaged, or being written: all of it is looked at.
        let again = match &self.source {
            Source::Packed(decoder) => Some(decoder.get_ref().get_ref().try_clone()?),
            _ => None,
        };
        let mut all = 0;
        loop {
            let entries = self.next()?;
            if entries.is_empty() {
                break;
            }
            all += entries.len() as u64;
        }
        match again {
            Some(mut file) => {
                file.seek(SeekFrom::Start(0))?;
                self.held.clear();
                self.at = 0;
                self.source = Source::Packed(Box::new(Decoder::new(file)?));
            }
            None => self.rewind()?,
        }
        self.skip = all.saturating_sub(wanted);
        Ok(all.min(wanted))
    }
}

/// How many of the last records there are, `wanted` at most, and where they begin; none if the end is no record's.
fn tail(file: &File, format: LogFormat, wanted: u64) -> io::Result<Option<(u64, u64)>> {
    let (mut at, mut found) = (file.metadata()?.len(), 0);
    while found < wanted && at > 0 {
        let from = at.saturating_sub(WINDOW);
        let mut bytes = vec![0; (at - from) as usize];
        if read_at(file, &mut bytes, from)? < bytes.len() {
            return Ok(None);
        }
        let mut end = bytes.len();
        while found < wanted && end > 0 {
            let length = match format {
                LogFormat::Local => match last(&bytes[..end]) {
                    Found::Record(_, length) => length,
                    Found::Short if end < bytes.len() && from > 0 => break,
                    Found::Short | Found::Damaged => return Ok(None),
                },
                LogFormat::JsonFile => match bytes[..end].split_last() {
                    Some((b'\n', line)) => match line.iter().rposition(|byte| *byte == b'\n') {
                        Some(before) => end - before - 1,
                        None if from == 0 => end,
                        None if end < bytes.len() => break,
                        None => return Ok(None),
                    },
                    _ => return Ok(None),
                },
            };
            end -= length;
            found += 1;
        }
        at = from + end as u64;
    }
    Ok(Some((found, at)))
}

/// Reads records, and how many bytes they are. After `whole` bytes nothing comes any more.
fn decode(format: LogFormat, bytes: &[u8], whole: bool) -> (Vec<Entry>, usize) {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let used = match format {
            LogFormat::Local => match first(rest) {
                Found::Record(record, length) => {
                    let mut text = record.text.to_vec();
                    if !record.partial {
                        text.push(b'\n');
                    }
                    entries.push(Entry { time: record.time as i64, stream: record.stream, text });
                    length
                }
                Found::Short if !whole => 0,
                Found::Short | Found::Damaged => next_record(rest, whole),
            },
            LogFormat::JsonFile => match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    entries.extend(parse(&rest[..end]));
                    end + 1
                }
                None if whole || rest.len() > MAX_LINE => {
                    entries.extend(parse(rest));
                    rest.len()
                }
                None => 0,
            },
        };
        if used == 0 {
            break;
        }
        rest = &rest[used..];
    }
    (entries, bytes.len() - rest.len())
}

/// Where a record begins after what is none. One that is not all there is only taken for one if none follows that is.
fn next_record(bytes: &[u8], whole: bool) -> usize {
    let mut short = None;
    for at in 1..bytes.len() {
        match first(&bytes[at..]) {
            Found::Record(..) => return at,
            Found::Short if !whole && short.is_none() => short = Some(at),
            Found::Short | Found::Damaged => {}
        }
    }
    short.unwrap_or(bytes.len())
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

fn parse(line: &[u8]) -> Option<Entry> {
    const START: &[u8] = b"{\"log\":";
    let line: Line = serde_json::from_slice(line).ok().or_else(|| {
        // A line that was cut off, and another after it.
        let at = line.windows(START.len()).rposition(|part| part == START).filter(|at| *at > 0)?;
        serde_json::from_slice(&line[at..]).ok()
    })?;
    let stream = if line.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
    Some(Entry { time: time::parse(&line.time).unwrap_or_default(), stream, text: line.log.into_bytes() })
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
