//! Network namespaces that last as long as a mount.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gantry_sys::netlink::{Channel, Subsystem};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, UnmountFlags};

use super::thread;
use crate::error::{Error, Result};

/// `CLONE_NEWNET`.
const NEWNET: i32 = 0x4000_0000;
/// The namespace of whoever opens it.
const OWN: &str = "/proc/thread-self/ns/net";

/// What is set in each new namespace, by directory. Low ports and pings are for everybody in it; a device has IPv6 when it
/// gets an address of it, and takes no advice from routers.
const SETTINGS: [(&str, &[(&str, &str)]); 2] = [
    ("ipv4", &[("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647")]),
    ("ipv6", &[("conf/default/disable_ipv6", "1"), ("conf/default/accept_dad", "0"), ("conf/default/accept_ra", "0")]),
];

/// After how many namespaces another instance of procfs is opened.
const NAMESPACES: usize = 64;
/// The most instances of procfs.
const INSTANCES_AT_MOST: usize = 16;

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
    configure()?;
    let route = Channel::new(Subsystem::Route).map_err(failed)?;
    let fd = File::open(OWN).map_err(failed)?.into();
    rustix::mount::mount_bind(OWN, path).map_err(|errno| file("mount a network namespace at", path, errno.into()))?;
    Ok(Netns { fd, route: Mutex::new(Some(route)) })
}

/// Sets the parameters of the calling thread's namespace.
fn configure() -> Result<()> {
    let net = parameters()?;
    for (dir, settings) in SETTINGS {
        let path = Path::new("/proc/sys/net").join(dir);
        let opened = match open_dir(net.as_fd(), dir) {
            // A kernel without IPv6 has no settings for it.
            Err(Errno::NOENT) if dir == "ipv6" => continue,
            opened => opened.map_err(|errno| file("open", &path, errno.into()))?,
        };
        for (name, value) in settings {
            rustix::fs::openat(&opened, *name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                .and_then(|fd| rustix::io::write(fd, value.as_bytes()))
                .map_err(|errno| file("write", &path.join(name), errno.into()))?;
        }
    }
    Ok(())
}

/// The directory of network parameters, which shows those of the namespace of whoever looks.
///
/// In one instance of procfs the kernel keeps the directories of all namespaces under the same names in one chain, and
/// goes through it to find one. So with many namespaces several instances share them.
fn parameters() -> Result<Arc<OwnedFd>> {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    static INSTANCES: Mutex<Vec<Arc<OwnedFd>>> = Mutex::new(Vec::new());
    let made = MADE.fetch_add(1, Ordering::Relaxed);
    let mut instances = INSTANCES.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = (1 + made / NAMESPACES).min(INSTANCES_AT_MOST);
    if instances.len() < wanted {
        // Within a container that hides parts of its procfs the kernel gives no other.
        let opened = open_instance().or_else(|_| open_dir(rustix::fs::CWD, "/proc/sys/net"));
        let opened = opened.map_err(|errno| file("open", Path::new("/proc/sys/net"), errno.into()))?;
        instances.push(Arc::new(opened));
    }
    let at = made % instances.len();
    instances.get(at).cloned().ok_or_else(|| Error::kernel("open /proc/sys/net", Errno::NOENT))
}

/// Opens the directory of network parameters in an instance of procfs of its own, mounted nowhere.
fn open_instance() -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    open_dir(mount.as_fd(), "sys/net")
}

fn open_dir(at: BorrowedFd<'_>, name: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(at, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
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
