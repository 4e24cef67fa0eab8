//! What the integration tests of the runtime stand on.
//!
//! A test describes a container by changing the default configuration, runs the runtime's own command line on it, and
//! asks a small program inside ([`probe`]) what it finds. [`Container`] is a guard: when it goes out of scope it
//! deletes the container and looks for anything that was left behind, in the process table, the mount table and every
//! cgroup hierarchy. What it finds fails the test, whatever the test itself concluded.

pub mod cgroup;
pub mod command;
pub mod console;
pub mod container;
pub mod harness;
pub mod host;
pub mod json;
pub mod kit;
pub mod leak;
pub mod outcome;
pub mod probe;
pub mod reaper;
pub mod spec;

pub use container::Container;
pub use harness::Test;
pub use kit::Kit;
pub use outcome::{Outcome, Stop};
