//! The steps of which everything that the runtime does to a host consists.
//!
//! A plan is one list of steps in the order in which they take effect, each with the process that carries it out.
//! Lowering decides, and leaves nothing to decide here: `--dry-run` prints this list, and the interpreter follows it.

mod text;

pub(crate) use text::listing;

use gantry_model::names::device::Node;
use gantry_model::names::mempolicy::Policy;
use gantry_model::names::rlimit::Limit;
use gantry_model::names::scheduler::SchedAttr;
use gantry_model::oci::spec::{Hook, IdMapping};

/// Which process carries a step out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The runtime. After the clone it waits until init has come to this step, and init waits until it is done.
    Runtime,
    /// The runtime, at once after the clone, while init goes on; init waits for it only when it comes to this step.
    Beside,
    /// The container's process.
    Init,
}

/// A place that holds a file descriptor between the step that opens it and those that use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Slot(pub u16);

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Who carries it out.
    pub by: By,
    /// What is done.
    pub action: Action,
}

/// Where a mount's source comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A path, resolved by the process that mounts.
    Path(String),
    /// A detached tree that was opened before.
    Tree(Slot),
}

/// Attributes of a mount: `MOUNT_ATTR_*` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear.
    pub clear: u64,
}

/// A key of fsconfig(2), with its value where it has one.
pub type FsOption = (String, Option<String>);

/// The points of the life cycle at which hooks run (config.md, POSIX-platform Hooks).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// Deprecated: before createRuntime, in the same place.
    Prestart,
    /// In the runtime's namespaces, before the root is changed.
    CreateRuntime,
    /// In the container's namespaces, before the root is changed.
    CreateContainer,
    /// In the container, before its program.
    StartContainer,
    /// In the runtime's namespaces, after the program started.
    Poststart,
    /// In the runtime's namespaces, after deletion.
    Poststop,
}

impl HookKind {
    /// The name in config.json.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }
}

/// The user and groups that a program runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further groups; absent where the user namespace denies setgroups(2).
    pub groups: Option<Vec<u32>>,
}

/// Capability sets, a bit for each capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSets {
    /// Bounding set.
    pub bounding: u64,
    /// Effective set.
    pub effective: u64,
    /// Inheritable set.
    pub inheritable: u64,
    /// Permitted set.
    pub permitted: u64,
    /// Ambient set.
    pub ambient: u64,
}

/// A security module's label for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    /// AppArmor profile for the next exec.
    AppArmor(String),
    /// SELinux label for the next exec, and for keys made until then.
    SeLinux(String),
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
// Each variant says what is done, and its fields are named by what it is done with: a line for each would repeat it.
#[allow(missing_docs)]
pub enum Action {
    /// A step on the cgroup.
    Cgroup(gantry_cgroup::Step),
    /// Warns of something that was asked for and is not done.
    Ignore { what: String },
    /// Writes or makes something under the resctrl file system.
    Resctrl(Resctrl),
    /// Opens a namespace's file and checks its kind.
    OpenNamespace { path: String, kind: i32, slot: Slot },
    /// Opens a detached copy of the mount tree at a path. It is of the same peer group as what it copies, until its
    /// propagation is changed: `MS_*` bits, none for no change.
    OpenTree { path: String, recursive: bool, follow: bool, propagation: u32, slot: Slot },
    /// Makes a device file outside of the container and opens it as a detached mount: inside, in a user namespace, one
    /// could not be made. Owner and group are the host's.
    MakeDeviceTree { path: String, node: Node, slot: Slot },
    /// Mounts the root file system onto itself in the runtime's mount namespace, which the container shares, so that its
    /// mounts can be taken away with that one.
    BindSharedRoot { path: String, slot: Slot },
    /// Makes the directory in which the container's program says that it is ready, for this user and group of the host,
    /// listens there, and opens it as a detached mount.
    NotifySocket { uid: u32, gid: u32, slot: Slot },
    /// Makes a user namespace with these mappings, for idmapped mounts.
    MakeUserNamespace { uid: Vec<IdMapping>, gid: Vec<IdMapping>, slot: Slot },
    /// Opens a namespace's file as the user namespace of an idmapped mount.
    OpenUserNamespace { path: String, slot: Slot },
    /// Maps the ids of a detached tree.
    IdmapTree { tree: Slot, user_namespace: Slot, recursive: bool },
    /// Connects to the console socket.
    ConnectConsole { path: String, slot: Slot },
    /// Makes the socket over which a console comes back to this process.
    ConsolePair { slot: Slot },
    /// Makes the socket on which init waits to be started.
    ListenStart { slot: Slot },
    /// Makes the container's process.
    Clone(Clone_),
    /// Maps the ids of the container's user namespace.
    WriteIdMaps { uid: Vec<IdMapping>, gid: Vec<IdMapping>, deny_setgroups: bool, helper: bool },
    /// Sets the OOM score adjustment of the container's process.
    OomScoreAdj { value: i32 },
    /// Sets a resource limit of the container's process.
    Rlimit { name: String, limit: Limit },
    /// Makes the container's network namespace with its loopback up, and hands it to the container's process.
    MakeNetwork,
    /// Records the container with its process.
    Record,
    /// Moves a network device into the container.
    MoveNetDevice { from: String, to: String },
    /// Runs hooks of one kind.
    RunHooks { kind: HookKind, hooks: Vec<Hook> },
    /// Writes the process's id to a file.
    PidFile { path: String },

    /// Enters the cgroup by writing to its files.
    JoinCgroups { files: Vec<String> },
    /// Joins an opened namespace.
    JoinNamespace { slot: Slot, kind: i32, name: &'static str },
    /// Leaves namespaces for new ones.
    Unshare { namespaces: i32 },
    /// Sets the offsets of a new time namespace, and enters it.
    TimeOffsets { text: String },
    /// Becomes the user namespace's root.
    BecomeRoot { groups: bool },
    /// Is not debuggable by what shares its namespaces, until exec.
    NotDumpable,
    /// Leads a session of its own.
    NewSession,
    /// Has a session keyring of its own.
    SessionKeyring { name: String },
    /// Opens a private procfs for labels and parameters.
    OpenProc { slot: Slot },
    /// Sets the CPU affinity.
    CpuAffinity { list: String },
    /// Sets the execution domain.
    Personality { persona: u32 },
    /// Waits for the network namespace that the runtime makes, and joins it.
    JoinNetwork,
    /// Brings the loopback device up.
    LoopbackUp,
    /// Changes the propagation of a mount, `MS_*` bits.
    Propagation { path: String, flags: u32 },
    /// Makes the mount above the root file system private, as pivot_root(2) needs.
    PrivateParent { path: String },
    /// Mounts the root file system onto itself and keeps it open.
    BindRoot { source: Source, path: String, slot: Slot },
    /// Opens the root file system.
    OpenRoot { path: String, slot: Slot },
    /// Opens the null device, and checks that it is the one.
    OpenNull { slot: Slot },
    /// Mounts a file system.
    MountFs(MountFs),
    /// Binds a file or directory.
    MountBind(MountBind),
    /// Makes a device file.
    MakeDevice { root: Slot, path: String, node: Node },
    /// Binds a device file: one that was made before, or the host's.
    BindDevice { root: Slot, path: String, source: String, made: Option<Slot> },
    /// Changes the attributes of what is mounted at a path.
    SetAttributes { root: Slot, path: String, attributes: Attributes },
    /// Makes a symbolic link, unless something is there.
    Symlink { root: Slot, path: String, target: String, replace: bool },
    /// Makes a pseudo-terminal of the container's devpts, sends its master over a socket, and wires the slave.
    Console { root: Slot, socket: Slot, size: Option<(u16, u16)>, mount: bool },
    /// Makes the root file system the root, and takes the old one away.
    PivotRoot { root: Slot, detach_slave: bool },
    /// The same without pivot_root(2), for a root that cannot be pivoted.
    MoveRoot { root: Slot },
    /// Changes the root directory only.
    Chroot { root: Slot },
    /// Opens the root directory of the container, as this process now sees it.
    OpenHere { slot: Slot },
    /// Makes a path read-only.
    ReadonlyPath { root: Slot, path: String },
    /// Makes paths unreadable.
    MaskPaths { root: Slot, null: Slot, paths: Vec<String>, label: String },
    /// Makes the root mount read-only.
    ReadonlyRoot,
    /// Sets the host name.
    Hostname { name: String },
    /// Sets the NIS domain name.
    Domainname { name: String },
    /// Writes a kernel parameter through the private procfs.
    Sysctl { proc: Slot, name: String, path: String, value: String },
    /// Sets scheduling policy and parameters.
    Scheduler { attr: SchedAttr, policy: String },
    /// Sets the I/O priority.
    IoPriority { value: u16 },
    /// Sets the NUMA memory policy.
    MemoryPolicy { policy: Policy, mode: String },
    /// Sets the file mode creation mask, or the one inherited.
    Umask { mask: Option<u32> },
    /// Sets the label for the next exec through the private procfs.
    ExecLabel { proc: Slot, label: Label },
    /// Keeps exec from adding privileges.
    NoNewPrivileges,
    /// Drops capabilities from the bounding set, and locks what root would regain.
    BoundingCapabilities { keep: u64 },
    /// Takes user and groups on.
    SetCredentials(Credentials),
    /// Sets the capability sets.
    Capabilities(CapSets),
    /// Changes to the working directory, and checks that it is inside the root.
    WorkingDirectory { path: String },
    /// The same as the program's user, where it could not be done before.
    WorkingDirectoryAsUser { path: String },
    /// Makes a directory in the root, unless it is there.
    MakeDirectory { root: Slot, path: String },
    /// Adds HOME from the container's passwd file.
    HomeFromPasswd { uid: u32 },
    /// Looks the program up along the container's PATH.
    FindProgram { name: String },
    /// Waits on the start socket until the container is started.
    AwaitStart { slot: Slot },
    /// Gives the standard streams to the user, so that the program may reopen them; those that are no terminals to the
    /// group as well.
    OwnStdio { uid: u32, gid: u32 },
    /// Marks every descriptor beyond these to be closed on exec.
    CloseOnExec { first: u32 },
    /// Installs the system call filter.
    Seccomp,
    /// Takes the topmost mount at a path away.
    Unmount { root: Slot, path: String },
    /// Ends the process, which was made for steps alone.
    End,
    /// Executes the program.
    Exec { args: Vec<String>, env: Vec<String>, listen_pid: bool },
}

/// How the container's process is made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Clone_ {
    /// Namespaces to make, `CLONE_NEW*` bits.
    pub namespaces: u64,
    /// Whether it is born in the cgroup's directory.
    pub into_cgroup: bool,
    /// Files of cgroups that an intermediate process enters, namespaces that it joins, before it makes the container's.
    pub stage: Option<Stage>,
    /// Namespaces that the runtime itself joins before, for the child's sake: the PID namespace.
    pub join_pid: Option<Slot>,
    /// The mount namespace that it is made from; none is the runtime's own.
    pub mounts_from: Option<Slot>,
}

/// An intermediate process: joins namespaces that the container's process must be made in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stage {
    /// Files of cgroups that it enters before, as [`Action::JoinCgroups`].
    pub cgroups: Vec<String>,
    /// Namespaces to join, in this order.
    pub join: Vec<(Slot, i32)>,
    /// Whether it becomes root of the joined user namespace before.
    pub become_root: bool,
}

/// Where a mount goes, and what holds for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// The open root file system.
    pub root: Slot,
    /// Where, inside the root.
    pub target: String,
    /// Attributes of the mount itself.
    pub attributes: Attributes,
    /// Attributes of it and all mounts below.
    pub recursive_attributes: Attributes,
    /// Changes of propagation, `MS_*` bits, in order.
    pub propagation: Vec<u32>,
    /// Whether the way to the target must be free of symbolic links: for proc and sysfs.
    pub plain_target: bool,
    /// Whether the target may lie in a procfs; where it may not, no link can lead it there.
    pub covers_proc: bool,
    /// Whether a symbolic link at the target's end is mounted on itself, rather than followed.
    pub on_link: bool,
}

/// A file system to mount.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MountFs {
    /// Where.
    pub place: Placement,
    /// File system type.
    pub kind: String,
    /// Device or name.
    pub source: String,
    /// Keys and values for the superblock.
    pub options: Vec<FsOption>,
    /// Whether a tmpfs takes the mode of the directory it covers.
    pub inherit_mode: bool,
    /// Whether a tmpfs gets a copy of what it covers.
    pub copy_up: bool,
}

/// A bind mount.
#[derive(Clone, Debug, PartialEq)]
pub struct MountBind {
    /// Where.
    pub place: Placement,
    /// What is bound.
    pub source: Source,
    /// Whether mounts below the source come along.
    pub recursive: bool,
    /// Whether the source may be a symbolic link.
    pub follow_source: bool,
    /// Where the source is a symbolic link, make the same link rather than binding what it leads to.
    pub copy_symlink: bool,
}

/// A step on the resctrl file system (config-linux.md, IntelRdt).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // as for the actions
pub enum Resctrl {
    /// Makes a group.
    MakeGroup { path: String },
    /// Writes lines to a group's schemata.
    Schemata { path: String, lines: Vec<String> },
    /// Moves the container's process into a group.
    Join { path: String },
}
