//! What is asked of the engine: the typed requests that every front door maps to.
//!
//! Values are those that people give, not yet joined with an image or with the machine. They are kept with the container,
//! so each new field has a default that means what was meant before.

mod network;

use std::collections::{BTreeMap, BTreeSet};

use gantry_model::image::Healthcheck;
use gantry_model::oci::linux::Resources;
use gantry_model::oci::spec::Rlimit;
use gantry_model::platform::Platform;
use serde::{Deserialize, Serialize};

pub use network::{
    CreateNetwork, EndpointRequest, InvalidPort, Network, NetworkMode, Port, Protocol, Publish, SubnetRequest,
};

/// A container to be made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateContainer {
    /// Its name; none makes one up.
    pub name: Option<String>,
    /// The image, by name or id.
    pub image: String,
    /// Which platform of the image.
    pub platform: Option<Platform>,
    /// What it runs.
    pub config: Config,
    /// How it stands on the host.
    pub host: Host,
    /// Its network.
    pub network: Network,
    /// The sandbox that it is to be in, by id; none makes it one of its own.
    pub sandbox: Option<String>,
    /// The front door's own document, kept as it is and given back.
    pub origin: String,
}

/// What a container runs. What is left open is filled in from the image when the container is made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// Host name; empty is the beginning of its id.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// `USER[:GROUP]`, by name or number; empty is the image's.
    pub user: String,
    /// What is put before the command; none is the image's, an empty list none at all.
    pub entrypoint: Option<Vec<String>>,
    /// The command; none is the image's, unless there is an entry point.
    pub cmd: Option<Vec<String>>,
    /// Environment, `NAME=value`; a name without a value takes away the image's.
    pub env: Vec<String>,
    /// The directory that it starts in; empty is the image's.
    pub working_dir: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Ports that it serves.
    pub exposed_ports: BTreeSet<Port>,
    /// Paths for which it gets a volume of its own.
    pub volumes: BTreeSet<String>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Whether standard input stays open for clients that attach.
    pub stdin_open: bool,
    /// Whether standard input ends with the first client.
    pub stdin_once: bool,
    /// The signal that asks it to end; empty is the image's, or `SIGTERM`.
    pub stop_signal: String,
    /// Seconds until it is killed after that; -1 is never.
    pub stop_timeout: Option<i64>,
    /// How it is seen that it works; none is the image's.
    pub health: Option<Healthcheck>,
}

/// How a container stands on its host.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Host {
    /// Mounts as `SOURCE:TARGET[:OPTIONS]`.
    pub binds: Vec<String>,
    /// Mounts, each in full.
    pub mounts: Vec<MountRequest>,
    /// Memory file systems: target to options of mount(8).
    pub tmpfs: BTreeMap<String, String>,
    /// Containers whose volumes are mounted too, each with `:ro` or `:rw` after it.
    pub volumes_from: Vec<String>,
    /// When it is started again.
    pub restart: Restart,
    /// Whether it is removed when it has ended.
    pub auto_remove: bool,
    /// Where its output goes.
    pub log: LogConfig,
    /// Everything allowed.
    pub privileged: bool,
    /// Capabilities to add.
    pub cap_add: Vec<String>,
    /// Capabilities to take away.
    pub cap_drop: Vec<String>,
    /// Security options, such as `no-new-privileges`.
    pub security: Vec<String>,
    /// Paths that cannot be read; none is the default list.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that cannot be written; none is the default list.
    pub readonly_paths: Option<Vec<String>>,
    /// Whether the root file system is read-only.
    pub readonly_root: bool,
    /// Whether an init process reaps orphans and hands on signals.
    pub init: bool,
    /// Devices of the host.
    pub devices: Vec<DeviceMapping>,
    /// Device rules, such as `c 1:3 rwm`.
    pub device_rules: Vec<String>,
    /// Devices by what they can do or are called, such as those of CDI.
    pub device_requests: Vec<DeviceRequest>,
    /// Resource limits of processes.
    pub ulimits: Vec<Rlimit>,
    /// Limits of the cgroup.
    pub resources: Resources,
    /// Adjustment of the score by which the kernel chooses what to kill for want of memory.
    pub oom_score_adj: Option<i32>,
    /// System V IPC and shared memory.
    pub ipc: Sharing,
    /// Process ids.
    pub pid: Sharing,
    /// Host name.
    pub uts: Sharing,
    /// User ids; `Host` is none of its own.
    pub user_namespace: UserNamespace,
    /// Cgroups.
    pub cgroup_namespace: Option<Sharing>,
    /// The cgroup that its own is made in; empty is the engine's.
    pub cgroup_parent: String,
    /// Bytes of `/dev/shm`; 0 is 64 MiB.
    pub shm_size: u64,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Options of its root file system.
    pub storage: BTreeMap<String, String>,
    /// Groups to be in, by name or number.
    pub groups: Vec<String>,
    /// Free-form, for the runtime.
    pub annotations: BTreeMap<String, String>,
    /// Whether it is started again when its health check finds it unhealthy.
    pub restart_unhealthy: bool,
}

/// A mount, in full.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MountRequest {
    /// What is mounted.
    pub kind: MountKind,
    /// Path on the host, name of a volume, or reference of an image.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// Whether it is read-only.
    pub readonly: bool,
    /// How mounts are handed on.
    pub propagation: String,
    /// Whether mounts below are left out.
    pub non_recursive: bool,
    /// Whether the source is made if it is missing.
    pub create_source: bool,
    /// Whether a read-only mount leaves mounts below writable.
    pub readonly_non_recursive: bool,
    /// Whether a read-only mount must be so for all mounts below.
    pub readonly_force_recursive: bool,
    /// Whether a new volume gets nothing from the image.
    pub no_copy: bool,
    /// Path inside the volume or image.
    pub subpath: String,
    /// Labels of a new volume.
    pub labels: BTreeMap<String, String>,
    /// Driver of a new volume.
    pub driver: String,
    /// Options of the driver.
    pub driver_options: BTreeMap<String, String>,
    /// Bytes of a memory file system; 0 is unbounded.
    pub tmpfs_size: u64,
    /// Permission bits of its root; 0 is 1777.
    pub tmpfs_mode: u32,
    /// Further options of it, such as `uid=1000` or `noexec`.
    pub tmpfs_options: Vec<String>,
}

/// What can be mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum MountKind {
    /// A file or directory of the host.
    Bind,
    /// A volume.
    #[default]
    Volume,
    /// A file system in memory.
    Tmpfs,
    /// The content of an image.
    Image,
}

/// A device of the host, and where it is in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceMapping {
    /// Path on the host: a device, or a directory of devices.
    pub host: String,
    /// Path in the container; empty is the same.
    pub container: String,
    /// What may be done with it, of `rwm`; empty is all.
    pub permissions: String,
}

/// Devices that are asked for by what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceRequest {
    /// Who knows them, such as `cdi` or `nvidia`; empty leaves it to the capabilities.
    pub driver: String,
    /// How many; -1 is all.
    pub count: i64,
    /// Which, by name.
    pub ids: Vec<String>,
    /// What they must be able to do: one of these lists, all of it.
    pub capabilities: Vec<Vec<String>>,
    /// For the driver.
    pub options: BTreeMap<String, String>,
}

/// With whom a namespace is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Sharing {
    /// The container's own, or its sandbox's.
    #[default]
    Private,
    /// The container's own, and others may join it.
    Shareable,
    /// The host's.
    Host,
    /// That of another container, by name or id.
    Container(String),
    /// The container's own; for IPC, without shared memory.
    None,
}

/// Whose user ids a container has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum UserNamespace {
    /// The host's.
    #[default]
    Host,
    /// A range of ids that no other container has.
    Auto,
}

/// Where output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogConfig {
    /// The driver; empty is the engine's default.
    pub driver: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
}

/// When a container is started again after it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// Always.
    Always,
    /// Always, but not after a start of the engine if it had been stopped by hand.
    UnlessStopped,
    /// When it failed, so often at most; 0 is without bound.
    OnFailure(u32),
}

/// What is changed of a container that there is. What is none stays.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Update {
    /// Limits: each that is given.
    pub resources: Resources,
    /// When it is started again.
    pub restart: Option<Restart>,
    /// The front door's document afterwards.
    pub origin: Option<String>,
}

/// A further process in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateExec {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Environment, added to the container's.
    pub env: Vec<String>,
    /// The directory that it starts in; empty is the container's.
    pub working_dir: String,
    /// `USER[:GROUP]`; empty is the container's.
    pub user: String,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Whether standard input is attached.
    pub stdin: bool,
    /// Whether standard output is.
    pub stdout: bool,
    /// Whether standard error is.
    pub stderr: bool,
    /// Whether everything is allowed to it.
    pub privileged: bool,
    /// The keys that detach.
    pub detach_keys: String,
}

/// What of a process's streams a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// What it sends goes to standard input.
    pub stdin: bool,
    /// It gets standard output.
    pub stdout: bool,
    /// It gets standard error.
    pub stderr: bool,
}

/// How a container is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopOptions {
    /// The signal that asks it to end; none is its own.
    pub signal: Option<String>,
    /// Seconds until it is killed, -1 never; none is its own.
    pub timeout: Option<i64>,
}

/// How a container is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Whether it may run, and is killed then.
    pub force: bool,
    /// Whether its anonymous volumes go too.
    pub volumes: bool,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitFor {
    /// That it does not run.
    #[default]
    NotRunning,
    /// That it ends the next time.
    NextExit,
    /// That it is gone.
    Removed,
}
