//! The life of a container: made, started, watched over, ended, removed, and found again after a start of the engine.

mod adopt;
mod create;
mod manage;
mod mounts;
mod remove;
mod start;
mod supervise;
mod wait;

pub use create::Made;
pub(crate) use start::{container_id, found_user};
pub use wait::Ended;
