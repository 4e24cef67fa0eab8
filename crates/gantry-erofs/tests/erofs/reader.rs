//! A small reader of images, that shares nothing with what writes them and checks what the kernel relies on.

use crate::model::{Tree, View, What};
use std::collections::BTreeMap;

const BLOCK: usize = 4096;

/// Reads the whole tree of an image.
pub fn read(image: &[u8]) -> Tree {
    assert_eq!(image.len() % BLOCK, 0, "whole blocks");
    let sb = &image[1024..1024 + 128];
    assert_eq!(le(sb, 0, 4), 0xe0f5_e1e2);
    let mut covered = image[1024..BLOCK].to_vec();
    covered[4..8].fill(0);
    assert_eq!(le(sb, 4, 4), u64::from(crc32c(&covered)), "checksum");
    assert_eq!((le(sb, 8, 4), le(sb, 12, 1), le(sb, 80, 4)), (3, 12, 0), "features and block size");
    assert_eq!(le(sb, 36, 4), (image.len() / BLOCK) as u64, "blocks");
    assert_eq!((le(sb, 40, 4), le(sb, 44, 4)), (0, 0), "inodes are counted from the beginning");
    let mut reader = Reader { image, tree: Tree::new(), first: BTreeMap::new() };
    let root = le(sb, 14, 2);
    reader.directory(b"", root, root);
    assert_eq!(le(sb, 16, 8), reader.first.len() as u64, "number of inodes");
    reader.tree
}

struct Reader<'a> {
    image: &'a [u8],
    tree: Tree,
    first: BTreeMap<u64, Vec<u8>>,
}

impl Reader<'_> {
    fn directory(&mut self, path: &[u8], root: u64, above: u64) {
        // Paths may be deep: no recursion.
        let mut ahead = vec![(path.to_vec(), root, above)];
        while let Some((path, nid, above)) = ahead.pop() {
            let (view, data) = self.inode(&path, nid);
            assert_eq!(view.what, What::Directory);
            self.tree.insert(path.clone(), view);
            let entries = entries(&data);
            let own: Vec<_> = entries.iter().filter(|(name, ..)| name == b"." || name == b"..").collect();
            assert_eq!(own, [&(b".".to_vec(), nid, 2), &(b"..".to_vec(), above, 2)], "{}", path.escape_ascii());
            for (name, child, kind) in entries.into_iter().filter(|(name, ..)| name != b"." && name != b"..") {
                let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                let below = [&path[..], slash, &name].concat();
                if kind == 2 {
                    ahead.push((below, child, nid));
                    continue;
                }
                let (view, _) = self.inode(&below, child);
                let number = match view.what {
                    What::File(_) => 1,
                    What::Directory => 2,
                    What::Char(..) => 3,
                    What::Block(..) => 4,
                    What::Fifo => 5,
                    What::Socket => 6,
                    What::Symlink(_) => 7,
                };
                assert_eq!(kind, number, "{}", below.escape_ascii());
                self.tree.insert(below, view);
            }
        }
        // Names of one inode were found in any order.
        let mut names: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (path, view) in &self.tree {
            names.entry(view.first.clone()).or_insert_with(|| path.clone());
        }
        for view in self.tree.values_mut() {
            view.first = names[&view.first].clone();
        }
    }

    fn inode(&mut self, path: &[u8], nid: u64) -> (View, Vec<u8>) {
        let at = nid as usize * 32;
        let inode = &self.image[at..at + 64];
        let (format, xattr_count, mode) = (le(inode, 0, 2), le(inode, 2, 2) as usize, le(inode, 4, 2) as u32);
        assert!(format == 1 || format == 5, "{}: format {format}", path.escape_ascii());
        assert_eq!((le(inode, 6, 2), le(inode, 48, 8), le(inode, 56, 8)), (0, 0, 0), "reserved");
        assert!(at % BLOCK <= BLOCK - 64, "an inode straddles a block");
        let (size, place) = (le(inode, 8, 8) as usize, le(inode, 16, 4) as u32);
        let xattr_size = if xattr_count == 0 { 0 } else { 12 + 4 * (xattr_count - 1) };
        let behind = at + 64 + xattr_size;
        let has_data = matches!(mode & 0o170_000, 0o100_000 | 0o040_000 | 0o120_000);
        let data = if has_data { self.data(format == 5, size, place as usize, behind) } else { Vec::new() };
        let numbers = ((place >> 8) & 0xfff, (place & 0xff) | (place >> 12) & 0xfff00);
        let what = match mode & 0o170_000 {
            0o100_000 => What::File(data.clone()),
            0o040_000 => What::Directory,
            0o120_000 => What::Symlink(data.clone()),
            0o020_000 => What::Char(numbers.0, numbers.1),
            0o060_000 => What::Block(numbers.0, numbers.1),
            0o010_000 => What::Fifo,
            0o140_000 => What::Socket,
            other => panic!("{}: type {other:o}", path.escape_ascii()),
        };
        let view = View {
            what,
            mode: mode & 0o7777,
            owner: (le(inode, 24, 4) as u32, le(inode, 28, 4) as u32),
            mtime: (le(inode, 32, 8) as i64, le(inode, 40, 4) as u32),
            xattrs: xattrs(&self.image[at + 64..behind]),
            links: le(inode, 44, 4) as u32,
            first: self.first.entry(nid).or_insert_with(|| path.to_vec()).clone(),
        };
        (view, data)
    }

    fn data(&self, inline: bool, size: usize, block: usize, behind: usize) -> Vec<u8> {
        let whole = if inline { size / BLOCK * BLOCK } else { size };
        let mut data = if whole > 0 { self.image[block * BLOCK..][..whole].to_vec() } else { Vec::new() };
        if inline {
            assert!(!size.is_multiple_of(BLOCK) && behind % BLOCK + size % BLOCK <= BLOCK, "a rest straddles a block");
            data.extend(&self.image[behind..][..size % BLOCK]);
        }
        data
    }
}

/// The entries of a directory: name, number and type.
fn entries(data: &[u8]) -> Vec<(Vec<u8>, u64, u64)> {
    let mut all: Vec<(Vec<u8>, u64, u64)> = Vec::new();
    for block in data.chunks(BLOCK) {
        let count = le(block, 8, 2) as usize / 12;
        assert!(count > 0 && le(block, 8, 2).is_multiple_of(12));
        for index in 0..count {
            let entry = &block[12 * index..];
            let start = le(entry, 8, 2) as usize;
            let end = if index + 1 < count { le(entry, 20, 2) as usize } else { block.len() };
            let name = block[start..end].split(|byte| *byte == 0).next().unwrap().to_vec();
            assert!(index + 1 == count || name.len() == end - start, "a NUL within a name");
            assert!(!name.is_empty() && all.last().is_none_or(|last| last.0 < name), "names in order");
            all.push((name, le(entry, 0, 8), le(entry, 10, 1)));
        }
    }
    all
}

fn xattrs(mut bytes: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut all = BTreeMap::new();
    if bytes.is_empty() {
        return all;
    }
    assert_eq!(bytes[..12], [0; 12], "no shared attributes, no filter");
    bytes = &bytes[12..];
    while !bytes.is_empty() {
        let (name, value) = (bytes[0] as usize, le(bytes, 2, 2) as usize);
        let prefix: &[u8] = match bytes[1] {
            1 => b"user.",
            2 => b"system.posix_acl_access",
            3 => b"system.posix_acl_default",
            4 => b"trusted.",
            6 => b"security.",
            other => panic!("attribute of kind {other}"),
        };
        let value_at = 4 + name;
        let full = [prefix, &bytes[4..value_at]].concat();
        all.insert(full, bytes[value_at..value_at + value].to_vec());
        bytes = &bytes[(value_at + value).next_multiple_of(4)..];
    }
    all
}

/// A number of `width` bytes.
fn le(bytes: &[u8], at: usize, width: usize) -> u64 {
    bytes[at..at + width].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Bit by bit, as the definition has it, without the inversion at the end.
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
    bytes.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), bit))
}
