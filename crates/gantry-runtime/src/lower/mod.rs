//! From a configuration and a host to the list of steps: everything that is decided, and no system call.

mod check;
mod input;
mod joined;
mod mounts;
mod process;
mod resctrl;

use gantry_cgroup::Step as CgroupStep;
use gantry_model::names::namespace::NamespaceKind;
use gantry_model::names::{NameError, idmap, mempolicy, netdevice, personality, scheduler, sysctl, timens};
use gantry_model::oci::linux::{Linux, Resources};
use gantry_model::oci::spec::{IdMapping, Process, Spec};

use crate::error::{Error, Result};
use crate::step::{Action, By, Clone_, HookKind, Slot, Stage, Step};

pub(crate) use input::{CgroupInput, Input, complete, lacks_mappings};
pub use input::{CgroupMount, CgroupMounts, ConsoleTo, Flags, Host};
pub(crate) use joined::{MountsInput, lower_mounts};
pub(crate) use process::{ExecInput, lower_exec};

/// The most mounts that a configuration may have: the kernel's own default bound on a namespace.
const MAX_MOUNTS: usize = 100_000;
/// The most namespaces: one of each kind.
const MAX_NAMESPACES: usize = 8;

/// The namespaces of a configuration, sorted out.
#[derive(Clone, Debug, Default)]
struct Namespaces {
    /// `CLONE_NEW*` bits of those to make.
    new: u64,
    /// Those to join.
    join: Vec<(NamespaceKind, String)>,
}

impl Namespaces {
    fn of(linux: &Linux) -> Result<Self> {
        let mut namespaces = Self::default();
        let mut seen = 0;
        let field = "linux.namespaces";
        if linux.namespaces.len() > MAX_NAMESPACES {
            return Err(Error::config(field, "there are more entries than kinds of namespaces"));
        }
        for namespace in &linux.namespaces {
            let kind = NamespaceKind::from_name(&namespace.kind).map_err(|e| Error::config(field, e.to_string()))?;
            if seen & kind.clone_flag() != 0 {
                return Err(Error::config(field, format!("{} stands twice", kind.name())));
            }
            seen |= kind.clone_flag();
            if namespace.path.is_empty() {
                namespaces.new |= kind.clone_flag();
            } else if namespace.path.starts_with('/') {
                namespaces.join.push((kind, namespace.path.clone()));
            } else {
                return Err(Error::config(field, format!("path {:?} is not absolute", namespace.path)));
            }
        }
        Ok(namespaces)
    }

    fn makes(&self, kind: NamespaceKind) -> bool {
        self.new & kind.clone_flag() != 0
    }

    fn joins(&self, kind: NamespaceKind) -> bool {
        self.join.iter().any(|(joined, _)| *joined == kind)
    }

    /// Whether the container has one of its own, made or joined.
    fn has(&self, kind: NamespaceKind) -> bool {
        self.makes(kind) || self.joins(kind)
    }
}

/// Collects steps and hands out slots.
#[derive(Default)]
struct Builder {
    steps: Vec<Step>,
    slots: u16,
    /// Whether a network namespace is being made beside that init has not joined yet.
    network_pending: bool,
}

impl Builder {
    /// Has init join the network namespace that is made beside, before the first step that sees the network.
    fn join_network(&mut self) {
        if std::mem::take(&mut self.network_pending) {
            self.init(Action::JoinNetwork);
        }
    }

    fn push(&mut self, by: By, action: Action) {
        self.steps.push(Step { by, action });
    }

    fn runtime(&mut self, action: Action) {
        self.push(By::Runtime, action);
    }

    fn init(&mut self, action: Action) {
        self.push(By::Init, action);
    }

    fn slot(&mut self) -> Slot {
        self.slots += 1;
        Slot(self.slots - 1)
    }

    /// Steps on the cgroup, without those that do nothing.
    fn cgroup(&mut self, by: By, steps: &[CgroupStep]) {
        let done = steps.iter().filter(|step| !matches!(step, CgroupStep::Ignore { .. }));
        self.steps.extend(done.map(|step| Step { by, action: Action::Cgroup(step.clone()) }));
    }

    /// Something that is asked for and not done.
    fn ignore(&mut self, what: String) {
        self.runtime(Action::Ignore { what });
    }

    /// A step that the privileges of the user namespace do not suffice for is the runtime's where there is one.
    fn outside_if(&mut self, outside: bool, action: Action) {
        self.push(if outside { By::Runtime } else { By::Init }, action);
    }
}

/// Everything that the parts of the lowering share.
struct Context<'a> {
    input: &'a Input<'a>,
    linux: &'a Linux,
    process: &'a Process,
    namespaces: Namespaces,
    /// Whether the runtime, which may more than the container's process, resolves and opens for it.
    opens_for_init: bool,
    /// Whether the container's process does not begin among the runtime's mounts.
    elsewhere: bool,
}

/// Names a field in the errors of names and values.
fn field<T>(name: &str, result: std::result::Result<T, NameError>) -> Result<T> {
    result.map_err(|error| Error::config(name, error.to_string()))
}

/// Makes a configuration into steps.
pub(crate) fn lower(input: &Input<'_>) -> Result<Vec<Step>> {
    let empty = Linux::default();
    let spec = input.spec;
    check::check_version(&spec.oci_version)?;
    let linux = spec.linux.as_ref().unwrap_or(&empty);
    let process =
        spec.process.as_ref().ok_or_else(|| Error::config("process", "it is missing, and has the program"))?;
    if spec.mounts.len() > MAX_MOUNTS {
        return Err(Error::config("mounts", format!("{} entries, at most {MAX_MOUNTS} fit", spec.mounts.len())));
    }
    let namespaces = Namespaces::of(linux)?;
    let own_user = namespaces.has(NamespaceKind::User);
    let elsewhere = input.flags.mounts_from.is_some() && namespaces.makes(NamespaceKind::Mount);
    let opens_for_init = own_user && input.host.privileged;
    let context = Context { input, linux, process, namespaces, opens_for_init, elsewhere };
    context.check()?;
    let mut b = Builder::default();
    context.ignored(&mut b);
    let (joining, limits): (Vec<_>, Vec<_>) = input.cgroup.before.iter().cloned().partition(is_for_joining);
    b.cgroup(By::Runtime, &joining);
    context.resctrl(&mut b, true)?;
    let mut opened = context.open_outside(&mut b)?;
    context.clone_process(&mut b, &opened, &limits)?;
    context.enter(&mut b, &opened)?;
    context.file_system(&mut b, &mut opened)?;
    context.settle(&mut b, &opened)?;
    context.program(&mut b, &opened)?;
    Ok(b.steps)
}

/// Whether a step on the cgroup must be done before a process can enter it.
fn is_for_joining(step: &CgroupStep) -> bool {
    matches!(
        step,
        CgroupStep::MakeCgroup { .. }
            | CgroupStep::EnsureCgroup { .. }
            | CgroupStep::Enable { .. }
            | CgroupStep::InheritCpuset { .. }
            // Of version 1 the rules replace each other one by one: meanwhile init could not make its devices.
            | CgroupStep::DeviceRules { .. }
            | CgroupStep::DeviceState { .. }
            | CgroupStep::Delegate { .. }
    )
}

/// What was opened before the process is made, and by which slot it is found.
#[derive(Default)]
struct Opened {
    namespaces: Vec<(NamespaceKind, Slot)>,
    root: Option<Slot>,
    binds: Vec<Option<Slot>>,
    devices: Vec<(String, Slot)>,
    notify: Option<Slot>,
    console: Option<Slot>,
    start: Option<Slot>,
    proc: Option<Slot>,
    /// The mount namespace that the container's is copied from.
    mounts: Option<Slot>,
}

impl Context<'_> {
    fn all_hooks(&self) -> impl Iterator<Item = (HookKind, &[gantry_model::oci::spec::Hook])> {
        self.input.spec.hooks.iter().flat_map(|hooks| {
            [
                (HookKind::Prestart, &hooks.prestart[..]),
                (HookKind::CreateRuntime, &hooks.create_runtime),
                (HookKind::CreateContainer, &hooks.create_container),
                (HookKind::StartContainer, &hooks.start_container),
                (HookKind::Poststart, &hooks.poststart),
                (HookKind::Poststop, &hooks.poststop),
            ]
        })
    }

    /// Hooks of one kind as a step, if there are any.
    fn hooks(&self, b: &mut Builder, by: By, wanted: HookKind) {
        let found = self.all_hooks().find(|(kind, hooks)| *kind == wanted && !hooks.is_empty());
        if let Some((kind, hooks)) = found {
            let hooks = hooks.to_vec();
            b.push(by, Action::RunHooks { kind, hooks });
        }
    }

    /// Opens what lies on the host and is needed by the container's process: namespaces, trees, sockets.
    fn open_outside(&self, b: &mut Builder) -> Result<Opened> {
        let mut opened = Opened::default();
        for (kind, path) in &self.namespaces.join {
            let slot = b.slot();
            b.runtime(Action::OpenNamespace { path: path.clone(), kind: kind.clone_flag() as i32, slot });
            opened.namespaces.push((*kind, slot));
        }
        if let Some(path) = self.input.flags.mounts_from.as_ref().filter(|_| self.elsewhere) {
            let slot = b.slot();
            let kind = NamespaceKind::Mount.clone_flag() as i32;
            b.runtime(Action::OpenNamespace { path: path.clone(), kind, slot });
            opened.mounts = Some(slot);
        }
        self.open_trees(b, &mut opened)?;
        self.make_devices(b, &mut opened)?;
        self.open_notify(b, &mut opened);
        opened.console = process::open_console(b, self.process, self.input.flags)?;
        if !self.input.start_now {
            let slot = b.slot();
            b.runtime(Action::ListenStart { slot });
            opened.start = Some(slot);
        }
        Ok(opened)
    }

    /// Whether the runtime makes the network namespace while init is busy: it takes as long as the rest of the clone, or
    /// of the file system. A user namespace must own it, and devices are moved into one that is there.
    fn network_beside(&self, staged: bool) -> bool {
        let ns = &self.namespaces;
        let plain = !staged && !ns.has(NamespaceKind::User) && self.linux.net_devices.is_empty();
        plain && ns.makes(NamespaceKind::Network) && self.input.host.privileged
    }

    /// Who sets limits. They hold before the program starts, and until then the container's process is busy with its file
    /// system, so it need not wait: unless it asks for what the kernel grants by these very limits, real time (v1's
    /// `cpu.rt_runtime_us`), processors and memory nodes (cpuset).
    fn limits_by(&self) -> By {
        let judged = self.process.scheduler.is_some() || self.linux.memory_policy.is_some();
        if judged { By::Runtime } else { By::Beside }
    }

    /// Makes the process, and what has to be done to it from outside before it can go on.
    fn clone_process(&self, b: &mut Builder, opened: &Opened, limits: &[CgroupStep]) -> Result<()> {
        let ns = &self.namespaces;
        // The cgroup namespace takes its root from the cgroup that the process is in once it is there; offsets of a new
        // time namespace are set before anything is in it. Both are made by init itself.
        let later = NamespaceKind::Cgroup.clone_flag() | NamespaceKind::Time.clone_flag();
        let user = NamespaceKind::User;
        let (namespaces, into_cgroup) = (ns.new & !later, self.input.cgroup.clone_into);
        let mut clone = Clone_ { namespaces, into_cgroup, mounts_from: opened.mounts, ..Clone_::default() };
        if ns.joins(user) || (ns.makes(user) && !ns.join.is_empty()) {
            // Namespaces that the container's user namespace has no power over are joined before it is entered; an
            // unprivileged runtime has power over none until it is in.
            let mut join = opened.namespaces.clone();
            join.sort_by_key(|(kind, _)| (*kind == user) == self.input.host.privileged);
            let become_root = ns.joins(user);
            let join = join.into_iter().map(|(kind, slot)| (slot, kind.clone_flag() as i32)).collect();
            let cgroups = self.input.cgroup.join.clone();
            clone.stage = Some(Stage { cgroups, join, become_root });
        } else {
            clone.join_pid =
                opened.namespaces.iter().find(|(kind, _)| *kind == NamespaceKind::Pid).map(|&(_, slot)| slot);
        }
        b.network_pending = self.network_beside(clone.stage.is_some());
        if b.network_pending {
            clone.namespaces &= !NamespaceKind::Network.clone_flag();
        }
        b.runtime(Action::Clone(clone));
        if b.network_pending {
            b.push(By::Beside, Action::MakeNetwork);
        }
        b.push(By::Beside, Action::Record);
        b.cgroup(self.limits_by(), limits);
        b.cgroup(By::Runtime, &self.input.cgroup.after);
        self.resctrl(b, false)?;
        if ns.makes(user) {
            let (uid, gid) = (self.linux.uid_mappings.clone(), self.linux.gid_mappings.clone());
            let host = self.input.host;
            let own = |map: &[IdMapping], id: u32| matches!(map, [one] if one.host_id == id && one.size == 1);
            let single = own(&uid, host.euid) && own(&gid, host.egid);
            let deny_setgroups = !host.privileged && single;
            let helper = !host.privileged && !single;
            b.runtime(Action::WriteIdMaps { uid, gid, deny_setgroups, helper });
        }
        if self.limits_outside() {
            self.limits(b, true)?;
        }
        for device in field("linux.netDevices", netdevice::moves(&self.linux.net_devices))? {
            b.runtime(Action::MoveNetDevice { from: device.from.to_owned(), to: device.to.to_owned() });
        }
        Ok(())
    }

    /// Whether the container's processes get groups of their own rather than the runtime's.
    fn sets_groups(&self) -> bool {
        !self.groups_denied() && !keeps_groups(self.input.spec)
    }

    /// Whether `setgroups` is denied in the container's user namespace.
    fn groups_denied(&self) -> bool {
        let host = self.input.host;
        self.namespaces.makes(NamespaceKind::User)
            && !host.privileged
            && matches!(&self.linux.gid_mappings[..], [one] if one.host_id == host.egid && one.size == 1)
    }

    /// Enters cgroups and namespaces, and takes the place of the container's first process.
    fn enter(&self, b: &mut Builder, opened: &Opened) -> Result<()> {
        let ns = &self.namespaces;
        // Where an intermediate process joins namespaces, it enters the cgroup before it has no more right to.
        let staged = b.steps.iter().any(|step| matches!(&step.action, Action::Clone(clone) if clone.stage.is_some()));
        if !self.input.cgroup.join.is_empty() && !staged {
            b.init(Action::JoinCgroups { files: self.input.cgroup.join.clone() });
        }
        let root_mapped = |map: &[IdMapping]| idmap::host_id(map, 0).is_some();
        if ns.makes(NamespaceKind::User)
            && root_mapped(&self.linux.uid_mappings)
            && root_mapped(&self.linux.gid_mappings)
        {
            b.init(Action::BecomeRoot { groups: self.sets_groups() });
        } else if ns.joins(NamespaceKind::User) {
            b.init(Action::BecomeRoot { groups: !keeps_groups(self.input.spec) });
        }
        if !ns.join.is_empty() {
            b.init(Action::NotDumpable);
        }
        let staged = ns.joins(NamespaceKind::User) || ns.makes(NamespaceKind::User);
        if !staged {
            for &(kind, slot) in opened.namespaces.iter().filter(|(kind, _)| *kind != NamespaceKind::Pid) {
                b.init(Action::JoinNamespace { slot, kind: kind.clone_flag() as i32, name: kind.name() });
            }
        }
        if ns.makes(NamespaceKind::Cgroup) {
            b.init(Action::Unshare { namespaces: NamespaceKind::Cgroup.clone_flag() as i32 });
        }
        if ns.makes(NamespaceKind::Time) {
            let text = field("linux.timeOffsets", timens::lines(&self.linux.time_offsets))?;
            b.init(Action::TimeOffsets { text });
        }
        b.init(Action::NewSession);
        if !self.input.flags.no_new_keyring {
            b.init(Action::SessionKeyring { name: format!("_ses.{}", self.input.id) });
        }
        if ns.makes(NamespaceKind::Network) && !b.network_pending {
            b.init(Action::LoopbackUp);
        }
        if !self.limits_outside() {
            self.limits(b, false)?;
        }
        Ok(())
    }

    /// Whether limits are set by the runtime, which may raise what the container's process may not.
    fn limits_outside(&self) -> bool {
        self.namespaces.has(NamespaceKind::User) && self.input.host.privileged
    }

    /// Names, parameters, and what else belongs to the container as a whole rather than to its program.
    fn settle(&self, b: &mut Builder, opened: &Opened) -> Result<()> {
        let spec = self.input.spec;
        if !spec.hostname.is_empty() {
            b.init(Action::Hostname { name: spec.hostname.clone() });
        }
        if !spec.domainname.is_empty() {
            b.init(Action::Domainname { name: spec.domainname.clone() });
        }
        if let Some(proc) = opened.proc {
            for setting in field("linux.sysctl", self.sysctls())? {
                let name = setting.path.replace('/', ".");
                let value = setting.value.to_owned();
                b.init(Action::Sysctl { proc, name, path: format!("sys/{}", setting.path), value });
            }
        }
        self.close_root(b);
        if let Some(given) = &self.linux.personality {
            let (persona, _) = field("linux.personality", personality::persona(given))?;
            b.init(Action::Personality { persona });
        }
        if let Some(given) = &self.process.scheduler {
            let attr = field("process.scheduler", scheduler::attributes(given))?;
            b.init(Action::Scheduler { attr, policy: given.policy.clone() });
        }
        if let Some(given) = &self.process.io_priority {
            let value = field("process.ioPriority", gantry_model::names::ioprio::value(given))?;
            b.init(Action::IoPriority { value });
        }
        if let Some(given) = &self.linux.memory_policy {
            let policy = field("linux.memoryPolicy", mempolicy::policy(given))?;
            b.init(Action::MemoryPolicy { policy, mode: given.mode.clone() });
        }
        Ok(())
    }

    fn sysctls(&self) -> std::result::Result<Vec<sysctl::Setting<'_>>, NameError> {
        let ns = &self.namespaces;
        let isolation = sysctl::Isolation {
            ipc: ns.has(NamespaceKind::Ipc),
            network: ns.has(NamespaceKind::Network),
            uts: ns.has(NamespaceKind::Uts),
            user: ns.has(NamespaceKind::User),
        };
        sysctl::settings(&self.linux.sysctl, isolation, &self.input.spec.domainname)
    }
}

/// Whether an annotation asks that processes keep the groups of whoever starts the runtime: engines without privilege
/// have no other way to let them use files of those groups.
pub(crate) fn keeps_groups(spec: &Spec) -> bool {
    spec.annotations.get("run.oci.keep_original_groups").is_some_and(|value| value == "1" || value == "true")
}

/// The device rules and limits of a configuration.
pub(crate) fn resources(spec: &Spec) -> Option<&Resources> {
    spec.linux.as_ref().and_then(|linux| linux.resources.as_ref())
}

#[cfg(test)]
mod tests;
