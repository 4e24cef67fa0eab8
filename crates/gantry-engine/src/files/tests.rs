//! Tests of what goes in and out, in directories instead of containers.

use std::fs;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gantry_store::layer;
use gantry_tar::Kind::{self, Char, Directory, Fifo, File, Link, Symlink};
use gantry_tar::{Entry, Extent, Time, Writer};

use super::copy::{base_of, look, name_of, taken_apart};
use super::extract::{Options, extract};
use super::{Ids, read_in, tree};
use crate::rootfs;

/// A root for a container, and what lies beside it.
struct Scratch(PathBuf);

impl Scratch {
    /// None, with a line that says so, where the test cannot run.
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            let _ = writeln!(std::io::stderr(), "SKIPPED {:?}: it needs root", std::thread::current().name());
            return None;
        }
        let name = format!("gantry-files-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("root/d")).unwrap();
        fs::create_dir_all(path.join("outside")).unwrap();
        Some(Self(path))
    }

    fn root(&self) -> OwnedFd {
        rootfs::open(&self.0.join("root")).unwrap()
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.join("root").join(path)
    }

    /// Extracts, and tells what went wrong.
    fn put(&self, path: &str, archive: &[u8], options: Options) -> String {
        let put = extract(self.root().as_fd(), path, &mut &archive[..], options);
        put.map_or_else(|error| error.to_string(), |()| String::new())
    }

    /// That nothing was written beside the root.
    fn is_kept(&self) -> bool {
        fs::read_dir(&self.0).unwrap().count() == 2 && fs::read_dir(self.0.join("outside")).unwrap().count() == 0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn entry(path: &str, kind: Kind, link: &str) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind,
        link: link.as_bytes().to_vec(),
        mode: 0o640,
        mtime: Time { seconds: 1000, nanos: 5 },
        ..Entry::default()
    }
}

fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for entry in entries {
        writer.begin(entry).unwrap();
        let data = entry.sparse.as_ref().map_or(entry.size, |extents| extents.iter().map(|one| one.length).sum());
        writer.write_all(&vec![b'x'; data as usize]).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn paths() {
    let check = |path: &str, above: &str, last: &str, name: &str, base: &str| {
        let found = (taken_apart(path), name_of(path), base_of(path));
        assert_eq!(found, ((above.to_owned(), last.to_owned()), name.to_owned(), base.to_owned()), "{path}");
    };
    check("/a/b", "a", "b", "b", "b");
    check("a", "", "a", "a", "a");
    check("/a/b/", "a/b", ".", "b", "b");
    check("/a/b/.", "a/b", ".", ".", ".");
    check("/", "", ".", "/", ".");
    check("", "", ".", "/", ".");
    check("/a/..", "a/..", ".", "..", ".");
    check("/a/b/..", "a/b/..", ".", "..", "a");
}

#[test]
fn stats() {
    let Some(scratch) = Scratch::new() else { return };
    fs::write(scratch.0.join("outside/file"), "outside").unwrap();
    fs::write(scratch.at("d/file"), "inside").unwrap();
    symlink("../../../outside", scratch.at("d/up")).unwrap();
    symlink(scratch.0.join("outside/file"), scratch.at("d/absolute")).unwrap();
    symlink("/d", scratch.at("d/dir")).unwrap();
    symlink("loop", scratch.at("d/loop")).unwrap();
    let check = |path: &str, expect: &str| {
        let root = scratch.root();
        let found =
            look(root.as_fd(), "c", path).map(|(_, _, stat)| format!("{} {} {}", stat.name, stat.size, stat.link));
        assert_eq!(found.unwrap_or_else(|error| error.to_string()), expect, "{path}");
    };
    check("/d/file", "file 6 ");
    check("d/dir/dir/file", "file 6 ");
    check("/d/dir", "dir 2 /d");
    check("/d/up", "up 16 /outside");
    check("/d/loop", "loop 4 /d/loop");
    // Nothing but what is inside is ever found.
    for path in ["/d/up/file", "/d/absolute/", "/../outside/file", "/d/../../outside/file", "/none/x"] {
        check(path, &format!("Could not find the file {path} in container c"));
    }
    check("/d/file/", "lstat /d/file/: not a directory");
    check("/d/loop/x", "lstat /d/loop/x: too many levels of symbolic links");
}

#[test]
fn small_files_are_read_and_nothing_else() {
    let Some(scratch) = Scratch::new() else { return };
    fs::write(scratch.0.join("outside/passwd"), "outside").unwrap();
    fs::write(scratch.at("d/passwd"), "inside").unwrap();
    fs::write(scratch.at("outside"), "not that one").unwrap();
    symlink("/../../outside/passwd", scratch.at("d/out")).unwrap();
    symlink("/d/passwd", scratch.at("d/link")).unwrap();
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, scratch.at("d/pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let check = |path: &str, expect: Option<&str>| {
        assert_eq!(read_in(scratch.root().as_fd(), path, 4).as_deref(), expect, "{path}");
    };
    check("d/passwd", Some("insi"));
    check("d/link", Some("insi"));
    check("d/out", None);
    check("d/pipe", None);
    check("d", None);
}

#[test]
fn everything_of_a_file_is_put_in() {
    let Some(scratch) = Scratch::new() else { return };
    let owned = |entry: Entry| Entry { uid: 7, gid: 70_000, ..entry };
    let sparse =
        Entry { sparse: Some(vec![Extent { offset: 8192, length: 3 }]), size: 16_384, ..entry("e/s", File, "") };
    let xattr = (b"user.note".to_vec(), b"kept".to_vec());
    let overlay = (b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
    let entries = [
        owned(entry("./", Directory, "")),
        owned(Entry { mode: 0o1777, ..entry("e/", Directory, "") }),
        owned(Entry { size: 5, mode: 0o4755, xattrs: vec![overlay.clone(), xattr], ..entry("e/f", File, "") }),
        owned(entry("e/hard", Link, "e/f")),
        owned(entry("e/l", Symlink, "../../../up")),
        Entry { mode: 0o622, ..owned(entry("e/p", Fifo, "")) },
        Entry { major: 1, minor: 3, ..owned(entry("e/c", Char, "")) },
        owned(sparse),
        owned(entry("made/on/the/way", File, "")),
    ];
    assert_eq!(scratch.put("/d", &archive(&entries), Options::default()), "");
    let check = |path: &str, mode: u32, size: u64| {
        let stat = fs::symlink_metadata(scratch.at(path)).unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.size(), stat.uid(), stat.gid()), (mode, size, 7, 70_000), "{path}");
        assert_eq!((stat.mtime(), stat.mtime_nsec()), (1000, 5), "{path}");
    };
    check("d/e/f", 0o4755, 5);
    check("d/e/hard", 0o4755, 5);
    check("d/e/l", 0o777, 11);
    check("d/e/p", 0o622, 0);
    check("d/e/c", 0o640, 0);
    check("d/e/s", 0o640, 16_384);
    for directory in ["d", "d/e"] {
        let stat = fs::metadata(scratch.at(directory)).unwrap();
        assert_eq!((stat.mtime(), stat.uid()), (1000, 7), "{directory}");
    }
    let made = fs::metadata(scratch.at("d/made/on/the")).unwrap();
    assert_eq!((made.mode() & 0o7777, made.uid()), (0o755, 0));
    assert_eq!(fs::read(scratch.at("d/e/s")).unwrap()[8190..8196], [0, 0, b'x', b'x', b'x', 0]);
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(scratch.at("d/e/f"), "user.note", &mut value[..]);
    assert!(matches!(length, Ok(4) | Err(rustix::io::Errno::NODATA)), "{length:?}");
    let overlay = rustix::fs::getxattr(scratch.at("d/e/f"), "trusted.overlay.opaque", &mut value[..]);
    assert_eq!(overlay, Err(rustix::io::Errno::NODATA));
}

#[test]
fn owners() {
    let Some(scratch) = Scratch::new() else { return };
    let ids = Some(Ids { first: 70_000, count: 100 });
    let check = |options: Options, uid: u64, expect: &str| {
        let _ = fs::remove_dir_all(scratch.at("d/o"));
        let entries = [Entry { uid, gid: 5, ..entry("o/f", File, "") }, entry("o/l", Symlink, "x")];
        let error = scratch.put("d", &archive(&entries), options);
        let owner = |path: &str| fs::symlink_metadata(scratch.at(path)).map_or((0, 0), |stat| (stat.uid(), stat.gid()));
        let found = format!("{:?} {:?}{error}", owner("d/o"), owner("d/o/f"));
        assert_eq!(found, expect, "{options:?} {uid}");
    };
    check(Options::default(), 9, "(0, 0) (9, 5)");
    check(Options { owner: Some((3, 4)), ..Options::default() }, 9, "(0, 0) (3, 4)");
    check(Options { ids, ..Options::default() }, 9, "(70000, 70000) (70009, 70005)");
    check(Options { ids, owner: Some((3, 4)), ..Options::default() }, 9, "(70000, 70000) (70003, 70004)");
    let none = "(70000, 70000) (0, 0)extract \"o/f\": the container has no ids 100:5";
    check(Options { ids, ..Options::default() }, 100, none);
    let none = "(0, 0) (0, 0)extract \"o/f\": the container has no ids 4294967296:5";
    check(Options::default(), 1 << 32, none);
}

#[test]
fn what_is_there_is_replaced() {
    let Some(scratch) = Scratch::new() else { return };
    let check = |there: &str, new: Entry, keep_kinds: bool, expect: &str| {
        let at = scratch.at("d/t");
        let _ = fs::remove_file(&at).or_else(|_| fs::remove_dir_all(&at));
        match there {
            "file" => fs::write(&at, "old").unwrap(),
            "link" => symlink("/d", &at).unwrap(),
            "dangling" => symlink("/none", &at).unwrap(),
            _ => fs::create_dir_all(at.join("below/deep")).unwrap(),
        }
        let error = scratch.put("/d/", &archive(&[new]), Options { keep_kinds, ..Options::default() });
        let kind = fs::symlink_metadata(&at).unwrap().file_type();
        let kind = if kind.is_dir() {
            "dir"
        } else if kind.is_symlink() {
            "link"
        } else {
            "file"
        };
        assert_eq!(format!("{kind} {error}").trim(), expect, "{there}");
    };
    let (file, dir, link) = (entry("t", File, ""), entry("./t/", Directory, ""), entry("t", Symlink, "y"));
    for there in ["file", "link", "dangling"] {
        check(there, file.clone(), true, "file");
        check(there, link.clone(), true, "link");
        check(there, dir.clone(), false, "dir");
        check(
            there,
            dir.clone(),
            true,
            &format!(
                "{} cannot overwrite non-directory \"/d/t\" with directory \"/d\"",
                if there == "file" { "file" } else { "link" }
            ),
        );
    }
    check("dir", file.clone(), false, "file");
    check("dir", link, false, "link");
    check("dir", dir, true, "dir");
    check("dir", file, true, "dir cannot overwrite directory \"/d/t\" with non-directory \"/d\"");
    assert!(scratch.at("d/t/below/deep").exists(), "a directory that stays keeps what is in it");
}

/// Archives that mean harm.
#[test]
fn hostile_archives() {
    let Some(scratch) = Scratch::new() else { return };
    let outside = scratch.0.join("outside").display().to_string();
    let up = format!("../../../../../../../../../..{outside}");
    let check = |entries: &[Entry], expect: &str| {
        let error = scratch.put("d", &archive(entries), Options::default());
        assert_eq!(error, expect, "{entries:?}");
        assert!(scratch.is_kept(), "{entries:?}");
    };
    check(&[entry("../x", File, "")], "\"../x\" is outside of \"/d\"");
    check(&[entry("a/../../x", File, "")], "\"a/../../x\" is outside of \"/d\"");
    check(&[entry(&format!("{up}/x"), File, "")], &format!("\"{up}/x\" is outside of \"/d\""));
    // An absolute name, and links out of the root, lead to the same place inside of it.
    check(&[entry(&format!("{outside}/x"), File, "")], "");
    assert!(scratch.at("d").join(outside.trim_start_matches('/')).join("x").exists());
    check(
        &[entry("l", Symlink, &outside), entry("l/x", File, "")],
        "extract \"l/x\": No such file or directory (os error 2)",
    );
    fs::create_dir_all(scratch.at("").join(outside.trim_start_matches('/'))).unwrap();
    check(&[entry("l", Symlink, &outside), entry("l/x", File, "")], "");
    check(&[entry("m", Symlink, &up), entry("m/y", File, "")], "");
    for name in ["x", "y"] {
        assert!(scratch.at("").join(outside.trim_start_matches('/')).join(name).exists(), "{name}");
    }
    // A link to a file is replaced, not written through.
    fs::write(scratch.0.join("outside/kept"), "kept").unwrap();
    let through = [entry("n", Symlink, &format!("{outside}/kept")), Entry { size: 3, ..entry("n", File, "") }];
    assert_eq!(scratch.put("d", &archive(&through), Options::default()), "");
    assert_eq!(fs::read_to_string(scratch.0.join("outside/kept")).unwrap(), "kept");
    fs::remove_file(scratch.0.join("outside/kept")).unwrap();
    // Hard links.
    let gone = "No such file or directory (os error 2)";
    check(&[entry("h", Link, "../../outside")], "invalid hardlink \"h\" -> \"../../outside\"");
    check(&[entry("h", Link, "./")], "invalid hardlink \"h\" -> \"./\"");
    check(&[entry("h", Link, "/etc/passwd")], &format!("extract \"h\": link to \"/etc/passwd\": {gone}"));
    check(
        &[entry("r", Symlink, &up), entry("h", Link, "r/../kept")],
        &format!("extract \"h\": link to \"r/../kept\": {gone}"),
    );
    assert!(!scratch.at("d/etc").exists(), "what is linked to is not made");
}

#[test]
fn streams_that_are_no_archives() {
    let Some(scratch) = Scratch::new() else { return };
    let whole = archive(&[Entry { size: 5000, ..entry("f", File, "") }]);
    assert_eq!(scratch.put("d", b"", Options::default()), "");
    assert_eq!(scratch.put("d", &zstd::encode_all(&whole[..], 1).unwrap(), Options::default()), "");
    assert_eq!(fs::metadata(scratch.at("d/f")).unwrap().len(), 5000);
    let refused = |bytes: &[u8], expect: &str| {
        let error = scratch.put("d", bytes, Options::default());
        assert!(error.contains(expect), "{error}");
    };
    refused(&whole[..2000], "it was cut off");
    refused(&[b'g'; 2000], "read the archive: ");
    refused(b"BZh91AY&SY.....", "bzip2 compression is not supported");
    refused(b"\xfd7zXZ\0.....", "xz compression is not supported");
}

/// A container that swaps a directory for a link all the time, while something is put into it.
#[test]
fn links_that_are_put_in_the_way() {
    let Some(scratch) = Scratch::new() else { return };
    let outside = scratch.0.join("outside");
    let stop = AtomicBool::new(false);
    let entries: Vec<Entry> = (0..3).map(|n| entry(&format!("sub/{n}/file"), File, "")).collect();
    let bytes = archive(&entries);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            fs::create_dir(scratch.at("swap")).unwrap();
            let (a, b) = (scratch.at("d"), scratch.at("swap/link"));
            let cwd = rustix::fs::CWD;
            while !stop.load(Ordering::Relaxed) {
                symlink(&outside, &b).unwrap();
                rustix::fs::renameat_with(cwd, &a, cwd, &b, rustix::fs::RenameFlags::EXCHANGE).unwrap();
                std::thread::yield_now();
                rustix::fs::renameat_with(cwd, &a, cwd, &b, rustix::fs::RenameFlags::EXCHANGE).unwrap();
                fs::remove_file(&b).unwrap();
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
        });
        // Until both have happened: nothing in the way, and something.
        let (mut done, mut failed) = (0, 0);
        for tries in 0..100_000 {
            let error = scratch.put("d", &bytes, Options::default());
            if error.is_empty() {
                done += 1;
            } else {
                failed += 1;
            }
            assert!(scratch.is_kept());
            if tries > 300 && done > 0 && failed > 0 {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(done > 0 && failed > 0, "{done} {failed}");
    });
}

/// A container that puts a file of its own in the place of what was just made: its owner stays who it was.
#[test]
fn what_is_put_in_the_place_of_a_link_keeps_its_owner() {
    let Some(scratch) = Scratch::new() else { return };
    let victim = scratch.at("victim");
    fs::write(&victim, "").unwrap();
    std::os::unix::fs::chown(&victim, Some(1234), Some(1234)).unwrap();
    let entries = [entry("x/y/link", Symlink, "/d"), Entry { uid: 7, gid: 7, ..entry("link", Symlink, "/d") }];
    let bytes = archive(&entries);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let cwd = rustix::fs::CWD;
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                for name in ["link", "x", "x/y"] {
                    number += 1;
                    let spare = scratch.at(&format!("spare{number}"));
                    fs::hard_link(&victim, &spare).unwrap();
                    // In the place of what is there, whenever it is.
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    let _ = rustix::fs::renameat_with(cwd, &spare, cwd, scratch.at("d").join(name), flags);
                    let _ = fs::remove_file(&spare).or_else(|_| fs::remove_dir_all(&spare));
                }
            }
        });
        for _ in 0..2000 {
            // Whether it is done or refused is one.
            let _ = scratch.put("d", &bytes, Options::default());
            let owner = fs::metadata(&victim).unwrap().uid();
            if owner != 1234 {
                stop.store(true, Ordering::Relaxed);
            }
            assert_eq!(owner, 1234);
            let _ = fs::remove_dir_all(scratch.at("d"));
            fs::create_dir_all(scratch.at("d")).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn mounts_in_a_tree_are_not_removed() {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    let Some(scratch) = Scratch::new() else { return };
    let test = || {
        gantry_sys::ns::unshare(0x2_0000).unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        fs::create_dir_all(scratch.at("d/t/volume")).unwrap();
        mount("none", scratch.at("d/t/volume"), "tmpfs", MountFlags::empty(), None).unwrap();
        fs::write(scratch.at("d/t/volume/kept"), "kept").unwrap();
        let error = scratch.put("d", &archive(&[entry("t", File, "")]), Options::default());
        assert!(error.starts_with("extract \"t\": "), "{error}");
        assert!(scratch.at("d/t/volume/kept").exists());
        assert_eq!(tree::size(&scratch.at("d")).unwrap(), 0, "what is mounted does not count");
    };
    std::thread::scope(|scope| scope.spawn(test).join()).unwrap();
}

#[test]
fn sizes() {
    let Some(scratch) = Scratch::new() else { return };
    fs::write(scratch.at("d/a"), [0; 1000]).unwrap();
    fs::hard_link(scratch.at("d/a"), scratch.at("d/b")).unwrap();
    fs::create_dir(scratch.at("d/e")).unwrap();
    fs::write(scratch.at("d/e/c"), [0; 24]).unwrap();
    symlink(&scratch.0, scratch.at("d/out")).unwrap();
    let link = fs::symlink_metadata(scratch.at("d/out")).unwrap().len();
    assert_eq!(tree::size(&scratch.at("d")).unwrap(), 1024 + link);
}

/// What comes out goes in again as it was.
#[test]
fn out_and_in() {
    let Some(scratch) = Scratch::new() else { return };
    fs::write(scratch.at("d/file"), "text").unwrap();
    fs::set_permissions(scratch.at("d/file"), fs::Permissions::from_mode(0o741)).unwrap();
    symlink("file", scratch.at("d/link")).unwrap();
    let root = scratch.root();
    let (parent, last, stat) = look(root.as_fd(), "c", "/d").unwrap();
    let mut bytes = Vec::new();
    let live = layer::Live::default();
    layer::archive_as(parent.as_fd(), last.as_bytes(), stat.name.as_bytes(), &live, &mut bytes).unwrap();
    fs::create_dir(scratch.at("new")).unwrap();
    assert_eq!(scratch.put("/new", &bytes, Options::default()), "");
    let there = fs::metadata(scratch.at("new/d/file")).unwrap();
    assert_eq!((there.mode() & 0o777, there.len()), (0o741, 4));
    assert_eq!(fs::read_link(scratch.at("new/d/link")).unwrap(), Path::new("file"));
}

#[test]
fn maps_of_ids() {
    let check = |map: &str, expect: Option<(u32, u32)>| {
        assert_eq!(Ids::read(map).map(|ids| (ids.first, ids.count)), expect, "{map:?}");
    };
    check("         0 1879048192      65536\n", Some((1_879_048_192, 65_536)));
    check("0 0 4294967295\n", Some((0, u32::MAX)));
    check("0 5 1\n1 7 1\n", None);
    check("1 5 1\n", None);
    check("", None);
    let ids = Ids { first: 70_000, count: 2 };
    assert_eq!((ids.outside(1), ids.outside(2)), (Some(70_001), None));
}
