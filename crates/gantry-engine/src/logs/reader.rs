//! A log read from all of its files, the oldest first, and on into those that come.

use std::collections::VecDeque;
use std::fs::File;

use gantry_model::logrecord::Stream;
use gantry_model::monitor::LogFile;

use super::piece::Piece;
use super::{Entry, Query};
use crate::error::{Context, Result};

/// How often the files are opened anew because they were renamed meanwhile.
const TRIES: usize = 16;

/// Reads a log.
#[derive(Debug)]
pub struct Reader {
    file: LogFile,
    query: Query,
    /// Files that are still to be read; the first is being read, the last was the newest when it was opened.
    pieces: VecDeque<Piece>,
    over: bool,
}

impl Reader {
    /// Opens a log. One that nothing was written to is empty.
    pub fn open(file: &LogFile, query: Query) -> Result<Self> {
        let mut pieces = open_all(file)?;
        if let Some(tail) = query.tail {
            let mut wanted = tail;
            let mut kept = VecDeque::new();
            while let Some(mut piece) = pieces.pop_back() {
                let what = || format!("read log {}", file.path);
                let found = piece.seek_tail(wanted).context(what)?;
                wanted -= found;
                kept.push_front(piece);
                if wanted == 0 {
                    break;
                }
            }
            pieces = kept;
        }
        Ok(Self { file: file.clone(), query, pieces, over: false })
    }

    /// Whether nothing more can come that is wanted.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The next entries; nothing at what is now the end.
    pub fn next(&mut self) -> Result<Vec<Entry>> {
        let path = self.file.path.clone();
        let what = || format!("read log {path}");
        loop {
            let Some(piece) = self.pieces.front_mut() else {
                // The log did not exist, or has been rotated away.
                self.pieces = open_all(&self.file)?;
                if self.pieces.is_empty() {
                    return Ok(Vec::new());
                }
                continue;
            };
            let entries = piece.next().context(what)?;
            if entries.is_empty() {
                if self.pieces.len() > 1 {
                    self.pieces.pop_front();
                    continue;
                }
                if self.newer()? {
                    continue;
                }
                return Ok(Vec::new());
            }
            let wanted: Vec<Entry> = entries.into_iter().filter(|entry| self.wants(entry)).collect();
            if self.over || !wanted.is_empty() {
                return Ok(wanted);
            }
        }
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

    /// Takes up files that came after the one that is being read; whether there are any.
    fn newer(&mut self) -> Result<bool> {
        let what = || format!("read log {}", self.file.path);
        let Some(current) = self.pieces.front() else { return Ok(false) };
        let current = current.identity().context(what)?;
        let mut all = open_all(&self.file)?;
        let mut place = None;
        for (index, piece) in all.iter().enumerate() {
            if piece.identity().context(what)? == current {
                place = Some(index);
            }
        }
        match place {
            // It is still the newest.
            Some(index) if index + 1 == all.len() => Ok(false),
            // What was written to it before it was renamed is read first: it stays in front.
            Some(index) => {
                self.pieces.extend(all.drain(index + 1..));
                Ok(true)
            }
            // It is gone, with others: what is left is read.
            None => {
                let any = !all.is_empty();
                self.pieces.extend(all);
                Ok(any)
            }
        }
    }
}

/// Opens all files, the oldest first. They are renamed while that is done, perhaps; then it is done again.
fn open_all(file: &LogFile) -> Result<VecDeque<Piece>> {
    let what = || format!("open log {}", file.path);
    for _ in 0..TRIES {
        let mut pieces = VecDeque::new();
        let mut identities = Vec::new();
        // The newest first: a file that is renamed meanwhile is seen twice, never not at all.
        for number in 0..file.max_files.max(1) {
            let path = if number == 0 { file.path.clone() } else { format!("{}.{number}", file.path) };
            match File::open(&path) {
                Ok(opened) => {
                    let piece = Piece::new(opened, file.format);
                    identities.push(piece.identity().context(what)?);
                    pieces.push_front(piece);
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    if number > 0 {
                        break;
                    }
                }
                Err(error) => return Err(error).context(what),
            }
        }
        let mut sorted = identities.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() == identities.len() {
            return Ok(pieces);
        }
    }
    Ok(VecDeque::new())
}

/// Nanoseconds since 1970 of a time as log files have it: `2026-01-02T03:04:05.000000006Z`.
pub(super) fn time(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let fraction = text.get(19..)?.trim_end_matches('Z').trim_start_matches('.');
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    seconds.checked_mul(1_000_000_000)?.checked_add(digits.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_model::logrecord::Record;
    use gantry_model::monitor::LogFormat;
    use std::io::Write as _;
    use std::path::{Path, PathBuf};

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gantry-logs-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, format: LogFormat) -> LogFile {
            LogFile { path: self.0.join("log").display().to_string(), format, max_size: 0, max_files: 5 }
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn write(path: &str, format: LogFormat, numbers: std::ops::Range<u64>) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        for number in numbers {
            let text = format!("line {number}");
            let stream = if number % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
            match format {
                LogFormat::Local => {
                    let record = Record { time: number, stream, partial: false, text: text.as_bytes() };
                    let (head, tail) = record.frame();
                    file.write_all(&[&head[..], text.as_bytes(), &tail[..]].concat()).unwrap();
                }
                LogFormat::JsonFile => {
                    let time = format!("1970-01-01T00:00:00.{number:09}Z");
                    let stream = stream.as_str();
                    writeln!(file, "{{\"log\":\"{text}\\n\",\"stream\":\"{stream}\",\"time\":\"{time}\"}}").unwrap();
                }
            }
        }
    }

    fn rotate(path: &str) {
        for number in (1..4).rev() {
            let _ = std::fs::rename(format!("{path}.{number}"), format!("{path}.{}", number + 1));
        }
        std::fs::rename(path, format!("{path}.1")).unwrap();
        assert!(!Path::new(path).exists());
    }

    fn all(reader: &mut Reader) -> Vec<i64> {
        let mut numbers = Vec::new();
        loop {
            let entries = reader.next().unwrap();
            if entries.is_empty() {
                return numbers;
            }
            for entry in entries {
                assert_eq!(entry.text, format!("line {}\n", entry.time).as_bytes());
                numbers.push(entry.time);
            }
        }
    }

    const BOTH: Query = Query { stdout: true, stderr: true, since: None, until: None, tail: None, follow: false };

    #[test]
    fn queries() {
        for format in [LogFormat::Local, LogFormat::JsonFile] {
            let place = Place::new(&format!("queries-{format:?}"));
            let file = place.file(format);
            assert_eq!(all(&mut Reader::open(&file, BOTH).unwrap()), [0; 0]);
            write(&file.path, format, 0..5);
            rotate(&file.path);
            write(&file.path, format, 5..10);
            rotate(&file.path);
            write(&file.path, format, 10..12);
            let check = |query: Query, expect: &[i64]| {
                assert_eq!(all(&mut Reader::open(&file, query).unwrap()), expect, "{query:?}");
            };
            check(BOTH, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
            check(Query { stderr: false, ..BOTH }, &[0, 2, 4, 6, 8, 10]);
            check(Query { since: Some(8), until: Some(10), ..BOTH }, &[8, 9, 10]);
            check(Query { tail: Some(0), ..BOTH }, &[]);
            check(Query { tail: Some(1), ..BOTH }, &[11]);
            check(Query { tail: Some(4), ..BOTH }, &[8, 9, 10, 11]);
            check(Query { tail: Some(8), ..BOTH }, &[4, 5, 6, 7, 8, 9, 10, 11]);
            check(Query { tail: Some(100), ..BOTH }, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        }
    }

    #[test]
    fn followed_across_rotations() {
        for format in [LogFormat::Local, LogFormat::JsonFile] {
            let place = Place::new(&format!("followed-{format:?}"));
            let file = place.file(format);
            let mut reader = Reader::open(&file, BOTH).unwrap();
            let (mut next, mut expect) = (0, Vec::new());
            let mut found = Vec::new();
            for round in 0..60 {
                let count = round % 7;
                write(&file.path, format, next..next + count);
                expect.extend((next..next + count).map(|number| number as i64));
                next += count;
                if round % 3 == 0 {
                    found.extend(all(&mut reader));
                }
                if round % 4 == 0 {
                    rotate(&file.path);
                }
            }
            found.extend(all(&mut reader));
            assert_eq!(found, expect);
        }
    }

    #[test]
    fn what_is_cut_off_or_damaged() {
        let place = Place::new("damaged");
        let file = place.file(LogFormat::Local);
        write(&file.path, LogFormat::Local, 0..3);
        let whole = std::fs::read(&file.path).unwrap();
        std::fs::write(&file.path, &whole[..whole.len() - 3]).unwrap();
        assert_eq!(all(&mut Reader::open(&file, BOTH).unwrap()), [0, 1]);
        assert_eq!(all(&mut Reader::open(&file, Query { tail: Some(1), ..BOTH }).unwrap()), [1]);
        std::fs::write(&file.path, [&whole[..], &[0xff; 40]].concat()).unwrap();
        assert_eq!(all(&mut Reader::open(&file, BOTH).unwrap()), [0, 1, 2]);
    }

    #[test]
    fn times() {
        assert_eq!(time("1970-01-02T00:00:01.5Z"), Some(86_401_500_000_000));
        assert_eq!(time("2024-02-29T12:00:00.000000001Z"), Some(1_709_208_000_000_000_001));
        assert_eq!(time("x"), None);
    }
}
