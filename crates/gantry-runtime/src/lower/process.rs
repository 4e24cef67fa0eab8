//! The program: its limits, identity, privileges and environment, for a container's first process and for one that
//! joins it.

use gantry_model::ContainerId;
use gantry_model::names::capability::CapSet;
use gantry_model::names::namespace::NamespaceKind;
use gantry_model::names::{cpulist, ioprio, rlimit, scheduler};
use gantry_model::oci::spec::{Capabilities, Process};

use super::{Builder, CgroupInput, ConsoleTo, Context, Flags, Host, Opened, field};
use crate::error::{Error, Result};
use crate::step::{Action, By, CapSets, Clone_, Credentials, HookKind, Label, Slot, Stage, Step};

/// The bit of CAP_SYS_ADMIN.
const SYS_ADMIN: u64 = 1 << 21;
/// The most arguments and variables, together, that a program is given.
const MAX_STRINGS: usize = 1 << 20;

/// A process that joins a running container.
pub(crate) struct ExecInput<'a> {
    /// The container's identifier.
    pub(crate) id: &'a ContainerId,
    /// What it runs.
    pub(crate) process: &'a Process,
    /// Whether the container has a filter, which holds for it as well.
    pub(crate) seccomp: bool,
    /// The host.
    pub(crate) host: &'a Host,
    /// Flags of the command line.
    pub(crate) flags: &'a Flags,
    /// How it gets into the cgroup.
    pub(crate) cgroup: &'a CgroupInput,
    /// Namespaces of the container that are not the runtime's, `CLONE_NEW*` bits.
    pub(crate) namespaces: u64,
    /// The container's first process, an open pidfd.
    pub(crate) init: Slot,
    /// Its root directory, where it has no mount namespace of its own.
    pub(crate) root: Option<Slot>,
    /// Whether groups can be set in its user namespace.
    pub(crate) groups: bool,
}

/// Makes a process that joins into steps. Slots below 2 are the caller's.
pub(crate) fn lower_exec(input: &ExecInput<'_>) -> Result<Vec<Step>> {
    let mut b = Builder { slots: 2, ..Builder::default() };
    let process = input.process;
    check_strings(process)?;
    let user = NamespaceKind::User.clone_flag();
    let pid = NamespaceKind::Pid.clone_flag();
    let joins_user = input.namespaces & user != 0;
    ignored(&mut b, process);
    b.cgroup(By::Runtime, &input.cgroup.before);
    let console = open_console(&mut b, process, input.flags)?;
    if let Some(affinity) = process.exec_cpu_affinity.as_ref().filter(|affinity| !affinity.initial.is_empty()) {
        field("process.execCPUAffinity.initial", cpulist::parse(&affinity.initial))?;
        b.runtime(Action::CpuAffinity { list: affinity.initial.clone() });
    }
    // Whatever shares the container's namespaces must not reach into this process before its program runs; the child
    // inherits it.
    b.runtime(Action::NotDumpable);
    let mut clone = Clone_ { into_cgroup: input.cgroup.clone_into, ..Clone_::default() };
    if joins_user {
        let join = vec![(input.init, input.namespaces as i32)];
        clone.stage = Some(Stage { cgroups: input.cgroup.join.clone(), join, become_root: true });
    } else if input.namespaces & pid != 0 {
        clone.join_pid = Some(input.init);
    }
    b.runtime(Action::Clone(clone));
    b.cgroup(By::Runtime, &input.cgroup.after);
    let outside = joins_user && input.host.privileged;
    limits(&mut b, process, outside)?;
    if !input.cgroup.join.is_empty() && !joins_user {
        b.init(Action::JoinCgroups { files: input.cgroup.join.clone() });
    }
    let rest = input.namespaces & !pid;
    if !joins_user && rest != 0 {
        b.init(Action::JoinNamespace { slot: input.init, kind: rest as i32, name: "container" });
    }
    b.init(Action::NewSession);
    if !input.flags.no_new_keyring {
        b.init(Action::SessionKeyring { name: format!("_ses.{}", input.id) });
    }
    settle_exec(&mut b, input, console)?;
    let labels: Vec<Label> = labels(process, input.host).collect();
    let proc = (!labels.is_empty()).then(|| b.slot());
    if let Some(slot) = proc {
        b.init(Action::OpenProc { slot });
    }
    let groups = input.groups;
    program(
        &mut b,
        &Program {
            process,
            seccomp: input.seccomp,
            groups,
            flags: input.flags,
            labels,
            proc,
            start: None,
            hook: None,
            notify: None,
        },
    )?;
    Ok(b.steps)
}

/// The root, the terminal and the scheduling of a process that joins.
fn settle_exec(b: &mut Builder, input: &ExecInput<'_>, console: Option<Slot>) -> Result<()> {
    let process = input.process;
    if let Some(root) = input.root {
        b.init(Action::Chroot { root });
    }
    if let Some(socket) = console {
        let root = b.slot();
        b.init(Action::OpenHere { slot: root });
        let fit = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        let size = process.console_size.as_ref().map(|size| (fit(size.height), fit(size.width)));
        b.init(Action::Console { root, socket, size, mount: false });
    }
    if let Some(affinity) = process.exec_cpu_affinity.as_ref().filter(|affinity| !affinity.final_.is_empty()) {
        field("process.execCPUAffinity.final", cpulist::parse(&affinity.final_))?;
        b.init(Action::CpuAffinity { list: affinity.final_.clone() });
    }
    if let Some(given) = &process.scheduler {
        let attr = field("process.scheduler", scheduler::attributes(given))?;
        b.init(Action::Scheduler { attr, policy: given.policy.clone() });
    }
    if let Some(given) = &process.io_priority {
        b.init(Action::IoPriority { value: field("process.ioPriority", ioprio::value(given))? });
    }
    Ok(())
}

/// Where a terminal of a process goes, as a slot.
pub(super) fn open_console(b: &mut Builder, process: &Process, flags: &Flags) -> Result<Option<Slot>> {
    if !process.terminal {
        return match &flags.console {
            ConsoleTo::Socket(path) => Err(Error::Unsupported(format!(
                "--console-socket {path} is given, but the process asks for no terminal"
            ))),
            _ => Ok(None),
        };
    }
    let slot = b.slot();
    match &flags.console {
        ConsoleTo::Nobody => {
            let reason = "a terminal needs somewhere to go: pass --console-socket, or stay in the foreground";
            return Err(Error::config("process.terminal", reason));
        }
        ConsoleTo::Socket(path) => b.runtime(Action::ConnectConsole { path: path.clone(), slot }),
        ConsoleTo::Runtime => b.runtime(Action::ConsolePair { slot }),
    }
    Ok(Some(slot))
}

/// What [`program`] needs.
struct Program<'a> {
    process: &'a Process,
    seccomp: bool,
    groups: bool,
    flags: &'a Flags,
    labels: Vec<Label>,
    proc: Option<Slot>,
    start: Option<Slot>,
    hook: Option<Action>,
    notify: Option<String>,
}

impl Context<'_> {
    /// Resource limits and the OOM score.
    pub(super) fn limits(&self, b: &mut Builder, outside: bool) -> Result<()> {
        limits(b, self.process, outside)
    }

    /// The labels that the program gets.
    pub(super) fn exec_labels(&self) -> impl Iterator<Item = Label> {
        labels(self.process, self.input.host)
    }

    /// Everything from the waiting for the start to the program.
    pub(super) fn program(&self, b: &mut Builder, opened: &Opened) -> Result<()> {
        check_strings(self.process)?;
        let mut hooks = Builder::default();
        self.hooks(&mut hooks, By::Init, HookKind::StartContainer);
        program(
            b,
            &Program {
                process: self.process,
                seccomp: self.linux.seccomp.is_some(),
                groups: self.sets_groups(),
                flags: self.input.flags,
                labels: self.exec_labels().collect(),
                proc: opened.proc,
                start: opened.start,
                hook: hooks.steps.pop().map(|step| step.action),
                notify: opened.notify.and(self.input.flags.notify_socket.clone()),
            },
        )
    }
}

fn check_strings(process: &Process) -> Result<()> {
    if process.args.is_empty() {
        return Err(Error::config("process.args", "it is empty, and names the program"));
    }
    if process.args.len() + process.env.len() > MAX_STRINGS {
        return Err(Error::config("process", format!("more than {MAX_STRINGS} arguments and variables")));
    }
    for (name, strings) in [("process.args", &process.args), ("process.env", &process.env)] {
        if strings.iter().any(|text| text.contains('\0')) {
            return Err(Error::config(name, "a string has a NUL character"));
        }
    }
    if !process.cwd.starts_with('/') {
        return Err(Error::config("process.cwd", format!("{:?} is not an absolute path", process.cwd)));
    }
    if process.cwd.contains('\0') {
        return Err(Error::config("process.cwd", "it has a NUL character"));
    }
    Ok(())
}

fn limits(b: &mut Builder, process: &Process, outside: bool) -> Result<()> {
    for limit in field("process.rlimits", rlimit::limits(&process.rlimits))? {
        let found = process.rlimits.iter().find(|given| rlimit::number(&given.kind) == Some(limit.resource));
        let name = found.map(|given| given.kind.clone()).unwrap_or_default();
        b.outside_if(outside, Action::Rlimit { name, limit });
    }
    if let Some(value) = process.oom_score_adj {
        if !(-1000..=1000).contains(&value) {
            return Err(Error::config("process.oomScoreAdj", format!("{value} is not between -1000 and 1000")));
        }
        b.outside_if(outside, Action::OomScoreAdj { value });
    }
    Ok(())
}

fn labels(process: &Process, host: &Host) -> impl Iterator<Item = Label> {
    let app = Some(&process.apparmor_profile).filter(|profile| !profile.is_empty() && host.apparmor);
    let se = Some(&process.selinux_label).filter(|label| !label.is_empty());
    app.map(|profile| Label::AppArmor(profile.clone())).into_iter().chain(se.map(|label| Label::SeLinux(label.clone())))
}

/// The steps from a settled container to the program in it.
fn program(b: &mut Builder, input: &Program<'_>) -> Result<()> {
    let process = input.process;
    let user = &process.user;
    let caps = capabilities(process.capabilities.as_ref());
    let first = 3 + input.flags.preserve_fds + input.flags.listen_fds;
    b.init(Action::WorkingDirectory { path: process.cwd.clone() });
    b.init(Action::OwnStdio { uid: user.uid, gid: user.gid });
    if !process.env.iter().any(|pair| pair.starts_with("HOME=")) {
        b.init(Action::HomeFromPasswd { uid: user.uid });
    }
    let name = process.args.first().cloned().unwrap_or_default();
    b.init(Action::FindProgram { name });
    b.init(Action::CloseOnExec { first });
    if let Some(slot) = input.start {
        b.init(Action::AwaitStart { slot });
    }
    if let Some(proc) = input.proc {
        for label in &input.labels {
            b.init(Action::ExecLabel { proc, label: label.clone() });
        }
    }
    b.init(Action::Umask { mask: user.umask });
    if process.no_new_privileges {
        b.init(Action::NoNewPrivileges);
    } else if input.seccomp && caps.effective & SYS_ADMIN == 0 {
        // Without no_new_privs a filter takes CAP_SYS_ADMIN, which is about to go.
        b.init(Action::Seccomp);
    }
    b.init(Action::BoundingCapabilities { keep: caps.bounding });
    let groups = input.groups.then(|| user.additional_gids.clone());
    if groups.is_none() && !user.additional_gids.is_empty() {
        let reason = "groups cannot be set: they are kept by an annotation, or a user namespace has a single group";
        return Err(Error::config("process.user.additionalGids", reason));
    }
    b.init(Action::SetCredentials(Credentials { uid: user.uid, gid: user.gid, groups }));
    b.init(Action::Capabilities(caps));
    b.init(Action::WorkingDirectoryAsUser { path: process.cwd.clone() });
    if let Some(hook) = &input.hook {
        b.init(hook.clone());
    }
    if input.seccomp && (process.no_new_privileges || caps.effective & SYS_ADMIN != 0) {
        b.init(Action::Seccomp);
    }
    let mut env = last_of_each(&process.env);
    if let Some(path) = &input.notify {
        env.retain(|pair| !pair.starts_with("NOTIFY_SOCKET="));
        env.push(format!("NOTIFY_SOCKET={path}/{}", crate::notify::SOCKET));
    }
    let listen_pid = input.flags.listen_fds > 0;
    if listen_pid {
        env.retain(|pair| !["LISTEN_FDS=", "LISTEN_PID=", "LISTEN_FDNAMES="].iter().any(|name| pair.starts_with(name)));
        env.push(format!("LISTEN_FDS={}", input.flags.listen_fds));
        env.extend(input.flags.listen_fdnames.iter().map(|names| format!("LISTEN_FDNAMES={names}")));
    }
    b.init(Action::Exec { args: process.args.clone(), env, listen_pid });
    Ok(())
}

/// The environment without variables that a later one of the same name replaces: programs differ in which they take.
fn last_of_each(env: &[String]) -> Vec<String> {
    let name = |pair: &'_ String| pair.find('=').unwrap_or(pair.len());
    let mut seen = std::collections::HashSet::with_capacity(env.len());
    let mut kept: Vec<String> = env.iter().rev().filter(|pair| seen.insert(&pair[..name(pair)])).cloned().collect();
    kept.reverse();
    kept
}

/// Capability sets as bits. A name that is not known is left out, as the specification asks (config.md, Linux Process).
fn capabilities(given: Option<&Capabilities>) -> CapSets {
    let Some(given) = given else { return CapSets::default() };
    let bits = |names: &[String]| CapSet::from_names(names).0.0;
    CapSets {
        bounding: bits(&given.bounding),
        effective: bits(&given.effective),
        inheritable: bits(&given.inheritable),
        permitted: bits(&given.permitted),
        ambient: bits(&given.ambient),
    }
}

/// Names what a process asks for and does not get: capabilities that nobody knows.
pub(super) fn ignored(b: &mut Builder, process: &Process) {
    let Some(given) = &process.capabilities else { return };
    let sets = [&given.bounding, &given.effective, &given.inheritable, &given.permitted, &given.ambient];
    let mut unknown: Vec<&str> = sets.into_iter().flat_map(|names| CapSet::from_names(names).1).collect();
    unknown.sort_unstable();
    unknown.dedup();
    if !unknown.is_empty() {
        b.ignore(format!("process.capabilities {}: no capability is called so", unknown.join(", ")));
    }
}
