//! `config.json`: process, root, mounts, hooks (config.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::linux::Linux;
use super::{is_default, nullable};

/// A container's configuration, `config.json` (config.md).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Version of the specification the document follows, semantic versioning.
    pub oci_version: String,
    /// The container's process; absent for a container that is only created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The root file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// Host name in the UTS namespace; empty leaves it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub hostname: String,
    /// NIS domain name in the UTS namespace; empty leaves it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub domainname: String,
    /// Mounts beyond the root, in order.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub mounts: Vec<Mount>,
    /// Programs to run at points of the life cycle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Arbitrary metadata, handed on in the state.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    /// What concerns Linux alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

/// The process of a container, or one that joins it by exec (config.md, Process).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Whether a pseudo-terminal is wired to the standard streams.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub terminal: bool,
    /// The terminal's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Whom the process runs as.
    pub user: User,
    /// Program and arguments.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub args: Vec<String>,
    /// Environment, `NAME=value`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub env: Vec<String>,
    /// Working directory, absolute, inside the root.
    pub cwd: String,
    /// Capability sets; absent keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub rlimits: Vec<Rlimit>,
    /// Whether exec can no longer add privileges.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub no_new_privileges: bool,
    /// AppArmor profile; empty keeps the present one.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub apparmor_profile: String,
    /// Adjustment of the OOM killer's score, -1000 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// Scheduling policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// SELinux label; empty keeps the present one.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub selinux_label: String,
    /// I/O priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// CPU affinity of a process that joins by exec.
    #[serde(rename = "execCPUAffinity", default, skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// A terminal's size in characters (config.md, Process).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsoleSize {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

/// User and groups of a process (config.md, User).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// User id inside the container.
    pub uid: u32,
    /// Group id inside the container.
    pub gid: u32,
    /// File mode creation mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Further group ids.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub additional_gids: Vec<u32>,
}

/// Capability sets, names as `CAP_CHOWN` (config.md, Linux Process).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// Bounding set.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub bounding: Vec<String>,
    /// Effective set.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub effective: Vec<String>,
    /// Inheritable set.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub inheritable: Vec<String>,
    /// Permitted set.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub permitted: Vec<String>,
    /// Ambient set.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub ambient: Vec<String>,
}

/// A resource limit (config.md, POSIX process).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rlimit {
    /// The limit's name, as `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Ceiling; all ones is unlimited.
    pub hard: u64,
    /// Value in force.
    pub soft: u64,
}

/// Scheduling policy and parameters, as sched_setattr(2) (config.md, Linux Process).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scheduler {
    /// Policy, as `SCHED_FIFO`.
    pub policy: String,
    /// Nice value for SCHED_OTHER and SCHED_BATCH.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub nice: i32,
    /// Static priority for SCHED_FIFO and SCHED_RR.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub priority: i32,
    /// Flags, as `SCHED_FLAG_RESET_ON_FORK`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub flags: Vec<String>,
    /// SCHED_DEADLINE runtime, nanoseconds.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub runtime: u64,
    /// SCHED_DEADLINE deadline, nanoseconds.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub deadline: u64,
    /// SCHED_DEADLINE period, nanoseconds.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub period: u64,
}

/// I/O scheduling class and priority (config.md, Linux Process).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IoPriority {
    /// Class, as `IOPRIO_CLASS_BE`.
    pub class: String,
    /// Priority within the class, 0 (highest) to 7.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub priority: i32,
}

/// CPU lists for a process that joins (config.md, Linux Process).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuAffinity {
    /// List in force while joining, as `0-3,7`; empty leaves it.
    #[serde(rename = "initial", default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub initial: String,
    /// List in force from exec on; empty leaves it.
    #[serde(rename = "final", default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub final_: String,
}

/// The root file system (config.md, Root).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Root {
    /// Directory, absolute or relative to the bundle.
    pub path: String,
    /// Whether it is mounted read-only.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub readonly: bool,
}

/// A mount (config.md, Mounts).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Where, inside the root.
    pub destination: String,
    /// File system type, or `bind`.
    #[serde(rename = "type", default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub kind: String,
    /// Device or file on the host; relative to the bundle.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub source: String,
    /// Options as of fstab(5).
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub options: Vec<String>,
    /// User ids of an idmapped mount.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids of an idmapped mount.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub gid_mappings: Vec<IdMapping>,
}

/// A range of ids, container to host (config-linux.md, User namespace mappings).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// A program to run at a point of the life cycle (config.md, POSIX-platform Hooks).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// Absolute path of the program.
    pub path: String,
    /// Arguments, the first the program's name.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub args: Vec<String>,
    /// Environment.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub env: Vec<String>,
    /// Seconds after which it is killed; above zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

/// Hooks by the point at which they run (config.md, POSIX-platform Hooks).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// Deprecated: as create_runtime, before it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub prestart: Vec<Hook>,
    /// In the runtime's namespaces, before the root is changed.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before the root is changed.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub create_container: Vec<Hook>,
    /// In the container, before its program.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub start_container: Vec<Hook>,
    /// In the runtime's namespaces, after the program started.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub poststart: Vec<Hook>,
    /// In the runtime's namespaces, after deletion.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub poststop: Vec<Hook>,
}
