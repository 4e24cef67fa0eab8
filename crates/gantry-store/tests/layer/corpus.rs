//! A tree with everything in it, packed by GNU tar in each of its dialects and by us, unpacked by both, and compared.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, lchown, symlink};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, makedev, mknodat, utimensat,
};

use crate::kit::{Place, describe, diff, run, same, sha256, unpack};

fn write(path: &Path, data: &[u8]) {
    fs::write(path, data).unwrap();
}

fn set_time(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn xattr(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// What every dialect can hold: short names of any bytes, small numbers, whole seconds.
pub fn plain(root: &Path) {
    for size in [0, 1, 511, 512, 513, 4096, 300_000] {
        write(&root.join(format!("size-{size}")), &(0..size).map(|n| (n * 7 % 251) as u8).collect::<Vec<_>>());
    }
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    write(&root.join("a/b/c/deep"), b"deep");
    write(&root.join("grüße-日本"), b"unicode");
    write(&root.join(OsStr::from_bytes(b"bytes-\xff\xfe\xc3")), b"no UTF-8");
    write(&root.join("new\nline and blanks "), b"odd");
    symlink("a/b", root.join("link")).unwrap();
    symlink("/no/such", root.join("dangling")).unwrap();
    fs::hard_link(root.join("size-512"), root.join("a/hard")).unwrap();
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2711), ("sticky", 0o1644), ("none", 0o000), ("all", 0o777)] {
        let path = root.join(name);
        write(&path, name.as_bytes());
        lchown(&path, Some(1000), Some(2000)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, mode) in [("shut", 0o500), ("group", 0o2775), ("tmp", 0o1777)] {
        let path = root.join(name);
        fs::create_dir(&path).unwrap();
        lchown(&path, Some(0), Some(50)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        write(&path.join("inside"), b"x");
        lchown(path.join("inside"), Some(0), Some(0)).unwrap();
        fs::create_dir(path.join("below")).unwrap();
        lchown(path.join("below"), Some(0), Some(0)).unwrap();
        fs::set_permissions(path.join("below"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    times(root, 1_600_000_000, 0);
}

/// Every file gets a time of its own.
fn times(root: &Path, start: i64, nanos: i64) {
    let mut paths = vec![root.to_owned()];
    let mut at = 0;
    while at < paths.len() {
        let path = paths[at].clone();
        at += 1;
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            let mut below: Vec<_> = fs::read_dir(&path).unwrap().map(|item| item.unwrap().path()).collect();
            below.sort();
            paths.extend(below);
        }
    }
    for (index, path) in paths.iter().enumerate().rev() {
        set_time(path, start + index as i64, nanos * (index as i64 + 1));
    }
}

/// What GNU's own dialect holds besides: devices, long names, large numbers, sparse files.
pub fn rich(root: &Path) {
    plain(root);
    for (name, kind, major, minor) in [
        ("null", FileType::CharacterDevice, 1, 3),
        ("loop", FileType::BlockDevice, 7, 1_000_000),
        ("pipe", FileType::Fifo, 0, 0),
    ] {
        mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o640), makedev(major, minor)).unwrap();
    }
    let long = root.join("d".repeat(90)).join("e".repeat(120)).join("f".repeat(200));
    fs::create_dir_all(&long).unwrap();
    write(&long.join("n".repeat(255)), b"long");
    symlink("t".repeat(300), root.join("long-target")).unwrap();
    fs::hard_link(long.join("n".repeat(255)), root.join("long-hard")).unwrap();
    fs::hard_link(root.join("link"), root.join("hard-to-link")).unwrap_or(());
    for (name, uid, gid) in [("large-id", 3_000_000, 4_000_000), ("largest-id", u32::MAX - 1, u32::MAX - 1)] {
        write(&root.join(name), b"x");
        lchown(root.join(name), Some(uid), Some(gid)).unwrap();
    }
    let sparse = File::create(root.join("sparse-many")).unwrap();
    for index in 0..60 {
        sparse.write_all_at(b"data", index * 1_000_000 + 17).unwrap();
    }
    sparse.set_len(70_000_000).unwrap();
    File::create(root.join("sparse-empty")).unwrap().set_len(50_000_000).unwrap();
    File::create(root.join("sparse-huge")).unwrap().write_all_at(b"end", 1 << 39).unwrap();
    times(root, 1_600_000_000, 0);
    set_time(&root.join("null"), -1_000_000, 0);
    // After what 32 bits hold, and after what the digits of a header hold.
    set_time(&root.join("size-511"), (1 << 31) + 5, 0);
    set_time(&root.join("size-513"), 10_000_000_000, 0);
}

/// What pax holds besides: nanoseconds and attributes.
pub fn full(root: &Path) {
    rich(root);
    xattr(&root.join("size-1"), "user.text", b"text");
    xattr(&root.join("size-1"), "user.binary", b"\0\n=\xff");
    xattr(&root.join("size-1"), "trusted.own", b"1");
    xattr(&root.join("a"), "user.directory", b"d");
    xattr(&root.join("link"), "trusted.link", b"l");
    xattr(&root.join("null"), "trusted.device", b"n");
    let capability = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    lchown(root.join("size-4096"), Some(1000), Some(1000)).unwrap();
    xattr(&root.join("size-4096"), "security.capability", capability);
    times(root, 1_600_000_000, 1_234_567);
    set_time(&root.join("pipe"), -5, 250_000_000);
    set_time(&root.join("size-513"), 10_000_000_000, 999_999_999);
}

/// Packs with GNU tar, unpacks with both.
fn check(make: fn(&Path), options: &[&str], what: &str) {
    let Some(place) = Place::new() else { return };
    let tree = place.dir("tree");
    make(&tree);
    let archive = place.path().join("archive.tar");
    let mut args: Vec<&OsStr> = vec![OsStr::new("-cf"), archive.as_os_str(), OsStr::new("--sort=name")];
    args.extend(options.iter().map(OsStr::new));
    args.extend(["-C", tree.to_str().unwrap(), "."].map(OsStr::new));
    run("tar", &args, place.path());
    compare(&place, &archive, what);
}

/// Unpacks an archive with GNU tar and with us.
fn compare(place: &Place, archive: &Path, what: &str) {
    let (ours, theirs) = (place.dir("ours"), place.dir("theirs"));
    let args = ["-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-f"].map(OsStr::new);
    let args = [&args[..], &[archive.as_os_str(), OsStr::new("-C"), theirs.as_os_str()]].concat();
    run("tar", &args, place.path());
    let bytes = fs::read(archive).unwrap();
    let unpacked = unpack(&bytes, &ours).unwrap();
    assert_eq!(unpacked.diff_id.to_string(), sha256(&bytes));
    assert_eq!(unpacked.size, bytes.len() as u64);
    assert!(unpacked.pending.is_empty(), "{what}: {:?}", unpacked.pending);
    same(&describe(&ours), &describe(&theirs), what);
    let sparse = ours.join("sparse-huge");
    if let Ok(data) = fs::metadata(&sparse) {
        assert!(std::os::unix::fs::MetadataExt::blocks(&data) < 1000, "{what}: its hole is filled");
    }
}

#[test]
fn old_dialects() {
    for format in ["v7", "ustar", "oldgnu", "gnu", "pax"] {
        check(plain, &[&format!("--format={format}")], format);
    }
}

#[test]
fn gnu() {
    check(rich, &["--format=gnu", "--sparse"], "gnu");
    check(rich, &["--format=oldgnu", "--sparse"], "oldgnu");
}

#[test]
fn pax() {
    for version in ["0.0", "0.1", "1.0"] {
        let version = format!("--sparse-version={version}");
        check(full, &["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", &version], &version);
    }
}

#[test]
fn our_own() {
    let Some(place) = Place::new() else { return };
    let tree = place.dir("tree");
    full(&tree);
    let archive = place.path().join("archive.tar");
    File::create(&archive).unwrap().write_all(&diff(&tree).unwrap()).unwrap();
    compare(&place, &archive, "our own archive");
    same(&describe(&place.path().join("ours")), &describe(&tree), "unpacked and packed");
}

#[test]
fn compressed() {
    let Some(place) = Place::new() else { return };
    let tree = place.dir("tree");
    plain(&tree);
    let archive = diff(&tree).unwrap();
    let gzip = |data: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |data: &[u8]| zstd::encode_all(data, 1).unwrap();
    // Members and frames of their own for parts, as eStargz and chunked zstd have them, with frames that hold an index.
    let (head, tail) = archive.split_at(archive.len() / 3);
    let index = [&[0x5e, 0x2a, 0x4d, 0x18, 100, 0, 0, 0][..], &[9; 100]].concat();
    for (name, compressed) in [
        ("gzip", gzip(&archive)),
        ("members", [gzip(head), gzip(tail), gzip(b"")].concat()),
        ("zstd", zstd(&archive)),
        ("frames", [zstd(head), zstd(tail), index].concat()),
    ] {
        let into = place.dir(name);
        let unpacked = unpack(&compressed, &into).unwrap();
        assert_eq!(unpacked.diff_id.to_string(), sha256(&archive), "{name}");
        same(&describe(&into), &describe(&tree), name);
        let cut = place.dir(&format!("cut-{name}"));
        assert!(unpack(&compressed[..compressed.len() / 2], &cut).is_err(), "{name} cut off");
    }
}

/// A layer as eStargz has it: a member of its own for each entry, a list of them as the last file, and where that begins
/// in the field of an empty member. To us it is a layer like any other.
#[test]
fn estargz() {
    let Some(place) = Place::new() else { return };
    let gzip = |data: &[u8], extra: &[u8]| {
        let builder = flate2::GzBuilder::new().extra(extra);
        let mut encoder = builder.write(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    let lines = ["a/", "a/f: text", "l -> a/f", "h = a/f", ".no.prefetch.landmark: x", "stargz.index.json: {}"];
    let archive = crate::kit::archive(&lines);
    // An entry and its data are two blocks, or one; the last member has the end of the archive too.
    let mut cuts: Vec<usize> = lines
        .iter()
        .scan(0, |at, line| {
            *at += if line.contains(": ") { 1024 } else { 512 };
            Some(*at)
        })
        .collect();
    *cuts.last_mut().unwrap() = archive.len();
    let (mut compressed, mut from) = (Vec::new(), 0);
    for to in cuts {
        compressed.extend(gzip(&archive[from..to], b""));
        from = to;
    }
    compressed.extend(gzip(b"", format!("SG\x16\0{:016x}STARGZ", compressed.len()).as_bytes()));
    let (plain, into) = (place.dir("plain"), place.dir("estargz"));
    unpack(&archive, &plain).unwrap();
    let unpacked = unpack(&compressed, &into).unwrap();
    assert_eq!(unpacked.diff_id.to_string(), sha256(&archive));
    same(&describe(&into), &describe(&plain), "eStargz");
}

#[test]
fn what_follows_the_end_is_part_of_the_digest() {
    let Some(place) = Place::new() else { return };
    let mut archive = crate::kit::archive(&["./", "file: text"]);
    archive.extend_from_slice(&[0; 10_240]);
    archive.resize(archive.len() + 1_000_000, b'x');
    let unpacked = unpack(&archive, place.path()).unwrap();
    assert_eq!(unpacked.diff_id.to_string(), sha256(&archive));
    assert_eq!((unpacked.size, unpacked.entries), (archive.len() as u64, 2));
}
