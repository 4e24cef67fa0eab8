//! The runtime's side of the steps.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use gantry_model::names::namespace::NamespaceKind;
use gantry_model::oci::spec::IdMapping;
use gantry_model::oci::state::{ContainerProcessState, Status};
use gantry_sys::clone::{ForkOptions, Forked, exit_now, fork};
use gantry_sys::mount::set_attributes;
use gantry_sys::ns;
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with, socketpair};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, PidfdGetfdFlags, WaitId, WaitIdOptions, pidfd_getfd, pidfd_open,
    set_dumpable_behavior, waitid,
};

use super::channel::{Channel, Message};
use super::init::{Init, set_affinity, set_rlimit, stage, write_file};
use super::mounts::{Cause, host_tree, propagate};
use super::paths::open_host;
use super::{Run, Slots, hooks, state_at, step_error};
use crate::console::connect;
use crate::error::{Context, Error, Result, cause_text};
use crate::step::{Action, By, Clone_, Resctrl, Step};

/// A container's process that was made.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its id in the runtime's PID namespace.
    pub(crate) pid: i32,
    /// A descriptor of it.
    pub(crate) pidfd: OwnedFd,
}

/// How far a run came.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The container's process.
    pub(crate) child: Child,
    /// The master of its terminal, where the runtime shows it.
    pub(crate) console: Option<OwnedFd>,
    /// The socket on which the program says that it is ready, where someone wants to hear it.
    pub(crate) notify: Option<OwnedFd>,
}

fn cause(error: impl Into<std::io::Error>) -> Cause {
    cause_text(&error.into())
}

/// Carries out the steps until the program runs, or waits to be started.
pub(crate) fn run(mut run: Run<'_>) -> Result<Outcome> {
    let mut slots = Slots::default();
    for (index, fd) in std::mem::take(&mut run.held).into_iter().enumerate() {
        slots.put(crate::step::Slot(index as u16), fd);
    }
    let mut runtime = Runtime { run, slots, console: None, notify: None };
    let steps = runtime.run.steps;
    for (index, step) in steps.iter().enumerate() {
        if let Action::Clone(clone) = &step.action {
            let (child, channel) = runtime.clone_process(index, step, clone)?;
            return match runtime.accompany(index + 1, &child, &channel) {
                Ok(()) => Ok(Outcome { child, console: runtime.take_console(), notify: runtime.notify.take() }),
                Err(error) => Err(end(&child, error)),
            };
        }
        match &step.action {
            // Its error says what was done, and whether the cgroup is another's.
            Action::Cgroup(cgroup) => gantry_cgroup::execute(cgroup, None)?,
            action => runtime.before(action).map_err(|cause| step_error(step, cause))?,
        }
    }
    Err(Error::Unsupported("the list of steps makes no process".to_owned()))
}

/// Ends a container's process that failed, and waits for it.
fn end(child: &Child, error: Error) -> Error {
    let _ = gantry_sys::misc::pidfd_send_signal(child.pidfd.as_fd(), 9);
    let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
    error
}

struct Runtime<'a> {
    run: Run<'a>,
    slots: Slots,
    console: Option<OwnedFd>,
    notify: Option<OwnedFd>,
}

impl Runtime<'_> {
    /// A step before the container's process is made.
    fn before(&mut self, action: &Action) -> Result<(), Cause> {
        match action {
            Action::Ignore { .. } => Ok(self.run.warn.say(action)),
            Action::Resctrl(step) => resctrl(step, None),
            Action::OpenNamespace { path, kind, slot } => {
                let fd = open_host(path, OFlags::RDONLY).map_err(cause)?;
                let found = ns::kind(fd.as_fd()).map_err(|_| "it is no namespace".to_owned())?;
                if found != *kind {
                    let wanted = NamespaceKind::ALL.into_iter().find(|k| k.clone_flag() as i32 == *kind);
                    let wanted = wanted.map_or("", NamespaceKind::name);
                    return Err(format!("it is a namespace of another kind, and a {wanted} namespace is meant"));
                }
                Ok(self.slots.put(*slot, fd))
            }
            Action::OpenTree { path, recursive, follow, propagation, slot } => {
                let tree = host_tree(path, *recursive, *follow).map_err(cause)?;
                if *propagation != 0 {
                    propagate(tree.as_fd(), *propagation).map_err(|e| format!("set propagation: {}", cause(e)))?;
                }
                Ok(self.slots.put(*slot, tree))
            }
            Action::MakeDeviceTree { node, slot, .. } => {
                let directory = self.run.directory.ok_or("the container has no directory")?;
                Ok(self.slots.put(*slot, super::devices::make_tree(directory, &format!("device-{}", slot.0), node)?))
            }
            Action::BindSharedRoot { path, slot } => {
                let directory = self.run.directory.ok_or("the container has no directory")?;
                Ok(self.slots.put(*slot, super::shared::bind_root(directory, path)?))
            }
            Action::NotifySocket { uid, gid, slot } => {
                let directory = self.run.directory.ok_or("the container has no directory")?;
                let tree = crate::notify::make_directory(directory, *uid, *gid).map_err(cause)?;
                self.notify = crate::notify::listen(directory).map_err(cause)?;
                Ok(self.slots.put(*slot, tree))
            }
            Action::MakeUserNamespace { uid, gid, slot } => Ok(self.slots.put(*slot, user_namespace(uid, gid)?)),
            Action::OpenUserNamespace { path, slot } => {
                Ok(self.slots.put(*slot, open_host(path, OFlags::RDONLY).map_err(cause)?))
            }
            Action::IdmapTree { tree, user_namespace, recursive } => {
                let attributes = gantry_sys::mount::Attributes {
                    user_namespace: Some(self.slots.get(*user_namespace)?.as_fd()),
                    recursive: *recursive,
                    ..Default::default()
                };
                set_attributes(self.slots.get(*tree)?.as_fd(), c"", &attributes).map_err(cause)
            }
            Action::ConnectConsole { path, slot } => {
                Ok(self.slots.put(*slot, connect(Path::new(path)).map_err(cause)?))
            }
            Action::ConsolePair { slot } => {
                let (ours, theirs) =
                    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(cause)?;
                self.console = Some(ours);
                Ok(self.slots.put(*slot, theirs))
            }
            Action::ListenStart { slot } => Ok(self.slots.put(*slot, self.listen_start()?)),
            Action::CpuAffinity { list } => set_affinity(list),
            Action::NotDumpable => set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(cause),
            _ => Err("this step needs the container's process".to_owned()),
        }
    }

    /// The socket on which the container's process waits to be started, in the container's directory.
    fn listen_start(&self) -> Result<OwnedFd, Cause> {
        let directory = self.run.directory.ok_or("the container has no directory")?;
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(cause)?;
        bind(&socket, &start_address(directory).map_err(cause)?).map_err(cause)?;
        listen(&socket, 8).map_err(cause)?;
        Ok(socket)
    }

    /// Makes the container's process. In it, this does not return.
    fn clone_process(&mut self, index: usize, step: &Step, clone: &Clone_) -> Result<(Child, Channel)> {
        let failed = |e: std::io::Error| step_error(step, cause(e));
        let (ours, theirs) = Channel::pair().map_err(failed)?;
        if let Some(slot) = clone.join_pid {
            const CLONE_NEWPID: i32 = 0x2000_0000;
            let fd = self.slots.get(slot).map_err(|c| step_error(step, c))?;
            ns::setns(fd.as_fd(), CLONE_NEWPID).map_err(failed)?;
        }
        let namespaces = if clone.stage.is_some() { 0 } else { clone.namespaces };
        let own = clone.mounts_from.map(|slot| self.among_mounts_of(slot)).transpose();
        let own = own.map_err(|cause| step_error(step, cause))?;
        let forked = if clone.into_cgroup {
            fork_into(namespaces, self.run.cgroups)
        } else {
            fork(&ForkOptions { namespaces, ..ForkOptions::default() })
        };
        if let (Some(own), Ok(Forked::Parent { .. }) | Err(_)) = (&own, &forked) {
            ns::setns(own.as_fd(), NamespaceKind::Mount.clone_flag() as i32).map_err(failed)?;
        }
        match forked.map_err(failed)? {
            Forked::Child => {
                drop((ours, own));
                (self.console, self.notify) = (None, None);
                if let Some(asked) = &clone.stage {
                    stage(asked, clone.namespaces, &self.slots, &theirs);
                }
                Init::new(&self.run, std::mem::take(&mut self.slots), theirs).walk(index + 1)
            }
            Forked::Parent { pid, pidfd } => {
                drop(theirs);
                let child = Child { pid, pidfd };
                let child = if clone.stage.is_some() { await_sibling(&ours, &child)? } else { child };
                Ok((child, ours))
            }
        }
    }

    /// Enters another mount namespace, and returns the one that this was in before.
    fn among_mounts_of(&self, slot: crate::step::Slot) -> Result<OwnedFd, Cause> {
        let own = open_host("/proc/self/ns/mnt", OFlags::RDONLY).map_err(cause)?;
        ns::setns(self.slots.get(slot)?.as_fd(), NamespaceKind::Mount.clone_flag() as i32).map_err(cause)?;
        Ok(own)
    }

    /// Does the runtime's part while the container's process goes its way.
    fn accompany(&mut self, first: usize, child: &Child, channel: &Channel) -> Result<()> {
        if let Err(error) = self.beside(first, child, channel) {
            return Err(last_words(child, channel).unwrap_or(error));
        }
        loop {
            match channel.receive().context(|| "talk to the container's process")? {
                Some(Message::Reached(index)) => {
                    if self.meet(index as usize, child)? {
                        channel.send(&Message::Go).context(|| "let the container's process wait for its start")?;
                        return Ok(());
                    }
                    let _ = channel.send(&Message::Go);
                }
                Some(Message::NotifyFd(number)) => {
                    self.forward_notify(child, number)?;
                    let _ = channel.send(&Message::Go);
                }
                Some(Message::Failed { step, cause }) if step.is_empty() => return Err(Error::InitDied(cause)),
                Some(Message::Failed { step, cause }) => return Err(Error::Step { step, cause }),
                Some(other) => return Err(Error::InitDied(format!("unexpected message {other:?}"))),
                // Closed by exec, or by death; a program may also end at once, so the one who waits for it finds out.
                None if self.awaits_start() => return Err(Error::InitDied("it was killed".to_owned())),
                None => return Ok(()),
            }
        }
    }

    /// Does what init need not wait for.
    fn beside(&mut self, first: usize, child: &Child, channel: &Channel) -> Result<()> {
        for step in self.run.steps.iter().skip(first).filter(|step| step.by == By::Beside) {
            match step.action {
                Action::Record => (self.run.record)(child.pid)?,
                Action::MakeNetwork => make_network(channel).map_err(|cause| step_error(step, cause))?,
                _ => self.after(step, child)?,
            }
        }
        // A process that has failed already says so where it is waited for.
        let _ = channel.send(&Message::Recorded);
        Ok(())
    }

    fn awaits_start(&self) -> bool {
        self.run.steps.iter().any(|step| matches!(step.action, Action::AwaitStart { .. }))
    }

    /// Does the runtime's steps from `index` on; true where the container's process waits to be started.
    fn meet(&mut self, index: usize, child: &Child) -> Result<bool> {
        let steps = self.run.steps;
        for step in steps.iter().skip(index) {
            match (&step.action, step.by) {
                (Action::AwaitStart { .. }, _) => return Ok(true),
                (_, By::Runtime) => self.after(step, child)?,
                _ => break,
            }
        }
        Ok(false)
    }

    /// A step that needs the container's process.
    fn after(&mut self, step: &Step, child: &Child) -> Result<()> {
        let pid = child.pid;
        let done = match &step.action {
            Action::Cgroup(step) => gantry_cgroup::execute(step, Some(pid)).map_err(|e| e.to_string()),
            Action::Resctrl(step) => resctrl(step, Some(pid)),
            Action::WriteIdMaps { uid, gid, deny_setgroups, helper } => {
                write_id_maps(pid, uid, gid, *deny_setgroups, *helper)
            }
            Action::OomScoreAdj { value } => write_file(&format!("/proc/{pid}/oom_score_adj"), &value.to_string()),
            Action::Rlimit { limit, .. } => set_rlimit(Some(pid), limit),
            Action::MoveNetDevice { from, to } => move_device(pid, from, to),
            Action::RunHooks { kind, hooks: list } => {
                return hooks::run(*kind, list, &state_at(&self.run.state, Status::Creating, pid));
            }
            _ => Err("this step is the container's process's".to_owned()),
        };
        done.map_err(|cause| step_error(step, cause))
    }

    /// Takes the notify descriptor out of the container's process and sends it to its listener.
    fn forward_notify(&self, child: &Child, number: i32) -> Result<()> {
        let Some(filter) = &self.run.filter else {
            return Err(Error::InitDied("it has a notify descriptor without a filter".to_owned()));
        };
        send_notify(child, number, filter, &self.run.state)
    }

    /// The terminal's master, which the container's process sent.
    fn take_console(&mut self) -> Option<OwnedFd> {
        let socket = self.console.take()?;
        crate::console::receive_terminal(socket.as_fd()).ok()
    }
}

/// Makes a process in the first cgroup that takes one. A cgroup with limits for those below it takes none, nor does one
/// that is gone or threaded (cgroups(7)).
fn fork_into(namespaces: u64, cgroups: &dyn Fn(usize) -> Option<OwnedFd>) -> std::io::Result<Forked> {
    let mut refused = rustix::io::Errno::NOENT.into();
    for cgroup in (0..).map_while(cgroups) {
        match fork(&ForkOptions { namespaces, cgroup: Some(cgroup.as_fd()), sibling: false }) {
            Err(error) if takes_none(&error) => refused = error,
            result => return result,
        }
    }
    Err(std::io::Error::other(format!("no cgroup takes the process: {}", cause_text(&refused))))
}

fn takes_none(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let kinds = [Errno::BUSY, Errno::NOENT, Errno::NODEV, Errno::OPNOTSUPP];
    kinds.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Ends a container's process, and returns why it had failed before, if it had.
fn last_words(child: &Child, channel: &Channel) -> Option<Error> {
    let _ = gantry_sys::misc::pidfd_send_signal(child.pidfd.as_fd(), 9);
    while let Ok(Some(message)) = channel.receive() {
        match message {
            Message::Failed { step, cause } if step.is_empty() => return Some(Error::InitDied(cause)),
            Message::Failed { step, cause } => return Some(Error::Step { step, cause }),
            _ => {}
        }
    }
    None
}

/// Makes a network namespace while the container's process makes its file system, and sends it there. The runtime is in
/// it for a moment only.
fn make_network(channel: &Channel) -> Result<(), Cause> {
    const CLONE_NEWNET: i32 = 0x4000_0000;
    const OWN: &str = "/proc/self/ns/net";
    let home = open_host(OWN, OFlags::RDONLY).map_err(cause)?;
    ns::unshare(CLONE_NEWNET).map_err(cause)?;
    let made = gantry_sys::netlink::loopback_up().and_then(|()| open_host(OWN, OFlags::RDONLY)).map_err(cause);
    ns::setns(home.as_fd(), CLONE_NEWNET).map_err(cause)?;
    // A process that has failed already says so where it is waited for.
    let _ = channel.send_with(&Message::Network, made?.as_fd());
    Ok(())
}

/// The process that an intermediate one made.
fn await_sibling(channel: &Channel, stage: &Child) -> Result<Child> {
    let made = channel.receive().context(|| "talk to the intermediate process")?;
    let _ = waitid(WaitId::PidFd(stage.pidfd.as_fd()), WaitIdOptions::EXITED);
    match made {
        Some(Message::Pid(number)) => {
            let pid = Pid::from_raw(number).ok_or_else(|| Error::InitDied("it has no id".to_owned()))?;
            let pidfd = pidfd_open(pid, PidfdFlags::empty()).context(|| "open the container's process")?;
            Ok(Child { pid: number, pidfd })
        }
        Some(Message::Failed { step, cause }) => Err(Error::Step { step, cause }),
        _ => Err(Error::InitDied("the intermediate process was killed".to_owned())),
    }
}

/// Sends a notify descriptor with the container's state to the listener of its filter.
pub(crate) fn send_notify(
    child: &Child,
    number: i32,
    filter: &gantry_seccomp::Filter,
    state: &gantry_model::oci::state::State,
) -> Result<()> {
    let step = || Error::Step { step: "send the seccomp listener".to_owned(), cause: String::new() };
    let failed = |cause: Cause| match step() {
        Error::Step { step, .. } => Error::Step { step, cause },
        other => other,
    };
    let path = &filter.listener_path;
    let fd = pidfd_getfd(&child.pidfd, number, PidfdGetfdFlags::empty()).map_err(|e| failed(cause(e)))?;
    let document = ContainerProcessState {
        oci_version: state.oci_version.clone(),
        fds: vec!["seccompFd".to_owned()],
        pid: child.pid,
        metadata: filter.listener_metadata.clone(),
        // Of a container that is being made nothing is known but its first process, which this is. For one that is there
        // the state is its own, also when another process joins it.
        state: match state.pid {
            None => state_at(state, Status::Creating, child.pid),
            Some(_) => state.clone(),
        },
    };
    let text = serde_json::to_vec(&document).map_err(|e| failed(e.to_string()))?;
    let socket = connect(Path::new(path)).map_err(|e| failed(format!("{path}: {}", cause(e))))?;
    crate::console::send_descriptor(socket.as_fd(), fd.as_fd(), &text).map_err(|e| failed(cause(e)))
}

/// The address of the start socket, by the directory's descriptor: a path may be longer than an address can be.
pub(crate) fn start_address(directory: std::os::fd::BorrowedFd<'_>) -> std::io::Result<SocketAddrUnix> {
    use std::os::fd::AsRawFd;
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{START_SOCKET}", directory.as_raw_fd()))?)
}

/// The name of the start socket in the container's directory. It is there from creation until the start.
pub(crate) const START_SOCKET: &str = "start.sock";

/// Makes a user namespace with mappings, held by a process that ends at once.
fn user_namespace(uid: &[IdMapping], gid: &[IdMapping]) -> Result<OwnedFd, Cause> {
    const CLONE_NEWUSER: u64 = 0x1000_0000;
    let (ours, theirs) = Channel::pair().map_err(cause)?;
    match fork(&ForkOptions { namespaces: CLONE_NEWUSER, ..ForkOptions::default() }).map_err(cause)? {
        Forked::Child => {
            drop(ours);
            let _ = theirs.receive();
            exit_now(0)
        }
        Forked::Parent { pid, pidfd } => {
            drop(theirs);
            let made = write_id_maps(pid, uid, gid, false, false)
                .and_then(|()| open_host(&format!("/proc/{pid}/ns/user"), OFlags::RDONLY).map_err(cause));
            drop(ours);
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            made
        }
    }
}

/// Maps the ids of a process's new user namespace, by the system's helpers where this user may not map them itself.
fn write_id_maps(pid: i32, uid: &[IdMapping], gid: &[IdMapping], deny: bool, helper: bool) -> Result<(), Cause> {
    if deny {
        write_file(&format!("/proc/{pid}/setgroups"), "deny").map_err(|e| format!("deny setgroups: {e}"))?;
    }
    for (file, program, mappings) in [("gid_map", "newgidmap", gid), ("uid_map", "newuidmap", uid)] {
        if helper && !(mappings.len() == 1 && mappings[0].size == 1 && deny) {
            run_helper(program, pid, mappings)?;
            continue;
        }
        let text = gantry_model::names::idmap::format(mappings).map_err(|e| e.to_string())?;
        write_file(&format!("/proc/{pid}/{file}"), &text).map_err(|e| format!("{file}: {e}"))?;
    }
    Ok(())
}

fn run_helper(program: &str, pid: i32, mappings: &[IdMapping]) -> Result<(), Cause> {
    let mut args = vec![pid.to_string()];
    for mapping in mappings {
        args.extend([mapping.container_id, mapping.host_id, mapping.size].map(|n| n.to_string()));
    }
    let output = std::process::Command::new(program).args(args).output().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            format!("{program} is not installed (package uidmap); only one id can be mapped without it")
        }
        _ => format!("{program}: {}", cause(e)),
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

pub(crate) fn move_device(pid: i32, from: &str, to: &str) -> Result<(), Cause> {
    let namespace = open_host(&format!("/proc/{pid}/ns/net"), OFlags::RDONLY).map_err(cause)?;
    gantry_sys::netlink::move_link(from, namespace.as_fd(), to).map(drop).map_err(|e| e.to_string())
}

pub(crate) fn resctrl(step: &Resctrl, pid: Option<i32>) -> Result<(), Cause> {
    match step {
        Resctrl::MakeGroup { path } => match rustix::fs::mkdir(path, rustix::fs::Mode::from_raw_mode(0o755)) {
            Err(rustix::io::Errno::EXIST) => Ok(()),
            result => result.map_err(cause),
        },
        Resctrl::Schemata { path, lines } => {
            write_file(&format!("{path}/schemata"), &format!("{}\n", lines.join("\n")))
        }
        Resctrl::Join { path } => write_file(&format!("{path}/tasks"), &pid.unwrap_or_default().to_string()),
    }
}
