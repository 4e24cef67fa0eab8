//! Files that go out of a container and into it.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use gantry_store::{Store, layer};
use rustix::fs::{AtFlags, CWD, FileType, OFlags, readlinkat, statat};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::{extract, open_in, users};
use crate::container::Record;
use crate::engine::{Engine, blocking};
use crate::error::{Context, Error, Result};
use crate::request::MountKind;
use crate::rootfs;
use crate::table::Container;

/// A new mount namespace, with directories of its own.
const NEWNS: i32 = 0x0002_0000;

/// What a file of a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathStat {
    /// The last part of its path.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Its mode as the system has it.
    pub mode: u32,
    /// When it was changed, in nanoseconds since 1970.
    pub modified: i64,
    /// Where it leads to, if it is a link.
    pub link: String,
}

/// A path taken apart: its directory, and its last part; `.` stands for the directory itself.
fn taken_apart(path: &str) -> (String, String) {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let whole = path.ends_with('/') || parts.last() == Some(&".");
    let parts: Vec<&str> = parts.into_iter().filter(|part| *part != ".").collect();
    match parts.split_last() {
        Some((last, above)) if !whole && *last != ".." => (above.join("/"), (*last).to_owned()),
        _ => (parts.join("/"), ".".to_owned()),
    }
}

/// What the API calls a file: the last part of its path as it was written.
fn name_of(path: &str) -> String {
    let trimmed = path.trim_end_matches('/');
    let last = trimmed.rsplit('/').next().unwrap_or_default();
    if trimmed.is_empty() { "/".to_owned() } else { last.to_owned() }
}

fn missing(container: &str, path: &str) -> impl Fn(rustix::io::Errno) -> Error {
    let (container, path) = (container.to_owned(), path.to_owned());
    move |errno| match errno {
        rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => {
            Error::NoFile(format!("Could not find the file {path} in container {container}"))
        }
        other => Error::Io { what: format!("open {path} in container {container}"), source: other.into() },
    }
}

/// Looks at a file inside a root.
fn look(root: BorrowedFd<'_>, container: &str, path: &str) -> Result<(OwnedFd, String, PathStat)> {
    let (above, last) = taken_apart(path);
    let fail = missing(container, path);
    let parent = open_in(root, above.as_str(), OFlags::PATH | OFlags::DIRECTORY).map_err(&fail)?;
    let stat = statat(&parent, last.as_str(), AtFlags::SYMLINK_NOFOLLOW).map_err(&fail)?;
    let link = if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        let link = readlinkat(&parent, last.as_str(), Vec::new()).map_err(&fail)?.into_bytes();
        let link = PathBuf::from(std::ffi::OsString::from_vec(link));
        // As a path from the root.
        let absolute = PathBuf::from("/").join(&above).join(link);
        let mut cleaned = PathBuf::from("/");
        for part in absolute.components() {
            match part {
                std::path::Component::ParentDir => drop(cleaned.pop()),
                std::path::Component::Normal(part) => cleaned.push(part),
                _ => {}
            }
        }
        cleaned.display().to_string()
    } else {
        String::new()
    };
    let modified = stat.st_mtime * 1_000_000_000 + stat.st_mtime_nsec as i64;
    let found = PathStat { name: name_of(path), size: stat.st_size, mode: stat.st_mode, modified, link };
    Ok((parent, last, found))
}

impl Engine {
    /// What a file of a container is.
    pub async fn stat_path(&self, asked: &str, path: &str) -> Result<PathStat> {
        let (name, path) = (asked.to_owned(), path.to_owned());
        self.in_tree(asked, move |root, _| Ok(look(root, &name, &path)?.2)).await
    }

    /// Writes a file of a container, or a directory with all that is in it, as an archive.
    pub async fn archive(&self, asked: &str, path: &str, out: impl Write + Send + 'static) -> Result<()> {
        let (name, path) = (asked.to_owned(), path.to_owned());
        self.in_tree(asked, move |root, _| {
            let (parent, last, stat) = look(root, &name, &path)?;
            let failed = |error: layer::LayerError| Error::Invalid(format!("archive {path}: {error}"));
            let mut out = out;
            if last == "." {
                let below = open_in(parent.as_fd(), "", OFlags::RDONLY | OFlags::DIRECTORY);
                let below = below.context(|| format!("open {path}"))?;
                let base = name_of(&path);
                // Clients put a name of theirs in place of the dot that every name begins with.
                let base = if base == "/" { "." } else { base.as_str() };
                return layer::archive_as(below.as_fd(), b".", base.as_bytes(), &layer::Live::default(), &mut out)
                    .map_err(failed);
            }
            layer::archive_as(parent.as_fd(), last.as_bytes(), stat.name.as_bytes(), &layer::Live::default(), &mut out)
                .map_err(failed)
        })
        .await
    }

    /// Puts an archive into a directory of a container. `keep_kinds` never replaces a directory by something else; `own`
    /// makes everything the container's user's.
    pub async fn extract(
        &self,
        asked: &str,
        path: &str,
        archive: impl Read + Send + 'static,
        keep_kinds: bool,
        own: bool,
    ) -> Result<()> {
        let (name, path) = (asked.to_owned(), path.to_owned());
        let mut archive = archive;
        self.in_tree(asked, move |root, record| {
            let fail = missing(&name, &path);
            let at = open_in(root, path.as_str(), OFlags::PATH).map_err(fail)?;
            let stat = rustix::fs::fstat(&at).context(|| format!("look at {path}"))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Err(Error::Invalid("extraction point is not a directory".to_owned()));
            }
            check_writable(record, &path)?;
            let owner = if own && !record.config.user.is_empty() {
                let user = users::resolve(root, &record.config.user, &[])?.user;
                Some((user.uid, user.gid))
            } else {
                None
            };
            extract::extract(root, &path, &mut archive, extract::Options { keep_kinds, owner })
        })
        .await
    }

    /// Writes the whole tree of a container as an archive, without its volumes.
    pub async fn export(&self, asked: &str, out: impl Write + Send + 'static) -> Result<()> {
        let container = self.find(asked)?;
        self.images().export_snapshot(&container.id, out).await?;
        self.tell_of(&container, "export", &[]);
        Ok(())
    }

    /// Does something with the tree of a container: of one that runs, as it sees it itself; else with its volumes.
    pub(crate) async fn in_tree<T: Send + 'static>(
        &self,
        asked: &str,
        work: impl FnOnce(BorrowedFd<'_>, &Record) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let container = self.find(asked)?;
        let (engine, record) = (self.clone(), container.record());
        let pid = container.state().pid;
        blocking(move || {
            // A thread of its own: its mounts are its own.
            let thread = std::thread::Builder::new().name("tree".to_owned()).spawn(move || {
                let root = match pid {
                    0 => engine.stopped_tree(&container, &record)?,
                    pid => rootfs::open(&PathBuf::from(format!("/proc/{pid}/root")))?,
                };
                work(root.as_fd(), &record)
            });
            thread.context(|| "start a thread".to_owned())?.join().map_err(|_| Error::Closed)?
        })
        .await
    }

    /// The tree of a container that does not run, in a mount namespace of this thread.
    fn stopped_tree(&self, container: &Arc<Container>, record: &Record) -> Result<OwnedFd> {
        let store: &Store = self.images().store();
        let snapshot = store.snapshot(&container.id)?.ok_or_else(|| Error::NoSuch("snapshot", container.id.clone()))?;
        let tree = snapshot.mount()?;
        let mounts = record.mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Bind | MountKind::Volume));
        let mounts: Vec<_> = mounts.collect();
        if mounts.is_empty() {
            return Ok(tree);
        }
        let what = || "make a mount namespace".to_owned();
        gantry_sys::ns::unshare(NEWNS).context(what)?;
        let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
        rustix::mount::mount_change("/", private).context(what)?;
        // Any directory will do: nobody else sees what is mounted on it here.
        let at = self.0.options.run.join("containers");
        move_mount(tree.as_fd(), "", CWD, &at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).context(what)?;
        let root = rootfs::open(&at)?;
        for mount in mounts {
            let Ok(place) = open_in(root.as_fd(), mount.target.as_str(), OFlags::PATH) else { continue };
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
            let Ok(source) = open_tree(CWD, &mount.source, flags) else { continue };
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            move_mount(source.as_fd(), "", place.as_fd(), "", flags)
                .context(|| format!("mount {} at {}", mount.source, mount.target))?;
        }
        Ok(root)
    }
}

/// Refuses to write to what the container itself may not write to.
fn check_writable(record: &Record, path: &str) -> Result<()> {
    let below = |target: &str| path == target || path.strip_prefix(target).is_some_and(|rest| rest.starts_with('/'));
    let mounts = record.mounts.iter().filter(|mount| below(&mount.target));
    match mounts.max_by_key(|mount| mount.target.len()) {
        Some(mount) if !mount.writable => Err(Error::Forbidden("mounted volume is marked read-only".to_owned())),
        None if record.host.readonly_root => Err(Error::Forbidden("container rootfs is marked read-only".to_owned())),
        _ => Ok(()),
    }
}

/// A path as the kernel takes it.
impl<'a> From<&'a OsStr> for super::InRoot<'a> {
    fn from(path: &'a OsStr) -> Self {
        Self(path.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |path: &str, above: &str, last: &str, name: &str| {
            assert_eq!(
                (taken_apart(path), name_of(path).as_str()),
                ((above.to_owned(), last.to_owned()), name),
                "{path}"
            );
        };
        check("/a/b", "a", "b", "b");
        check("a", "", "a", "a");
        check("/a/b/", "a/b", ".", "b");
        check("/a/b/.", "a/b", ".", ".");
        check("/", "", ".", "/");
        check("", "", ".", "/");
        check("/a/..", "a/..", ".", "..");
    }
}
