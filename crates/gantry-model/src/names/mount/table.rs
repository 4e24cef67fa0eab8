//! The words and the bits.

/// Flags of mount(2), `MS_*`.
pub mod ms {
    /// Read-only.
    pub const RDONLY: u64 = 1;
    /// Set-user-ID programs do not change ids.
    pub const NOSUID: u64 = 1 << 1;
    /// Device files do not open.
    pub const NODEV: u64 = 1 << 2;
    /// Programs do not run.
    pub const NOEXEC: u64 = 1 << 3;
    /// Writes are synchronous.
    pub const SYNCHRONOUS: u64 = 1 << 4;
    /// An existing mount is changed.
    pub const REMOUNT: u64 = 1 << 5;
    /// Mandatory locks.
    pub const MANDLOCK: u64 = 1 << 6;
    /// Changes of directories are synchronous.
    pub const DIRSYNC: u64 = 1 << 7;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 1 << 8;
    /// Access times are not kept.
    pub const NOATIME: u64 = 1 << 10;
    /// Access times of directories are not kept.
    pub const NODIRATIME: u64 = 1 << 11;
    /// A tree is bound.
    pub const BIND: u64 = 1 << 12;
    /// The mounts below are meant too.
    pub const REC: u64 = 1 << 14;
    /// The kernel log stays quiet.
    pub const SILENT: u64 = 1 << 15;
    /// Propagation: none, and not to be bound.
    pub const UNBINDABLE: u64 = 1 << 17;
    /// Propagation: none.
    pub const PRIVATE: u64 = 1 << 18;
    /// Propagation: received only.
    pub const SLAVE: u64 = 1 << 19;
    /// Propagation: both ways.
    pub const SHARED: u64 = 1 << 20;
    /// Access times are kept when older than the modification.
    pub const RELATIME: u64 = 1 << 21;
    /// Inode versions are kept.
    pub const I_VERSION: u64 = 1 << 23;
    /// Access times are always kept.
    pub const STRICTATIME: u64 = 1 << 24;
    /// Times are written lazily.
    pub const LAZYTIME: u64 = 1 << 25;
}

/// Attributes of fsmount(2) and mount_setattr(2), `MOUNT_ATTR_*`.
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-ID programs do not change ids.
    pub const NOSUID: u64 = 0x2;
    /// Device files do not open.
    pub const NODEV: u64 = 0x4;
    /// Programs do not run.
    pub const NOEXEC: u64 = 0x8;
    /// The field of the access time attributes: relatime (0), noatime or strictatime.
    pub const ATIME: u64 = 0x70;
    /// Access times are kept when older than the modification.
    pub const RELATIME: u64 = 0;
    /// Access times are not kept.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always kept.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of directories are not kept.
    pub const NODIRATIME: u64 = 0x80;
    /// Ids are mapped by a user namespace.
    pub const IDMAP: u64 = 0x10_0000;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// What a word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// What is the default anyway.
    Nothing,
    /// `MS_BIND`, with `MS_REC` if recursive.
    Bind { recursive: bool },
    /// `MS_REMOUNT`.
    Remount,
    /// `MS_*` flags set.
    Set(u64),
    /// `MS_*` flags cleared.
    Clear(u64),
    /// `MOUNT_ATTR_*` bits set on the mount and those below it.
    RecursiveSet(u64),
    /// `MOUNT_ATTR_*` bits cleared on the mount and those below it.
    RecursiveClear(u64),
    /// A choice of the access time field for the mount and those below it.
    RecursiveAtime(u64),
    /// A change of propagation.
    Propagation { kind: u64, recursive: bool },
    /// What lies below is copied into a tmpfs.
    TmpCopyUp,
    /// A source that is a symbolic link is made anew.
    CopySymlink,
    /// A source that is a symbolic link is not followed.
    SourceNoFollow,
    /// A destination that is a symbolic link is not followed.
    DestinationNoFollow,
    /// Ids are mapped.
    Idmap { recursive: bool },
}

use Meaning::{Clear, RecursiveAtime, RecursiveClear, RecursiveSet, Set};

const fn propagation(kind: u64, recursive: bool) -> Meaning {
    Meaning::Propagation { kind, recursive }
}

/// All words with a meaning, sorted: they are searched by halves. The recursive forms of what is a file system's flag, as
/// `rsync`, mean the same as the plain ones: no system call changes the file systems of the mounts below.
pub(super) const OPTIONS: [(&str, Meaning); 70] = [
    ("async", Clear(ms::SYNCHRONOUS)),
    ("atime", Clear(ms::NOATIME)),
    ("bind", Meaning::Bind { recursive: false }),
    ("copy-symlink", Meaning::CopySymlink),
    ("defaults", Meaning::Nothing),
    ("dest-nofollow", Meaning::DestinationNoFollow),
    ("dev", Clear(ms::NODEV)),
    ("diratime", Clear(ms::NODIRATIME)),
    ("dirsync", Set(ms::DIRSYNC)),
    ("exec", Clear(ms::NOEXEC)),
    ("idmap", Meaning::Idmap { recursive: false }),
    ("iversion", Set(ms::I_VERSION)),
    ("lazytime", Set(ms::LAZYTIME)),
    ("loud", Clear(ms::SILENT)),
    ("mand", Set(ms::MANDLOCK)),
    ("noatime", Set(ms::NOATIME)),
    ("nodev", Set(ms::NODEV)),
    ("nodiratime", Set(ms::NODIRATIME)),
    ("noexec", Set(ms::NOEXEC)),
    ("noiversion", Clear(ms::I_VERSION)),
    ("nolazytime", Clear(ms::LAZYTIME)),
    ("nomand", Clear(ms::MANDLOCK)),
    ("norelatime", Clear(ms::RELATIME)),
    ("nostrictatime", Clear(ms::STRICTATIME)),
    ("nosuid", Set(ms::NOSUID)),
    ("nosymfollow", Set(ms::NOSYMFOLLOW)),
    ("private", propagation(ms::PRIVATE, false)),
    ("rasync", Clear(ms::SYNCHRONOUS)),
    ("ratime", RecursiveAtime(attr::RELATIME)),
    ("rbind", Meaning::Bind { recursive: true }),
    ("rdev", RecursiveClear(attr::NODEV)),
    ("rdiratime", RecursiveClear(attr::NODIRATIME)),
    ("rdirsync", Set(ms::DIRSYNC)),
    ("relatime", Set(ms::RELATIME)),
    ("remount", Meaning::Remount),
    ("rexec", RecursiveClear(attr::NOEXEC)),
    ("ridmap", Meaning::Idmap { recursive: true }),
    ("rmand", Set(ms::MANDLOCK)),
    ("rnoatime", RecursiveAtime(attr::NOATIME)),
    ("rnodev", RecursiveSet(attr::NODEV)),
    ("rnodiratime", RecursiveSet(attr::NODIRATIME)),
    ("rnoexec", RecursiveSet(attr::NOEXEC)),
    ("rnomand", Clear(ms::MANDLOCK)),
    ("rnorelatime", RecursiveAtime(attr::RELATIME)),
    ("rnostrictatime", RecursiveAtime(attr::RELATIME)),
    ("rnosuid", RecursiveSet(attr::NOSUID)),
    ("rnosymfollow", RecursiveSet(attr::NOSYMFOLLOW)),
    ("ro", Set(ms::RDONLY)),
    ("rprivate", propagation(ms::PRIVATE, true)),
    ("rrelatime", RecursiveAtime(attr::RELATIME)),
    ("rro", RecursiveSet(attr::RDONLY)),
    ("rrw", RecursiveClear(attr::RDONLY)),
    ("rshared", propagation(ms::SHARED, true)),
    ("rslave", propagation(ms::SLAVE, true)),
    ("rstrictatime", RecursiveAtime(attr::STRICTATIME)),
    ("rsuid", RecursiveClear(attr::NOSUID)),
    ("rsymfollow", RecursiveClear(attr::NOSYMFOLLOW)),
    ("rsync", Set(ms::SYNCHRONOUS)),
    ("runbindable", propagation(ms::UNBINDABLE, true)),
    ("rw", Clear(ms::RDONLY)),
    ("shared", propagation(ms::SHARED, false)),
    ("silent", Set(ms::SILENT)),
    ("slave", propagation(ms::SLAVE, false)),
    ("src-nofollow", Meaning::SourceNoFollow),
    ("strictatime", Set(ms::STRICTATIME)),
    ("suid", Clear(ms::NOSUID)),
    ("symfollow", Clear(ms::NOSYMFOLLOW)),
    ("sync", Set(ms::SYNCHRONOUS)),
    ("tmpcopyup", Meaning::TmpCopyUp),
    ("unbindable", propagation(ms::UNBINDABLE, false)),
];

/// Flags of mount(2) and the attributes they become, but for the access time's.
pub(super) const PLAIN_ATTRIBUTES: [(u64, u64); 6] = [
    (ms::RDONLY, attr::RDONLY),
    (ms::NOSUID, attr::NOSUID),
    (ms::NODEV, attr::NODEV),
    (ms::NOEXEC, attr::NOEXEC),
    (ms::NODIRATIME, attr::NODIRATIME),
    (ms::NOSYMFOLLOW, attr::NOSYMFOLLOW),
];

/// What a word means; `None` if it is data for the file system.
pub(super) fn find(option: &str) -> Option<Meaning> {
    let at = OPTIONS.binary_search_by(|(name, _)| (*name).cmp(option)).ok()?;
    OPTIONS.get(at).map(|&(_, meaning)| meaning)
}
