//! The kernel and the root disk: made once from Debian's packages, kept until their recipe changes.

use crate::sh;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// A kernel and the disk that it starts from.
pub struct Image {
    /// The kernel, as the boot loader takes it.
    pub kernel: PathBuf,
    /// An ext4 file system with the userland and the kernel's modules. It is never written to.
    pub disk: PathBuf,
}

/// What the userland consists of, beside Debian's essential packages.
const PACKAGES: &[&str] = &[
    "apparmor",
    "attr",
    "busybox-static",
    "criu",
    "dbus",
    "iproute2",
    "kmod",
    "libcap2-bin",
    "nftables",
    "policycoreutils",
    "procps",
    "python3-minimal",
    "selinux-policy-default",
    "selinux-utils",
    "strace",
    "systemd",
    "systemd-sysv",
    "uidmap",
];

const BUILD: &str = include_str!("../../scripts/vm-image.sh");

/// Removes the kernel and the disk.
pub fn remove() -> Result<()> {
    let dir = directory();
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn directory() -> PathBuf {
    sh::dir_from_env("GANTRY_VM_DIR", "/var/tmp/gantry-vm")
}

/// Gives the kernel and the disk, and makes them first if there are none or their recipe has changed.
pub fn ensure() -> Result<Image> {
    let dir = directory();
    let image = Image { kernel: dir.join("vmlinuz"), disk: dir.join("root.img") };
    let recipe = format!("{BUILD}\n{}\n", PACKAGES.join(","));
    let stamp = dir.join("recipe");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) && image.disk.exists() && image.kernel.exists() {
        return Ok(image);
    }
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    eprintln!("vm: making the disk in {} (about a minute)", dir.display());
    build(&dir)?;
    fs::write(&stamp, recipe).with_context(|| format!("write {}", stamp.display()))?;
    Ok(image)
}

fn build(dir: &Path) -> Result<()> {
    let mut command = sh::command("bash", &["-c", BUILD, "vm-image"]);
    command.arg(dir).arg(PACKAGES.join(","));
    sh::run(&mut command).context("make the root disk of the virtual machine")
}
