//! The command line: one table of commands and flags, from which parser, help, completions and man pages are made,
//! and the typed request that the executable acts on.

mod build;
mod completions;
mod error;
mod help;
mod man;
mod scan;
pub mod table;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use gantry_model::ContainerId;
use gantry_model::oci::linux::Resources;

use crate::log;
pub use completions::{Shell, completions};
pub use error::UsageError;
pub use help::{SPEC_VERSION, command_help, help, version};
pub use man::{command_page, page};

/// What was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Invocation {
    /// What holds for every command.
    pub global: Global,
    /// What to do.
    pub command: Command,
}

/// A command line that is refused, with what is known of where to say so.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// The flags that hold for every command, as far as they were understood.
    pub global: Global,
    /// Why.
    #[source]
    pub error: UsageError,
}

/// What holds for every command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Global {
    /// Directory of the containers' states, as given; absent is [`default_root`]. It is not `/`.
    pub root: Option<PathBuf>,
    /// Where messages go.
    pub log: log::Target,
    /// In which form.
    pub log_format: log::Format,
    /// From which level up.
    pub log_level: log::Level,
    /// Who makes cgroups. `--cgroup-manager` wins over `--systemd-cgroup`.
    pub cgroups: CgroupManager,
    /// Whether permissions that cgroups lack are no error; absent is found out.
    pub rootless: Option<bool>,
}

/// Who makes cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupManager {
    /// The runtime, through the file system.
    #[default]
    Cgroupfs,
    /// systemd, over D-Bus.
    Systemd,
    /// Nobody: the container stays in the caller's.
    Disabled,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Make a container.
    Create(Create),
    /// Start a created one.
    Start(ContainerId),
    /// Make and start one.
    Run(Run),
    /// Run a further process in one.
    Exec(Exec),
    /// Send a signal.
    Kill(Kill),
    /// Remove what one holds.
    Delete(Delete),
    /// Write its state.
    State(ContainerId),
    /// List all.
    List(List),
    /// List the processes of one.
    Ps(Ps),
    /// Freeze one.
    Pause(ContainerId),
    /// Thaw it.
    Resume(ContainerId),
    /// Change its limits.
    Update(Update),
    /// Write statistics and events.
    Events(Events),
    /// Write what the runtime can do.
    Features,
    /// Write a configuration to start from.
    Spec(SpecFile),
    /// Save a running container.
    Checkpoint(Checkpoint),
    /// Make one from what was saved.
    Restore(Restore),
    /// Change the mounts of a running one.
    Mounts(Mounts),
    /// Write this text to stdout: help, version, completions, a man page.
    Print(String),
}

/// `create`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// The new container.
    pub id: ContainerId,
    /// Directory of the bundle; absent is the current one.
    pub bundle: Option<PathBuf>,
    /// The configuration; absent is `config.json` in the bundle.
    pub config: Option<PathBuf>,
    /// Unix socket that gets the terminal's master end.
    pub console_socket: Option<PathBuf>,
    /// Unix socket that gets a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// File that gets the process id.
    pub pid_file: Option<PathBuf>,
    /// Move the root instead of pivoting.
    pub no_pivot: bool,
    /// Keep the session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors are handed on after stdio and those of `LISTEN_FDS`.
    pub preserve_fds: u32,
}

/// `run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What it shares with `create`.
    pub create: Create,
    /// Do not wait for the process.
    pub detach: bool,
    /// Do not delete the container when its process has ended.
    pub keep: bool,
    /// Do not adopt orphans.
    pub no_subreaper: bool,
    /// Write the steps and take none.
    pub dry_run: bool,
}

/// `exec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The container.
    pub id: ContainerId,
    /// What runs.
    pub process: ExecProcess,
    /// Unix socket that gets the terminal's master end.
    pub console_socket: Option<PathBuf>,
    /// Unix socket that gets a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// File that gets the process id.
    pub pid_file: Option<PathBuf>,
    /// Do not wait for the process.
    pub detach: bool,
    /// How many descriptors are handed on after stdio.
    pub preserve_fds: u32,
    /// Cgroups below the container's, by controller; the one of cgroup v2 is under the empty name.
    pub cgroups: BTreeMap<String, String>,
    /// Go on in a paused container.
    pub ignore_paused: bool,
}

/// What `exec` runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecProcess {
    /// What this file describes.
    File(PathBuf),
    /// The process of the configuration, changed.
    Changed(Box<ProcessChanges>),
}

/// How a process that joins differs from the container's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessChanges {
    /// Program and arguments; at least one.
    pub args: Vec<String>,
    /// Working directory.
    pub cwd: Option<String>,
    /// Variables added to the environment.
    pub env: Vec<String>,
    /// Whether it has a terminal: the configuration's does not count.
    pub terminal: bool,
    /// User, and group if one is named.
    pub user: Option<(u32, Option<u32>)>,
    /// Groups added.
    pub additional_gids: Vec<u32>,
    /// SELinux label.
    pub process_label: Option<String>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// No new privileges.
    pub no_new_privs: Option<bool>,
    /// Capabilities added to the bounding, effective and permitted sets, and to the ambient set if the configuration
    /// has inheritable ones.
    pub caps: Vec<String>,
}

/// Containers that a command is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One.
    Id(ContainerId),
    /// Those whose name the pattern is found in.
    Matching(Pattern),
}

/// A regular expression over names.
#[derive(Clone, Debug)]
pub struct Pattern(regex_lite::Regex);

impl Pattern {
    /// Reads an expression, of at most 4096 bytes.
    pub fn new(text: &str) -> Option<Self> {
        if text.len() > 4096 {
            return None;
        }
        regex_lite::RegexBuilder::new(text).size_limit(1 << 20).build().ok().map(Self)
    }

    /// Whether it is found in the name.
    pub fn matches(&self, id: &ContainerId) -> bool {
        self.0.is_match(id.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// `kill`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// The containers.
    pub target: Target,
    /// The signal's number, 0 to 64; 0 only asks whether the process is there.
    pub signal: i32,
    /// Send it to all processes, and do not mind a container that is not running.
    pub all: bool,
}

/// `delete`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// The containers.
    pub target: Target,
    /// Kill first; no error if there is none.
    pub force: bool,
}

/// The form of a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Columns.
    #[default]
    Table,
    /// JSON.
    Json,
}

/// `list`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// The form.
    pub format: Format,
    /// Names alone.
    pub quiet: bool,
}

/// `ps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ps {
    /// The container.
    pub id: ContainerId,
    /// The form.
    pub format: Format,
    /// Options for ps(1); none is `-ef`.
    pub args: Vec<OsString>,
}

/// `update`.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The container.
    pub id: ContainerId,
    /// The limits.
    pub limits: Limits,
    /// L3 cache line of the Intel RDT schemata.
    pub l3_cache_schema: Option<String>,
    /// Memory bandwidth line of the Intel RDT schemata.
    pub mem_bw_schema: Option<String>,
}

/// Where the limits of `update` are.
#[derive(Clone, Debug, PartialEq)]
pub enum Limits {
    /// On the command line; what was not given is absent.
    Given(Box<Resources>),
    /// In a JSON document in a file.
    File(PathBuf),
    /// In a JSON document on stdin.
    Stdin,
}

/// `events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// The container.
    pub id: ContainerId,
    /// Time between statistics, above zero.
    pub interval: Duration,
    /// Write statistics once and end.
    pub stats: bool,
}

/// `spec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecFile {
    /// Directory to write to; absent is the current one.
    pub bundle: Option<PathBuf>,
    /// File to write, replacing it; absent is `config.json`, which must be new.
    pub file: Option<PathBuf>,
    /// For a container of the calling user.
    pub rootless: bool,
}

/// What `checkpoint` and `restore` share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Criu {
    /// Directory of the images; absent is `checkpoint` in the current one.
    pub image_path: Option<PathBuf>,
    /// Directory of logs and working files.
    pub work_path: Option<PathBuf>,
    /// Allow established TCP connections.
    pub tcp_established: bool,
    /// Allow unix sockets with an end outside.
    pub ext_unix_sk: bool,
    /// Allow a session and terminal from outside.
    pub shell_job: bool,
    /// Move memory on demand.
    pub lazy_pages: bool,
    /// Allow file locks.
    pub file_locks: bool,
    /// How cgroups are treated; absent is CRIU's default.
    pub manage_cgroups: Option<ManageCgroups>,
    /// Whether the network namespace is left empty, on the command line's wish.
    pub empty_network: bool,
    /// Drop pages from older images.
    pub auto_dedup: bool,
    /// How the network is held still; absent is CRIU's default.
    pub network_lock: Option<NetworkLock>,
}

/// How CRIU treats cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManageCgroups {
    /// Restore properties of cgroups that CRIU makes.
    Soft,
    /// Restore all properties.
    Full,
    /// Restore all, and fail where one exists.
    Strict,
    /// Leave them.
    Ignore,
}

/// How CRIU holds the network still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkLock {
    /// By iptables.
    Iptables,
    /// By nftables.
    Nftables,
    /// Not at all.
    Skip,
}

/// `checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The container.
    pub id: ContainerId,
    /// What it shares with `restore`.
    pub criu: Criu,
    /// Directory of the previous images, relative to that of these.
    pub parent_path: Option<PathBuf>,
    /// Path that the directory of the images gets when it is whole.
    pub commit_to: Option<PathBuf>,
    /// Let the container run on.
    pub leave_running: bool,
    /// Leave out TCP connections that are not established yet.
    pub tcp_skip_in_flight: bool,
    /// Link unlinked files back.
    pub link_remap: bool,
    /// Descriptor that CRIU writes to when lazy pages are ready.
    pub status_fd: Option<i32>,
    /// Address and port of the page server.
    pub page_server: Option<(String, u16)>,
    /// Save memory alone.
    pub pre_dump: bool,
}

/// `restore`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    /// The new container.
    pub id: ContainerId,
    /// What it shares with `checkpoint`.
    pub criu: Criu,
    /// Directory of the bundle; absent is the current one.
    pub bundle: Option<PathBuf>,
    /// Unix socket that gets the terminal's master end.
    pub console_socket: Option<PathBuf>,
    /// File that gets the process id.
    pub pid_file: Option<PathBuf>,
    /// Do not wait for the process.
    pub detach: bool,
    /// Do not adopt orphans.
    pub no_subreaper: bool,
    /// Move the root instead of pivoting.
    pub no_pivot: bool,
    /// Restore established TCP connections as closed.
    pub tcp_close: bool,
    /// LSM profile, `TYPE:NAME`.
    pub lsm_profile: Option<String>,
    /// LSM context of mounts.
    pub lsm_mount_context: Option<String>,
}

/// `mounts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounts {
    /// The container.
    pub id: ContainerId,
    /// Add them; otherwise they are removed.
    pub add: bool,
    /// JSON list of mounts.
    pub file: PathBuf,
}

/// The directory of the containers' states where none is named: a user's is in `runtime_dir` (`XDG_RUNTIME_DIR`), if
/// it is set.
pub fn default_root(privileged: bool, runtime_dir: Option<&OsStr>) -> PathBuf {
    match runtime_dir {
        Some(dir) if !privileged && !dir.is_empty() => PathBuf::from(dir).join(table::PROGRAM),
        _ => PathBuf::from("/run").join(table::PROGRAM),
    }
}

/// Reads a command line, without the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, Box<Refused>> {
    build::invocation(args.into_iter().collect())
}
