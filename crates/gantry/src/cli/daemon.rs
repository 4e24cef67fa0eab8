//! The daemon.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Deserialize;

/// Arguments of `daemon`. What is not given is as in the configuration.
#[derive(Debug, Args)]
pub struct Daemon {
    /// The socket that clients connect to [default: /run/gantry/gantry.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Listen here too: unix:///PATH, or with TLS tcp://ADDRESS:PORT
    #[arg(short = 'H', long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Over TCP, clients with a certificate of this authority may come
    #[arg(long, alias = "tlscacert", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Over TCP, the daemon's certificate
    #[arg(long, alias = "tlscert", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, alias = "tlskey", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Show numbers for Prometheus here, such as 127.0.0.1:9323
    #[arg(long, alias = "metrics-addr", value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
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
    /// The form of the log on standard error [default: text]
    #[arg(long, value_enum, value_name = "FORM")]
    pub log_format: Option<LogFormat>,
    /// Say whether the configuration can be used, and end
    #[arg(long)]
    pub validate: bool,
    /// Put this program in the place of the daemon that runs: connections wait meanwhile, containers run on
    #[arg(long, conflicts_with = "validate")]
    pub replace: bool,
}

/// The form of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// A JSON document a line
    Json,
}
