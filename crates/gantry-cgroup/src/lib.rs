//! Control groups: what to make and write is planned purely; a thin edge carries it out.
//!
//! [`Layout`] says which hierarchies the host has: version 1, version 2, or both side by side. [`plan_create`] and
//! [`plan_update`] go from the resources of config.json to [`Step`]s, which say exactly what will be done, and
//! [`execute()`] does it. [`Location`] is what is kept of a cgroup that was made: it finds, freezes, signals, measures and
//! removes it. The systemd driver is the same plan with a unit in front.

mod devices;
mod ebpf;
mod error;
mod events;
mod execute;
mod io;
mod layout;
mod limits;
mod location;
mod path;
mod plan;
mod present;
mod remove;
mod stats;
mod step;
mod systemd;
mod v1;
mod v2;

pub use devices::{DeviceSet, Devices, Kind, Rule, Rules, Write as DeviceWrite, default_device_rules};
pub use ebpf::Program;
pub use error::Error;
pub use events::{OomEvent, OomWatch};
pub use execute::{execute, execute_all};
pub use layout::{Layout, Mount, UNIFIED};
pub use location::{Hierarchy, Location, UnitRef};
pub use plan::{CreatePlan, Request, plan_create, plan_update};
pub use stats::*;
pub use step::{Bus, Freezer, Step, Write};
pub use systemd::{Property, Value, user_manager};
