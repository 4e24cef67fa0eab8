//! What is lowered: a configuration, the host, the command line, each as data.

use gantry_model::ContainerId;
use gantry_model::oci::linux::Linux;
use gantry_model::oci::spec::{IdMapping, Spec};

use crate::step::FsOption;

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
    /// Path of the mount namespace that the container's is copied from; none is the runtime's own, in which all that it
    /// opens is looked up all the same. One with few mounts in it is copied and taken away quickly.
    pub mounts_from: Option<String>,
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
