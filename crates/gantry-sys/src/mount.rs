//! mount_setattr(2), which rustix lacks.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What [`set_attributes`] changes; bits are `MOUNT_ATTR_*`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'fd> {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear; `MOUNT_ATTR__ATIME` must be here whenever an access-time bit is set.
    pub clear: u64,
    /// Propagation, one of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0.
    pub propagation: u64,
    /// User namespace of an idmapped mount; adds `MOUNT_ATTR_IDMAP`.
    pub user_namespace: Option<BorrowedFd<'fd>>,
    /// Whether mounts below are changed too.
    pub recursive: bool,
}

/// Changes the attributes of the mount that `fd` is open on, or of `path` beneath it.
pub fn set_attributes(fd: BorrowedFd<'_>, path: &CStr, attributes: &Attributes<'_>) -> io::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    // SAFETY: mount_attr is plain data; zero asks for nothing.
    let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
    attr.attr_set = attributes.set;
    attr.attr_clr = attributes.clear;
    attr.propagation = attributes.propagation;
    if let Some(user_namespace) = attributes.user_namespace {
        attr.attr_set |= MOUNT_ATTR_IDMAP;
        attr.userns_fd = user_namespace.as_raw_fd() as u64;
    }
    let flags = libc::AT_EMPTY_PATH | if attributes.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `path` ends in NUL, `attr` is initialised and its size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
