//! The files of containers: users, what goes in and out, and volumes.
//!
//! A container may change its files at any moment, so every path is resolved by the kernel inside a root that is held by a
//! descriptor, and what was opened is what is used.

pub(crate) mod tree;
pub(crate) mod users;

pub(crate) use tree::size;

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// Opens a path inside a root: links lead nowhere else, and neither does `..`.
pub(crate) fn open_in(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<std::os::fd::OwnedFd, Errno> {
    let relative = path.trim_start_matches('/');
    let relative = if relative.is_empty() { "." } else { relative };
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
