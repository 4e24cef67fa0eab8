//! What is known of a container: what it is to be, which is kept, and the state it is in.

use std::collections::BTreeMap;

use gantry_model::digest::Digest;
use gantry_model::image::Descriptor;
use gantry_model::platform::Platform;
use serde::{Deserialize, Serialize};

use crate::request::{Config, Host, Network, Port};

/// What a container is to be: all that is needed to start it again on this machine.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// When it was made, in nanoseconds since 1970.
    pub created: i64,
    /// What it was made from.
    pub image: Option<ImageUse>,
    /// What it runs, joined with what the image says.
    pub config: Config,
    /// How it stands on the host.
    pub host: Host,
    /// Its network.
    pub network: Network,
    /// The sandbox that it is in, by id; its own has its own id.
    pub sandbox: String,
    /// Whether it is a sandbox, and of which kind.
    #[serde(default)]
    pub infra: Option<crate::sandbox::SandboxRecord>,
    /// What is mounted in it: all volumes have names, all paths are absolute.
    pub mounts: Vec<Mount>,
    /// The front door's own document.
    #[serde(default)]
    pub origin: String,
}

/// The image of a container.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageUse {
    /// As it was asked for.
    pub name: String,
    /// Its id, the digest of its configuration.
    pub id: Digest,
    /// Its manifest.
    pub manifest: Descriptor,
    /// What it runs on.
    pub platform: Platform,
    /// The chain id of its layers; none if it has no layer.
    pub chain: Option<Digest>,
}

/// Something that is mounted in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// What.
    pub kind: crate::request::MountKind,
    /// The volume's name, or the image's.
    pub name: String,
    /// Path on the host; empty for a memory file system.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// The volume's driver.
    pub driver: String,
    /// The options as they were given, such as `z` or `ro`.
    pub mode: String,
    /// Whether it can be written to.
    pub writable: bool,
    /// How mounts are handed on.
    pub propagation: String,
    /// Whether the volume was made for this container and goes with it.
    pub anonymous: bool,
    /// Whether a new volume gets nothing from the image.
    pub no_copy: bool,
    /// Path inside the volume or image.
    pub subpath: String,
    /// Whether mounts below are left out.
    pub non_recursive: bool,
    /// Options of a memory file system.
    pub options: Vec<String>,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It has not run yet.
    #[default]
    Created,
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It has ended, and is going to be started again.
    Restarting,
    /// It has ended.
    Exited,
    /// It is being removed.
    Removing,
    /// It could not be removed.
    Dead,
}

impl Status {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
            Self::Dead => "dead",
        }
    }

    /// Whether there is a process.
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// The state of a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// Where it is in its life.
    pub status: Status,
    /// Its process; 0 if there is none.
    pub pid: i32,
    /// How its last process ended; 0 while none has.
    pub exit_code: i32,
    /// Why its last start failed.
    pub error: String,
    /// Whether its last process was killed for want of memory.
    pub oom_killed: bool,
    /// When its last process was started, in nanoseconds since 1970; 0 is never.
    pub started: i64,
    /// When its last process ended; 0 is never.
    pub finished: i64,
    /// How often it was started again by its policy.
    pub restarts: u32,
    /// Whether it was stopped by hand, so that its policy rests.
    pub stopped_by_hand: bool,
    /// How its health checks went.
    pub health: Option<Health>,
    /// Its places in networks, by the network's name.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Ports that are published now.
    pub ports: Vec<Published>,
}

/// How a container's health checks went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures since the last success.
    pub failing_streak: u32,
    /// The last checks, the newest last.
    pub log: Vec<HealthResult>,
}

/// A health check that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthResult {
    /// When it began, in nanoseconds since 1970.
    pub start: i64,
    /// When it ended.
    pub end: i64,
    /// Its exit status; -1 if it took too long.
    pub exit_code: i32,
    /// The beginning of what it wrote.
    pub output: String,
}

/// A container's place in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// The network's id.
    pub network_id: String,
    /// The endpoint's id.
    pub id: String,
    /// IPv4 address; empty is none.
    pub ipv4: String,
    /// Bits of its subnet.
    pub ipv4_prefix: u8,
    /// The gateway.
    pub gateway: String,
    /// IPv6 address; empty is none.
    pub ipv6: String,
    /// Bits of its subnet.
    pub ipv6_prefix: u8,
    /// The gateway.
    pub ipv6_gateway: String,
    /// MAC address.
    pub mac_address: String,
    /// Further names.
    pub aliases: Vec<String>,
    /// Names that it is known by in the network.
    pub dns_names: Vec<String>,
    /// Name of the interface in the container.
    pub interface: String,
    /// Name of its other end on the host.
    pub host_interface: String,
}

/// A port that is published.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// The container's.
    pub port: Port,
    /// The host's address.
    pub host_ip: String,
    /// The host's.
    pub host_port: u16,
}

/// A container as it is at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// What it is to be.
    pub record: std::sync::Arc<Record>,
    /// The state it is in.
    pub state: std::sync::Arc<State>,
    /// Path of its log file, if it has one.
    pub log_path: String,
    /// The ids of its further processes that run.
    pub execs: Vec<String>,
    /// Path of the sandbox's network namespace, if there is one now.
    pub network_namespace: String,
}
