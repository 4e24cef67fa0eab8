//! The names of an image, which are held until its end.

use crate::error::{Error, Result};
use crate::format::{NAME_MAX, Type};
use crate::{Attributes, Limits};
use std::collections::BTreeMap;

/// What a name leads to, by its place in [`Tree::directories`] or [`Tree::leaves`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    Directory(u32),
    Leaf(u32),
}

/// A directory. Its inode is written at the end.
#[derive(Debug)]
pub struct Directory {
    pub parent: u32,
    pub attributes: Attributes,
    /// Whether it was never an entry of its own.
    pub implied: bool,
    /// Whether something replaced it, or a directory above it.
    pub gone: bool,
    pub children: BTreeMap<Box<[u8]>, Node>,
}

/// Anything else. Its inode is written already, but for the number of links.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// Where its inode is; see [`crate::inodes`].
    pub place: u32,
    pub links: u32,
    pub kind: Type,
}

/// All names.
#[derive(Debug)]
pub struct Tree {
    pub directories: Vec<Directory>,
    pub leaves: Vec<Leaf>,
    limits: Limits,
    /// Names so far, and those that were replaced with them.
    names: u64,
    /// Bytes of the attributes of directories so far.
    held: u64,
    /// The directory that was reached last: most entries have the same one as the entry before them.
    last: (Vec<u8>, u32),
}

/// The root, in [`Tree::directories`].
pub const ROOT: u32 = 0;

impl Tree {
    pub fn new(limits: Limits) -> Self {
        let root = Directory {
            parent: ROOT,
            attributes: Attributes { mode: 0o755, ..Attributes::default() },
            implied: true,
            gone: false,
            children: BTreeMap::new(),
        };
        Self { directories: vec![root], leaves: Vec::new(), limits, names: 0, held: 0, last: (Vec::new(), ROOT) }
    }

    /// What a path leads to.
    pub fn find(&self, path: &[u8]) -> Result<Option<Node>> {
        let mut node = Node::Directory(ROOT);
        for name in parts(path) {
            let Node::Directory(directory) = node else { return Ok(None) };
            match self.directories[directory as usize].children.get(checked(path, name)?) {
                Some(next) => node = *next,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    /// The directory that an entry is in, made if it is not there, and the entry's name. Nothing for the root itself.
    pub fn enter<'a>(&mut self, path: &'a [u8]) -> Result<Option<(u32, &'a [u8])>> {
        let Some(name) = parts(path).last() else { return Ok(None) };
        checked(path, name)?;
        // What comes before the name, with its slash.
        let before = &path[..name.as_ptr() as usize - path.as_ptr() as usize];
        if before == self.last.0 {
            return Ok(Some((self.last.1, name)));
        }
        let mut directory = ROOT;
        for (depth, part) in parts(before).enumerate() {
            if depth as u64 >= self.limits.depth {
                return Err(Error::limit(path, "the depth in directories", self.limits.depth));
            }
            directory = match self.directories[directory as usize].children.get(checked(path, part)?) {
                Some(Node::Directory(next)) => *next,
                Some(Node::Leaf(_)) => return Err(Error::entry(path, "a part of the path is no directory")),
                None => {
                    let made = self.make(directory, Attributes { mode: 0o755, ..Attributes::default() }, true);
                    self.insert(path, directory, part, Node::Directory(made))?;
                    made
                }
            };
        }
        self.last.0.clear();
        self.last.0.extend(before);
        self.last.1 = directory;
        Ok(Some((directory, name)))
    }

    /// A directory of an entry of its own: a new one, or new attributes of the one that is there.
    pub fn directory(&mut self, path: &[u8], attributes: Attributes) -> Result<()> {
        self.held += attributes.xattrs.iter().map(|(name, value)| (name.len() + value.len() + 48) as u64).sum::<u64>();
        if self.held > self.limits.held {
            return Err(Error::limit(path, "the size in bytes of all attributes of directories", self.limits.held));
        }
        let Some((parent, name)) = self.enter(path)? else {
            self.refresh(ROOT, attributes);
            return Ok(());
        };
        if let Some(Node::Directory(there)) = self.directories[parent as usize].children.get(name) {
            self.refresh(*there, attributes);
            return Ok(());
        }
        let made = self.make(parent, attributes, false);
        self.insert(path, parent, name, Node::Directory(made))
    }

    fn refresh(&mut self, directory: u32, attributes: Attributes) {
        let directory = &mut self.directories[directory as usize];
        (directory.attributes, directory.implied) = (attributes, false);
    }

    fn make(&mut self, parent: u32, attributes: Attributes, implied: bool) -> u32 {
        let children = BTreeMap::new();
        self.directories.push(Directory { parent, attributes, implied, gone: false, children });
        self.directories.len() as u32 - 1
    }

    /// Gives something a name, in place of whatever had it.
    pub fn insert(&mut self, path: &[u8], directory: u32, name: &[u8], node: Node) -> Result<()> {
        self.names += 1;
        if self.names > self.limits.entries {
            return Err(Error::limit(path, "the number of entries", self.limits.entries));
        }
        if let Node::Leaf(leaf) = node {
            self.leaves[leaf as usize].links += 1;
        }
        let children = &mut self.directories[directory as usize].children;
        let replaced = match children.get_mut(name) {
            Some(there) => Some(std::mem::replace(there, node)),
            None => children.insert(name.into(), node),
        };
        if let Some(replaced) = replaced {
            self.remove(replaced);
        }
        Ok(())
    }

    /// Takes away what has lost its name, and everything below it.
    fn remove(&mut self, node: Node) {
        let mut ahead = vec![node];
        while let Some(node) = ahead.pop() {
            match node {
                Node::Leaf(leaf) => self.leaves[leaf as usize].links -= 1,
                Node::Directory(directory) => {
                    let directory = &mut self.directories[directory as usize];
                    directory.gone = true;
                    ahead.extend(std::mem::take(&mut directory.children).into_values());
                    // The directory that was reached last may be below it.
                    self.last = (Vec::new(), ROOT);
                }
            }
        }
    }

    /// The paths of all directories that were never an entry of their own, without a slash at either end.
    pub fn implied(&self) -> Vec<Vec<u8>> {
        let (mut found, mut ahead) = (Vec::new(), vec![(Vec::new(), ROOT)]);
        while let Some((path, directory)) = ahead.pop() {
            let directory = &self.directories[directory as usize];
            for (name, node) in directory.children.iter().rev() {
                if let Node::Directory(child) = node {
                    let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                    ahead.push(([&path, slash, name].concat(), *child));
                }
            }
            if directory.implied {
                found.push(path);
            }
        }
        found
    }
}

/// The names that a path is made of.
fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// A name that a directory can have.
fn checked<'a>(path: &[u8], name: &'a [u8]) -> Result<&'a [u8]> {
    let why = match name {
        b".." => "the path leads out of its directory",
        _ if name.contains(&0) => "the path has a NUL in it",
        _ if name.len() > NAME_MAX => "a part of the path is longer than 255 bytes",
        _ => return Ok(name),
    };
    Err(Error::entry(path, why))
}

/// Whether a path is that of the root.
pub fn is_root(path: &[u8]) -> bool {
    parts(path).next().is_none()
}
