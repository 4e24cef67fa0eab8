//! Mounting: file systems, binds, masks and the change of root, all by descriptor.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gantry_sys::mount::set_attributes;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, makedev, readlinkat, statat, symlinkat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
    unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use super::paths::{make_dirs, make_file, open_host, open_in, open_plain};
use crate::step::{Attributes, FsOption, MountBind, MountFs, Placement};

/// A cause in words: the kernel's, with what the file system says of its own.
pub(crate) type Cause = String;

fn cause(error: impl Into<io::Error>) -> Cause {
    crate::error::cause_text(&error.into())
}

const DIRECTORY: Mode = Mode::from_raw_mode(0o755);

/// Makes a file system context, configures it, and returns the detached mount.
pub(crate) fn new_fs(kind: &str, source: &str, options: &[FsOption], attributes: Attributes) -> Result<OwnedFd, Cause> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(cause)?;
    let told = |error: rustix::io::Errno| with_log(fs.as_fd(), &cause(error));
    if !source.is_empty() {
        fsconfig_set_string(&fs, "source", source).map_err(told)?;
    }
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&fs, key.as_str(), value.as_str()),
            None => fsconfig_set_flag(&fs, key.as_str()),
        }
        .map_err(|error| format!("option {key}: {}", told(error)))?;
    }
    fsconfig_create(&fs).map_err(told)?;
    let flags = MountAttrFlags::from_bits_retain(attributes.set as u32);
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(told)
}

/// Adds what a file system context has to say of a failure.
fn with_log(fs: BorrowedFd<'_>, cause: &str) -> Cause {
    let mut text = cause.to_owned();
    let mut buffer = [0; 512];
    while let Ok(length @ 1..) = rustix::io::read(fs, &mut buffer) {
        let line = String::from_utf8_lossy(&buffer[..length]);
        text = format!("{text} ({})", line.trim_start_matches(['e', 'w', 'i']).trim());
        if text.len() > 2048 {
            break;
        }
    }
    text
}

/// Attaches a detached mount at an open target.
pub(super) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

pub(super) fn apply(mount: BorrowedFd<'_>, attributes: Attributes, recursive: bool) -> io::Result<()> {
    if attributes == Attributes::default() {
        return Ok(());
    }
    let Attributes { set, clear } = attributes;
    set_attributes(mount, c"", &gantry_sys::mount::Attributes { set, clear, recursive, ..Default::default() })
}

/// Changes propagation, `MS_*` bits of which `MS_REC` reaches the mounts below.
pub(super) fn propagate(mount: BorrowedFd<'_>, flags: u32) -> io::Result<()> {
    let recursive = flags & MountPropagationFlags::REC.bits() != 0;
    let propagation = u64::from(flags & !MountPropagationFlags::REC.bits());
    set_attributes(mount, c"", &gantry_sys::mount::Attributes { propagation, recursive, ..Default::default() })
}

/// Finishes a detached mount: puts it in its place with its attributes.
fn place(root: BorrowedFd<'_>, mount: BorrowedFd<'_>, place: &Placement, file: bool) -> Result<(), Cause> {
    let target = target(root, place, file)?;
    attach(mount, target.as_fd()).map_err(cause)?;
    for &flags in &place.propagation {
        propagate(mount, flags).map_err(|e| format!("set propagation: {}", cause(e)))?;
    }
    Ok(())
}

/// Opens the target of a mount, making it where it is missing. One that a link of the root file system leads into procfs
/// is refused: what lies there is what the container's tools trust.
fn target(root: BorrowedFd<'_>, place: &Placement, file: bool) -> Result<OwnedFd, Cause> {
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    let target = open_target(root, place, file)?;
    if !place.covers_proc && rustix::fs::fstatfs(&target).map_err(cause)?.f_type as u64 == PROC_SUPER_MAGIC {
        return Err("the target lies in a procfs, of which nothing may be covered there".to_owned());
    }
    Ok(target)
}

fn open_target(root: BorrowedFd<'_>, place: &Placement, file: bool) -> Result<OwnedFd, Cause> {
    let at = |error: io::Error| format!("open target: {}", cause(error));
    if place.on_link
        && let Some(link) = super::paths::open_link(root, &place.target).map_err(at)?
    {
        return Ok(link);
    }
    if !place.plain_target {
        return if file { make_file(root, &place.target) } else { make_dirs(root, &place.target, DIRECTORY) }
            .map_err(at);
    }
    match open_plain(root, &place.target, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_dirs(root, &place.target, DIRECTORY).map_err(at)?;
            open_plain(root, &place.target, OFlags::PATH | OFlags::DIRECTORY)
        }
        result => result,
    }
    .map_err(|error| match error.raw_os_error() {
        Some(errno) if errno == rustix::io::Errno::LOOP.raw_os_error() => {
            "the target, or a directory above it, is a symbolic link; this file system is mounted on a plain directory only".to_owned()
        }
        _ => at(error),
    })
}

/// Mounts a file system.
pub(crate) fn mount_fs(root: BorrowedFd<'_>, step: &MountFs) -> Result<(), Cause> {
    let mut options = step.options.clone();
    let covered = if step.inherit_mode || step.copy_up {
        open_in(root, &step.place.target, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).ok()
    } else {
        None
    };
    if let (true, Some(covered)) = (step.inherit_mode, &covered) {
        let mode = fstat(covered).map_err(cause)?.st_mode & 0o7777;
        options.push(("mode".to_owned(), Some(format!("{mode:o}"))));
    }
    // What is copied in must be written before the mount is made read-only.
    let early = if step.copy_up { Attributes::default() } else { step.place.attributes };
    let mount = if options.iter().any(|(_, value)| value.as_ref().is_some_and(|v| v.len() > 255)) {
        return mount_by_data(root, step, &options);
    } else {
        new_fs(&step.kind, &step.source, &options, early)?
    };
    place(root, mount.as_fd(), &step.place, false)?;
    if let (true, Some(covered)) = (step.copy_up, covered) {
        super::copyup::copy_tree(covered.as_fd(), mount.as_fd()).map_err(|e| format!("copy up: {}", cause(e)))?;
        apply(mount.as_fd(), step.place.attributes, false).map_err(cause)?;
    }
    apply(mount.as_fd(), step.place.recursive_attributes, true).map_err(cause)
}

/// Mounts by mount(2), whose data may be longer than the 255 bytes that a value of fsconfig(2) may have.
fn mount_by_data(root: BorrowedFd<'_>, step: &MountFs, options: &[FsOption]) -> Result<(), Cause> {
    let target = target(root, &step.place, false)?;
    let data: Vec<String> = options
        .iter()
        .map(|(key, value)| value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}={value}")))
        .collect();
    let data = CString::new(data.join(",")).map_err(|_| "an option holds a NUL".to_owned())?;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&target));
    rustix::mount::mount(&*step.source, &*path, &*step.kind, rustix::mount::MountFlags::empty(), data.as_c_str())
        .map_err(cause)?;
    let mount = open_in(root, &step.place.target, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).map_err(cause)?;
    apply(mount.as_fd(), step.place.attributes, false).map_err(cause)?;
    apply(mount.as_fd(), step.place.recursive_attributes, true).map_err(cause)?;
    step.place.propagation.iter().try_for_each(|&flags| propagate(mount.as_fd(), flags).map_err(cause))
}

/// Opens a detached copy of the mount tree at a path of the host.
pub(crate) fn host_tree(path: &str, recursive: bool, follow: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    flags.set(OpenTreeFlags::AT_SYMLINK_NOFOLLOW, !follow);
    Ok(open_tree(CWD, path, flags)?)
}

/// Opens a detached copy of the single mount that `fd` is open on, or of the file it is open on.
pub(super) fn tree_of(fd: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    Ok(open_tree(fd, "", flags)?)
}

/// Binds a tree that was opened from its source.
pub(crate) fn mount_bind(root: BorrowedFd<'_>, tree: BorrowedFd<'_>, step: &MountBind) -> Result<(), Cause> {
    let kind = FileType::from_raw_mode(fstat(tree).map_err(cause)?.st_mode);
    apply(tree, step.place.attributes, false).map_err(|e| format!("set attributes: {}", cause(e)))?;
    apply(tree, step.place.recursive_attributes, true).map_err(|e| format!("set attributes: {}", cause(e)))?;
    place(root, tree, &step.place, kind != FileType::Directory)
}

/// If the source of a bind is a symbolic link, makes the same link in the container and says so.
pub(crate) fn copy_symlink(root: BorrowedFd<'_>, source: &str, target: &str) -> Result<bool, Cause> {
    let Ok(link) = readlinkat(CWD, source, vec![]) else { return Ok(false) };
    let (parent, name) = super::paths::split(target).map_err(cause)?;
    let dir = make_dirs(root, parent, DIRECTORY).map_err(cause)?;
    match symlinkat(link.as_c_str(), &dir, name) {
        Err(rustix::io::Errno::EXIST) if readlinkat(&dir, name, vec![]).is_ok_and(|there| there == link) => Ok(true),
        result => result.map(|()| true).map_err(cause),
    }
}

/// Opens the host's null device, and checks that it is one: a masked path must never show anything else.
pub(crate) fn open_null() -> Result<OwnedFd, Cause> {
    let null = open_host("/dev/null", OFlags::PATH | OFlags::NOFOLLOW).map_err(cause)?;
    let stat = fstat(&null).map_err(cause)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != makedev(1, 3) {
        return Err("/dev/null is not the null device (character device 1:3)".to_owned());
    }
    // A mount of its own: the one that it lies on goes away with the old root.
    tree_of(null.as_fd(), false).map_err(cause)
}

/// Makes paths unreadable: files by the null device, directories by one shared empty read-only tmpfs.
pub(crate) fn mask(root: BorrowedFd<'_>, null: BorrowedFd<'_>, paths: &[String], label: &str) -> Result<(), Cause> {
    let mut empty: Option<OwnedFd> = None;
    let mut null_is_attached = false;
    for path in paths {
        let at = |e: io::Error| format!("{path}: {}", cause(e));
        let target = match open_in(root, path, OFlags::PATH, Mode::empty()) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            result => result.map_err(at)?,
        };
        if FileType::from_raw_mode(fstat(&target).map_err(cause)?.st_mode) != FileType::Directory {
            let copy = if null_is_attached { Some(tree_of(null, false).map_err(at)?) } else { None };
            attach(copy.as_ref().map_or(null, AsFd::as_fd), target.as_fd()).map_err(at)?;
            null_is_attached = true;
            continue;
        }
        let mount = match &empty {
            // A mount that is attached can be copied by every kernel that has the call.
            Some(first) => tree_of(first.as_fd(), false).map_err(at)?,
            None => empty_directory(label).map_err(|e| format!("{path}: {e}"))?,
        };
        attach(mount.as_fd(), target.as_fd()).map_err(at)?;
        empty.get_or_insert(mount);
    }
    Ok(())
}

/// A tmpfs that holds nothing and takes nothing.
fn empty_directory(label: &str) -> Result<OwnedFd, Cause> {
    let option = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
    let mut options = vec![option("nr_blocks", "1"), option("nr_inodes", "1"), option("mode", "755")];
    if !label.is_empty() {
        options.push(option("context", label));
    }
    let set = (MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID).bits()
        | (MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC).bits();
    new_fs("tmpfs", "tmpfs", &options, Attributes { set: u64::from(set), clear: 0 })
}

/// Makes a path read-only, with all that its mount holds; one that is missing needs nothing.
pub(crate) fn readonly_path(root: BorrowedFd<'_>, path: &str) -> Result<(), Cause> {
    let target = match open_in(root, path, OFlags::PATH, Mode::empty()) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        result => result.map_err(cause)?,
    };
    let tree = tree_of(target.as_fd(), true).map_err(cause)?;
    let set = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    apply(tree.as_fd(), Attributes { set, clear: 0 }, false).map_err(cause)?;
    attach(tree.as_fd(), target.as_fd()).map_err(cause)
}

/// Changes the propagation of the mount at a path of the host.
pub(crate) fn propagation(path: &str, flags: u32) -> io::Result<()> {
    Ok(mount_change(path, MountPropagationFlags::from_bits_retain(flags))?)
}

/// Makes the mount on which `path` lies private.
pub(crate) fn private_parent(path: &str) -> io::Result<()> {
    // The path is a mount point of its own only after it was bound; until then the mount is some directory above.
    let mut path = path;
    loop {
        match mount_change(path, MountPropagationFlags::PRIVATE) {
            Err(rustix::io::Errno::INVAL) if path != "/" => {
                path = path.rsplit_once('/').map_or("/", |(parent, _)| if parent.is_empty() { "/" } else { parent });
            }
            result => return Ok(result?),
        }
    }
}

/// Puts the tree of the root file system in its place.
pub(crate) fn bind_root(tree: BorrowedFd<'_>, path: &str) -> Result<(), Cause> {
    let target = open_host(path, OFlags::PATH | OFlags::DIRECTORY).map_err(cause)?;
    attach(tree, target.as_fd()).map_err(cause)
}

/// Makes `root` the root, and takes the old root away with every mount on it.
///
/// With `detach_slave` the old root's mounts are cut off from the host's first, which else would lose what is taken away.
pub(crate) fn pivot(root: BorrowedFd<'_>, detach_slave: bool) -> Result<(), Cause> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let old = detach_slave.then(|| open_host("/", flags)).transpose().map_err(cause)?;
    fchdir(root).map_err(cause)?;
    // Old and new root on one place: the old one lies over the new, and is what "." names until it is taken away.
    pivot_root(".", ".").map_err(cause)?;
    if let Some(old) = old {
        // From within it: seen from the new root "." is that one, with all that was mounted for the container.
        fchdir(&old).map_err(cause)?;
        let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change(".", flags).map_err(cause)?;
    }
    unmount(".", UnmountFlags::DETACH).map_err(cause)?;
    chdir("/").map_err(cause)
}

/// Moves `root` over the root, where pivot_root(2) is impossible (a root on an initramfs).
pub(crate) fn move_root(root: BorrowedFd<'_>) -> Result<(), Cause> {
    fchdir(root).map_err(cause)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(root, "", CWD, "/", flags).map_err(cause)?;
    chroot(".").map_err(cause)?;
    chdir("/").map_err(cause)
}

/// Changes the root directory only.
pub(crate) fn change_root(root: BorrowedFd<'_>) -> Result<(), Cause> {
    fchdir(root).map_err(cause)?;
    chroot(".").map_err(cause)?;
    chdir("/").map_err(cause)
}

/// Changes the attributes of what is mounted at a path of the container.
pub(crate) fn set_attributes_at(root: BorrowedFd<'_>, path: &str, attributes: Attributes) -> Result<(), Cause> {
    let mount = open_in(root, path, OFlags::PATH, Mode::empty()).map_err(cause)?;
    apply(mount.as_fd(), attributes, false).map_err(cause)
}

/// Takes the topmost mount at a path of the container away; whatever is open on it stays so.
pub(crate) fn unmount_at(root: BorrowedFd<'_>, path: &str) -> Result<(), Cause> {
    let (parent, name) = super::paths::split(path).map_err(cause)?;
    let directory = open_in(root, parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).map_err(cause)?;
    // umount2(2) takes no descriptor; a bare name in the working directory cannot lead elsewhere.
    fchdir(&directory).map_err(cause)?;
    let done = unmount(name, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    done.map_err(
        |error| if error == rustix::io::Errno::INVAL { "nothing is mounted there".to_owned() } else { cause(error) },
    )
}

/// Makes the root mount read-only.
pub(crate) fn readonly_root() -> io::Result<()> {
    let root = open_host("/", OFlags::PATH | OFlags::DIRECTORY)?;
    let set = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    apply(root.as_fd(), Attributes { set, clear: 0 }, false)
}

/// Makes a symbolic link in the container, unless something is there.
pub(crate) fn symlink(root: BorrowedFd<'_>, path: &str, target: &str, replace: bool) -> Result<(), Cause> {
    let (parent, name) = super::paths::split(path).map_err(cause)?;
    let dir = make_dirs(root, parent, DIRECTORY).map_err(cause)?;
    match symlinkat(target, &dir, name) {
        Err(rustix::io::Errno::EXIST) if replace => {
            let stat = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(cause)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                return Ok(());
            }
            rustix::fs::unlinkat(&dir, name, AtFlags::empty()).map_err(cause)?;
            symlinkat(target, &dir, name).map_err(cause)
        }
        Err(rustix::io::Errno::EXIST) => Ok(()),
        result => result.map_err(cause),
    }
}
