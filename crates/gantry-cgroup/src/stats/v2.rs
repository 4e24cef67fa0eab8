//! Statistics of cgroup v2.

use std::path::Path;

use crate::error::Error;
use crate::io;
use crate::stats::read::{keys, number, page_sizes, psi, rdma, text};
use crate::stats::{BlkioEntry, BlkioStats, CpuStats, HugetlbStats, MemoryEntry, MemoryStats, PidsStats, Stats};

/// Reads what v2 counts in a cgroup.
pub(crate) fn read(dir: &Path, stats: &mut Stats) -> Result<(), Error> {
    stats.pids = pids(dir)?;
    stats.cpu = cpu(dir)?;
    stats.memory = memory(dir)?;
    stats.blkio = blkio(&text(dir, "io.stat")?.unwrap_or_default());
    stats.cpu.psi = psi(dir, "cpu.pressure")?;
    stats.memory.psi = psi(dir, "memory.pressure")?;
    stats.blkio.psi = psi(dir, "io.pressure")?;
    for size in page_sizes(dir, ".current") {
        let rsvd = number(dir, &format!("hugetlb.{size}.rsvd.current"))?;
        let usage = rsvd.or(number(dir, &format!("hugetlb.{size}.current"))?).unwrap_or(0);
        let events = text(dir, &format!("hugetlb.{size}.events"))?.unwrap_or_default();
        let failcnt = io::value_of(&events, "max").unwrap_or(0);
        stats.hugetlb.insert(size, HugetlbStats { usage, max: 0, failcnt });
    }
    stats.rdma = rdma(dir)?;
    for (key, value) in keys(&text(dir, "misc.current")?.unwrap_or_default()) {
        stats.misc.entry(key).or_default().usage = value;
    }
    for (key, value) in keys(&text(dir, "misc.events")?.unwrap_or_default()) {
        let key = key.strip_suffix(".max").unwrap_or(&key).to_owned();
        stats.misc.entry(key).or_default().events = value;
    }
    Ok(())
}

fn pids(dir: &Path) -> Result<PidsStats, Error> {
    Ok(match number(dir, "pids.current")? {
        Some(current) => PidsStats { current, limit: number(dir, "pids.max")?.filter(|n| *n != u64::MAX).unwrap_or(0) },
        // Without the controller the processes can still be counted.
        None => PidsStats { current: crate::location::pids_of(dir)?.len() as u64, limit: 0 },
    })
}

fn cpu(dir: &Path) -> Result<CpuStats, Error> {
    let values = keys(&text(dir, "cpu.stat")?.unwrap_or_default());
    let value = |key: &str| values.get(key).copied().unwrap_or(0);
    let nanoseconds = |key: &str| value(key).saturating_mul(1000);
    let mut cpu = CpuStats::default();
    cpu.usage.total = nanoseconds("usage_usec");
    cpu.usage.user = nanoseconds("user_usec");
    cpu.usage.kernel = nanoseconds("system_usec");
    cpu.throttling.periods = value("nr_periods");
    cpu.throttling.throttled_periods = value("nr_throttled");
    cpu.throttling.throttled_time = nanoseconds("throttled_usec");
    Ok(cpu)
}

fn memory(dir: &Path) -> Result<MemoryStats, Error> {
    let Some(stat) = text(dir, "memory.stat")? else { return Ok(MemoryStats::default()) };
    let raw = keys(&stat);
    let entry = |kind: &str| -> Result<MemoryEntry, Error> {
        let read = |what: &str| Ok::<_, Error>(number(dir, &format!("memory.{kind}{what}"))?.unwrap_or(0));
        Ok(MemoryEntry { limit: read("max")?, usage: read("current")?, max: read("peak")?, failcnt: 0 })
    };
    let usage = entry("")?;
    let swap = entry("swap.")?;
    let together = MemoryEntry {
        limit: swap.limit.saturating_add(if swap.limit == u64::MAX { 0 } else { usage.limit }),
        usage: swap.usage.saturating_add(usage.usage),
        // The peaks of both need not have been at the same time.
        max: 0,
        failcnt: 0,
    };
    Ok(MemoryStats {
        cache: raw.get("file").copied().unwrap_or(0),
        usage,
        swap: together,
        raw,
        ..MemoryStats::default()
    })
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 ...`.
fn blkio(text: &str) -> BlkioStats {
    let mut stats = BlkioStats::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut stats.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut stats.io_service_bytes_recursive, "Write"),
                "rios" => (&mut stats.io_serviced_recursive, "Read"),
                "wios" => (&mut stats.io_serviced_recursive, "Write"),
                _ => continue,
            };
            let Ok(value) = value.parse() else { continue };
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value });
        }
    }
    stats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_lines() {
        let stats = blkio("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5\nbad\n9:x rios=1\n");
        let all: Vec<_> = stats.io_service_bytes_recursive.iter().chain(&stats.io_serviced_recursive).collect();
        let all: Vec<_> = all.iter().map(|e| (e.major, e.op.as_str(), e.value)).collect();
        assert_eq!(all, [(8, "Read", 1), (8, "Write", 2), (8, "Read", 3), (8, "Write", 4)]);
    }
}
