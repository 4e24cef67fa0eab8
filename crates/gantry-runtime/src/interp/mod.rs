//! Carries steps out, and decides nothing.
//!
//! Two processes walk over the same list. The runtime makes the container's process at the clone step; from there on
//! each does its own steps, and they meet where the list passes from one to the other. The container's process holds
//! one end of a channel that is closed by exec: its end says that the program runs, a message before says why not.

// An arm that fills a slot and has nothing to say is one expression.
#![allow(clippy::unit_arg)]

mod channel;
mod console;
mod copyup;
mod devices;
pub(crate) mod hooks;
mod init;
pub(crate) mod mounts;
pub(crate) mod paths;
mod process;
mod runtime;
pub(crate) mod shared;

use std::os::fd::{BorrowedFd, OwnedFd};

use gantry_model::oci::state::{State, Status};
use gantry_seccomp::Filter;

pub(crate) use channel::{Channel, Message};
pub(crate) use runtime::{Child, Outcome, START_SOCKET, move_device, resctrl, run, send_notify, start_address};

use crate::error::{Error, Result};
use crate::lifecycle::Warn;
use crate::step::{Slot, Step};

/// What the steps are carried out with.
pub(crate) struct Run<'a> {
    /// The list.
    pub(crate) steps: &'a [Step],
    /// Directories of cgroups in which the container's process is born: the first, or the next where the kernel lets it
    /// not into one. Opened when it is made.
    pub(crate) cgroups: &'a dyn Fn(usize) -> Option<OwnedFd>,
    /// The system call filter.
    pub(crate) filter: Option<Filter>,
    /// The container's state, for hooks and listeners; status and process are filled in.
    pub(crate) state: State,
    /// The container's directory, where its start socket is.
    pub(crate) directory: Option<BorrowedFd<'a>>,
    /// Descriptors that the first slots hold.
    pub(crate) held: Vec<OwnedFd>,
    /// Gets what is worth a warning.
    pub(crate) warn: &'a Warn,
    /// Called with the container's process as soon as it is made.
    pub(crate) record: &'a mut dyn FnMut(i32) -> Result<()>,
}

/// Descriptors by slot.
#[derive(Default)]
pub(crate) struct Slots(Vec<Option<OwnedFd>>);

impl Slots {
    fn put(&mut self, slot: Slot, fd: OwnedFd) {
        let index = usize::from(slot.0);
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(fd);
    }

    fn get(&self, slot: Slot) -> Result<&OwnedFd, String> {
        self.0.get(usize::from(slot.0)).and_then(Option::as_ref).ok_or_else(|| format!("slot {} is empty", slot.0))
    }

    fn take(&mut self, slot: Slot) -> Option<OwnedFd> {
        self.0.get_mut(usize::from(slot.0)).and_then(Option::take)
    }
}

/// The state with what only the moment knows.
fn state_at(state: &State, status: Status, pid: i32) -> State {
    State { status, pid: Some(pid), ..state.clone() }
}

/// An error of a step.
fn step_error(step: &Step, cause: impl Into<String>) -> Error {
    Error::Step { step: step.action.to_string(), cause: cause.into() }
}
