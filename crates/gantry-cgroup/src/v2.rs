//! Limits as the files of cgroup v2 take them (Documentation/admin-guide/cgroup-v2.rst), from fields that were made for v1.

use std::collections::BTreeMap;
use std::path::Path;

use gantry_model::oci::linux::{BlockIo, Cpu, HugepageLimit, Memory, Network, ThrottleDevice};

use crate::error::Error;
use crate::limits::{page_size, set};
use crate::step::{Step, Write};
use crate::v1;

/// Period of `cpu.max` in a new cgroup, microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// The weight that corresponds to v1's shares: 2 to 1, 1024 to 100, 262144 to 10000, and a quadratic between their
/// logarithms. Zero means that none was asked for.
pub(crate) fn cpu_weight(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1 | 2 => Some(1),
        262_144.. => Some(10_000),
        _ => {
            #[allow(clippy::cast_precision_loss)] // below 2^18
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            Some(10_f64.powf(exponent).ceil() as u64)
        }
    }
}

/// `io.weight` for a v1 weight: 10 to 1000 becomes 1 to 10000.
pub(crate) fn io_weight(weight: u16) -> Result<u64, Error> {
    match weight {
        10..=1000 => Ok(1 + (u64::from(weight) - 10) * 9999 / 990),
        _ => Err(Error::resource("resources.blockIO.weight", weight, "from 10 to 1000")),
    }
}

/// `memory.swap.max` for v1's limit of memory and swap together.
pub(crate) fn swap_max(memory: &Memory) -> Result<Option<i64>, Error> {
    let wrong = |n: i64, why: &str| Err(Error::resource("resources.memory.swap", n, why));
    match (set(memory.limit), memory.swap) {
        // No limit on memory is meant as none on swap either, unless swap has one.
        (Some(-1), None | Some(0)) => Ok(Some(-1)),
        (_, None) | (Some(_), Some(0)) => Ok(None),
        // Alone it can only mean no swap at all.
        (None, Some(0)) => Ok(Some(0)),
        (_, Some(-1)) => Ok(Some(-1)),
        (_, Some(n)) if n < 0 => wrong(n, "not a size; -1 is unlimited"),
        (Some(-1), Some(n)) => Ok(Some(n)),
        (None, Some(n)) => wrong(n, "it counts memory and swap together, so memory.limit must be given too"),
        (Some(limit), Some(n)) if n < limit => {
            wrong(n, "it counts memory and swap together, and is below memory.limit")
        }
        (Some(limit), Some(n)) => Ok(Some(n - limit)),
    }
}

fn max(n: i64) -> String {
    if n < 0 { "max".to_owned() } else { n.to_string() }
}

/// memory.
pub(crate) fn memory(dir: &Path, memory: &Memory) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let (limit, swap) = (set(memory.limit), swap_max(memory)?);
    if memory.check_before_update == Some(true) {
        steps.extend(v1::check_use(dir, "memory.current", limit));
        steps.extend(v1::check_use(dir, "memory.swap.current", swap.filter(|n| *n > 0)));
    }
    if let Some(n) = swap {
        // A kernel without swap has none to limit or to free.
        let optional = n <= 0;
        steps.push(Step::Write { write: Write::new(dir, "memory.swap.max", max(n)), optional });
    }
    if let Some(n) = limit {
        steps.push(Step::write(dir, "memory.max", max(n)));
    }
    if let Some(n) = set(memory.reservation) {
        steps.push(Step::write(dir, "memory.low", max(n)));
    }
    steps.extend(v1::kernel_memory(memory));
    let mut ignore = |asked: bool, what, why| {
        if asked {
            steps.push(Step::Ignore { what, why });
        }
    };
    let none = "cgroup v2 has nothing like it";
    ignore(memory.swappiness.is_some_and(|n| n != u64::MAX), "resources.memory.swappiness", none);
    ignore(memory.disable_oom_killer == Some(true), "resources.memory.disableOOMKiller", none);
    Ok(steps)
}

/// cpu. `fresh` says that the cgroup is new, so that its present values are known.
pub(crate) fn cpu(dir: &Path, cpu: &Cpu, fresh: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(n) = cpu.idle {
        steps.push(Step::write(dir, "cpu.idle", n.to_string()));
    }
    match cpu.shares.and_then(cpu_weight) {
        Some(_) if cpu.idle == Some(1) => {
            steps.push(Step::Ignore { what: "resources.cpu.shares", why: "an idle cgroup has no weight" });
        }
        Some(n) => steps.push(Step::write(dir, "cpu.weight", n.to_string())),
        None => {}
    }
    let burst = cpu.burst.map(|n| Write::new(dir, "cpu.max.burst", n.to_string()));
    let (quota, period) = (cpu.quota.filter(|n| *n != 0), cpu.period.filter(|n| *n != 0));
    let value = match (quota, period) {
        (Some(quota), Some(period)) => Some(format!("{} {period}", max(quota))),
        (Some(quota), None) if fresh => Some(format!("{} {DEFAULT_PERIOD}", max(quota))),
        // The kernel keeps a period that is not written.
        (Some(quota), None) => Some(max(quota)),
        (None, Some(period)) if fresh => Some(format!("max {period}")),
        (None, Some(period)) => {
            steps.push(Step::CpuPeriod { path: dir.join("cpu.max"), period });
            None
        }
        (None, None) => None,
    };
    match (burst, value.map(|value| Write::new(dir, "cpu.max", value))) {
        (Some(first), Some(second)) => {
            steps.push(Step::WritePair { first, second, first_optional: false, second_optional: false });
        }
        (one, other) => steps.extend(one.or(other).map(|write| Step::Write { write, optional: false })),
    }
    if set(cpu.realtime_runtime).is_some() || cpu.realtime_period.is_some_and(|n| n != 0) {
        let why = "cgroup v2 has no realtime groups";
        steps.push(Step::Ignore { what: "resources.cpu.realtimeRuntime and realtimePeriod", why });
    }
    steps
}

/// io: weights go to BFQ where it is there, else to the weight of io.cost, in its own range.
pub(crate) fn io(dir: &Path, io: &BlockIo) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let mut weight = |device: &str, n: u16| -> Result<(), Error> {
        steps.push(Step::WriteFirst(vec![
            Write::new(dir, "io.bfq.weight", format!("{device}{n}")),
            Write::new(dir, "io.weight", format!("{device}{}", io_weight(n)?)),
        ]));
        Ok(())
    };
    if let Some(n) = io.weight.filter(|n| *n != 0) {
        weight("", n)?;
    }
    for device in &io.weight_device {
        if let Some(n) = device.weight.filter(|n| *n != 0) {
            weight(&format!("{}:{} ", device.major, device.minor), n)?;
        }
    }
    // One line for each device, with all of its limits.
    let mut lines: BTreeMap<(i64, i64), String> = BTreeMap::new();
    let mut throttle = |key: &str, devices: &[ThrottleDevice]| {
        for device in devices {
            // v1 takes 0 as unlimited, v2 takes it as an error.
            let rate = if device.rate == 0 { "max".to_owned() } else { device.rate.to_string() };
            let line = lines.entry((device.major, device.minor)).or_default();
            line.extend([" ", key, "=", &rate]);
        }
    };
    throttle("rbps", &io.throttle_read_bps_device);
    throttle("wbps", &io.throttle_write_bps_device);
    throttle("riops", &io.throttle_read_iops_device);
    throttle("wiops", &io.throttle_write_iops_device);
    for ((major, minor), limits) in lines {
        steps.push(Step::write(dir, "io.max", format!("{major}:{minor}{limits}")));
    }
    let leaf = io.leaf_weight.is_some() || io.weight_device.iter().any(|device| device.leaf_weight.is_some());
    if leaf {
        let why = "cgroup v2 has no leaf weights";
        steps.push(Step::Ignore { what: "resources.blockIO.leafWeight", why });
    }
    Ok(steps)
}

/// hugetlb: pages in use, and where the kernel has it, pages reserved.
pub(crate) fn hugetlb(dir: &Path, limits: &[HugepageLimit]) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    for limit in limits {
        let (size, value) = (page_size(&limit.page_size)?, limit.limit.to_string());
        steps.push(Step::write(dir, &format!("hugetlb.{size}.max"), value.clone()));
        steps.push(Step::write_optional(dir, &format!("hugetlb.{size}.rsvd.max"), value));
    }
    Ok(steps)
}

/// Traffic classes and priorities have no v2 files.
pub(crate) fn network(network: &Network) -> Vec<Step> {
    let why = "cgroup v2 has neither net_cls nor net_prio";
    let asked = network.class_id.is_some_and(|n| n != 0) || !network.priorities.is_empty();
    asked.then_some(Step::Ignore { what: "resources.network", why }).into_iter().collect()
}

/// Files by name, each line of a value written by itself.
pub(crate) fn unified(dir: &Path, files: &BTreeMap<String, String>) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    for (name, value) in files {
        unified_name(name)?;
        for line in value.trim_end_matches('\n').split('\n') {
            steps.push(Step::write(dir, name, line));
        }
    }
    Ok(steps)
}

/// The controller of a file's name, after checking that it is a name of a file in this directory.
pub(crate) fn unified_name(name: &str) -> Result<&str, Error> {
    let wrong = |why: &str| Err(Error::resource("resources.unified", name, why));
    if name.len() > 255 || name.contains(['/', '\0', '\n']) || name.split('.').any(str::is_empty) {
        return wrong("not the name of a file of the cgroup");
    }
    match name.split_once('.') {
        Some((controller, _)) => Ok(controller),
        // The wording is one that conformance suites look for.
        None => wrong(&format!("the specified key has not the form CONTROLLER.VALUE `{name}`")),
    }
}
