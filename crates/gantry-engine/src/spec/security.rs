//! Capabilities and device rules.

use gantry_model::oci::linux::DeviceRule;
use gantry_model::oci::spec::{Capabilities, User};

use super::{Invalid, defaults};
use crate::settings::{Security, Settings};

/// The sets of a container's process. What a user who is not root gets is what programs with file capabilities may have.
pub(super) fn capabilities(security: &Security, user: &User, all: &[String]) -> Result<Capabilities, Invalid> {
    let given = |names: &[String]| -> Result<Vec<String>, Invalid> {
        let mut list = Vec::new();
        for name in names {
            let upper = name.to_ascii_uppercase();
            if upper == "ALL" {
                list.extend_from_slice(all);
                continue;
            }
            let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            if !all.contains(&full) {
                return Err(Invalid::Capability(name.clone()));
            }
            list.push(full);
        }
        Ok(list)
    };
    let (added, dropped) = (given(&security.cap_add)?, given(&security.cap_drop)?);
    let mut set: Vec<String> = if security.privileged {
        all.to_vec()
    } else {
        let default = defaults::CAPABILITIES.iter().map(|&name| name.to_owned());
        default.filter(|name| all.contains(name) && !dropped.contains(name)).chain(added).collect()
    };
    set.sort_unstable();
    set.dedup();
    let own = if user.uid == 0 { set.clone() } else { vec![] };
    Ok(Capabilities { bounding: set, effective: own.clone(), permitted: own, ..Capabilities::default() })
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
    let asked = settings.devices.iter().filter(|device| device.kind != "p");
    let asked = asked.map(|device| rule(&device.kind, Some(device.major), Some(device.minor), "rwm"));
    // Rules that were given for a device go before what its mention alone gives.
    std::iter::once(everything(false))
        .chain(default)
        .chain(asked)
        .chain(settings.device_rules.iter().cloned())
        .collect()
}
