//! The engine: sandboxes and the containers in them, from their making to their removal.
//!
//! [`request`] is what can be asked, [`container`] what is known, [`Engine`] does it. What a container is to be becomes the
//! runtime's configuration purely ([`spec`]).

pub mod cdi;
pub mod container;
pub mod events;
pub mod health;
pub mod logs;
pub mod profiles;
pub mod request;
pub mod restart;
pub mod settings;
pub mod spec;
pub mod stats;
pub mod top;
pub mod userns;

mod attach;
mod bundle;
mod checkpoint;
mod commit;
mod db;
mod engine;
mod error;
mod exec;
mod files;
mod healthcheck;
mod life;
mod logkeeping;
mod machine;
mod merge;
mod monitor;
mod names;
mod network;
mod plain;
mod rootfs;
mod sandbox;
mod size;
mod table;
mod usage;
mod volumes;

pub use attach::Attached;
pub use checkpoint::CreateCheckpoint;
pub use commit::Commit;
pub use container::View;
pub use engine::{Engine, Options};
pub use error::{Error, Kind, Result};
pub use exec::{ExecState, ExecView};
pub use files::{Change, ChangeKind, PathStat};
pub use life::{Ended, Made};
pub use network::{NetworkRecord, NetworkView};
pub use sandbox::{CreateSandbox, SandboxRecord};
pub use size::Size;
pub use table::Counts;
pub use volumes::{ANONYMOUS, CreateVolume, Volume};
