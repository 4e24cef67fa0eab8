//! Statistics of cgroup v1.

use std::path::Path;

use crate::error::Error;
use crate::location::Location;
use crate::stats::read::{keys, list, number, page_sizes, rdma, text};
use crate::stats::{BlkioEntry, BlkioStats, CpuStats, CpusetStats, HugetlbStats, MemoryEntry, MemoryStats, Stats};

/// Nanoseconds of a clock tick: `USER_HZ` is 100 on every architecture that containers run on.
const TICK: u64 = 10_000_000;

/// Reads what v1 hierarchies count; controllers that are not there stay as they are.
pub(crate) fn read(location: &Location, stats: &mut Stats) -> Result<(), Error> {
    if let Some(dir) = location.v1_dir("cpu") {
        throttling(dir, &mut stats.cpu)?;
    }
    if let Some(dir) = location.v1_dir("cpuacct") {
        cpuacct(dir, &mut stats.cpu)?;
    }
    if let Some(dir) = location.v1_dir("cpuset") {
        stats.cpuset = cpuset(dir)?;
    }
    if let Some(dir) = location.v1_dir("memory") {
        let psi = stats.memory.psi.take();
        stats.memory = MemoryStats { psi, ..memory(dir)? };
    }
    if let Some(dir) = location.v1_dir("pids") {
        stats.pids.current = number(dir, "pids.current")?.unwrap_or(0);
        stats.pids.limit = number(dir, "pids.max")?.filter(|n| *n != u64::MAX).unwrap_or(0);
    }
    if let Some(dir) = location.v1_dir("blkio") {
        let psi = stats.blkio.psi.take();
        stats.blkio = BlkioStats { psi, ..blkio(dir)? };
    }
    if let Some(dir) = location.v1_dir("hugetlb") {
        for size in page_sizes(dir, ".usage_in_bytes") {
            let entry = hugetlb(dir, &size)?;
            stats.hugetlb.insert(size, entry);
        }
    }
    if let Some(dir) = location.v1_dir("rdma") {
        stats.rdma = rdma(dir)?;
    }
    Ok(())
}

fn throttling(dir: &Path, cpu: &mut CpuStats) -> Result<(), Error> {
    let values = keys(&text(dir, "cpu.stat")?.unwrap_or_default());
    let value = |key: &str| values.get(key).copied().unwrap_or(0);
    cpu.throttling.periods = value("nr_periods");
    cpu.throttling.throttled_periods = value("nr_throttled");
    cpu.throttling.throttled_time = value("throttled_time");
    Ok(())
}

fn cpuacct(dir: &Path, cpu: &mut CpuStats) -> Result<(), Error> {
    let usage = &mut cpu.usage;
    let stat = keys(&text(dir, "cpuacct.stat")?.unwrap_or_default());
    usage.user = stat.get("user").copied().unwrap_or(0).saturating_mul(TICK);
    usage.kernel = stat.get("system").copied().unwrap_or(0).saturating_mul(TICK);
    usage.total = number(dir, "cpuacct.usage")?.unwrap_or(0);
    let percpu = text(dir, "cpuacct.usage_percpu")?.unwrap_or_default();
    usage.percpu = percpu.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    // cpu user system
    let all = text(dir, "cpuacct.usage_all")?.unwrap_or_default();
    for line in all.lines().skip(1) {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        if let [_, user, kernel, ..] = numbers[..] {
            usage.percpu_user.push(user);
            usage.percpu_kernel.push(kernel);
        }
    }
    Ok(())
}

fn cpuset(dir: &Path) -> Result<CpusetStats, Error> {
    let prefix = if text(dir, "cpuset.cpus")?.is_some() { "cpuset." } else { "" };
    let lists =
        |name: &str| Ok::<_, Error>(text(dir, &format!("{prefix}{name}"))?.map(|t| list(&t)).unwrap_or_default());
    let flag = |name: &str| Ok::<_, Error>(number(dir, &format!("{prefix}{name}"))?.unwrap_or(0));
    let level = text(dir, &format!("{prefix}sched_relax_domain_level"))?.unwrap_or_default();
    Ok(CpusetStats {
        cpus: lists("cpus")?,
        cpu_exclusive: flag("cpu_exclusive")?,
        mems: lists("mems")?,
        mem_hardwall: flag("mem_hardwall")?,
        mem_exclusive: flag("mem_exclusive")?,
        memory_migrate: flag("memory_migrate")?,
        memory_spread_page: flag("memory_spread_page")?,
        memory_spread_slab: flag("memory_spread_slab")?,
        memory_pressure: flag("memory_pressure")?,
        sched_load_balance: flag("sched_load_balance")?,
        sched_relax_domain_level: level.trim().parse().unwrap_or(0),
    })
}

fn memory(dir: &Path) -> Result<MemoryStats, Error> {
    let entry = |kind: &str| -> Result<MemoryEntry, Error> {
        let read = |what: &str| Ok::<_, Error>(number(dir, &format!("memory.{kind}{what}"))?.unwrap_or(0));
        Ok(MemoryEntry {
            limit: read("limit_in_bytes")?,
            usage: read("usage_in_bytes")?,
            max: read("max_usage_in_bytes")?,
            failcnt: read("failcnt")?,
        })
    };
    let raw = keys(&text(dir, "memory.stat")?.unwrap_or_default());
    Ok(MemoryStats {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: entry("")?,
        swap: entry("memsw.")?,
        kernel: entry("kmem.")?,
        kernel_tcp: entry("kmem.tcp.")?,
        raw,
        psi: None,
    })
}

/// The first set of files that the kernel has: which depends on its schedulers and how they were configured.
fn blkio(dir: &Path) -> Result<BlkioStats, Error> {
    for (prefix, suffix) in [("bfq.", "_recursive"), ("", "_recursive"), ("throttle.", "_recursive"), ("throttle.", "")]
    {
        let read =
            |name: &str| Ok::<_, Error>(text(dir, &format!("blkio.{prefix}{name}{suffix}"))?.map(|t| entries(&t)));
        let Some(io_serviced_recursive) = read("io_serviced")? else { continue };
        let stats = BlkioStats {
            io_service_bytes_recursive: read("io_service_bytes")?.unwrap_or_default(),
            io_serviced_recursive,
            io_queued_recursive: read("io_queued")?.unwrap_or_default(),
            io_service_time_recursive: read("io_service_time")?.unwrap_or_default(),
            io_wait_time_recursive: read("io_wait_time")?.unwrap_or_default(),
            io_merged_recursive: read("io_merged")?.unwrap_or_default(),
            io_time_recursive: read("time")?.unwrap_or_default(),
            sectors_recursive: read("sectors")?.unwrap_or_default(),
            psi: None,
        };
        // A scheduler that has no disk counts nothing, though its files are there.
        if prefix == "throttle." || !stats.io_serviced_recursive.is_empty() {
            return Ok(stats);
        }
    }
    Ok(BlkioStats::default())
}

/// Lines `8:0 Read 4096` and `8:0 4096`; the sum at the end has no device.
pub(crate) fn entries(text: &str) -> Vec<BlkioEntry> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (major, minor) = words.next()?.split_once(':')?;
            let (op, value) = match (words.next()?, words.next()) {
                (op, Some(value)) => (op, value),
                (value, None) => ("", value),
            };
            Some(BlkioEntry {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
                op: op.to_owned(),
                value: value.parse().ok()?,
            })
        })
        .collect()
}

fn hugetlb(dir: &Path, size: &str) -> Result<HugetlbStats, Error> {
    // Reservations are counted too where the kernel can, and fail first.
    let rsvd = if number(dir, &format!("hugetlb.{size}.rsvd.usage_in_bytes"))?.is_some() { ".rsvd" } else { "" };
    let read = |what: &str| Ok::<_, Error>(number(dir, &format!("hugetlb.{size}{rsvd}.{what}"))?.unwrap_or(0));
    Ok(HugetlbStats { usage: read("usage_in_bytes")?, max: read("max_usage_in_bytes")?, failcnt: read("failcnt")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blkio_lines() {
        let got = entries("8:0 Read 100\n8:0 Write 7\n9:1 5\nTotal 112\n");
        let got: Vec<_> = got.iter().map(|e| (e.major, e.minor, e.op.as_str(), e.value)).collect();
        assert_eq!(got, [(8, 0, "Read", 100), (8, 0, "Write", 7), (9, 1, "", 5)]);
    }
}
