//! The engine: sandboxes and the containers in them.
//!
//! What is here yet is its pure part: from what a container is to be ([`Settings`]) to the configuration that the runtime
//! makes it from ([`spec`]).

pub mod settings;
pub mod spec;

pub use settings::Settings;
