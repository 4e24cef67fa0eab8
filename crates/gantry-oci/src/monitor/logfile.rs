//! The log of a process: lines cut out of its output, in files that are rotated, so that they cannot fill a disk.
//!
//! A file that is rotated away gets a number after its path that no other had, and keeps it. So whoever reads or compresses
//! it never meets another under the name, and neither waits for the other: compressed, it is `PATH.N.zst`, which comes
//! into being whole before `PATH.N` goes. Removed are first the one, and then the other.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use gantry_model::logrecord::{MAX_TEXT, Record, Stream};
use gantry_model::monitor::{LogFile, LogFormat};

use crate::time::rfc3339_nano;

/// What is written at once.
const BATCH: usize = 64 << 10;

/// A log that is being written.
#[derive(Debug)]
pub struct Writer {
    spec: LogFile,
    file: Option<File>,
    /// Bytes in the newest file.
    size: u64,
    /// Numbers of older files, the oldest first.
    older: VecDeque<u64>,
    /// The number that the newest file gets when it is rotated away.
    next: u64,
    /// Lines that have not ended, one a stream.
    lines: [Vec<u8>; 2],
    /// Records that are not written yet.
    batch: Vec<u8>,
    /// Bytes of records that could not be written since the last that could.
    lost: u64,
}

impl Writer {
    /// Opens a log, to go on where it ends.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(spec: LogFile) -> io::Result<Self> {
        let file = open(&spec.path)?;
        let size = file.metadata()?.len();
        let older = numbers(&spec.path)?;
        let next = older.back().map_or(1, |last| last + 1);
        let lines = [Vec::new(), Vec::new()];
        Ok(Self { spec, file: Some(file), size, older, next, lines, batch: Vec::new(), lost: 0 })
    }

    /// Takes what was written to a stream at a time, in nanoseconds since 1970. Errors cost lines of the log, which a
    /// later line tells of, and never hold the process up.
    pub fn take(&mut self, stream: Stream, mut bytes: &[u8], time: u64) {
        while !bytes.is_empty() {
            let held = self.lines[place(stream)].len();
            let room = MAX_TEXT - held;
            let end = bytes.iter().take(room + 1).position(|byte| *byte == b'\n');
            let (part, rest, partial) = match end {
                Some(at) => (&bytes[..at], &bytes[at + 1..], false),
                None if bytes.len() > room => (&bytes[..room], &bytes[room..], true),
                None => {
                    self.lines[place(stream)].extend_from_slice(bytes);
                    break;
                }
            };
            if held == 0 {
                self.record(&Record { time, stream, partial, text: part });
            } else {
                let mut line = std::mem::take(&mut self.lines[place(stream)]);
                line.extend_from_slice(part);
                self.record(&Record { time, stream, partial, text: &line });
                line.clear();
                self.lines[place(stream)] = line;
            }
            bytes = rest;
        }
        self.flush();
    }

    /// Writes what is left of lines that never ended.
    pub fn finish(&mut self, time: u64) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let line = std::mem::take(&mut self.lines[place(stream)]);
            if !line.is_empty() {
                // Nothing follows: the line is as whole as it gets, but had no end.
                self.record(&Record { time, stream, partial: true, text: &line });
            }
        }
        self.flush();
    }

    fn record(&mut self, record: &Record<'_>) {
        let before = self.batch.len();
        encode(self.spec.format, record, &mut self.batch);
        let length = (self.batch.len() - before) as u64;
        let full = self.spec.max_size > 0 && self.size + before as u64 + length > self.spec.max_size;
        if full && self.size + before as u64 > 0 {
            // What came before belongs into the old file.
            let last = self.batch.split_off(before);
            self.flush();
            self.rotate();
            self.batch.extend_from_slice(&last);
        }
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        if self.lost > 0 {
            self.tell_of_loss(&batch);
        }
        if self.append(&batch).is_err() {
            self.lost += batch.len() as u64;
        }
        self.batch = batch;
        self.batch.clear();
    }

    /// A record for what is missing, with the stream of errors, before what can be written again.
    fn tell_of_loss(&mut self, next: &[u8]) {
        let text = format!("gantry: {} bytes of this log were lost: they could not be written to disk", self.lost);
        let mut record = Vec::new();
        let time = match self.spec.format {
            LogFormat::Local => {
                next.get(4..12).map_or(0, |b| b.iter().rev().fold(0, |sum, b| sum << 8 | u64::from(*b)))
            }
            LogFormat::JsonFile => 0,
        };
        encode(
            self.spec.format,
            &Record { time, stream: Stream::Stderr, partial: false, text: text.as_bytes() },
            &mut record,
        );
        if self.append(&record).is_ok() {
            self.lost = 0;
        }
    }

    /// Appends whole records, or nothing.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(open(&self.spec.path)?);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        match file.write_all(bytes) {
            Ok(()) => {
                self.size += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                let _ = file.set_len(self.size);
                Err(error)
            }
        }
    }

    /// Gives the file its number, and begins a new one. The oldest goes.
    fn rotate(&mut self) {
        let path = &self.spec.path;
        self.file = None;
        self.size = 0;
        let kept = self.spec.max_files.max(1) as usize - 1;
        if kept == 0 {
            let _ = std::fs::remove_file(path);
        } else if std::fs::rename(path, format!("{path}.{}", self.next)).is_ok() {
            self.older.push_back(self.next);
            self.next += 1;
        }
        while self.older.len() > kept {
            let Some(oldest) = self.older.pop_front() else { break };
            // In this order: a compressor that finds the first gone takes the second away itself.
            let _ = std::fs::remove_file(format!("{path}.{oldest}"));
            let _ = std::fs::remove_file(format!("{path}.{oldest}.zst"));
        }
        match open(path) {
            // Where nothing could be moved away, the bound still holds.
            Ok(file) => {
                let _ = file.set_len(0);
                self.file = Some(file);
            }
            Err(_) => self.file = None,
        }
    }
}

/// The numbers of a log's older files, the oldest first.
fn numbers(path: &str) -> io::Result<VecDeque<u64>> {
    let path = Path::new(path);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(VecDeque::new()) };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?.file_name();
        let number = entry.to_str().zip(name.to_str()).and_then(|(entry, name)| {
            let number = entry.strip_prefix(name)?.strip_prefix('.')?;
            number.strip_suffix(".zst").unwrap_or(number).parse::<u64>().ok()
        });
        // The last number of all has no next.
        found.extend(number.filter(|number| *number < u64::MAX));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found.into())
}

const fn place(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

fn open(path: &str) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn encode(format: LogFormat, record: &Record<'_>, out: &mut Vec<u8>) {
    match format {
        LogFormat::Local => {
            let (head, tail) = record.frame();
            out.extend_from_slice(&head);
            out.extend_from_slice(record.text);
            out.extend_from_slice(&tail);
        }
        LogFormat::JsonFile => {
            out.extend_from_slice(b"{\"log\":\"");
            escape(record.text, out);
            out.extend_from_slice(if record.partial { b"\"" } else { b"\\n\"" });
            let time = rfc3339_nano(UNIX_EPOCH + Duration::from_nanos(record.time));
            let _ = writeln!(out, ",\"stream\":\"{}\",\"time\":\"{time}\"}}", record.stream.as_str());
        }
    }
}

/// The inside of a JSON string. What is no UTF-8 becomes the replacement character.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\t' => out.extend_from_slice(b"\\t"),
                b'\r' => out.extend_from_slice(b"\\r"),
                0..0x20 | b'<' | b'>' | b'&' => {
                    let _ = write!(out, "\\u{byte:04x}");
                }
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_model::logrecord::{Found, first};
    use std::path::{Path, PathBuf};

    /// A directory that goes with its test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gantry-logfile-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn writer(&self, format: LogFormat, max_size: u64, max_files: u32) -> Writer {
            Writer::open(LogFile { path: self.path(), format, max_size, max_files }).unwrap()
        }

        fn path(&self) -> String {
            self.0.join("log").to_str().unwrap().to_owned()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn lines(path: impl AsRef<Path>) -> Vec<String> {
        let bytes = std::fs::read(path).unwrap();
        let mut rest = &bytes[..];
        let mut lines = Vec::new();
        while let Found::Record(record, length) = first(rest) {
            let end = if record.partial { "+" } else { "" };
            lines.push(format!("{}:{}{end}", record.stream.number(), String::from_utf8_lossy(record.text)));
            rest = &rest[length..];
        }
        assert!(rest.is_empty(), "{rest:?}");
        lines
    }

    #[test]
    fn output_becomes_lines() {
        use Stream::{Stderr, Stdout};
        let check = |name: &str, writes: &[(Stream, &str)], expect: &[&str]| {
            let scratch = Scratch::new(name);
            let mut writer = scratch.writer(LogFormat::Local, 0, 1);
            for (stream, text) in writes {
                writer.take(*stream, text.as_bytes(), 1);
            }
            writer.finish(2);
            assert_eq!(lines(scratch.path()), expect, "{name}");
        };
        check("plain", &[(Stdout, "a\nb\n")], &["1:a", "1:b"]);
        check("split", &[(Stdout, "a"), (Stderr, "x\n"), (Stdout, "b\nc")], &["2:x", "1:ab", "1:c+"]);
        check("empty", &[(Stdout, "\n\n")], &["1:", "1:"]);
        let long = "y".repeat(MAX_TEXT);
        check("long", &[(Stdout, &format!("{long}z\n"))], &[&format!("1:{long}+"), "1:z"]);
        check("exact", &[(Stdout, &format!("{long}\n"))], &[&format!("1:{long}")]);
        check("exact, later", &[(Stdout, &long), (Stdout, "\n")], &[&format!("1:{long}")]);
        check("long, split", &[(Stdout, &long[1..]), (Stdout, "yz\n")], &[&format!("1:{long}+"), "1:z"]);
    }

    #[test]
    fn files_are_rotated_and_bounded() {
        let scratch = Scratch::new("rotate");
        let mut writer = scratch.writer(LogFormat::Local, 100, 3);
        for number in 0..12 {
            // Four records of 24 bytes fit.
            writer.take(Stream::Stdout, format!("{number:04}\n").as_bytes(), 1);
        }
        let path = scratch.path();
        std::fs::rename(format!("{path}.1"), format!("{path}.1.zst")).unwrap();
        assert_eq!(lines(format!("{path}.1.zst")), ["1:0000", "1:0001", "1:0002", "1:0003"]);
        assert_eq!(lines(format!("{path}.2")), ["1:0004", "1:0005", "1:0006", "1:0007"]);
        assert_eq!(lines(&path), ["1:0008", "1:0009", "1:0010", "1:0011"]);
        // Another writer goes on with the numbers.
        drop(writer);
        let mut writer = scratch.writer(LogFormat::Local, 100, 3);
        writer.take(Stream::Stdout, b"0012\n", 1);
        assert_eq!(lines(&path), ["1:0012"]);
        assert_eq!(lines(format!("{path}.3")), ["1:0008", "1:0009", "1:0010", "1:0011"]);
        assert_eq!(lines(format!("{path}.2")), ["1:0004", "1:0005", "1:0006", "1:0007"]);
        assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 3);
        drop(writer);
        let mut writer = scratch.writer(LogFormat::Local, 100, 1);
        writer.take(Stream::Stdout, "n\n".repeat(4).as_bytes(), 1);
        assert!(std::fs::metadata(scratch.path()).unwrap().len() <= 100);
    }

    #[test]
    fn json_is_as_other_engines_write_it() {
        let scratch = Scratch::new("json");
        let mut writer = scratch.writer(LogFormat::JsonFile, 0, 1);
        writer.take(Stream::Stderr, b"a \"<\\\x01\xff\n", 1_500_000_000);
        let text = std::fs::read_to_string(scratch.path()).unwrap();
        let expect = r#"{"log":"a \"\u003c\\\u0001\ufffd\n","stream":"stderr","time":"1970-01-01T00:00:01.5Z"}"#;
        assert_eq!(text, format!("{expect}\n"));
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn a_full_disk_costs_lines_and_is_told() {
        let scratch = Scratch::new("full");
        let mut writer = scratch.writer(LogFormat::Local, 0, 1);
        writer.take(Stream::Stdout, b"one\n", 1);
        writer.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        writer.take(Stream::Stdout, b"two\n", 1);
        writer.file = None;
        writer.take(Stream::Stdout, b"three\n", 1);
        let told = "2:gantry: 23 bytes of this log were lost: they could not be written to disk";
        assert_eq!(lines(scratch.path()), ["1:one", told, "1:three"]);
    }
}
