//! The group `checkpoint`.

use clap::{Args, Subcommand};

use super::Output;

/// The group `checkpoint`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Save what a container is doing, and end it
    Create(Create),
    /// List the checkpoints of a container
    #[command(visible_alias = "list")]
    Ls(List),
    /// Remove a checkpoint
    #[command(visible_alias = "remove")]
    Rm(Remove),
}

/// `checkpoint create`.
#[derive(Clone, Debug, Args)]
pub struct Create {
    /// Name or id of a container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Name of the checkpoint
    #[arg(value_name = "CHECKPOINT")]
    pub name: String,
    /// Where it is put, on the daemon's machine [default: kept with the container]
    #[arg(long, value_name = "DIR")]
    pub checkpoint_dir: Option<String>,
    /// Let the container run on
    #[arg(long)]
    pub leave_running: bool,
}

/// `checkpoint ls`.
#[derive(Clone, Debug, Args)]
pub struct List {
    /// Name or id of a container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Where they are
    #[arg(long, value_name = "DIR")]
    pub checkpoint_dir: Option<String>,
    /// Print nothing but names
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `checkpoint rm`.
#[derive(Clone, Debug, Args)]
pub struct Remove {
    /// Name or id of a container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Name of the checkpoint
    #[arg(value_name = "CHECKPOINT")]
    pub name: String,
    /// Where it is
    #[arg(long, value_name = "DIR")]
    pub checkpoint_dir: Option<String>,
}
