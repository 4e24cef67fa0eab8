//! Images read back, without a kernel.

use crate::model::{Step, What, apply, build, compare, expect};
use crate::{reader, sample};
use gantry_erofs::{Attributes, Builder, Found, Kind, Limits, Options, Time};
use std::io::{Cursor, Read as _, Seek, SeekFrom, Write};
use std::time::{SystemTime, UNIX_EPOCH};

fn plain() -> Attributes {
    Attributes { mode: 0o644, ..Attributes::default() }
}

#[test]
fn everything_is_read_back() {
    let steps = sample::everything();
    for inline in [0, 100, 2048, u16::MAX] {
        let (image, summary) = build(&steps, Options { inline, ..Options::default() }).unwrap();
        compare(&reader::read(&image), &expect(&steps), &format!("inline {inline}"));
        assert_eq!(image.len() as u64, summary.size);
    }
}

#[test]
fn the_same_entries_make_the_same_image() {
    let steps = sample::everything();
    let (image, summary) = build(&steps, Options::default()).unwrap();
    assert_eq!(build(&steps, Options::default()).unwrap().0, image);
    assert_eq!(image[1024 + 48..1024 + 64], summary.uuid);
    // Every byte counts for the name.
    let mut other = steps.clone();
    other.push(Step::Add(b"files/1".to_vec(), What::File(vec![0]), plain()));
    let changed = build(&other, Options::default()).unwrap().1.uuid;
    other.pop();
    other.push(Step::Add(b"files/1".to_vec(), What::File(vec![1]), plain()));
    assert_ne!(build(&other, Options::default()).unwrap().1.uuid, changed);
    // But not when there is a name already.
    let named = Options { uuid: Some([7; 16]), ..Options::default() };
    assert_eq!(build(&steps, named).unwrap().1.uuid, [7; 16]);
}

#[test]
fn random_images_are_read_back() {
    let seed = std::env::var("GANTRY_SEED").ok().and_then(|text| text.parse().ok());
    #[allow(clippy::disallowed_methods)] // a new seed each time, and printed
    let seed = seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
    println!("GANTRY_SEED={seed}");
    let mut random = sample::Random(seed);
    for round in 0..30 {
        let count = 1 + random.below(120) as usize;
        let steps = sample::random(&mut random, count);
        let options = Options { inline: random.below(4100) as u16, ..Options::default() };
        let (image, _) = build(&steps, options).unwrap();
        compare(&reader::read(&image), &expect(&steps), &format!("seed {seed}, round {round}"));
    }
}

#[test]
fn large_directories() {
    let mut builder = Builder::new(Cursor::new(Vec::new()), Options::default()).unwrap();
    for index in 0..70_000 {
        // Not in order.
        let name = format!("large/{:05}", index * 7919 % 70_000);
        builder.add(name.as_bytes(), Kind::Fifo, plain()).unwrap();
    }
    let image = builder.finish().unwrap().0.into_inner();
    let tree = reader::read(&image);
    assert_eq!(tree.len(), 70_002);
    assert!((0..70_000).all(|index| tree[format!("large/{index:05}").as_bytes()].what == What::Fifo));
}

/// Keeps the beginning of each block, and knows how long it is: for images that no memory holds.
#[derive(Default)]
struct Sparse {
    position: u64,
    end: u64,
    first: Vec<u8>,
    written: u64,
}

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.position < 4096 {
            self.first.resize(4096, 0);
            let count = bytes.len().min(4096 - self.position as usize);
            self.first[self.position as usize..][..count].copy_from_slice(&bytes[..count]);
        }
        self.position += bytes.len() as u64;
        self.written += bytes.len() as u64;
        self.end = self.end.max(self.position);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => self.position.checked_add_signed(by).unwrap(),
            SeekFrom::End(by) => self.end.checked_add_signed(by).unwrap(),
        };
        Ok(self.position)
    }
}

#[test]
fn huge_files() {
    let check = |size: u64, fits: bool| {
        let mut builder = Builder::new(Sparse::default(), Options::default()).unwrap();
        let added = builder.add(b"huge", Kind::File(size), plain());
        assert_eq!(added.is_ok(), fits, "{size}: {added:?}");
        if let Err(error) = added {
            assert!(error.to_string().contains("keep this layer as a directory"));
            return;
        }
        builder.data(b"begin").unwrap();
        builder.hole(size - 10).unwrap();
        builder.data(b"end!!").unwrap();
        builder.add(b"behind", Kind::File(4096), plain()).unwrap();
        builder.data(&[1; 4096]).unwrap();
        let (out, summary) = builder.finish().unwrap();
        assert_eq!(out.end, summary.size);
        assert!(summary.size > size && out.written < 5 << 20, "{size}: {summary:?}, {} written", out.written);
    };
    check(5 << 30, true);
    check(10 << 40, true);
    check(16 << 40, false);
    check(u64::MAX, false);
}

#[test]
fn holes_are_zeros() {
    let holes = [(0, 3_000_000), (5, 3_000_000), (5000, 2_000_001), (4096, 1_200_000), (0, 4096), (10, 20), (0, 1)];
    let mut builder = Builder::new(Cursor::new(Vec::new()), Options::default()).unwrap();
    let mut steps = Vec::new();
    for (index, (data, hole)) in holes.into_iter().enumerate() {
        for end in [0, 1, 5000] {
            let name = format!("{index}-{end}").into_bytes();
            builder.add(&name, Kind::File((data + hole + end) as u64), plain()).unwrap();
            builder.data(&vec![1; data]).unwrap();
            builder.hole(hole as u64).unwrap();
            builder.data(&vec![2; end]).unwrap();
            let content = [vec![1; data], vec![0; hole], vec![2; end]].concat();
            steps.push(Step::Add(name, What::File(content), plain()));
        }
    }
    let image = builder.finish().unwrap().0.into_inner();
    compare(&reader::read(&image), &expect(&steps), "holes");
}

#[test]
fn half_an_image_is_none() {
    let mut out = Cursor::new(Vec::new());
    let mut builder = Builder::new(&mut out, Options::default()).unwrap();
    for step in sample::everything() {
        apply(&mut builder, &step).unwrap();
    }
    drop(builder);
    assert!(out.get_ref().iter().take(4096).all(|byte| *byte == 0));
}

#[test]
fn refused() {
    let check = |path: &[u8], kind: Kind<'_>, attributes: Attributes, expect: &str| {
        let mut builder = Builder::new(Cursor::new(Vec::new()), Options::default()).unwrap();
        builder.add(b"file", Kind::Fifo, plain()).unwrap();
        builder.add(b"directory", Kind::Directory, plain()).unwrap();
        let error = builder.add(path, kind, attributes).expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}");
        // What was refused has changed nothing.
        let image = builder.finish().unwrap().0.into_inner();
        assert_eq!(reader::read(&image).len(), 3, "{expect}");
    };
    let xattr = |name: &str, length| Attributes { xattrs: vec![(name.into(), vec![0; length])], ..plain() };
    check(b"../out", Kind::Fifo, plain(), "\"../out\": the path leads out of its directory");
    check(b"directory/..", Kind::Fifo, plain(), "leads out");
    check(b"a\0b", Kind::Fifo, plain(), "NUL");
    check(&[b'n'; 256], Kind::Fifo, plain(), "longer than 255 bytes");
    check(b"/", Kind::Fifo, plain(), "the root is a directory");
    check(b".", Kind::Link(b"file"), plain(), "the root is a directory");
    check(b"file/below", Kind::Fifo, plain(), "a part of the path is no directory");
    check(b"link", Kind::Link(b"nothing"), plain(), "a hard link to \"nothing\", which does not exist");
    check(b"link", Kind::Link(b"file/nothing"), plain(), "does not exist");
    check(b"link", Kind::Link(b"directory"), plain(), "a hard link to a directory");
    check(b"link", Kind::Symlink(b""), plain(), "has no target");
    check(b"link", Kind::Symlink(b"a\0b"), plain(), "NUL");
    check(b"link", Kind::Symlink(&[b'l'; 4096]), plain(), "longer than 4095 bytes");
    check(b"device", Kind::Char(4096, 0), plain(), "device number");
    check(b"device", Kind::Block(0, 1 << 20), plain(), "device number");
    check(b"mode", Kind::Fifo, Attributes { mode: 0o10_000, ..plain() }, "more than permission bits");
    let mtime = Time { seconds: 0, nanos: 1_000_000_000 };
    check(b"time", Kind::Fifo, Attributes { mtime, ..plain() }, "nanoseconds");
    check(b"xattr", Kind::Fifo, xattr("com.apple.a", 1), "\"com.apple.a\": no kind of attribute");
    check(b"xattr", Kind::Directory, xattr("user.a", 65_536), "longer than 65,535 bytes");
    check(b"/", Kind::Directory, xattr("user.a", 2880), "attributes of the root");
}

#[test]
fn sizes_must_be_kept() {
    let mut builder = Builder::new(Cursor::new(Vec::new()), Options::default()).unwrap();
    assert!(builder.data(b"x").unwrap_err().to_string().contains("no file that expects data"));
    assert!(builder.hole(1).unwrap_err().to_string().contains("no file that expects data"));
    builder.add(b"a", Kind::File(5000), plain()).unwrap();
    builder.data(&[1; 4999]).unwrap();
    let error = builder.add(b"b", Kind::Fifo, plain()).unwrap_err().to_string();
    assert!(error.contains("announced with 5000 bytes and got less"), "{error}");
    assert!(builder.data(&[1; 2]).unwrap_err().to_string().contains("got more"));
    let mut builder = Builder::new(Cursor::new(Vec::new()), Options::default()).unwrap();
    builder.add(b"a", Kind::File(5000), plain()).unwrap();
    builder.hole(4999).unwrap();
    assert!(builder.hole(2).unwrap_err().to_string().contains("got more"));
    let mut builder = Builder::new(Cursor::new(Vec::new()), Options::default()).unwrap();
    builder.add(b"a", Kind::File(1), plain()).unwrap();
    assert!(builder.finish().unwrap_err().to_string().contains("got less"));
    let mut builder = Builder::new(Cursor::new(Vec::new()), Options::default()).unwrap();
    assert!(builder.file(b"a", plain(), 10, &mut b"short".take(9)).is_err());
}

#[test]
fn limits() {
    let check = |limits: Limits, expect: &str| {
        let options = Options { limits, ..Options::default() };
        let error = build(&sample::everything(), options).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(Limits { entries: 100, ..Limits::default() }, "the number of entries exceeds the limit of 100");
    check(Limits { depth: 200, ..Limits::default() }, "the depth in directories exceeds the limit of 200");
    check(Limits { held: 1000, ..Limits::default() }, "texts of symbolic links exceeds the limit of 1000");
}

#[test]
fn implied_directories_are_told() {
    let mut builder = Builder::new(Cursor::new(Vec::new()), Options::default()).unwrap();
    builder.add(b"a/b/c", Kind::Fifo, plain()).unwrap();
    builder.add(b"a/d/e", Kind::Fifo, plain()).unwrap();
    builder.add(b"a/b", Kind::Directory, plain()).unwrap();
    builder.add(b"f/g/h", Kind::Fifo, plain()).unwrap();
    builder.add(b"f", Kind::Fifo, plain()).unwrap();
    assert_eq!(builder.implied(), [&b""[..], b"a", b"a/d"]);
    builder.add(b"", Kind::Directory, plain()).unwrap();
    assert_eq!(builder.implied(), [&b"a"[..], b"a/d"]);
    let find = |path: &[u8]| builder.find(path).unwrap();
    assert_eq!((find(b"a/d/"), find(b"/")), (Some(Found::Directory), Some(Found::Directory)));
    assert_eq!((find(b"/a/b/c"), find(b"f/g")), (Some(Found::Other), None));
}
