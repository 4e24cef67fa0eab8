//! Reading and writing the small files of cgroup file systems.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::Error;

/// Most bytes read of one file. The longest, `cgroup.procs`, lists every process that there can be in that.
const MAX_FILE: usize = 64 << 20;

/// Writes a value in one write(2), which is what cgroup files want.
pub(crate) fn write(path: &Path, value: &str) -> Result<(), Errno> {
    let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?;
    write_fd(&fd, value)
}

pub(crate) fn write_fd(fd: impl AsFd, value: &str) -> Result<(), Errno> {
    let written = rustix::io::retry_on_intr(|| rustix::io::write(&fd, value.as_bytes()))?;
    if written == value.len() { Ok(()) } else { Err(Errno::IO) }
}

/// Writes a value, and says what it did if that fails.
pub(crate) fn write_or(path: &Path, value: &str) -> Result<(), Error> {
    write(path, value).map_err(|errno| write_error(path, value, errno))
}

pub(crate) fn write_error(path: &Path, value: &str, errno: Errno) -> Error {
    let hint = match errno {
        Errno::BUSY => "the kernel finds the file's cgroup in use in a way that forbids the value",
        Errno::NOENT => "is the controller enabled for this cgroup, and known to the kernel?",
        Errno::INVAL => "the kernel does not accept the value here",
        Errno::RANGE | Errno::OVERFLOW => "the value is out of the kernel's range",
        Errno::NOSPC => "if this is a cpuset, it has no processors or memory nodes",
        Errno::NODEV => "no such device, or the cgroup was removed",
        Errno::ACCESS | Errno::PERM | Errno::ROFS => "may this user change the cgroup?",
        _ => "",
    };
    Error::Kernel { action: format!("write {value:?} to {}", path.display()), errno, hint }
}

/// Reads a file whole.
pub(crate) fn read(path: &Path) -> Result<String, Errno> {
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?;
    read_fd(&fd)
}

pub(crate) fn read_fd(fd: &OwnedFd) -> Result<String, Errno> {
    let (mut bytes, mut chunk) = (Vec::new(), [0_u8; 4096]);
    loop {
        let n = rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut chunk))?;
        bytes.extend_from_slice(&chunk[..n]);
        if n == 0 {
            return String::from_utf8(bytes).map_err(|_| Errno::ILSEQ);
        }
        if bytes.len() > MAX_FILE {
            return Err(Errno::FBIG);
        }
    }
}

pub(crate) fn read_or(path: &Path) -> Result<String, Error> {
    read(path).map_err(|errno| Error::kernel(format!("read {}", path.display()), errno))
}

/// Reads a file that may be missing, or vanish with its cgroup while it is read.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, Error> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(Errno::NOENT | Errno::NODEV) => Ok(None),
        Err(errno) => Err(Error::kernel(format!("read {}", path.display()), errno)),
    }
}

/// The number after a key in a file of `key number` lines.
pub(crate) fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}
