//! The seccomp part of `config.json` (config-linux.md, Seccomp).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{is_default, nullable};

/// The seccomp object as it stands in the document. It is by far the largest part of a usual configuration, so it is
/// parsed only when no compiled filter is found for its bytes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct RawSeccomp(Box<RawValue>);

impl RawSeccomp {
    /// The object's text.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// Parses the object.
    pub fn parse(&self) -> serde_json::Result<Seccomp> {
        serde_json::from_str(self.text())
    }

    /// Writes an object into its raw form.
    pub fn from_profile(profile: &Seccomp) -> serde_json::Result<Self> {
        serde_json::value::to_raw_value(profile).map(Self)
    }
}

impl PartialEq for RawSeccomp {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

/// A system call filter (config-linux.md, Seccomp).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// Action for a call that no rule matches, as `SCMP_ACT_ERRNO`.
    pub default_action: String,
    /// Error number of the default action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// Architectures beyond the native one, as `SCMP_ARCH_X86`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub architectures: Vec<String>,
    /// As `SECCOMP_FILTER_FLAG_LOG`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub flags: Vec<String>,
    /// Socket that gets the notify descriptor.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub listener_path: String,
    /// Handed on with it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub listener_metadata: String,
    /// Rules.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub syscalls: Vec<SyscallRule>,
}

/// A rule: names, condition, action (config-linux.md, Seccomp).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyscallRule {
    /// Names of system calls.
    pub names: Vec<String>,
    /// What to do.
    pub action: String,
    /// Error number, or the message of a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions, all of which must hold.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub args: Vec<SyscallArg>,
}

/// A condition on an argument (config-linux.md, Seccomp).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyscallArg {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// Operand.
    pub value: u64,
    /// Second operand: the value under a mask.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub value_two: u64,
    /// As `SCMP_CMP_EQ`.
    pub op: String,
}
