//! From a file on disk to the entry that makes it again.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use gantry_tar::{Entry, Extent, Kind, Time, Xattr};
use rustix::fs::{
    FileType, SeekFrom, Stat, lgetxattr, lgetxattr_query, llistxattr, llistxattr_query, major, minor, readlinkat, seek,
};
use rustix::io::Errno;

/// Holes of a file that are worth a map, in bytes.
const WORTH: u64 = 1 << 20;
/// Extents that a map may have, which is what readers take.
const MOST_EXTENTS: usize = 1 << 16;

/// What a file is, and all its attributes, those of the overlay file system too. `None` for a socket, which no archive can
/// hold and which means nothing without its process.
///
/// Names of users are not among them: they are those of whoever made the archive.
pub fn describe(parent: BorrowedFd<'_>, name: &[u8], stat: &Stat, path: &[u8]) -> rustix::io::Result<Option<Entry>> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::Char,
        FileType::BlockDevice => Kind::Block,
        FileType::Fifo => Kind::Fifo,
        _ => return Ok(None),
    };
    let mut entry = Entry { path: path.to_vec(), kind, mode: stat.st_mode & 0o7777, ..Entry::default() };
    (entry.uid, entry.gid) = (stat.st_uid.into(), stat.st_gid.into());
    entry.mtime = Time { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 };
    match kind {
        Kind::File => entry.size = stat.st_size as u64,
        Kind::Symlink => entry.link = readlinkat(parent, name, Vec::new())?.into_bytes(),
        Kind::Char | Kind::Block => (entry.major, entry.minor) = (major(stat.st_rdev), minor(stat.st_rdev)),
        _ => {}
    }
    entry.xattrs = xattrs(parent, name)?;
    Ok(Some(entry))
}

/// All extended attributes, in the order of their names. The file is not opened, which for a device would do something.
fn xattrs(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Vec<Xattr>> {
    let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name].concat();
    let path = path.as_slice();
    let size = match llistxattr_query(path) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut list = vec![0; size];
    let size = llistxattr(path, list.as_mut_slice())?;
    let mut xattrs = Vec::new();
    for name in list[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; lgetxattr_query(path, name)?];
        let size = lgetxattr(path, name, value.as_mut_slice())?;
        value.truncate(size);
        xattrs.push((name.to_vec(), value));
    }
    xattrs.sort();
    Ok(xattrs)
}

/// Where a file has data, if its holes are worth telling. The position in the file is anywhere afterwards.
pub fn holes(file: impl AsFd, stat: &Stat) -> rustix::io::Result<Option<Vec<Extent>>> {
    let size = stat.st_size as u64;
    if size.saturating_sub(stat.st_blocks as u64 * 512) < WORTH {
        return Ok(None);
    }
    let mut map = Vec::new();
    let mut at = 0;
    while at < size {
        let offset = match seek(&file, SeekFrom::Data(at)) {
            Ok(offset) => offset.min(size),
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let end = seek(&file, SeekFrom::Hole(offset))?.clamp(offset, size);
        if end == offset {
            break;
        }
        map.push(Extent { offset, length: end - offset });
        if map.len() > MOST_EXTENTS {
            return Ok(None);
        }
        at = end;
    }
    // GNU tar takes the end of the last extent for the end of the file, so a hole there needs one of no length.
    if map.last().is_none_or(|last| last.offset + last.length < size) {
        map.push(Extent { offset: size, length: 0 });
    }
    Ok(Some(map))
}
