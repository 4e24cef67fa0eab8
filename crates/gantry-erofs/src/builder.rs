//! The builder: entries in, an image out.

use crate::error::{Error, Result};
use crate::format::{self, BLOCK, INODE, Inode, Layout, Type};
use crate::inodes::Inodes;
use crate::output::Output;
use crate::tree::{self, Leaf, Node, Tree};
use crate::xattr;
use gantry_tar::{Time, Xattr, show};
use std::io::{Read, Seek, Write};

/// What an entry has beside its kind and its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permissions with the set-id and sticky bits, at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of the data. The kernel shows it as every other time too.
    pub mtime: Time,
    /// Extended attributes, with their full names: `user.`, `trusted.`, `security.` or access control lists.
    pub xattrs: Vec<Xattr>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A regular file of so many bytes, which are given by [`Builder::data`] and [`Builder::hole`] next.
    File(u64),
    /// A directory: what it holds stays when it was an entry before.
    Directory,
    /// A symbolic link with this text.
    Symlink(&'a [u8]),
    /// A further name of what has this path in the image. It brings no attributes of its own.
    Link(&'a [u8]),
    /// A character device, by its major and minor number.
    Char(u32, u32),
    /// A block device, by its major and minor number.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// They lie in the first block, with the superblock.
pub(crate) const ROOT_ATTRIBUTES: &str = "the attributes of the root take more than 2880 bytes";

/// What is there already; see [`Builder::find`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A directory, be it an entry or implied.
    Directory,
    /// A character device 0:0, which hides what the layers below have of its name.
    Whiteout,
    /// Anything else.
    Other,
}

/// What an image may make its builder hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Names, those of implied directories and of replaced entries counted.
    pub entries: u64,
    /// Directories within each other.
    pub depth: u64,
    /// Bytes of the attributes of all directories and of the texts of all symbolic links.
    pub held: u64,
}

impl Default for Limits {
    /// More than images have, and about a gigabyte of memory even if each entry is a directory.
    fn default() -> Self {
        Self { entries: 2 << 20, depth: 2048, held: 64 << 20 }
    }
}

/// How an image is to be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Name of the file system. Nothing derives it from what is written, so that the same entries give the same bytes.
    pub uuid: Option<[u8; 16]>,
    /// Longest rest of a file, in bytes, that lies beside its inode instead of in a block of its own; at most 4032 have
    /// an effect. What lies there makes an image smaller, and the inodes around it slower to go through.
    pub inline: u16,
    /// What is held in memory.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self { uuid: None, inline: 1024, limits: Limits::default() }
    }
}

/// What became of it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the image.
    pub size: u64,
    /// Inodes that it holds.
    pub inodes: u64,
    /// Name of the file system.
    pub uuid: [u8; 16],
}

/// Writes one image.
///
/// ```no_run
/// use gantry_erofs::{Attributes, Builder, Kind, Options};
/// # fn main() -> gantry_erofs::Result<()> {
/// let mut builder = Builder::new(std::io::Cursor::new(Vec::new()), Options::default())?;
/// builder.add(b"etc/motd", Kind::File(6), Attributes { mode: 0o644, ..Attributes::default() })?;
/// builder.data(b"hello\n")?;
/// let (image, summary) = builder.finish()?;
/// assert_eq!(image.into_inner().len() as u64, summary.size);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Builder<W: Write + Seek> {
    pub(crate) out: Output<W>,
    pub(crate) inodes: Inodes,
    pub(crate) tree: Tree,
    pub(crate) options: Options,
    file: Option<Pending>,
    /// Inodes so far: what 32-bit numbers are taken from.
    count: u32,
}

/// A file whose data is on its way.
#[derive(Debug)]
struct Pending {
    path: Vec<u8>,
    directory: u32,
    name: Vec<u8>,
    kind: Type,
    inode: Inode,
    xattrs: Vec<u8>,
    /// Bytes that are still to come in blocks, and after them beside the inode.
    blocks: u64,
    beside: usize,
    rest: Vec<u8>,
}

impl<W: Write + Seek> Builder<W> {
    /// Begins an image at the beginning of `out`, which must be empty.
    pub fn new(out: W, options: Options) -> Result<Self> {
        let (out, tree) = (Output::new(out)?, Tree::new(options.limits));
        Ok(Self { out, inodes: Inodes::default(), tree, options, file: None, count: 0 })
    }

    /// Adds an entry. Directories above it that are not there are made, with mode 0755, of root and of the epoch; in place
    /// of a whiteout they are opaque. Symbolic links on the way are followed within the image.
    pub fn add(&mut self, path: &[u8], kind: Kind<'_>, attributes: Attributes) -> Result<()> {
        self.settled()?;
        check(path, &attributes)?;
        let (kind, size, place) = match kind {
            Kind::Directory => {
                // The encoding is that of the end: this only refuses what will not be possible then.
                let length = xattr::encode(path, &attributes.xattrs)?.len();
                if tree::is_root(path) && length > BLOCK - format::ROOT - INODE {
                    return Err(Error::entry(path, ROOT_ATTRIBUTES));
                }
                return self.tree.directory(path, attributes);
            }
            Kind::Link(target) => return self.link(path, target),
            Kind::Symlink(text) => return self.symlink(path, text, &attributes),
            Kind::File(size) => (Type::File, size, 0),
            Kind::Char(major, minor) => (Type::Char, 0, device(path, major, minor)?),
            Kind::Block(major, minor) => (Type::Block, 0, device(path, major, minor)?),
            Kind::Fifo => (Type::Fifo, 0, 0),
            Kind::Socket => (Type::Socket, 0, 0),
        };
        self.begin(path, kind, size, place, &attributes)
    }

    /// The next bytes of the file that was added last.
    pub fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let file = self.file.as_mut().ok_or_else(|| Error::entry(b"", "there is no file that expects data"))?;
            let in_blocks = usize::try_from(file.blocks).unwrap_or(usize::MAX).min(bytes.len());
            self.out.write(&bytes[..in_blocks])?;
            file.blocks -= in_blocks as u64;
            bytes = &bytes[in_blocks..];
            if file.blocks == 0 {
                let beside = (file.beside - file.rest.len()).min(bytes.len());
                file.rest.extend(&bytes[..beside]);
                bytes = &bytes[beside..];
            }
            self.end_of_file(!bytes.is_empty())?;
        }
        Ok(())
    }

    /// So many zeros as the next bytes of the file that was added last. Whole blocks of them take no space in a file
    /// system that has sparse files.
    pub fn hole(&mut self, length: u64) -> Result<()> {
        if length == 0 {
            return Ok(());
        }
        let file = self.file.as_mut().ok_or_else(|| Error::entry(b"", "there is no file that expects data"))?;
        let in_blocks = length.min(file.blocks);
        if in_blocks > 0 {
            self.out.hole(in_blocks)?;
            file.blocks -= in_blocks;
        }
        let beside = (length - in_blocks).min((file.beside - file.rest.len()) as u64);
        file.rest.resize(file.rest.len() + beside as usize, 0);
        self.end_of_file(in_blocks + beside < length)
    }

    /// A regular file with all its data.
    pub fn file(&mut self, path: &[u8], attributes: Attributes, size: u64, data: &mut dyn Read) -> Result<()> {
        self.add(path, Kind::File(size), attributes)?;
        let mut buffer = vec![0; 128 * 1024];
        let mut remaining = size;
        while remaining > 0 {
            let count = usize::try_from(remaining).unwrap_or(usize::MAX).min(buffer.len());
            data.read_exact(&mut buffer[..count])?;
            self.data(&buffer[..count])?;
            remaining -= count as u64;
        }
        Ok(())
    }

    /// What has this path so far; nothing if nothing has. A symbolic link at its end is not followed.
    pub fn find(&self, path: &[u8]) -> Result<Option<Found>> {
        Ok(self.tree.find(path)?.map(|node| match node {
            Node::Directory(_) => Found::Directory,
            Node::Leaf(leaf) if self.tree.leaves[leaf as usize].whiteout => Found::Whiteout,
            Node::Leaf(_) => Found::Other,
        }))
    }

    /// Makes a directory hide that of the layers below: it gets the attribute `trusted.overlay.opaque`, whatever
    /// attributes it has or will get. Implied ones are so no longer: nothing below has a part in them.
    pub fn opaque(&mut self, path: &[u8]) -> Result<()> {
        match self.tree.find(path)? {
            Some(Node::Directory(directory)) => {
                let directory = &mut self.tree.directories[directory as usize];
                (directory.opaque, directory.implied) = (true, false);
                Ok(())
            }
            _ => Err(Error::entry(path, "only a directory can be opaque")),
        }
    }

    /// Makes a directory hide that of the layers below as [`Builder::opaque`] does, and makes it if it is not there. One that
    /// is only implied stays so: it has the attributes of the one that it hides.
    pub fn opaque_as_below(&mut self, path: &[u8]) -> Result<()> {
        self.settled()?;
        self.tree.enter(&[path, b"/x"].concat())?;
        match self.tree.find(path)? {
            Some(Node::Directory(directory)) => self.tree.directories[directory as usize].opaque = true,
            _ => return Err(Error::entry(path, "only a directory can be opaque")),
        }
        Ok(())
    }

    /// Whether a directory of this image hides that of the layers below.
    pub fn is_opaque(&self, path: &[u8]) -> Result<bool> {
        Ok(match self.tree.find(path)? {
            Some(Node::Directory(directory)) => self.tree.directories[directory as usize].opaque,
            _ => false,
        })
    }

    /// A path without the symbolic links that this image has on the way to it: where it leads in the layers below if nothing
    /// here has it.
    pub fn real(&self, path: &[u8]) -> Result<Vec<u8>> {
        self.tree.real(path)
    }

    /// Bytes that were written so far.
    pub fn written(&self) -> u64 {
        self.out.position()
    }

    /// Takes an entry away again, with all that is below it. False if there is none.
    pub fn remove(&mut self, path: &[u8]) -> Result<bool> {
        self.settled()?;
        self.tree.forget(path)
    }

    /// The directories that were made for what is in them, and were no entries themselves. Whoever knows what they are like
    /// below this layer adds them as entries before the end. The root is the empty path.
    pub fn implied(&self) -> Vec<Vec<u8>> {
        self.tree.implied()
    }

    /// Refuses to go on within a file.
    pub(crate) fn settled(&self) -> Result<()> {
        match &self.file {
            None => Ok(()),
            Some(file) => Err(Error::Size { path: show(&file.path), size: file.inode.size, why: "less" }),
        }
    }

    /// A symbolic link: its text lies beside its inode where it can.
    fn symlink(&mut self, path: &[u8], text: &[u8], attributes: &Attributes) -> Result<()> {
        let why = match text {
            [] => "the symbolic link has no target",
            _ if text.contains(&0) => "the target of the symbolic link has a NUL in it",
            _ if text.len() >= BLOCK => "the target of the symbolic link is longer than 4095 bytes",
            _ => {
                self.begin(path, Type::Symlink, text.len() as u64, 0, attributes)?;
                self.data(text)?;
                return self.tree.symlink(path, text);
            }
        };
        Err(Error::entry(path, why))
    }

    /// A further name.
    fn link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let leaf = match self.tree.find(target)? {
            Some(Node::Leaf(leaf)) => leaf,
            Some(Node::Directory(_)) => return Err(Error::entry(path, "a hard link to a directory")),
            None => return Err(Error::NoTarget { path: show(path), target: show(target) }),
        };
        let (directory, name) = self.tree.enter(path)?.ok_or_else(|| Error::entry(path, "the root is a directory"))?;
        self.tree.insert(path, directory, name, Node::Leaf(leaf))
    }

    /// The inode of anything but a directory, which is complete when its data is.
    fn begin(&mut self, path: &[u8], kind: Type, size: u64, place: u32, attributes: &Attributes) -> Result<()> {
        let xattrs = xattr::encode(path, &attributes.xattrs)?;
        let (directory, name) = self.tree.enter(path)?.ok_or_else(|| Error::entry(path, "the root is a directory"))?;
        let beside = self.beside(kind, size, xattrs.len());
        let blocks = size - beside as u64;
        let place = if blocks > 0 { self.out.block(blocks, "the data of a file")? } else { place };
        let mut inode = inode(kind, attributes, xattrs.len(), self.next_number()?);
        (inode.size, inode.place) = (size, place);
        inode.layout = if beside > 0 { Layout::Inline } else { Layout::Plain };
        let (path, name, rest) = (path.to_vec(), name.to_vec(), Vec::with_capacity(beside));
        self.file = Some(Pending { path, directory, name, kind, inode, xattrs, blocks, beside, rest });
        self.end_of_file(false)
    }

    /// How many bytes of data lie beside an inode: what is left after whole blocks, if that is short enough.
    fn beside(&self, kind: Type, size: u64, xattrs: usize) -> usize {
        let rest = (size % BLOCK as u64) as usize;
        let most = if kind == Type::File { usize::from(self.options.inline) } else { BLOCK };
        if rest <= most && INODE + xattrs + rest <= BLOCK { rest } else { 0 }
    }

    /// Puts away the inode of a file that has all its data. `more` says that there was more of it.
    fn end_of_file(&mut self, more: bool) -> Result<()> {
        let done = |file: &mut Pending| file.blocks == 0 && file.rest.len() == file.beside;
        let Some(file) = self.file.take_if(done) else { return Ok(()) };
        if more {
            return Err(Error::Size { path: show(&file.path), size: file.inode.size, why: "more" });
        }
        let parts: [&[u8]; 3] = [&file.inode.encode(), &file.xattrs, &file.rest];
        let place = self.inodes.put(parts, &mut self.out)?;
        let whiteout = file.kind == Type::Char && file.inode.place == 0;
        self.tree.leaves.push(Leaf { place, links: 0, kind: file.kind, whiteout });
        let leaf = Node::Leaf(self.tree.leaves.len() as u32 - 1);
        self.tree.insert(&file.path, file.directory, &file.name, leaf)
    }

    pub(crate) fn next_number(&mut self) -> Result<u32> {
        self.count = self.count.checked_add(1).ok_or(Error::TooLarge { what: "the number of inodes" })?;
        Ok(self.count)
    }
}

/// An inode without data.
pub(crate) fn inode(kind: Type, attributes: &Attributes, xattrs: usize, number: u32) -> Inode {
    Inode {
        layout: Layout::Plain,
        xattr_count: xattr::count(xattrs),
        mode: kind.mode() | attributes.mode as u16,
        size: 0,
        place: 0,
        number,
        uid: attributes.uid,
        gid: attributes.gid,
        seconds: attributes.mtime.seconds,
        nanos: attributes.mtime.nanos,
        links: 1,
    }
}

fn check(path: &[u8], attributes: &Attributes) -> Result<()> {
    if attributes.mode > 0o7777 {
        return Err(Error::entry(path, "the mode has more than permission bits"));
    }
    if attributes.mtime.nanos >= 1_000_000_000 {
        return Err(Error::entry(path, "the time has more nanoseconds than a second"));
    }
    Ok(())
}

fn device(path: &[u8], major: u32, minor: u32) -> Result<u32> {
    format::device(major, minor).ok_or_else(|| Error::entry(path, "the device number is beyond 12 and 20 bits"))
}
