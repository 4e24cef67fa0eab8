//! Trees that change while they are packed, as those of containers that run.

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use gantry_store::layer::{LayerError, Live, archive_as};
use gantry_tar::{Entry, Kind, Reader};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::kit::Place;

/// What an archive has: each name, with owner and what is in it.
fn listed(archive: &[u8]) -> Vec<(String, String, Vec<u8>)> {
    let mut reader = Reader::new(archive);
    let (mut list, mut entry) = (Vec::new(), Entry::default());
    while reader.read_entry(&mut entry).unwrap() {
        let mut data = Vec::new();
        if entry.kind == Kind::File {
            io::copy(&mut reader.data(), &mut data).unwrap();
        }
        let path = String::from_utf8(entry.path.clone()).unwrap();
        list.push((path, format!("{}:{}", entry.uid, entry.gid), data));
    }
    list
}

fn names(archive: &[u8]) -> Vec<String> {
    listed(archive).into_iter().map(|(name, ..)| name).collect()
}

fn packed(dir: &Path, live: &Live, out: &mut dyn Write) -> Result<(), LayerError> {
    let parent = fs::File::open(dir.parent().unwrap()).unwrap();
    archive_as(parent.as_fd(), dir.file_name().unwrap().as_encoded_bytes(), b"x", live, out)
}

#[test]
fn ids_are_those_inside() {
    let Some(place) = Place::new() else { return };
    let dir = place.dir("mapped");
    for (name, uid, gid) in [("a", 70_000, 70_009), ("b", 5, 70_010), ("c", 69_999, 70_000)] {
        fs::write(dir.join(name), "").unwrap();
        chown(dir.join(name), Some(uid), Some(gid)).unwrap();
    }
    let check = |ids: Option<(u32, u32)>, expect: [&str; 3]| {
        let mut archive = Vec::new();
        packed(&dir, &Live { ids, ..Live::default() }, &mut archive).unwrap();
        let owners: Vec<String> = listed(&archive).into_iter().skip(1).map(|(_, owner, _)| owner).collect();
        assert_eq!(owners, expect, "{ids:?}");
    };
    check(None, ["70000:70009", "5:70010", "69999:70000"]);
    check(Some((70_000, 10)), ["0:9", "65534:65534", "65534:0"]);
}

#[test]
fn mounts_are_left_out() {
    let Some(place) = Place::new() else { return };
    let dir = place.dir("mounts");
    for name in ["in", "in/kernel", "in/volume"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    // In a mount namespace of a thread's own, so that nothing is left of it.
    let test = move || {
        gantry_sys::ns::unshare(0x2_0000).unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        for name in ["kernel", "volume"] {
            mount("none", dir.join("in").join(name), "tmpfs", MountFlags::empty(), None).unwrap();
            fs::write(dir.join("in").join(name).join("file"), "").unwrap();
        }
        let flags = rustix::fs::StatxFlags::MNT_ID;
        let stat = rustix::fs::statx(rustix::fs::CWD, dir.join("in/kernel"), rustix::fs::AtFlags::empty(), flags);
        let live = Live { skip: vec![stat.unwrap().stx_mnt_id], ..Live::default() };
        let mut archive = Vec::new();
        packed(&dir.join("in"), &live, &mut archive).unwrap();
        assert_eq!(names(&archive), ["x/", "x/kernel/", "x/volume/", "x/volume/file"]);
    };
    std::thread::spawn(test).join().unwrap();
}

/// Does something when the archive has begun to come.
struct Sink<F: FnMut()> {
    bytes: Vec<u8>,
    first: F,
}

impl<F: FnMut()> Write for Sink<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            (self.first)();
        }
        self.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_goes_away_is_left_out() {
    let Some(place) = Place::new() else { return };
    let dir = place.dir("going");
    fs::create_dir_all(dir.join("d/e")).unwrap();
    fs::write(dir.join("a"), vec![1; 1 << 20]).unwrap();
    for name in ["b", "c", "d/e/f", "z"] {
        fs::write(dir.join(name), "here").unwrap();
    }
    fs::hard_link(dir.join("b"), dir.join("link")).unwrap();
    let first = || {
        fs::write(dir.join("a"), "short").unwrap();
        fs::remove_file(dir.join("b")).unwrap();
        fs::remove_dir_all(dir.join("d")).unwrap();
        fs::remove_file(dir.join("c")).unwrap();
        symlink("/etc/passwd", dir.join("c")).unwrap();
    };
    let mut sink = Sink { bytes: Vec::new(), first };
    packed(&dir, &Live::default(), &mut sink).unwrap();
    let list = listed(&sink.bytes);
    let found: Vec<(&str, usize)> = list.iter().map(|(name, _, data)| (name.as_str(), data.len())).collect();
    assert_eq!(found, [("x/", 0), ("x/a", 1 << 20), ("x/c", 0), ("x/link", 4), ("x/z", 4)]);
    assert!(list[1].2.iter().rev().take(1 << 19).all(|byte| *byte == 0));
    let error = packed(&dir.join("gone"), &Live::default(), &mut Vec::new());
    assert!(error.is_err(), "what was asked for is to be there");
}

/// A container that puts links, pipes and directories in the place of files makes nobody read elsewhere, or wait.
#[test]
fn what_is_put_in_the_way_is_not_followed() {
    let Some(place) = Place::new() else { return };
    let (dir, outside) = (place.dir("swapped"), place.dir("outside"));
    fs::write(outside.join("file"), "SECRET").unwrap();
    fs::create_dir(dir.join("d")).unwrap();
    fs::write(dir.join("d/file"), "plain!").unwrap();
    fs::write(dir.join("file"), "plain!").unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let swap = |name: &str, put: &dyn Fn(&Path)| {
                put(&dir.join("other"));
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let cwd = rustix::fs::CWD;
                rustix::fs::renameat_with(cwd, dir.join("other"), cwd, dir.join(name), flags).unwrap();
                std::thread::yield_now();
                rustix::fs::renameat_with(cwd, dir.join("other"), cwd, dir.join(name), flags).unwrap();
                fs::remove_file(dir.join("other")).unwrap();
            };
            while !stop.load(Ordering::Relaxed) {
                swap("file", &|at| symlink(outside.join("file"), at).unwrap());
                swap("d", &|at| symlink(&outside, at).unwrap());
                swap("file", &|at| {
                    let fifo = rustix::fs::FileType::Fifo;
                    rustix::fs::mknodat(rustix::fs::CWD, at, fifo, rustix::fs::Mode::RWXU, 0).unwrap();
                });
            }
        });
        let mut files = 0;
        for _ in 0..1000 {
            let mut archive = Vec::new();
            packed(&dir, &Live::default(), &mut archive).unwrap();
            let list = listed(&archive);
            assert!(!list.iter().any(|(_, _, data)| data == b"SECRET"), "{list:?}");
            files += list.iter().filter(|(_, _, data)| data == b"plain!").count();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(files > 0);
    });
}

/// A tree that is deep enough to use up the stack or all open files is refused.
#[test]
fn depth_is_bounded() {
    let Some(place) = Place::new() else { return };
    let dir = place.dir("deep");
    let check = |levels: usize, fits: bool| {
        let top = dir.join(levels.to_string());
        fs::create_dir(&top).unwrap();
        let mut at = rustix::fs::openat(
            rustix::fs::CWD,
            &top,
            rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::PATH,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        for _ in 0..levels {
            rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).unwrap();
            let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::PATH;
            at = rustix::fs::openat(&at, "d", flags, rustix::fs::Mode::empty()).unwrap();
        }
        // As small a stack as threads have that do such work.
        let pack = || packed(&top, &Live::default(), &mut io::sink());
        let packed = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(2 << 20).spawn_scoped(scope, pack);
            thread.unwrap().join().unwrap()
        });
        assert_eq!(packed.is_ok(), fits, "{levels}: {packed:?}");
    };
    check(1000, true);
    check(3000, false);
}
