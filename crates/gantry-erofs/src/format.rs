//! The structures of the format, as Linux reads them: the superblock, inodes and the entries of directories.
//!
//! Everything is little-endian. Nothing here that Linux 5.10 does not know, but that an image is mounted from a file.

use crate::sum::crc32c;

/// Bytes of a block.
pub const BLOCK: usize = 4096;
/// Inodes begin at multiples of this, and are named by which one: their `nid`.
pub const SLOT: usize = 32;
/// Bytes of an inode of the longer form, which has a time and an owner of full width.
pub const INODE: usize = 64;
/// Bytes of an entry of a directory, without its name.
pub const DIRENT: usize = 12;
/// Longest name.
pub const NAME_MAX: usize = 255;
/// Where the superblock begins.
pub const SUPER: usize = 1024;
/// Where the inode of the root begins: its number has 16 bits, so it is near the beginning.
pub const ROOT: usize = SUPER + 128;
/// Where the number of links of an inode stands within it.
pub const LINKS_AT: u64 = 44;

const MAGIC: u32 = 0xe0f5_e1e2;
/// There is a checksum of the superblock, and times are those of modification.
const COMPATIBLE: u32 = 1 | 2;

/// The file type bits of a mode, and what entries of directories call the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A regular file.
    File = 1,
    /// A directory.
    Directory,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A symbolic link.
    Symlink,
}

impl Type {
    /// The bits of a mode.
    pub fn mode(self) -> u16 {
        match self {
            Self::File => 0o100_000,
            Self::Directory => 0o040_000,
            Self::Char => 0o020_000,
            Self::Block => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
            Self::Symlink => 0o120_000,
        }
    }
}

/// Where the data of an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// In whole blocks.
    Plain = 0,
    /// In whole blocks, and the last, unfilled one behind the inode and its attributes.
    Inline = 2,
}

/// An inode.
#[derive(Clone, Debug)]
pub struct Inode {
    /// Where its data is.
    pub layout: Layout,
    /// What [`crate::xattr::count`] says of its attributes.
    pub xattr_count: u16,
    /// Type and permissions.
    pub mode: u16,
    /// Bytes of its data.
    pub size: u64,
    /// First block of its data, or the number of a device.
    pub place: u32,
    /// Number for those who ask for one of 32 bits.
    pub number: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of modification, seconds since the epoch.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanos: u32,
    /// Number of links.
    pub links: u32,
}

impl Inode {
    /// As it stands in the image.
    pub fn encode(&self) -> [u8; INODE] {
        let mut bytes = [0; INODE];
        // The lowest bit says that this is the longer form.
        put(&mut bytes, 0, &(1 | (self.layout as u16) << 1).to_le_bytes());
        put(&mut bytes, 2, &self.xattr_count.to_le_bytes());
        put(&mut bytes, 4, &self.mode.to_le_bytes());
        put(&mut bytes, 8, &self.size.to_le_bytes());
        put(&mut bytes, 16, &self.place.to_le_bytes());
        put(&mut bytes, 20, &self.number.to_le_bytes());
        put(&mut bytes, 24, &self.uid.to_le_bytes());
        put(&mut bytes, 28, &self.gid.to_le_bytes());
        put(&mut bytes, 32, &self.seconds.to_le_bytes());
        put(&mut bytes, 40, &self.nanos.to_le_bytes());
        put(&mut bytes, LINKS_AT as usize, &self.links.to_le_bytes());
        bytes
    }
}

/// What the superblock says.
#[derive(Clone, Copy, Debug)]
pub struct Superblock {
    /// Number of inodes.
    pub inodes: u64,
    /// Number of blocks of the image.
    pub blocks: u32,
    /// Name of the file system.
    pub uuid: [u8; 16],
}

impl Superblock {
    /// Puts it into the first block, which has everything else already.
    pub fn seal(&self, block: &mut [u8; BLOCK]) {
        let sb = &mut block[SUPER..];
        put(sb, 0, &MAGIC.to_le_bytes());
        put(sb, 8, &COMPATIBLE.to_le_bytes());
        sb[12] = BLOCK.trailing_zeros() as u8;
        put(sb, 14, &((ROOT / SLOT) as u16).to_le_bytes());
        put(sb, 16, &self.inodes.to_le_bytes());
        put(sb, 36, &self.blocks.to_le_bytes());
        put(sb, 48, &self.uuid);
        // Over the rest of the block too, the checksum itself being zero.
        let sum = crc32c(sb);
        put(sb, 4, &sum.to_le_bytes());
    }
}

/// The number of a device, as the kernel packs it: 12 bits of the major one, 20 bits of the minor one.
pub fn device(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some((minor & 0xff) | major << 8 | (minor & !0xff) << 12)
}

/// An entry of a directory, without its name.
pub fn dirent(nid: u64, name_at: u16, kind: Type) -> [u8; DIRENT] {
    let mut bytes = [0; DIRENT];
    put(&mut bytes, 0, &nid.to_le_bytes());
    put(&mut bytes, 8, &name_at.to_le_bytes());
    bytes[10] = kind as u8;
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}
