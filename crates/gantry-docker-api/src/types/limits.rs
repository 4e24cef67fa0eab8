//! The limits of a container, and its devices.

use std::collections::BTreeMap;

use gantry_engine::request::{DeviceMapping, DeviceRequest};
use gantry_model::oci::linux::{BlockIo, Cpu, Memory, Pids, Resources};
use gantry_model::oci::spec::Rlimit;
use serde::Deserialize;

use super::nullable;
use crate::error::{Failure, Outcome};

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

pub(crate) fn device(device: &Device) -> DeviceMapping {
    DeviceMapping {
        host: device.path_on_host.clone(),
        container: device.path_in_container.clone(),
        permissions: device.cgroup_permissions.clone(),
    }
}

pub(crate) fn device_request(asked: &DeviceAsked) -> DeviceRequest {
    DeviceRequest {
        driver: asked.driver.clone(),
        count: asked.count,
        ids: asked.ids.clone(),
        capabilities: asked.capabilities.clone(),
        options: asked.options.clone(),
    }
}

pub(crate) fn rlimit(limit: &Ulimit) -> Rlimit {
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
        self.processors()?;
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

    /// Refuses shares of processors that there cannot be.
    fn processors(&self) -> Outcome<()> {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as i64;
        if self.nano_cpus < 0 || self.nano_cpus > cpus * 1_000_000_000 {
            let words = format!("Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available");
            return Err(Failure::invalid(words));
        }
        if self.cpu_period != 0 && !(1000..=1_000_000).contains(&self.cpu_period) {
            let words = "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)";
            return Err(Failure::invalid(words));
        }
        if self.cpu_quota > 0 && self.cpu_quota < 1000 {
            return Err(Failure::invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)"));
        }
        for (what, list) in [("cpus", &self.cpuset_cpus), ("mems", &self.cpuset_mems)] {
            if !is_list(list) {
                return Err(Failure::invalid(format!(
                    "Invalid value {list} for cpuset {what}: invalid format: {list}"
                )));
            }
        }
        Ok(())
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

/// Whether a text is empty or a list of numbers and ranges, as in `0-3,7`.
fn is_list(text: &str) -> bool {
    let is_part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((first.parse::<u32>(), last.parse::<u32>()), (Ok(first), Ok(last)) if first <= last)
    };
    text.is_empty() || text.split(',').all(is_part)
}

type WeightDeviceAsked = WeightDevice;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        for (text, expect) in [("", true), ("0", true), ("0-3,7", true), ("3-0", false), ("x", false), ("0,", false)] {
            assert_eq!(is_list(text), expect, "{text}");
        }
    }

    #[test]
    fn refused() {
        let check = |document: &str, expect: &str| {
            let limits: Limits = serde_json::from_str(document).unwrap();
            let found = limits.resources().map_err(|failure| failure.message).err().unwrap_or_default();
            assert!(found.starts_with(expect) && found.is_empty() == expect.is_empty(), "{document}: {found}");
        };
        check("{}", "");
        check(r#"{"Memory":67108864,"CpuShares":2,"CpusetCpus":"0","PidsLimit":-1,"CpuQuota":-1}"#, "");
        check(r#"{"Memory":1}"#, "Minimum memory limit allowed is 6MB");
        check(r#"{"Memory":67108864,"MemorySwap":67000000}"#, "Minimum memoryswap limit");
        check(r#"{"MemorySwap":67000000}"#, "You should always set the Memory limit");
        check(r#"{"NanoCpus":-1}"#, "Range of CPUs is from 0.01 to ");
        check(r#"{"NanoCpus":1000000,"CpuQuota":5000}"#, "Conflicting options: Nano CPUs and CPU Quota");
        check(r#"{"CpuPeriod":5}"#, "CPU cfs period can not be less than 1ms");
        check(r#"{"CpuQuota":5}"#, "CPU cfs quota can not be less than 1ms");
        check(r#"{"CpusetCpus":"a"}"#, "Invalid value a for cpuset cpus: invalid format: a");
        check(r#"{"BlkioWeightDevice":[{"Path":"/dev/null","Weight":10}]}"#, "no such block device: /dev/null");
    }
}
