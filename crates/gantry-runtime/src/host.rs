//! Finding out about the host, as far as a configuration makes it matter.

use std::path::Path;

use gantry_cgroup::{Layout, Location};
use gantry_model::oci::spec::{IdMapping, Spec};
use rustix::process::{getegid, geteuid};

use crate::lower::{CgroupMount, CgroupMounts, Host, lacks_mappings};

/// The inode of the first user namespace, fixed by the kernel.
const FIRST_USER_NAMESPACE: &[u8] = b"user:[4026531837]";

/// Looks at the host.
pub(crate) fn detect(spec: &Spec) -> Host {
    let first =
        rustix::fs::readlink("/proc/self/ns/user", vec![]).is_ok_and(|link| link.as_bytes() == FIRST_USER_NAMESPACE);
    let process = spec.process.as_ref();
    let asks_apparmor = process.is_some_and(|process| !process.apparmor_profile.is_empty());
    let asks_selinux = process.is_some_and(|process| !process.selinux_label.is_empty())
        || spec.linux.as_ref().is_some_and(|linux| !linux.mount_label.is_empty());
    let asks_resctrl = spec.linux.as_ref().is_some_and(|linux| linux.intel_rdt.is_some());
    let unmapped = spec.linux.as_ref().is_some_and(lacks_mappings);
    Host {
        privileged: geteuid().is_root() && first,
        in_user_namespace: !first,
        euid: geteuid().as_raw(),
        egid: getegid().as_raw(),
        apparmor: asks_apparmor && apparmor(),
        selinux: asks_selinux && selinux(),
        resctrl: if asks_resctrl { resctrl() } else { None },
        own_ids: if unmapped { own_ids() } else { Default::default() },
        cgroup_mounts: CgroupMounts::default(),
    }
}

/// The users and groups that this process may map in a user namespace that it makes: for root each as itself, for
/// others their own alone, as root.
fn own_ids() -> (Vec<IdMapping>, Vec<IdMapping>) {
    let ids = |file: &str, own: u32| {
        if !geteuid().is_root() {
            return vec![IdMapping { container_id: 0, host_id: own, size: 1 }];
        }
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let range = |line: &str| {
            let mut fields = line.split_whitespace();
            let (first, size) = (fields.next()?.parse().ok()?, fields.nth(1)?.parse().ok()?);
            Some(IdMapping { container_id: first, host_id: first, size })
        };
        text.lines().filter_map(range).collect()
    };
    (ids("/proc/self/uid_map", geteuid().as_raw()), ids("/proc/self/gid_map", getegid().as_raw()))
}

/// Whether AppArmor is on.
pub fn apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.first() == Some(&b'Y'))
}

/// Whether SELinux is on.
pub fn selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Where resctrl is mounted.
pub fn resctrl() -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let point = fields.nth(1)?;
        (fields.next()? == "resctrl").then(|| point.to_owned())
    })
}

/// How a mount of type cgroup is made, from the hierarchies of the host and the container's place in them.
pub(crate) fn cgroup_mounts(layout: &Layout, location: &Location) -> CgroupMounts {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    // Where the container has no cgroup it stays in this process's own, and is shown no more than that.
    let stays = |mount: &gantry_cgroup::Mount| {
        let own = mount.own.as_deref().map(|own| own.trim_start_matches('/')).filter(|own| !own.is_empty());
        text(&own.map_or_else(|| mount.point.clone(), |own| mount.point.join(own)))
    };
    let mut mounts = CgroupMounts { v2: layout.is_v2(), ..CgroupMounts::default() };
    for mount in &layout.v1 {
        let subsystems: Vec<String> =
            mount.name.iter().map(|name| format!("name={name}")).chain(mount.controllers.iter().cloned()).collect();
        let own = |h: &&gantry_cgroup::Hierarchy| h.subsystems.iter().any(|s| subsystems.contains(s));
        let host_path = location.v1.iter().find(own).map_or_else(|| stays(mount), |h| text(&h.dir));
        let options = match &mount.name {
            Some(name) => vec![("none".to_owned(), None), ("name".to_owned(), Some(name.clone()))],
            None => mount.controllers.iter().map(|controller| (controller.clone(), None)).collect(),
        };
        let dir = mount.point.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for controller in
            mount.controllers.iter().filter(|controller| **controller != dir && mount.controllers.len() > 1)
        {
            mounts.links.push((controller.clone(), dir.clone()));
        }
        mounts.hierarchies.push(CgroupMount { dir, options, v2: false, host_path });
    }
    if let Some(mount) = &layout.unified {
        let host_path = location.unified_dir().map_or_else(|| stays(mount), text);
        mounts.hierarchies.push(CgroupMount { dir: "unified".to_owned(), options: vec![], v2: true, host_path });
    }
    mounts
}

/// Whether the host has cgroup v2 alone.
pub fn unified_cgroups() -> bool {
    Layout::detect().is_ok_and(|layout| layout.is_v2())
}
