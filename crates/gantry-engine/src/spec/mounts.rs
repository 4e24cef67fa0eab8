//! What is mounted in a container.

use gantry_model::oci::spec::Mount;

use super::{INIT, Invalid, Place, absolute, defaults};
use crate::settings::{MountSetting, MountSource, Namespace, Settings};

/// All mounts, in the order in which they are made: a place before what lies below it.
pub(super) fn all(settings: &Settings, place: &Place) -> Result<Vec<Mount>, Invalid> {
    let mut asked = Vec::with_capacity(settings.mounts.len());
    for setting in &settings.mounts {
        let target = absolute("mount path", &setting.target)?.trim_end_matches('/');
        if target.is_empty() {
            return Err(Invalid::Path("mount path", setting.target.clone()));
        }
        if asked.iter().any(|mount: &Mount| mount.destination == target) {
            return Err(Invalid::Duplicate(target.to_owned()));
        }
        asked.push(mount_of(setting, target)?);
    }
    let is_asked = |path: &str| asked.iter().any(|mount| mount.destination == path);
    let mut list: Vec<Mount> = system(settings, place).into_iter().filter(|m| !is_asked(&m.destination)).collect();
    let init = settings.init.then(|| (place.init.clone(), INIT.to_owned()));
    let files = place.files.iter().filter(|(_, target)| !is_asked(target)).cloned();
    list.extend(init.into_iter().chain(files).map(|(source, target)| {
        let readonly = target == INIT;
        bind(&source, &target, "rprivate", true, readonly)
    }));
    list.append(&mut asked);
    // Stable: of what lies equally deep, what was first stays first.
    list.sort_by_key(|mount| mount.destination.split('/').filter(|part| !part.is_empty()).count());
    Ok(list)
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: target.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Mount::default()
    }
}

fn bind(source: &str, target: &str, propagation: &str, recursive: bool, readonly: bool) -> Mount {
    let kind = if recursive { "rbind" } else { "bind" };
    // Read-only with all that lies below: what is meant by whoever says so.
    let access = match (readonly, recursive) {
        (true, true) => "rro",
        (true, false) => "ro",
        (false, _) => "rw",
    };
    mount(target, "bind", source, &[kind, propagation, access])
}

/// The file systems of the kernel.
fn system(settings: &Settings, place: &Place) -> Vec<Mount> {
    const SAFE: [&str; 3] = ["nosuid", "noexec", "nodev"];
    let privileged = settings.security.privileged;
    let access = if privileged { "rw" } else { "ro" };
    let size = format!("size={}", if settings.shm_size == 0 { defaults::SHM_SIZE } else { settings.shm_size });
    let shm = match (&settings.namespaces.ipc, &place.shm) {
        (Namespace::Host, _) => bind("/dev/shm", "/dev/shm", "rprivate", true, false),
        (_, Some(shared)) => bind(shared, "/dev/shm", "rprivate", true, false),
        (_, None) => mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]),
    };
    let mqueue = match &settings.namespaces.ipc {
        Namespace::Host => bind("/dev/mqueue", "/dev/mqueue", "rprivate", true, false),
        _ => mount("/dev/mqueue", "mqueue", "mqueue", &SAFE),
    };
    let sys = match &settings.namespaces.network {
        // A new sysfs would show the host's network devices for changing.
        Namespace::Host => bind("/sys", "/sys", "rprivate", true, !privileged),
        _ => mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
    };
    vec![
        mount("/proc", "proc", "proc", &SAFE),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        sys,
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mqueue,
        shm,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
    ]
}

fn mount_of(setting: &MountSetting, target: &str) -> Result<Mount, Invalid> {
    match &setting.source {
        MountSource::Bind { path, propagation, non_recursive } => {
            let source = absolute("mount source", path)?;
            let propagation = if propagation.is_empty() { "rprivate" } else { propagation };
            Ok(bind(source, target, propagation, !non_recursive, setting.readonly))
        }
        MountSource::Tmpfs { options } => {
            let mut all = vec!["nosuid", "nodev"];
            // What nobody asked to be executed from is not.
            if !options.iter().any(|option| option == "exec") {
                all.push("noexec");
            }
            all.extend(options.iter().map(String::as_str));
            if setting.readonly {
                all.push("ro");
            }
            Ok(mount(target, "tmpfs", "tmpfs", &all))
        }
    }
}
