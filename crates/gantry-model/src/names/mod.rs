//! Names of the kernel and the specification, and the numbers they stand for.
//!
//! A configuration speaks in names; system calls want numbers. The translation is pure and lies here, apart from both,
//! so that everything a configuration can say is checked before the first system call is made. The constants are
//! written out: they are the kernel's interface on the machines Gantry runs on (x86-64 and arm64 agree on all of them),
//! and this crate has no libc.

pub mod capability;
pub mod cpulist;
pub mod device;
pub mod idmap;
pub mod ioprio;
pub mod mempolicy;
pub mod mount;
pub mod namespace;
pub mod netdevice;
pub mod personality;
pub mod rlimit;
pub mod scheduler;
pub mod signal;
pub mod sysctl;
pub mod timens;

/// The longest part of a value that is repeated in a message, in characters.
const SHOWN: usize = 64;

/// Why a name or a value of a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A name outside the closed set of its kind.
    #[error("unknown {what} {name:?}: {hint}")]
    Unknown {
        /// The kind of name, as "signal".
        what: &'static str,
        /// The name as given, cut to a length that fits a message.
        name: String,
        /// What a known name looks like.
        hint: &'static str,
    },
    /// A value that its kind does not admit.
    #[error("invalid {what} {value:?}: {why}")]
    Invalid {
        /// The kind of value, as "cpu list".
        what: &'static str,
        /// The value as given, cut to a length that fits a message.
        value: String,
        /// What is wrong with it, and what would do.
        why: String,
    },
}

impl NameError {
    fn unknown(what: &'static str, name: &str, hint: &'static str) -> Self {
        Self::Unknown { what, name: shown(name), hint }
    }

    fn invalid(what: &'static str, value: &str, why: impl Into<String>) -> Self {
        Self::Invalid { what, value: shown(value), why: why.into() }
    }
}

/// The part of `text` that a message repeats.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// A decimal number: digits alone, no sign, no space.
fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Finds a name in a table.
fn lookup<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == name).map(|&(_, value)| value)
}
