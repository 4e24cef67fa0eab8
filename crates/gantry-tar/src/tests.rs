//! Archives that are read, refused, and written and read back.

use crate::{Entry, Extent, Kind, Limits, Reader, Time, Writer};
use std::io::Read as _;

/// All entries of an archive with their data.
fn read(archive: &[u8]) -> crate::Result<Vec<(Entry, Vec<u8>)>> {
    read_with(archive, Limits::default())
}

fn read_with(archive: &[u8], limits: Limits) -> crate::Result<Vec<(Entry, Vec<u8>)>> {
    // Pieces of an odd size, so that headers straddle them.
    let mut reader = Reader::with_limits(std::io::BufReader::with_capacity(77, archive), limits);
    let mut entry = Entry::default();
    let mut all = Vec::new();
    while reader.read_entry(&mut entry)? {
        let mut data = Vec::new();
        reader.data().read_to_end(&mut data)?;
        all.push((entry.clone(), data));
    }
    Ok(all)
}

fn write(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.append(entry, data).unwrap();
    }
    writer.finish().unwrap()
}

fn file(path: impl AsRef<[u8]>, data: &[u8]) -> (Entry, Vec<u8>) {
    let entry = Entry { path: path.as_ref().to_vec(), mode: 0o644, size: data.len() as u64, ..Entry::default() };
    (entry, data.to_vec())
}

/// A header that the writer would not write.
fn raw(name: &[u8], flag: u8, size: &[u8], data: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..124 + size.len()].copy_from_slice(size);
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum = crate::header::checksum(&block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = block.to_vec();
    archive.extend_from_slice(data);
    archive.resize(archive.len().next_multiple_of(512), 0);
    archive
}

#[test]
fn what_is_written_is_read_back() {
    let mut entries = Vec::new();
    for length in [1, 99, 100, 101, 155, 156, 255, 256, 257, 300, 5000] {
        entries.push(file(vec![b'n'; length], b"data"));
        entries.push(file(format!("{}/{}", "d".repeat(length), "n".repeat(50)), &vec![7; length]));
        let link = Entry { path: b"l".to_vec(), kind: Kind::Symlink, link: vec![b't'; length], ..Entry::default() };
        entries.push((link, Vec::new()));
    }
    for seconds in [0, 1, -1, -2, 1_700_000_000, 8_589_934_591, 8_589_934_592, i64::MAX, i64::MIN + 1] {
        for nanos in [0, 1, 500_000_000, 999_999_999] {
            let (entry, data) = file("time", b"");
            entries.push((Entry { mtime: Time { seconds, nanos }, ..entry }, data));
        }
    }
    for id in [0, 0o7_777_777, 0o10_000_000, u64::from(u32::MAX), u64::MAX] {
        let (entry, data) = file("owner", b"");
        entries.push((Entry { uid: id, gid: id, user: vec![b'u'; 32], group: b"wheel".to_vec(), ..entry }, data));
    }
    for (kind, path) in [(Kind::Char, "c"), (Kind::Block, "b"), (Kind::Fifo, "p"), (Kind::Directory, "d/")] {
        let (major, minor) = if matches!(kind, Kind::Char | Kind::Block) { (4095, 1_048_575) } else { (0, 0) };
        let entry = Entry { path: path.into(), kind, mode: 0o7755, major, minor, ..Entry::default() };
        entries.push((entry, Vec::new()));
    }
    let (entry, data) = file(b"\xff\xfe not UTF-8 \xc3\x28", b"x");
    let xattrs = vec![(b"security.capability".to_vec(), vec![0, 1, 10, 255]), (b"user.empty".to_vec(), Vec::new())];
    entries.push((Entry { xattrs, ..entry }, data));
    let (entry, data) = file("sparse", b"headtail");
    let map = vec![Extent { offset: 0, length: 4 }, Extent { offset: 1 << 40, length: 4 }];
    entries.push((Entry { size: (1 << 40) + 10, sparse: Some(map), ..entry }, data));
    entries.push(file("last", b"end"));
    let archive = write(&entries);
    let back = read(&archive).unwrap();
    assert_eq!(back.len(), entries.len());
    for (ours, theirs) in entries.iter().zip(&back) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(write(&back), archive, "the same entries give the same bytes");
}

#[test]
fn a_plain_file_needs_no_pax_header() {
    assert_eq!(write(&[file("name", b"data")]).len(), 512 + 512 + 1024);
    assert_eq!(write(&[file(format!("{}/{}", "d".repeat(100), "n".repeat(100)), b"")]).len(), 512 + 1024);
}

#[test]
fn dialects() {
    let check = |archive: &[u8], path: &[u8], kind: Kind, data: &[u8]| {
        let entries = read(archive).unwrap();
        let [(entry, read)] = entries.as_slice() else { panic!("{entries:?}") };
        assert_eq!((entry.path.as_slice(), entry.kind, read.as_slice()), (path, kind, data));
    };
    check(&raw(b"dir/", 0, b"", b""), b"dir/", Kind::Directory, b"");
    check(&raw(b"file", 0, b"4", b"data"), b"file", Kind::File, b"data");
    check(&raw(b"file", b'7', b"4", b"data"), b"file", Kind::File, b"data");
    // The size of a link is no data.
    check(&[raw(b"f", b'1', b"4", b"")].concat().replace_link(), b"f", Kind::Link, b"");
    let long = raw(b"././@LongLink", b'L', b"5", b"long\0");
    check(&[long.clone(), raw(b"cut", b'0', b"", b"")].concat(), b"long", Kind::File, b"");
    let global = raw(b"g", b'g', b"14", b"14 path=global");
    assert!(read(&[global, raw(b"cut", b'0', b"", b"")].concat()).is_err());
    let global = raw(b"g", b'g', b"17", b"15 path=global\n");
    check(
        &[global[..512].to_vec(), global[512..].to_vec(), raw(b"cut", b'0', b"", b"")].concat().with_size(15),
        b"global",
        Kind::File,
        b"",
    );
    // A stream may end without its end marker.
    check(&raw(b"file", b'0', b"", b""), b"file", Kind::File, b"");
    assert!(read(b"").unwrap().is_empty());
    assert!(read(&[0; 512]).unwrap().is_empty());
}

/// Small changes to archives that `raw` cannot make.
trait Change {
    fn replace_link(self) -> Vec<u8>;
    fn with_size(self, size: u64) -> Vec<u8>;
}

impl Change for Vec<u8> {
    fn replace_link(mut self) -> Vec<u8> {
        self[157] = b't';
        fix(self)
    }

    fn with_size(mut self, size: u64) -> Vec<u8> {
        self[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        fix(self)
    }
}

/// Makes the checksum of the first header right again.
fn fix(mut archive: Vec<u8>) -> Vec<u8> {
    let sum = crate::header::checksum(archive[..512].try_into().unwrap());
    archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive
}

#[test]
fn refused() {
    let check = |archive: &[u8], expect: &str| {
        let error = read_with(archive, Limits { extended: 1000, name: 50, extents: 4 }).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(&[1; 512], "checksum");
    check(&[1; 100], "cut off");
    check(&raw(b"f", b'0', b"1000", b"short")[..600], "\"f\": it was cut off");
    check(&raw(b"f", b'0', b"9", b""), "size is no number");
    check(&raw(b"f", b'0', b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b""), "size is no number");
    check(&raw(b"f", b'M', b"", b""), "type 'M'");
    check(&raw(b"f", b'2', b"", b""), "no target");
    check(&raw(b"", b'0', b"", b""), "no name");
    check(&raw(b"x", b'x', b"2000", b""), "the size in bytes of an extended header exceeds the limit of 1000");
    check(&raw(b"x", b'L', b"77777777777", b""), "exceeds the limit of 1000");
    check(&raw(&[b'n'; 51], b'0', b"", b""), "length in bytes of a name exceeds the limit of 50");
    check(&raw(b"x", b'x', b"11", b"9 path=\0\n"), "holds a NUL");
    let sparse = |map: &str| {
        let mut records = Vec::new();
        crate::pax::put(&mut records, b"GNU.sparse.size", b"10");
        crate::pax::put(&mut records, b"GNU.sparse.map", map.as_bytes());
        let header = raw(b"x", b'x', b"", &records).with_size(records.len() as u64);
        [header, raw(b"f", b'0', b"4", b"data")].concat()
    };
    check(&sparse("0,4,2,0"), "overlap");
    check(&sparse("8,4"), "beyond the end");
    check(&sparse("0,5"), "does not fit");
    check(&sparse("0"), "no list of pairs");
    check(&sparse("0,0,0,0,0,0,0,0,0,0"), "too many extents");
    check(&sparse("18446744073709551615,4"), "ends nowhere");
}

#[test]
fn the_writer_refuses() {
    let check = |change: fn(&mut Entry), data: &[u8], expect: &str| {
        let mut entry = Entry { path: b"f".to_vec(), ..Entry::default() };
        change(&mut entry);
        let mut writer = Writer::new(Vec::new());
        let error = writer.append(&entry, data).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(|entry| entry.path.clear(), b"", "empty");
    check(|entry| entry.path = b"a\0".to_vec(), b"", "NUL");
    check(|entry| entry.link = b"a".to_vec(), b"", "links");
    check(|entry| entry.kind = Kind::Link, b"", "links");
    check(|entry| (entry.kind, entry.size) = (Kind::Fifo, 1), b"", "only regular files");
    check(|entry| entry.size = 2, b"1", "less data");
    check(|entry| entry.size = 1, b"12", "more data");
    check(|entry| entry.xattrs = vec![(b"user.a=b".to_vec(), Vec::new())], b"", "pax header cannot hold");
    check(|entry| (entry.kind, entry.major) = (Kind::Char, u32::MAX), b"", "device number");
}
