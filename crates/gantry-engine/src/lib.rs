//! The engine: sandboxes and the containers in them, from their making to their removal.
//!
//! [`request`] is what can be asked, [`container`] what is known, [`Engine`] does it. What a container is to be becomes the
//! runtime's configuration purely ([`spec`]).

pub mod container;
pub mod events;
pub mod request;
pub mod settings;
pub mod spec;

mod db;
mod error;

pub use error::{Error, Kind, Result};
