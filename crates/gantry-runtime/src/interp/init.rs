//! The container's process, from the clone to its program.

use std::cell::Cell;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use gantry_model::oci::state::Status;
use gantry_sys::clone::{ForkOptions, Forked, exit_now, fork, reset_signals};
use gantry_sys::exec::{CStringList, execve};
use gantry_sys::{misc, ns, sched, seccomp};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{DumpableBehavior, set_dumpable_behavior, setsid, umask};

use super::channel::{Channel, Message};
use super::mounts::{self, Cause};
use super::paths::{make_dirs, open_host};
use super::{Run, Slots, console, devices, hooks, process, state_at};
use crate::error::cause_text;
use crate::step::{Action, By, HookKind, Source, Stage, Step};

/// The status with which the container's process ends when its program cannot be run.
const FAILED: i32 = 1;

fn cause(error: impl Into<std::io::Error>) -> Cause {
    cause_text(&error.into())
}

/// The container's process, with what its steps leave for later ones.
pub(super) struct Init<'r, 'a> {
    run: &'r Run<'a>,
    slots: Slots,
    /// To the runtime that makes the container, then to the one that starts it.
    channel: Option<Channel>,
    /// The mask that the runtime was started with.
    inherited_umask: Mode,
    home: Option<String>,
    program: Option<String>,
    in_directory: bool,
    recorded: Cell<bool>,
    network: Cell<Option<OwnedFd>>,
}

impl<'r, 'a> Init<'r, 'a> {
    pub(super) fn new(run: &'r Run<'a>, slots: Slots, channel: Channel) -> Self {
        let inherited_umask = umask(Mode::from_raw_mode(0o022));
        umask(inherited_umask);
        let channel = Some(channel);
        Self {
            run,
            slots,
            channel,
            inherited_umask,
            home: None,
            program: None,
            in_directory: false,
            recorded: Cell::new(false),
            network: Cell::new(None),
        }
    }

    /// Walks over the steps from `first` on. Never returns: the program replaces this process, or it ends.
    pub(super) fn walk(mut self, first: usize) -> ! {
        reset_signals();
        let mut waiting = false;
        for (index, step) in self.run.steps.iter().enumerate().skip(first) {
            let result = match step.by {
                // The runtime does these beside; its word that it is done is awaited where the program would start.
                By::Beside => Ok(()),
                By::Runtime if waiting => Ok(()),
                By::Runtime => {
                    waiting = true;
                    self.meet(index)
                }
                By::Init => {
                    waiting = false;
                    self.carry_out(index, step)
                }
            };
            if let Err(cause) = result {
                self.fail(step.action.to_string(), cause);
            }
        }
        self.fail(String::new(), "the list of steps has no program".to_owned())
    }

    /// Reports a failure to whoever waits, and ends.
    fn fail(&self, step: String, cause: Cause) -> ! {
        if let Some(channel) = &self.channel {
            let _ = channel.send(&Message::Failed { step, cause });
        }
        exit_now(FAILED)
    }

    fn channel(&self) -> Result<&Channel, Cause> {
        self.channel.as_ref().ok_or_else(|| "no runtime is connected".to_owned())
    }

    /// Lets the runtime do its steps from `index` on, and waits until they are done.
    fn meet(&self, index: usize) -> Result<(), Cause> {
        let channel = self.channel()?;
        channel.send(&Message::Reached(index as u32)).map_err(cause)?;
        self.await_go(channel);
        Ok(())
    }

    /// Waits for leave to go on.
    fn await_go(&self, channel: &Channel) {
        while self.next_message(channel) != Message::Go {}
    }

    /// Waits until the container is recorded: nothing of it runs that a later runtime would not know of.
    fn await_record(&self) -> Result<(), Cause> {
        let asked = self.run.steps.iter().any(|step| step.by == By::Beside);
        while asked && !self.recorded.get() {
            self.next_message(self.channel()?);
        }
        Ok(())
    }

    /// Joins the network namespace that the runtime makes, once it is there.
    fn join_network(&self) -> Result<(), Cause> {
        const CLONE_NEWNET: i32 = 0x4000_0000;
        loop {
            if let Some(network) = self.network.take() {
                return ns::setns(network.as_fd(), CLONE_NEWNET).map_err(cause);
            }
            self.next_message(self.channel()?);
        }
    }

    /// The next message, after what it brings was noted: the runtime's work beside comes when it is done, whatever is
    /// waited for. A runtime that is gone leaves nothing behind that runs.
    fn next_message(&self, channel: &Channel) -> Message {
        let Ok(Some((message, fd))) = channel.receive_with() else { exit_now(FAILED) };
        match message {
            Message::Recorded => self.recorded.set(true),
            Message::Network => self.network.set(fd),
            Message::Go => {}
            _ => exit_now(FAILED),
        }
        message
    }

    fn root(&self, slot: crate::step::Slot) -> Result<&OwnedFd, Cause> {
        self.slots.get(slot)
    }

    fn carry_out(&mut self, index: usize, step: &Step) -> Result<(), Cause> {
        match &step.action {
            Action::JoinCgroups { files } => join_cgroups(files),
            Action::JoinNamespace { slot, kind, .. } => ns::setns(self.slots.get(*slot)?.as_fd(), *kind).map_err(cause),
            Action::Unshare { namespaces } => ns::unshare(*namespaces).map_err(cause),
            Action::TimeOffsets { text } => time_offsets(text),
            Action::BecomeRoot { groups } => process::become_root(*groups),
            Action::NotDumpable => set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(cause),
            Action::NewSession => setsid().map(drop).map_err(cause),
            Action::SessionKeyring { name } => session_keyring(name),
            Action::OpenProc { slot } => Ok(self.slots.put(*slot, process::open_proc()?)),
            Action::CpuAffinity { list } => set_affinity(list),
            Action::JoinNetwork => self.join_network(),
            Action::LoopbackUp => gantry_sys::netlink::loopback_up().map_err(cause),
            Action::Hostname { name } => rustix::system::sethostname(name.as_bytes()).map_err(cause),
            Action::Domainname { name } => rustix::system::setdomainname(name.as_bytes()).map_err(cause),
            Action::Rlimit { limit, .. } => set_rlimit(None, limit),
            Action::OomScoreAdj { value } => write_file("/proc/self/oom_score_adj", &value.to_string()),
            Action::Personality { persona } => sched::set_personality(*persona).map_err(cause),
            Action::Scheduler { attr, .. } => sched::set_scheduler(0, attr).map_err(cause),
            Action::IoPriority { value } => sched::set_io_priority(*value).map_err(cause),
            Action::MemoryPolicy { policy, .. } => {
                sched::set_memory_policy(policy.mode, policy.nodes.words()).map_err(cause)
            }
            Action::RunHooks { kind, hooks } => self.hooks(*kind, hooks),
            Action::Umask { .. }
            | Action::NoNewPrivileges
            | Action::BoundingCapabilities { .. }
            | Action::SetCredentials(_)
            | Action::Capabilities(_)
            | Action::WorkingDirectory { .. }
            | Action::WorkingDirectoryAsUser { .. }
            | Action::HomeFromPasswd { .. }
            | Action::FindProgram { .. }
            | Action::OwnStdio { .. }
            | Action::CloseOnExec { .. }
            | Action::ExecLabel { .. }
            | Action::Sysctl { .. }
            | Action::AwaitStart { .. }
            | Action::Seccomp
            | Action::Exec { .. } => self.prepare_program(index, &step.action),
            _ => self.file_system(&step.action),
        }
    }

    /// Steps that make the container's file system.
    fn file_system(&mut self, action: &Action) -> Result<(), Cause> {
        match action {
            Action::Propagation { path, flags } => mounts::propagation(path, *flags).map_err(cause),
            Action::PrivateParent { path } => mounts::private_parent(path).map_err(cause),
            Action::BindRoot { source, path, slot } => {
                let tree = match source {
                    Source::Path(path) => mounts::host_tree(path, true, true).map_err(cause)?,
                    Source::Tree(tree) => self.slots.take(*tree).ok_or("the tree was not opened")?,
                };
                mounts::bind_root(tree.as_fd(), path)?;
                Ok(self.slots.put(*slot, tree))
            }
            Action::OpenRoot { path, slot } => {
                Ok(self.slots.put(*slot, open_host(path, OFlags::PATH | OFlags::DIRECTORY).map_err(cause)?))
            }
            Action::OpenHere { slot } => {
                Ok(self.slots.put(*slot, open_host("/", OFlags::PATH | OFlags::DIRECTORY).map_err(cause)?))
            }
            Action::OpenNull { slot } => Ok(self.slots.put(*slot, mounts::open_null()?)),
            Action::MountFs(step) => mounts::mount_fs(self.root(step.place.root)?.as_fd(), step),
            Action::MountBind(step) => self.bind(step),
            Action::SetAttributes { root, path, attributes } => {
                mounts::set_attributes_at(self.root(*root)?.as_fd(), path, *attributes)
            }
            Action::MakeDirectory { root, path } => {
                make_dirs(self.root(*root)?.as_fd(), path, Mode::from_raw_mode(0o755)).map(drop).map_err(cause)
            }
            Action::MakeDevice { root, path, node } => devices::make(self.root(*root)?.as_fd(), path, node),
            Action::BindDevice { root, path, made: Some(tree), .. } => {
                let tree = self.slots.take(*tree).ok_or("the device was not made")?;
                devices::place(self.root(*root)?.as_fd(), path, tree.as_fd())
            }
            Action::BindDevice { root, path, source, made: None } => {
                devices::bind(self.root(*root)?.as_fd(), path, source)
            }
            Action::Symlink { root, path, target, replace } => {
                mounts::symlink(self.root(*root)?.as_fd(), path, target, *replace)
            }
            Action::Console { root, socket, size, mount } => {
                let root = self.root(*root)?.as_fd();
                let pty = console::open_pty(root, *size)?;
                if *mount {
                    console::mount_console(root, pty.slave.as_fd())?;
                }
                console::send_master(self.slots.get(*socket)?.as_fd(), pty.master.as_fd())?;
                console::take(&pty.slave)
            }
            Action::PivotRoot { root, detach_slave } => mounts::pivot(self.root(*root)?.as_fd(), *detach_slave),
            Action::MoveRoot { root } => mounts::move_root(self.root(*root)?.as_fd()),
            Action::Chroot { root } => mounts::change_root(self.root(*root)?.as_fd()),
            Action::ReadonlyPath { root, path } => mounts::readonly_path(self.root(*root)?.as_fd(), path),
            Action::MaskPaths { root, null, paths, label } => {
                mounts::mask(self.root(*root)?.as_fd(), self.slots.get(*null)?.as_fd(), paths, label)
            }
            Action::ReadonlyRoot => mounts::readonly_root().map_err(cause),
            Action::Unmount { root, path } => mounts::unmount_at(self.root(*root)?.as_fd(), path),
            Action::End => exit_now(0),
            _ => Err("this step is the runtime's".to_owned()),
        }
    }

    fn bind(&mut self, step: &crate::step::MountBind) -> Result<(), Cause> {
        if let (true, Source::Path(source)) = (step.copy_symlink, &step.source)
            && mounts::copy_symlink(self.root(step.place.root)?.as_fd(), source, &step.place.target)?
        {
            return Ok(());
        }
        let tree = match &step.source {
            Source::Path(path) => mounts::host_tree(path, step.recursive, step.follow_source)
                .map_err(|e| format!("open source {path}: {}", cause(e)))?,
            Source::Tree(tree) => self.slots.take(*tree).ok_or("the source was not opened")?,
        };
        mounts::mount_bind(self.root(step.place.root)?.as_fd(), tree.as_fd(), step)
    }

    /// Steps from a finished container to its program.
    fn prepare_program(&mut self, index: usize, action: &Action) -> Result<(), Cause> {
        match action {
            Action::Umask { mask } => {
                umask(mask.map_or(self.inherited_umask, Mode::from_raw_mode));
                Ok(())
            }
            Action::NoNewPrivileges => rustix::thread::set_no_new_privs(true).map_err(cause),
            Action::BoundingCapabilities { keep } => process::limit_bounding(*keep),
            Action::SetCredentials(credentials) => process::set_credentials(credentials),
            Action::Capabilities(sets) => process::set_caps(sets),
            Action::WorkingDirectory { path } => match process::change_directory(path) {
                Err(refused) if refused != misc::error_text(Errno::ACCESS.raw_os_error()) => Err(refused),
                result => {
                    self.in_directory = result.is_ok();
                    Ok(())
                }
            },
            Action::WorkingDirectoryAsUser { path } if !self.in_directory => process::change_directory(path),
            Action::WorkingDirectoryAsUser { .. } => process::check_inside(),
            Action::HomeFromPasswd { uid } => {
                self.home = Some(process::home_of(*uid));
                Ok(())
            }
            Action::FindProgram { name } => {
                self.program = Some(process::find_program(name, self.program_env())?);
                Ok(())
            }
            Action::OwnStdio { uid, gid } => process::own_stdio(*uid, *gid),
            Action::CloseOnExec { first } => misc::close_on_exec_from(*first).map_err(cause),
            Action::ExecLabel { proc, label } => process::set_label(self.slots.get(*proc)?, label),
            Action::Sysctl { proc, path, value, .. } => process::write_proc(self.slots.get(*proc)?, path, value),
            Action::AwaitStart { slot } => self.await_start(index, *slot),
            Action::Seccomp => self.install_filter(),
            Action::Exec { args, env, listen_pid } => self.exec(args, env, *listen_pid),
            _ => Err("this step is the runtime's".to_owned()),
        }
    }

    /// The environment of the program, which the last step has.
    fn program_env(&self) -> &[String] {
        match self.run.steps.last().map(|step| &step.action) {
            Some(Action::Exec { env, .. }) => env,
            _ => &[],
        }
    }

    fn hooks(&self, kind: HookKind, list: &[gantry_model::oci::spec::Hook]) -> Result<(), Cause> {
        let status = if kind == HookKind::StartContainer { Status::Created } else { Status::Creating };
        let state = state_at(&self.run.state, status, rustix::process::getpid().as_raw_nonzero().get());
        hooks::run(kind, list, &state).map_err(|error| match error {
            crate::error::Error::Step { step, cause } => format!("{step}: {cause}"),
            other => other.to_string(),
        })
    }

    /// Lets the runtime that made the container go, and waits for one that starts it.
    fn await_start(&mut self, index: usize, slot: crate::step::Slot) -> Result<(), Cause> {
        self.channel()?.send(&Message::Reached(index as u32)).map_err(cause)?;
        self.await_go(self.channel()?);
        self.channel = None;
        let listener = self.slots.take(slot).ok_or("the start socket was not opened")?;
        loop {
            let connection = match accept_with(&listener, SocketFlags::CLOEXEC) {
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                result => result.map_err(cause)?,
            };
            // One that says nothing must not keep the container from being started by another.
            let patience = Some(std::time::Duration::from_secs(2));
            set_socket_timeout(&connection, Timeout::Recv, patience).map_err(cause)?;
            let channel = Channel::from_socket(connection);
            // One that goes away without a word, such as a runtime that is killed, has not started it.
            if matches!(channel.receive(), Ok(Some(Message::Go))) {
                channel.wait_for_ever().map_err(cause)?;
                self.channel = Some(channel);
                return Ok(());
            }
        }
    }

    /// Installs the filter; a notify descriptor is handed to the runtime, which has it before the program starts.
    fn install_filter(&self) -> Result<(), Cause> {
        let Some(filter) = &self.run.filter else { return Ok(()) };
        let program: Vec<seccomp::Instruction> =
            filter.program.iter().map(|i| seccomp::Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect();
        let Some(listener) = seccomp::set_filter(&program, u64::from(filter.load_flags().bits())).map_err(cause)?
        else {
            return Ok(());
        };
        let channel = self.channel()?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&listener);
        channel.send(&Message::NotifyFd(number)).map_err(cause)?;
        self.await_go(channel);
        Ok(())
    }

    fn exec(&self, args: &[String], env: &[String], listen_pid: bool) -> Result<(), Cause> {
        let program = self.program.as_deref().ok_or("no program was found")?;
        let home = self.home.iter().map(|home| format!("HOME={home}"));
        let own = listen_pid.then(|| format!("LISTEN_PID={}", rustix::process::getpid()));
        let nul = |_| "a string has a NUL".to_owned();
        let args = CStringList::new(args).map_err(nul)?;
        let env = CStringList::new(env.iter().cloned().chain(home).chain(own)).map_err(nul)?;
        let path = CString::new(program).map_err(nul)?;
        self.await_record()?;
        Err(cause(execve(&path, &args, &env)))
    }
}

/// Enters cgroups: a zero stands for the writer itself, which spares the kernel a lock over all processes.
fn join_cgroups(files: &[String]) -> Result<(), Cause> {
    files.iter().try_for_each(|file| write_file(file, "0").map_err(|e| format!("{file}: {e}")))
}

pub(super) fn write_file(path: &str, value: &str) -> Result<(), Cause> {
    let file = open_host(path, OFlags::WRONLY).map_err(cause)?;
    rustix::io::write(&file, value.as_bytes()).map(drop).map_err(cause)
}

/// Makes a time namespace, sets its offsets while nothing is in it, and enters it.
fn time_offsets(text: &str) -> Result<(), Cause> {
    const CLONE_NEWTIME: i32 = 0x80;
    ns::unshare(CLONE_NEWTIME).map_err(cause)?;
    if !text.is_empty() {
        write_file("/proc/self/timens_offsets", text)?;
    }
    let children = open_host("/proc/self/ns/time_for_children", OFlags::RDONLY).map_err(cause)?;
    ns::setns(children.as_fd(), CLONE_NEWTIME).map_err(cause)
}

/// Joins a session keyring of the container's own. A kernel without keyrings has none to protect.
fn session_keyring(name: &str) -> Result<(), Cause> {
    let name = CString::new(name).map_err(|_| "the name has a NUL".to_owned())?;
    match misc::join_session_keyring(&name) {
        Ok(id) => misc::widen_keyring(id).map_err(cause),
        Err(error) if error.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) => Ok(()),
        // The user's quota of keys is used up: a shared keyring would be worse than a clear failure.
        Err(error) => Err(cause(error)),
    }
}

pub(super) fn set_affinity(list: &str) -> Result<(), Cause> {
    let set = gantry_model::names::cpulist::parse(list).map_err(|e| e.to_string())?;
    sched::set_affinity(set.words()).map_err(cause)
}

pub(super) fn set_rlimit(pid: Option<i32>, limit: &gantry_model::names::rlimit::Limit) -> Result<(), Cause> {
    sched::set_rlimit(pid.unwrap_or(0), limit.resource, limit.soft, limit.hard).map_err(cause)
}

/// An intermediate process: joins namespaces, makes the container's process in them as its sibling, says which it is,
/// and ends. In the container's process it returns.
pub(super) fn stage(stage: &Stage, namespaces: u64, slots: &Slots, channel: &Channel) {
    let fail = |step: &str, cause: Cause| -> ! {
        let _ = channel.send(&Message::Failed { step: step.to_owned(), cause });
        exit_now(FAILED)
    };
    if let Err(cause) = join_cgroups(&stage.cgroups) {
        fail("enter the cgroup", cause);
    }
    for &(slot, kind) in &stage.join {
        let joined = slots.get(slot).and_then(|fd| ns::setns(fd.as_fd(), kind).map_err(cause));
        if let Err(cause) = joined {
            fail("join namespaces", cause);
        }
    }
    if stage.become_root
        && let Err(cause) = process::become_root(false)
    {
        fail("become root of the user namespace", cause);
    }
    // The container's process says nothing before the runtime was told which it is.
    let Ok((told, telling)) = Channel::pair() else { fail("make a socket", String::new()) };
    match fork(&ForkOptions { namespaces, sibling: true, ..ForkOptions::default() }) {
        Ok(Forked::Child) => {
            drop(telling);
            let _ = told.receive();
        }
        Ok(Forked::Parent { pid, .. }) => {
            let _ = channel.send(&Message::Pid(pid));
            exit_now(0)
        }
        Err(error) => fail("make the container's process", cause(error)),
    }
}
