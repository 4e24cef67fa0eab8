//! There and back: a tree, its archive, and the tree again.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::corpus::full;
use crate::kit::{Place, archive, describe, diff, same, unpack};
use crate::random::Random;

/// The same tree, made in another order on other inodes, gives the same bytes.
#[test]
fn reproducible() {
    let Some(place) = Place::new() else { return };
    let (first, second) = (place.dir("first"), place.dir("second"));
    full(&first);
    let archive = diff(&first).unwrap();
    assert_eq!(archive, diff(&first).unwrap());
    // Enough other names that the file system lists these in another order.
    for index in 0..50 {
        fs::write(second.join(format!("gone-{index}")), "x").unwrap();
    }
    unpack(&archive, &second).unwrap();
    for index in 0..50 {
        fs::remove_file(second.join(format!("gone-{index}"))).unwrap();
    }
    let times = fs::metadata(&first).unwrap().modified().unwrap();
    fs::File::open(&second).unwrap().set_modified(times).unwrap();
    assert!(archive == diff(&second).unwrap(), "the archives differ");
}

#[test]
fn what_cannot_be_packed_is_refused() {
    let Some(place) = Place::new() else { return };
    let root = place.dir("root");
    fs::write(root.join(".wh.real"), "x").unwrap();
    assert!(diff(&root).unwrap_err().to_string().contains("names that begin with .wh."));
    fs::remove_file(root.join(".wh.real")).unwrap();
    fs::create_dir(root.join("moved")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(root.join("moved"), "trusted.overlay.redirect", b"/old", flags).unwrap();
    assert!(diff(&root).unwrap_err().to_string().contains("redirect_dir"));
}

/// A socket is left out, and so is everything that overlayfs noted for itself.
#[test]
fn what_means_nothing_elsewhere_is_left_out() {
    let Some(place) = Place::new() else { return };
    let (root, back) = (place.dir("root"), place.dir("back"));
    unpack(&archive(&["./", "f: x"]), &root).unwrap();
    let expect = describe(&root);
    let socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    rustix::fs::setxattr(root.join("f"), "trusted.overlay.origin", b"1", rustix::fs::XattrFlags::empty()).unwrap();
    unpack(&diff(&root).unwrap(), &back).unwrap();
    drop(socket);
    assert_eq!(describe(&back)["./f"], expect["./f"]);
    assert!(!back.join("socket").exists());
}

/// Random trees, with whiteouts and hard links, come back as they were.
#[test]
fn random_trees() {
    let seed = std::env::var("GANTRY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) * 7919);
    println!("seed {seed}: set GANTRY_SEED to run it again");
    let mut random = Random::new(seed);
    for round in 0..25 {
        let Some(place) = Place::new() else { return };
        let (tree, back) = (place.dir("tree"), place.dir("back"));
        grow(&tree, &mut random);
        let archive = diff(&tree).unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
        unpack(&archive, &back).unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
        same(&describe(&back), &describe(&tree), &format!("seed {seed}, round {round}"));
        assert!(archive == diff(&back).unwrap(), "seed {seed}, round {round}: the archives differ");
    }
}

fn grow(root: &Path, random: &mut Random) {
    let mut directories = vec![root.to_owned()];
    let mut files: Vec<PathBuf> = Vec::new();
    for _ in 0..random.below(60) {
        let directory = directories[random.below(directories.len())].clone();
        let length = [1, 3, 12, 60, 99, 100, 101, 155, 156, 240][random.below(10)];
        let name: Vec<u8> = (0..length).map(|_| b"abc.-_ \n\xc3\xa9\xff"[random.below(11)]).collect();
        if name.iter().all(|byte| *byte == b'.') {
            continue;
        }
        let path = directory.join(std::ffi::OsStr::from_bytes(&name));
        if path.as_os_str().len() > 3500 || fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match random.below(8) {
            0 | 1 => {
                fs::create_dir(&path).unwrap();
                if random.below(4) == 0 {
                    let flags = rustix::fs::XattrFlags::empty();
                    rustix::fs::setxattr(&path, "trusted.overlay.opaque", b"y", flags).unwrap();
                }
                directories.push(path.clone());
            }
            2 => {
                let target: Vec<u8> = (0..=random.below(300)).map(|_| b"a/."[random.below(3)]).collect();
                symlink(std::ffi::OsStr::from_bytes(&target), &path).unwrap();
            }
            3 if !files.is_empty() => {
                fs::hard_link(&files[random.below(files.len())], &path).unwrap();
                continue;
            }
            4 => {
                let kind = rustix::fs::FileType::CharacterDevice;
                rustix::fs::mknodat(rustix::fs::CWD, &path, kind, rustix::fs::Mode::empty(), 0).unwrap();
                // Nobody ever sees more of one.
                continue;
            }
            _ => {
                let data: Vec<u8> = (0..random.below(3000)).map(|_| random.below(256) as u8).collect();
                fs::write(&path, data).unwrap();
                files.push(path.clone());
            }
        }
        attributes(&path, random);
    }
    normalise(root);
}

fn attributes(path: &Path, random: &mut Random) {
    let id = |random: &mut Random| [0, 1000, 65_534, 2_097_151, 2_097_152, 4_000_000_000][random.below(6)];
    std::os::unix::fs::lchown(path, Some(id(random)), Some(id(random))).unwrap();
    if !path.is_symlink() {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(random.below(0o10000) as u32);
        fs::set_permissions(path, mode).unwrap();
        if random.below(3) == 0 {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(path, "user.x", &[random.below(256) as u8; 5], flags).unwrap();
        }
    }
}

/// Gives everything a time that depends on its name.
fn normalise(path: &Path) {
    let data = fs::symlink_metadata(path).unwrap();
    if data.is_dir() {
        for item in fs::read_dir(path).unwrap() {
            normalise(&item.unwrap().path());
        }
    }
    let bytes = path.file_name().unwrap().as_bytes();
    let sum: i64 = bytes.iter().map(|byte| i64::from(*byte)).sum();
    let time = rustix::fs::Timespec { tv_sec: sum * 10_007 - 1_000_000, tv_nsec: sum * 1000 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
