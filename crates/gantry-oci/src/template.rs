//! The configuration that `spec` writes: a shell in the root file system beside it, with the limits that one starts
//! from.

use gantry_model::oci::linux::{DeviceRule, Linux, Namespace, Resources};
use gantry_model::oci::spec::{Capabilities, IdMapping, Mount, Process, Rlimit, Root, Spec};
use serde::Serialize;

use crate::cli::SPEC_VERSION;

const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// Destination, type, source, options.
const MOUNTS: [(&str, &str, &str, &[&str]); 7] = [
    ("/proc", "proc", "proc", &[]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
];

const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];

const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What the template depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Whether the host has cgroup v2 alone: the container then gets a cgroup namespace.
    pub unified: bool,
    /// The calling user and group, for a container without root.
    pub rootless: Option<(u32, u32)>,
}

/// The configuration to start from.
pub fn spec(host: Host) -> Spec {
    let capabilities = texts(&CAPABILITIES);
    Spec {
        oci_version: SPEC_VERSION.to_owned(),
        process: Some(Process {
            terminal: true,
            args: texts(&["sh"]),
            env: texts(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]),
            cwd: "/".to_owned(),
            capabilities: Some(Capabilities {
                bounding: capabilities.clone(),
                effective: capabilities.clone(),
                permitted: capabilities,
                ..Capabilities::default()
            }),
            rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".to_owned(), hard: 1024, soft: 1024 }],
            no_new_privileges: true,
            ..Process::default()
        }),
        root: Some(Root { path: "rootfs".to_owned(), readonly: true }),
        hostname: "gantry".to_owned(),
        mounts: MOUNTS.iter().map(|mount| self::mount(*mount, host.rootless.is_some())).collect(),
        linux: Some(linux(host)),
        ..Spec::default()
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn mount((destination, kind, source, options): (&str, &str, &str, &[&str]), rootless: bool) -> Mount {
    let mut mount = Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: texts(options),
        ..Mount::default()
    };
    if rootless {
        // The one group that is mapped is the user's own.
        mount.options.retain(|option| !option.starts_with("gid=") && !option.starts_with("uid="));
        if destination == "/sys" {
            // sysfs shows the network namespace, which is the host's: only its owner may mount it.
            "none".clone_into(&mut mount.kind);
            "/sys".clone_into(&mut mount.source);
            mount.options.insert(0, "rbind".to_owned());
        }
    }
    mount
}

fn linux(host: Host) -> Linux {
    let kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup", "user"];
    let wanted = |kind: &&str| match *kind {
        "cgroup" => host.unified,
        "user" => host.rootless.is_some(),
        "network" => host.rootless.is_none(),
        _ => true,
    };
    let mapping = |id: Option<u32>| id.map(|host_id| IdMapping { container_id: 0, host_id, size: 1 });
    let deny = DeviceRule { allow: false, access: Some("rwm".to_owned()), ..DeviceRule::default() };
    Linux {
        uid_mappings: mapping(host.rootless.map(|ids| ids.0)).into_iter().collect(),
        gid_mappings: mapping(host.rootless.map(|ids| ids.1)).into_iter().collect(),
        resources: host.rootless.is_none().then(|| Resources { devices: vec![deny], ..Resources::default() }),
        namespaces: kinds
            .iter()
            .filter(|kind| wanted(kind))
            .map(|&kind| Namespace { kind: kind.to_owned(), path: String::new() })
            .collect(),
        masked_paths: texts(&MASKED),
        readonly_paths: texts(&READONLY),
        ..Linux::default()
    }
}

/// The document, indented by tabs.
///
/// # Errors
/// None that can be provoked.
pub fn document(spec: &Spec) -> serde_json::Result<String> {
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    spec.serialize(&mut serde_json::Serializer::with_formatter(&mut out, format))?;
    out.push(b'\n');
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_str};

    #[test]
    fn documents() {
        insta::assert_snapshot!("spec", document(&spec(Host { unified: false, rootless: None })).unwrap());
        insta::assert_snapshot!(
            "spec-rootless",
            document(&spec(Host { unified: true, rootless: Some((1000, 100)) })).unwrap()
        );
    }

    #[test]
    fn namespaces() {
        let check = |unified, rootless, expect: &[&str]| {
            let spec = spec(Host { unified, rootless });
            let kinds: Vec<String> = spec.linux.unwrap().namespaces.into_iter().map(|n| n.kind).collect();
            assert_eq!(kinds, expect);
        };
        check(false, None, &["pid", "network", "ipc", "uts", "mount"]);
        check(true, None, &["pid", "network", "ipc", "uts", "mount", "cgroup"]);
        check(false, Some((1, 1)), &["pid", "ipc", "uts", "mount", "user"]);
        check(true, Some((1, 1)), &["pid", "ipc", "uts", "mount", "cgroup", "user"]);
    }

    /// The document, read again, is what it was made from.
    #[test]
    fn round_trip() {
        for rootless in [None, Some((1, 1))] {
            let spec = spec(Host { unified: true, rootless });
            assert_eq!(from_str::<Spec>(&document(&spec).unwrap()).unwrap(), spec);
        }
    }

    /// What runc writes, where it is installed: the same but for the version, the host's name, and the ambient set
    /// of its versions before 1.3.
    #[test]
    fn equals_runc() {
        let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        for (flag, rootless) in [("--rootless=false", None), ("--rootless=true", Some(ids))] {
            let dir = std::env::temp_dir().join(format!("gantry-template-{}{flag}", std::process::id()));
            std::fs::create_dir(&dir).unwrap();
            let ran = std::process::Command::new("runc").args(["spec", flag]).current_dir(&dir).status();
            let text = std::fs::read_to_string(dir.join("config.json"));
            std::fs::remove_dir_all(&dir).unwrap();
            match ran {
                Err(error) => return crate::skipped(&format!("runc cannot be asked for its template: {error}")),
                Ok(status) => assert!(status.success()),
            }
            let mut theirs: Value = from_str(&text.unwrap()).unwrap();
            let unified = theirs["linux"]["namespaces"].to_string().contains("cgroup");
            let mut ours: Value = from_str(&document(&spec(Host { unified, rootless })).unwrap()).unwrap();
            for document in [&mut theirs, &mut ours] {
                document.as_object_mut().unwrap().retain(|key, _| key != "ociVersion" && key != "hostname");
                document["process"]["capabilities"].as_object_mut().unwrap().remove("ambient");
            }
            assert_eq!(ours, theirs);
        }
    }
}
