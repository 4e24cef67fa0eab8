//! Commands that run a process: `create`, `run`, `exec`.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::SystemTime;

use gantry_model::names::capability;
use gantry_model::oci::spec::{Capabilities, Process, Spec, User};
use gantry_oci::cli::{Create, Exec, ExecProcess, ProcessChanges, Run};
use gantry_oci::foreground::{self, Blocked};
use gantry_oci::log::Log;
use gantry_oci::time;
use gantry_runtime::{ConsoleTo, Container, CreateRequest, Created, ExecRequest, Flags, Runtime, console, notify};

use super::{Failure, failure, print, read_file, text};

pub(super) fn create(runtime: &Runtime, create: &Create) -> Result<u8, Failure> {
    let flags = flags_of(create, false)?;
    let created = make(runtime, create, &flags, false)?;
    hand_on(create.pidfd_socket.as_deref(), &created).inspect_err(|_| drop(runtime.delete(&create.id, true)))?;
    Ok(0)
}

pub(super) fn run(runtime: &Runtime, run: &Run, log: &Log) -> Result<u8, Failure> {
    let flags = flags_of(&run.create, !run.detach)?;
    if run.dry_run {
        let bundle = bundle_of(&run.create)?;
        let config = config_of(&run.create)?;
        let request = CreateRequest {
            id: &run.create.id,
            bundle: &bundle,
            config: config.as_deref(),
            flags: &flags,
            start: true,
            now: "",
        };
        return print(&runtime.dry_run(&request)?);
    }
    if run.detach {
        let mut created = make(runtime, &run.create, &flags, true)?;
        hand_on(run.create.pidfd_socket.as_deref(), &created)?;
        if let Some((socket, to)) = taken_notify(&mut created).zip(flags.notify_socket.as_ref()) {
            notify::forward(&socket, created.pidfd.as_fd(), to);
        }
        return Ok(0);
    }
    if !run.no_subreaper {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    let blocked = Blocked::new()?;
    let mut created = make(runtime, &run.create, &flags, true)?;
    hand_on(run.create.pidfd_socket.as_deref(), &created)?;
    if let Some((socket, to)) = taken_notify(&mut created).zip(flags.notify_socket.clone()) {
        let process = created.pidfd.try_clone()?;
        // It has all signals blocked, as this thread has, and ends with it.
        std::thread::spawn(move || notify::forward(&socket, process.as_fd(), &to));
    }
    let process = foreground::Process { pid: created.pid, pidfd: created.pidfd.as_fd() };
    let status = foreground::supervise(&blocked, process, created.console, log);
    match &created.container {
        Some(container) if !run.keep => runtime.finish(container)?,
        _ => {}
    }
    Ok(foreground::exit_code(status?))
}

fn taken_notify(created: &mut Created) -> Option<std::os::fd::OwnedFd> {
    created.container.as_mut().and_then(Container::take_notify)
}

/// The socket of a service manager that wants to know when the program is ready (sd_notify(3)). One without a path has
/// no place that could be shown to a container.
pub(super) fn notify_socket() -> Option<String> {
    std::env::var("NOTIFY_SOCKET").ok().filter(|path| path.starts_with('/'))
}

fn make(runtime: &Runtime, create: &Create, flags: &Flags, start: bool) -> Result<Created, Failure> {
    let bundle = bundle_of(create)?;
    let config = config_of(create)?;
    let now = now();
    let request = CreateRequest { id: &create.id, bundle: &bundle, config: config.as_deref(), flags, start, now: &now };
    Ok(runtime.create(&request)?)
}

/// The moment, read once for each container.
#[allow(clippy::disallowed_methods)]
pub(super) fn now() -> String {
    time::rfc3339_nano(SystemTime::now())
}

fn bundle_of(create: &Create) -> Result<String, Failure> {
    absolute(create.bundle.as_deref())
}

/// The bundle's directory; absent is the current one.
pub(super) fn absolute(bundle: Option<&Path>) -> Result<String, Failure> {
    let bundle = bundle.unwrap_or(Path::new("."));
    let path = text(&std::path::absolute(bundle)?)?;
    Ok(if path.len() > 1 { path.trim_end_matches('/').to_owned() } else { path })
}

fn config_of(create: &Create) -> Result<Option<String>, Failure> {
    create.config.as_deref().map(text).transpose()
}

fn flags_of(create: &Create, foreground: bool) -> Result<Flags, Failure> {
    let (listen_fds, listen_fdnames) = activated();
    Ok(Flags {
        console: console_of(create.console_socket.as_deref(), foreground)?,
        pid_file: create.pid_file.as_deref().map(text).transpose()?,
        no_pivot: create.no_pivot,
        no_new_keyring: create.no_new_keyring,
        preserve_fds: create.preserve_fds,
        listen_fds,
        listen_fdnames,
        notify_socket: notify_socket(),
        mounts_from: None,
    })
}

pub(super) fn console_of(socket: Option<&Path>, foreground: bool) -> Result<ConsoleTo, Failure> {
    Ok(match socket {
        Some(path) => ConsoleTo::Socket(text(path)?),
        None if foreground => ConsoleTo::Runtime,
        None => ConsoleTo::Nobody,
    })
}

/// Descriptors of socket activation that were passed to this process (sd_listen_fds(3)). Who starts it and cannot know
/// its id beforehand leaves the id out.
fn activated() -> (u32, Option<String>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    let ours = std::env::var_os("LISTEN_PID").is_none() || number("LISTEN_PID") == Some(std::process::id());
    match number("LISTEN_FDS") {
        Some(count) if ours && count < 1024 => (count, std::env::var("LISTEN_FDNAMES").ok()),
        _ => (0, None),
    }
}

/// Sends the process's descriptor to a socket that was asked for.
fn hand_on(socket: Option<&Path>, created: &Created) -> Result<(), Failure> {
    let Some(path) = socket else { return Ok(()) };
    let socket = console::connect(path)?;
    Ok(console::send_descriptor(socket.as_fd(), created.pidfd.as_fd(), b"pidfd")?)
}

pub(super) fn exec(runtime: &Runtime, exec: &Exec, log: &Log) -> Result<u8, Failure> {
    let process = match &exec.process {
        ExecProcess::File(path) => read_process(path)?,
        ExecProcess::Changed(changes) => changed(&runtime.report(&exec.id)?.spec, changes)?,
    };
    let process = with_defaults(runtime, exec, process)?;
    let flags = Flags {
        console: console_of(exec.console_socket.as_deref(), !exec.detach)?,
        pid_file: exec.pid_file.as_deref().map(text).transpose()?,
        preserve_fds: exec.preserve_fds,
        ..Flags::default()
    };
    let cgroups: Vec<String> = exec
        .cgroups
        .iter()
        .map(|(controller, path)| if controller.is_empty() { path.clone() } else { format!("{controller}:{path}") })
        .collect();
    let now = now();
    let request = ExecRequest {
        id: &exec.id,
        process,
        flags: &flags,
        cgroups: &cgroups,
        ignore_paused: exec.ignore_paused,
        now: &now,
    };
    if exec.detach {
        hand_on(exec.pidfd_socket.as_deref(), &runtime.exec(&request)?)?;
        return Ok(0);
    }
    let blocked = Blocked::new()?;
    let created = runtime.exec(&request)?;
    hand_on(exec.pidfd_socket.as_deref(), &created)?;
    let process = foreground::Process { pid: created.pid, pidfd: created.pidfd.as_fd() };
    Ok(foreground::exit_code(foreground::supervise(&blocked, process, created.console, log)?))
}

fn read_process(path: &Path) -> Result<Process, Failure> {
    serde_json::from_slice(&read_file(path)?).map_err(|cause| Failure::of(format!("parse {}: {cause}", path.display())))
}

/// What a process that does not say otherwise takes from the container's configuration.
fn with_defaults(runtime: &Runtime, exec: &Exec, mut process: Process) -> Result<Process, Failure> {
    if process.capabilities.is_some() && !process.apparmor_profile.is_empty() {
        return Ok(process);
    }
    if let Some(own) = runtime.report(&exec.id)?.spec.process {
        process.capabilities = process.capabilities.or(own.capabilities);
        if process.apparmor_profile.is_empty() {
            process.apparmor_profile = own.apparmor_profile;
        }
    }
    Ok(process)
}

/// The container's process with the changes of the command line.
fn changed(spec: &Spec, changes: &ProcessChanges) -> Result<Process, Failure> {
    let Some(mut process) = spec.process.clone() else {
        return failure("the container's configuration has no process");
    };
    process.args.clone_from(&changes.args);
    process.terminal = changes.terminal;
    if !changes.terminal {
        process.console_size = None;
    }
    process.env.extend(changes.env.iter().cloned());
    if let Some(cwd) = &changes.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some((uid, gid)) = changes.user {
        process.user = User { uid, gid: gid.unwrap_or(0), ..process.user };
    }
    process.user.additional_gids.extend(&changes.additional_gids);
    if let Some(label) = &changes.process_label {
        process.selinux_label.clone_from(label);
    }
    if let Some(profile) = &changes.apparmor {
        process.apparmor_profile.clone_from(profile);
    }
    process.no_new_privileges = changes.no_new_privs.unwrap_or(process.no_new_privileges);
    if let Some(unknown) = changes.caps.iter().find(|name| capability::number(name).is_none()) {
        return failure(format!("--cap {unknown}: no capability is called so"));
    }
    add_capabilities(&mut process, &changes.caps);
    Ok(process)
}

/// Adds capabilities. The inheritable set gains none: it would survive into programs of other users.
fn add_capabilities(process: &mut Process, added: &[String]) {
    if added.is_empty() {
        return;
    }
    let sets = process.capabilities.get_or_insert_with(Capabilities::default);
    let ambient = !sets.inheritable.is_empty();
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        set.extend(added.iter().cloned());
    }
    if ambient {
        // An ambient capability must be inheritable; a configuration that has inheritable ones asked for this.
        let inheritable = sets.inheritable.clone();
        sets.ambient.extend(added.iter().filter(|cap| inheritable.contains(cap)).cloned());
    }
}
