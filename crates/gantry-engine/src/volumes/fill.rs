//! What an image has at the place of a volume goes into the volume, once.
//!
//! It is first put together beside the volume's data, and moved in when it is whole: whatever a crash cuts off is begun
//! again, or brought to its end, and what somebody else put in meanwhile stays as it is.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, RenameFlags, fchmod, fchown, flock, fstat, futimens, mkdirat,
    openat, renameat, renameat_with, syncfs, unlinkat,
};
use rustix::io::Errno;

use super::{Volume, options};
use crate::error::{Context, Result};
use crate::files::{open_in, tree};

/// What is being put together.
const PART: &str = "copying";
/// What is whole, and is being moved in.
const WHOLE: &str = "copied";
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Takes a volume for oneself until what is returned is dropped.
pub(super) fn turn(volume: &Volume) -> Result<File> {
    let what = || format!("open volume {}", volume.name);
    let at = Path::new(&volume.mountpoint).parent().unwrap_or(Path::new("/"));
    let dir = openat(CWD, at, DIRECTORY, Mode::empty()).context(what)?;
    flock(&dir, FlockOperation::LockExclusive).context(what)?;
    Ok(File::from(dir))
}

/// Copies what is at `path` in the tree of an image into a volume that has nothing. The volume is mounted.
pub(crate) fn fill(volume: &Volume, image: BorrowedFd<'_>, path: &str) -> Result<()> {
    let what = || format!("copy {path} of the image into volume {}", volume.name);
    let from = match open_in(image, path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        other => other.context(what)?,
    };
    let turn = turn(volume)?;
    let data = openat(CWD, volume.mountpoint.as_str(), DIRECTORY, Mode::empty()).context(what)?;
    if options::is_plain(volume) { beside(&turn, &from, &data) } else { within(&turn, &from, &data) }.context(what)
}

/// Fills a directory of ours.
fn beside(turn: &File, from: &OwnedFd, data: &OwnedFd) -> std::io::Result<()> {
    tree::remove(turn.as_fd(), PART.as_ref()).or_else(if_there)?;
    if exists(turn, WHOLE)? {
        return move_in(turn, data);
    }
    if !is_empty(data)? {
        return Ok(());
    }
    if is_empty(from)? {
        return attributes(from, data);
    }
    mkdirat(turn, PART, Mode::RWXU)?;
    let part = openat(turn, PART, DIRECTORY, Mode::empty())?;
    copy(from, &part)?;
    // What is moved in is not looked at again, so it has to be on the disk.
    syncfs(&part)?;
    renameat(turn, PART, turn, WHOLE)?;
    move_in(turn, data)
}

/// Moves what is whole to where it belongs.
fn move_in(turn: &File, data: &OwnedFd) -> std::io::Result<()> {
    let whole = openat(turn, WHOLE, DIRECTORY, Mode::empty())?;
    for entry in Dir::read_from(&whole)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match renameat_with(&whole, name, data, name, RenameFlags::NOREPLACE) {
            // Somebody has made it meanwhile; that stays.
            Err(Errno::EXIST) => {
                let name = std::os::unix::ffi::OsStrExt::from_bytes(name.to_bytes());
                tree::remove(whole.as_fd(), name)?;
            }
            other => other?,
        }
    }
    attributes(&whole, data)?;
    unlinkat(turn, WHOLE, AtFlags::REMOVEDIR)?;
    Ok(())
}

/// Fills a file system that is mounted: nothing can be moved into it. That it was begun is noted, and then it is done anew.
fn within(turn: &File, from: &OwnedFd, data: &OwnedFd) -> std::io::Result<()> {
    if !exists(turn, PART)? {
        if !is_empty(data)? {
            return Ok(());
        }
        mkdirat(turn, PART, Mode::RWXU)?;
    }
    copy(from, data)?;
    unlinkat(turn, PART, AtFlags::REMOVEDIR)?;
    Ok(())
}

fn exists(turn: &File, name: &str) -> std::io::Result<bool> {
    match rustix::fs::statat(turn, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn if_there(errno: Errno) -> Result<(), Errno> {
    if errno == Errno::NOENT { Ok(()) } else { Err(errno) }
}

fn is_empty(dir: &OwnedFd) -> std::io::Result<bool> {
    tree::is_empty(dir.as_fd()).map_err(std::io::Error::other)
}

fn copy(from: &OwnedFd, to: &OwnedFd) -> std::io::Result<()> {
    tree::copy(from, to).map_err(std::io::Error::other)
}

/// Gives a directory what another has: owner, mode, extended attributes and times.
fn attributes(from: &OwnedFd, to: &OwnedFd) -> std::io::Result<()> {
    use rustix::fs::{Gid, Timespec, Timestamps, Uid};
    let stat = fstat(from)?;
    fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    xattrs(from, to)?;
    let time = |seconds, nanos: u64| Timespec { tv_sec: seconds, tv_nsec: nanos as i64 };
    let (access, change) = (time(stat.st_atime, stat.st_atime_nsec), time(stat.st_mtime, stat.st_mtime_nsec));
    futimens(to, &Timestamps { last_access: access, last_modification: change })?;
    Ok(())
}

/// Copies the extended attributes that the other file system takes, but for those by which overlayfs knows its own.
fn xattrs(from: &OwnedFd, to: &OwnedFd) -> std::io::Result<()> {
    use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
    // More than the kernel lets a list or a value have.
    let mut list = vec![0; 64 << 10];
    let length = match flistxattr(from, &mut list[..]) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    let mut value = vec![0; 64 << 10];
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let Ok(length) = fgetxattr(from, name, &mut value[..]) else { continue };
        match fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// An image, a volume and something outside of both, which go with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        /// None where files cannot be given to others.
        fn new(name: &str) -> Option<Self> {
            if !rustix::process::geteuid().is_root() {
                eprintln!("SKIPPED: it needs root");
                return None;
            }
            let path = std::env::temp_dir().join(format!("gantry-fill-{name}-{}", std::process::id()));
            for below in ["image/data/sub", "image/other", "outside", "volume/_data"] {
                std::fs::create_dir_all(path.join(below)).unwrap();
            }
            for (below, text) in [("image/data/sub/file", "image"), ("image/other/own", ""), ("outside/secret", "")] {
                std::fs::write(path.join(below), text).unwrap();
            }
            Some(Self(path))
        }

        fn volume(&self) -> Volume {
            let mountpoint = self.0.join("volume/_data").display().to_string();
            Volume { name: "vv".to_owned(), mountpoint, ..Volume::default() }
        }

        fn fill(&self, path: &str) -> Vec<String> {
            let image = crate::rootfs::open(&self.0.join("image")).unwrap();
            fill(&self.volume(), image.as_fd(), path).unwrap();
            self.names()
        }

        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.0.join("volume/_data")).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn links_of_an_image_lead_nowhere_else() {
        let Some(scratch) = Scratch::new("links") else { return };
        let (image, outside) = (scratch.0.join("image"), scratch.0.join("outside"));
        symlink(&outside, image.join("absolute")).unwrap();
        symlink("../../../../../../../../../..".to_owned() + outside.to_str().unwrap(), image.join("up")).unwrap();
        symlink("loop", image.join("loop")).unwrap();
        symlink("/other", image.join("inner")).unwrap();
        symlink(&outside, image.join("data/out")).unwrap();
        for path in ["/absolute", "/up", "/loop", "/absolute/../outside", "/none", "/data/sub/file"] {
            assert_eq!(scratch.fill(path), Vec::<String>::new(), "{path}");
        }
        // A link within the image leads where it does there, and one below is copied as it is.
        assert_eq!(scratch.fill("/data"), ["out", "sub"]);
        assert_eq!(std::fs::read_link(scratch.0.join("volume/_data/out")).unwrap(), outside);
        assert_eq!(scratch.fill("/inner"), ["out", "sub"], "what has something is left alone");
        std::fs::remove_dir_all(scratch.0.join("volume/_data")).unwrap();
        std::fs::create_dir(scratch.0.join("volume/_data")).unwrap();
        assert_eq!(scratch.fill("/inner"), ["own"]);
    }

    #[test]
    fn what_was_cut_off_is_brought_to_its_end() {
        let Some(scratch) = Scratch::new("crash") else { return };
        // Half of a copy is begun again.
        std::fs::create_dir(scratch.0.join("volume").join(PART)).unwrap();
        std::fs::write(scratch.0.join("volume").join(PART).join("half"), "").unwrap();
        assert_eq!(scratch.fill("/data"), ["sub"]);
        // A whole one is moved in; what somebody made meanwhile stays.
        let whole = scratch.0.join("volume").join(WHOLE);
        std::fs::create_dir_all(whole.join("sub/deep")).unwrap();
        std::fs::write(whole.join("late"), "").unwrap();
        assert_eq!(scratch.fill("/data"), ["late", "sub"]);
        assert!(scratch.0.join("volume/_data/sub/file").exists() && !scratch.0.join("volume/_data/sub/deep").exists());
        assert!(!whole.exists());
    }

    /// A file system that is mounted is filled where containers see it: one puts a link in the way.
    #[test]
    fn links_in_a_volume_lead_nowhere_else() {
        let Some(scratch) = Scratch::new("planted") else { return };
        let data = scratch.0.join("volume/_data");
        let open = |path: PathBuf| openat(CWD, path, DIRECTORY, Mode::empty()).unwrap();
        let turn = turn(&scratch.volume()).unwrap();
        mkdirat(&turn, PART, Mode::RWXU).unwrap();
        symlink(scratch.0.join("outside"), data.join("sub")).unwrap();
        let (from, to) = (open(scratch.0.join("image/data")), open(data.clone()));
        let _ = within(&turn, &from, &to);
        assert_eq!(std::fs::read_dir(scratch.0.join("outside")).unwrap().count(), 1);
        assert_eq!(std::fs::read(scratch.0.join("outside/secret")).unwrap(), b"");
    }
}
