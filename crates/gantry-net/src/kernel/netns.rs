//! Network namespaces that last as long as a mount.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use gantry_sys::netlink::{Channel, Subsystem};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::{sysctl, thread};
use crate::error::{Error, Result};

/// `CLONE_NEWNET`.
const NEWNET: i32 = 0x4000_0000;
/// The namespace of whoever opens it.
const OWN: &str = "/proc/thread-self/ns/net";

/// What is set in each new namespace. Low ports and pings are for everybody in it; a device tells its neighbours when it
/// gets an address that may have been another's; a device has IPv6 when it gets an address of it.
const SETTINGS: [(&str, &str); 6] = [
    ("ipv4/ip_unprivileged_port_start", "0"),
    ("ipv4/ping_group_range", "0 2147483647"),
    ("ipv4/conf/default/arp_notify", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
];

/// A network namespace of a sandbox.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    /// A channel within it, once there is one.
    route: Mutex<Option<Channel>>,
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Netns {
    /// Does something with a channel within the namespace.
    pub(super) fn with_route<T>(&self, act: impl FnOnce(&mut Channel) -> io::Result<T>) -> Result<T> {
        let failed = |error: io::Error| super::failed("talk to a network namespace", &error);
        let mut route = self.route.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match route.take() {
            Some(channel) => channel,
            None => Channel::in_namespace(self.as_fd(), Subsystem::Route).map_err(failed)?,
        };
        act(route.insert(channel)).map_err(failed)
    }

    /// Does something in the namespace, in a thread of its own.
    pub(super) fn enter<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        enter(self.as_fd(), act)
    }
}

/// Does something in a namespace, in a thread that lives no longer, so that the calling thread's never changes.
pub fn enter<T: Send>(netns: BorrowedFd<'_>, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread(|| {
        gantry_sys::ns::setns(netns, NEWNET).map_err(|error| super::failed("enter a network namespace", &error))?;
        act()
    })
}

/// Makes a network namespace that lasts as long as its mount at `path`, an empty file that is made too. Its loopback
/// device is up; everybody in it may bind low ports and send pings.
pub fn create_netns(path: &Path) -> Result<Netns> {
    File::create_new(path).map_err(|error| file("create", path, error))?;
    thread(|| make(path)).inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })
}

fn make(path: &Path) -> Result<Netns> {
    let failed = |error: io::Error| super::failed("make a network namespace", &error);
    gantry_sys::ns::unshare(NEWNET).map_err(failed)?;
    gantry_sys::netlink::loopback_up().map_err(failed)?;
    for (name, value) in SETTINGS {
        match sysctl(name, value) {
            // A kernel without IPv6 has no settings for it.
            Err(error) if error.errno() == Some(Errno::NOENT) && name.starts_with("ipv6/") => {}
            other => other?,
        }
    }
    let route = Channel::new(Subsystem::Route).map_err(failed)?;
    let fd = File::open(OWN).map_err(failed)?.into();
    rustix::mount::mount_bind(OWN, path).map_err(|errno| file("mount a network namespace at", path, errno.into()))?;
    Ok(Netns { fd, route: Mutex::new(Some(route)) })
}

/// Opens the namespace that is mounted at `path`.
pub fn open_netns(path: &Path) -> Result<Netns> {
    let fd: OwnedFd = File::open(path).map_err(|error| file("open", path, error))?.into();
    match gantry_sys::ns::kind(fd.as_fd()) {
        Ok(NEWNET) => Ok(Netns { fd, route: Mutex::new(None) }),
        _ => Err(Error::invalid("network namespace", path.display(), "this is none: it is not mounted any more")),
    }
}

/// Takes the mount and its file away; the namespace ends with its last process and descriptor, and with it its devices.
/// Nothing there is no error.
pub fn remove_netns(path: &Path) -> Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Not there, or nothing mounted.
        Ok(()) | Err(Errno::NOENT | Errno::INVAL) => {}
        Err(errno) => return Err(file("unmount", path, errno.into())),
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", path, error)),
        _ => Ok(()),
    }
}

fn file(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.to_owned(), source }
}
