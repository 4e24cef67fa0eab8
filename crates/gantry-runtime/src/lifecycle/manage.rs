//! Operations on a container that exists.

use std::os::fd::AsFd;
use std::time::Duration;

use gantry_cgroup::{IntelRdtStats, Layout, Stats, plan_update};
use gantry_model::ContainerId;
use gantry_model::oci::linux::{Linux, Resources};
use gantry_model::oci::spec::Spec;
use gantry_model::oci::state::{State, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::{Container, Report, Runtime};
use crate::error::{Context, Error, Errors, Result};
use crate::filter::filter_of;
use crate::interp::hooks;
use crate::interp::{Channel, Child, Message, send_notify, start_address};
use crate::record::{Directory, Record};
use crate::step::HookKind;

const KILL: i32 = 9;
/// How long a killed process is waited for before it is looked for what keeps it.
const PROMPTLY: Duration = Duration::from_millis(200);
/// How long a killed process is waited for.
const DEATH: Duration = Duration::from_secs(10);

impl Runtime {
    /// All containers. One that cannot be read, because it is being removed or is broken, comes with its error.
    pub fn list(&self) -> Result<Vec<(ContainerId, Result<Report>)>> {
        Ok(self.store.list()?.into_iter().map(|id| (id.clone(), self.report(&id))).collect())
    }

    /// Starts a created container: its program runs when this returns, and its poststart hooks have. Where a service
    /// manager listens at `notify`, and creation knew of one, the program is ready as well, and the manager told.
    pub fn start(&self, id: &ContainerId, notify: Option<&str>) -> Result<()> {
        let directory = self.store.open(id)?;
        let Report { record, spec, status } = self.report(id)?;
        if status != Status::Created {
            return Err(Error::Status { action: "start", id: id.to_string(), status });
        }
        let gone = || Error::Status { action: "start", id: id.to_string(), status: Status::Stopped };
        let child = Child { pid: record.pid, pidfd: record.process().ok_or_else(gone)? };
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .context(|| "make a socket".to_owned())?;
        let address = start_address(directory.as_fd()).context(|| "name the start socket".to_owned())?;
        connect(&socket, &address).context(|| format!("connect to the start socket of {id}"))?;
        let channel = Channel::from_socket(socket);
        let listener = match notify {
            Some(_) => crate::notify::listen(directory.as_fd()).context(|| "listen on the notify socket".to_owned())?,
            None => None,
        };
        // From here on the container counts as started; if this process is killed now, its process sees the end of the
        // connection and waits on, so a second start is refused and only removal is left.
        directory.remove_start_socket()?;
        channel.send(&Message::Go).context(|| format!("start {id}"))?;
        let seccomp = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        loop {
            match channel.receive().context(|| format!("wait for the start of {id}"))? {
                Some(Message::NotifyFd(number)) => {
                    let Some(profile) = seccomp else {
                        return Err(Error::InitDied("it sent a listener unasked".to_owned()));
                    };
                    let filter = filter_of(profile, self.store.root())?;
                    send_notify(&child, number, &filter, &record.state(&spec, Status::Created))?;
                    channel.send(&Message::Go).context(|| format!("start {id}"))?;
                }
                Some(Message::Failed { step, cause }) if step.is_empty() => return Err(Error::InitDied(cause)),
                Some(Message::Failed { step, cause }) => return Err(Error::Step { step, cause }),
                Some(other) => return Err(Error::InitDied(format!("unexpected message {other:?}"))),
                None => break,
            }
        }
        if let Some((listener, to)) = listener.zip(notify) {
            crate::notify::forward(&listener, child.pidfd.as_fd(), to);
        }
        let poststart = spec.hooks.as_ref().map_or(&[][..], |hooks| &hooks.poststart);
        if poststart.is_empty() {
            return Ok(());
        }
        hooks::run(HookKind::Poststart, poststart, &record.state(&spec, Status::Running)).inspect_err(|_| {
            let _ = self.delete(id, true);
        })
    }

    /// Sends a signal to a container's first process, or to all of its processes; asked for all, it minds none being
    /// there.
    pub fn kill(&self, id: &ContainerId, signal: i32, all_asked: bool) -> Result<()> {
        let directory = self.store.open(id)?;
        let record = directory.record()?.ok_or_else(|| Error::NotFound(id.to_string()))?;
        // The kernel ends what is in the container's PID namespace with its first process; without one of its own, what
        // the container started would live on.
        let all = all_asked || signal == KILL && shares_pids(&still_there(id, directory.config())?);
        if all && record.cgroup.exists() {
            return Ok(record.cgroup.kill_all(signal)?);
        }
        let status = directory.status(&record);
        if all_asked && status == Status::Stopped {
            return Ok(());
        }
        let stopped = || Error::Status { action: "kill", id: id.to_string(), status: Status::Stopped };
        if matches!(status, Status::Stopped | Status::Creating) {
            return Err(Error::Status { action: "kill", id: id.to_string(), status });
        }
        let process = record.process().ok_or_else(stopped)?;
        match gantry_sys::misc::pidfd_send_signal(process.as_fd(), signal) {
            // It has been reaped meanwhile.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => return Err(stopped()),
            sent => sent.context(|| format!("signal container {id}"))?,
        }
        // A frozen process dies only once it thaws.
        if signal == KILL && status == Status::Paused {
            record.cgroup.thaw()?;
        }
        Ok(())
    }

    /// Removes what a container holds. With `force` its processes are killed, whatever it is doing.
    pub fn delete(&self, id: &ContainerId, force: bool) -> Result<()> {
        let directory = match self.store.open(id) {
            Err(Error::NotFound(_)) if force => return Ok(()),
            result => result?,
        };
        let Some(record) = directory.record()? else {
            // Making it was cut off before anything but the directory was made.
            return directory.remove();
        };
        let status = directory.status(&record);
        let spec = directory.config();
        // One that was never started goes as well, as engines that drive runc know it.
        if !matches!(status, Status::Stopped | Status::Created) && !force {
            return Err(Error::Status { action: "delete", id: id.to_string(), status });
        }
        let mut errors = Errors::default();
        if let Some(process) = record.process() {
            let _ = gantry_sys::misc::pidfd_send_signal(process.as_fd(), KILL);
            if status == Status::Paused {
                errors.note(record.cgroup.thaw().map_err(Error::from));
            }
            if !dies_within(&process, PROMPTLY) {
                // It may be frozen where the container does not know of it.
                errors.note(record.cgroup.kill_all(KILL).map_err(Error::from));
                await_death(&process);
            }
        }
        if record.pid != 0 {
            errors.note(kill_rest(&record));
        }
        errors.finish()?;
        self.clear(&directory, &record, spec.as_ref().ok())
    }

    /// Removes what a container holds whose first process was seen to end.
    pub fn finish(&self, container: &Container) -> Result<()> {
        self.clear(&container.directory, &container.record, Some(&container.spec))
    }

    /// Removes cgroup, classes and record, and runs the poststop hooks.
    fn clear(&self, directory: &Directory, record: &Record, spec: Option<&Spec>) -> Result<()> {
        let mut errors = Errors::default();
        if record.pid != 0 || is_ours(record) {
            errors.note(record.cgroup.delete().map_err(Error::from));
        }
        errors.note(release_mounts(directory, record, spec));
        for path in record.resctrl.iter().rev() {
            match rustix::fs::rmdir(path) {
                Err(rustix::io::Errno::NOENT) => {}
                result => errors.note(result.context(|| format!("remove {path}"))),
            }
        }
        errors.finish()?;
        // A poststop hook that fails is warned of, and changes nothing (runtime.md, Lifecycle).
        if let Some(spec) = spec {
            let state = record.state(spec, Status::Stopped);
            for hook in spec.hooks.iter().flat_map(|hooks| &hooks.poststop) {
                if let Err(error) = hooks::run(HookKind::Poststop, std::slice::from_ref(hook), &state) {
                    self.warn.say(error);
                }
            }
        }
        directory.remove()
    }

    /// The state document.
    pub fn state(&self, id: &ContainerId) -> Result<State> {
        let report = self.report(id)?;
        Ok(report.record.state(&report.spec, report.status))
    }

    /// The processes of a container, ids in the runtime's PID namespace.
    pub fn pids(&self, id: &ContainerId) -> Result<Vec<i32>> {
        let record = self.report(id)?.record;
        if record.cgroup.is_none() {
            return Ok(record.process().map(|_| record.pid).into_iter().collect());
        }
        Ok(record.cgroup.pids()?)
    }

    /// Freezes a container.
    pub fn pause(&self, id: &ContainerId) -> Result<()> {
        let Report { record, status, .. } = self.report(id)?;
        if !matches!(status, Status::Running | Status::Created) {
            return Err(Error::Status { action: "pause", id: id.to_string(), status });
        }
        Ok(record.cgroup.freeze()?)
    }

    /// Thaws a container.
    pub fn resume(&self, id: &ContainerId) -> Result<()> {
        let Report { record, status, .. } = self.report(id)?;
        if status != Status::Paused {
            return Err(Error::Status { action: "resume", id: id.to_string(), status });
        }
        Ok(record.cgroup.thaw()?)
    }

    /// Changes limits of a container.
    pub fn update(&self, id: &ContainerId, resources: &Resources, schemata: &[String]) -> Result<()> {
        let Report { record, status, spec } = self.report(id)?;
        if matches!(status, Status::Stopped | Status::Creating) {
            return Err(Error::Status { action: "update", id: id.to_string(), status });
        }
        let resources = record.cgroup.complete(resources)?;
        let devices = gantry_cgroup::default_device_rules();
        let steps = plan_update(&Layout::detect()?, &record.cgroup, &resources, &devices)?;
        for step in &steps {
            match step {
                gantry_cgroup::Step::Ignore { .. } => self.warn.say(step),
                step => gantry_cgroup::execute(step, Some(record.pid))?,
            }
        }
        if schemata.is_empty() {
            return Ok(());
        }
        let Some(class) = class_of(id, &spec) else {
            return Err(Error::Unsupported(
                "the container has no class of cache and memory bandwidth to change".to_owned(),
            ));
        };
        let path = format!("{}/schemata", class.path);
        std::fs::write(&path, format!("{}\n", schemata.join("\n"))).context(|| format!("write {path}"))
    }

    /// What a container uses.
    pub fn stats(&self, id: &ContainerId) -> Result<Stats> {
        let Report { record, status, spec } = self.report(id)?;
        if status == Status::Stopped {
            return Err(Error::Status { action: "measure", id: id.to_string(), status });
        }
        let mut stats = record.cgroup.stats()?;
        if let Some(Class { base, path, counted }) = class_of(id, &spec) {
            stats.intel_rdt = IntelRdtStats::read(base.as_ref(), path.as_ref(), counted.as_ref())?;
        }
        Ok(stats)
    }
}

/// A container's class of cache and memory bandwidth, by directories of resctrl.
struct Class {
    base: String,
    path: String,
    /// Whose use is counted.
    counted: String,
}

fn class_of(id: &ContainerId, spec: &Spec) -> Option<Class> {
    let rdt = spec.linux.as_ref()?.intel_rdt.as_ref()?;
    let base = crate::host::resctrl()?;
    let path = match rdt.clos_id.as_str() {
        "" => format!("{base}/{id}"),
        "/" => base.clone(),
        class => format!("{base}/{class}"),
    };
    let counted = if rdt.enable_monitoring { format!("{path}/mon_groups/{id}") } else { path.clone() };
    Some(Class { base, path, counted })
}

/// What was read of a container: it may have been removed since it was found.
fn still_there<T>(id: &ContainerId, read: Result<T>) -> Result<T> {
    match read {
        Err(Error::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::NotFound(id.to_string()))
        }
        read => read,
    }
}

/// Whether a container's processes are in a PID namespace that is not its own.
fn shares_pids(spec: &Spec) -> bool {
    let own = |linux: &Linux| linux.namespaces.iter().any(|one| one.kind == "pid" && one.path.is_empty());
    !spec.linux.as_ref().is_some_and(own)
}

/// Takes away what a container without a mount namespace mounted in that of the runtime.
pub(super) fn release_mounts(directory: &Directory, record: &Record, spec: Option<&Spec>) -> Result<()> {
    let own =
        |spec: &Spec| spec.linux.iter().flat_map(|linux| &linux.namespaces).any(|namespace| namespace.kind == "mount");
    if spec.is_some_and(own) {
        return Ok(());
    }
    let path = &record.rootfs;
    crate::interp::shared::release(directory.as_fd(), path).context(|| format!("unmount {path}"))
}

/// Kills what is left in a container's cgroup, and where it shares a PID namespace that is everything it started.
fn kill_rest(record: &Record) -> Result<()> {
    if record.cgroup.is_none() || !record.cgroup.exists() || record.cgroup.pids()?.is_empty() {
        return Ok(());
    }
    Ok(record.cgroup.kill_all(KILL)?)
}

/// Whether a cgroup belongs to a container whose making was cut off before its process was known. That process ends by
/// itself without the runtime that made it; who stays is another's, whose cgroup the configuration named.
fn is_ours(record: &Record) -> bool {
    const PAUSE: Duration = Duration::from_millis(20);
    let empty = || record.cgroup.pids().map_or(true, |pids| pids.is_empty());
    for _ in 0..DEATH.as_millis() / PAUSE.as_millis() {
        if empty() {
            return true;
        }
        std::thread::sleep(PAUSE);
    }
    empty()
}

pub(super) fn await_death(process: &std::os::fd::OwnedFd) {
    dies_within(process, DEATH);
}

fn dies_within(process: &std::os::fd::OwnedFd, time: Duration) -> bool {
    let timeout = Timespec::try_from(time).ok();
    poll(&mut [PollFd::new(process, PollFlags::IN)], timeout.as_ref()).is_ok_and(|ended| ended > 0)
}
