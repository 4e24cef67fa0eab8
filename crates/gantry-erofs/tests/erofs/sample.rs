//! Entries to make images of: one of everything, and random ones.

use crate::model::{Step, What};
use gantry_erofs::{Attributes, Time, Xattr};

/// A small generator of numbers that a seed repeats.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 31) % limit
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.below(256) as u8).collect()
    }
}

fn pair(name: &str, value: &[u8]) -> Xattr {
    (name.as_bytes().to_vec(), value.to_vec())
}

fn plain(mode: u32) -> Attributes {
    Attributes { mode, ..Attributes::default() }
}

fn add(path: impl AsRef<[u8]>, what: What, attributes: Attributes) -> Step {
    Step::Add(path.as_ref().to_vec(), what, attributes)
}

fn link(path: &str, target: &str) -> Step {
    Step::Link(path.as_bytes().to_vec(), target.as_bytes().to_vec())
}

/// A file capability: `cap_net_raw+ep`.
pub const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// An access control list for user 1000, as the kernel takes it.
const ACL: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0,
    255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255,
];

/// One of everything that a layer can have.
pub fn everything() -> Vec<Step> {
    let mut steps = vec![add("./", What::Directory, Attributes { uid: 7, ..plain(0o1777) })];
    let time = |seconds, nanos| Attributes { mtime: Time { seconds, nanos }, ..plain(0o644) };
    // Files around every edge: of blocks, and of what lies beside an inode.
    for size in [0, 1, 31, 100, 2047, 2048, 2049, 4031, 4032, 4033, 4095, 4096, 4097, 6144, 8192, 12_289, 300_000] {
        let data = Random(size as u64).bytes(size);
        steps.push(add(format!("files/{size}"), What::File(data), time(1_700_000_000 + size as i64, 123_456_789)));
    }
    steps.push(add("times/before", What::File(vec![1]), time(-1, 999_999_999)));
    steps.push(add("times/late", What::File(vec![2]), time(1 << 33, 1)));
    let owner = Attributes { uid: 3_000_000_000, gid: 4_294_967_294, ..plain(0o6751) };
    steps.push(add("owner", What::File(b"owner".to_vec()), owner));
    steps.push(add("links/target", What::File(vec![9; 5000]), plain(0o600)));
    steps.extend([link("links/a", "links/target"), link("other/b", "./links//target"), link("c", "other/b")]);
    for length in [1, 59, 60, 4000, 4095] {
        steps.push(add(format!("symlinks/{length}"), What::Symlink(vec![b'x'; length]), plain(0o777)));
    }
    steps.push(link("symlinks/again", "symlinks/59"));
    for (name, what) in [
        ("null", What::Char(1, 3)),
        ("whiteout", What::Char(0, 0)),
        ("high", What::Char(4095, 1_048_575)),
        ("disk", What::Block(8, 257)),
        ("pipe", What::Fifo),
        ("socket", What::Socket),
    ] {
        steps.push(add(format!("dev/{name}"), what, Attributes { gid: 5, ..plain(0o660) }));
    }
    steps.extend(attributes());
    steps.extend(names());
    steps.extend(replaced());
    steps
}

fn attributes() -> Vec<Step> {
    let with = |xattrs: Vec<Xattr>| Attributes { xattrs, ..plain(0o755) };
    let many: Vec<Xattr> = (0..40).map(|index| pair(&format!("user.{index}"), &[index; 90])).collect();
    vec![
        add("xattrs/opaque", What::Directory, with(vec![pair("trusted.overlay.opaque", b"y")])),
        add("xattrs/ping", What::File(b"ping".to_vec()), with(vec![pair("security.capability", &CAPABILITY)])),
        add("xattrs/empty", What::File(vec![3; 4096]), with(vec![pair("user.empty", b"")])),
        add("xattrs/large", What::File(vec![4; 50]), with(vec![pair("user.large", &[7; 9000]), pair("user.b", b"b")])),
        add("xattrs/many", What::Symlink(b"many".to_vec()), with(vec![pair("trusted.many", &[5; 4000])])),
        add("xattrs/list", What::Directory, with(many)),
        add("xattrs/device", What::Char(1, 5), with(vec![pair("trusted.device", b"zero")])),
        add(
            "xattrs/acl",
            What::File(vec![5]),
            Attributes { mode: 0o644, ..with(vec![pair("system.posix_acl_access", &ACL)]) },
        ),
        add("xattrs/acl.d", What::Directory, with(vec![pair("system.posix_acl_default", &ACL)])),
    ]
}

fn names() -> Vec<Step> {
    let mut steps = Vec::new();
    // Before and after the dots, longer ones with the same beginning, and bytes that are no text.
    for name in ["!", "-", "...", "..a", ".a", "a", "a.", "aa", "\u{e9}\u{4e16}", " ", "\n"] {
        steps.push(add(format!("names/{name}"), What::File(name.into()), plain(0o644)));
    }
    steps.push(add(b"names/\xff\xfe\x01", What::Directory, plain(0o700)));
    steps.push(add(["names/", &"n".repeat(255)].concat(), What::Fifo, plain(0o644)));
    // Enough of them for many blocks, of different lengths.
    for index in 0..2000_usize {
        let name = format!("many/{index}{}", "-".repeat(index * 7 % 120));
        steps.push(add(name, What::File(Vec::new()), plain(0o644)));
    }
    steps.push(add(["deep/", &"d/".repeat(300)].concat(), What::Directory, plain(0o711)));
    for count in [1, 150, 160, 165, 340] {
        for index in 0..count {
            steps.push(add(format!("sizes/{count}/{index:012}"), What::Directory, plain(0o755)));
        }
    }
    steps
}

fn replaced() -> Vec<Step> {
    let file = |path: &str, data: &str| add(path, What::File(data.into()), plain(0o644));
    vec![
        file("replaced/file", "old"),
        file("replaced/file", "new"),
        file("replaced/tree/a/b/file", "gone"),
        link("replaced/kept", "replaced/tree/a/b/file"),
        file("replaced/tree", "a file now"),
        add("replaced/link", What::Symlink(b"file".to_vec()), plain(0o777)),
        file("replaced/link", "not a link"),
        file("replaced/directory/stays", "stays"),
        add("replaced/directory", What::Directory, plain(0o500)),
        file("replaced/device/in", "in"),
        add("replaced/device", What::Char(0, 0), plain(0)),
        file("replaced/one", "one"),
        link("replaced/two", "replaced/one"),
        link("replaced/two", "replaced/one"),
        link("replaced/one", "replaced/one"),
        file("replaced/three", "three"),
        link("replaced/four", "replaced/three"),
        file("replaced/three", "another"),
    ]
}

/// Random entries over a few names, so that they meet.
pub fn random(random: &mut Random, count: usize) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for _ in 0..count {
        let depth = 1 + random.below(4);
        let names: Vec<String> = (0..depth).map(|_| "abcdefgh"[random.below(8) as usize..].to_owned()).collect();
        let path = names.join("/").into_bytes();
        let size = [0, 10, 2000, 4096, 5000, 9000][random.below(6) as usize] + random.below(60) as usize;
        let what = match random.below(9) {
            0..4 => What::File(random.bytes(size)),
            4 | 5 => What::Directory,
            6 => What::Symlink(vec![b's'; 1 + size.min(4000)]),
            7 => What::Char(random.below(3) as u32, random.below(300) as u32),
            _ => {
                let tree = crate::model::expect(&steps);
                let files: Vec<_> = tree.iter().filter(|(_, view)| view.what != What::Directory).collect();
                if !files.is_empty() {
                    let target = files[random.below(files.len() as u64) as usize].0.clone();
                    if passable(&tree, &path) && !target.starts_with(&[&path[..], b"/"].concat()) {
                        steps.push(Step::Link(path, target));
                    }
                }
                continue;
            }
        };
        if !passable(&crate::model::expect(&steps), &path) {
            continue;
        }
        let mut attributes = plain(random.below(0o10000) as u32);
        (attributes.uid, attributes.gid) = (random.below(1 << 32) as u32, random.below(1 << 32) as u32);
        attributes.mtime = Time { seconds: random.below(1 << 34) as i64, nanos: random.below(1_000_000_000) as u32 };
        for index in 0..random.below(3) {
            let length = random.below(200) as usize;
            attributes.xattrs.push(pair(&format!("trusted.{index}"), &random.bytes(length)));
        }
        steps.push(add(path, what, attributes));
    }
    steps
}

/// Whether everything above a path is a directory, or nothing yet.
fn passable(tree: &crate::model::Tree, path: &[u8]) -> bool {
    let mut slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.all(|at| tree.get(&path[..at]).is_none_or(|view| view.what == What::Directory))
}
