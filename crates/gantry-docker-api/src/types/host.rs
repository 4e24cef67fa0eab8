//! `HostConfig`: how a container stands on its host.

use std::collections::BTreeMap;

use gantry_engine::request::{
    DeviceMapping, DeviceRequest, Host, LogConfig, MountKind, MountRequest, NetworkMode, Publish, Restart, Sharing,
    UserNamespace,
};
use gantry_model::oci::linux::{BlockIo, Cpu, Memory, Pids, Resources};
use gantry_model::oci::spec::Rlimit;
use serde::Deserialize;
use serde_json::{Value, json};

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

/// The limits, which can be changed later.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Limits {
    #[serde(deserialize_with = "nullable")]
    pub(crate) cpu_shares: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) memory: i64,
    #[serde(rename = "NanoCpus", deserialize_with = "nullable")]
    pub(crate) nano_cpus: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cgroup_parent: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) blkio_weight: u16,
    #[serde(deserialize_with = "nullable")]
    pub(crate) blkio_weight_device: Vec<WeightDevice>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) blkio_device_read_bps: Vec<RateDevice>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) blkio_device_write_bps: Vec<RateDevice>,
    #[serde(rename = "BlkioDeviceReadIOps", deserialize_with = "nullable")]
    pub(crate) blkio_device_read_iops: Vec<RateDevice>,
    #[serde(rename = "BlkioDeviceWriteIOps", deserialize_with = "nullable")]
    pub(crate) blkio_device_write_iops: Vec<RateDevice>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cpu_period: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cpu_quota: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cpu_realtime_period: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cpu_realtime_runtime: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cpuset_cpus: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) cpuset_mems: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) devices: Vec<Device>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) device_cgroup_rules: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) device_requests: Vec<DeviceAsked>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) memory_reservation: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) memory_swap: i64,
    pub(crate) memory_swappiness: Option<i64>,
    pub(crate) oom_kill_disable: Option<bool>,
    pub(crate) pids_limit: Option<i64>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) ulimits: Vec<Ulimit>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct WeightDevice {
    pub(crate) path: String,
    pub(crate) weight: u16,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RateDevice {
    pub(crate) path: String,
    pub(crate) rate: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Device {
    pub(crate) path_on_host: String,
    pub(crate) path_in_container: String,
    pub(crate) cgroup_permissions: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct DeviceAsked {
    #[serde(deserialize_with = "nullable")]
    driver: String,
    #[serde(deserialize_with = "nullable")]
    count: i64,
    #[serde(rename = "DeviceIDs", deserialize_with = "nullable")]
    ids: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    capabilities: Vec<Vec<String>>,
    #[serde(deserialize_with = "nullable")]
    options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Ulimit {
    name: String,
    hard: i64,
    soft: i64,
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
    /// As the engine has it.
    pub(crate) fn host(&self) -> Outcome<Host> {
        if !matches!(self.isolation.as_str(), "" | "default") {
            return Err(Failure::invalid(format!(
                "invalid isolation {:?}: Linux has only the default",
                self.isolation
            )));
        }
        if !matches!(self.runtime.as_str(), "" | "runc" | "gantry" | "gantry-oci") {
            return Err(Failure::invalid(format!("unknown or invalid runtime name: {}", self.runtime)));
        }
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

    /// The ports that are to be published.
    pub(crate) fn publish(&self) -> Outcome<Vec<Publish>> {
        let mut list = Vec::new();
        for (port, bindings) in &self.port_bindings {
            let port = port.parse().map_err(|_| Failure::invalid(format!("invalid port specification: {port:?}")))?;
            let none = vec![PortBinding::default()];
            let bindings = bindings.as_ref().filter(|bindings| !bindings.is_empty()).unwrap_or(&none);
            list.extend(bindings.iter().map(|binding| Publish {
                port,
                host_ip: binding.host_ip.clone(),
                host_port: binding.host_port.clone(),
            }));
        }
        Ok(list)
    }
}

fn device(device: &Device) -> DeviceMapping {
    DeviceMapping {
        host: device.path_on_host.clone(),
        container: device.path_in_container.clone(),
        permissions: device.cgroup_permissions.clone(),
    }
}

fn device_request(asked: &DeviceAsked) -> DeviceRequest {
    DeviceRequest {
        driver: asked.driver.clone(),
        count: asked.count,
        ids: asked.ids.clone(),
        capabilities: asked.capabilities.clone(),
        options: asked.options.clone(),
    }
}

fn rlimit(limit: &Ulimit) -> Rlimit {
    // -1 is without bound, which is all ones.
    let value = |number: i64| number as u64;
    Rlimit { kind: format!("RLIMIT_{}", limit.name.to_uppercase()), hard: value(limit.hard), soft: value(limit.soft) }
}

impl Limits {
    /// As the runtime has them.
    pub(crate) fn resources(&self) -> Outcome<Resources> {
        let some = |value: i64| (value != 0).then_some(value);
        let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value != 0);
        if self.memory != 0 && self.memory < 6 << 20 {
            return Err(Failure::invalid("Minimum memory limit allowed is 6MB"));
        }
        if self.memory > 0 && self.memory_swap > 0 && self.memory_swap < self.memory {
            let words = "Minimum memoryswap limit should be larger than memory limit, see usage";
            return Err(Failure::invalid(words));
        }
        if self.memory == 0 && self.memory_swap > 0 {
            return Err(Failure::invalid(
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            ));
        }
        if self.memory > 0 && self.memory_reservation > self.memory {
            let words = "Minimum memory limit can not be less than memory reservation limit, see usage";
            return Err(Failure::invalid(words));
        }
        if self.nano_cpus > 0 && (self.cpu_period > 0 || self.cpu_quota > 0) {
            let other = if self.cpu_period > 0 { "CPU Period" } else { "CPU Quota" };
            let words = format!("Conflicting options: Nano CPUs and {other} cannot both be set");
            return Err(Failure::invalid(words));
        }
        let (period, quota) = match self.nano_cpus {
            0 => (self.cpu_period, self.cpu_quota),
            nano => (100_000, nano / 10_000),
        };
        // Without a word of its own, swap is as much as memory.
        let swap = if self.memory_swap == 0 && self.memory > 0 { self.memory * 2 } else { self.memory_swap };
        let memory = Memory {
            limit: some(self.memory),
            reservation: some(self.memory_reservation),
            swap: some(swap),
            swappiness: self.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
            disable_oom_killer: self.oom_kill_disable.filter(|disable| *disable),
            ..Memory::default()
        };
        let cpu = Cpu {
            shares: positive(self.cpu_shares),
            quota: some(quota),
            period: positive(period),
            realtime_runtime: some(self.cpu_realtime_runtime),
            realtime_period: positive(self.cpu_realtime_period),
            cpus: self.cpuset_cpus.clone(),
            mems: self.cpuset_mems.clone(),
            ..Cpu::default()
        };
        Ok(Resources {
            memory: (memory != Memory::default()).then_some(memory),
            cpu: (cpu != Cpu::default()).then_some(cpu),
            pids: self.pids_limit.filter(|limit| *limit != 0).map(|limit| Pids { limit: Some(limit) }),
            block_io: self.block_io()?,
            ..Resources::default()
        })
    }

    fn block_io(&self) -> Outcome<Option<BlockIo>> {
        use gantry_model::oci::linux::{ThrottleDevice, WeightDevice};
        let numbers = |path: &str| {
            use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
            let found = std::fs::metadata(path).ok().filter(|found| found.file_type().is_block_device());
            let found = found.ok_or_else(|| Failure::invalid(format!("no such block device: {path}")))?;
            Ok::<_, Failure>((rustix::fs::major(found.rdev()).into(), rustix::fs::minor(found.rdev()).into()))
        };
        let rates = |list: &[RateDevice]| {
            let rate = |device: &RateDevice| {
                let (major, minor) = numbers(&device.path)?;
                Ok(ThrottleDevice { major, minor, rate: device.rate })
            };
            list.iter().map(rate).collect::<Outcome<Vec<_>>>()
        };
        let weight = |device: &WeightDeviceAsked| {
            let (major, minor) = numbers(&device.path)?;
            Ok(WeightDevice { major, minor, weight: Some(device.weight), leaf_weight: None })
        };
        let io = BlockIo {
            weight: (self.blkio_weight != 0).then_some(self.blkio_weight),
            weight_device: self.blkio_weight_device.iter().map(weight).collect::<Outcome<_>>()?,
            throttle_read_bps_device: rates(&self.blkio_device_read_bps)?,
            throttle_write_bps_device: rates(&self.blkio_device_write_bps)?,
            throttle_read_iops_device: rates(&self.blkio_device_read_iops)?,
            throttle_write_iops_device: rates(&self.blkio_device_write_iops)?,
            ..BlockIo::default()
        };
        Ok((io != BlockIo::default()).then_some(io))
    }
}

type WeightDeviceAsked = WeightDevice;

/// What `HostConfig` is if nothing is said.
pub(crate) fn defaults() -> Value {
    json!({
        "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "json-file", "Config": {}},
        "NetworkMode": "bridge", "PortBindings": {}, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": false, "VolumeDriver": "", "VolumesFrom": null, "ConsoleSize": [0, 0], "CapAdd": null, "CapDrop": null,
        "CgroupnsMode": "private", "Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": null, "GroupAdd": null,
        "IpcMode": "private", "Cgroup": "", "Links": null, "OomScoreAdj": 0, "PidMode": "", "Privileged": false,
        "PublishAllPorts": false, "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "",
        "ShmSize": 67_108_864, "Runtime": "runc", "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0,
        "CgroupParent": "", "BlkioWeight": 0, "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "", "Devices": [], "DeviceCgroupRules": null,
        "DeviceRequests": null, "MemoryReservation": 0, "MemorySwap": 0, "MemorySwappiness": null, "OomKillDisable": false,
        "PidsLimit": null, "Ulimits": [], "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
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
