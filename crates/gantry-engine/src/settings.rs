//! What a container is to be, whoever asked for it: the one request that every front door maps to.
//!
//! It is complete and says nothing twice: what an image leaves open is filled in, names of users are numbers, and volumes
//! are paths. It is kept as long as the container is, so a new field has a default that means what was meant before.

use std::collections::BTreeMap;

use gantry_model::oci::linux::{Device, DeviceRule, IntelRdt, NetDevice, Resources};
use gantry_model::oci::spec::{Hooks, IdMapping, Rlimit, User};
use serde::{Deserialize, Serialize};

/// What a container is to be.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// The program and its arguments; there is at least one.
    pub args: Vec<String>,
    /// Environment, `NAME=value`; of names given twice the last counts.
    pub env: Vec<String>,
    /// The directory that it starts in; empty is `/`.
    pub working_dir: String,
    /// Who it runs as.
    pub user: User,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Whether an init process of ours reaps orphans and hands on signals.
    pub init: bool,
    /// Resource limits of its processes.
    pub rlimits: Vec<Rlimit>,
    /// Adjustment of the score by which the kernel chooses what to kill for want of memory, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// What it may do.
    pub security: Security,
    /// Which namespaces it shares.
    pub namespaces: Namespaces,
    /// Host name; empty is that of the sandbox.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// What is mounted, in any order.
    pub mounts: Vec<MountSetting>,
    /// Bytes of `/dev/shm`; 0 is 64 MiB.
    pub shm_size: u64,
    /// Whether there is no `/dev/shm`.
    pub no_shm: bool,
    /// Whether the root file system is read-only.
    pub readonly_root: bool,
    /// Device files of the host, by their place in the container.
    pub devices: Vec<DeviceSetting>,
    /// Further rules for devices.
    pub device_rules: Vec<DeviceRule>,
    /// Network devices that move in, by their name outside.
    pub net_devices: BTreeMap<String, NetDevice>,
    /// Class of cache and memory bandwidth.
    pub intel_rdt: Option<IntelRdt>,
    /// Programs to run at points of its life.
    pub hooks: Hooks,
    /// A user namespace of its own; none is the host's.
    pub user_namespace: Option<Mapping>,
    /// Limits.
    pub resources: Resources,
    /// Free-form, for the runtime.
    pub annotations: BTreeMap<String, String>,
}

/// A device file, and what may be done with it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceSetting {
    /// The file.
    #[serde(flatten)]
    pub device: Device,
    /// Of `rwm`: read, write, make.
    pub access: String,
}

/// A user namespace: a range of ids of the host, of which the first is root inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mapping {
    /// The first id on the host, of users and of groups.
    pub host_id: u32,
    /// How many.
    pub size: u32,
    /// The file of a namespace with these ids that is there already, such as its sandbox's.
    #[serde(default)]
    pub join: Option<String>,
}

impl Mapping {
    /// The same as the runtime wants it.
    pub fn ids(&self) -> IdMapping {
        IdMapping { container_id: 0, host_id: self.host_id, size: self.size }
    }
}

/// What a container may do beyond, or short of, what containers may do by default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Security {
    /// Everything: all capabilities and devices, and no filter, mask or read-only path.
    pub privileged: bool,
    /// Capabilities to add, with or without `CAP_`; `ALL` is all.
    pub cap_add: Vec<String>,
    /// Capabilities to take away, which goes before adding.
    pub cap_drop: Vec<String>,
    /// Whether its processes may gain no privileges by executing programs.
    pub no_new_privileges: bool,
    /// The system call filter.
    pub seccomp: Filter,
    /// AppArmor profile; none is the default where there is one.
    pub apparmor: Option<String>,
    /// SELinux label of processes.
    pub selinux_label: String,
    /// SELinux label of mounts.
    pub mount_label: String,
    /// Paths that cannot be read; none is the default list.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that cannot be written; none is the default list.
    pub readonly_paths: Option<Vec<String>>,
    /// Whether its cgroups can be written; none is so where everything is allowed.
    pub writable_cgroups: Option<bool>,
}

/// A system call filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Filter {
    /// The engine's own; none where everything is allowed.
    #[default]
    Default,
    /// The one that is built in, also where everything is allowed.
    Builtin,
    /// None.
    Unconfined,
    /// A profile, as JSON: of the runtime specification, or with Docker's conditions.
    Profile(String),
}

/// Which namespaces a container has to itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Namespaces {
    /// Network.
    pub network: Namespace,
    /// System V IPC and POSIX message queues.
    pub ipc: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// Process ids.
    pub pid: Namespace,
    /// Cgroups.
    pub cgroup: Namespace,
}

/// Whose a namespace is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Namespace {
    /// The container's own.
    #[default]
    Own,
    /// The host's.
    Host,
    /// One that is there, by the path of its file: a sandbox's, or another container's.
    Path(String),
}

/// Something to mount.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MountSetting {
    /// Absolute path in the container.
    pub target: String,
    /// Whether it is read-only.
    #[serde(default)]
    pub readonly: bool,
    /// What is mounted.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum MountSource {
    /// A file or directory of the host.
    #[serde(rename_all = "camelCase")]
    Bind {
        /// Absolute path.
        path: String,
        /// How mounts are handed on, `rprivate` by default.
        #[serde(default)]
        propagation: String,
        /// Whether mounts below are left out.
        #[serde(default)]
        non_recursive: bool,
        /// How far a read-only mount reaches.
        #[serde(default)]
        reach: Reach,
    },
    /// A file system in memory.
    #[serde(rename_all = "camelCase")]
    Tmpfs {
        /// Options of mount(8), such as `size=64m`.
        #[serde(default)]
        options: Vec<String>,
    },
    /// Any other mount of the runtime.
    #[serde(rename_all = "camelCase")]
    Other {
        /// Type of the file system.
        kind: String,
        /// What it is made from.
        source: String,
        /// Options of mount(8).
        #[serde(default)]
        options: Vec<String>,
    },
}

/// How far read-only reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reach {
    /// To mounts below too, where the kernel can.
    #[default]
    Deep,
    /// To mounts below too, or there is no container.
    AllOrNothing,
    /// Not to mounts below.
    Flat,
}
