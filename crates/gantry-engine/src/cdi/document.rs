//! A specification, read and checked (cncf-tags/container-device-interface, SPEC.md).

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Deserializer};

use super::yaml;

/// Devices of a specification.
const MAX_DEVICES: usize = 4096;
/// Changes of a kind that a device asks for.
const MAX_EDITS: usize = 4096;

/// Versions, the oldest first. What came with a later one may not stand in an older document.
const VERSIONS: [&str; 8] = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Document {
    cdi_version: String,
    pub(super) kind: String,
    #[serde(deserialize_with = "nullable")]
    annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) devices: Vec<NamedDevice>,
    #[serde(deserialize_with = "nullable")]
    pub(super) container_edits: Edits,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct NamedDevice {
    pub(super) name: String,
    #[serde(deserialize_with = "nullable")]
    annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) container_edits: Edits,
}

/// What is done to a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Edits {
    #[serde(deserialize_with = "nullable")]
    pub(super) env: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) device_nodes: Vec<Node>,
    #[serde(deserialize_with = "nullable")]
    pub(super) net_devices: Vec<NetDevice>,
    #[serde(deserialize_with = "nullable")]
    pub(super) hooks: Vec<Hook>,
    #[serde(deserialize_with = "nullable")]
    pub(super) mounts: Vec<Mount>,
    pub(super) intel_rdt: Option<IntelRdt>,
    #[serde(deserialize_with = "nullable")]
    pub(super) additional_gids: Vec<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Node {
    pub(super) path: String,
    pub(super) host_path: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) major: i64,
    pub(super) minor: i64,
    pub(super) file_mode: Option<u32>,
    pub(super) permissions: String,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct NetDevice {
    pub(super) host_interface_name: String,
    pub(super) name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Hook {
    #[serde(rename = "hookName")]
    pub(super) point: String,
    pub(super) path: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) args: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) env: Vec<String>,
    pub(super) timeout: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Mount {
    pub(super) host_path: String,
    pub(super) container_path: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) options: Vec<String>,
    #[serde(rename = "type")]
    pub(super) kind: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct IntelRdt {
    #[serde(rename = "closID")]
    pub(super) clos_id: String,
    pub(super) l3_cache_schema: String,
    pub(super) mem_bw_schema: String,
    pub(super) schemata: Option<Vec<String>>,
    pub(super) enable_monitoring: bool,
}

/// Points of a container's life at which hooks run.
const HOOKS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Reads a specification, JSON or else YAML, and checks it.
pub(super) fn parse(text: &str, is_json: bool) -> Result<Document, String> {
    let document = if is_json { serde_json::from_str(text) } else { yaml::parse(text) };
    let document = document.map_err(|error| error.to_string())?;
    check(&document)?;
    Ok(document)
}

fn check(document: &Document) -> Result<(), String> {
    let version = document.cdi_version.trim_start_matches('v');
    let (needs, field) = needed(document);
    let at = |version: &str| VERSIONS.iter().position(|known| *known == version);
    let known = at(version).ok_or_else(|| format!("invalid version {:?}", document.cdi_version))?;
    if at(needs).is_some_and(|needs| needs > known) {
        return Err(format!("the spec version must be at least v{needs} for {field}"));
    }
    let (vendor, class) = document.kind.split_once('/').unwrap_or(("", &document.kind));
    if !is_kind(vendor) || !is_kind(class) {
        return Err(format!("invalid kind {:?}: VENDOR/CLASS is meant", document.kind));
    }
    if document.devices.is_empty() {
        return Err("invalid spec, no devices".to_owned());
    }
    if document.devices.len() > MAX_DEVICES {
        return Err(format!("it has {} devices, and may have {MAX_DEVICES}", document.devices.len()));
    }
    document.container_edits.check()?;
    let mut names = HashSet::new();
    for device in &document.devices {
        let name = &device.name;
        if !is_name(name) {
            return Err(format!("invalid device name {name:?}"));
        }
        if !names.insert(name) {
            return Err(format!("invalid spec, multiple device {name:?}"));
        }
        if device.container_edits == Edits::default() {
            return Err(format!("invalid device {name:?}, empty device edits"));
        }
        device.container_edits.check().map_err(|cause| format!("invalid device {name:?}: {cause}"))?;
    }
    Ok(())
}

/// The version that the content needs, and for what.
fn needed(document: &Document) -> (&'static str, &'static str) {
    let all = || document.devices.iter().map(|device| &device.container_edits).chain([&document.container_edits]);
    let any = |test: &dyn Fn(&Edits) -> bool| all().any(test);
    let newer = |rdt: &IntelRdt| rdt.schemata.is_some() || rdt.enable_monitoring;
    let annotated =
        !document.annotations.is_empty() || document.devices.iter().any(|device| !device.annotations.is_empty());
    let class = document.kind.split_once('/').map_or("", |(_, class)| class);
    let digit = |device: &NamedDevice| device.name.starts_with(|c: char| c.is_ascii_digit());
    let rules: [(bool, &str, &str); 9] = [
        (any(&|edits| !edits.net_devices.is_empty()), "1.1.0", "netDevices"),
        (any(&|edits| edits.intel_rdt.as_ref().is_some_and(newer)), "1.1.0", "intelRdt.schemata"),
        (any(&|edits| edits.intel_rdt.is_some()), "0.7.0", "intelRdt"),
        (any(&|edits| !edits.additional_gids.is_empty()), "0.7.0", "additionalGids"),
        (annotated, "0.6.0", "annotations"),
        (class.contains('.'), "0.6.0", "a dot in the class"),
        (document.devices.iter().any(digit), "0.5.0", "a name that begins with a digit"),
        (any(&|edits| edits.device_nodes.iter().any(|node| !node.host_path.is_empty())), "0.5.0", "hostPath"),
        (any(&|edits| edits.mounts.iter().any(|mount| !mount.kind.is_empty())), "0.4.0", "the type of a mount"),
    ];
    rules.into_iter().find(|(is_so, ..)| *is_so).map_or(("0.3.0", ""), |(_, version, field)| (version, field))
}

impl Edits {
    fn check(&self) -> Result<(), String> {
        let counts =
            [self.env.len(), self.device_nodes.len(), self.net_devices.len(), self.hooks.len(), self.mounts.len()];
        if let Some(count) = counts.into_iter().chain([self.additional_gids.len()]).find(|count| *count > MAX_EDITS) {
            return Err(format!("it has {count} edits of a kind, and may have {MAX_EDITS}"));
        }
        check_env(&self.env)?;
        self.device_nodes.iter().try_for_each(Node::check)?;
        self.hooks.iter().try_for_each(Hook::check)?;
        for mount in &self.mounts {
            if mount.host_path.is_empty() || !is_path(&mount.container_path) {
                return Err(format!("invalid mount of {:?} at {:?}", mount.host_path, mount.container_path));
            }
        }
        let (mut outside, mut inside) = (HashSet::new(), HashSet::new());
        for NetDevice { host_interface_name: host, name } in &self.net_devices {
            if host.is_empty() || name.is_empty() {
                return Err("invalid linux net device, empty name".to_owned());
            }
            if !outside.insert(host) || !inside.insert(name) {
                return Err(format!("invalid linux net device, duplicate {host:?} or {name:?}"));
            }
        }
        match self.intel_rdt.as_ref().map(|rdt| rdt.clos_id.as_str()) {
            Some(id) if id != "/" && (id.len() >= 4096 || id == "." || id == ".." || id.contains(['/', '\n'])) => {
                Err(format!("invalid ClosID {id:?}"))
            }
            _ => Ok(()),
        }
    }
}

impl Node {
    fn check(&self) -> Result<(), String> {
        let path = &self.path;
        if !is_path(path) {
            return Err(format!("invalid device path {path:?}"));
        }
        if !["", "b", "c", "u", "p"].contains(&self.kind.as_str()) {
            return Err(format!("device {path:?}: invalid type {:?}", self.kind));
        }
        if self.permissions.len() > 3 || !self.permissions.chars().all(|letter| "rwm".contains(letter)) {
            return Err(format!("device {path:?}: invalid permissions {:?}", self.permissions));
        }
        Ok(())
    }
}

impl Hook {
    fn check(&self) -> Result<(), String> {
        let name = &self.point;
        if !HOOKS.contains(&name.as_str()) {
            return Err(format!("invalid hook name {name:?}"));
        }
        if !is_path(&self.path) {
            return Err(format!("invalid hook {name:?} with path {:?}", self.path));
        }
        check_env(&self.env).map_err(|cause| format!("invalid hook {name:?}: {cause}"))
    }
}

fn check_env(env: &[String]) -> Result<(), String> {
    let wrong = env.iter().find(|variable| variable.find('=').is_none_or(|at| at == 0) || variable.contains('\0'));
    wrong.map_or(Ok(()), |variable| Err(format!("invalid environment variable {variable:?}")))
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && !path.split('/').any(|part| part == "..")
}

/// Whether a text can be a vendor or a class.
fn is_kind(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && is_word(text, "_-.")
}

/// Whether a text can be the name of a device.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && is_word(text, "_-.:")
}

fn is_word(text: &str, also: &str) -> bool {
    text.len() <= 255
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}

/// Whether a text is `VENDOR/CLASS=NAME`.
pub(super) fn is_full_name(text: &str) -> bool {
    let parts = text.split_once('=').and_then(|(kind, name)| Some((kind.split_once('/')?, name)));
    parts.is_some_and(|((vendor, class), name)| is_kind(vendor) && is_kind(class) && is_name(name))
}

/// A null stands for nothing.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
