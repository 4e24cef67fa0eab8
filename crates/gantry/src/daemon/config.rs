//! `[daemon]` of the configuration file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// Where the daemon listens if nothing is said.
pub const SOCKET: &str = "/run/gantry/gantry.sock";
/// What is of no use after a start of the machine.
const RUN: &str = "/run/gantry";

/// `[daemon]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DaemonConfig {
    /// Directory for sockets, mount points and whatever else ends with the machine's run.
    pub run: PathBuf,
    /// The socket that clients connect to.
    pub socket: PathBuf,
    /// The group whose members may connect, besides root.
    pub group: Option<String>,
    /// The program `gantry-oci`; it is looked for beside this one otherwise.
    pub runtime: Option<PathBuf>,
    /// The cgroup that containers get theirs in.
    pub cgroup_parent: String,
    /// Whether systemd makes the cgroups.
    pub systemd_cgroups: bool,
    /// What names of network interfaces begin with.
    pub network_prefix: String,
    /// Whether clients are told that what Docker calls experimental may be asked for.
    pub experimental: bool,
    /// The log driver of containers that do not say.
    pub log_driver: String,
    /// Its options.
    pub log_options: BTreeMap<String, String>,
}

impl Default for DaemonConfig {
    fn default() -> Self {
        Self {
            run: RUN.into(),
            socket: SOCKET.into(),
            group: None,
            runtime: None,
            cgroup_parent: "gantry".to_owned(),
            systemd_cgroups: false,
            network_prefix: "gty".to_owned(),
            experimental: false,
            log_driver: String::new(),
            log_options: BTreeMap::new(),
        }
    }
}
