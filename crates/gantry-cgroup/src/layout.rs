//! Where the host keeps its control groups.
//!
//! There are three layouts: one unified hierarchy (v2), one hierarchy for each controller or few controllers (v1), and both
//! side by side (hybrid). Everything else asks this description and never looks at the host by itself.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use gantry_model::mountinfo::Mount as MountLine;

use crate::error::Error;

/// Where cgroup2 is mounted on a host that has nothing else.
pub const UNIFIED: &str = "/sys/fs/cgroup";

const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// Most bytes read of `/proc/self/mountinfo`: a host with a million mounts is refused rather than read for ever.
const MAX_PROC_FILE: u64 = 64 << 20;
/// Bytes of it that are read at once.
const CHUNK: usize = 4 << 10;

/// One mounted hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Mount point.
    pub point: PathBuf,
    /// Directory of the hierarchy that the mount shows at its top: `/`, or more inside a container without a namespace.
    pub root: String,
    /// Controllers, as `cpu`, `cpuacct`; empty for a named hierarchy and for cgroup2.
    pub controllers: Vec<String>,
    /// Name of a hierarchy that has one, as `systemd`.
    pub name: Option<String>,
    /// Cgroup of this process, below `point`; absent where it lies outside of the mount, or was not asked for.
    pub own: Option<String>,
    /// Whether the files of cpuset have no prefix: `cpus` for `cpuset.cpus`.
    pub noprefix: bool,
}

/// The hierarchies of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Hierarchies of version 1, in the order of their mounts.
    pub v1: Vec<Mount>,
    /// The hierarchy of version 2. With `v1` empty this is the pure v2 layout; with both it is hybrid.
    pub unified: Option<Mount>,
}

impl Layout {
    /// Describes this host. On pure v2 that is one statfs(2); this process's own cgroup is left unknown there.
    pub fn detect() -> Result<Self, Error> {
        if let Some(mount) = pure_v2() {
            return Ok(Self { v1: Vec::new(), unified: Some(mount) });
        }
        let fail = |error| cannot_read("/proc/self/mountinfo", &error);
        let mounts = fs::File::open("/proc/self/mountinfo").map_err(fail)?.take(MAX_PROC_FILE);
        let lines = BufReader::with_capacity(CHUNK, mounts).lines();
        Self::first_of(lines.map(|line| line.map_err(fail)), &read_proc("/proc/self/cgroup")?)
    }

    /// Describes a host as [`Layout::parse`] does, and reads no further than what can change the answer: the kernel makes
    /// a line for each mount, and a host with a thousand containers has thousands.
    fn first_of(lines: impl Iterator<Item = Result<String, Error>>, cgroup: &str) -> Result<Self, Error> {
        let (all, mut mounts) = (cgroup.lines().count(), String::new());
        for line in lines {
            let line = line?;
            if line.contains(" - cgroup") {
                mounts.push_str(&line);
                mounts.push('\n');
                let layout = Self::parse(&mounts, cgroup)?;
                let mut points = layout.v1.iter().chain(&layout.unified);
                // Each hierarchy was found in its usual place, where none that comes later would be preferred.
                if layout.v1.len() + usize::from(layout.unified.is_some()) == all
                    && points.all(|mount| mount.point.starts_with(UNIFIED))
                {
                    return Ok(layout);
                }
            }
        }
        Self::parse(&mounts, cgroup)
    }

    /// Describes this host, with this process's own cgroup: see [`crate::Request::needs_own`].
    pub fn detect_with_own() -> Result<Self, Error> {
        let Some(mut mount) = pure_v2() else { return Self::detect() };
        let own = parse_cgroup_file(&read_proc("/proc/self/cgroup")?)?;
        mount.own = own.iter().find(|entry| entry.is_unified()).and_then(|entry| below(&mount.root, &entry.path));
        Ok(Self { v1: Vec::new(), unified: Some(mount) })
    }

    /// Describes a host from its `/proc/self/mountinfo` and `/proc/self/cgroup` (proc(5), cgroups(7)).
    pub fn parse(mountinfo: &str, cgroup: &str) -> Result<Self, Error> {
        let entries = parse_cgroup_file(cgroup)?;
        let mut layout = Self::default();
        for line in mountinfo.lines().filter(|line| line.contains(" - cgroup")) {
            let fields = MountLine::parse(line)
                .ok_or_else(|| Error::Layout(format!("/proc/self/mountinfo has a line that is no mount: {line:?}")))?;
            match fields.kind {
                "cgroup" => layout.add_v1(&fields, &entries),
                "cgroup2" => layout.add_unified(&fields, &entries),
                _ => {}
            }
        }
        Ok(layout)
    }

    fn add_v1(&mut self, fields: &MountLine<'_>, entries: &[Entry]) {
        let Some(entry) = entries.iter().find(|entry| entry.mounted_with(fields.super_options)) else { return };
        let mount = Mount {
            point: fields.point.clone().into(),
            root: fields.root.clone(),
            controllers: if entry.name.is_some() { Vec::new() } else { entry.controllers.clone() },
            name: entry.name.clone(),
            own: below(&fields.root, &entry.path),
            noprefix: fields.super_options.split(',').any(|option| option == "noprefix"),
        };
        let same = self.v1.iter_mut().find(|m| m.controllers == mount.controllers && m.name == mount.name);
        match same {
            // The same hierarchy mounted again, as for a container: the host's usual place is the one that tools look at.
            Some(old) if !old.point.starts_with(UNIFIED) && mount.point.starts_with(UNIFIED) => *old = mount,
            Some(_) => {}
            None => self.v1.push(mount),
        }
    }

    fn add_unified(&mut self, fields: &MountLine<'_>, entries: &[Entry]) {
        let own = entries.iter().find(|entry| entry.is_unified()).and_then(|entry| below(&fields.root, &entry.path));
        let mount = Mount { point: fields.point.clone().into(), root: fields.root.clone(), own, ..Mount::default() };
        let better =
            self.unified.as_ref().is_none_or(|old| !old.point.starts_with(UNIFIED) && mount.point.starts_with(UNIFIED));
        if better {
            self.unified = Some(mount);
        }
    }

    /// Whether cgroup2 is all there is.
    pub fn is_v2(&self) -> bool {
        self.v1.is_empty() && self.unified.is_some()
    }

    /// Whether there is no hierarchy at all.
    pub fn is_none(&self) -> bool {
        self.v1.is_empty() && self.unified.is_none()
    }

    /// The v1 hierarchy that a controller is bound to.
    pub fn v1_of(&self, controller: &str) -> Option<&Mount> {
        self.v1.iter().find(|mount| mount.has(controller))
    }
}

impl Mount {
    /// Whether the hierarchy carries that controller; named hierarchies are asked for as `name=systemd`.
    pub fn has(&self, controller: &str) -> bool {
        match (&self.name, controller.strip_prefix("name=")) {
            (Some(name), Some(asked)) => name == asked,
            _ => self.controllers.iter().any(|c| c == controller),
        }
    }

    /// The subsystems as `/proc/self/cgroup` and the mount options list them: `cpu,cpuacct`, `name=systemd`, or nothing.
    pub fn subsystems(&self) -> String {
        match &self.name {
            Some(name) => format!("name={name}"),
            None => self.controllers.join(","),
        }
    }
}

fn pure_v2() -> Option<Mount> {
    let stat = rustix::fs::statfs(UNIFIED).ok()?;
    #[allow(clippy::unnecessary_cast)] // the width of f_type differs between architectures
    let magic = stat.f_type as i64;
    (magic == CGROUP2_SUPER_MAGIC).then(|| Mount { point: UNIFIED.into(), root: "/".into(), ..Mount::default() })
}

fn read_proc(path: &str) -> Result<String, Error> {
    let fail = |error| cannot_read(path, &error);
    let mut text = String::new();
    fs::File::open(path).map_err(fail)?.take(MAX_PROC_FILE).read_to_string(&mut text).map_err(fail)?;
    Ok(text)
}

fn cannot_read(path: &str, error: &io::Error) -> Error {
    Error::Layout(format!("cannot read {path}: {error}: is /proc mounted?"))
}

/// A line of `/proc/self/cgroup`.
#[derive(Debug)]
pub(crate) struct Entry {
    controllers: Vec<String>,
    name: Option<String>,
    pub(crate) path: String,
}

impl Entry {
    pub(crate) fn is_unified(&self) -> bool {
        self.name.is_none() && self.controllers.is_empty()
    }

    /// Whether a mount with these super block options shows this hierarchy.
    fn mounted_with(&self, options: &str) -> bool {
        let mut options = options.split(',');
        match &self.name {
            Some(name) => options.any(|option| option.strip_prefix("name=") == Some(name)),
            None => options.any(|option| self.controllers.iter().any(|c| c == option)),
        }
    }
}

/// Parses the lines `id:controllers:path` (cgroups(7)).
pub(crate) fn parse_cgroup_file(text: &str) -> Result<Vec<Entry>, Error> {
    text.lines()
        .map(|line| {
            let mut parts = line.splitn(3, ':');
            let (Some(_id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(Error::Layout(format!("/proc/self/cgroup has a line without two colons: {line:?}")));
            };
            let all: Vec<String> = controllers.split(',').filter(|c| !c.is_empty()).map(Into::into).collect();
            let name = all.iter().find_map(|c| c.strip_prefix("name=")).map(Into::into);
            Ok(Entry { controllers: all, name, path: path.into() })
        })
        .collect()
}

/// The part of `path` that a mount showing `root` can reach, with a leading slash.
fn below(root: &str, path: &str) -> Option<String> {
    if Path::new(path).components().any(|c| c.as_os_str() == "..") {
        return None;
    }
    let rest = Path::new(path).strip_prefix(root).ok()?;
    Some(format!("/{}", rest.to_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
        22 1 0:5 / /proc rw - proc proc rw\n\
        31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct\n\
        34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,noprefix,cpuset\n\
        99 31 0:31 / /mnt/my\\040cpuset rw - cgroup cgroup rw,noprefix,cpuset\n\
        40 31 0:37 /docker/x /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID_OWN: &str = "9:name=systemd:/docker/x/y\n3:cpuset:/\n1:cpu,cpuacct:/a/b\n0::/u\n";

    #[test]
    fn no_more_is_read_than_is_needed() {
        let check = |mounts: &str, cgroup: &str, left: usize| {
            let mut lines = mounts.lines().map(|line| Ok(line.trim().to_owned()));
            let layout = Layout::first_of(lines.by_ref(), cgroup).unwrap();
            assert_eq!(layout, Layout::parse(mounts, cgroup).unwrap());
            assert_eq!(lines.count(), left, "{cgroup:?}");
        };
        let more = format!("{HYBRID_MOUNTS}77 1 0:5 / /x rw - proc proc rw\n78 1 0:5 / /y rw - proc proc rw\n");
        check(&more, HYBRID_OWN, 2);
        // A hierarchy that is mounted nowhere, or only elsewhere, may come yet.
        check(&more, &format!("12:net_cls:/\n{HYBRID_OWN}"), 0);
        check(&more.replace("/sys/fs/cgroup/unified", "/elsewhere"), HYBRID_OWN, 0);
    }

    fn check(mountinfo: &str, cgroup: &str, expect: &[&str]) {
        let layout = Layout::parse(mountinfo, cgroup).unwrap();
        let describe = |m: &Mount| {
            let own = m.own.as_deref().unwrap_or("-");
            let prefix = if m.noprefix { " noprefix" } else { "" };
            format!("{} root={} [{}] own={own}{prefix}", m.point.display(), m.root, m.subsystems())
        };
        let mut all: Vec<String> = layout.v1.iter().map(describe).collect();
        all.extend(layout.unified.iter().map(|m| format!("v2 {}", describe(m))));
        assert_eq!(all, expect);
    }

    #[test]
    fn layouts() {
        check(
            HYBRID_MOUNTS,
            HYBRID_OWN,
            &[
                "/sys/fs/cgroup/cpu,cpuacct root=/ [cpu,cpuacct] own=/a/b",
                "/sys/fs/cgroup/cpuset root=/ [cpuset] own=/ noprefix",
                "/sys/fs/cgroup/systemd root=/docker/x [name=systemd] own=/y",
                "v2 /sys/fs/cgroup/unified root=/ [] own=/u",
            ],
        );
        check(
            "52 51 0:38 / /sys/fs/cgroup rw - cgroup2 none rw\n",
            "0::/user.slice\n",
            &["v2 /sys/fs/cgroup root=/ [] own=/user.slice"],
        );
        check(
            "52 51 0:38 / /sys/fs/cgroup rw - cgroup2 none rw\n",
            "0::/../x\n",
            &["v2 /sys/fs/cgroup root=/ [] own=-"],
        );
        check("", "", &[]);
        // The usual place wins over one that was mounted earlier.
        check(
            "1 1 0:1 / /mnt/pids rw - cgroup c rw,pids\n2 1 0:1 / /sys/fs/cgroup/pids rw - cgroup c rw,pids\n",
            "8:pids:/\n",
            &["/sys/fs/cgroup/pids root=/ [pids] own=/"],
        );
    }

    #[test]
    fn refused() {
        assert!(Layout::parse("1 2 - cgroup x", "").is_err());
        assert!(Layout::parse("", "nonsense").is_err());
    }

    #[test]
    fn this_host() {
        let layout = Layout::detect_with_own().unwrap();
        if layout.is_none() {
            eprintln!("SKIPPED this_host: no cgroup hierarchy is mounted here");
            return;
        }
        for mount in layout.v1.iter().chain(&layout.unified) {
            assert!(mount.point.join("cgroup.procs").exists(), "{}", mount.point.display());
        }
    }
}
