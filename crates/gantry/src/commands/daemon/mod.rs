//! The commands that ask the daemon about all that it keeps: networks, volumes, the system, images.

pub mod checkpoints;
pub mod events;
pub mod files;
pub mod filters;
pub mod images;
pub mod inspect;
pub mod networks;
pub mod pull;
pub mod system;
pub mod version;
pub mod volumes;
