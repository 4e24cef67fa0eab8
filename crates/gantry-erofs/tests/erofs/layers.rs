//! Archives of layers: what whiteouts become, and what is told of that needs the layers below.

use crate::model::{Tree, What};
use crate::reader;
use gantry_erofs::{Attributes, Builder, Kind, Options, tar};
use gantry_tar::{Entry, Extent, Kind as In, Time, Writer};
use std::io::{Cursor, Read};

/// What is read for an image, counting how much of it.
struct Counted<'a>(&'a [u8], usize);

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1 += count;
        Ok(count)
    }
}

fn archive(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.append(entry, data).unwrap();
    }
    // What follows the end is a part of a layer's digest too.
    [writer.finish().unwrap(), vec![0; 3000]].concat()
}

fn image(entries: &[(Entry, &[u8])], options: &tar::Options) -> gantry_erofs::Result<(Tree, tar::Contents)> {
    let archive = archive(entries);
    let mut reader = Counted(&archive, 0);
    let mut builder = Builder::new(Cursor::new(Vec::new()), Options::default())?;
    let contents = tar::read(&mut reader, &mut builder, options)?;
    assert_eq!(reader.1, archive.len(), "read to its end");
    Ok((reader::read(&builder.finish()?.0.into_inner()), contents))
}

fn entry(path: &str, kind: In) -> Entry {
    Entry { path: path.into(), kind, mode: 0o644, ..Entry::default() }
}

fn with_link(path: &str, kind: In, link: &str) -> (Entry, &'static [u8]) {
    (Entry { link: link.into(), ..entry(path, kind) }, b"")
}

fn file(path: &str) -> (Entry, &'static [u8]) {
    (Entry { size: 4, ..entry(path, In::File) }, b"data")
}

fn dir(path: &str) -> (Entry, &'static [u8]) {
    (Entry { mode: 0o711, ..entry(path, In::Directory) }, b"")
}

/// One word for each name of an image but the root.
fn words(tree: &Tree) -> String {
    let word = |(path, view): (&Vec<u8>, &crate::model::View)| {
        let opaque = view.xattrs.get(&b"trusted.overlay.opaque"[..]).map(|value| value == b"y");
        let kind = match (&view.what, opaque) {
            (What::Directory, Some(true)) => "!/",
            (What::Directory, None) => "/",
            (What::Char(0, 0), None) => "-",
            (What::Symlink(_), None) => "@",
            (What::File(data), None) if data == b"data" => "",
            other => panic!("{}: {other:?}", path.escape_ascii()),
        };
        format!("{}{kind}", path.escape_ascii())
    };
    tree.iter().filter(|(path, _)| !path.is_empty()).map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn whiteouts() {
    let check = |entries: &[(Entry, &[u8])], expect: &str| {
        let (tree, contents) = image(entries, &tar::Options::default()).unwrap();
        assert_eq!(words(&tree), expect);
        assert_eq!(contents.entries, entries.len() as u64);
    };
    check(&[file("a/.wh.gone"), file("a/here")], "a/ a/gone- a/here");
    check(&[dir("a"), file("a/.wh..wh..opq"), file("a/b")], "a!/ a/b");
    check(&[file("a/.wh..wh..opq"), dir("a/"), file("a/b")], "a!/ a/b");
    // Beside an entry of the same name.
    check(&[file(".wh.a"), dir("a"), file("a/b")], "a!/ a/b");
    check(&[dir("a"), file("a/b"), file(".wh.a")], "a!/ a/b");
    check(&[file(".wh.a"), file("a/b")], "a!/ a/b");
    check(&[file(".wh.a"), file("a")], "a");
    check(&[file("a"), file(".wh.a")], "a");
    check(&[file("a"), dir("a"), file("a/b")], "a!/ a/b");
    check(&[file("a/b"), file("a"), dir("a")], "a!/");
    // What AUFS kept for itself.
    check(&[dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs"), file("a")], "a");
    // As overlayfs itself stores them, and what an archive may not say.
    check(&[(entry("a", In::Char), b""), (entry("b/c", In::Char), b""), file("b/c/d")], "a- b/ b/c!/ b/c/d");
    let mut hostile = dir("a");
    hostile.0.xattrs = vec![(b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec())];
    check(&[hostile], "a/");
    // Through links, which never lead out.
    let to = |path: &str, target: &str| with_link(path, In::Symlink, target);
    check(&[dir("usr"), to("lib", "usr/lib"), file("lib/a"), file("lib/b")], "lib@ usr/ usr/lib/ usr/lib/a usr/lib/b");
    check(&[to("up", "../../../x"), file("up/a")], "up@ x/ x/a");
    check(&[dir("a/b"), to("a/b/c", "/../d/../e"), file("a/b/c/f")], "a/ a/b/ a/b/c@ d/ e/ e/f");
    check(&[dir("x"), to("l", "x"), file("l/a"), file("l"), to("m", "x"), file("m/b")], "l m@ x/ x/a x/b");
    check(&[dir("x"), to("l", "x"), file("l/a"), dir("l"), file("l/a")], "l!/ l/a x/ x/a");
}

#[test]
fn what_needs_the_layers_below() {
    let link = |path: &str, target: &str| with_link(path, In::Link, target);
    let (tree, contents) = image(
        &[
            file("a"),
            link("b", "./a"),
            link("c", "below/file"),
            link("d", "below/other"),
            file("d"),
            file("e"),
            link("e", "below/third"),
            file(".wh.f"),
            link("g", "f"),
            file(".wh..wh..opq"),
        ],
        &tar::Options::default(),
    )
    .unwrap();
    assert_eq!(words(&tree), "a b d f-");
    assert_eq!((tree[&b"b"[..]].links, &tree[&b"b"[..]].first[..]), (2, &b"a"[..]));
    let pair = |path: &str, target: &str| (path.as_bytes().to_vec(), target.as_bytes().to_vec());
    let links = vec![pair("c", "below/file"), pair("e", "below/third"), pair("g", "f")];
    assert_eq!(contents, tar::Contents { entries: 10, links, opaque_root: true, ..tar::Contents::default() });
    // They are added by who has the layers below.
    let archive = archive(&[link("x/c", "below")]);
    let mut builder = Builder::new(Cursor::new(Vec::new()), Options::default()).unwrap();
    let contents = tar::read(&archive[..], &mut builder, &tar::Options::default()).unwrap();
    assert_eq!(builder.implied(), [b""]);
    let attributes = Attributes { mode: 0o600, ..Attributes::default() };
    builder.file(&contents.links[0].0, attributes, 4, &mut &b"data"[..]).unwrap();
    assert_eq!(builder.implied(), [&b""[..], b"x"]);
    builder.add(b"x", Kind::Directory, Attributes { mode: 0o750, ..Attributes::default() }).unwrap();
    let tree = reader::read(&builder.finish().unwrap().0.into_inner());
    assert_eq!((words(&tree), tree[&b"x"[..]].mode), ("x/ x/c".into(), 0o750));
}

#[test]
fn attributes_are_kept() {
    let mut all = file("all");
    all.0 = Entry {
        mode: 0o4755,
        uid: u64::from(u32::MAX) - 1,
        gid: 3_000_000,
        mtime: Time { seconds: -5, nanos: 7 },
        xattrs: vec![(b"user.a".to_vec(), b"1".to_vec()), (b"com.apple.b".to_vec(), b"2".to_vec())],
        ..all.0
    };
    let map = vec![Extent { offset: 10_000, length: 3 }, Extent { offset: 2_000_000, length: 2 }];
    let sparse = Entry { size: 2_000_100, sparse: Some(map), ..entry("sparse", In::File) };
    let archive = archive(&[all, (sparse, b"abcde"), with_link("link", In::Symlink, "all")]);
    let (out, summary, contents) =
        tar::from_tar(&archive[..], Cursor::new(Vec::new()), Options { uuid: Some([1; 16]), ..Options::default() })
            .unwrap();
    assert_eq!((out.get_ref().len() as u64, summary.inodes, summary.uuid), (summary.size, 4, [1; 16]));
    assert_eq!(contents.left_out.iter().collect::<Vec<_>>(), [b"com.apple.b"]);
    let tree = reader::read(out.get_ref());
    let all = &tree[&b"all"[..]];
    assert_eq!((all.mode, all.owner, all.mtime), (0o4755, (u32::MAX - 1, 3_000_000), (-5, 7)));
    assert_eq!(all.xattrs.iter().collect::<Vec<_>>(), [(&b"user.a".to_vec(), &b"1".to_vec())]);
    assert_eq!(tree[&b"link"[..]].mode, 0o777);
    let mut content = vec![0; 2_000_100];
    content[10_000..10_003].copy_from_slice(b"abc");
    content[2_000_000..2_000_002].copy_from_slice(b"de");
    assert_eq!(tree[&b"sparse"[..]].what, What::File(content));
}

#[test]
fn refused() {
    let check = |entries: &[(Entry, &[u8])], options: tar::Options, expect: &str| {
        let error = image(entries, &options).expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}");
    };
    let usual = tar::Options::default;
    check(&[file("a/../b")], usual(), "leads out of its directory");
    check(&[file(".wh.a/b")], usual(), "inside of a whiteout");
    check(&[file("a/.wh.")], usual(), "a whiteout of nothing");
    check(&[file(".wh...")], usual(), "a whiteout of nothing");
    check(&[file("a"), file("a/b")], usual(), "a part of the path is no directory");
    let to = |path: &str, target: &str| with_link(path, In::Symlink, target);
    check(&[to("a", "b"), to("b", "a"), file("a/c")], usual(), "symbolic links on the way exceeds the limit of 40");
    check(&[dir("d"), with_link("a", In::Link, "d")], usual(), "a hard link to a directory");
    check(&[with_link("a", In::Link, "../b")], usual(), "leads out");
    let device = Entry { major: 1, minor: 3, ..entry("null", In::Char) };
    check(&[(device, b"")], tar::Options { devices: false, ..usual() }, "\"null\": it is a device node");
    check(&[(Entry { uid: 1 << 32, ..entry("a", In::Fifo) }, b"")], usual(), "no id that the kernel has");
    let many: Vec<_> = (0..100).map(|index| with_link(&format!("{index}"), In::Link, "below")).collect();
    check(&many, tar::Options { links: 1000, ..usual() }, "hard links to layers below exceeds the limit of 1000");
    // A device that hides is none.
    let options = tar::Options { devices: false, ..usual() };
    assert_eq!(words(&image(&[(entry("a", In::Char), b"")], &options).unwrap().0), "a-");
}

#[test]
fn damaged_archives_make_no_image() {
    let whole = archive(&[file("a"), file("b")]);
    for cut in [1, 511, 513, 1030, 1536] {
        let out = tar::from_tar(&whole[..cut], Cursor::new(Vec::new()), Options::default());
        assert!(out.is_err(), "{cut}");
    }
}
