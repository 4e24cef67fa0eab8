//! The configuration that tests start from: what `spec` of the usual runtimes writes, with the probe as its program.

use gantry_model::oci::linux::{DeviceRule, Linux, Namespace, Resources};
use gantry_model::oci::spec::{Capabilities, Hook, IdMapping, Mount, Process, Rlimit, Root, Spec, User};

/// Capabilities of the default configuration.
pub const DEFAULT_CAPS: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// The default configuration; `cgroups_path` is where its cgroup goes.
pub fn default_spec(cgroups_path: &str) -> Spec {
    Spec {
        oci_version: "1.2.0".into(),
        process: Some(default_process()),
        root: Some(Root { path: "rootfs".into(), readonly: false }),
        hostname: "gantry-test".into(),
        mounts: default_mounts(),
        linux: Some(Linux {
            cgroups_path: cgroups_path.into(),
            resources: Some(Resources {
                devices: vec![DeviceRule { allow: false, access: Some("rwm".into()), ..DeviceRule::default() }],
                ..Resources::default()
            }),
            namespaces: ["pid", "network", "ipc", "uts", "mount"].map(namespace).into(),
            masked_paths: strings(&[
                "/proc/acpi",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi",
            ]),
            readonly_paths: strings(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

/// The process of the default configuration: the probe, reporting.
pub fn default_process() -> Process {
    Process {
        user: User::default(),
        args: strings(&["/init", "report"]),
        env: strings(&["PATH=/bin:/usr/bin", "TERM=xterm"]),
        cwd: "/".into(),
        capabilities: Some(caps(&DEFAULT_CAPS)),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 1024, soft: 1024 }],
        no_new_privileges: true,
        ..Process::default()
    }
}

/// The mounts of the default configuration, without the cgroup mount.
fn default_mounts() -> Vec<Mount> {
    vec![
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ]
}

/// The mount of the container's cgroup.
pub fn cgroup_mount() -> Mount {
    mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"])
}

/// Capability sets as the usual runtimes write them: nothing inheritable, nothing ambient.
pub fn caps(names: &[&str]) -> Capabilities {
    Capabilities {
        bounding: strings(names),
        effective: strings(names),
        permitted: strings(names),
        ..Capabilities::default()
    }
}

/// A mount.
pub fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: strings(options),
        ..Mount::default()
    }
}

/// A namespace that is created.
pub fn namespace(kind: &str) -> Namespace {
    Namespace { kind: kind.into(), path: String::new() }
}

/// A hook that runs `path` with `args`, the first the program's name.
pub fn hook(path: &str, args: &[&str]) -> Hook {
    Hook { path: path.into(), args: strings(args), ..Hook::default() }
}

/// A range of ids.
pub fn mapping(container_id: u32, host_id: u32, size: u32) -> IdMapping {
    IdMapping { container_id, host_id, size }
}

/// Owned copies.
pub fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Parts of a configuration that the default one always has, so that changes need not ask for them.
pub trait Parts {
    /// The process; made when absent.
    fn process_mut(&mut self) -> &mut Process;
    /// The Linux part; made when absent.
    fn linux_mut(&mut self) -> &mut Linux;
    /// The limits; made when absent.
    fn resources_mut(&mut self) -> &mut Resources;
    /// Adds a namespace that is created, unless there is one of its kind.
    fn add_namespace(&mut self, kind: &str);
    /// Takes a namespace out: the container then stays in the runtime's own.
    fn drop_namespace(&mut self, kind: &str);
    /// Makes the container join the namespace at `path`.
    fn join_namespace(&mut self, kind: &str, path: &str);
    /// Adds a new user namespace with these mappings, the same for users and groups.
    fn map_users(&mut self, mappings: &[IdMapping]);
    /// Sets the program and its arguments.
    fn set_args(&mut self, args: &[&str]);
}

impl Parts for Spec {
    fn process_mut(&mut self) -> &mut Process {
        self.process.get_or_insert_with(default_process)
    }

    fn linux_mut(&mut self) -> &mut Linux {
        self.linux.get_or_insert_default()
    }

    fn resources_mut(&mut self) -> &mut Resources {
        self.linux_mut().resources.get_or_insert_default()
    }

    fn add_namespace(&mut self, kind: &str) {
        let namespaces = &mut self.linux_mut().namespaces;
        if !namespaces.iter().any(|present| present.kind == kind) {
            namespaces.push(namespace(kind));
        }
    }

    fn drop_namespace(&mut self, kind: &str) {
        self.linux_mut().namespaces.retain(|present| present.kind != kind);
    }

    fn join_namespace(&mut self, kind: &str, path: &str) {
        self.drop_namespace(kind);
        self.linux_mut().namespaces.push(Namespace { kind: kind.into(), path: path.into() });
    }

    fn map_users(&mut self, mappings: &[IdMapping]) {
        self.add_namespace("user");
        self.linux_mut().uid_mappings = mappings.to_vec();
        self.linux_mut().gid_mappings = mappings.to_vec();
    }

    fn set_args(&mut self, args: &[&str]) {
        self.process_mut().args = strings(args);
    }
}
