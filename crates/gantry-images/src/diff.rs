//! What differs between two images.
//!
//! Both are mounted as containers would see them, so whiteouts are the kernel's matter, and walked side by side. Files of
//! layers that both share are the same file, and not read. Nothing is opened by path, and no link is followed.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use gantry_model::platform::Platform;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::export::View;
use crate::query::pick;
use crate::{Images, LEASE, unpack};

/// How two images differ in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// Only the second has it.
    Added,
    /// Both have it, and it differs.
    Changed,
    /// Only the first has it.
    Removed,
}

/// A file that two images differ in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// How.
    pub kind: ChangeKind,
    /// From the root, with a slash before it; what is not UTF-8 is replaced.
    pub path: String,
    /// Its size in the first image in bytes; 0 for what is no regular file.
    pub before: u64,
    /// Its size in the second.
    pub after: u64,
}

impl Images {
    /// What is to be done to the first image to get the second, in the order of the paths.
    pub async fn diff(&self, first: &str, second: &str, platform: Option<Platform>) -> Result<Vec<Change>> {
        let (first, second) = (first.to_owned(), second.to_owned());
        self.blocking("diff", move |store| {
            let image = |name: &str| Ok::<_, Error>(pick(store, name, platform.as_ref())?.1);
            let (before, after) = (image(&first)?, image(&second)?);
            if before.top() == after.top() {
                return Ok(Vec::new());
            }
            let lease = store.lease("diff", LEASE)?;
            let before = unpack::ensure(store, &lease, &before)?;
            let after = unpack::ensure(store, &lease, &after)?;
            let before = View::new(store, "diff", before.as_ref())?;
            let after = View::new(store, "diff", after.as_ref())?;
            compare(before.mount()?, after.mount()?)
        })
        .await
    }
}

/// A directory to look at: in one tree or in both.
struct Visit {
    path: String,
    before: Option<(Rc<OwnedFd>, CString)>,
    after: Option<(Rc<OwnedFd>, CString)>,
}

type Listing = BTreeMap<CString, Stat>;

fn compare(before: OwnedFd, after: OwnedFd) -> Result<Vec<Change>> {
    let dot = || c".".to_owned();
    let mut stack = vec![Visit {
        path: String::new(),
        before: Some((Rc::new(before), dot())),
        after: Some((Rc::new(after), dot())),
    }];
    let mut changes = Vec::new();
    while let Some(visit) = stack.pop() {
        let open = |place: &Option<(Rc<OwnedFd>, CString)>| {
            place.as_ref().map(|(dir, name)| list(dir, name, &visit.path)).transpose()
        };
        let (before, after) = (open(&visit.before)?, open(&visit.after)?);
        let empty = Listing::new();
        let (left, right) = (before.as_ref().map_or(&empty, |one| &one.1), after.as_ref().map_or(&empty, |one| &one.1));
        let names: std::collections::BTreeSet<&CString> = left.keys().chain(right.keys()).collect();
        for name in names {
            let path = format!("{}/{}", visit.path, name.to_string_lossy());
            let (one, two) = (left.get(name), right.get(name));
            let kind = match (one, two) {
                (Some(one), Some(two)) => {
                    let (Some((dir, _)), Some((other, _))) = (&before, &after) else { continue };
                    differs(dir, one, other, two, name, &path)?.then_some(ChangeKind::Changed)
                }
                (None, _) => Some(ChangeKind::Added),
                (_, None) => Some(ChangeKind::Removed),
            };
            if let Some(kind) = kind {
                changes.push(Change { kind, path: path.clone(), before: size(one), after: size(two) });
            }
            let down = |tree: &Option<(Rc<OwnedFd>, Listing)>, stat: Option<&Stat>| {
                let (dir, _) = tree.as_ref()?;
                stat.filter(|stat| is(stat, FileType::Directory)).map(|_| (Rc::clone(dir), name.clone()))
            };
            let (before, after) = (down(&before, one), down(&after, two));
            if before.is_some() || after.is_some() {
                stack.push(Visit { path, before, after });
            }
        }
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(changes)
}

fn kernel(action: &str, path: &str) -> impl FnOnce(rustix::io::Errno) -> Error {
    let action = format!("{action} {path:?}");
    move |errno| Error::io(action)(errno.into())
}

fn list(parent: &OwnedFd, name: &CStr, path: &str) -> Result<(Rc<OwnedFd>, Listing)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(parent.as_fd(), name, flags, Mode::empty()).map_err(kernel("open", path))?;
    let mut listing = Listing::new();
    for entry in Dir::read_from(&dir).map_err(kernel("read", path))? {
        let entry = entry.map_err(kernel("read", path))?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            let stat = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(kernel("look at", path))?;
            listing.insert(name.to_owned(), stat);
        }
    }
    Ok((Rc::new(dir), listing))
}

fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

fn size(stat: Option<&Stat>) -> u64 {
    stat.filter(|stat| is(stat, FileType::RegularFile)).map_or(0, |stat| stat.st_size.cast_unsigned())
}

fn differs(dir: &OwnedFd, one: &Stat, other: &OwnedFd, two: &Stat, name: &CStr, path: &str) -> Result<bool> {
    let looks = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    if looks(one) != looks(two) {
        return Ok(true);
    }
    if is(one, FileType::Symlink) {
        let read = |dir: &OwnedFd| readlinkat(dir, name, Vec::new()).map_err(kernel("read the link", path));
        return Ok(read(dir)? != read(other)?);
    }
    if !is(one, FileType::RegularFile) {
        return Ok(false);
    }
    if one.st_size != two.st_size {
        return Ok(true);
    }
    // A file of a shared layer has the same number and times in both; everything else is read.
    let times = |stat: &Stat| (stat.st_ino, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
    if times(one) == times(two) {
        return Ok(false);
    }
    let open = |dir: &OwnedFd| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(dir, name, flags, Mode::empty()).map(File::from).map_err(kernel("open", path))
    };
    same(open(dir)?, open(other)?).map(|same| !same).map_err(Error::io(format!("read {path:?}")))
}

/// Whether two files have the same content.
fn same(mut one: File, mut two: File) -> std::io::Result<bool> {
    let (mut a, mut b) = (vec![0; 128 * 1024], vec![0; 128 * 1024]);
    loop {
        let count = one.read(&mut a)?;
        if count == 0 {
            return Ok(two.read(&mut b[..1])? == 0);
        }
        if let Err(error) = two.read_exact(&mut b[..count]) {
            return if error.kind() == std::io::ErrorKind::UnexpectedEof { Ok(false) } else { Err(error) };
        }
        if a[..count] != b[..count] {
            return Ok(false);
        }
    }
}
