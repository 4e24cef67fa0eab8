//! What a container has changed of its image's files.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, getxattr, openat, statat};
use rustix::io::Errno;

use crate::engine::{Engine, blocking};
use crate::error::{Context, Error, Result};

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is another.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// A file that was changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Its path.
    pub path: String,
    /// What became of it.
    pub kind: ChangeKind,
}

/// Where the file systems of the kernel are.
const MOUNTS: [&str; 6] = ["/dev", "/dev/mqueue", "/dev/pts", "/dev/shm", "/proc", "/sys"];
/// How deep a tree is looked at.
const DEPTH: usize = 256;

impl Engine {
    /// What a container has changed, by path.
    pub async fn changes(&self, asked: &str) -> Result<Vec<Change>> {
        let container = self.find(asked)?;
        let (store, record) = (self.images().store().clone(), container.record());
        blocking(move || {
            let id = &record.id;
            let snapshot = store.snapshot(id)?.ok_or_else(|| Error::NoSuch("snapshot", id.clone()))?;
            let key = format!("{id}-changes-{}", crate::names::hex(&crate::names::random::<8>()?));
            let view = store.view(&key, snapshot.chain())?;
            let below = view.mount();
            let changes = below.map_err(Error::from).and_then(|below| {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let upper =
                    openat(CWD, snapshot.upper(), flags, Mode::empty()).context(|| "open a snapshot".to_owned())?;
                let mut changes = Vec::new();
                walk(upper.as_fd(), Some(below.as_fd()), "", 0, &mut changes)?;
                without_places(&mut changes);
                Ok(changes)
            });
            store.remove_snapshot(&key)?;
            let mut changes = changes?;
            changes.sort();
            Ok(changes)
        })
        .await
    }
}

/// Leaves out the files that a container's own are mounted on, and directories that nothing else was done to.
fn without_places(changes: &mut Vec<Change>) {
    let is_place = |path: &str| super::PLACES.iter().any(|place| path.strip_prefix('/') == Some(place));
    changes.retain(|change| change.kind == ChangeKind::Deleted || !is_place(&change.path));
    // Directories that every container's file systems of the kernel are mounted on, made where an image has none.
    let is_mount = |path: &str| MOUNTS.contains(&path);
    changes.retain(|change| change.kind != ChangeKind::Added || !is_mount(&change.path));
    for place in super::PLACES {
        let Some((above, _)) = place.rsplit_once('/') else { continue };
        let above = format!("/{above}");
        let below = format!("{above}/");
        if !changes.iter().any(|change| change.path.starts_with(&below)) {
            changes.retain(|change| change.path != above);
        }
    }
}

/// Looks at a directory of what was written, beside the same one of the image.
fn walk(
    upper: BorrowedFd<'_>,
    lower: Option<BorrowedFd<'_>>,
    path: &str,
    depth: usize,
    changes: &mut Vec<Change>,
) -> Result<()> {
    let what = || format!("look at {path}/");
    if depth > DEPTH {
        return Err(Error::Invalid(format!("{path} is too deep")));
    }
    let opaque = is_opaque(upper);
    let mut names = Vec::new();
    for entry in Dir::read_from(upper).context(what)? {
        let entry = entry.context(what)?;
        let name = entry.file_name().to_owned();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let full = format!("{path}/{}", name.to_string_lossy());
        let stat = match statat(upper, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error).context(what),
        };
        let before = lower.and_then(|lower| statat(lower, &name, AtFlags::SYMLINK_NOFOLLOW).ok());
        names.push(name.clone());
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            changes.push(Change { path: full, kind: ChangeKind::Deleted });
            continue;
        }
        let change = if before.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
        changes.push(Change { path: full.clone(), kind: change });
        if kind != FileType::Directory {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let below = openat(upper, &name, flags, Mode::empty()).context(what)?;
        let old = lower.and_then(|lower| openat(lower, &name, flags, Mode::empty()).ok());
        walk(below.as_fd(), old.as_ref().map(AsFd::as_fd), &full, depth + 1, changes)?;
    }
    // What the image had in a directory that was made anew is gone.
    if let Some(lower) = lower.filter(|_| opaque) {
        for entry in Dir::read_from(lower).context(what)? {
            let entry = entry.context(what)?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") && !names.iter().any(|known| known.as_c_str() == name) {
                changes.push(Change { path: format!("{path}/{}", name.to_string_lossy()), kind: ChangeKind::Deleted });
            }
        }
    }
    Ok(())
}

fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    use std::os::fd::AsRawFd as _;
    let mut value = [0; 4];
    let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
    getxattr(path, "trusted.overlay.opaque", &mut value[..]).is_ok_and(|length| &value[..length] == b"y")
}
