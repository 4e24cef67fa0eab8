//! Limits as the files of cgroup v1 take them (Documentation/admin-guide/cgroup-v1).

use std::path::Path;

use gantry_model::oci::linux::{BlockIo, Cpu, HugepageLimit, Memory, Network, Pids, Rdma, ThrottleDevice};

use crate::error::Error;
use crate::limits::{interface_name, page_size, pids_value, rdma_line, set};
use crate::step::{Step, Write};

/// memory: the limit and that of memory and swap bound each other, so they go as a pair.
pub(crate) fn memory(dir: &Path, memory: &Memory) -> Result<Vec<Step>, Error> {
    let (limit, mut swap, mut optional) = (set(memory.limit), set(memory.swap), false);
    if limit == Some(-1) && swap.is_none() {
        // No limit on memory is meant as none on swap either; the kernel may count no swap.
        (swap, optional) = (Some(-1), true);
    }
    let mut steps = Vec::new();
    if memory.check_before_update == Some(true) {
        steps.extend(check_use(dir, "memory.usage_in_bytes", limit));
        steps.extend(check_use(dir, "memory.memsw.usage_in_bytes", swap));
    }
    let limit = limit.map(|n| Write::new(dir, "memory.limit_in_bytes", n.to_string()));
    let swap = swap.map(|n| Write::new(dir, "memory.memsw.limit_in_bytes", n.to_string()));
    match (limit, swap) {
        (Some(first), Some(second)) => {
            steps.push(Step::WritePair { first, second, first_optional: false, second_optional: optional });
        }
        (Some(write), None) | (None, Some(write)) => steps.push(Step::Write { write, optional: false }),
        (None, None) => {}
    }
    if let Some(n) = set(memory.reservation) {
        steps.push(Step::write(dir, "memory.soft_limit_in_bytes", n.to_string()));
    }
    if memory.disable_oom_killer == Some(true) {
        steps.push(Step::write(dir, "memory.oom_control", "1"));
    }
    match memory.swappiness {
        None | Some(u64::MAX) => {}
        Some(n @ 0..=100) => steps.push(Step::write(dir, "memory.swappiness", n.to_string())),
        Some(n) => return Err(Error::resource("resources.memory.swappiness", n, "from 0 to 100")),
    }
    steps.extend(kernel_memory(memory));
    if memory.use_hierarchy == Some(false) {
        steps
            .push(Step::Ignore { what: "resources.memory.useHierarchy", why: "the kernel counts hierarchically only" });
    }
    Ok(steps)
}

pub(crate) fn check_use(dir: &Path, file: &str, limit: Option<i64>) -> Option<Step> {
    let limit = u64::try_from(limit?).ok()?;
    Some(Step::RefuseBelowUse { usage: dir.join(file), limit })
}

/// Kernel memory has had no limit of its own since Linux 5.16, and half-working ones before.
pub(crate) fn kernel_memory(memory: &Memory) -> impl Iterator<Item = Step> {
    let why = "the kernel has no separate limit for it";
    let kernel = set(memory.kernel).map(|_| Step::Ignore { what: "resources.memory.kernel", why });
    let tcp = set(memory.kernel_tcp).map(|_| Step::Ignore { what: "resources.memory.kernelTCP", why });
    kernel.into_iter().chain(tcp)
}

/// cpu.
pub(crate) fn cpu(dir: &Path, cpu: &Cpu) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    // Shares cannot be written while the cgroup is idle.
    let idle = cpu.idle.map(|n| Step::write(dir, "cpu.idle", n.to_string()));
    let (before, after) = if cpu.idle == Some(0) { (idle, None) } else { (None, idle) };
    steps.extend(before);
    match cpu.shares {
        None | Some(0) => {}
        Some(n @ 2..=262_144) => steps.push(Step::write(dir, "cpu.shares", n.to_string())),
        Some(n) => return Err(Error::resource("resources.cpu.shares", n, "from 2 to 262144")),
    }
    let quota = cpu.quota.filter(|n| *n != 0).map(|n| Write::new(dir, "cpu.cfs_quota_us", n.to_string()));
    let period = cpu.period.filter(|n| *n != 0).map(|n| Write::new(dir, "cpu.cfs_period_us", n.to_string()));
    let burst = cpu.burst.map(|n| Write::new(dir, "cpu.cfs_burst_us", n.to_string()));
    // The burst lies within the quota, and quota and period within the share of the parent.
    match (burst, quota.clone()) {
        (Some(first), Some(second)) => {
            steps.push(Step::WritePair { first, second, first_optional: true, second_optional: false });
        }
        (Some(write), None) => steps.push(Step::Write { write, optional: true }),
        (None, _) => {}
    }
    steps.extend(pair(period, quota.filter(|_| cpu.burst.is_none() || cpu.period.is_some_and(|n| n != 0))));
    let period = cpu.realtime_period.filter(|n| *n != 0).map(|n| Write::new(dir, "cpu.rt_period_us", n.to_string()));
    let runtime = cpu.realtime_runtime.filter(|n| *n != 0).map(|n| Write::new(dir, "cpu.rt_runtime_us", n.to_string()));
    steps.extend(pair(period, runtime));
    steps.extend(after);
    Ok(steps)
}

fn pair(first: Option<Write>, second: Option<Write>) -> Option<Step> {
    match (first, second) {
        (Some(first), Some(second)) => {
            Some(Step::WritePair { first, second, first_optional: false, second_optional: false })
        }
        (one, other) => one.or(other).map(|write| Step::Write { write, optional: false }),
    }
}

/// Names of a cpuset's two files.
pub(crate) fn cpuset_files(noprefix: bool) -> [String; 2] {
    let prefix = if noprefix { "" } else { "cpuset." };
    [format!("{prefix}cpus"), format!("{prefix}mems")]
}

/// cpuset.
pub(crate) fn cpuset(dir: &Path, noprefix: bool, cpu: &Cpu) -> Vec<Step> {
    let [cpus, mems] = cpuset_files(noprefix);
    [(cpus, &cpu.cpus), (mems, &cpu.mems)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(file, value)| Step::write(dir, &file, value.clone()))
        .collect()
}

/// pids.
pub(crate) fn pids(dir: &Path, pids: &Pids) -> Vec<Step> {
    pids.limit.map(|n| Step::write(dir, "pids.max", pids_value(n))).into_iter().collect()
}

/// blkio: weights go to the file of whichever scheduler is there.
pub(crate) fn blkio(dir: &Path, io: &BlockIo) -> Vec<Step> {
    let either = |names: [&str; 2], value: String| {
        Step::WriteFirst(names.iter().map(|name| Write::new(dir, name, value.clone())).collect())
    };
    let mut steps = Vec::new();
    if let Some(n) = io.weight.filter(|n| *n != 0) {
        steps.push(either(["blkio.weight", "blkio.bfq.weight"], n.to_string()));
    }
    if let Some(n) = io.leaf_weight.filter(|n| *n != 0) {
        steps.push(Step::write(dir, "blkio.leaf_weight", n.to_string()));
    }
    for device in &io.weight_device {
        let line = |n: u16| format!("{}:{} {n}", device.major, device.minor);
        if let Some(n) = device.weight.filter(|n| *n != 0) {
            steps.push(either(["blkio.weight_device", "blkio.bfq.weight_device"], line(n)));
        }
        if let Some(n) = device.leaf_weight.filter(|n| *n != 0) {
            steps.push(Step::write(dir, "blkio.leaf_weight_device", line(n)));
        }
    }
    let mut throttle = |name: &str, devices: &[ThrottleDevice]| {
        for device in devices {
            let line = format!("{}:{} {}", device.major, device.minor, device.rate);
            steps.push(Step::write(dir, &format!("blkio.throttle.{name}_device"), line));
        }
    };
    throttle("read_bps", &io.throttle_read_bps_device);
    throttle("write_bps", &io.throttle_write_bps_device);
    throttle("read_iops", &io.throttle_read_iops_device);
    throttle("write_iops", &io.throttle_write_iops_device);
    steps
}

/// hugetlb: pages in use, and where the kernel has it, pages reserved.
pub(crate) fn hugetlb(dir: &Path, limits: &[HugepageLimit]) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    for limit in limits {
        let (size, value) = (page_size(&limit.page_size)?, limit.limit.to_string());
        steps.push(Step::write(dir, &format!("hugetlb.{size}.limit_in_bytes"), value.clone()));
        steps.push(Step::write_optional(dir, &format!("hugetlb.{size}.rsvd.limit_in_bytes"), value));
    }
    Ok(steps)
}

/// net_cls.
pub(crate) fn net_cls(dir: &Path, network: &Network) -> Vec<Step> {
    let class = network.class_id.filter(|n| *n != 0);
    class.map(|n| Step::write(dir, "net_cls.classid", n.to_string())).into_iter().collect()
}

/// net_prio.
pub(crate) fn net_prio(dir: &Path, network: &Network) -> Result<Vec<Step>, Error> {
    let line = |p: &gantry_model::oci::linux::InterfacePriority| {
        let name = interface_name(&p.name)?;
        Ok(Step::write(dir, "net_prio.ifpriomap", format!("{name} {}", p.priority)))
    };
    network.priorities.iter().map(line).collect()
}

/// rdma: the same file in both versions.
pub(crate) fn rdma<'a>(
    dir: &Path,
    devices: impl IntoIterator<Item = (&'a String, &'a Rdma)>,
) -> Result<Vec<Step>, Error> {
    devices.into_iter().map(|(name, limits)| Ok(Step::write(dir, "rdma.max", rdma_line(name, limits)?))).collect()
}
