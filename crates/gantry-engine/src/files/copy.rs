//! Files that go out of a container and into it.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use gantry_store::layer;
use rustix::fs::{
    AtFlags, FileType, OFlags, StatVfsMountFlags, StatxFlags, fstat, fstatvfs, readlinkat, statat, statx,
};
use rustix::io::Errno;

use super::{as_root_in, extract, open_in, users};
use crate::engine::Engine;
use crate::error::{Context, Error, Result};

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
pub(super) fn taken_apart(path: &str) -> (String, String) {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let whole = path.ends_with('/') || parts.last() == Some(&".");
    let parts: Vec<&str> = parts.into_iter().filter(|part| *part != ".").collect();
    match parts.split_last() {
        Some((last, above)) if !whole && *last != ".." => (above.join("/"), (*last).to_owned()),
        _ => (parts.join("/"), ".".to_owned()),
    }
}

/// What the API calls a file: the last part of its path as it was written.
pub(super) fn name_of(path: &str) -> String {
    let trimmed = path.trim_end_matches('/');
    let last = trimmed.rsplit('/').next().unwrap_or_default();
    if trimmed.is_empty() { "/".to_owned() } else { last.to_owned() }
}

/// What the names in an archive of a directory begin with. Clients put a name of theirs in place of a dot.
pub(super) fn base_of(path: &str) -> String {
    let name = name_of(path);
    match name.as_str() {
        "/" | "." => ".".to_owned(),
        ".." => cleaned(Path::new(path)).file_name().map_or(".".into(), |name| name.to_string_lossy().into_owned()),
        _ => name,
    }
}

/// An absolute path without dots, as if there were no links.
fn cleaned(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => drop(cleaned.pop()),
            Component::Normal(part) => cleaned.push(part),
            _ => {}
        }
    }
    cleaned
}

fn missing(container: &str, path: &str) -> impl Fn(Errno) -> Error {
    let (container, path) = (container.to_owned(), path.to_owned());
    move |errno| match errno {
        Errno::NOENT => Error::NoFile(format!("Could not find the file {path} in container {container}")),
        Errno::NOTDIR => Error::Invalid(format!("lstat {path}: not a directory")),
        Errno::LOOP => Error::Invalid(format!("lstat {path}: too many levels of symbolic links")),
        Errno::NAMETOOLONG => Error::Invalid(format!("lstat {path}: file name too long")),
        other => Error::Io { what: format!("open {path} in container {container}"), source: other.into() },
    }
}

/// Looks at a file inside a root.
pub(super) fn look(root: BorrowedFd<'_>, container: &str, path: &str) -> Result<(OwnedFd, String, PathStat)> {
    let (above, last) = taken_apart(path);
    let fail = missing(container, path);
    let parent = open_in(root, above.as_str(), OFlags::PATH | OFlags::DIRECTORY).map_err(&fail)?;
    let stat = statat(&parent, last.as_str(), AtFlags::SYMLINK_NOFOLLOW).map_err(&fail)?;
    let link = if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        let link = readlinkat(&parent, last.as_str(), Vec::new()).map_err(&fail)?.into_bytes();
        // As a path from the root.
        let link = Path::new("/").join(&above).join(std::ffi::OsStr::from_bytes(&link));
        cleaned(&link).display().to_string()
    } else {
        String::new()
    };
    let modified = stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64);
    let found = PathStat { name: name_of(path), size: stat.st_size, mode: stat.st_mode, modified, link };
    Ok((parent, last, found))
}

impl Engine {
    /// What a file of a container is.
    pub async fn stat_path(&self, asked: &str, path: &str) -> Result<PathStat> {
        let (name, path) = (asked.to_owned(), path.to_owned());
        self.in_tree(asked, move |tree, _| Ok(look(tree.root.as_fd(), &name, &path)?.2)).await
    }

    /// Writes a file of a container, or a directory with all that is in it, as an archive.
    pub async fn archive(&self, asked: &str, path: &str, out: impl Write + Send + 'static) -> Result<()> {
        let (name, path) = (asked.to_owned(), path.to_owned());
        self.in_tree(asked, move |tree, record| {
            let (parent, last, stat) = look(tree.root.as_fd(), &name, &path)?;
            let failed = |error: layer::LayerError| Error::Invalid(format!("archive {path}: {error}"));
            let base = if last == "." { base_of(&path) } else { stat.name };
            // From within what was asked for, mounts are gone into even where they are left out from above.
            let from = open_in(parent.as_fd(), last.as_str(), OFlags::PATH | OFlags::NOFOLLOW);
            let from = from.map_err(missing(&name, &path))?;
            let live = tree.live(record, from.as_fd())?;
            let mut out = out;
            layer::archive_as(parent.as_fd(), last.as_bytes(), base.as_bytes(), &live, &mut out).map_err(failed)
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
        self.in_tree(asked, move |tree, record| {
            let root = tree.root.as_fd();
            let at = open_in(root, path.as_str(), OFlags::PATH).map_err(missing(&name, &path))?;
            let stat = fstat(&at).context(|| format!("look at {path}"))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Err(Error::Invalid("extraction point is not a directory".to_owned()));
            }
            check_writable(root, at.as_fd())?;
            let owner = if own && !record.config.user.is_empty() {
                let user = users::resolve(root, &record.config.user, &[])?.user;
                Some((user.uid, user.gid))
            } else {
                None
            };
            let options = extract::Options { keep_kinds, owner, ids: tree.ids };
            as_root_in(tree.ids, || extract::extract(root, &path, &mut archive, options))
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
}

/// Says why nothing can be written to a directory. That nothing is, is up to the kernel, which knows the mount that it is on.
fn check_writable(root: BorrowedFd<'_>, at: BorrowedFd<'_>) -> Result<()> {
    let what = || "look at a mount".to_owned();
    if !fstatvfs(at).context(what)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let number = |fd| statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|stat| stat.stx_mnt_id);
    let words = if number(root).context(what)? == number(at).context(what)? {
        "container rootfs is marked read-only"
    } else {
        "mounted volume is marked read-only"
    };
    Err(Error::Forbidden(words.to_owned()))
}
