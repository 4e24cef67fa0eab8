//! Documents of the OCI runtime specification 1.3, as far as they concern Linux.
//!
//! The types keep what the document says, as strings where the specification names a closed set: what a name means is
//! decided where it is lowered, which can then say what was asked and what is known. Unknown fields are ignored, as
//! the specification demands ("Extensibility"); `null` counts as absent, as Go's encoder writes it.

pub mod features;
pub mod linux;
pub mod seccomp;
pub mod spec;
pub mod state;

use serde::{Deserialize, Deserializer};

/// Reads a value for which `null` means the default, as the Go programs that write these documents take it.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Whether a value equals its type's default, so that it can be left out of a document.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
