//! What a container uses, in the shape in which `events --stats` prints it.
//!
//! The shape was made for cgroup v1; numbers of v2 are put where their counterparts stand.

mod read;
mod resctrl;
mod v1;
mod v2;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::Error;
use crate::location::Location;

pub use resctrl::{CacheInfo, CacheOccupancy, IntelRdtStats, MemoryBandwidth, MemoryBandwidthInfo};

fn zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Processors and memory nodes; v1 alone.
    pub cpuset: CpusetStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block I/O.
    pub blkio: BlkioStats,
    /// Huge pages, by size.
    pub hugetlb: BTreeMap<String, HugetlbStats>,
    /// Class of cache and memory bandwidth: not a matter of cgroups, empty unless the caller fills it.
    pub intel_rdt: IntelRdtStats,
    /// Network interfaces: not a matter of cgroups either; null unless the caller fills it.
    pub network_interfaces: Option<Vec<NetworkInterface>>,
    /// RDMA devices.
    #[serde(skip_serializing_if = "zero")]
    pub rdma: RdmaStats,
    /// Miscellaneous resources, by name.
    #[serde(skip_serializing_if = "zero")]
    pub misc: BTreeMap<String, MiscStats>,
}

/// A network interface's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // the names say it
pub struct NetworkInterface {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// Processor time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CpuStats {
    /// Time used.
    #[serde(skip_serializing_if = "zero")]
    pub usage: CpuUsage,
    /// Time withheld.
    #[serde(skip_serializing_if = "zero")]
    pub throttling: Throttling,
    /// Time waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// Processor time used, nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// All.
    #[serde(skip_serializing_if = "zero")]
    pub total: u64,
    /// By processor; v1 alone.
    #[serde(skip_serializing_if = "zero")]
    pub percpu: Vec<u64>,
    /// By processor, in the kernel; v1 alone.
    #[serde(skip_serializing_if = "zero")]
    pub percpu_kernel: Vec<u64>,
    /// By processor, in user mode; v1 alone.
    #[serde(skip_serializing_if = "zero")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In user mode.
    pub user: u64,
}

/// Processor time withheld.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which the container ran.
    #[serde(skip_serializing_if = "zero")]
    pub periods: u64,
    /// Periods of them in which it used up its quota.
    #[serde(skip_serializing_if = "zero")]
    pub throttled_periods: u64,
    /// Time it could not run, nanoseconds.
    #[serde(skip_serializing_if = "zero")]
    pub throttled_time: u64,
}

/// Pressure: the share of time that some, or all, tasks wait for a resource (Documentation/accounting/psi.rst).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Psi {
    /// Some wait.
    #[serde(skip_serializing_if = "zero")]
    pub some: PsiLine,
    /// All wait.
    #[serde(skip_serializing_if = "zero")]
    pub full: PsiLine,
}

/// A line of a pressure file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PsiLine {
    /// Percent over ten seconds.
    pub avg10: f64,
    /// Percent over a minute.
    pub avg60: f64,
    /// Percent over five minutes.
    pub avg300: f64,
    /// Microseconds since the cgroup was made.
    pub total: u64,
}

/// Files of the v1 cpuset controller, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct CpusetStats {
    #[serde(skip_serializing_if = "zero")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "zero")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryStats {
    /// Page cache, bytes.
    #[serde(skip_serializing_if = "zero")]
    pub cache: u64,
    /// Memory.
    #[serde(skip_serializing_if = "zero")]
    pub usage: MemoryEntry,
    /// Memory and swap together.
    #[serde(skip_serializing_if = "zero")]
    pub swap: MemoryEntry,
    /// Kernel memory; v1 alone.
    #[serde(skip_serializing_if = "zero")]
    pub kernel: MemoryEntry,
    /// Kernel TCP memory; v1 alone.
    #[serde(rename = "kernelTCP", skip_serializing_if = "zero")]
    pub kernel_tcp: MemoryEntry,
    /// The lines of `memory.stat`.
    #[serde(skip_serializing_if = "zero")]
    pub raw: BTreeMap<String, u64>,
    /// Time waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// One kind of memory, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryEntry {
    /// Limit; `u64::MAX` is none.
    pub limit: u64,
    /// In use.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// Most that ever was in use.
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PidsStats {
    /// Now.
    #[serde(skip_serializing_if = "zero")]
    pub current: u64,
    /// Limit; 0 is none.
    #[serde(skip_serializing_if = "zero")]
    pub limit: u64,
}

/// Block I/O, by device and operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the names say it
pub struct BlkioStats {
    #[serde(skip_serializing_if = "zero")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "zero")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "zero")]
    pub io_queued_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "zero")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "zero")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "zero")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "zero")]
    pub io_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "zero")]
    pub sectors_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// A count of one device and operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlkioEntry {
    /// Major number.
    #[serde(skip_serializing_if = "zero")]
    pub major: u64,
    /// Minor number.
    #[serde(skip_serializing_if = "zero")]
    pub minor: u64,
    /// Operation: `Read`, `Write`, ...
    #[serde(skip_serializing_if = "zero")]
    pub op: String,
    /// Count, in the unit of its list.
    #[serde(skip_serializing_if = "zero")]
    pub value: u64,
}

/// Huge pages of one size, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HugetlbStats {
    /// In use.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// Most that ever was in use; v1 alone.
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// RDMA devices: what is allowed, and what is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RdmaStats {
    /// Limits.
    #[serde(skip_serializing_if = "zero")]
    pub limit: Vec<RdmaEntry>,
    /// In use.
    #[serde(skip_serializing_if = "zero")]
    pub current: Vec<RdmaEntry>,
}

/// Numbers of an RDMA device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RdmaEntry {
    /// Name.
    pub device: String,
    /// Handles; `u32::MAX` is no limit.
    pub hca_handles: u32,
    /// Objects; `u32::MAX` is no limit.
    pub hca_objects: u32,
}

/// A miscellaneous resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MiscStats {
    /// In use.
    pub usage: u64,
    /// How often the limit was hit.
    pub events: u64,
}

impl Location {
    /// What the container uses now. A controller that is not there, or a file that an older kernel lacks, counts nothing.
    pub fn stats(&self) -> Result<Stats, Error> {
        let mut stats = Stats::default();
        if let Some(dir) = self.unified_dir() {
            // In hybrid, the controllers that v1 has are read there, and win.
            v2::read(dir, &mut stats)?;
        }
        v1::read(self, &mut stats)?;
        Ok(stats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape() {
        let stats = Stats {
            pids: PidsStats { current: 1, limit: 0 },
            cpu: CpuStats { psi: Some(Psi::default()), ..CpuStats::default() },
            memory: MemoryStats { usage: MemoryEntry { limit: 5, ..MemoryEntry::default() }, ..MemoryStats::default() },
            ..Stats::default()
        };
        assert_eq!(
            serde_json::to_string(&stats).unwrap(),
            r#"{"cpu":{"psi":{}},"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},"memory":{"usage":{"limit":5,"failcnt":0}},"pids":{"current":1},"blkio":{},"hugetlb":{},"intel_rdt":{},"network_interfaces":null}"#
        );
    }
}
