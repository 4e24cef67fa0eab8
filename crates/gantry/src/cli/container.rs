//! The commands for containers.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};

use super::Output;
use super::create::Create;

/// What stands both at the top and in the group `container`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a container and run it
    #[command(disable_help_flag = true, override_usage = "gantry run [OPTIONS] IMAGE [COMMAND] [ARG...]")]
    Run(Box<Run>),
    /// Make a container
    #[command(disable_help_flag = true, override_usage = "gantry create [OPTIONS] IMAGE [COMMAND] [ARG...]")]
    Create(Box<Create>),
    /// Start containers
    Start(Start),
    /// Ask containers to end, and kill those that do not
    Stop(Stop),
    /// Stop containers and start them again
    Restart(Stop),
    /// Send containers a signal
    Kill(Kill),
    /// Hold all processes of containers
    Pause(Names),
    /// Let the processes of containers go on
    Unpause(Names),
    /// Give a container another name
    Rename(Rename),
    /// Change the limits of containers
    Update(Update),
    /// Wait until containers end, and show their exit statuses
    Wait(Names),
    /// Remove containers
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Show what containers wrote
    Logs(Logs),
    /// Run a command in a running container
    #[command(override_usage = "gantry exec [OPTIONS] CONTAINER COMMAND [ARG...]")]
    Exec(Exec),
    /// Join the terminal to a running container
    Attach(Attach),
    /// Show the processes of a container
    #[command(override_usage = "gantry top CONTAINER [OPTIONS OF PS]")]
    Top(Top),
    /// Show what containers use, as it changes
    Stats(Stats),
    /// Show which files of a container differ from its image
    Diff(Name),
    /// Copy files from or to a container
    #[command(
        override_usage = "gantry cp [OPTIONS] CONTAINER:SOURCE TARGET|-\n       gantry cp [OPTIONS] SOURCE|- CONTAINER:TARGET"
    )]
    Cp(Cp),
    /// Make an image of a container
    Commit(Commit),
    /// Show the published ports of a container
    Port(Port),
}

/// The group `container`.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one in a process")]
pub enum Group {
    #[command(flatten)]
    Verb(Verb),
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(List),
    /// Show all that is known about containers, as JSON
    Inspect(Inspect),
    /// Write the files of a container to a tar archive
    Export(Export),
    /// Remove all containers that do not run
    Prune(Prune),
}

/// `run`.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Let it run in the background, and show its id
    #[arg(short, long)]
    pub detach: bool,
    /// Hand signals on to it
    #[arg(
        long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set
    )]
    pub sig_proxy: bool,
    /// Keys that leave it running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    #[command(flatten)]
    pub create: Create,
}

/// A container.
#[derive(Clone, Debug, Args)]
pub struct Name {
    /// Name or id of a container
    #[arg(value_name = "CONTAINER")]
    pub name: String,
}

/// Containers.
#[derive(Clone, Debug, Args)]
pub struct Names {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required = true)]
    pub names: Vec<String>,
}

/// `start`.
#[derive(Clone, Debug, Args)]
pub struct Start {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required = true)]
    pub names: Vec<String>,
    /// Join the outputs to this terminal, and hand signals on
    #[arg(short, long)]
    pub attach: bool,
    /// Join standard input too
    #[arg(short, long)]
    pub interactive: bool,
    /// Keys that leave it running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// Go on from a checkpoint
    #[arg(long, value_name = "NAME")]
    pub checkpoint: Option<String>,
    /// Where the checkpoint is
    #[arg(long, value_name = "DIR", requires = "checkpoint")]
    pub checkpoint_dir: Option<String>,
}

/// `stop` and `restart`.
#[derive(Clone, Debug, Args)]
pub struct Stop {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required_unless_present = "all", conflicts_with = "all")]
    pub names: Vec<String>,
    /// All that run
    #[arg(short, long)]
    pub all: bool,
    /// The signal that asks them
    #[arg(short, long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// Seconds after which they are killed; -1 is never
    #[arg(short = 't', long, visible_alias = "timeout", value_name = "SECONDS")]
    pub time: Option<i64>,
}

/// `kill`.
#[derive(Clone, Debug, Args)]
pub struct Kill {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required_unless_present = "all", conflicts_with = "all")]
    pub names: Vec<String>,
    /// All that run
    #[arg(short, long)]
    pub all: bool,
    /// The signal [default: KILL]
    #[arg(short, long, value_name = "SIGNAL")]
    pub signal: Option<String>,
}

/// `rename`.
#[derive(Clone, Debug, Args)]
pub struct Rename {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub name: String,
    /// Its new name
    #[arg(value_name = "NEW_NAME")]
    pub new: String,
}

/// `update`.
#[derive(Clone, Debug, Args)]
pub struct Update {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required = true)]
    pub names: Vec<String>,
    /// Weight among those that want the disk: 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// Period of the CPU limit, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<i64>,
    /// CPU time in a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_quota: Option<i64>,
    /// Period of real-time scheduling, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_period: Option<i64>,
    /// Real-time CPU time in a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_runtime: Option<i64>,
    /// Weight among those that want the CPU
    #[arg(short = 'c', long, value_name = "WEIGHT")]
    pub cpu_shares: Option<i64>,
    /// How many CPUs, as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// CPUs that they may run on
    #[arg(long, value_name = "CPUS")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that they may use
    #[arg(long, value_name = "NODES")]
    pub cpuset_mems: Option<String>,
    /// Most memory
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Memory that they keep when there is little
    #[arg(long, value_name = "BYTES")]
    pub memory_reservation: Option<String>,
    /// Most memory and swap together; -1 is unlimited
    #[arg(long, value_name = "BYTES")]
    pub memory_swap: Option<String>,
    /// Most processes; -1 is unlimited
    #[arg(long, value_name = "NUMBER")]
    pub pids_limit: Option<i64>,
    /// When they are started again: no, on-failure[:TIMES], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
}

/// `rm`.
#[derive(Clone, Debug, Args)]
pub struct Rm {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required_unless_present = "all", conflicts_with = "all")]
    pub names: Vec<String>,
    /// All that do not run; with --force all that there are
    #[arg(short, long)]
    pub all: bool,
    /// Kill those that run; a missing one is no error
    #[arg(short, long)]
    pub force: bool,
    /// Remove the link of this name, not the container
    #[arg(short, long)]
    pub link: bool,
    /// Remove their anonymous volumes too
    #[arg(short, long)]
    pub volumes: bool,
}

/// `logs`.
#[derive(Clone, Debug, Args)]
pub struct Logs {
    /// Names or ids of containers; several are told apart by their names
    #[arg(value_name = "CONTAINER", required = true)]
    pub names: Vec<String>,
    /// Show what is known about each line
    #[arg(long)]
    pub details: bool,
    /// Go on as they write
    #[arg(short, long)]
    pub follow: bool,
    /// Only since a time: 2026-01-02T03:04:05Z, seconds since 1970, or 10m for so long ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only until a time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only so many lines at the end
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all")]
    pub tail: String,
    /// Show the time of each line
    #[arg(short, long)]
    pub timestamps: bool,
}

/// `exec`.
#[derive(Clone, Debug, Args)]
pub struct Exec {
    /// Let it run in the background
    #[arg(short, long)]
    pub detach: bool,
    /// Keys that leave it running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// Set an environment variable: NAME=VALUE, or NAME to pass this one's on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Set the environment variables of a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Keep its standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Everything is allowed
    #[arg(long)]
    pub privileged: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// As whom it runs: a name or number, and a group
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// The directory that it starts in
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// The container, and the command with its arguments
    #[arg(value_name = "CONTAINER COMMAND [ARG]", required = true, num_args = 2.., trailing_var_arg = true)]
    pub command: Vec<String>,
}

/// `attach`.
#[derive(Clone, Debug, Args)]
pub struct Attach {
    /// Name or id of a container
    #[arg(value_name = "CONTAINER")]
    pub name: String,
    /// Keys that leave it running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// Do not join standard input
    #[arg(long)]
    pub no_stdin: bool,
    /// Hand signals on to it
    #[arg(
        long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set
    )]
    pub sig_proxy: bool,
}

/// `top`.
#[derive(Clone, Debug, Args)]
pub struct Top {
    /// The container, and what ps is asked
    #[arg(value_name = "CONTAINER [OPTION OF PS]", required = true, num_args = 1.., trailing_var_arg = true)]
    pub command: Vec<String>,
}

/// `stats`.
#[derive(Clone, Debug, Args)]
pub struct Stats {
    /// Names or ids of containers; all that run if there is none
    #[arg(value_name = "CONTAINER")]
    pub names: Vec<String>,
    /// Also those that do not run
    #[arg(short, long)]
    pub all: bool,
    /// Show it once
    #[arg(long)]
    pub no_stream: bool,
    /// Show whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Form: 'table', 'table TEMPLATE', 'json', or a TEMPLATE of Go
    #[arg(long, value_name = "FORM")]
    pub format: Option<String>,
}

/// `cp`.
#[derive(Clone, Debug, Args)]
pub struct Cp {
    /// What is copied: CONTAINER:PATH, PATH, or - for a tar archive from standard input
    #[arg(value_name = "SOURCE", allow_hyphen_values = true)]
    pub source: String,
    /// Where to: PATH, CONTAINER:PATH, or - for a tar archive to standard output
    #[arg(value_name = "TARGET", allow_hyphen_values = true)]
    pub target: String,
    /// Keep owners too
    #[arg(short, long)]
    pub archive: bool,
    /// Copy what a symbolic link at SOURCE leads to
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Say nothing of it
    #[arg(short, long)]
    pub quiet: bool,
}

/// `commit`.
#[derive(Clone, Debug, Args)]
pub struct Commit {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub name: String,
    /// Name of the new image: REPOSITORY[:TAG]
    #[arg(value_name = "NAME")]
    pub image: Option<String>,
    /// Who made it
    #[arg(short, long, value_name = "AUTHOR")]
    pub author: Option<String>,
    /// An instruction of a Dockerfile, which sets something in the configuration
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// A word about it, for its history
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Hold the container meanwhile
    #[arg(
        short, long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set
    )]
    pub pause: bool,
}

/// `port`.
#[derive(Clone, Debug, Args)]
pub struct Port {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub name: String,
    /// One of its ports
    #[arg(value_name = "PORT[/PROTOCOL]")]
    pub port: Option<String>,
}

/// `ps`.
#[derive(Clone, Debug, Args)]
pub struct List {
    /// Also those that do not run
    #[arg(short, long)]
    pub all: bool,
    /// Only those for which this holds: id, name, label, status, ancestor, health, network, volume, publish, expose, before,
    /// since, exited, is-task
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Show the last ones, whether they run or not
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub last: Option<i64>,
    /// Show the last one, whether it runs or not
    #[arg(short, long)]
    pub latest: bool,
    /// Show whole ids and commands
    #[arg(long)]
    pub no_trunc: bool,
    /// Print nothing but ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Show how large they are
    #[arg(short, long)]
    pub size: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `container inspect`.
#[derive(Clone, Debug, Args)]
pub struct Inspect {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required = true)]
    pub names: Vec<String>,
    /// Form: 'json', or a TEMPLATE of Go
    #[arg(short, long, value_name = "FORM")]
    pub format: Option<String>,
    /// Show how large they are
    #[arg(short, long)]
    pub size: bool,
}

/// `container export`.
#[derive(Clone, Debug, Args)]
pub struct Export {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    pub name: String,
    /// Write to a file, not to standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// What the prunes of containers, networks and the system take.
#[derive(Clone, Debug, Args)]
pub struct Prune {
    /// Only what this holds for: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}
