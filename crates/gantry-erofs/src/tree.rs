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
    /// Whether it hides that of the layers below.
    pub opaque: bool,
    /// Whether something replaced it, or a directory above it.
    pub gone: bool,
    /// Directories above it.
    depth: u64,
    pub children: BTreeMap<Box<[u8]>, Node>,
}

/// Anything else. Its inode is written already, but for the number of links.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// Where its inode is; see [`crate::inodes`].
    pub place: u32,
    pub links: u32,
    pub kind: Type,
    /// Whether it hides what the layers below have of its name: a character device 0:0.
    pub whiteout: bool,
}

/// All names.
#[derive(Debug)]
pub struct Tree {
    pub directories: Vec<Directory>,
    pub leaves: Vec<Leaf>,
    limits: Limits,
    /// Names so far, and those that were replaced with them.
    names: u64,
    /// Bytes of the attributes of directories and of the texts of symbolic links so far.
    held: u64,
    /// The texts of symbolic links.
    texts: BTreeMap<u32, Box<[u8]>>,
    /// The directory that was reached last: most entries have the same one as the entry before them.
    last: (Vec<u8>, u32),
}

/// The root, in [`Tree::directories`].
pub const ROOT: u32 = 0;
/// Symbolic links on the way to one entry, as the kernel allows.
const MOST_LINKS: u64 = 40;

impl Tree {
    pub fn new(limits: Limits) -> Self {
        let root = Directory {
            parent: ROOT,
            attributes: Attributes { mode: 0o755, ..Attributes::default() },
            implied: true,
            opaque: false,
            gone: false,
            depth: 0,
            children: BTreeMap::new(),
        };
        let (leaves, texts, last) = (Vec::new(), BTreeMap::new(), (Vec::new(), ROOT));
        Self { directories: vec![root], leaves, limits, names: 0, held: 0, texts, last }
    }

    /// What a path leads to. A symbolic link at its end is not followed, those before it are.
    pub fn find(&self, path: &[u8]) -> Result<Option<Node>> {
        let Some((before, name)) = split(path)? else { return Ok(Some(Node::Directory(ROOT))) };
        let (directory, missing) = self.go(path, ROOT, owned(before))?;
        let found = self.directories[directory as usize].children.get(name);
        Ok(found.filter(|_| missing.is_empty()).copied())
    }

    /// A path without the symbolic links on the way. What of it is not here is left as it is.
    pub fn real(&self, path: &[u8]) -> Result<Vec<u8>> {
        let Some((before, name)) = split(path)? else { return Ok(Vec::new()) };
        let (directory, missing) = self.go(path, ROOT, owned(before))?;
        let mut real = Vec::new();
        let (mut parts, mut at) = (Vec::new(), directory);
        while at != ROOT {
            let parent = self.directories[at as usize].parent;
            let children = &self.directories[parent as usize].children;
            parts.extend(children.iter().find(|(_, node)| **node == Node::Directory(at)).map(|(name, _)| &**name));
            at = parent;
        }
        for part in parts.into_iter().rev().chain(missing.iter().rev().map(|part| &**part)).chain([name]) {
            if !real.is_empty() {
                real.push(b'/');
            }
            real.extend(part);
        }
        Ok(real)
    }

    /// The directory that an entry is in, made if it is not there, and the entry's name. Nothing for the root itself.
    pub fn enter<'a>(&mut self, path: &'a [u8]) -> Result<Option<(u32, &'a [u8])>> {
        let Some((before, name)) = split(path)? else { return Ok(None) };
        if before == self.last.0 {
            return Ok(Some((self.last.1, name)));
        }
        let (mut directory, mut missing) = self.go(path, ROOT, owned(before))?;
        while let Some(part) = missing.pop() {
            let there = self.directories[directory as usize].children.get(&part);
            let opaque = match there {
                None => false,
                Some(Node::Leaf(leaf)) if self.leaves[*leaf as usize].whiteout => true,
                Some(_) => return Err(Error::entry(path, "a part of the path is no directory")),
            };
            let attributes = Attributes { mode: 0o755, ..Attributes::default() };
            let made = self.make(path, directory, attributes)?;
            // What the layers below have of it is hidden, so nothing is implied about it.
            let new = &mut self.directories[made as usize];
            (new.implied, new.opaque) = (!opaque, opaque);
            self.insert(path, directory, checked(path, &part)?, Node::Directory(made))?;
            (directory, missing) = self.go(path, made, missing)?;
        }
        self.last.0.clear();
        self.last.0.extend(before);
        self.last.1 = directory;
        Ok(Some((directory, name)))
    }

    /// Goes from a directory along these parts, which are in reverse order, as far as there are directories. Symbolic links
    /// are followed as they would be by someone whose root is that of the image: `..` does not lead out of it.
    fn go(&self, path: &[u8], from: u32, mut ahead: Vec<Box<[u8]>>) -> Result<(u32, Vec<Box<[u8]>>)> {
        let (mut directory, mut links) = (from, 0);
        while let Some(part) = ahead.pop() {
            let here = &self.directories[directory as usize];
            match here.children.get(&part) {
                _ if *part == *b".." => directory = here.parent,
                Some(Node::Directory(next)) => directory = *next,
                Some(Node::Leaf(leaf)) if self.texts.contains_key(leaf) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Error::limit(path, "the number of symbolic links on the way", MOST_LINKS));
                    }
                    let text = &self.texts[leaf];
                    directory = if text.starts_with(b"/") { ROOT } else { directory };
                    ahead.extend(owned(text));
                }
                _ => {
                    ahead.push(part);
                    break;
                }
            }
        }
        Ok((directory, ahead))
    }

    /// A directory of an entry of its own: a new one, or new attributes of the one that is there.
    pub fn directory(&mut self, path: &[u8], attributes: Attributes) -> Result<()> {
        self.hold(path, attributes.xattrs.iter().map(|(name, value)| (name.len() + value.len() + 48) as u64).sum())?;
        let Some((parent, name)) = self.enter(path)? else {
            self.refresh(ROOT, attributes);
            return Ok(());
        };
        if let Some(Node::Directory(there)) = self.directories[parent as usize].children.get(name) {
            self.refresh(*there, attributes);
            return Ok(());
        }
        let made = self.make(path, parent, attributes)?;
        self.insert(path, parent, name, Node::Directory(made))
    }

    /// Notes that the leaf that was made last is a symbolic link.
    pub fn symlink(&mut self, path: &[u8], text: &[u8]) -> Result<()> {
        self.hold(path, text.len() as u64 + 48)?;
        self.texts.insert(self.leaves.len() as u32 - 1, text.into());
        Ok(())
    }

    /// Takes a name away. False if there is none.
    pub fn forget(&mut self, path: &[u8]) -> Result<bool> {
        let Some((before, name)) = split(path)? else { return Ok(false) };
        let (directory, missing) = self.go(path, ROOT, owned(before))?;
        let children = &mut self.directories[directory as usize].children;
        let Some(node) = missing.is_empty().then(|| children.remove(name)).flatten() else { return Ok(false) };
        self.remove(node);
        Ok(true)
    }

    fn hold(&mut self, path: &[u8], bytes: u64) -> Result<()> {
        self.held += bytes;
        if self.held > self.limits.held {
            let what = "the size in bytes of all attributes of directories and texts of symbolic links";
            return Err(Error::limit(path, what, self.limits.held));
        }
        Ok(())
    }

    fn refresh(&mut self, directory: u32, attributes: Attributes) {
        let directory = &mut self.directories[directory as usize];
        (directory.attributes, directory.implied) = (attributes, false);
    }

    fn make(&mut self, path: &[u8], parent: u32, attributes: Attributes) -> Result<u32> {
        let depth = self.directories[parent as usize].depth + 1;
        if depth > self.limits.depth {
            return Err(Error::limit(path, "the depth in directories", self.limits.depth));
        }
        let children = BTreeMap::new();
        let made = Directory { parent, attributes, implied: false, opaque: false, gone: false, depth, children };
        self.directories.push(made);
        Ok(self.directories.len() as u32 - 1)
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
        // The directory that was reached last may be below it, or was reached through it.
        self.last = (Vec::new(), ROOT);
        let mut ahead = vec![node];
        while let Some(node) = ahead.pop() {
            match node {
                Node::Leaf(leaf) => self.leaves[leaf as usize].links -= 1,
                Node::Directory(directory) => {
                    let directory = &mut self.directories[directory as usize];
                    directory.gone = true;
                    ahead.extend(std::mem::take(&mut directory.children).into_values());
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

/// The parts of a path in reverse order.
fn owned(path: &[u8]) -> Vec<Box<[u8]>> {
    let mut parts: Vec<Box<[u8]>> = parts(path).map(Into::into).collect();
    parts.reverse();
    parts
}

/// What of a path comes before its last part, and that part; nothing for the root. All parts are checked.
fn split(path: &[u8]) -> Result<Option<(&[u8], &[u8])>> {
    let mut last = None;
    for part in parts(path) {
        last = Some(checked(path, part)?);
    }
    let Some(name) = last else { return Ok(None) };
    Ok(Some((&path[..name.as_ptr() as usize - path.as_ptr() as usize], name)))
}

/// Whether a path is that of the root.
pub fn is_root(path: &[u8]) -> bool {
    parts(path).next().is_none()
}
