//! Layers that mean harm: each is refused with an error that says why, and nothing outside of the root changes.

use std::fs;

use gantry_store::layer::{Limits, Options};
use gantry_tar::{Entry, Extent, Kind, Writer};

use crate::kit::{Place, archive, describe, entry, same, unpack, unpack_with};

/// The error of unpacking. What lies beside the root must be as before.
fn refusal(archive: &[u8], options: &Options) -> Option<String> {
    let place = Place::new()?;
    let root = place.dir("root");
    let outside = place.dir("outside");
    fs::write(outside.join("secret"), "secret").unwrap();
    let before = describe(&outside);
    let result = unpack_with(archive, &root, options);
    same(&describe(&outside), &before, "outside of the root");
    let mut names: Vec<_> = fs::read_dir(place.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["outside", "root"]);
    Some(result.map(|unpacked| format!("{:?}", unpacked.pending)).expect_err("it was unpacked").to_string())
}

#[track_caller]
fn check(lines: &[&str], expect: &str) {
    let Some(error) = refusal(&archive(lines), &Options::default()) else { return };
    assert!(error.contains(expect), "{lines:?}: {error}");
}

#[test]
fn names_that_lead_out() {
    check(&["../outside/f: x"], "entry \"../outside/f\": a name with .. may lead out");
    check(&["/../outside/f: x"], "..");
    check(&["d/", "d/../../outside/f: x"], "..");
    check(&["d/.."], "..");
    check(&["f = ../outside/secret"], "..");
    check(&["f = /../outside/secret"], "..");
    check(&["./: x"], "root of a layer is a directory");
    check(&["/ -> outside"], "root of a layer is a directory");
    check(&["f: x", "f/g: y"], "no directory");
    check(&["a -> b", "b -> a", "a/f: x"], "symbolic links");
    check(&[".wh..", "x"], "whiteout of nothing");
    check(&["d/.wh.."], "whiteout of nothing");
    check(&["d/.wh..."], "whiteout of nothing");
    check(&[".wh."], "whiteout of nothing");
    check(&[".wh.d/f: x"], "inside of a whiteout");
    check(&[&format!("{}: x", "n".repeat(256))], "a part of the name exceeds the limit of 255");
    check(&[&format!("{}: x", "n/".repeat(1100))], "number of directories above it exceeds the limit of 1024");
    check(&[&format!("{}: x", "long-name/".repeat(410))], "length in bytes of the name exceeds the limit of 4096");
    check(&[&format!("l -> {}", "t/".repeat(2100))], "length in bytes of its target exceeds");
    check(&["d/", "f = d"], "make the hard link");
}

/// These unpack, inside the root.
#[test]
fn links_that_lead_out_lead_nowhere() {
    let check = |lines: &[&str], inside: &str| {
        let Some(place) = Place::new() else { return };
        let (root, outside) = (place.dir("root"), place.dir("outside"));
        fs::write(outside.join("secret"), "secret").unwrap();
        let before = describe(&outside);
        let lines: Vec<String> = lines.iter().map(|line| line.replace("OUT", outside.to_str().unwrap())).collect();
        let result = unpack(&archive(&lines.iter().map(String::as_str).collect::<Vec<_>>()), &root);
        same(&describe(&outside), &before, "outside of the root");
        result.unwrap_or_else(|error| panic!("{lines:?}: {error}"));
        let inside = inside.replace("OUT", outside.to_str().unwrap().trim_start_matches('/'));
        assert_eq!(fs::read_to_string(root.join(inside)).unwrap(), "x", "{lines:?}");
    };
    check(&["l -> ../outside", "l/secret: x"], "outside/secret");
    check(&["l -> OUT", "l/secret: x"], "OUT/secret");
    check(&["l -> OUT/secret", "l: x"], "l");
    check(&["d/", "d/f: x", "d -> ../outside", "d/secret: x"], "outside/secret");
    check(&["a -> b", "b -> ../../outside", "a/secret: x"], "outside/secret");
    // Whiteouts and modes do not reach through a link either.
    check(&["l -> ../outside", "l/.wh.secret", "f: x"], "f");
    check(&["l -> ../outside/secret", "h = l", "h: x"], "h");
    check(&["l -> ../outside", "l/", "l/secret: x"], "l/secret");
}

#[test]
fn hard_links_do_not_follow() {
    let Some(place) = Place::new() else { return };
    let (root, outside) = (place.dir("root"), place.dir("outside"));
    fs::write(outside.join("secret"), "secret").unwrap();
    // The target is through a link that a shell would follow out; from inside it leads nowhere.
    let unpacked = unpack(&archive(&["l -> ../outside", "h = l/secret"]), &root).unwrap();
    let error = crate::kit::settle(&root, &unpacked.pending, &[]).unwrap_err().to_string();
    assert!(error.contains("neither in this layer nor in one below"), "{error}");
    assert!(!root.join("h").exists());
}

#[test]
fn limits() {
    let check = |archive: &[u8], change: fn(&mut Limits), expect: &str| {
        let mut options = Options::default();
        change(&mut options.limits);
        let Some(error) = refusal(archive, &options) else { return };
        assert!(error.contains(expect), "{error}");
    };
    let many: Vec<String> = (0..20).map(|index| format!("d{index}/")).collect();
    let many = archive(&many.iter().map(String::as_str).collect::<Vec<_>>());
    check(&many, |limits| limits.entries = 10, "entry \"d10/\": the number of entries exceeds the limit of 10");
    check(&many, |limits| limits.bytes = 5000, "uncompressed layer exceeds the limit of 5000");
    check(&many, |limits| limits.names = 500, "names of all directories exceeds the limit of 500");
    check(&archive(&["a/b/c/d/f: x"]), |limits| limits.depth = 4, "\"a/b/c/d/f\": the number of directories");
    check(&archive(&["a", "abcdef: x"]), |limits| limits.path = 4, "\"abcdef\": the length in bytes of the name");
    let long = archive(&[&format!("{}: x", "n/".repeat(300))]);
    check(&long, |limits| limits.pax = 100, "extended header exceeds the limit of 100");
    let zeros = zstd::encode_all(vec![0_u8; 20 << 20].as_slice(), 1).unwrap();
    let small = |limits: &mut Limits| (limits.ratio, limits.ratio_free) = (50, 1 << 20);
    check(&zeros, small, "ratio of the uncompressed to the compressed layer exceeds the limit of 50");
    let (mut huge, _) = entry("huge");
    (huge.size, huge.sparse) = (1 << 50, Some(vec![Extent { offset: 0, length: 0 }]));
    let mut writer = Writer::new(Vec::new());
    writer.begin(&huge).unwrap();
    check(&writer.finish().unwrap(), |_| (), "\"huge\": the size in bytes of a file exceeds");
}

#[test]
fn what_no_kernel_has() {
    let check = |change: fn(&mut Entry), expect: &str| {
        let (mut entry, _) = entry("f");
        change(&mut entry);
        let mut writer = Writer::new(Vec::new());
        writer.begin(&entry).unwrap();
        let Some(error) = refusal(&writer.finish().unwrap(), &Options::default()) else { return };
        assert!(error.contains(expect), "{error}");
    };
    check(|entry| entry.uid = u64::from(u32::MAX), "no id that the kernel has");
    check(|entry| entry.gid = 1 << 40, "no id that the kernel has");
    check(|entry| entry.xattrs = vec![(b"user.large".to_vec(), vec![0; 70_000])], "extended attribute of \"f\"");
}

#[test]
fn devices_only_where_they_are_allowed() {
    let options = Options { devices: false, ..Options::default() };
    for line in ["null c 1 3", "disk b 8 0"] {
        let Some(error) = refusal(&archive(&[line]), &options) else { return };
        assert!(error.contains("device node"), "{error}");
    }
    let Some(place) = Place::new() else { return };
    unpack_with(&archive(&["p p", ".wh.gone"]), place.path(), &options).unwrap();
}

/// An archive cannot speak to the overlay file system, which would follow it out of the layer.
#[test]
fn attributes_of_the_overlay_are_left_out() {
    let Some(place) = Place::new() else { return };
    let mut writer = Writer::new(Vec::new());
    for kind in [Kind::Directory, Kind::File] {
        let xattrs = [("trusted.overlay.redirect", "/etc"), ("trusted.overlay.metacopy", ""), ("user.kept", "1")];
        let xattrs = xattrs.map(|(name, value)| (name.into(), value.into())).to_vec();
        let path = if kind == Kind::File { "f" } else { "d" }.into();
        writer.begin(&Entry { path, kind, mode: 0o755, xattrs, ..Entry::default() }).unwrap();
    }
    unpack(&writer.finish().unwrap(), place.path()).unwrap();
    let described = describe(place.path());
    for name in ["./d", "./f"] {
        assert!(described[name].ends_with("user.kept=1"), "{}", described[name]);
        assert!(!described[name].contains("overlay"), "{}", described[name]);
    }
}

#[test]
fn a_deep_tree_needs_few_open_files() {
    let Some(place) = Place::new() else { return };
    let deep = format!("{}: x", (0..1000).map(|_| "d/").collect::<String>() + "f");
    let higher = format!("{}: y", (0..40).map(|_| "d/").collect::<String>() + "g");
    let beside = format!("{}: z", (0..600).map(|_| "d/").collect::<String>() + "h");
    let archive = archive(&["./", &deep, &higher, &beside, &deep]);
    unpack(&archive, place.path()).unwrap();
    assert_eq!(fs::read_to_string(place.path().join("d/".repeat(600)).join("h")).unwrap(), "z");
    assert_eq!(fs::read_to_string(place.path().join("d/".repeat(1000)).join("f")).unwrap(), "x");
}
