//! The files of containers: users, what goes in and out, and volumes.
//!
//! A container may change its files at any moment, so every path is resolved by the kernel inside a root that is held by a
//! descriptor, and what was opened is what is used.

mod changes;
mod copy;
mod extract;
pub(crate) mod tree;
pub(crate) mod users;

pub use changes::{Change, ChangeKind};
pub use copy::PathStat;
pub(crate) use tree::size;

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// Files of every container that its own are mounted on, from its root.
pub(crate) const PLACES: [&str; 4] = ["etc/hostname", "etc/hosts", "etc/resolv.conf", "sbin/gantry-init"];

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
    loop {
        match openat2(root, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Something was renamed meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// The text of a small file inside a root; none if there is none. What is longer than `most` is cut off.
pub(crate) fn read_in(root: BorrowedFd<'_>, path: &str, most: u64) -> Option<String> {
    // Not a device, nor a pipe that would make this wait.
    let file = open_in(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).ok()?;
    let kind = rustix::fs::fstat(file.as_fd()).ok()?;
    if rustix::fs::FileType::from_raw_mode(kind.st_mode) != rustix::fs::FileType::RegularFile {
        return None;
    }
    let mut bytes = Vec::new();
    File::from(file).take(most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
