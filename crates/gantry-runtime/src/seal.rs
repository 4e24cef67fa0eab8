//! The runtime's own executable, kept out of a container's reach.
//!
//! A process that is about to run a container's program has the runtime's file as its `/proc/self/exe`, and programs in
//! the container can open that. If it led to the file on the host, root in the container could write to it. So commands
//! that enter a container first execute the runtime from a detached, read-only overlay over its directory, which nothing
//! can make writable: there is no layer to write to. Where an overlay cannot be mounted, a sealed copy in memory serves.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use gantry_sys::exec::{CStringList, fexecve};
use rustix::fs::{
    CWD, Mode, OFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, fstatvfs,
    openat, readlinkat,
};
use rustix::fs::{MemfdFlags, memfd_create, sendfile};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};

use crate::error::{Context, Result};

const SELF: &str = "/proc/self/exe";
/// Tells the second execution that it is one; what it says is checked, not trusted.
const MARK: &str = "_GANTRY_OCI_SEALED=1";
/// A second layer for an overlay that is asked for one: a directory that overlaps with no executable's.
const OTHER_LAYER: &str = "/sys";
/// The magic number of overlayfs (statfs(2)).
const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;

/// Executes this program anew from a place that a container cannot write to, unless it runs from one already. Returns in
/// the second execution.
pub fn ensure(args: &[std::ffi::OsString]) -> Result<()> {
    let exe = openat(CWD, SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(|| format!("open {SELF}"))?;
    let marked = std::env::vars_os().any(|(name, _)| name.as_bytes() == b"_GANTRY_OCI_SEALED");
    if marked && is_sealed(&exe).unwrap_or(false) {
        return Ok(());
    }
    let sealed = overlay(&exe).or_else(|_| copy(&exe)).context(|| "seal the runtime's executable".to_owned())?;
    let environment = std::env::vars_os()
        .filter(|(name, _)| name.as_bytes() != b"_GANTRY_OCI_SEALED")
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .chain([MARK.as_bytes().to_vec()]);
    let nul = |e: std::ffi::NulError| io::Error::from(e);
    let args =
        CStringList::new(args.iter().map(|arg| arg.as_bytes())).map_err(nul).context(|| "read arguments".to_owned())?;
    let environment = CStringList::new(environment).map_err(nul).context(|| "read the environment".to_owned())?;
    Err(fexecve(sealed.as_fd(), &args, &environment)).context(|| "execute the sealed runtime".to_owned())
}

/// Whether a file can be changed by nobody: a sealed memory file, or one on a read-only overlay that is mounted nowhere.
fn is_sealed(exe: &OwnedFd) -> io::Result<bool> {
    if let Ok(seals) = fcntl_get_seals(exe) {
        return Ok(seals.contains(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW));
    }
    Ok(fstatfs(exe)?.f_type as u64 == OVERLAYFS_SUPER_MAGIC
        && fstatvfs(exe)?.f_flag.contains(StatVfsMountFlags::RDONLY)
        && fstat(exe)?.st_nlink > 0)
}

/// Opens the executable in a new overlay that has lower layers only.
fn overlay(exe: &OwnedFd) -> io::Result<OwnedFd> {
    let path = readlinkat(CWD, SELF, vec![])?;
    let path = path.to_str().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let (directory, name) = path.rsplit_once('/').ok_or(io::ErrorKind::InvalidInput)?;
    let directory = if directory.is_empty() { "/" } else { directory };
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // Two layers are the least that a read-only overlay takes; the second is never looked into for this name.
    match fsconfig_set_string(&fs, "lowerdir+", directory) {
        Ok(()) => fsconfig_set_string(&fs, "lowerdir+", OTHER_LAYER)?,
        Err(_) => fsconfig_set_string(&fs, "lowerdir", format!("{}:{OTHER_LAYER}", directory.replace(':', "\\:")))?,
    }
    fsconfig_create(&fs)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let name = CString::new(name)?;
    let sealed = openat(&mount, name.as_c_str(), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    // Someone may have replaced the file since this program was started: then its copy is what is running.
    let (ours, theirs) = (fstat(exe)?, fstat(&sealed)?);
    if (ours.st_ino, ours.st_size, ours.st_mtime) != (theirs.st_ino, theirs.st_size, theirs.st_mtime) {
        return Err(io::Error::other("the executable was replaced"));
    }
    Ok(sealed)
}

/// Copies the executable to memory, and seals the copy.
fn copy(exe: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match memfd_create("gantry-oci", flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => memfd_create("gantry-oci", flags)?,
        result => result?,
    };
    let mut offset = 0;
    while sendfile(&memory, exe, Some(&mut offset), 1 << 24)? > 0 {}
    fcntl_add_seals(&memory, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(memory)
}
