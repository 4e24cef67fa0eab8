//! What an image should hold: the same entries, applied to plain maps.

use gantry_erofs::{Attributes, Builder, Error, Kind, Options, Summary};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Cursor;

/// What an entry is, with what is in it.
#[derive(Clone, PartialEq, Eq)]
pub enum What {
    File(Vec<u8>),
    Directory,
    Symlink(Vec<u8>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
    Socket,
}

impl fmt::Debug for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(data) => write!(f, "File({} bytes, {:02x?}...)", data.len(), &data[..data.len().min(8)]),
            Self::Directory => f.write_str("Directory"),
            Self::Symlink(text) => write!(f, "Symlink({})", text.escape_ascii()),
            Self::Char(major, minor) => write!(f, "Char({major}, {minor})"),
            Self::Block(major, minor) => write!(f, "Block({major}, {minor})"),
            Self::Fifo => f.write_str("Fifo"),
            Self::Socket => f.write_str("Socket"),
        }
    }
}

/// One name in a tree, as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub what: What,
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, u32),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub links: u32,
    /// The first of all names of the same inode.
    pub first: Vec<u8>,
}

/// All names of a tree. The root is the empty path.
pub type Tree = BTreeMap<Vec<u8>, View>;

/// Fails at the first difference.
pub fn compare(found: &Tree, expect: &Tree, what: &str) {
    for (path, view) in expect {
        assert_eq!(found.get(path), Some(view), "{what}: {}", path.escape_ascii());
    }
    for path in found.keys() {
        assert!(expect.contains_key(path), "{what}: {} should not be there", path.escape_ascii());
    }
}

/// One call of the builder.
#[derive(Clone, Debug)]
pub enum Step {
    Add(Vec<u8>, What, Attributes),
    /// A hard link and its target.
    Link(Vec<u8>, Vec<u8>),
}

/// An image of these entries.
pub fn build(steps: &[Step], options: Options) -> Result<(Vec<u8>, Summary), Error> {
    let mut builder = Builder::new(Cursor::new(Vec::new()), options)?;
    for step in steps {
        apply(&mut builder, step)?;
    }
    builder.finish().map(|(image, summary)| (image.into_inner(), summary))
}

/// One entry into an image.
pub fn apply<W: std::io::Write + std::io::Seek>(builder: &mut Builder<W>, step: &Step) -> Result<(), Error> {
    match step {
        Step::Link(path, target) => builder.add(path, Kind::Link(target), Attributes::default()),
        Step::Add(path, what, attributes) => {
            let kind = match what {
                What::File(data) => return builder.file(path, attributes.clone(), data.len() as u64, &mut &data[..]),
                What::Directory => Kind::Directory,
                What::Symlink(text) => Kind::Symlink(text),
                What::Char(major, minor) => Kind::Char(*major, *minor),
                What::Block(major, minor) => Kind::Block(*major, *minor),
                What::Fifo => Kind::Fifo,
                What::Socket => Kind::Socket,
            };
            builder.add(path, kind, attributes.clone())
        }
    }
}

/// The tree that these entries make.
pub fn expect(steps: &[Step]) -> Tree {
    let mut model = Model::default();
    model.directory(b"", &implied());
    for step in steps {
        match step {
            Step::Link(path, target) => {
                let inode = model.names[&normal(target)];
                model.name(&normal(path), inode);
            }
            Step::Add(path, What::Directory, attributes) => model.directory(&normal(path), attributes),
            Step::Add(path, what, attributes) => {
                model.inodes.push((what.clone(), attributes.clone()));
                model.name(&normal(path), model.inodes.len() - 1);
            }
        }
    }
    model.views()
}

fn implied() -> Attributes {
    Attributes { mode: 0o755, ..Attributes::default() }
}

fn normal(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.collect::<Vec<_>>().join(&b'/')
}

#[derive(Default)]
struct Model {
    names: BTreeMap<Vec<u8>, usize>,
    inodes: Vec<(What, Attributes)>,
}

impl Model {
    fn directory(&mut self, path: &[u8], attributes: &Attributes) {
        if let Some(there) = self.names.get(path)
            && self.inodes[*there].0 == What::Directory
        {
            self.inodes[*there].1 = attributes.clone();
            return;
        }
        self.inodes.push((What::Directory, attributes.clone()));
        self.name(path, self.inodes.len() - 1);
    }

    /// Gives an inode a name, in place of what was there.
    fn name(&mut self, path: &[u8], inode: usize) {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for at in slashes {
            if !self.names.contains_key(&path[..at]) {
                self.inodes.push((What::Directory, implied()));
                self.names.insert(path[..at].to_vec(), self.inodes.len() - 1);
            }
        }
        let below = [path, b"/"].concat();
        self.names.retain(|name, _| !name.starts_with(&below));
        self.names.insert(path.to_vec(), inode);
    }

    fn views(&self) -> Tree {
        let mut tree = Tree::new();
        let mut first: BTreeMap<usize, (Vec<u8>, u32)> = BTreeMap::new();
        let mut below: BTreeMap<&[u8], u32> = BTreeMap::new();
        for (name, inode) in &self.names {
            first.entry(*inode).or_insert_with(|| (name.clone(), 0)).1 += 1;
            if self.inodes[*inode].0 == What::Directory && !name.is_empty() {
                let slash = name.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                *below.entry(&name[..slash]).or_default() += 1;
            }
        }
        for (name, inode) in &self.names {
            let (what, attributes) = &self.inodes[*inode];
            let links = match what {
                What::Directory => 2 + below.get(&name[..]).copied().unwrap_or(0),
                _ => first[inode].1,
            };
            let view = View {
                what: what.clone(),
                mode: attributes.mode,
                owner: (attributes.uid, attributes.gid),
                mtime: (attributes.mtime.seconds, attributes.mtime.nanos),
                xattrs: attributes.xattrs.iter().cloned().collect(),
                links,
                first: first[inode].0.clone(),
            };
            tree.insert(name.clone(), view);
        }
        tree
    }
}
