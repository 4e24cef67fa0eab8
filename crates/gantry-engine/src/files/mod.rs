//! The files of containers: users, what goes in and out, and volumes.
//!
//! A container may change its files at any moment, so every path is resolved by the kernel inside a root that is held by a
//! descriptor, and what was opened is what is used.

mod changes;
mod copy;
mod extract;
mod inside;
#[cfg(test)]
mod tests;
pub(crate) mod tree;
pub(crate) mod users;

pub use changes::{Change, ChangeKind};
pub use copy::PathStat;
pub(crate) use tree::size;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid, openat2};
use rustix::io::Errno;
use rustix::process::{dumpable_behavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitiesSecureBits, capabilities_secure_bits, set_capabilities_secure_bits, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::error::{Context as _, Error, Result};

/// Files of every container that its own are mounted on, from its root.
pub(crate) const PLACES: [&str; 4] = ["etc/hostname", "etc/hosts", "etc/resolv.conf", "sbin/gantry-init"];

/// How ids are seen from outside of a user namespace: 0 as the first, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    /// The one that stands for 0.
    pub(crate) first: u32,
    /// How many there are.
    pub(crate) count: u32,
}

impl Ids {
    /// Reads a map of the kernel (user_namespaces(7)) of one line.
    fn read(map: &str) -> Option<Self> {
        let mut numbers = map.split_ascii_whitespace().map(str::parse::<u32>);
        match (numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()) {
            (Ok(0), Ok(first), Ok(count), None) => Some(Self { first, count }),
            _ => None,
        }
    }

    /// What stands outside for an id inside.
    fn outside(self, id: u32) -> Option<u32> {
        if id < self.count { self.first.checked_add(id) } else { None }
    }
}

/// Does something as who stands for root in a user namespace, with every right that this process has: on a mount that maps
/// ids nobody else makes files. Without a user namespace it is just done.
pub(crate) fn as_root_in<T: Send>(ids: Option<Ids>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let Some(ids) = ids else { return work() };
    let what = || "become the root of a user namespace".to_owned();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("files".to_owned()).spawn_scoped(scope, move || {
            become_user(ids.first).context(what)?;
            work()
        });
        thread.context(what)?.join().map_err(|_| Error::Closed)?
    })
}

/// Makes files of this thread belong to somebody else; it keeps its capabilities.
fn become_user(id: u32) -> Result<(), Errno> {
    set_capabilities_secure_bits(capabilities_secure_bits()? | CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
    // The kernel says of a process that changes who it is that nobody may look at it.
    let before = dumpable_behavior()?;
    set_thread_res_gid(None, Gid::from_raw(id), None)?;
    set_thread_res_uid(None, Uid::from_raw(id), None)?;
    set_dumpable_behavior(before)
}

/// A path inside a root.
pub(crate) struct InRoot<'a>(&'a [u8]);

impl<'a> From<&'a str> for InRoot<'a> {
    fn from(path: &'a str) -> Self {
        Self(path.as_bytes())
    }
}

impl<'a> From<&'a String> for InRoot<'a> {
    fn from(path: &'a String) -> Self {
        Self(path.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for InRoot<'a> {
    fn from(path: &'a [u8]) -> Self {
        Self(path)
    }
}

/// Opens a path inside a root: links lead nowhere else, and neither does `..`.
pub(crate) fn open_in<'a>(
    root: BorrowedFd<'_>,
    path: impl Into<InRoot<'a>>,
    flags: OFlags,
) -> Result<std::os::fd::OwnedFd, Errno> {
    let path = path.into().0;
    let relative = &path[path.iter().take_while(|byte| **byte == b'/').count()..];
    let relative = if relative.is_empty() { b"." } else { relative };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // Something was renamed meanwhile, which a container can do all the time.
    for _ in 0..10_000 {
        match openat2(root, OsStr::from_bytes(relative), flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// The text of a small file inside a root; none if there is none. What is longer than `most` is cut off.
pub(crate) fn read_in(root: BorrowedFd<'_>, path: &str, most: u64) -> Option<String> {
    // Held first: what is no file is not opened, which could wait or do something.
    let held = open_in(root, path, OFlags::PATH).ok()?;
    let kind = rustix::fs::fstat(held.as_fd()).ok()?;
    if rustix::fs::FileType::from_raw_mode(kind.st_mode) != rustix::fs::FileType::RegularFile {
        return None;
    }
    let mut bytes = Vec::new();
    reopened(held.as_fd(), OFlags::RDONLY).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Opens what is held.
pub(crate) fn reopened(held: BorrowedFd<'_>, flags: OFlags) -> Result<File, Errno> {
    use std::os::fd::AsRawFd as _;
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    rustix::fs::open(path.as_str(), flags | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()).map(File::from)
}
