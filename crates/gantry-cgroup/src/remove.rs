//! Removing cgroups with everything below them.
//!
//! A container can make cgroups below its own, as deep as it likes. They are walked with one descriptor that goes down and up
//! again, so that neither the depth nor the length of a path matters.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::Error;

/// How long processes that were killed may take to leave their cgroups.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes a cgroup that is empty, and says whether it is gone.
pub(crate) fn try_remove(dir: &Path) -> bool {
    matches!(rustix::fs::unlinkat(CWD, dir, AtFlags::REMOVEDIR), Ok(()) | Err(Errno::NOENT | Errno::NODEV))
}

/// Directories right below one; none if it is gone.
pub(crate) fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(fd) = rustix::fs::open(dir, OPEN, Mode::empty()) else { return Vec::new() };
    names(&fd).unwrap_or_default().into_iter().filter_map(|name| Some(dir.join(name.to_str().ok()?))).collect()
}

fn names(fd: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes a cgroup and all below it, and waits until `end` for processes to leave.
pub(crate) fn remove_tree(dir: &Path, end: Instant) -> Result<(), Error> {
    let fail = |errno| Error::Kernel {
        action: format!("remove cgroup {}", dir.display()),
        errno,
        hint: if errno == Errno::BUSY { "processes in it, or below it, do not die" } else { "" },
    };
    let mut pause = Duration::from_micros(100);
    loop {
        match remove_once(dir) {
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < end => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(100));
            }
            Err(errno) => return Err(fail(errno)),
        }
    }
}

/// Goes once through all below, and removes what is empty by then.
fn remove_once(dir: &Path) -> Result<(), Errno> {
    match rustix::fs::unlinkat(CWD, dir, AtFlags::REMOVEDIR) {
        Err(Errno::BUSY) => {}
        other => return other,
    }
    let mut at = rustix::fs::open(dir, OPEN, Mode::empty())?;
    // Names still to be removed, one list for each level below `dir`; the last of a list is the one that is being walked.
    let mut levels = vec![names(&at)?];
    let mut busy = false;
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.last() else {
            levels.pop();
            let Some(above) = levels.last_mut() else { break };
            at = rustix::fs::openat(&at, c"..", OPEN, Mode::empty())?;
            if let Some(name) = above.pop() {
                busy |= rustix::fs::unlinkat(&at, &name, AtFlags::REMOVEDIR) == Err(Errno::BUSY);
            }
            continue;
        };
        match rustix::fs::unlinkat(&at, name, AtFlags::REMOVEDIR) {
            Err(Errno::BUSY) => match rustix::fs::openat(&at, name, OPEN, Mode::empty()) {
                Ok(below) => {
                    levels.push(names(&below)?);
                    at = below;
                }
                Err(_) => drop(level.pop()),
            },
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => drop(level.pop()),
            Err(errno) => return Err(errno),
        }
    }
    if busy { Err(Errno::BUSY) } else { rustix::fs::unlinkat(CWD, dir, AtFlags::REMOVEDIR) }
}
