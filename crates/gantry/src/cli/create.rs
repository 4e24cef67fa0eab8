//! What `run` and `create` take: how a container is to be. The words of each option are kept as they are given; what they
//! mean is read by `crate::create`.

use std::path::PathBuf;

use clap::{ArgAction, Args};

/// All options that say how a container is.
#[derive(Clone, Debug, Args)]
pub struct Create {
    #[command(flatten)]
    pub general: General,
    #[command(flatten)]
    pub network: Network,
    #[command(flatten)]
    pub storage: Storage,
    #[command(flatten)]
    pub security: Security,
    #[command(flatten)]
    pub resources: Resources,
    #[command(flatten)]
    pub devices: Devices,
    #[command(flatten)]
    pub health: Health,
    /// The image, and the command with its arguments; the image's command if there is none
    #[arg(value_name = "IMAGE [COMMAND] [ARG]", required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = false)]
    pub command: Vec<String>,
}

/// What it is called and runs.
#[derive(Clone, Debug, Args)]
pub struct General {
    /// Show this help
    #[arg(long, action = ArgAction::Help)]
    pub help: Option<bool>,
    /// A name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Remove it when it has ended, with its anonymous volumes
    #[arg(long)]
    pub rm: bool,
    /// Keep its standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Attach to stdin, stdout or stderr, and to no other
    #[arg(short, long, value_name = "STREAM")]
    pub attach: Vec<String>,
    /// Set an environment variable: NAME=VALUE, or NAME to pass this one's on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Set the environment variables of a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// What is run in place of the image's entry point; an empty one takes it away
    #[arg(long, value_name = "COMMAND")]
    pub entrypoint: Option<String>,
    /// As whom it runs: a name or number, and a group
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// One more group to be in
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// The directory that it starts in
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// A label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// The labels of a file, one a line
    #[arg(long, value_name = "FILE")]
    pub label_file: Vec<PathBuf>,
    /// An annotation, for the runtime
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// When it is started again: no, on-failure[:TIMES], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// The signal that asks it to end
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds after which it is killed then; -1 is never
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<i64>,
    /// Run an init process that hands on signals and reaps orphans
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub init: Option<bool>,
    /// Where its output goes
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// An option of the log driver
    #[arg(long, value_name = "KEY=VALUE")]
    pub log_opt: Vec<String>,
    /// The platform of the image, as linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// When the image is pulled: always, missing, never
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub pull: String,
    /// Do not show how the image is pulled
    #[arg(short, long)]
    pub quiet: bool,
    /// Write its id to a file, which must not be there
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// The runtime that runs it
    #[arg(long, value_name = "NAME")]
    pub runtime: Option<String>,
    /// How it is kept apart: only Windows has a choice
    #[arg(long, value_name = "HOW", hide = true)]
    pub isolation: Option<String>,
}

/// Its networks.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Network")]
#[allow(clippy::struct_field_names, reason = "the names are those of the options")]
pub struct Network {
    /// The network: bridge, host, none, container:NAME, a name, or name=NAME,alias=..,ip=..,ip6=..,mac-address=..
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub network: Vec<String>,
    /// One more name on its network
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// Its IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// Its IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    pub ip6: Option<String>,
    /// One more link-local address
    #[arg(long, value_name = "ADDRESS")]
    pub link_local_ip: Vec<String>,
    /// Its MAC address
    #[arg(long, value_name = "ADDRESS")]
    pub mac_address: Option<String>,
    /// Know another container by a name
    #[arg(long, value_name = "CONTAINER[:NAME]")]
    pub link: Vec<String>,
    /// Publish a port: [[IP:]HOST:]CONTAINER[/PROTOCOL], ranges as 80-90
    #[arg(short, long, value_name = "PORT")]
    pub publish: Vec<String>,
    /// Publish all ports that it exposes, to free ones
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// Expose a port, or a range
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    pub expose: Vec<String>,
    /// Its host name
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Its NIS domain name
    #[arg(long, value_name = "NAME")]
    pub domainname: Option<String>,
    /// A DNS server
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// An option of DNS
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    pub dns_option: Vec<String>,
    /// A domain to search names in
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// One more line in its hosts file; host-gateway is this machine
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub add_host: Vec<String>,
}

/// What it sees of files.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Files")]
#[allow(clippy::struct_field_names, reason = "the names are those of the options")]
pub struct Storage {
    /// Mount a volume, or a directory of the host: [SOURCE:]TARGET[:OPTIONS]
    #[arg(short, long, value_name = "VOLUME")]
    pub volume: Vec<String>,
    /// Mount something: type=bind|volume|tmpfs|image,source=..,target=..[,readonly]..
    #[arg(long, value_name = "MOUNT")]
    pub mount: Vec<String>,
    /// Mount a file system in memory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Mount the volumes of another container
    #[arg(long, value_name = "CONTAINER[:ro]")]
    pub volumes_from: Vec<String>,
    /// The driver of volumes that are made for it
    #[arg(long, value_name = "DRIVER")]
    pub volume_driver: Option<String>,
    /// An option of its root file system
    #[arg(long, value_name = "KEY=VALUE")]
    pub storage_opt: Vec<String>,
    /// Its root file system cannot be written
    #[arg(long)]
    pub read_only: bool,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
}

/// What it may do, and what it shares.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Security")]
#[allow(clippy::struct_field_names, reason = "the names are those of the options")]
pub struct Security {
    /// Everything is allowed
    #[arg(long)]
    pub privileged: bool,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// A security option, such as no-new-privileges or seccomp=FILE
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Its user ids: host, auto
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// Its process ids: host, container:NAME
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// Its shared memory: none, private, shareable, host, container:NAME
    #[arg(long, value_name = "MODE")]
    pub ipc: Option<String>,
    /// Its host name: host
    #[arg(long, value_name = "MODE")]
    pub uts: Option<String>,
    /// Its view of cgroups: host, private
    #[arg(long, value_name = "MODE")]
    pub cgroupns: Option<String>,
    /// A kernel parameter
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
}

/// What it may use.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Resources")]
pub struct Resources {
    /// Most memory
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Memory that it keeps when there is little
    #[arg(long, value_name = "BYTES")]
    pub memory_reservation: Option<String>,
    /// Most memory and swap together; -1 is unlimited
    #[arg(long, value_name = "BYTES")]
    pub memory_swap: Option<String>,
    /// How readily its memory is swapped: 0 to 100
    #[arg(long, value_name = "PERCENT")]
    pub memory_swappiness: Option<i64>,
    /// Most kernel memory, which current kernels do not have
    #[arg(long, value_name = "BYTES", hide = true)]
    pub kernel_memory: Option<String>,
    /// How many CPUs, as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// Weight among those that want the CPU
    #[arg(short = 'c', long, value_name = "WEIGHT")]
    pub cpu_shares: Option<i64>,
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
    /// CPUs that it may run on, as 0-3,5
    #[arg(long, value_name = "CPUS")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that it may use
    #[arg(long, value_name = "NODES")]
    pub cpuset_mems: Option<String>,
    /// Most processes; -1 is unlimited
    #[arg(long, value_name = "NUMBER")]
    pub pids_limit: Option<i64>,
    /// Weight among those that want the disk: 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// The same for a device
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    pub blkio_weight_device: Vec<String>,
    /// Most bytes read from a device in a second
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub device_read_bps: Vec<String>,
    /// Most bytes written to a device in a second
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub device_write_bps: Vec<String>,
    /// Most reads from a device in a second
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub device_read_iops: Vec<String>,
    /// Most writes to a device in a second
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub device_write_iops: Vec<String>,
    /// It is not killed for want of memory
    #[arg(long)]
    pub oom_kill_disable: bool,
    /// How likely it is killed for want of memory: -1000 to 1000
    #[arg(long, value_name = "NUMBER")]
    pub oom_score_adj: Option<i64>,
    /// A limit of its processes: NAME=SOFT[:HARD]
    #[arg(long, value_name = "LIMIT")]
    pub ulimit: Vec<String>,
    /// The cgroup that its own is made in
    #[arg(long, value_name = "CGROUP")]
    pub cgroup_parent: Option<String>,
}

/// Devices.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Devices")]
pub struct Devices {
    /// A device of the host: HOST[:CONTAINER][:rwm], or by its CDI name
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<String>,
    /// A rule for devices, such as c 42:* rmw
    #[arg(long, value_name = "RULE")]
    pub device_cgroup_rule: Vec<String>,
    /// GPUs: all, a number, or device=..,capabilities=..
    #[arg(long, value_name = "GPUS")]
    pub gpus: Vec<String>,
}

/// How it is seen that it works.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Health")]
#[allow(clippy::struct_field_names, reason = "the names are those of the options")]
pub struct Health {
    /// Command that looks whether it works
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between two looks, as 30s
    #[arg(long, value_name = "TIME")]
    pub health_interval: Option<String>,
    /// Failures in a row until it is unhealthy
    #[arg(long, value_name = "NUMBER")]
    pub health_retries: Option<i64>,
    /// Time that a look may take
    #[arg(long, value_name = "TIME")]
    pub health_timeout: Option<String>,
    /// Time in which failures do not count, after its start
    #[arg(long, value_name = "TIME")]
    pub health_start_period: Option<String>,
    /// Time between two looks in that time
    #[arg(long, value_name = "TIME")]
    pub health_start_interval: Option<String>,
    /// Take the image's health check away
    #[arg(long)]
    pub no_healthcheck: bool,
}
