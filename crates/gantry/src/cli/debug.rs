//! What helps those who look for a fault.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The group `debug`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Gather what is known of the daemon and this machine into an archive, without secrets
    Bundle(Bundle),
}

/// `debug bundle`.
#[derive(Clone, Debug, Args)]
pub struct Bundle {
    /// The archive to write, '-' for standard output [default: gantry-debug-TIME.tar.gz here]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
