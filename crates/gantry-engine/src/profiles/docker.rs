//! Profiles in Docker's format: the runtime's, and conditions with each rule.

use gantry_model::oci::seccomp::{Seccomp, SyscallArg, SyscallRule};
use serde::{Deserialize, Deserializer};

use super::rules::{Case, When};

/// Bytes of a profile.
const MAX: usize = 1 << 20;

/// What is wrong with a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProfile {
    /// It is too long.
    #[error("it has {0} bytes, and may have {MAX}")]
    Size(usize),
    /// It is not JSON, or not of this shape.
    #[error("{0}")]
    Json(String),
    /// Two fields of which there can be one.
    #[error("both {0:?} and {1:?} are specified, use either {0:?} or {1:?}")]
    Both(&'static str, &'static str),
    /// A version of a kernel that is none.
    #[error("invalid kernel version: {0:?}, expected \"<kernel>.<major>\"")]
    Kernel(String),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(deserialize_with = "nullable")]
    architectures: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    arch_map: Vec<ArchMap>,
    #[serde(deserialize_with = "nullable")]
    flags: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    listener_path: String,
    #[serde(deserialize_with = "nullable")]
    listener_metadata: String,
    #[serde(deserialize_with = "nullable")]
    syscalls: Vec<Rule>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ArchMap {
    architecture: String,
    #[serde(deserialize_with = "nullable")]
    sub_architectures: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable")]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(deserialize_with = "nullable")]
    args: Vec<SyscallArg>,
    #[serde(deserialize_with = "nullable")]
    includes: Condition,
    #[serde(deserialize_with = "nullable")]
    excludes: Condition,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    #[serde(deserialize_with = "nullable")]
    caps: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    arches: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    min_kernel: String,
}

impl Condition {
    fn when(&self) -> Result<When<'_, String>, BadProfile> {
        let kernel = if self.min_kernel.is_empty() { None } else { Some(version(&self.min_kernel)?) };
        Ok(When { capabilities: &self.caps, architectures: &self.arches, kernel })
    }
}

fn version(text: &str) -> Result<(u32, u32), BadProfile> {
    let number = |part: &str| part.parse::<u8>().ok().map(u32::from);
    let parts = text.split_once('.').and_then(|(kernel, major)| number(kernel).zip(number(major)));
    parts.filter(|parts| *parts != (0, 0)).ok_or_else(|| BadProfile::Kernel(text.to_owned()))
}

pub(super) fn resolve(text: &str, case: &Case<'_>) -> Result<Option<Seccomp>, BadProfile> {
    if text.len() > MAX {
        return Err(BadProfile::Size(text.len()));
    }
    let profile: Profile = serde_json::from_str(text).map_err(|error| BadProfile::Json(error.to_string()))?;
    if profile.default_action.is_empty() && profile.syscalls.is_empty() {
        return Ok(None);
    }
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err(BadProfile::Both("architectures", "archMap"));
    }
    let mut architectures = profile.architectures;
    if let Some(map) = profile.arch_map.into_iter().find(|map| Some(map.architecture.as_str()) == case.filter_arch()) {
        architectures.push(map.architecture);
        architectures.extend(map.sub_architectures);
    }
    let mut syscalls = Vec::with_capacity(profile.syscalls.len());
    for rule in profile.syscalls {
        if !rule.name.is_empty() && !rule.names.is_empty() {
            return Err(BadProfile::Both("name", "names"));
        }
        if rule.excludes.when()?.any(case) || !rule.includes.when()?.all(case) {
            continue;
        }
        let names = if rule.name.is_empty() { rule.names } else { vec![rule.name] };
        syscalls.push(SyscallRule { names, action: rule.action, errno_ret: rule.errno_ret, args: rule.args });
    }
    Ok(Some(Seccomp {
        default_action: profile.default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags,
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls,
    }))
}

/// A null stands for nothing, as it does for whoever writes such documents.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
