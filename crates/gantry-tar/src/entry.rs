//! What an archive says of one file, whatever dialect it was said in.

/// What an entry makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    #[default]
    File,
    /// A further name of a file that is named by [`Entry::link`].
    Link,
    /// A symbolic link with the text of [`Entry::link`].
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// A time since the epoch. Times before it have negative seconds, and nanoseconds that still count upwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds after them, below 1,000,000,000.
    pub nanos: u32,
}

/// A part of a sparse file that holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// How long it is, in bytes; may be zero.
    pub length: u64,
}

/// An extended attribute: its full name, such as `security.capability`, and its value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// One entry of an archive, without its data.
///
/// An entry is filled again and again by [`crate::Reader::read_entry`], which keeps the memory of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Name, as the archive has it: it may be absolute, hold `..`, and end with a slash. Never empty, and without NUL.
    pub path: Vec<u8>,
    /// What it makes.
    pub kind: Kind,
    /// Target of a link of either kind. Empty for everything else.
    pub link: Vec<u8>,
    /// Permissions with the set-id and sticky bits, at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Name of the owner; may be empty.
    pub user: Vec<u8>,
    /// Name of the group; may be empty.
    pub group: Vec<u8>,
    /// Bytes of a regular file, its holes counted; zero for everything else.
    pub size: u64,
    /// Time of the last change of the data.
    pub mtime: Time,
    /// Major number of a device.
    pub major: u32,
    /// Minor number of a device.
    pub minor: u32,
    /// Extended attributes. Written in the order of their names.
    pub xattrs: Vec<Xattr>,
    /// For a sparse file, where its data belongs: in order, without overlaps, within `size`. When one is written, an extent
    /// of no length at `size` tells GNU tar of a hole at the end.
    pub sparse: Option<Vec<Extent>>,
}

impl Entry {
    /// Makes it as good as new, and keeps the memory of its fields.
    pub fn clear(&mut self) {
        let Self { path, link, user, group, xattrs, .. } = self;
        for bytes in [path, link, user, group] {
            bytes.clear();
        }
        xattrs.clear();
        (self.kind, self.mode, self.uid, self.gid) = (Kind::File, 0, 0, 0);
        (self.size, self.mtime, self.major, self.minor, self.sparse) = (0, Time::default(), 0, 0, None);
    }

    /// How many bytes of data the archive holds for it: the size, or what of it is no hole.
    pub fn stored(&self) -> u64 {
        match &self.sparse {
            Some(map) => map.iter().map(|extent| extent.length).sum(),
            None if self.kind == Kind::File => self.size,
            None => 0,
        }
    }
}
