//! The daemon and what it keeps, as a whole.

use clap::{Args, Subcommand};

use super::Output;

/// The group `system`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show how much disk is used, and how much could be freed
    Df(Df),
    /// Show what happens, as it happens
    Events(Events),
    /// Show what the daemon and this machine are
    Info(Info),
    /// Remove all that is not used
    Prune(Prune),
}

/// `system df`.
#[derive(Clone, Debug, Args)]
pub struct Df {
    /// Show each thing
    #[arg(short, long)]
    pub verbose: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `events`.
#[derive(Clone, Debug, Args)]
pub struct Events {
    /// Only what this holds for: container, image, network, volume, daemon, event, label, type, scope
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Form: 'json', or a TEMPLATE of Go
    #[arg(long, value_name = "FORM")]
    pub format: Option<String>,
    /// Also what has happened since a time
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only until a time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// `info`.
#[derive(Clone, Debug, Args)]
pub struct Info {
    /// Form: 'json', or a TEMPLATE of Go
    #[arg(short, long, value_name = "FORM")]
    pub format: Option<String>,
}

/// `system prune`.
#[derive(Clone, Debug, Args)]
pub struct Prune {
    /// Also images that have a name
    #[arg(short, long)]
    pub all: bool,
    /// Only what this holds for: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Also anonymous volumes
    #[arg(long)]
    pub volumes: bool,
}
