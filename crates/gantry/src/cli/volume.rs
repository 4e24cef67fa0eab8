//! The group `volume`.

use clap::{Args, Subcommand};

use super::Output;

/// The group `volume`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a volume
    Create(Create),
    /// Show all that is known about volumes, as JSON
    Inspect(Inspect),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(List),
    /// Remove volumes that no container uses
    Prune(Prune),
    /// Remove volumes
    #[command(visible_alias = "remove")]
    Rm(Remove),
    /// Change a volume of a cluster
    #[command(hide = true)]
    Update(Update),
}

/// `volume create`.
#[derive(Clone, Debug, Args)]
pub struct Create {
    /// Its name; one is made up if there is none
    #[arg(value_name = "VOLUME")]
    pub volume: Option<String>,
    /// Its name
    #[arg(long, value_name = "NAME", hide = true, conflicts_with = "volume")]
    pub name: Option<String>,
    /// How it is made
    #[arg(short, long, value_name = "DRIVER", default_value = "local")]
    pub driver: String,
    /// A label
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// An option of the driver
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub opt: Vec<String>,
}

/// `volume inspect`.
#[derive(Clone, Debug, Args)]
pub struct Inspect {
    /// Names of volumes
    #[arg(value_name = "VOLUME", required = true)]
    pub names: Vec<String>,
    /// Form: 'json', or a TEMPLATE of Go
    #[arg(short, long, value_name = "FORM")]
    pub format: Option<String>,
}

/// `volume ls`.
#[derive(Clone, Debug, Args)]
pub struct List {
    /// Only volumes for which this holds: dangling, driver, label, name
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Print nothing but names
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `volume prune`.
#[derive(Clone, Debug, Args)]
pub struct Prune {
    /// Also those that have a name
    #[arg(short, long)]
    pub all: bool,
    /// Only volumes for which this holds: label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}

/// `volume rm`.
#[derive(Clone, Debug, Args)]
pub struct Remove {
    /// Names of volumes
    #[arg(value_name = "VOLUME", required = true)]
    pub names: Vec<String>,
    /// A missing one is no error
    #[arg(short, long)]
    pub force: bool,
}

/// `volume update`.
#[derive(Clone, Debug, Args)]
pub struct Update {
    /// Name of the volume
    #[arg(value_name = "VOLUME")]
    pub name: Option<String>,
    /// Whether it may be used
    #[arg(long, value_name = "STATE")]
    pub availability: Option<String>,
}
