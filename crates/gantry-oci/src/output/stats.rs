//! Statistics of a container in the form of `events`, which engines read: names and absences are theirs.

use std::collections::BTreeMap;

use serde::Serialize;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Statistics of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: CpuStats,
    /// CPUs and memory nodes, of cgroup v1.
    pub cpuset: CpusetStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block I/O.
    pub blkio: BlkioStats,
    /// Huge pages, by size as `2MB`.
    pub hugetlb: BTreeMap<String, HugetlbStats>,
    /// Intel RDT.
    pub intel_rdt: IntelRdtStats,
    /// Network devices that belong to the container.
    pub network_interfaces: Vec<NetworkInterface>,
}

/// CPU time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CpuStats {
    /// Used.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: CpuUsage,
    /// Withheld.
    #[serde(skip_serializing_if = "is_default")]
    pub throttling: Throttling,
    /// Pressure, of cgroup v2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<PressureStats>,
}

/// Used CPU time, nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// In all.
    #[serde(skip_serializing_if = "is_default")]
    pub total: u64,
    /// By CPU.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// By CPU, in the kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// By CPU, in programs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In programs.
    pub user: u64,
}

/// Withheld CPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods that went by.
    #[serde(skip_serializing_if = "is_default")]
    pub periods: u64,
    /// Those in which the quota was used up.
    #[serde(skip_serializing_if = "is_default")]
    pub throttled_periods: u64,
    /// Time withheld, nanoseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub throttled_time: u64,
}

/// Pressure: the share of time that tasks stood still for want of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PressureStats {
    /// Some task did.
    #[serde(skip_serializing_if = "is_default")]
    pub some: Pressure,
    /// All tasks did.
    #[serde(skip_serializing_if = "is_default")]
    pub full: Pressure,
}

/// One line of a pressure file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// Over 10 seconds, percent.
    pub avg10: f64,
    /// Over 60 seconds, percent.
    pub avg60: f64,
    /// Over 300 seconds, percent.
    pub avg300: f64,
    /// In all, microseconds.
    pub total: u64,
}

/// CPUs and memory nodes: the files of cgroup v1's cpuset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpusetStats {
    /// CPUs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// `cpu_exclusive`.
    pub cpu_exclusive: u64,
    /// Memory nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    /// `mem_hardwall`.
    pub mem_hardwall: u64,
    /// `mem_exclusive`.
    pub mem_exclusive: u64,
    /// `memory_migrate`.
    pub memory_migrate: u64,
    /// `memory_spread_page`.
    pub memory_spread_page: u64,
    /// `memory_spread_slab`.
    pub memory_spread_slab: u64,
    /// `memory_pressure`.
    pub memory_pressure: u64,
    /// `sched_load_balance`.
    pub sched_load_balance: u64,
    /// `sched_relax_domain_level`.
    pub sched_relax_domain_level: i64,
}

/// Memory, bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryStats {
    /// Page cache.
    #[serde(skip_serializing_if = "is_default")]
    pub cache: u64,
    /// Memory.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: MemoryEntry,
    /// Swap; with memory in cgroup v1.
    #[serde(skip_serializing_if = "is_default")]
    pub swap: MemoryEntry,
    /// Kernel memory, of cgroup v1.
    #[serde(skip_serializing_if = "is_default")]
    pub kernel: MemoryEntry,
    /// Buffers of TCP, of cgroup v1.
    #[serde(rename = "kernelTCP", skip_serializing_if = "is_default")]
    pub kernel_tcp: MemoryEntry,
    /// The lines of `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Pressure, of cgroup v2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<PressureStats>,
}

/// A kind of memory, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryEntry {
    /// Limit; all ones is none.
    pub limit: u64,
    /// Used.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: u64,
    /// Most that was used.
    #[serde(skip_serializing_if = "is_default")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PidsStats {
    /// At present.
    #[serde(skip_serializing_if = "is_default")]
    pub current: u64,
    /// Limit; 0 is none.
    #[serde(skip_serializing_if = "is_default")]
    pub limit: u64,
}

/// Block I/O, by device and operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlkioStats {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Operations that wait.
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub io_queued_recursive: Vec<BlkioEntry>,
    /// Time in service, nanoseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    /// Time in the queue, nanoseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    /// Operations that were merged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    /// Time of the disk, milliseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlkioEntry>,
    /// Sectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlkioEntry>,
    /// Pressure, of cgroup v2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<PressureStats>,
}

/// A number of block I/O.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlkioEntry {
    /// The device's major number.
    #[serde(skip_serializing_if = "is_default")]
    pub major: u64,
    /// The device's minor number.
    #[serde(skip_serializing_if = "is_default")]
    pub minor: u64,
    /// Operation, as `Read`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// The number.
    #[serde(skip_serializing_if = "is_default")]
    pub value: u64,
}

/// Huge pages of one size, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HugetlbStats {
    /// Used.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: u64,
    /// Most that was used.
    #[serde(skip_serializing_if = "is_default")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Intel RDT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IntelRdtStats {
    /// What the L3 cache allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<CacheInfo>,
    /// L3 line of the root's schemata.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema_root: String,
    /// L3 line of the container's schemata.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    /// What memory bandwidth allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<MemoryBandwidthInfo>,
    /// Memory bandwidth line of the root's schemata.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema_root: String,
    /// Memory bandwidth line of the container's schemata.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// All lines of the container's schemata.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// Memory bandwidth, by NUMA node; absent without monitoring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbm_stats: Option<Vec<MemoryBandwidth>>,
    /// Use of the L3 cache, by NUMA node; absent without monitoring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmt_stats: Option<Vec<CacheOccupancy>>,
}

/// What the L3 cache allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheInfo {
    /// Mask of its parts, hexadecimal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cbm_mask: String,
    /// Fewest bits of a mask.
    #[serde(skip_serializing_if = "is_default")]
    pub min_cbm_bits: u64,
    /// Number of classes.
    #[serde(skip_serializing_if = "is_default")]
    pub num_closids: u64,
}

/// What memory bandwidth allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryBandwidthInfo {
    /// Granularity, percent.
    #[serde(skip_serializing_if = "is_default")]
    pub bandwidth_gran: u64,
    /// Whether the delay is linear.
    #[serde(skip_serializing_if = "is_default")]
    pub delay_linear: u64,
    /// Least share, percent.
    #[serde(skip_serializing_if = "is_default")]
    pub min_bandwidth: u64,
    /// Number of classes.
    #[serde(skip_serializing_if = "is_default")]
    pub num_closids: u64,
}

/// Memory bandwidth of a NUMA node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryBandwidth {
    /// Bytes.
    pub mbm_total_bytes: u64,
    /// Bytes within the node.
    pub mbm_local_bytes: u64,
}

/// Use of the L3 cache of a NUMA node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheOccupancy {
    /// Bytes.
    pub llc_occupancy: u64,
}

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkInterface {
    /// Name inside the container.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Errors on receiving.
    pub rx_errors: u64,
    /// Packets dropped on receiving.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors on sending.
    pub tx_errors: u64,
    /// Packets dropped on sending.
    pub tx_dropped: u64,
}
