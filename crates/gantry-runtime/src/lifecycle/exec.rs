//! Running a further process in a container.

use std::os::fd::{AsFd, OwnedFd};

use gantry_model::names::namespace::NamespaceKind;
use gantry_model::oci::spec::Spec;
use gantry_model::oci::state::Status;
use rustix::fs::OFlags;

use super::create::{check_preserved, write_pid_file};
use super::{Created, ExecRequest, Runtime};
use crate::error::{Context, Error, Result};
use crate::filter::filter_of;
use crate::host;
use crate::interp::{self, Outcome, Run};
use crate::lower::{CgroupInput, ExecInput, keeps_groups, lower_exec};
use crate::record::Record;
use crate::step::Slot;

impl Runtime {
    /// Runs a process in a container.
    pub fn exec(&self, request: &ExecRequest<'_>) -> Result<Created> {
        check_preserved(request.flags)?;
        let directory = self.store.open(request.id)?;
        let record = directory.record()?.ok_or_else(|| Error::NotFound(request.id.to_string()))?;
        let status = directory.status(&record);
        let allowed = match status {
            Status::Running | Status::Created => true,
            Status::Paused => request.ignore_paused,
            Status::Creating | Status::Stopped => false,
        };
        let refused = || Error::Status { action: "exec in", id: request.id.to_string(), status };
        if !allowed {
            return Err(refused());
        }
        let spec = directory.config()?;
        let init = record.process().ok_or_else(refused)?;
        let mut host = host::detect(&spec);
        // The process may ask for labels that the container does not.
        host.apparmor = !request.process.apparmor_profile.is_empty() && host::apparmor();
        host.selinux = host.selinux || (!request.process.selinux_label.is_empty() && host::selinux());
        let seccomp = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        let filter = seccomp.map(|profile| filter_of(profile, self.store.root())).transpose()?;
        let (namespaces, root) = namespaces_of(&spec, &record)?;
        let subs: Vec<&str> = request.cgroups.iter().map(String::as_str).collect();
        let location = if subs.is_empty() { record.cgroup.clone() } else { record.cgroup.with_sub(&subs)? };
        let cgroup = cgroup_input(&location);
        let input = ExecInput {
            id: request.id,
            process: &request.process,
            seccomp: filter.is_some(),
            host: &host,
            flags: request.flags,
            cgroup: &cgroup,
            namespaces,
            init: Slot(0),
            root: root.is_some().then_some(Slot(1)),
            groups: !record.groups_denied && !keeps_groups(&spec),
        };
        let steps = lower_exec(&input)?;
        let mut nothing = |_: i32| Ok(());
        let outcome = interp::run(Run {
            steps: &steps,
            // Init may have moved deeper, to hand on limits to what it starts; then its own cgroup takes no process any
            // more, and one that joins belongs beside it. A cgroup that was asked for is taken as it is.
            cgroups: &|nth| match nth {
                0 => location.clone_dir(),
                1 if subs.is_empty() => record.cgroup.init_dir(record.pid),
                _ => None,
            },
            filter,
            state: record.state(&spec, status),
            directory: Some(directory.as_fd()),
            held: [Some(init), root].into_iter().flatten().collect(),
            warn: &self.warn,
            record: &mut nothing,
        });
        let Outcome { child, console, .. } = outcome?;
        if let Some(path) = &request.flags.pid_file {
            write_pid_file(path, child.pid).inspect_err(|_| {
                let _ = gantry_sys::misc::pidfd_send_signal(child.pidfd.as_fd(), 9);
            })?;
        }
        Ok(Created { pid: child.pid, pidfd: child.pidfd, console, container: None })
    }
}

/// How a process enters a container's cgroup.
fn cgroup_input(location: &gantry_cgroup::Location) -> CgroupInput {
    CgroupInput {
        clone_into: location.unified_dir().is_some(),
        join: location.join_files().iter().map(|path| path.to_string_lossy().into_owned()).collect(),
        ..CgroupInput::default()
    }
}

/// The namespaces that the container does not share with the runtime, and the container's root where its mount
/// namespace is shared.
pub(super) fn namespaces_of(spec: &Spec, record: &Record) -> Result<(u64, Option<OwnedFd>)> {
    let mut bits = 0;
    for namespace in spec.linux.iter().flat_map(|linux| &linux.namespaces) {
        let kind = NamespaceKind::from_name(&namespace.kind)
            .map_err(|error| Error::config("linux.namespaces", error.to_string()))?;
        bits |= kind.clone_flag();
    }
    // Joining the user namespace that one is in already is refused by the kernel.
    let own = |kind: NamespaceKind| {
        let link = |whose: &str| rustix::fs::readlink(format!("/proc/{whose}/ns/{}", kind.proc_name()), vec![]).ok();
        link("self") == link(&record.pid.to_string())
    };
    if bits & NamespaceKind::User.clone_flag() != 0 && own(NamespaceKind::User) {
        bits &= !NamespaceKind::User.clone_flag();
    }
    if bits & NamespaceKind::Mount.clone_flag() != 0 {
        return Ok((bits, None));
    }
    let path = format!("/proc/{}/root", record.pid);
    let root = interp::paths::open_host(&path, OFlags::PATH | OFlags::DIRECTORY).context(|| format!("open {path}"))?;
    Ok((bits, Some(root)))
}
