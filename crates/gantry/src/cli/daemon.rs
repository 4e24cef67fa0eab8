//! The daemon.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `daemon`. What is not given is as in the configuration.
#[derive(Debug, Args)]
pub struct Daemon {
    /// The socket that clients connect to [default: /run/gantry/gantry.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Directory for what ends with the machine's run [default: /run/gantry]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Members of this group may connect, besides root
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// The program gantry-oci [default: beside this program]
    #[arg(long, value_name = "PATH")]
    pub runtime: Option<PathBuf>,
    /// The cgroup that containers get theirs in [default: gantry]
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// What names of network interfaces begin with, one to five letters [default: gty]
    #[arg(long, value_name = "PREFIX")]
    pub network_prefix: Option<String>,
    /// Tell clients that what Docker calls experimental may be asked for, such as checkpoints
    #[arg(long)]
    pub experimental: bool,
}
