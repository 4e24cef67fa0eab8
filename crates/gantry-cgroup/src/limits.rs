//! From the resources of config.json to steps, each controller in the hierarchy that has it.

use std::path::Path;

use gantry_model::oci::linux::{Rdma, Resources};

use crate::error::Error;
use crate::layout::Layout;
use crate::location::Location;
use crate::step::Step;
use crate::{v1, v2};

/// Zero stands for "not set" in the fields that hold sizes, as clients have always used it.
pub(crate) fn set(value: Option<i64>) -> Option<i64> {
    value.filter(|n| *n != 0)
}

/// `pids.max`. Zero becomes one: init itself is a process, and service managers know no zero.
pub(crate) fn pids_value(limit: i64) -> String {
    match limit {
        ..0 => "max".to_owned(),
        0 => "1".to_owned(),
        n => n.to_string(),
    }
}

/// A size of huge pages as the kernel names files: a number, and KB, MB or GB.
pub(crate) fn page_size(text: &str) -> Result<&str, Error> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_uppercase());
    let unit = &text[digits.len()..];
    let good = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && matches!(unit, "KB" | "MB" | "GB");
    if good && text.len() <= 16 {
        Ok(text)
    } else {
        Err(Error::resource("resources.hugepageLimits.pageSize", text, "a number and KB, MB or GB, as 2MB"))
    }
}

/// A name of a network interface: it stands in a line with its value.
pub(crate) fn interface_name(name: &str) -> Result<&str, Error> {
    if name.is_empty() || name.len() > 15 || name.contains(|c: char| c.is_whitespace() || c == '/' || c == '\0') {
        return Err(Error::resource("resources.network.priorities.name", name, "not the name of an interface"));
    }
    Ok(name)
}

/// A line of `rdma.max`.
pub(crate) fn rdma_line(name: &str, limits: &Rdma) -> Result<String, Error> {
    if name.is_empty() || name.len() > 64 || name.contains(|c: char| c.is_whitespace() || c == '\0') {
        return Err(Error::resource("resources.rdma", name, "not the name of a device"));
    }
    if limits.hca_handles.is_none() && limits.hca_objects.is_none() {
        return Err(Error::resource("resources.rdma", name, "one of hcaHandles and hcaObjects must be given"));
    }
    let mut line = name.to_owned();
    for (key, value) in [("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects)] {
        if let Some(n) = value {
            line.extend([" ", key, "=", &n.to_string()]);
        }
    }
    Ok(line)
}

/// What limits lead to.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// In their order.
    pub(crate) steps: Vec<Step>,
    /// Controllers of v2 that must be enabled for them.
    pub(crate) needed: Vec<String>,
}

/// Where a controller's files are.
enum Place<'a> {
    V1(&'a Path),
    V2(&'a Path),
    Missing,
}

struct Planner<'a> {
    layout: &'a Layout,
    location: &'a Location,
    fresh: bool,
    out: Limits,
}

/// Plans all limits of `resources` but the devices. `fresh` says that the cgroup is new.
pub(crate) fn plan(layout: &Layout, location: &Location, resources: &Resources, fresh: bool) -> Result<Limits, Error> {
    let mut planner = Planner { layout, location, fresh, out: Limits::default() };
    planner.controllers(resources)?;
    planner.unified(resources)?;
    Ok(planner.out)
}

/// Whether any limit is asked for, devices aside.
pub(crate) fn any(resources: &Resources) -> bool {
    let everywhere = Location::unified_at("/");
    plan(&Layout::default(), &everywhere, resources, true).map_or(true, |limits| !limits.steps.is_empty())
}

impl Planner<'_> {
    fn place(&self, v1: &str, v2: &str) -> Place<'_> {
        match (self.location.v1_dir(v1), self.location.unified_dir()) {
            (Some(dir), _) => Place::V1(dir),
            (None, Some(dir)) if !v2.is_empty() => Place::V2(dir),
            _ => Place::Missing,
        }
    }

    /// Plans one controller with one of two functions, according to where it is.
    fn add(
        &mut self,
        v1: &str,
        v2: &str,
        for_v1: impl FnOnce(&Path) -> Result<Vec<Step>, Error>,
        for_v2: impl FnOnce(&Path) -> Result<Vec<Step>, Error>,
    ) -> Result<(), Error> {
        let steps = match self.place(v1, v2) {
            Place::V1(dir) => for_v1(dir)?,
            Place::V2(dir) => {
                let steps = for_v2(dir)?;
                if steps.iter().any(Step::is_limit) && !self.out.needed.iter().any(|have| have == v2) {
                    self.out.needed.push(v2.to_owned());
                }
                steps
            }
            Place::Missing => {
                let steps = for_v1(Path::new(""))?;
                if steps.iter().any(Step::is_limit) {
                    let why =
                        "no hierarchy of this host, or none that the container is in, has it; leave the limit out";
                    let place = self.location.describe();
                    return Err(Error::Controller { controller: v1.to_owned(), place, why: why.to_owned() });
                }
                steps
            }
        };
        self.out.steps.extend(steps);
        Ok(())
    }

    fn controllers(&mut self, resources: &Resources) -> Result<(), Error> {
        if let Some(pids) = &resources.pids {
            self.add("pids", "pids", |dir| Ok(v1::pids(dir, pids)), |dir| Ok(v1::pids(dir, pids)))?;
        }
        if let Some(memory) = &resources.memory {
            self.add("memory", "memory", |dir| v1::memory(dir, memory), |dir| v2::memory(dir, memory))?;
        }
        if let Some(io) = &resources.block_io {
            self.add("blkio", "io", |dir| Ok(v1::blkio(dir, io)), |dir| v2::io(dir, io))?;
        }
        if let Some(cpu) = &resources.cpu {
            let fresh = self.fresh;
            self.add("cpu", "cpu", |dir| v1::cpu(dir, cpu), |dir| Ok(v2::cpu(dir, cpu, fresh)))?;
            let noprefix = self.layout.v1_of("cpuset").is_some_and(|mount| mount.noprefix);
            let cpuset = |dir: &Path| Ok(v1::cpuset(dir, noprefix, cpu));
            self.add("cpuset", "cpuset", cpuset, |dir| Ok(v1::cpuset(dir, false, cpu)))?;
        }
        let huge = &resources.hugepage_limits;
        self.add("hugetlb", "hugetlb", |dir| v1::hugetlb(dir, huge), |dir| v2::hugetlb(dir, huge))?;
        let rdma = &resources.rdma;
        self.add("rdma", "rdma", |dir| v1::rdma(dir, rdma), |dir| v1::rdma(dir, rdma))?;
        if let Some(network) = &resources.network {
            if self.location.is_v2() {
                self.out.steps.extend(v2::network(network));
            } else {
                self.add("net_cls", "", |dir| Ok(v1::net_cls(dir, network)), |_| Ok(Vec::new()))?;
                self.add("net_prio", "", |dir| v1::net_prio(dir, network), |_| Ok(Vec::new()))?;
            }
        }
        Ok(())
    }

    /// Files named outright come last, so that they win over what the fields said.
    fn unified(&mut self, resources: &Resources) -> Result<(), Error> {
        if resources.unified.is_empty() {
            return Ok(());
        }
        let Some(dir) = self.location.unified_dir() else {
            let name = resources.unified.keys().next().cloned().unwrap_or_default();
            return Err(Error::resource("resources.unified", name, "this host has no cgroup v2"));
        };
        let steps = v2::unified(dir, &resources.unified)?;
        for name in resources.unified.keys() {
            let controller = v2::unified_name(name)?;
            if controller != "cgroup" && !self.out.needed.iter().any(|have| have == controller) {
                self.out.needed.push(controller.to_owned());
            }
        }
        self.out.steps.extend(steps);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_model::oci::linux::Memory;

    #[test]
    fn conversions() {
        for (shares, weight) in [
            (0, None),
            (1, Some(1)),
            (2, Some(1)),
            (3, Some(2)),
            (1024, Some(100)),
            (260_000, Some(9929)),
            (262_144, Some(10_000)),
            (u64::MAX, Some(10_000)),
        ] {
            assert_eq!(v2::cpu_weight(shares), weight, "{shares}");
        }
        for (weight, expect) in [(10, 1), (100, 910), (1000, 10_000)] {
            assert_eq!(v2::io_weight(weight).unwrap(), expect);
        }
        assert!(v2::io_weight(9).is_err());
    }

    #[test]
    fn swap() {
        let check = |limit: Option<i64>, swap: Option<i64>, expect: Result<Option<i64>, ()>| {
            let memory = Memory { limit, swap, ..Memory::default() };
            assert_eq!(v2::swap_max(&memory).map_err(drop), expect, "{limit:?} {swap:?}");
        };
        check(None, None, Ok(None));
        check(Some(100), None, Ok(None));
        check(Some(-1), None, Ok(Some(-1)));
        check(Some(-1), Some(0), Ok(Some(-1)));
        check(Some(-1), Some(5), Ok(Some(5)));
        check(None, Some(-1), Ok(Some(-1)));
        check(None, Some(0), Ok(Some(0)));
        check(Some(100), Some(0), Ok(None));
        check(Some(100), Some(100), Ok(Some(0)));
        check(Some(100), Some(300), Ok(Some(200)));
        check(Some(100), Some(-1), Ok(Some(-1)));
        check(Some(100), Some(50), Err(()));
        check(None, Some(50), Err(()));
        check(Some(100), Some(-7), Err(()));
    }

    #[test]
    fn names() {
        for (name, good) in
            [("2MB", true), ("64KB", true), ("1GB", true), ("MB", false), ("2TB", false), ("../2MB", false)]
        {
            assert_eq!(page_size(name).is_ok(), good, "{name}");
        }
        for (name, good) in [
            ("memory.high", true),
            ("cgroup.max.depth", true),
            ("memory", false),
            ("../memory.high", false),
            ("memory..max", false),
            ("..", false),
            (".x", false),
            ("a.b\n", false),
        ] {
            assert_eq!(v2::unified_name(name).is_ok(), good, "{name}");
        }
        assert!(interface_name("eth0").is_ok());
        assert!(interface_name("eth 0").is_err());
    }
}
