//! The operations on containers.

mod checkpoint;
mod create;
mod exec;
mod manage;
mod mounts;

use std::fmt;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use gantry_model::ContainerId;
use gantry_model::oci::spec::{Process, Spec};
use gantry_model::oci::state::Status;

use crate::error::Result;
use crate::lower::Flags;
use crate::record::{Directory, Record, Store};

pub(crate) use create::lower_text;

/// The runtime: where it keeps its state, and how it makes cgroups.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// The containers.
    pub store: Store,
    /// Whether systemd makes the cgroups.
    pub systemd: bool,
    /// Whether there are to be no cgroups at all.
    pub no_cgroups: bool,
    /// Whether missing rights over cgroups are no error; absent is found out.
    pub rootless: Option<bool>,
    /// Gets what is worth a warning.
    pub warn: Warn,
}

/// Where warnings go: what was asked for and is not done, what failed and changes nothing.
#[derive(Clone)]
pub struct Warn(Rc<Sink>);

type Sink = dyn Fn(&dyn fmt::Display);

impl Warn {
    /// Warnings go to this function.
    pub fn to(sink: impl Fn(&dyn fmt::Display) + 'static) -> Self {
        Self(Rc::new(sink))
    }

    /// Warns.
    pub(crate) fn say(&self, what: impl fmt::Display) {
        (self.0)(&what);
    }
}

impl fmt::Debug for Warn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Warn")
    }
}

/// What a container is made from.
#[derive(Clone, Debug)]
pub struct CreateRequest<'a> {
    /// Its identifier.
    pub id: &'a ContainerId,
    /// Absolute path of the bundle.
    pub bundle: &'a str,
    /// Path of the configuration, if it is not the bundle's.
    pub config: Option<&'a str>,
    /// Flags of the command line.
    pub flags: &'a Flags,
    /// Whether the program is started at once.
    pub start: bool,
    /// The moment of creation, RFC 3339.
    pub now: &'a str,
}

/// A process to run in a container.
#[derive(Clone, Debug)]
pub struct ExecRequest<'a> {
    /// The container.
    pub id: &'a ContainerId,
    /// The process.
    pub process: Process,
    /// Flags of the command line.
    pub flags: &'a Flags,
    /// Cgroups below the container's to run in, each `PATH` or `CONTROLLER:PATH`.
    pub cgroups: &'a [String],
    /// Whether it may run in a paused container, where it waits for it to be resumed.
    pub ignore_paused: bool,
    /// Whether no process id file may be written before the program runs.
    pub now: &'a str,
}

/// A process that was made and runs.
#[derive(Debug)]
pub struct Created {
    /// Its id.
    pub pid: i32,
    /// A descriptor of it.
    pub pidfd: OwnedFd,
    /// The master of its terminal, where the caller shows it.
    pub console: Option<OwnedFd>,
    /// The container that was made for it; none for a process that joined one.
    pub container: Option<Container>,
}

/// A container in the hands of the command that made it.
#[derive(Debug)]
pub struct Container {
    pub(crate) directory: Directory,
    pub(crate) record: Record,
    pub(crate) spec: Spec,
    notify: Option<OwnedFd>,
}

impl Container {
    /// The socket on which the program says that it is ready, where [`Flags::notify_socket`] asked for it; once.
    pub fn take_notify(&mut self) -> Option<OwnedFd> {
        self.notify.take()
    }

    /// Whether it ended by a checkpoint.
    pub fn is_checkpointed(&self) -> bool {
        self.directory.is_checkpointed()
    }

    /// How many processes in its cgroup the kernel has killed for want of memory; 0 where that is not counted.
    pub fn oom_kills(&self) -> u64 {
        self.record.cgroup.oom_kill_count().unwrap_or(0)
    }
}

/// A container as it is found.
#[derive(Clone, Debug)]
pub struct Report {
    /// What is recorded.
    pub record: Record,
    /// Its configuration.
    pub spec: Spec,
    /// Where it is in its life.
    pub status: Status,
}

impl Runtime {
    /// Finds a container.
    pub fn report(&self, id: &ContainerId) -> Result<Report> {
        let directory = self.store.open(id)?;
        let Some(record) = directory.record()? else { return Err(crate::Error::NotFound(id.to_string())) };
        let status = directory.status(&record);
        Ok(Report { spec: directory.config()?, status, record })
    }
}
