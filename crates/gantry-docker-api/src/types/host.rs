//! `HostConfig`: how a container stands on its host.

use std::collections::BTreeMap;

use gantry_engine::request::{
    Host, LogConfig, MountKind, MountRequest, NetworkMode, Publish, Restart, Sharing, UserNamespace,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::limits::{Limits, device, device_request, rlimit};
use super::nullable;
use crate::error::{Failure, Outcome};

/// `HostConfig`, as far as it is understood.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct HostConfig {
    #[serde(deserialize_with = "nullable")]
    pub(crate) binds: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) mounts: Vec<Mount>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) tmpfs: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) volumes_from: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) volume_driver: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) log_config: LogSetting,
    #[serde(deserialize_with = "nullable")]
    pub(crate) network_mode: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) port_bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) publish_all_ports: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) restart_policy: RestartPolicy,
    #[serde(deserialize_with = "nullable")]
    pub(crate) auto_remove: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cap_add: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cap_drop: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cgroupns_mode: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) dns: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) dns_options: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) dns_search: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) extra_hosts: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) group_add: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) ipc_mode: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) links: Vec<String>,
    pub(crate) oom_score_adj: Option<i32>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) pid_mode: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) privileged: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) readonly_rootfs: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) security_opt: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) storage_opt: BTreeMap<String, String>,
    #[serde(rename = "UTSMode", deserialize_with = "nullable")]
    pub(crate) uts_mode: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) userns_mode: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) shm_size: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) sysctls: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) runtime: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) isolation: String,
    pub(crate) masked_paths: Option<Vec<String>>,
    pub(crate) readonly_paths: Option<Vec<String>>,
    pub(crate) init: Option<bool>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    pub(crate) limits: Limits,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct LogSetting {
    #[serde(deserialize_with = "nullable")]
    r#type: String,
    #[serde(deserialize_with = "nullable")]
    config: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PortBinding {
    #[serde(deserialize_with = "nullable")]
    host_ip: String,
    #[serde(deserialize_with = "nullable")]
    host_port: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RestartPolicy {
    #[serde(deserialize_with = "nullable")]
    pub(crate) name: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) maximum_retry_count: i64,
}

/// A mount, in full.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Mount {
    r#type: String,
    #[serde(deserialize_with = "nullable")]
    source: String,
    #[serde(deserialize_with = "nullable")]
    target: String,
    #[serde(deserialize_with = "nullable")]
    read_only: bool,
    #[serde(deserialize_with = "nullable")]
    bind_options: BindOptions,
    #[serde(deserialize_with = "nullable")]
    volume_options: VolumeOptions,
    #[serde(deserialize_with = "nullable")]
    tmpfs_options: TmpfsOptions,
    #[serde(deserialize_with = "nullable")]
    image_options: ImageOptions,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct BindOptions {
    propagation: String,
    non_recursive: bool,
    create_mountpoint: bool,
    read_only_non_recursive: bool,
    read_only_force_recursive: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct VolumeOptions {
    no_copy: bool,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    subpath: String,
    #[serde(deserialize_with = "nullable")]
    driver_config: DriverConfig,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DriverConfig {
    name: String,
    #[serde(deserialize_with = "nullable")]
    options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TmpfsOptions {
    #[serde(deserialize_with = "nullable")]
    size_bytes: u64,
    #[serde(deserialize_with = "nullable")]
    mode: u32,
    #[serde(deserialize_with = "nullable")]
    options: Vec<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ImageOptions {
    subpath: String,
}

impl Mount {
    fn request(&self) -> Outcome<MountRequest> {
        let kind = match self.r#type.as_str() {
            "bind" => MountKind::Bind,
            "volume" => MountKind::Volume,
            "tmpfs" => MountKind::Tmpfs,
            "image" => MountKind::Image,
            other => {
                return Err(Failure::invalid(format!("invalid mount config for type {other:?}: mount type unknown")));
            }
        };
        let (bind, volume, tmpfs) = (&self.bind_options, &self.volume_options, &self.tmpfs_options);
        Ok(MountRequest {
            kind,
            source: self.source.clone(),
            target: self.target.clone(),
            readonly: self.read_only,
            propagation: bind.propagation.clone(),
            non_recursive: bind.non_recursive,
            create_source: bind.create_mountpoint,
            readonly_non_recursive: bind.read_only_non_recursive,
            readonly_force_recursive: bind.read_only_force_recursive,
            no_copy: volume.no_copy,
            subpath: if kind == MountKind::Image { self.image_options.subpath.clone() } else { volume.subpath.clone() },
            labels: volume.labels.clone(),
            driver: volume.driver_config.name.clone(),
            driver_options: volume.driver_config.options.clone(),
            tmpfs_size: tmpfs.size_bytes,
            tmpfs_mode: tmpfs.mode,
            tmpfs_options: tmpfs.options.iter().map(|words| words.join("=")).collect(),
        })
    }
}

/// The policy of a name and a number.
pub(crate) fn restart(policy: &RestartPolicy) -> Outcome<Restart> {
    let most = policy.maximum_retry_count;
    let alone = |restart| {
        if most == 0 {
            return Ok(restart);
        }
        Err(Failure::invalid("invalid restart policy: maximum retry count can only be used with 'on-failure'"))
    };
    match policy.name.as_str() {
        "" | "no" => alone(Restart::No),
        "always" => alone(Restart::Always),
        "unless-stopped" => alone(Restart::UnlessStopped),
        "on-failure" => u32::try_from(most)
            .map(Restart::OnFailure)
            .map_err(|_| Failure::invalid("invalid restart policy: maximum retry count cannot be negative")),
        other => {
            let words = format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            );
            Err(Failure::invalid(words))
        }
    }
}

/// With whom a namespace is shared.
fn sharing(what: &str, text: &str) -> Outcome<Sharing> {
    Ok(match text {
        "" | "private" => Sharing::Private,
        "shareable" => Sharing::Shareable,
        "host" => Sharing::Host,
        "none" => Sharing::None,
        _ => match text.strip_prefix("container:") {
            Some(other) if !other.is_empty() => Sharing::Container(other.to_owned()),
            _ => return Err(Failure::invalid(format!("invalid {what} mode: {text}"))),
        },
    })
}

/// The network of a mode.
pub(crate) fn network_mode(text: &str) -> Outcome<NetworkMode> {
    Ok(match text {
        "" | "default" | "bridge" => NetworkMode::Bridge,
        "none" => NetworkMode::None,
        "host" => NetworkMode::Host,
        _ => match text.strip_prefix("container:") {
            Some("") => {
                return Err(Failure::invalid("Invalid network mode: invalid container format container:<name|id>"));
            }
            Some(other) => NetworkMode::Container(other.to_owned()),
            None => NetworkMode::Named(text.to_owned()),
        },
    })
}

impl HostConfig {
    /// Refuses what nothing can be made of.
    fn check(&self) -> Outcome<()> {
        if !matches!(self.isolation.as_str(), "" | "default") {
            return Err(Failure::invalid(format!(
                "invalid isolation {:?}: Linux has only the default",
                self.isolation
            )));
        }
        if !matches!(self.runtime.as_str(), "" | "runc" | "gantry" | "gantry-oci") {
            return Err(Failure::invalid(format!("unknown or invalid runtime name: {}", self.runtime)));
        }
        if let Some(score) = self.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
            let words = format!("Invalid value {score}, range for oom score adj is [-1000, 1000]");
            return Err(Failure::invalid(words));
        }
        if let Some(swappiness) = self.limits.memory_swappiness.filter(|swappiness| !(-1..=100).contains(swappiness)) {
            let words = format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100");
            return Err(Failure::invalid(words));
        }
        if self.annotations.contains_key("") {
            let words = "invalid Annotations: the empty string is not permitted as an annotation key";
            return Err(Failure::invalid(words));
        }
        if let Some(host) = self.extra_hosts.iter().find(|host| !host.contains([':', '='])) {
            return Err(Failure::invalid(format!("bad format for add-host: {host:?}")));
        }
        Ok(())
    }

    /// As the engine has it.
    pub(crate) fn host(&self) -> Outcome<Host> {
        self.check()?;
        let limits = &self.limits;
        Ok(Host {
            binds: self.binds.clone(),
            mounts: self.mounts.iter().map(Mount::request).collect::<Outcome<_>>()?,
            tmpfs: self.tmpfs.clone(),
            volumes_from: self.volumes_from.clone(),
            restart: restart(&self.restart_policy)?,
            auto_remove: self.auto_remove,
            log: LogConfig { driver: self.log_config.r#type.clone(), options: self.log_config.config.clone() },
            privileged: self.privileged,
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            security: self.security_opt.clone(),
            masked_paths: self.masked_paths.clone(),
            readonly_paths: self.readonly_paths.clone(),
            readonly_root: self.readonly_rootfs,
            init: self.init.unwrap_or_default(),
            devices: limits.devices.iter().map(device).collect(),
            device_rules: limits.device_cgroup_rules.clone(),
            device_requests: limits.device_requests.iter().map(device_request).collect(),
            ulimits: limits.ulimits.iter().map(rlimit).collect(),
            resources: limits.resources()?,
            oom_score_adj: self.oom_score_adj.filter(|score| *score != 0),
            ipc: sharing("IPC", &self.ipc_mode)?,
            pid: sharing("PID", &self.pid_mode)?,
            uts: sharing("UTS", &self.uts_mode)?,
            user_namespace: match self.userns_mode.as_str() {
                "" | "host" => UserNamespace::Host,
                "auto" => UserNamespace::Auto,
                other => return Err(Failure::invalid(format!("invalid USER mode: {other}"))),
            },
            cgroup_namespace: match self.cgroupns_mode.as_str() {
                "" => None,
                "host" => Some(Sharing::Host),
                "private" => Some(Sharing::Private),
                other => return Err(Failure::invalid(format!("invalid cgroup namespace mode: {other}"))),
            },
            cgroup_parent: limits.cgroup_parent.clone(),
            shm_size: u64::try_from(self.shm_size).map_err(|_| Failure::invalid("SHM size can not be less than 0"))?,
            sysctls: self.sysctls.clone(),
            storage: self.storage_opt.clone(),
            groups: self.group_add.clone(),
            annotations: self.annotations.clone(),
            restart_unhealthy: false,
        })
    }

    /// What is accepted, and yet may not be what was meant.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.limits.oom_kill_disable == Some(true) && self.limits.memory == 0 {
            let words = "OOM killer is disabled for the container, but no memory limit is set, this can result in the \
                         system running out of resources.";
            warnings.push(words.to_owned());
        }
        if self.network_mode == "host" && !self.port_bindings.is_empty() {
            warnings.push("Published ports are discarded when using host network mode".to_owned());
        }
        warnings
    }

    /// The ports that are to be published.
    pub(crate) fn publish(&self) -> Outcome<Vec<Publish>> {
        let mut list = Vec::new();
        for (port, bindings) in &self.port_bindings {
            let port = port.parse().map_err(|_| Failure::invalid(format!("invalid port specification: {port:?}")))?;
            let bindings = bindings.as_ref();
            for number in bindings.into_iter().flatten().map(|binding| binding.host_port.as_str()) {
                let (first, last) = number.split_once('-').unwrap_or((number, number));
                if !number.is_empty() && (first.parse::<u16>().is_err() || last.parse::<u16>().is_err()) {
                    return Err(Failure::invalid(format!("invalid port specification: {number:?}")));
                }
            }
            let none = vec![PortBinding::default()];
            let bindings = bindings.filter(|bindings| !bindings.is_empty()).unwrap_or(&none);
            list.extend(bindings.iter().map(|binding| Publish {
                port,
                host_ip: binding.host_ip.clone(),
                host_port: binding.host_port.clone(),
            }));
        }
        Ok(list)
    }
}

/// What `HostConfig` is if nothing is said.
pub(crate) fn defaults() -> Value {
    json!({
        "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "json-file", "Config": {}},
        "NetworkMode": "bridge", "PortBindings": null, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": false, "VolumeDriver": "", "VolumesFrom": null, "ConsoleSize": [0, 0], "CapAdd": null, "CapDrop": null,
        "CgroupnsMode": "", "Dns": null, "DnsOptions": null, "DnsSearch": null, "ExtraHosts": null, "GroupAdd": null,
        "IpcMode": "private", "Cgroup": "", "Links": null, "OomScoreAdj": 0, "PidMode": "", "Privileged": false,
        "PublishAllPorts": false, "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "",
        "ShmSize": 67_108_864, "Runtime": "runc", "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0,
        "CgroupParent": "", "BlkioWeight": 0, "BlkioWeightDevice": null, "BlkioDeviceReadBps": null, "BlkioDeviceWriteBps": null,
        "BlkioDeviceReadIOps": null, "BlkioDeviceWriteIOps": null, "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "", "Devices": null, "DeviceCgroupRules": null,
        "DeviceRequests": null, "MemoryReservation": 0, "MemorySwap": 0, "MemorySwappiness": null, "OomKillDisable": false,
        "PidsLimit": null, "Ulimits": null, "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
        "MaskedPaths": [
            "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
            "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"
        ],
        "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
    })
}

/// Values that are told only where they were given.
pub(crate) const OPTIONAL: [&str; 7] =
    ["Mounts", "Tmpfs", "Sysctls", "StorageOpt", "Init", "Annotations", "Capabilities"];
