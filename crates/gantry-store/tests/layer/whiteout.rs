//! Whiteouts, opaque directories, and names that come twice.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use crate::kit::{Place, archive, diff, run, settle, unpack};

/// What a layer looks like on disk: `NAME/`, `NAME/ opaque`, `NAME whiteout`, `NAME -> TARGET`, `NAME: TEXT`.
fn listing(root: &Path) -> Vec<String> {
    let mut all = Vec::new();
    list(root, "", &mut all);
    all
}

fn list(root: &Path, prefix: &str, all: &mut Vec<String>) {
    let mut names: Vec<_> = fs::read_dir(root).unwrap().map(|item| item.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = root.join(&name);
        let data = fs::symlink_metadata(&path).unwrap();
        let name = format!("{prefix}{}", name.to_str().unwrap());
        if data.is_dir() {
            let mut value = [0; 8];
            let opaque = rustix::fs::lgetxattr(&path, "trusted.overlay.opaque", value.as_mut_slice()).is_ok();
            all.push(format!("{name}/{}", if opaque { " opaque" } else { "" }));
            list(&path, &format!("{name}/"), all);
        } else if data.file_type().is_char_device() && data.rdev() == 0 {
            all.push(format!("{name} whiteout"));
        } else if data.is_symlink() {
            all.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
        } else {
            all.push(format!("{name}: {}", fs::read_to_string(&path).unwrap()));
        }
    }
}

#[track_caller]
fn check(lines: &[&str], expect: &[&str]) {
    let Some(place) = Place::new() else { return };
    unpack(&archive(lines), place.path()).unwrap_or_else(|error| panic!("{lines:?}: {error}"));
    assert_eq!(listing(place.path()), expect, "{lines:?}");
}

#[test]
fn whiteouts() {
    check(&[".wh.gone"], &["gone whiteout"]);
    check(&["d/", "d/.wh.gone", "d/.wh.gone"], &["d/", "d/gone whiteout"]);
    check(&["deep/er/.wh.gone"], &["deep/", "deep/er/", "deep/er/gone whiteout"]);
    check(&["gone c 0 0"], &["gone whiteout"]);
    check(&[".wh.gone/"], &["gone whiteout"]);
    check(&["d/", "d/.wh..wh..opq"], &["d/ opaque"]);
    check(&["d/.wh..wh..opq", "d/f: x", "d/"], &["d/ opaque", "d/f: x"]);
    check(&["link -> d", "d/", "link/.wh.x"], &["d/", "d/x whiteout", "link -> d"]);
    // What AUFS kept for itself.
    check(&[".wh..wh.plnk/", ".wh..wh.plnk/1.2: x", ".wh..wh.aufs"], &[]);
}

#[test]
fn a_whiteout_beside_an_entry_of_its_name() {
    check(&[".wh.f", "f: new"], &["f: new"]);
    check(&["f: new", ".wh.f"], &["f: new"]);
    check(&[".wh.d", "d/", "d/f: x"], &["d/ opaque", "d/f: x"]);
    check(&["d/", "d/f: x", ".wh.d"], &["d/ opaque", "d/f: x"]);
    check(&[".wh.d", "d/f: x"], &["d/ opaque", "d/f: x"]);
    check(&["d/f: x", ".wh.d"], &["d/ opaque", "d/f: x"]);
    check(&[".wh.l", "l -> t"], &["l -> t"]);
}

#[test]
fn the_last_of_a_name_wins() {
    check(&["f: old", "f: new"], &["f: new"]);
    check(&["d/", "d/e/f: x", "d: file"], &["d: file"]);
    check(&["d: file", "d/", "d/f: x"], &["d/ opaque", "d/f: x"]);
    check(&["l -> d", "l/", "l/f: x"], &["l/ opaque", "l/f: x"]);
    check(&["d/", "d/f: x", "d/", "d/g: y"], &["d/", "d/f: x", "d/g: y"]);
    check(&["a: one", "b = a", "a: two"], &["a: two", "b: one"]);
    check(&["a: one", "b: two", "b = a"], &["a: one", "b: one"]);
    check(&["a: one", "a = a"], &["a: one"]);
    check(&["d/a: one", "d/b = d/a", "d -> e", "e/", "e/c: two"], &["d -> e", "e/", "e/c: two"]);
}

#[test]
fn links_on_the_way_stay_inside() {
    check(&["usr/lib/", "lib -> usr/lib", "lib/f: x"], &["lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/f: x"]);
    check(&["usr/", "lib -> /usr", "lib/f: x"], &["lib -> /usr", "usr/", "usr/f: x"]);
    check(&["d/", "d/up -> ../../../..", "d/up/f: x"], &["d/", "d/up -> ../../../..", "f: x"]);
    check(&["l -> new/dir", "l/f: x"], &["l -> new/dir", "new/", "new/dir/", "new/dir/f: x"]);
    check(&["d/f: x", "l -> d", "g = l/f"], &["d/", "d/f: x", "g: x", "l -> d"]);
}

/// Three layers, as the overlay file system shows them together.
#[test]
fn a_mounted_overlay() {
    let Some(place) = Place::new() else { return };
    let layers: [&[&str]; 3] = [
        &[
            "./",
            "keep: 1",
            "gone: 1",
            "dir/",
            "dir/old: 1",
            "opaque/",
            "opaque/old: 1",
            "file-to-dir: 1",
            "root/",
            "root/x: 1",
        ],
        &[
            "./",
            ".wh.gone",
            "dir/new: 2",
            "opaque/",
            "opaque/.wh..wh..opq",
            "opaque/new: 2",
            ".wh.file-to-dir",
            "file-to-dir/",
            "file-to-dir/x: 2",
        ],
        &["./", "gone: 3", "dir/.wh.old", "hard = keep", "root: 3"],
    ];
    let mut roots: Vec<std::path::PathBuf> = Vec::new();
    for (index, lines) in layers.iter().enumerate() {
        let root = place.dir(&format!("l{index}"));
        let unpacked = unpack(&archive(lines), &root).unwrap();
        let lowers: Vec<&Path> = roots.iter().rev().map(std::path::PathBuf::as_path).collect();
        settle(&root, &unpacked.pending, &lowers).unwrap();
        roots.push(root);
    }
    let (all, empty) = (place.dir("all"), place.dir("empty"));
    // In a mount namespace of its own, which takes the mount away.
    let script = format!(
        "mount -t overlay overlay -o lowerdir={}:l2:l1:l0 all && cd all && for f in $(find . -type f | sort); do echo $f $(cat $f); done; stat -c %h keep",
        empty.file_name().unwrap().to_str().unwrap()
    );
    let shown = run("unshare", &["-m", "sh", "-c", &script].map(std::ffi::OsStr::new), place.path());
    let expect = "./dir/new 2\n./file-to-dir/x 2\n./gone 3\n./hard 1\n./keep 1\n./opaque/new 2\n./root 3\n2\n";
    assert_eq!(shown, expect);
    assert_eq!(fs::read_dir(&all).unwrap().count(), 0);
}

#[test]
fn a_layer_goes_back_to_its_archive() {
    let Some(place) = Place::new() else { return };
    let root = place.dir("layer");
    unpack(&archive(&["./", ".wh.gone", "d/", "d/.wh..wh..opq", "d/.wh.x", "d/f: x", "e/", "e/g = d/f"]), &root)
        .unwrap();
    let mut reader = gantry_tar::Reader::new(std::io::Cursor::new(diff(&root).unwrap()));
    let mut entry = gantry_tar::Entry::default();
    let mut names = Vec::new();
    while reader.read_entry(&mut entry).unwrap() {
        names.push(String::from_utf8(entry.path.clone()).unwrap());
    }
    assert_eq!(names, ["./", "d/", "d/.wh..wh..opq", "d/f", "d/.wh.x", "e/", "e/g", ".wh.gone"]);
}
