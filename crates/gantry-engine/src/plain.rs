//! A mount namespace with what the host has mounted, and nothing of the containers.
//!
//! The kernel makes a mount namespace by copying all mounts of the one that it is made from, and what a container does not
//! want of them it takes away again. The engine has two mounts or more for each container that runs, so the thousandth
//! would copy and take away thousands. It begins here instead, and gets what it wants by descriptors.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use rustix::mount::{MountPropagationFlags, mount_change};

use crate::error::{Context, Error, Result};
use crate::rootfs;

/// A new mount namespace.
const NEWNS: i32 = 0x0002_0000;

/// The namespace, which is there as long as this is.
#[derive(Debug)]
pub(crate) struct Plain(File);

impl Plain {
    /// Copies this process's mounts, without those below `run`. What is mounted on the host later comes along.
    pub(crate) fn new(run: &Path) -> Result<Self> {
        let run = run.to_owned();
        let thread = std::thread::Builder::new().name("mounts".to_owned()).spawn(move || {
            let what = || "make a mount namespace".to_owned();
            gantry_sys::ns::unshare(NEWNS).context(what)?;
            mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM).context(what)?;
            let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").context(what)?;
            let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
            let below = format!("{}/", run.display());
            for at in points.filter(|at| at.starts_with(&below)) {
                rootfs::unmount_all(Path::new(at))?;
            }
            File::open("/proc/thread-self/ns/mnt").map(Self).context(what)
        });
        thread.context(|| "start a thread".to_owned())?.join().map_err(|_| Error::Closed)?
    }

    /// Where other processes find it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}
