//! From a configuration and a host to the list of steps: everything that is decided, and no system call.

mod joined;
mod mounts;
mod process;

use gantry_cgroup::Step as CgroupStep;
use gantry_model::ContainerId;
use gantry_model::names::namespace::NamespaceKind;
use gantry_model::names::{NameError, idmap, mempolicy, netdevice, personality, scheduler, sysctl, timens};
use gantry_model::oci::linux::{Linux, Resources};
use gantry_model::oci::spec::{IdMapping, Process, Spec};

use crate::error::{Error, Result};
use crate::step::{Action, By, Clone_, FsOption, HookKind, Slot, Stage, Step};

pub(crate) use joined::{MountsInput, lower_mounts};
pub(crate) use process::{ExecInput, lower_exec};

/// The most mounts that a configuration may have: the kernel's own default bound on a namespace.
const MAX_MOUNTS: usize = 100_000;
/// The most namespaces: one of each kind.
const MAX_NAMESPACES: usize = 8;

/// What is known of the host, as data.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Whether the runtime may administer the host: it is root, and in the first user namespace.
    pub privileged: bool,
    /// Whether the runtime is in a user namespace itself.
    pub in_user_namespace: bool,
    /// The runtime's effective user.
    pub euid: u32,
    /// Its effective group.
    pub egid: u32,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether SELinux is on.
    pub selinux: bool,
    /// Where resctrl is mounted, if it is.
    pub resctrl: Option<String>,
    /// Users and groups that a container's user namespace gets where the configuration maps none; looked up for such a
    /// configuration alone.
    pub own_ids: (Vec<IdMapping>, Vec<IdMapping>),
    /// How a mount of type cgroup is made.
    pub cgroup_mounts: CgroupMounts,
}

/// Whether a configuration makes a user namespace without saying what is mapped in it.
pub(crate) fn lacks_mappings(linux: &Linux) -> bool {
    let makes = |namespace: &gantry_model::oci::linux::Namespace| namespace.kind == "user" && namespace.path.is_empty();
    linux.uid_mappings.is_empty() && linux.gid_mappings.is_empty() && linux.namespaces.iter().any(makes)
}

/// Fills in what a configuration leaves to the runtime: mappings of a user namespace, which map what the runtime itself
/// may be.
pub(crate) fn complete(spec: &mut Spec, host: &Host) {
    if let Some(linux) = spec.linux.as_mut().filter(|linux| lacks_mappings(linux)) {
        linux.uid_mappings.clone_from(&host.own_ids.0);
        linux.gid_mappings.clone_from(&host.own_ids.1);
    }
}

/// How a mount of type cgroup is made for the container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CgroupMounts {
    /// Whether the host has cgroup v2 alone.
    pub v2: bool,
    /// The hierarchies: of v1 each with its directory's name, of v2 alone one without.
    pub hierarchies: Vec<CgroupMount>,
    /// Links beside them, name and target: `cpu` to `cpu,cpuacct`.
    pub links: Vec<(String, String)>,
}

/// One hierarchy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CgroupMount {
    /// Directory under the mount's target.
    pub dir: String,
    /// Keys for mounting it in the container's cgroup namespace.
    pub options: Vec<FsOption>,
    /// Whether it is of version 2.
    pub v2: bool,
    /// The container's cgroup in it, on the host.
    pub host_path: String,
}

/// Where a terminal's master goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ConsoleTo {
    /// Nowhere: no terminal can be asked for.
    #[default]
    Nobody,
    /// To a listening unix socket.
    Socket(String),
    /// Back to the runtime, which shows it.
    Runtime,
}

/// What the command line asks for beyond the configuration.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// Where a terminal goes.
    pub console: ConsoleTo,
    /// File that gets the process's id.
    pub pid_file: Option<String>,
    /// Whether the root is moved rather than pivoted.
    pub no_pivot: bool,
    /// Whether the session keyring is kept.
    pub no_new_keyring: bool,
    /// Descriptors from 3 on that the program inherits.
    pub preserve_fds: u32,
    /// Descriptors of socket activation that it inherits before those.
    pub listen_fds: u32,
    /// Names of those (`LISTEN_FDNAMES`).
    pub listen_fdnames: Option<String>,
    /// Absolute path of the service manager's socket, which is to hear that the program is ready (`NOTIFY_SOCKET`).
    pub notify_socket: Option<String>,
}

/// What is made into steps.
pub(crate) struct Input<'a> {
    /// The container's identifier.
    pub(crate) id: &'a ContainerId,
    /// Absolute path of the bundle.
    pub(crate) bundle: &'a str,
    /// The configuration.
    pub(crate) spec: &'a Spec,
    /// The host.
    pub(crate) host: &'a Host,
    /// Flags of the command line.
    pub(crate) flags: &'a Flags,
    /// Steps on the cgroup, and how the process gets into it.
    pub(crate) cgroup: &'a CgroupInput,
    /// Whether the program is started at once (`run`).
    pub(crate) start_now: bool,
}

/// What the cgroup needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct CgroupInput {
    /// Steps before the process is made.
    pub(crate) before: Vec<gantry_cgroup::Step>,
    /// Steps that need the process.
    pub(crate) after: Vec<gantry_cgroup::Step>,
    /// Whether it is born in the cgroup.
    pub(crate) clone_into: bool,
    /// Files by which it enters the cgroup itself.
    pub(crate) join: Vec<String>,
}

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
}

/// Names a field in the errors of names and values.
fn field<T>(name: &str, result: std::result::Result<T, NameError>) -> Result<T> {
    result.map_err(|error| Error::config(name, error.to_string()))
}

/// Makes a configuration into steps.
pub(crate) fn lower(input: &Input<'_>) -> Result<Vec<Step>> {
    let empty = Linux::default();
    let spec = input.spec;
    check_version(&spec.oci_version)?;
    let linux = spec.linux.as_ref().unwrap_or(&empty);
    let process = spec.process.as_ref().ok_or_else(|| Error::config("process", "it is missing, and has the program"))?;
    if spec.mounts.len() > MAX_MOUNTS {
        return Err(Error::config("mounts", format!("{} entries, at most {MAX_MOUNTS} fit", spec.mounts.len())));
    }
    let namespaces = Namespaces::of(linux)?;
    let own_user = namespaces.has(NamespaceKind::User);
    let context =
        Context { input, linux, process, namespaces, opens_for_init: own_user && input.host.privileged };
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
}

/// Accepts the versions whose documents mean the same to us (config.md, Specification version).
fn check_version(version: &str) -> Result<()> {
    let known = || {
        let (core, pre) = version.split_once('-').map_or((version, None), |(core, pre)| (core, Some(pre)));
        let core = core.split_once('+').map_or(core, |(core, _)| core);
        let mut parts = core.split('.').map(|part| part.parse::<u32>().ok());
        let (major, minor, _patch) = (parts.next()??, parts.next()??, parts.next()??);
        (parts.next().is_none() && major == 1 && minor <= 3 && pre != Some("")).then_some(())
    };
    known().ok_or_else(|| {
        let reason = if version.is_empty() {
            "it is missing; this runtime knows versions 1.0.0 to 1.3.x".to_owned()
        } else {
            format!("{version:?} is not supported; this runtime knows versions 1.0.0 to 1.3.x")
        };
        Error::config("ociVersion", reason)
    })
}

impl Context<'_> {
    /// Refuses combinations that cannot work, before anything is touched.
    fn check(&self) -> Result<()> {
        let Input { spec, .. } = self.input;
        let (linux, ns) = (self.linux, &self.namespaces);
        if ns.makes(NamespaceKind::User) {
            field("linux.uidMappings", idmap::validate(&linux.uid_mappings))?;
            field("linux.gidMappings", idmap::validate(&linux.gid_mappings))?;
        } else if !linux.uid_mappings.is_empty() && !ns.has(NamespaceKind::User) {
            return Err(Error::config("linux.uidMappings", "mappings need a user namespace in linux.namespaces"));
        }
        let name = |name: &'static str, value: &str| -> Result<()> {
            if value.is_empty() {
                return Ok(());
            }
            if !ns.has(NamespaceKind::Uts) {
                return Err(Error::config(name, "it would be the host's: add a uts namespace to linux.namespaces"));
            }
            if value.len() > 64 || value.contains('\0') {
                return Err(Error::config(name, "a name has at most 64 bytes and no NUL"));
            }
            Ok(())
        };
        name("hostname", &spec.hostname)?;
        name("domainname", &spec.domainname)?;
        if !linux.time_offsets.is_empty() && !ns.makes(NamespaceKind::Time) {
            return Err(Error::config("linux.timeOffsets", "offsets need a new time namespace in linux.namespaces"));
        }
        if !linux.net_devices.is_empty() {
            if !ns.has(NamespaceKind::Network) {
                return Err(Error::config("linux.netDevices", "devices need a network namespace in linux.namespaces"));
            }
            if !self.input.host.privileged {
                return Err(Error::config("linux.netDevices", "moving network devices needs root"));
            }
        }
        for (kind, hooks) in self.all_hooks() {
            for hook in hooks {
                let at = || format!("hooks.{}", kind.as_str());
                if !hook.path.starts_with('/') {
                    return Err(Error::config(at(), format!("path {:?} is not absolute", hook.path)));
                }
                if hook.timeout.is_some_and(|timeout| timeout <= 0) {
                    return Err(Error::config(at(), "a timeout is a number of seconds above zero"));
                }
            }
        }
        self.check_labels()
    }

    fn check_labels(&self) -> Result<()> {
        let host = self.input.host;
        if !self.process.apparmor_profile.is_empty() && !host.apparmor && self.process.apparmor_profile != "unconfined" {
            return Err(Error::config("process.apparmorProfile", "AppArmor is not enabled on this host"));
        }
        for (name, label) in
            [("process.selinuxLabel", &self.process.selinux_label), ("linux.mountLabel", &self.linux.mount_label)]
        {
            if !label.is_empty() && !host.selinux {
                return Err(Error::config(name, "SELinux is not enabled on this host"));
            }
        }
        Ok(())
    }

    /// Names everything that is asked for and not done.
    fn ignored(&self, b: &mut Builder) {
        for step in self.input.cgroup.before.iter().chain(&self.input.cgroup.after) {
            if let CgroupStep::Ignore { what, why } = step {
                b.ignore(format!("{what}: {why}"));
            }
        }
        process::ignored(b, self.process);
        let flags = self.linux.personality.as_ref().map_or(&[][..], |given| &given.flags);
        if !flags.is_empty() {
            b.ignore(format!("linux.personality.flags {}: the specification defines none", flags.join(", ")));
        }
    }

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

    /// Makes the process, and what has to be done to it from outside before it can go on.
    fn clone_process(&self, b: &mut Builder, opened: &Opened, limits: &[CgroupStep]) -> Result<()> {
        let ns = &self.namespaces;
        // The cgroup namespace takes its root from the cgroup that the process is in once it is there; offsets of a new
        // time namespace are set before anything is in it. Both are made by init itself.
        let later = NamespaceKind::Cgroup.clone_flag() | NamespaceKind::Time.clone_flag();
        let user = NamespaceKind::User;
        let mut clone = Clone_ {
            namespaces: ns.new & !later,
            into_cgroup: self.input.cgroup.clone_into,
            ..Clone_::default()
        };
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
            clone.join_pid = opened.namespaces.iter().find(|(kind, _)| *kind == NamespaceKind::Pid).map(|&(_, slot)| slot);
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
        // Limits hold before the program starts; until then the container's process is busy with its file system.
        b.cgroup(By::Beside, limits);
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

    /// Classes of cache and memory bandwidth (config-linux.md, IntelRdt): the group is made before the process, which
    /// is then moved into it.
    fn resctrl(&self, b: &mut Builder, before: bool) -> Result<()> {
        use crate::step::Resctrl;
        let Some(rdt) = &self.linux.intel_rdt else { return Ok(()) };
        let Some(base) = &self.input.host.resctrl else {
            return Err(Error::config("linux.intelRdt", "resctrl is not mounted on this host"));
        };
        let class = if rdt.clos_id.is_empty() { self.input.id.as_str() } else { &rdt.clos_id };
        if class.contains('/') && class != "/" || class == "." || class == ".." || class.contains('\0') {
            return Err(Error::config("linux.intelRdt.closID", format!("{class:?} is no name of a directory")));
        }
        let path = if class == "/" { base.clone() } else { format!("{base}/{class}") };
        let monitor = format!("{path}/mon_groups/{}", self.input.id);
        if !before {
            b.runtime(Action::Resctrl(Resctrl::Join { path: path.clone() }));
            if rdt.enable_monitoring {
                b.runtime(Action::Resctrl(Resctrl::Join { path: monitor }));
            }
            return Ok(());
        }
        let lines = [&rdt.l3_cache_schema, &rdt.mem_bw_schema].into_iter().filter(|line| !line.is_empty());
        let lines: Vec<String> = lines.chain(&rdt.schemata).cloned().collect();
        b.runtime(Action::Resctrl(Resctrl::MakeGroup { path: path.clone() }));
        if !lines.is_empty() {
            b.runtime(Action::Resctrl(Resctrl::Schemata { path: path.clone(), lines }));
        }
        if rdt.enable_monitoring {
            b.runtime(Action::Resctrl(Resctrl::MakeGroup { path: monitor }));
        }
        Ok(())
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
