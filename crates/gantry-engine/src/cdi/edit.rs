//! What a specification asks for, done to settings.

use gantry_model::oci::linux::{self, Device};
use gantry_model::oci::spec;

use super::Error;
use super::document::{Edits, Hook, Mount, Node};
use crate::settings::{DeviceSetting, MountSetting, MountSource, Settings};

/// Changes settings as a specification asks. What it names replaces what was there at the same place.
pub(super) fn apply(
    edits: &Edits,
    settings: &mut Settings,
    look: &dyn Fn(&str) -> Result<Device, String>,
) -> Result<(), Error> {
    settings.env.extend(edits.env.iter().cloned());
    for node in &edits.device_nodes {
        let device = device(node, settings, look)?;
        settings.devices.retain(|known| known.device.path != device.path);
        let access = if node.permissions.is_empty() { "rwm" } else { &node.permissions };
        settings.devices.push(DeviceSetting { device, access: access.to_owned() });
    }
    for device in &edits.net_devices {
        let name = linux::NetDevice { name: device.name.clone() };
        settings.net_devices.insert(device.host_interface_name.clone(), name);
    }
    for asked in &edits.mounts {
        settings.mounts.retain(|known| known.target != asked.container_path);
        settings.mounts.push(mount(asked));
    }
    for asked in &edits.hooks {
        add_hook(asked, &mut settings.hooks);
    }
    if let Some(rdt) = &edits.intel_rdt {
        settings.intel_rdt = Some(linux::IntelRdt {
            clos_id: rdt.clos_id.clone(),
            schemata: rdt.schemata.clone().unwrap_or_default(),
            l3_cache_schema: rdt.l3_cache_schema.clone(),
            mem_bw_schema: rdt.mem_bw_schema.clone(),
            enable_monitoring: rdt.enable_monitoring,
        });
    }
    let groups = &mut settings.user.additional_gids;
    for gid in edits.additional_gids.iter().filter(|gid| **gid != 0) {
        if !groups.contains(gid) {
            groups.push(*gid);
        }
    }
    Ok(())
}

/// A device file: as it is said, and what is not said, as it is on the host.
fn device(node: &Node, settings: &Settings, look: &dyn Fn(&str) -> Result<Device, String>) -> Result<Device, Error> {
    let outside = if node.host_path.is_empty() { &node.path } else { &node.host_path };
    let enough = !node.kind.is_empty() && (node.major != 0 || node.kind == "p");
    let owner = |asked: Option<u32>, own: u32| asked.or(Some(own).filter(|own| *own != 0));
    let mut device = Device {
        path: node.path.clone(),
        kind: node.kind.clone(),
        major: node.major,
        minor: node.minor,
        file_mode: node.file_mode,
        uid: owner(node.uid, settings.user.uid),
        gid: owner(node.gid, settings.user.gid),
    };
    let found = match look(outside) {
        Ok(found) => found,
        Err(_) if enough => return Ok(device),
        Err(cause) => return Err(Error::Host { path: outside.clone(), cause }),
    };
    device.file_mode = device.file_mode.or(found.file_mode);
    if enough {
        return Ok(device);
    }
    if device.kind.is_empty() {
        device.kind.clone_from(&found.kind);
    }
    let alike = device.kind == found.kind || (device.kind == "u" && found.kind == "c");
    if !alike {
        let (inside, outside) = (node.path.clone(), outside.clone());
        return Err(Error::Kind { inside, outside, wanted: device.kind, found: found.kind });
    }
    if device.kind != "p" && device.major == 0 {
        (device.major, device.minor) = (found.major, found.minor);
    }
    Ok(device)
}

fn mount(asked: &Mount) -> MountSetting {
    let mut options = asked.options.clone();
    let kind = if asked.kind.is_empty() { "bind" } else { &asked.kind };
    if kind == "bind" && !options.iter().any(|option| option == "bind" || option == "rbind") {
        options.push("rbind".to_owned());
    }
    let source = MountSource::Other { kind: kind.to_owned(), source: asked.host_path.clone(), options };
    MountSetting { target: asked.container_path.clone(), readonly: false, source }
}

fn add_hook(asked: &Hook, hooks: &mut spec::Hooks) {
    let list = match asked.point.as_str() {
        "prestart" => &mut hooks.prestart,
        "createRuntime" => &mut hooks.create_runtime,
        "createContainer" => &mut hooks.create_container,
        "startContainer" => &mut hooks.start_container,
        "poststart" => &mut hooks.poststart,
        // The last one that a specification may name.
        _ => &mut hooks.poststop,
    };
    list.push(spec::Hook {
        path: asked.path.clone(),
        args: asked.args.clone(),
        env: asked.env.clone(),
        timeout: asked.timeout,
    });
}
