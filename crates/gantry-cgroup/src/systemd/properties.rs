//! Resources as properties of a unit (systemd.resource-control(5)).
//!
//! Whatever systemd sets is written to the cgroup's files as well, so that a value that it rounds or does not know holds too.
//! It is told in spite of that, since it writes its own idea again when its configuration is reloaded.

use gantry_model::oci::linux::{Cpu, DeviceRule, Resources};

use crate::devices::{DeviceSet, Rules};
use crate::error::Error;
use crate::limits::set;
use crate::path::{self, Unit};
use crate::plan::Request;
use crate::systemd::{Property, Value, variant};
use crate::v2;

/// `USEC_INFINITY` and `CGROUP_LIMIT_MAX`.
const INFINITY: u64 = u64::MAX;

/// Highest number of a processor or a memory node that is taken from a list.
const MAX_CPU: u32 = 8191;

/// The properties of a new unit.
pub(crate) fn unit_properties(
    unit: &Unit,
    v2: bool,
    resources: &Resources,
    request: &Request<'_>,
) -> Result<Vec<Property>, Error> {
    let text = |name: &str, value: &str| Property::new(name, Value::Str(value.to_owned()));
    let yes = |name: &str| Property::new(name, Value::Bool(true));
    let mut out = vec![text("Description", &format!("container {}", request.id))];
    if path::is_slice(&unit.name) {
        out.push(Property::new("Wants", Value::Strings(vec![unit.slice.clone()])));
    } else {
        out.push(text("Slice", &unit.slice));
        out.push(yes("Delegate"));
    }
    let io = if v2 { "IOAccounting" } else { "BlockIOAccounting" };
    out.extend(["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"].map(yes));
    out.push(Property::new("DefaultDependencies", Value::Bool(false)));
    if let Some(group) = resources.unified.get("memory.oom.group") {
        match group.trim() {
            "0" => out.push(text("OOMPolicy", "continue").since(253)),
            "1" => out.push(text("OOMPolicy", "kill").since(253)),
            _ => {}
        }
    }
    if !request.rootless {
        out.extend(devices(resources.devices.iter().chain(request.device_defaults))?);
    }
    out.extend(resource_properties(v2, resources)?);
    // Asked for by name, so they come last: of one that is given twice systemd takes the later.
    if let Some(annotations) = request.annotations {
        out.extend(variant::properties(annotations)?);
    }
    Ok(out)
}

/// The properties that follow from limits, for a new unit and for a change.
pub(crate) fn resource_properties(v2: bool, resources: &Resources) -> Result<Vec<Property>, Error> {
    let mut out = Vec::new();
    let mut number = |name: &str, value: Option<u64>| {
        if let Some(value) = value {
            out.push(Property::new(name, Value::U64(value)));
        }
    };
    if let Some(memory) = &resources.memory {
        let limit = set(memory.limit).map(size);
        if v2 {
            number("MemoryMax", limit);
            number("MemoryLow", set(memory.reservation).map(size));
            number("MemorySwapMax", v2::swap_max(memory)?.map(size));
        } else {
            number("MemoryLimit", limit);
        }
    }
    if let Some(pids) = &resources.pids {
        number("TasksMax", pids.limit.map(|n| if n == 0 { 1 } else { size(n) }));
    }
    if let Some(io) = &resources.block_io {
        let weight = io.weight.filter(|n| *n != 0);
        if v2 {
            number("IOWeight", weight.map(v2::io_weight).transpose()?);
        } else {
            number("BlockIOWeight", weight.map(u64::from));
        }
    }
    if let Some(cpu) = &resources.cpu {
        cpu_properties(&mut out, v2, cpu)?;
    }
    if v2 {
        for (name, value) in &resources.unified {
            unified(&mut out, name, value.trim())?;
        }
    }
    Ok(out)
}

fn size(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(INFINITY)
}

fn cpu_properties(out: &mut Vec<Property>, v2: bool, cpu: &Cpu) -> Result<(), Error> {
    let shares = cpu.shares.filter(|n| *n != 0);
    match (v2, cpu.idle) {
        // This is how systemd is told of an idle cgroup.
        (true, Some(1)) => out.push(Property::new("CPUWeight", Value::U64(0)).since(252)),
        (true, _) => out.extend(shares.and_then(v2::cpu_weight).map(|n| Property::new("CPUWeight", Value::U64(n)))),
        (false, _) => out.extend(shares.map(|n| Property::new("CPUShares", Value::U64(n)))),
    }
    quota(out, cpu.quota.filter(|n| *n != 0), cpu.period.filter(|n| *n != 0));
    for (name, list) in [("AllowedCPUs", &cpu.cpus), ("AllowedMemoryNodes", &cpu.mems)] {
        if !list.is_empty() {
            out.push(Property::new(name, Value::Bytes(bits(list)?)).since(244));
        }
    }
    Ok(())
}

/// systemd counts a quota in hundredths of a processor, so it is rounded up to one: the exact value is in the file.
fn quota(out: &mut Vec<Property>, quota: Option<i64>, period: Option<u64>) {
    if let Some(period) = period {
        out.push(Property::new("CPUQuotaPeriodUSec", Value::U64(period)).since(242));
    }
    if quota.is_none() && period.is_none() {
        return;
    }
    let per_second = match quota.and_then(|n| u64::try_from(n).ok()) {
        Some(quota) => {
            let exact = u128::from(quota) * 1_000_000 / u128::from(period.unwrap_or(100_000));
            u64::try_from(exact.div_ceil(10_000) * 10_000).unwrap_or(INFINITY)
        }
        None => INFINITY,
    };
    // A period alone says nothing about the quota of a unit that has one.
    if quota.is_some() {
        out.push(Property::new("CPUQuotaPerSecUSec", Value::U64(per_second)));
    }
}

/// Files that were named outright, as far as systemd has a property for them.
fn unified(out: &mut Vec<Property>, name: &str, value: &str) -> Result<(), Error> {
    let wrong = || Error::resource("resources.unified", format!("{name} = {value:?}"), "not a value of that file");
    let number = |text: &str| match text {
        "max" => Ok(INFINITY),
        _ => text.parse::<u64>().map_err(|_| wrong()),
    };
    let property = match name {
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        "cpu.idle" => {
            if value == "1" {
                out.push(Property::new("CPUWeight", Value::U64(0)).since(252));
            }
            return Ok(());
        }
        "cpu.max" => {
            let mut words = value.split_whitespace();
            let max = words.next().ok_or_else(wrong)?;
            let max = if max == "max" { -1 } else { max.parse().map_err(|_| wrong())? };
            let period = words.next().map(|word| word.parse().map_err(|_| wrong())).transpose()?;
            quota(out, Some(max), period.filter(|n| *n != 0));
            return Ok(());
        }
        "cpuset.cpus" | "cpuset.mems" => {
            let property = if name == "cpuset.cpus" { "AllowedCPUs" } else { "AllowedMemoryNodes" };
            out.push(Property::new(property, Value::Bytes(bits(value)?)).since(244));
            return Ok(());
        }
        _ => return Ok(()),
    };
    let value = number(value)?;
    out.push(Property::new(property, Value::U64(if property == "TasksMax" { value.max(1) } else { value })));
    Ok(())
}

/// A list such as `0-3,7` as a mask, the lowest eight in the first byte.
fn bits(list: &str) -> Result<Vec<u8>, Error> {
    let wrong = || Error::resource("resources.cpu.cpus or mems", format!("{list:?}"), "not a list such as 0-3,7");
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n <= MAX_CPU).ok_or_else(wrong);
    let mut out: Vec<u8> = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        out.resize(out.len().max(last as usize / 8 + 1), 0);
        (first..=last).for_each(|n| out[n as usize / 8] |= 1 << (n % 8));
    }
    if out.is_empty() { Err(wrong()) } else { Ok(out) }
}

/// systemd knows only lists of what is allowed. Where that cannot say it, systemd sets no filter, and ours is the only one.
fn devices<'a>(rules: impl Iterator<Item = &'a DeviceRule>) -> Result<[Property; 2], Error> {
    let policy = |policy: &str, list: Vec<(String, String)>| {
        [Property::new("DevicePolicy", Value::Str(policy.to_owned())), Property::new("DeviceAllow", Value::Pairs(list))]
    };
    let open = || policy("auto", Vec::new());
    let Ok(set) = DeviceSet::new(&Rules::new(rules)?) else { return Ok(open()) };
    if set.default_allow {
        return Ok(open());
    }
    let mut list = Vec::new();
    for (devices, access) in set.exceptions() {
        let (group, path) = match devices.kind {
            crate::devices::Kind::Char => ("char", "/dev/char"),
            crate::devices::Kind::Block => ("block", "/dev/block"),
        };
        let name = match (devices.major, devices.minor) {
            (None, None) => format!("{group}-*"),
            (Some(major), None) => format!("{group}-{major}"),
            (Some(major), Some(minor)) => format!("{path}/{major}:{minor}"),
            (None, Some(_)) => return Ok(open()),
        };
        list.push((name, access));
    }
    Ok(policy("strict", list))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::tests::rules;

    #[test]
    fn masks() {
        let check = |list: &str, expect: Option<&[u8]>| assert_eq!(bits(list).ok().as_deref(), expect, "{list:?}");
        check("0", Some(&[1]));
        check("0-3,7", Some(&[0x8f]));
        check(" 8 , 15,", Some(&[0, 0x81]));
        check("3-1", None);
        check("", None);
        check("x", None);
        check("0-4000000000", None);
    }

    #[test]
    fn quotas() {
        let check = |q: Option<i64>, period: Option<u64>, expect: &str| {
            let mut out = Vec::new();
            quota(&mut out, q, period);
            assert_eq!(out.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), expect);
        };
        check(None, None, "");
        check(Some(50_000), None, "CPUQuotaPerSecUSec=500000");
        check(Some(12_345), Some(100_000), "CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=130000");
        check(Some(-1), Some(1000), "CPUQuotaPeriodUSec=1000 CPUQuotaPerSecUSec=infinity");
        check(None, Some(1000), "CPUQuotaPeriodUSec=1000");
    }

    #[test]
    fn device_lists() {
        let check = |text: &[&str], expect: &str| {
            let got = devices(rules(text).iter()).unwrap().map(|p| p.to_string()).join(" ");
            assert_eq!(got, expect, "{text:?}");
        };
        check(
            &["-a", "+c 1:3 rwm", "+c 136:* rw", "+b *:* m"],
            "DevicePolicy=strict DeviceAllow=block-* m;/dev/char/1:3 rwm;char-136 rw",
        );
        check(&["+a"], "DevicePolicy=auto DeviceAllow=");
        check(&["+a", "-c 1:3 w"], "DevicePolicy=auto DeviceAllow=");
        check(&["+c *:3 w"], "DevicePolicy=auto DeviceAllow=");
        check(&["+c 1:* r", "-c 1:3 r"], "DevicePolicy=auto DeviceAllow=");
    }
}
