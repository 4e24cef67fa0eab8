//! Paths inside a root that the container's author controls.
//!
//! Every path is resolved by openat2(2) inside the root's descriptor, so that no symbolic link, `..` or magic link leads
//! out, whatever changes meanwhile. What is missing is made component by component below descriptors already held.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;

/// The most symbolic links that are followed while missing directories are made.
const MAX_LINKS: u32 = 40;
/// How often a resolution is repeated that a concurrent rename made the kernel give up.
const MAX_RACES: u32 = 128;

/// Opens `path` inside `root`.
pub(crate) fn open_in(root: BorrowedFd<'_>, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    open_resolved(root, path, flags, mode, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens `path` inside `root`, refusing every symbolic link on the way and at its end.
pub(crate) fn open_plain(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    open_resolved(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
}

/// Opens `path` beneath `root`, within one mount and without symbolic links: for procfs.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    open_resolved(root, path, flags, Mode::empty(), resolve)
}

fn open_resolved(
    root: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    for _ in 0..MAX_RACES {
        match openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN) => {}
            result => return result.map_err(io::Error::from),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Opens the directory `path` inside `root`, making what is missing of it with `mode`.
pub(crate) fn make_dirs(root: BorrowedFd<'_>, path: &str, mode: Mode) -> io::Result<OwnedFd> {
    match open_in(root, path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
            make_missing(root, components(path), mode)
        }
        result => result,
    }
}

/// The components of a path, without empty ones and `.`; `..` at the root is dropped later, where links are known.
fn components(path: &str) -> Vec<String> {
    path.split('/').filter(|c| !c.is_empty() && *c != ".").map(str::to_owned).collect()
}

/// Walks `rest` from the root, making missing directories. `done` is the resolved path so far, free of links.
fn make_missing(root: BorrowedFd<'_>, rest: Vec<String>, mode: Mode) -> io::Result<OwnedFd> {
    let mut rest: Vec<String> = rest.into_iter().rev().collect();
    let mut stack: Vec<OwnedFd> = vec![];
    let mut links = 0;
    while let Some(component) = rest.pop() {
        if component == ".." {
            stack.pop();
            continue;
        }
        let dir = stack.last().map_or(root, AsFd::as_fd);
        let step = || openat(dir, component.as_str(), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let fd = match step() {
            Err(Errno::NOENT) => match mkdirat(dir, component.as_str(), mode) {
                Ok(()) | Err(Errno::EXIST) => step()?,
                Err(error) => return Err(error.into()),
            },
            result => result?,
        };
        match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::Directory => stack.push(fd),
            FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = readlinkat(&fd, "", vec![])?.into_string().map_err(|_| io::Error::from(Errno::ILSEQ))?;
                if target.starts_with('/') {
                    stack.clear();
                }
                rest.extend(components(&target).into_iter().rev());
            }
            _ => return Err(Errno::NOTDIR.into()),
        }
    }
    match stack.pop() {
        Some(fd) => Ok(fd),
        None => open_in(root, "/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()),
    }
}

/// Opens what is at `path` inside `root`, making an empty file there, and the directories above, if nothing is. Where
/// a symbolic link is that leads to nothing, what it leads to is made, inside the root.
pub(crate) fn make_file(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match open_in(root, &path, OFlags::PATH, Mode::empty()) {
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
            result => return result,
        }
        let (parent, name) = split(&path)?;
        let dir = make_dirs(root, parent, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        match openat(&dir, name, flags, Mode::from_raw_mode(0o644)) {
            Ok(_) => return Ok(openat(&dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?),
            Err(Errno::EXIST) => {
                let link = readlinkat(&dir, name, vec![])?.into_string().map_err(|_| io::Error::from(Errno::ILSEQ))?;
                path = if link.starts_with('/') { link } else { format!("{parent}/{link}") };
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::LOOP.into())
}

/// Opens the symbolic link at `path` inside `root` itself; none if there is something else, or nothing.
pub(crate) fn open_link(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    let fd = match open_in(root, path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    Ok((FileType::from_raw_mode(fstat(&fd)?.st_mode) == FileType::Symlink).then_some(fd))
}

/// A path's directory and last name.
pub(crate) fn split(path: &str) -> io::Result<(&str, &str)> {
    let path = path.trim_end_matches('/');
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.is_empty() || name == "." || name == ".." {
        return Err(Errno::INVAL.into());
    }
    Ok((if parent.is_empty() { "/" } else { parent }, name))
}

/// Opens a path of the runtime's own host, whatever links are on it.
pub(crate) fn open_host(path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A directory of its own, removed at the end.
    struct Dir(std::path::PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gantry-paths-{}-{name}", std::process::id()));
            std::fs::create_dir_all(path.join("root")).unwrap();
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_made_stays_inside() {
        let dir = Dir::new("inside");
        let root_path = dir.0.join("root");
        symlink("/outside", root_path.join("absolute")).unwrap();
        symlink("../../outside", root_path.join("relative")).unwrap();
        symlink("loop", root_path.join("loop")).unwrap();
        let root = open_host(root_path.to_str().unwrap(), OFlags::PATH).unwrap();
        let check = |path: &str, made: &str| {
            make_dirs(root.as_fd(), path, Mode::from_raw_mode(0o755)).unwrap();
            assert!(root_path.join(made).is_dir(), "{path} makes {made}");
            assert!(!dir.0.join("outside").exists());
        };
        check("/a/b/c", "a/b/c");
        check("/../../x", "x");
        check("/absolute/d", "outside/d");
        check("/relative/e", "outside/e");
        check("/new/../other", "other");
        let looped = make_dirs(root.as_fd(), "/loop/x", Mode::from_raw_mode(0o755));
        assert_eq!(looped.unwrap_err().raw_os_error(), Some(Errno::LOOP.raw_os_error()));
        make_file(root.as_fd(), "/absolute/f").unwrap();
        assert!(root_path.join("outside/f").is_file());
        symlink("../../missing/here/g", root_path.join("a/dangling")).unwrap();
        make_file(root.as_fd(), "/a/dangling").unwrap();
        assert!(root_path.join("missing/here/g").is_file(), "what a dangling link leads to is made inside");
        assert!(!dir.0.join("outside").exists());
    }
}
