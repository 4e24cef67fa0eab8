//! What is mounted in a container.

use gantry_model::oci::spec::Mount;

use super::{INIT, Invalid, Place, absolute, defaults, propagation};
use crate::settings::{MountSetting, MountSource, Namespace, Reach, Settings};

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
        asked.push(mount_of(setting, target, settings, place)?);
    }
    let has = |path: &str| asked.iter().any(|mount| mount.destination == path);
    // Below a `/dev` of one's own nothing is made.
    let replaced = |path: &str| has(path) || (path.starts_with("/dev/") && has("/dev"));
    let mut list: Vec<Mount> = system(settings, place).into_iter().filter(|m| !replaced(&m.destination)).collect();
    if settings.init {
        list.push(bind(&place.init, INIT, "rprivate", "bind", "ro"));
    }
    let access = if settings.readonly_root { "ro" } else { "rw" };
    let files = place.files.iter().filter(|(_, target)| !has(target));
    list.extend(files.map(|(source, target)| mapped(bind(source, target, "rprivate", "rbind", access), settings)));
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

fn bind(source: &str, target: &str, propagation: &str, kind: &str, access: &str) -> Mount {
    // To say that it can be written to would make it so where the source is mounted read-only.
    let options = [kind, propagation, access];
    mount(target, "bind", source, if access == "rw" { &options[..2] } else { &options[..] })
}

/// Whoever owns files outside owns them inside too, also where ids are others there.
fn mapped(mut mount: Mount, settings: &Settings) -> Mount {
    if settings.user_namespace.is_some() {
        mount.options.push("idmap".to_owned());
    }
    mount
}

/// The file systems of the kernel.
fn system(settings: &Settings, place: &Place) -> Vec<Mount> {
    const SAFE: [&str; 3] = ["nosuid", "noexec", "nodev"];
    let host = |path: &str, access: &str| bind(path, path, "rprivate", "rbind", access);
    let ns = &settings.namespaces;
    let privileged = settings.security.privileged;
    let access = if privileged { "rw" } else { "ro" };
    let of_others = settings.user_namespace.is_some();
    let mqueue = match &ns.ipc {
        Namespace::Host if place.message_queues => host("/dev/mqueue", "rw"),
        // A new mount shows the queues of the namespace that it is made in, which is the host's then.
        _ => mount("/dev/mqueue", "mqueue", "mqueue", &SAFE),
    };
    let sys = match &ns.network {
        // A new sysfs would show the host's network devices for changing.
        Namespace::Host => host("/sys", if privileged { "rw" } else { "rro" }),
        // A network that is not of the user namespace has no new sysfs for it.
        Namespace::Path(_) if of_others => host("/sys", "rro"),
        _ => mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
    };
    let cgroups = if settings.security.writable_cgroups.unwrap_or(privileged) { "rw" } else { "ro" };
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let mut list = vec![
        mount("/proc", "proc", "proc", &SAFE),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        sys,
        mount("/dev/pts", "devpts", "devpts", &pts),
        mqueue,
    ];
    if !settings.no_shm {
        list.push(shm(settings, place));
    }
    list.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", cgroups]));
    list
}

/// Shared memory: the host's, the sandbox's, or one of its own.
fn shm(settings: &Settings, place: &Place) -> Mount {
    let size = format!("size={}", if settings.shm_size == 0 { defaults::SHM_SIZE } else { settings.shm_size });
    match (&settings.namespaces.ipc, &place.shm) {
        (Namespace::Host, _) => bind("/dev/shm", "/dev/shm", "rprivate", "rbind", "rw"),
        (_, Some(shared)) => mapped(bind(shared, "/dev/shm", "rprivate", "rbind", "rw"), settings),
        (_, None) => mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]),
    }
}

fn mount_of(setting: &MountSetting, target: &str, settings: &Settings, place: &Place) -> Result<Mount, Invalid> {
    match &setting.source {
        MountSource::Bind { path, propagation, non_recursive, reach } => {
            let source = absolute("mount source", path)?;
            let propagation = propagation::mode(propagation)?;
            let kind = if *non_recursive { "bind" } else { "rbind" };
            let access = if setting.readonly { readonly(*reach, *non_recursive, place)? } else { "rw" };
            Ok(mapped(bind(source, target, propagation, kind, access), settings))
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
        MountSource::Other { kind, source, options } => {
            let mut all: Vec<&str> = options.iter().map(String::as_str).collect();
            if setting.readonly {
                all.push("ro");
            }
            Ok(mount(target, kind, source, &all))
        }
    }
}

/// Read-only with all that lies below is what is meant by whoever says so; older kernels cannot.
fn readonly(reach: Reach, non_recursive: bool, place: &Place) -> Result<&'static str, Invalid> {
    const SINCE: (u32, u32) = (5, 12);
    match reach {
        Reach::AllOrNothing if place.machine.kernel < SINCE => {
            Err(Invalid::Kernel("a read-only mount with all mounts below", SINCE.0, SINCE.1))
        }
        Reach::Deep | Reach::AllOrNothing if !non_recursive && place.machine.kernel >= SINCE => Ok("rro"),
        _ => Ok("ro"),
    }
}
