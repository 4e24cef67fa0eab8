//! What all tests of a run share: the runtime, the program inside, a directory, the cgroups, and how slow this machine
//! is.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::cgroup::Cgroups;
use crate::container::Container;
use crate::host::find_tool;
use crate::outcome::{Outcome, skip};

/// What all tests of a run share. Its directory goes with it.
pub struct Kit {
    /// The runtime under test.
    pub runtime: PathBuf,
    /// The probe, on the host.
    pub probe: PathBuf,
    /// A static busybox on the host, where there is one.
    pub busybox: Option<PathBuf>,
    /// The mounted cgroup hierarchies.
    pub cgroups: Cgroups,
    /// How many times slower than a usual machine this one is.
    pub slow: f64,
    dir: PathBuf,
    next: AtomicU32,
}

impl Kit {
    /// Prepares a run: `runtime` is what is tested, `probe` a static executable that acts as the probe when it is
    /// called `init`, `slow` the factor for every time limit.
    pub fn new(runtime: &Path, probe: &Path, slow: f64) -> io::Result<Self> {
        let dir = std::env::temp_dir().join(format!("gantry-test-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        let own = dir.join("init");
        fs::copy(probe, &own)?;
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755))?;
        let mut busybox = None;
        if let Some(found) = find_tool("busybox").filter(|path| is_static(path)) {
            let copy = dir.join("busybox");
            fs::copy(found, &copy)?;
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
            busybox = Some(copy);
        }
        let kit = Self {
            runtime: runtime.to_owned(),
            probe: own,
            busybox,
            cgroups: Cgroups::detect(),
            slow,
            dir,
            next: AtomicU32::new(0),
        };
        Ok(kit)
    }

    /// A container with the default configuration and a root file system of its own; nothing is made in the kernel yet.
    pub fn container(&self) -> Outcome<Container<'_>> {
        Ok(Container::new(self)?)
    }

    /// A time limit, stretched for a slow machine.
    pub fn time(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds * self.slow)
    }

    /// A name that no other container of any run on this machine has.
    pub fn unique(&self) -> String {
        format!("gantry-test-{}-{}", std::process::id(), self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The directory of this run.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Skips the test where there is no static busybox to run inside.
    pub fn need_busybox(&self) -> Outcome<&Path> {
        self.busybox.as_deref().map_or_else(|| skip("no static busybox on this machine (busybox-static)"), Ok)
    }

    /// Skips the test where no hierarchy has the controller.
    pub fn need_controller(&self, name: &str) -> Outcome {
        match self.cgroups.holding(name) {
            Some(_) => Ok(()),
            None => skip(format!("no cgroup hierarchy has the {name} controller")),
        }
    }

    /// Makes a root file system in `root`: the probe as `/init`, busybox where there is one, and the directories that
    /// a distribution has.
    pub fn fill_root(&self, root: &Path) -> io::Result<()> {
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp", "run", "var/empty", "mnt", "home", "root", "usr/bin"] {
            fs::create_dir_all(root.join(name))?;
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        fs::hard_link(&self.probe, root.join("init"))?;
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\ntester:x:1000:1000::/home:/bin/sh\n")?;
        fs::write(root.join("etc/group"), "root:x:0:\ntester:x:1000:\nstaff:x:50:tester\n")?;
        if let Some(busybox) = &self.busybox {
            fs::hard_link(busybox, root.join("bin/busybox"))?;
            for applet in ["sh", "cat", "ionice", "kill", "ls", "sleep", "stty", "true", "id"] {
                symlink("busybox", root.join("bin").join(applet))?;
            }
        }
        Ok(())
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        // What is still in there belongs to a test that has reported it as left over.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Whether an executable needs no loader: it has no program header of type PT_INTERP.
fn is_static(path: &Path) -> bool {
    let Ok(bytes) = fs::read(path) else { return false };
    let number = |at: usize, len: usize| -> Option<usize> {
        let field = bytes.get(at..at + len)?;
        Some(field.iter().rev().fold(0, |value, &byte| value << 8 | usize::from(byte)))
    };
    let headers = || Some((number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?));
    let Some((offset, size, count)) = headers() else { return false };
    bytes.starts_with(b"\x7fELF\x02\x01") && (0..count).all(|index| number(offset + index * size, 4) != Some(3))
}
