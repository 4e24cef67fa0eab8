//! The OCI runtime: makes containers from bundles, and looks after them.
//!
//! A configuration and what is known of the host are lowered, purely, to a list of steps; an interpreter carries them
//! out ([`step`]). What has been made is recorded under the state root before it is made, so that whatever is cut off
//! can be removed wholly ([`record`]).

pub mod console;
pub mod error;
pub mod host;
pub mod notify;
pub mod record;
pub mod seal;
pub mod step;

mod criu;
mod filter;
mod interp;
mod lifecycle;
mod lower;

pub use criu::{CheckpointRequest, Criu, ManageCgroups, NetworkLock, RestoreRequest};
pub use error::{Error, Result};
pub use lifecycle::{Container, CreateRequest, Created, ExecRequest, Report, Runtime, Warn};
pub use lower::{CgroupMount, CgroupMounts, ConsoleTo, Flags, Host};

/// Lowers a configuration for a host that is given as data, and returns the steps as text: for tests and fuzzing.
pub fn lower_text(config: &[u8], host: &Host) -> Result<String> {
    lifecycle::lower_text(config, host)
}
