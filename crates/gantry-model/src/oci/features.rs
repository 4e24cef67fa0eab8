//! The features document: what a runtime can do, as `features` prints it (features.md, features-linux.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a runtime can do (features.md).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// The oldest version of the specification that is accepted.
    pub oci_version_min: String,
    /// The newest version of the specification that is accepted.
    pub oci_version_max: String,
    /// Kinds of hooks.
    pub hooks: Vec<String>,
    /// Mount options.
    pub mount_options: Vec<String>,
    /// What concerns Linux.
    pub linux: LinuxFeatures,
    /// Further facts, by reverse domain name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Annotations that may make a container unsafe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub potentially_unsafe_config_annotations: Vec<String>,
}

/// What concerns Linux (features-linux.md).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxFeatures {
    /// Kinds of namespaces.
    pub namespaces: Vec<String>,
    /// Capabilities.
    pub capabilities: Vec<String>,
    /// Control groups.
    pub cgroup: CgroupFeatures,
    /// System call filters.
    pub seccomp: SeccompFeatures,
    /// AppArmor.
    pub apparmor: Enabled,
    /// SELinux.
    pub selinux: Enabled,
    /// Resource director technology.
    pub intel_rdt: IntelRdtFeatures,
    /// NUMA memory policy.
    pub memory_policy: MemoryPolicyFeatures,
    /// Extensions of mounts.
    pub mount_extensions: MountExtensions,
    /// Network devices moved into the container.
    pub net_devices: Enabled,
}

/// Whether something is built in, on whatever host.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Enabled {
    /// Whether it is.
    pub enabled: bool,
}

/// Control groups (features-linux.md, Cgroup).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CgroupFeatures {
    /// Version 1.
    pub v1: bool,
    /// Version 2.
    pub v2: bool,
    /// The system's systemd as the driver.
    pub systemd: bool,
    /// The user's systemd as the driver.
    pub systemd_user: bool,
    /// The RDMA controller.
    pub rdma: bool,
}

/// System call filters (features-linux.md, Seccomp).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompFeatures {
    /// Whether filters are built in.
    pub enabled: bool,
    /// Actions.
    pub actions: Vec<String>,
    /// Operators.
    pub operators: Vec<String>,
    /// Architectures.
    pub archs: Vec<String>,
    /// Flags whose names are known.
    pub known_flags: Vec<String>,
    /// Flags that the kernel takes.
    pub supported_flags: Vec<String>,
}

/// Resource director technology (features-linux.md, IntelRdt).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IntelRdtFeatures {
    /// Whether it is built in.
    pub enabled: bool,
    /// Whether `schemata` is.
    pub schemata: bool,
    /// Whether monitoring is.
    pub monitoring: bool,
}

/// NUMA memory policy (features-linux.md, MemoryPolicy).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryPolicyFeatures {
    /// Modes.
    pub modes: Vec<String>,
    /// Flags.
    pub flags: Vec<String>,
}

/// Extensions of mounts (features-linux.md, MountExtensions).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MountExtensions {
    /// Idmapped mounts.
    pub idmap: Enabled,
}
