//! Changing the mounts of a container that runs.

use std::os::fd::AsFd;

use gantry_model::ContainerId;
use gantry_model::oci::spec::Mount;
use gantry_model::oci::state::Status;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::exec::namespaces_of;
use super::{Report, Runtime};
use crate::error::{Context, Error, Result};
use crate::host;
use crate::interp::{self, Run};
use crate::lower::{MountsInput, lower_mounts};
use crate::step::Slot;

impl Runtime {
    /// Mounts in a container, or takes mounts away: then the destinations count alone. The first failure ends it; what
    /// was changed before it stays changed.
    pub fn change_mounts(&self, id: &ContainerId, mounts: &[Mount], add: bool) -> Result<()> {
        let Report { record, spec, status } = self.report(id)?;
        let refused = || Error::Status { action: "change the mounts of", id: id.to_string(), status };
        if matches!(status, Status::Creating | Status::Stopped) {
            return Err(refused());
        }
        let init = record.process().ok_or_else(refused)?;
        let (namespaces, _) = namespaces_of(&spec, &record)?;
        let steps = lower_mounts(&MountsInput {
            id,
            bundle: &record.bundle,
            spec: &spec,
            host: &host::detect(&spec),
            mounts,
            add,
            namespaces,
            init: Slot(0),
        })?;
        let outcome = interp::run(Run {
            steps: &steps,
            cgroups: &|_| None,
            filter: None,
            state: record.state(&spec, status),
            directory: None,
            held: vec![init],
            warn: &self.warn,
            record: &mut |_| Ok(()),
        })?;
        let ended = waitid(WaitId::PidFd(outcome.child.pidfd.as_fd()), WaitIdOptions::EXITED);
        match ended.context(|| format!("wait for the process in container {id}"))?.and_then(|end| end.exit_status()) {
            Some(0) => Ok(()),
            _ => Err(Error::InitDied("it was killed in the container".to_owned())),
        }
    }
}
