//! Owner, mode, times and extended attributes of what was made, with no call to the kernel that changes nothing.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use gantry_tar::{Entry, Kind, Time, Xattr};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmod, chownat, fchmod, fchown, fsetxattr,
    lsetxattr, openat, utimensat,
};
use rustix::io::Errno;

use super::error::LayerError;
use super::{OVERLAY_PREFIX, Result};

/// Attribute whose loss would take a program's rights away.
const CAPABILITY: &[u8] = b"security.capability";
/// Default entries of a directory's access list: what is made in it afterwards gets them.
pub const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// Who makes the files, and with which mask: what is as it would be anyway is not set.
#[derive(Clone, Copy, Debug)]
pub struct Maker {
    uid: u32,
    gid: u32,
    umask: u32,
    /// Whether the group of a new file may be that of its directory, since some directory has the set-group-id bit.
    pub inherits: bool,
}

impl Maker {
    /// The maker that this process is.
    pub fn current() -> Self {
        // The mask of a process can only be asked by changing it, which other threads would notice; the kernel tells it
        // here as well. Without an answer every mode is set.
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        let umask = umask.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o777);
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { uid, gid, umask, inherits: false }
    }

    /// The mode to make something with.
    pub fn mode(mode: u32) -> Mode {
        Mode::from_raw_mode(mode & 0o777)
    }

    fn owns(&self, owner: (u32, u32)) -> bool {
        owner == (self.uid, self.gid) && !self.inherits
    }

    /// Whether a mode is not what something has that was made with it.
    fn must_set(&self, mode: u32) -> bool {
        mode & 0o7000 != 0 || mode & self.umask != 0 || self.inherits
    }

    /// Whether something that was made as `mode` by this maker needs to be opened to be given its attributes.
    pub fn needs_fd(&self, mode: u32, entry: &Entry) -> bool {
        self.must_set(mode) || !entry.xattrs.is_empty()
    }

    /// Gives an open file or directory its owner, mode and extended attributes, in the order in which none undoes another.
    /// One that was there already may have any.
    pub fn set_open(&self, fd: BorrowedFd<'_>, entry: &Entry, new: bool) -> Result<()> {
        let owner = owner(entry)?;
        if !new || !self.owns(owner) {
            fchown(fd, uid(owner), gid(owner)).map_err(LayerError::kernel("set the owner of", &entry.path))?;
        }
        if !new || self.must_set(entry.mode) {
            let mode = Mode::from_raw_mode(entry.mode);
            fchmod(fd, mode).map_err(LayerError::kernel("set the mode of", &entry.path))?;
        }
        set_xattrs(entry, |(name, value)| fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()))
    }

    /// Gives a directory that was just made its owner, if that is all it needs.
    pub fn set_owner(&self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<()> {
        let owner = owner(entry)?;
        if self.owns(owner) {
            return Ok(());
        }
        chownat(parent, name, uid(owner), gid(owner), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(LayerError::kernel("set the owner of", &entry.path))
    }

    /// Gives everything else that was just made its owner, mode, attributes and times. It cannot be opened without effect,
    /// so its name is used, in a directory that is open.
    pub fn set_named(&self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry, has_mode: bool) -> Result<()> {
        self.set_owner(parent, name, entry)?;
        if has_mode && self.must_set(entry.mode) {
            set_mode(parent, name, entry.mode).map_err(LayerError::kernel("set the mode of", &entry.path))?;
        }
        if !entry.xattrs.is_empty() {
            let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name].concat();
            set_xattrs(entry, |(key, value)| lsetxattr(path.as_slice(), key.as_slice(), value, XattrFlags::empty()))?;
        }
        set_times(parent, name, entry.mtime).map_err(LayerError::kernel("set the time of", &entry.path))
    }
}

/// Sets the mode of what is no symbolic link. An older kernel has no call for this that follows none.
pub fn set_mode(parent: BorrowedFd<'_>, name: &[u8], mode: u32) -> rustix::io::Result<()> {
    let fd = openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str(), Mode::from_raw_mode(mode))
}

/// Sets the time of what is named, also of a symbolic link.
pub fn set_times(parent: BorrowedFd<'_>, name: &[u8], mtime: Time) -> rustix::io::Result<()> {
    utimensat(parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
}

/// Both times of a file: the archive has that of its last access rarely, and nobody wants to see that of the unpacking.
pub fn times(mtime: Time) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Owner and group of an entry. The highest number means "leave it as it is" to the kernel.
fn owner(entry: &Entry) -> Result<(u32, u32)> {
    let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    match (id(entry.uid), id(entry.gid)) {
        (Some(uid), Some(gid)) => Ok((uid, gid)),
        _ => Err(LayerError::refused(&entry.path, "its owner or group is no id that the kernel has")),
    }
}

#[allow(clippy::unnecessary_wraps)] // As chown(2) takes them.
fn uid(owner: (u32, u32)) -> Option<Uid> {
    Some(Uid::from_raw(owner.0))
}

#[allow(clippy::unnecessary_wraps)] // As chown(2) takes them.
fn gid(owner: (u32, u32)) -> Option<Gid> {
    Some(Gid::from_raw(owner.1))
}

/// Whether an attribute of an archive is set. What the overlay file system keeps is its own: it would redirect
/// directories and files.
pub fn allowed(name: &[u8]) -> bool {
    !name.starts_with(OVERLAY_PREFIX)
}

/// Sets what an entry has. What cannot be is left out, as every engine does: a kind of attribute that the file system does
/// not know, and a user's attribute of something that is neither file nor directory. But capabilities are what makes a
/// program work.
fn set_xattrs(entry: &Entry, set: impl Fn(&Xattr) -> rustix::io::Result<()>) -> Result<()> {
    for xattr in entry.xattrs.iter().filter(|(name, _)| allowed(name)) {
        match set(xattr) {
            Ok(()) => {}
            Err(errno) if left_out(&xattr.0, entry.kind, errno) => {
                let name = gantry_tar::show(&xattr.0);
                tracing::debug!(entry = gantry_tar::show(&entry.path), name, "attribute not supported");
            }
            Err(errno) => return Err(LayerError::kernel("set an extended attribute of", &entry.path)(errno)),
        }
    }
    Ok(())
}

/// Whether an attribute that was refused is left out.
fn left_out(name: &[u8], kind: Kind, errno: Errno) -> bool {
    match errno {
        Errno::OPNOTSUPP => name != CAPABILITY,
        Errno::PERM => name.starts_with(b"user.") && !matches!(kind, Kind::File | Kind::Directory),
        _ => false,
    }
}
