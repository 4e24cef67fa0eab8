//! Logs that the monitor's own writer wrote, read back: queries, rotations, compression, damage.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gantry_model::logrecord::{MAX_TEXT, Stream};
use gantry_model::monitor::{LogFile, LogFormat};
use gantry_oci::monitor::Writer;

use super::{Position, Query, Reader, compress_rotated};

const BOTH: Query = Query { stdout: true, stderr: true, since: None, until: None, tail: None, follow: false };

/// A directory that goes with its test.
pub(super) struct Place(pub(super) PathBuf);

impl Place {
    pub(super) fn new(name: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gantry-logs-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn file(&self, format: LogFormat, max_size: u64, max_files: u32) -> LogFile {
        LogFile { path: self.0.join("log").display().to_string(), format, max_size, max_files }
    }

    fn size(&self) -> u64 {
        let entries = std::fs::read_dir(&self.0).unwrap();
        // What is removed meanwhile has no size.
        entries.map(|entry| entry.unwrap().metadata().map_or(0, |found| found.len())).sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Lines `line N` at the time N, the even ones to standard output.
pub(super) fn write(writer: &mut Writer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let stream = if number % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
        writer.take(stream, format!("line {number}\n").as_bytes(), number);
    }
}

fn read(reader: &mut Reader) -> Vec<i64> {
    let mut numbers = Vec::new();
    loop {
        let entries = reader.read().unwrap();
        if entries.is_empty() {
            return numbers;
        }
        for entry in entries {
            assert_eq!(entry.text, format!("line {}\n", entry.time).as_bytes());
            numbers.push(entry.time);
        }
    }
}

#[test]
fn queries() {
    for format in [LogFormat::Local, LogFormat::JsonFile] {
        let place = Place::new("queries");
        let file = place.file(format, 300, 100);
        assert_eq!(read(&mut Reader::open(&file, BOTH).unwrap()), [0; 0]);
        write(&mut Writer::open(file.clone()).unwrap(), 0..50);
        for packed in [false, true] {
            if packed {
                assert!(compress_rotated(&file).unwrap() > 2);
                assert_eq!(compress_rotated(&file).unwrap(), 0);
            }
            let check = |query: Query, expect: std::ops::Range<i64>, step: usize| {
                let found = read(&mut Reader::open(&file, query).unwrap());
                assert_eq!(found, expect.step_by(step).collect::<Vec<_>>(), "{format:?} {packed} {query:?}");
            };
            check(BOTH, 0..50, 1);
            check(Query { stderr: false, ..BOTH }, 0..50, 2);
            for tail in [0, 1, 2, 9, 10, 11, 12, 13, 40, 49, 50, 51] {
                check(Query { tail: Some(tail), ..BOTH }, 50 - (tail.min(50) as i64)..50, 1);
            }
            for since in 0..50 {
                check(Query { since: Some(since), until: Some(44), ..BOTH }, since..45, 1);
            }
        }
    }
}

#[test]
fn parts_of_lines() {
    for format in [LogFormat::Local, LogFormat::JsonFile] {
        let place = Place::new("parts");
        let file = place.file(format, 0, 1);
        let mut writer = Writer::open(file.clone()).unwrap();
        writer.take(Stream::Stdout, format!("{}end\nlast", "x".repeat(MAX_TEXT)).as_bytes(), 1);
        writer.finish(2);
        let entries = Reader::open(&file, BOTH).unwrap().read().unwrap();
        let found: Vec<_> = entries.iter().map(|entry| (entry.bare().len(), entry.is_partial())).collect();
        assert_eq!(found, [(MAX_TEXT, true), (3, false), (4, true)]);
    }
}

#[test]
fn what_is_cut_off_or_damaged() {
    for format in [LogFormat::Local, LogFormat::JsonFile] {
        let place = Place::new("damaged");
        let file = place.file(format, 0, 1);
        write(&mut Writer::open(file.clone()).unwrap(), 0..3);
        let whole = std::fs::read(&file.path).unwrap();
        let check = |bytes: &[u8], expect: &[i64]| {
            std::fs::write(&file.path, bytes).unwrap();
            assert_eq!(read(&mut Reader::open(&file, BOTH).unwrap()), expect, "{format:?}");
            let last = &expect[expect.len().saturating_sub(1)..];
            assert_eq!(read(&mut Reader::open(&file, Query { tail: Some(1), ..BOTH }).unwrap()), last, "{format:?}");
        };
        check(&whole[..whole.len() - 3], &[0, 1]);
        // A monitor was killed while it wrote, and another went on.
        check(&[&whole[..whole.len() - 3], &whole].concat(), &[0, 1, 0, 1, 2]);
        check(&[&[0xff; 40], &b"\n"[..], &whole].concat(), &[0, 1, 2]);
        check(&[], &[]);
        // A compressed piece that is cut off tells what is left of it.
        std::fs::write(&file.path, &whole).unwrap();
        let packed = zstd::encode_all(&whole[..], 1).unwrap();
        std::fs::write(format!("{}.1.zst", file.path), &packed[..packed.len() - 1]).unwrap();
        let found = read(&mut Reader::open(&file, BOTH).unwrap());
        assert_eq!(found[found.len() - 3..], [0, 1, 2]);
        std::fs::write(format!("{}.1.zst", file.path), b"no zstd").unwrap();
        assert_eq!(read(&mut Reader::open(&file, BOTH).unwrap()), [0, 1, 2]);
    }
}

/// Small numbers that look random (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
fn read_across_rotations_without_hole_or_double() {
    let seed = u64::from(std::process::id()) << 20 | 0x5eed;
    println!("seed {seed}");
    let mut random = Random(seed);
    for format in [LogFormat::Local, LogFormat::JsonFile] {
        let place = Place::new("random");
        let file = place.file(format, 2000, 10_000);
        let mut writer = Writer::open(file.clone()).unwrap();
        let mut reader = Reader::open(&file, BOTH).unwrap();
        let (mut next, mut found) = (0, Vec::new());
        for _ in 0..600 {
            match random.below(12) {
                0..6 => {
                    let count = random.below(40);
                    write(&mut writer, next..next + count);
                    next += count;
                }
                6..8 => {
                    found.extend(reader.read().unwrap().iter().map(|entry| entry.time));
                }
                8 => found.extend(read(&mut reader)),
                9 => {
                    compress_rotated(&file).unwrap();
                }
                10 => reader = Reader::resume(&file, reader.position()),
                _ => writer = Writer::open(file.clone()).unwrap(),
            }
        }
        found.extend(read(&mut reader));
        assert_eq!(found, (0..next as i64).collect::<Vec<_>>(), "{format:?}, seed {seed}");
    }
}

#[test]
fn followed_while_it_is_written_rotated_and_compressed() {
    let place = Place::new("followed");
    let file = place.file(LogFormat::Local, 20_000, 10_000);
    let over = AtomicBool::new(false);
    let count = 30_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = Writer::open(file.clone()).unwrap();
            for from in (0..count).step_by(10) {
                write(&mut writer, from..from + 10);
            }
            over.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                compress_rotated(&file).unwrap();
            }
        });
        let mut reader = Reader::open(&file, BOTH).unwrap();
        let mut found = Vec::new();
        loop {
            let last = over.load(Ordering::Acquire);
            found.extend(read(&mut reader));
            if last {
                break;
            }
        }
        assert!(found.iter().copied().eq(0..count as i64), "{} of {count}", found.len());
    });
}

#[test]
fn the_bound_holds_though_the_writer_is_faster_than_the_compressor() {
    let place = Place::new("bound");
    let options = [("max-size", "100k"), ("max-file", "5")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let plan = super::options("local", &options).unwrap();
    assert!(plan.compress);
    let file = LogFile { path: place.0.join("log").display().to_string(), ..plan.file.unwrap() };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = Writer::open(file.clone()).unwrap();
            let mut random = Random(7);
            for number in 0..40_000_u64 {
                // Hardly to be compressed.
                let text = format!("{:016x}{:016x}\n", random.below(u64::MAX), random.below(u64::MAX));
                writer.take(Stream::Stdout, text.as_bytes(), number);
            }
            over.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                compress_rotated(&file).unwrap();
            }
        });
        while !over.load(Ordering::Acquire) {
            // A file that is renamed while the directory is read may be counted twice.
            let size = place.size().min(place.size()).min(place.size());
            assert!(size <= 500 << 10, "{size}");
        }
    });
    compress_rotated(&file).unwrap();
    assert_eq!(std::fs::read_dir(&place.0).unwrap().count(), 5);
    assert!(place.size() < 400 << 10);
}

#[test]
fn places_that_are_gone() {
    let place = Place::new("gone");
    let file = place.file(LogFormat::Local, 300, 3);
    let mut writer = Writer::open(file.clone()).unwrap();
    write(&mut writer, 0..5);
    let mut reader = Reader::open(&file, BOTH).unwrap();
    assert_eq!(read(&mut reader), [0, 1, 2, 3, 4]);
    let position = reader.position();
    write(&mut writer, 5..100);
    let rest = read(&mut Reader::resume(&file, position));
    assert!(rest.len() < 95 && rest.iter().copied().eq(100 - rest.len() as i64..100), "{rest:?}");
    let found = read(&mut Reader::resume(&file, Position { number: 1, offset: 1 << 40 }));
    assert_eq!(found, rest);
}
