//! Copying a directory of the root file system into the tmpfs that covers it (option `tmpcopyup`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chmodat, chownat, fchmod, fchown,
    fstat, futimens, getxattr, listxattr, mkdirat, mknodat, openat, readlinkat, sendfile, setxattr, statat, symlinkat,
};
use rustix::io::Errno;

/// How deep a tree may be: each level holds two descriptors.
const MAX_DEPTH: u32 = 128;

/// Copies what is in `from` into `to`: content, kinds, owners, modes, times and extended attributes. Symbolic links are
/// copied, never followed.
pub(super) fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    // A new mount comes as a path; files are made and changed through an open directory.
    let to = openat(to, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    copy_directory(from, to.as_fd(), 0)
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(Errno::NAMETOOLONG.into());
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                mkdirat(to, name, Mode::from_raw_mode(0o700))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let (source, target) =
                    (openat(from, name, flags, Mode::empty())?, openat(to, name, flags, Mode::empty())?);
                copy_directory(source.as_fd(), target.as_fd(), depth + 1)?;
                copy_attributes(source.as_fd(), target.as_fd(), &stat, mode)?;
            }
            FileType::RegularFile => {
                let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let source = openat(from, name, flags | OFlags::RDONLY, Mode::empty())?;
                let new = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let target = openat(to, name, new, Mode::from_raw_mode(0o600))?;
                while sendfile(&target, &source, None, 1 << 20)? > 0 {}
                copy_attributes(source.as_fd(), target.as_fd(), &stat, mode)?;
            }
            FileType::Symlink => {
                symlinkat(readlinkat(from, name, vec![])?.as_c_str(), to, name)?;
                chownat(
                    to,
                    name,
                    Some(Uid::from_raw(stat.st_uid)),
                    Some(Gid::from_raw(stat.st_gid)),
                    AtFlags::SYMLINK_NOFOLLOW,
                )?;
            }
            // A device or fifo; one that may not be made here is left out, as its use would be refused as well.
            kind => match mknodat(to, name, kind, mode, stat.st_rdev) {
                Err(Errno::PERM) => {}
                result => {
                    result?;
                    chownat(
                        to,
                        name,
                        Some(Uid::from_raw(stat.st_uid)),
                        Some(Gid::from_raw(stat.st_gid)),
                        AtFlags::SYMLINK_NOFOLLOW,
                    )?;
                    chmodat(to, name, mode, AtFlags::empty())?;
                }
            },
        }
    }
    let stat = fstat(from)?;
    copy_attributes(from, to, &stat, Mode::from_raw_mode(stat.st_mode & 0o7777))
}

fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat, mode: Mode) -> io::Result<()> {
    fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    copy_xattrs(from, to)?;
    fchmod(to, mode)?;
    let time = |seconds: i64, nanos: i64| Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as i64),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as i64),
    };
    Ok(futimens(to, &times)?)
}

/// Copies extended attributes; those that the target's file system has no place for are left out.
fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let path = |fd: BorrowedFd<'_>| format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    let mut names = vec![0u8; 65536];
    let length = match listxattr(path(from), &mut names[..]) {
        Err(Errno::NOTSUP) => return Ok(()),
        result => result?,
    };
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; 65536];
        let length = getxattr(path(from), name, &mut value[..])?;
        match setxattr(path(to), name, &value[..length], rustix::fs::XattrFlags::empty()) {
            Err(Errno::NOTSUP | Errno::PERM) => {}
            result => result?,
        }
    }
    Ok(())
}
