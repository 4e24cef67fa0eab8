//! What a container uses: from its cgroup, whichever version, and from its network.
//!
//! What the kernel does not count here is absent, never zero: a controller that is off, or a network that is the host's.

mod proc;

use std::collections::BTreeMap;
use std::path::Path;

use gantry_cgroup::{BlkioEntry, Location};
use serde::Serialize;

/// Why the numbers cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the cgroup.
    #[error(transparent)]
    Cgroup(#[from] gantry_cgroup::Error),
    /// A file of the kernel.
    #[error("read {path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A file of the kernel that holds something unexpected.
    #[error("{path}: unexpected content")]
    Content {
        /// Which.
        path: String,
    },
}

/// What a container used until a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// The moment, in nanoseconds since 1970.
    pub read: i64,
    /// Processor time.
    pub cpu: Option<Cpu>,
    /// What the machine's processors did.
    pub system: System,
    /// Memory.
    pub memory: Option<Memory>,
    /// Processes and threads.
    pub pids: Option<Pids>,
    /// Disks.
    pub blkio: Option<Blkio>,
    /// The network, by interface; none if it has none of its own.
    pub networks: Option<BTreeMap<String, Interface>>,
}

/// Processor time of a container, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// All.
    pub total: u64,
    /// In the kernel.
    pub kernel: u64,
    /// In programs.
    pub user: u64,
    /// By processor; only version 1 counts it.
    pub per_cpu: Option<Vec<u64>>,
    /// Periods in which it could have been held back, if it has a quota.
    pub periods: u64,
    /// Periods in which it was.
    pub throttled_periods: u64,
    /// How long it was.
    pub throttled_time: u64,
}

/// What the machine's processors did since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct System {
    /// Their time, idle or not, in nanoseconds.
    pub usage: u64,
    /// How many they are.
    pub cpus: u32,
}

/// Memory of a container, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// What is in use, with the page cache.
    pub usage: u64,
    /// The most that ever was; none if the kernel does not count it.
    pub max: Option<u64>,
    /// What may be: its limit, or all that the machine has.
    pub limit: u64,
    /// How often the limit was in the way; with version 2, for how often that ended in want of memory.
    pub failures: u64,
    /// All that the kernel counts, by its names.
    pub stat: BTreeMap<String, u64>,
}

impl Memory {
    /// What is in use and could not be given back at once: without pages of files that were not used lately.
    pub fn used(&self) -> u64 {
        let inactive = self.stat.get("total_inactive_file").or_else(|| self.stat.get("inactive_file"));
        inactive.filter(|inactive| **inactive < self.usage).map_or(self.usage, |inactive| self.usage - inactive)
    }
}

/// Processes and threads of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pids {
    /// How many there are.
    pub current: u64,
    /// How many there may be; none is without limit.
    pub limit: Option<u64>,
}

/// What a container did with disks. Of version 2 only bytes and operations are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the names say it, and the API has them
pub struct Blkio {
    pub service_bytes: Vec<BlkioEntry>,
    pub serviced: Vec<BlkioEntry>,
    pub queued: Vec<BlkioEntry>,
    pub service_time: Vec<BlkioEntry>,
    pub wait_time: Vec<BlkioEntry>,
    pub merged: Vec<BlkioEntry>,
    pub time: Vec<BlkioEntry>,
    pub sectors: Vec<BlkioEntry>,
}

/// What went over a network interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the names say it, and the API has them
pub struct Interface {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// Share of the processors' time between two moments, in percent of one processor. The first may be all zero.
pub fn cpu_percent(before: &Stats, now: &Stats) -> f64 {
    let total = |stats: &Stats| stats.cpu.as_ref().map_or(0, |cpu| cpu.total);
    let used = total(now).saturating_sub(total(before));
    let passed = now.system.usage.saturating_sub(before.system.usage);
    if passed == 0 {
        return 0.0;
    }
    #[allow(clippy::cast_precision_loss)] // for people to look at
    let share = used as f64 / passed as f64;
    share * f64::from(now.system.cpus) * 100.0
}

/// What a container uses now. `process` is one in its network namespace, unless that is the host's; `now` is nanoseconds
/// since 1970.
///
/// # Errors
/// The kernel's files cannot be read.
pub fn read(cgroup: &Location, process: Option<i32>, now: i64) -> Result<Stats, Error> {
    let counted = Counted::of(cgroup);
    let total = if counted.memory { proc::memory_total(&file("/proc/meminfo")?) } else { None };
    let networks = process.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok());
    let system = proc::system(&file("/proc/stat")?).ok_or_else(|| Error::Content { path: "/proc/stat".to_owned() })?;
    let events = cgroup.unified_dir().filter(|_| cgroup.v1_dir("memory").is_none());
    let oom = events.and_then(|dir| std::fs::read_to_string(dir.join("memory.events")).ok());
    let oom = oom.and_then(|text| proc::value(&text, "oom"));
    Ok(Stats {
        read: now,
        system,
        networks: networks.map(|text| proc::interfaces(&text)),
        ..from(cgroup.stats()?, counted, total, oom)
    })
}

fn file(path: &str) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })
}

/// What the kernel counts for a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    cpu: bool,
    memory: bool,
    blkio: bool,
    /// Whether disks are counted by version 2.
    unified_blkio: bool,
}

impl Counted {
    fn of(cgroup: &Location) -> Self {
        let v1 = |controller: &str| cgroup.v1_dir(controller).is_some();
        let v2 = |name: &str| cgroup.unified_dir().is_some_and(|dir: &Path| dir.join(name).exists());
        Self {
            cpu: v1("cpuacct") || v2("cpu.stat"),
            memory: v1("memory") || v2("memory.current"),
            blkio: v1("blkio") || v2("io.stat"),
            unified_blkio: !v1("blkio"),
        }
    }
}

/// The numbers of a cgroup, of which some may not be counted. `total` is the machine's memory, `oom` how often version 2
/// says that memory wanted. Pure.
fn from(stats: gantry_cgroup::Stats, counted: Counted, total: Option<u64>, oom: Option<u64>) -> Stats {
    let (usage, throttling) = (stats.cpu.usage, stats.cpu.throttling);
    let cpu = Cpu {
        total: usage.total,
        kernel: usage.kernel,
        user: usage.user,
        per_cpu: Some(usage.percpu).filter(|list| !list.is_empty()),
        periods: throttling.periods,
        throttled_periods: throttling.throttled_periods,
        throttled_time: throttling.throttled_time,
    };
    let memory = Memory {
        usage: stats.memory.usage.usage,
        // A kernel that does not count it says nothing, and some use there always was.
        max: Some(stats.memory.usage.max).filter(|max| *max != 0),
        limit: stats.memory.usage.limit.min(total.unwrap_or(u64::MAX)),
        failures: oom.unwrap_or(stats.memory.usage.failcnt),
        stat: stats.memory.raw,
    };
    let limit = Some(stats.pids.limit).filter(|limit| *limit != 0);
    let mut blkio = Blkio {
        service_bytes: stats.blkio.io_service_bytes_recursive,
        serviced: stats.blkio.io_serviced_recursive,
        queued: stats.blkio.io_queued_recursive,
        service_time: stats.blkio.io_service_time_recursive,
        wait_time: stats.blkio.io_wait_time_recursive,
        merged: stats.blkio.io_merged_recursive,
        time: stats.blkio.io_time_recursive,
        sectors: stats.blkio.sectors_recursive,
    };
    if counted.unified_blkio {
        // Clients know version 2 by the small letters.
        let lists = [&mut blkio.service_bytes, &mut blkio.serviced];
        lists.into_iter().flatten().for_each(|entry| entry.op.make_ascii_lowercase());
    }
    Stats {
        cpu: counted.cpu.then_some(cpu),
        memory: counted.memory.then_some(memory),
        // Where nothing counts them, the processes that are there were.
        pids: (stats.pids.current != 0).then_some(Pids { current: stats.pids.current, limit }),
        blkio: counted.blkio.then_some(blkio),
        ..Stats::default()
    }
}

#[cfg(test)]
mod tests;
