//! Namespaces: leaving, joining, telling their kind.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Moves this process into new namespaces, `CLONE_NEW*` bits (unshare(2)).
pub fn unshare(namespaces: i32) -> io::Result<()> {
    // SAFETY: only namespace bits reach the kernel; none of them unshares memory or descriptors.
    check(unsafe { libc::unshare(namespaces & !(libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_SYSVSEM)) })
}

/// Joins the namespace that `fd` is open on, or with a pidfd those of its process that `namespaces` names (setns(2)).
pub fn setns(fd: BorrowedFd<'_>, namespaces: i32) -> io::Result<()> {
    // SAFETY: setns has no memory arguments.
    check(unsafe { libc::setns(fd.as_raw_fd(), namespaces) })
}

/// The kind of the namespace that `fd` is open on, a `CLONE_NEW*` bit (ioctl_ns(2), NS_GET_NSTYPE); ENOTTY where it is
/// no namespace.
pub fn kind(fd: BorrowedFd<'_>) -> io::Result<i32> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: this request takes no argument and returns the kind as its result.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) };
    if kind < 0 { Err(io::Error::last_os_error()) } else { Ok(kind) }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
