//! Bringing a container back that was saved.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use gantry_model::ContainerId;
use gantry_model::names::namespace::NamespaceKind;
use gantry_model::oci::state::Status;
use gantry_sys::clone::{ForkOptions, Forked, exit_now, fork};
use gantry_sys::ns;
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

use super::super::checkpoint::{log_directory, make_directories, need_root, places, succeed};
use super::{Container, CreateRequest, Created, Decided, new_record, undo, write_pid_file};
use crate::console::connect;
use crate::criu::option::{Kind, ManageCgroups};
use crate::criu::plan::{self, RESTORE_LOG, RestoreFacts, STREAMS};
use crate::criu::service::{self, Event, Service};
use crate::criu::{RestoreRequest, facts, root};
use crate::error::{Context, Error, Result, cause_text};
use crate::interp::paths::open_host;
use crate::interp::{hooks, move_device, resctrl};
use crate::lifecycle::Runtime;
use crate::lower::ConsoleTo;
use crate::record::{Directory, MAX_DOCUMENT, Record, start_time};
use crate::step::{Action, HookKind, Resctrl};

impl Runtime {
    /// Brings a container back from a checkpoint: its program runs on when this returns. A container of that name which
    /// ended by a checkpoint makes room. Whatever fails, nothing is left of it.
    ///
    /// # Errors
    /// The name is in use, the configuration is wrong, CRIU is missing, or it failed: then its log is named.
    pub fn restore(&self, request: &RestoreRequest<'_>) -> Result<Created> {
        need_root("restoring")?;
        make_directories(&request.criu, false)?;
        let RestoreRequest { id, bundle, flags, now, .. } = *request;
        let create = CreateRequest { id, bundle, config: None, flags, start: true, now };
        let mut decided = self.decide(&create)?;
        self.make_room(id)?;
        let directory = self.store.make(id)?;
        let prepared = prepare(&create, &mut decided, &directory);
        let ours = prepared.is_ok();
        let result = prepared.and_then(|(lock, record)| {
            let created = bring_back(request, &decided, &record, &directory, lock)?;
            let start_time = start_time(created.pid).unwrap_or_default();
            Ok((Record { pid: created.pid, start_time, ..record }, created))
        });
        match result {
            Ok((record, created)) => {
                let container = Some(Container { directory, record, spec: decided.spec, notify: None });
                Ok(Created { container, ..created })
            }
            Err(error) => {
                // What CRIU could not end itself must not keep the cgroup; one that was there before is another's.
                if ours && decided.cgroup.location.exists() {
                    let _ = decided.cgroup.location.kill_all(9);
                }
                Err(undo(error, &decided, &directory))
            }
        }
    }

    /// Removes a container that was checkpointed under this name.
    fn make_room(&self, id: &ContainerId) -> Result<()> {
        match self.store.open(id) {
            Ok(directory) if directory.is_checkpointed() => self.delete(id, false),
            _ => Ok(()),
        }
    }
}

/// Records the container, and makes its cgroup.
fn prepare(create: &CreateRequest<'_>, decided: &mut Decided, directory: &Directory) -> Result<(File, Record)> {
    let lock = directory.keep_config(&decided.text)?;
    directory.mark_restoring()?;
    directory.write_record(&new_record(create, decided))?;
    decided.cgroup.prepare()?;
    // Hierarchies that refused this user are left out by now.
    let record = new_record(create, decided);
    directory.write_record(&record)?;
    Ok((lock, record))
}

/// Lets CRIU bring the processes back.
fn bring_back(
    request: &RestoreRequest<'_>,
    decided: &Decided,
    record: &Record,
    directory: &Directory,
    mut lock: File,
) -> Result<Created> {
    make_resctrl(decided, None)?;
    let console = match &request.flags.console {
        ConsoleTo::Socket(path) => {
            Some(connect(Path::new(path)).context(|| format!("connect to console socket {path}"))?)
        }
        _ => None,
    };
    let handed = handed_over(decided)?;
    let facts = restore_facts(request, decided, record, directory, &handed)?;
    let options = plan::restore(request, &facts)?;
    let points = plan::points(&decided.steps);
    let fds: Vec<BorrowedFd<'_>> = handed.iter().filter_map(|(.., fd)| fd.as_ref().map(AsFd::as_fd)).collect();
    let read_only = decided.spec.root.as_ref().is_some_and(|root| root.readonly);
    let own_mounts = facts::makes(&decided.spec, NamespaceKind::Mount);
    service::forget_log(log_directory(&request.criu), RESTORE_LOG);
    let service = Service::start(Some(places(&request.criu)), &fds, || {
        // A container without mounts of its own would stay in the namespace that is made for CRIU.
        if own_mounts { root::prepare(directory.path(), &record.rootfs, &points, read_only) } else { Ok(()) }
    })?;
    let ignored = plan::cgroup_mode(&request.criu, !facts.cgroups.is_empty()) == ManageCgroups::Ignore;
    let unit = decided.cgroup.location.unit.is_some();
    if unit {
        decided.cgroup.finish(service.pid())?;
    } else if ignored && !decided.cgroup.location.is_none() {
        decided.cgroup.location.enter(service.pid())?;
    }
    let mut restoring = Restoring { decided, record, directory, console: None, recorded: None };
    let answer = service.ask(Kind::Restore, &options, &mut |event| restoring.reached(event));
    let Restoring { console: master, recorded, .. } = restoring;
    drop(service);
    let answer = succeed(answer, "restore the container", &request.criu, RESTORE_LOG)?;
    let pid = answer.pid.or(recorded).ok_or_else(|| Error::InitDied("criu does not say which it is".to_owned()))?;
    let created = finish_restored(pid, request, decided, unit)?;
    keep_time_namespace(&mut lock, decided, pid)?;
    directory.unmark_restoring()?;
    drop(lock);
    match (console, master) {
        (Some(socket), Some(master)) => {
            crate::console::send_terminal(socket.as_fd(), master.as_fd())
                .context(|| "send the terminal to the console socket")?;
            Ok(created)
        }
        (_, master) => Ok(Created { console: master, ..created }),
    }
}

/// What is left to do with the restored process.
fn finish_restored(pid: i32, request: &RestoreRequest<'_>, decided: &Decided, unit: bool) -> Result<Created> {
    let process = Pid::from_raw(pid).ok_or_else(|| Error::InitDied("it has no id".to_owned()))?;
    let pidfd = pidfd_open(process, PidfdFlags::empty()).context(|| format!("open process {pid}"))?;
    let done = || {
        if !unit {
            decided.cgroup.finish(pid)?;
        }
        make_resctrl(decided, Some(pid))?;
        request.flags.pid_file.as_ref().map_or(Ok(()), |path| write_pid_file(path, pid))
    };
    done().inspect_err(|_: &Error| {
        let _ = gantry_sys::misc::pidfd_send_signal(pidfd.as_fd(), 9);
        let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    })?;
    Ok(Created { pid, pidfd, console: None, container: None })
}

/// A restoration on its way.
struct Restoring<'a> {
    decided: &'a Decided,
    record: &'a Record,
    directory: &'a Directory,
    console: Option<OwnedFd>,
    recorded: Option<i32>,
}

impl Restoring<'_> {
    /// Does what the runtime has to do at a point.
    fn reached(&mut self, event: Event<'_>) -> Result<()> {
        if let Some(pid) = event.pid.filter(|pid| *pid > 0 && self.recorded != Some(*pid)) {
            let started = start_time(pid).ok_or_else(|| Error::InitDied("it was killed".to_owned()))?;
            self.directory.write_record(&Record { pid, start_time: started, ..self.record.clone() })?;
            self.recorded = Some(pid);
        }
        match event.script {
            "setup-namespaces" => self.set_up_namespaces(event.pid.unwrap_or_default()),
            "orphan-pts-master" => {
                self.console = event.descriptor;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Does again what is done from outside to new namespaces. The network namespace came back empty.
    fn set_up_namespaces(&self, pid: i32) -> Result<()> {
        let state = |status| gantry_model::oci::state::State {
            pid: Some(pid),
            ..self.record.state(&self.decided.spec, status)
        };
        if facts::makes(&self.decided.spec, NamespaceKind::Network) {
            self.set_up_network(pid)?;
        }
        for step in &self.decided.steps {
            if let Action::RunHooks { kind: kind @ (HookKind::Prestart | HookKind::CreateRuntime), hooks: list } =
                &step.action
            {
                hooks::run(*kind, list, &state(Status::Creating))?;
            }
        }
        Ok(())
    }

    /// Loopback, devices and parameters of the network namespace, as at creation.
    fn set_up_network(&self, pid: i32) -> Result<()> {
        let failed = |what: String, cause: String| Error::Step { step: what, cause };
        for step in &self.decided.steps {
            if let Action::MoveNetDevice { from, to } = &step.action {
                move_device(pid, from, to).map_err(|cause| failed(step.action.to_string(), cause))?;
            }
        }
        let loopback =
            self.decided.steps.iter().any(|step| matches!(step.action, Action::LoopbackUp | Action::MakeNetwork));
        let sysctls = self.decided.steps.iter().filter_map(|step| match &step.action {
            Action::Sysctl { path, value, .. } if path.starts_with("sys/net/") => Some((path.as_str(), value.as_str())),
            _ => None,
        });
        let sysctls: Vec<(&str, &str)> = sysctls.collect();
        if !loopback && sysctls.is_empty() {
            return Ok(());
        }
        in_network_of(pid, || {
            if loopback {
                gantry_sys::netlink::loopback_up().map_err(|e| format!("bring up loopback: {}", cause_text(&e)))?;
            }
            sysctls.iter().try_for_each(|(path, value)| {
                std::fs::write(format!("/proc/{path}"), value).map_err(|e| format!("write {path}: {}", cause_text(&e)))
            })
        })
        .map_err(|cause| failed("set up the network namespace".to_owned(), cause))
    }
}

/// Does something in a process's network namespace.
fn in_network_of(pid: i32, act: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    const NEW_NETWORK: i32 = 0x4000_0000;
    let text = |e: std::io::Error| cause_text(&e);
    let namespace = open_host(&format!("/proc/{pid}/ns/net"), OFlags::RDONLY).map_err(text)?;
    let (told, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| text(e.into()))?;
    match fork(&ForkOptions::default()).map_err(text)? {
        Forked::Child => {
            let done = ns::setns(namespace.as_fd(), NEW_NETWORK).map_err(text).and_then(|()| act());
            let _ = rustix::io::write(&tell, done.err().unwrap_or_default().as_bytes());
            exit_now(0)
        }
        Forked::Parent { pidfd, .. } => {
            drop(tell);
            let mut error = String::new();
            let read = std::io::Read::read_to_string(&mut File::from(told), &mut error);
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            read.map_err(text)?;
            if error.is_empty() { Ok(()) } else { Err(error) }
        }
    }
}

/// Makes the classes of cache and memory bandwidth, and with a process lets it join.
fn make_resctrl(decided: &Decided, pid: Option<i32>) -> Result<()> {
    for step in &decided.steps {
        let Action::Resctrl(action) = &step.action else { continue };
        if matches!(action, Resctrl::Join { .. }) == pid.is_some() {
            resctrl(action, pid).map_err(|cause| Error::Step { step: step.action.to_string(), cause })?;
        }
    }
    Ok(())
}

type Joined = (NamespaceKind, String, Option<OwnedFd>);

/// The namespaces that are joined; those that CRIU takes as descriptors are opened.
fn handed_over(decided: &Decided) -> Result<Vec<Joined>> {
    let open = |(kind, path): (NamespaceKind, String)| {
        let fd = if plan::is_inherited(kind) {
            let what = || format!("open the {} namespace {path}, which must exist before", kind.name());
            Some(open_host(&path, OFlags::RDONLY).context(what)?)
        } else {
            None
        };
        Ok((kind, path, fd))
    };
    facts::joined(&decided.spec).into_iter().map(open).collect()
}

fn restore_facts(
    request: &RestoreRequest<'_>,
    decided: &Decided,
    record: &Record,
    directory: &Directory,
    handed: &[Joined],
) -> Result<RestoreFacts> {
    let spec = &decided.spec;
    let externals = facts::resolve_all(&record.rootfs, plan::externals(&decided.steps))?;
    let number = |fd: &Option<OwnedFd>| fd.as_ref().map(AsRawFd::as_raw_fd);
    let own_mounts = facts::makes(spec, NamespaceKind::Mount);
    Ok(RestoreFacts {
        root: if own_mounts { root::root_in(directory.path()) } else { record.rootfs.clone() },
        externals: externals.into_iter().map(|(external, resolved, _)| (external, resolved)).collect(),
        host_mounts: facts::mounts_of("self")?.into_iter().map(|(_, point)| point).collect(),
        streams: read_streams(&request.criu.image_path)?,
        joined: handed.iter().map(|(kind, path, fd)| (*kind, path.clone(), number(fd))).collect(),
        own_network: facts::makes(spec, NamespaceKind::Network),
        cgroups: facts::cgroup_roots(&decided.cgroup.location)?,
        config_file: facts::config_file(spec),
        no_iptables: facts::no_iptables(),
    })
}

/// What the standard streams were; none where the images were made without a word of it.
fn read_streams(images: &str) -> Result<Vec<String>> {
    let path = format!("{images}/{STREAMS}");
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.context(|| format!("open {path}"))?,
    };
    serde_json::from_reader(std::io::Read::take(file, MAX_DOCUMENT)).map_err(|cause| Error::Parse { path, cause })
}

/// CRIU gives processes a time namespace, so that their clocks go on. It becomes part of the configuration that is kept:
/// what is run in the container later joins it.
fn keep_time_namespace(config: &mut File, decided: &Decided, pid: i32) -> Result<()> {
    let kind = NamespaceKind::Time;
    let listed = decided.spec.linux.iter().flat_map(|linux| &linux.namespaces).any(|ns| ns.kind == kind.name());
    if listed || facts::same_namespace("self", &pid.to_string(), kind) {
        return Ok(());
    }
    let failed = |cause| Error::Parse { path: "config.json".to_owned(), cause };
    let mut document: serde_json::Value = serde_json::from_slice(&decided.text).map_err(failed)?;
    let Some(list) = document.pointer_mut("/linux/namespaces").and_then(|list| list.as_array_mut()) else {
        return Ok(());
    };
    list.push(serde_json::json!({"type": kind.name()}));
    let text = serde_json::to_vec(&document).map_err(failed)?;
    let mut write = || {
        config.seek(SeekFrom::Start(0))?;
        config.write_all(&text)?;
        config.set_len(text.len() as u64)
    };
    write().context(|| "keep the configuration with its time namespace")
}
