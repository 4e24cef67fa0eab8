//! Capabilities, devices, and rules for devices.

use std::collections::HashSet;

use gantry_model::oci::linux::{Device, DeviceRule};
use gantry_model::oci::spec::{Capabilities, User};

use super::{Invalid, defaults};
use crate::settings::{DeviceSetting, Security, Settings};

/// The sets of a container's process. What a user who is not root gets is what programs with file capabilities may have.
pub(super) fn capabilities(security: &Security, user: &User, all: &[String]) -> Result<Capabilities, Invalid> {
    let add_all = security.cap_add.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let drop_all = security.cap_drop.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let (added, dropped) = (named("CapAdd", &security.cap_add, all)?, named("CapDrop", &security.cap_drop, all)?);
    let without = |names: &mut dyn Iterator<Item = String>| -> Vec<String> {
        names.filter(|name| all.contains(name) && !dropped.contains(name)).collect()
    };
    let mut set = if security.privileged {
        all.to_vec()
    } else if add_all {
        without(&mut all.iter().cloned())
    } else if drop_all {
        added
    } else {
        let mut set = without(&mut defaults::CAPABILITIES.iter().map(|&name| name.to_owned()));
        set.extend(added);
        set
    };
    set.sort_unstable();
    set.dedup();
    let own = if user.uid == 0 { set.clone() } else { vec![] };
    Ok(Capabilities { bounding: set, effective: own.clone(), permitted: own, ..Capabilities::default() })
}

/// Capabilities by their full names; `ALL` is none of them.
fn named(field: &'static str, names: &[String], all: &[String]) -> Result<Vec<String>, Invalid> {
    let mut list = Vec::new();
    for name in names {
        let upper = name.to_ascii_uppercase();
        if upper == "ALL" {
            continue;
        }
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        if !all.contains(&full) {
            return Err(Invalid::Capability(field, full));
        }
        list.push(full);
    }
    Ok(list)
}

/// Which devices may be used: none but the harmless ones, and what was asked for. The last rule that fits counts.
pub(super) fn device_rules(settings: &Settings) -> Vec<DeviceRule> {
    let everything = |allow| DeviceRule { allow, access: Some("rwm".to_owned()), ..DeviceRule::default() };
    if settings.security.privileged {
        return vec![everything(true)];
    }
    let rule = |kind: &str, major, minor, access: &str| DeviceRule {
        allow: true,
        kind: Some(kind.to_owned()),
        major,
        minor,
        access: Some(access.to_owned()),
    };
    let default = defaults::DEVICES.iter().map(|&(kind, major, minor, access)| rule(kind, major, minor, access));
    let asked = settings.devices.iter().filter(|asked| asked.device.kind != "p");
    let asked = asked.map(|DeviceSetting { device, access }| {
        rule(kind_of(device), Some(device.major), Some(device.minor), if access.is_empty() { "rwm" } else { access })
    });
    std::iter::once(everything(false))
        .chain(default)
        .chain(asked)
        .chain(settings.device_rules.iter().cloned())
        .collect()
}

/// Of which kind a device is for rules: without a buffer it is a character device all the same.
fn kind_of(device: &Device) -> &str {
    if device.kind == "u" { "c" } else { &device.kind }
}

/// The device files of a container: those of the host where everything is allowed, then those that were asked for. Of two at
/// one place the last one counts.
pub(super) fn devices(settings: &Settings, host: &[Device]) -> Vec<Device> {
    let host = if settings.security.privileged { host } else { &[] };
    let all = host.iter().chain(settings.devices.iter().map(|asked| &asked.device));
    let mut seen = HashSet::new();
    let mut kept: Vec<Device> =
        all.collect::<Vec<_>>().into_iter().rev().filter(|device| seen.insert(&device.path)).cloned().collect();
    kept.reverse();
    kept
}
