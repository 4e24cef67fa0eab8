//! What a layer takes from the layers below it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use gantry_tar::{Entry, Time, Writer};

use crate::kit::{Place, archive, describe, entry, settle, unpack};

/// Layers on top of each other; the last one is returned.
fn stack(place: &Place, layers: &[Vec<u8>]) -> Result<PathBuf, String> {
    let mut roots: Vec<PathBuf> = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let root = place.dir(&format!("layer-{index}"));
        let unpacked = unpack(layer, &root).map_err(|error| error.to_string())?;
        let lowers: Vec<_> = roots.iter().rev().map(PathBuf::as_path).collect();
        settle(&root, &unpacked.pending, &lowers).map_err(|error| error.to_string())?;
        roots.push(root);
    }
    Ok(roots.pop().unwrap())
}

/// An archive of one entry with attributes that nothing has by itself.
fn marked(lines: &[&str]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for line in lines {
        let (plain, data) = entry(line);
        let mode = if line.ends_with('/') { 0o2750 } else { 0o4711 };
        let xattrs = vec![(b"user.mark".to_vec(), b"1".to_vec())];
        let mtime = Time { seconds: 1_400_000_000, nanos: 5 };
        let entry = Entry { mode, uid: 1000, gid: 3_000_000, mtime, xattrs, ..plain };
        writer.append(&entry, data.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn implied_directories_are_as_below() {
    let Some(place) = Place::new() else { return };
    let below = marked(&["./", "a/", "a/b/", "opaque/", "gone/", "other: x"]);
    let middle = archive(&["a/f: x"]);
    let above = archive(&["a/b/c/f: x", "opaque/.wh..wh..opq", "gone/f: x", ".wh.gone", "other/f: x"]);
    let top = stack(&place, &[below, middle, above]).unwrap();
    let described = describe(&top);
    let mark = "42750 1000:3000000 1400000000.000000005";
    for (name, expect) in [
        (".", format!("{mark} user.mark=1")),
        ("./a", format!("{mark} user.mark=1")),
        ("./a/b", format!("{mark} user.mark=1")),
        ("./opaque", format!("{mark} trusted.overlay.opaque=y user.mark=1")),
        ("./a/b/c", "40755 0:0 0.000000000".into()),
        ("./gone", "40755 0:0 0.000000000 trusted.overlay.opaque=y".into()),
        ("./other", "40755 0:0 0.000000000".into()),
    ] {
        assert_eq!(described[name], expect, "{name}");
    }
}

#[test]
fn hard_links_to_files_below() {
    let Some(place) = Place::new() else { return };
    let below = marked(&["d/", "d/f: text", "l -> d", "s -> d/f"]);
    let above = archive(&["./", "x/", "x/one = d/f", "x/two = d/f", "x/three = x/one", "x/through = l/f", "x/sym = s"]);
    let top = stack(&place, &[below, above]).unwrap();
    let described = describe(&top);
    let file = &described["./x/one"];
    assert!(file.starts_with("104711 1000:3000000 1400000000.000000005 4 "), "{file}");
    assert!(file.contains("user.mark=1"), "{file}");
    let inode = |name: &str| fs::symlink_metadata(top.join(name)).unwrap().ino();
    assert_eq!(fs::read_to_string(top.join("x/through")).unwrap(), "text");
    for name in ["x/two", "x/three", "d/f"] {
        assert_eq!(inode(name), inode("x/one"), "{name}");
    }
    assert!(described["./x/sym"].contains(" -> d/f"), "{}", described["./x/sym"]);
    assert!(described["./d"].starts_with("42750 1000:3000000 1400000000.000000005"), "{}", described["./d"]);
    assert_eq!(described["./x"], "40755 0:0 1500000000.000000000");
    assert_eq!(described["."], "40755 0:0 1500000000.000000000");
}

#[test]
fn a_name_that_is_hidden_is_not_brought_back() {
    let Some(place) = Place::new() else { return };
    let below = archive(&["./", "f: text", "d/", "d/g: text"]);
    let above = archive(&["./", ".wh.f", "new = f", "d/", "d/.wh..wh..opq", "other = d/g"]);
    let top = stack(&place, &[below, above]).unwrap();
    assert_eq!(fs::read_to_string(top.join("new")).unwrap(), "text");
    assert_eq!(fs::read_to_string(top.join("other")).unwrap(), "text");
    assert!(fs::symlink_metadata(top.join("f")).unwrap().rdev() == 0);
    assert!(!top.join("d/g").exists());
}

#[test]
fn links_to_nothing_are_refused() {
    let check = |layers: &[Vec<u8>]| {
        let Some(place) = Place::new() else { return };
        let error = stack(&place, layers).unwrap_err();
        assert!(error.contains("neither in this layer nor in one below it"), "{error}");
    };
    check(&[archive(&["f = nowhere"])]);
    check(&[archive(&["f = f"])]);
    check(&[archive(&["d/"]), archive(&["f = d"])]);
    check(&[archive(&["f: x"]), archive(&[".wh.f"]), archive(&["g = f"])]);
    check(&[archive(&["d/f: x"]), archive(&["d/", "d/.wh..wh..opq"]), archive(&["g = d/f"])]);
    check(&[archive(&["a -> b", "b -> a"]), archive(&["g = a/f"])]);
    check(&[archive(&["out -> ../../../../../../../etc"]), archive(&["g = out/passwd"])]);
}

#[test]
fn an_opaque_root_hides_everything() {
    let Some(place) = Place::new() else { return };
    let below = archive(&["./", "f: x", "d/", "d/g: x", "both: x"]);
    let top = stack(&place, &[below, archive(&["./", ".wh..wh..opq", "d/", "d/h: y", "both: y"])]).unwrap();
    let described = describe(&top);
    assert_eq!(described["./f"], "whiteout");
    assert!(described["./d"].ends_with("trusted.overlay.opaque=y"), "{}", described["./d"]);
    assert!(described["./both"].starts_with("100644"), "{}", described["./both"]);
}
