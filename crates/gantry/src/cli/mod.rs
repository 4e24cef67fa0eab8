//! The command line: its table, from which parsing, help, completions and pages come.
//!
//! Names, flags and their meaning are Docker's, so that scripts and hands need not learn. What Docker does not have is
//! `--json` with every command that tells something, and the groups `registry` and `image diff`.

pub mod checkpoint;
pub mod container;
pub mod create;
pub mod daemon;
pub mod debug;
pub mod image;
pub mod network;
mod parse;
pub mod registry;
pub mod system;
#[cfg(test)]
mod tests;
pub mod volume;

pub use parse::parse;

use std::path::PathBuf;

use crate::user;
use clap::builder::styling::{AnsiColor, Styles};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Containers and images, in one program.
#[derive(Debug, Parser)]
#[command(name = "gantry", version, styles = STYLES, max_term_width = 100, subcommand_value_name = "COMMAND")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What stands before the command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Where the daemon is: unix:///PATH or tcp://HOST[:PORT] [default: GANTRY_HOST, DOCKER_HOST, or
    /// unix:///run/gantry/gantry.sock]
    #[arg(short = 'H', long, value_name = "HOST")]
    pub host: Option<String>,
    /// Reach the daemon by TLS
    #[arg(long)]
    pub tls: bool,
    /// Reach the daemon by TLS, and make sure who it is
    #[arg(long)]
    pub tlsverify: bool,
    /// Authorities that are trusted [default: ~/.docker/ca.pem]
    #[arg(long, value_name = "FILE")]
    pub tlscacert: Option<PathBuf>,
    /// Certificate of this client [default: ~/.docker/cert.pem]
    #[arg(long, value_name = "FILE")]
    pub tlscert: Option<PathBuf>,
    /// Its key [default: ~/.docker/key.pem]
    #[arg(long, value_name = "FILE")]
    pub tlskey: Option<PathBuf>,
    /// Directory of the store [default: /var/lib/gantry]
    #[arg(long, value_name = "DIR", env = "GANTRY_ROOT", hide_env = true)]
    pub root: Option<PathBuf>,
    /// Configuration file [default: /etc/gantry/config.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "GANTRY_CONFIG", hide_env = true)]
    pub config: Option<PathBuf>,
    /// What is logged on standard error [default: warn; the daemon's: info]
    #[arg(short, long, value_enum, value_name = "LEVEL")]
    pub log_level: Option<Level>,
    /// Log everything, as --log-level debug
    #[arg(short = 'D', long)]
    pub debug: bool,
}

/// What is said when a flag of [`Global`] stands after the command.
pub fn misplaced(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let known = ["--host", "--root", "--config", "--log-level", "--debug"].contains(&flag.as_str());
    (error.kind() == ErrorKind::UnknownArgument && known)
        .then(|| format!("\nhint: {flag} stands before the command, as in gantry {flag} ... COMMAND\n"))
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// What is done.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(flatten)]
    Container(container::Verb),
    /// List containers
    Ps(container::List),
    /// Download images from a registry
    Pull(image::Pull),
    /// Upload an image to a registry
    Push(image::Push),
    /// List images
    Images(image::List),
    /// Remove images
    Rmi(image::Remove),
    /// Give an image one more name
    Tag(image::Tag),
    /// Show how an image came to be
    History(image::History),
    /// Write images to a tar archive
    Save(image::Save),
    /// Read images from a tar archive
    Load(image::Load),
    /// Make an image of a tar archive of files
    Import(image::Import),
    /// Write the files of a container, or of an image, to a tar archive
    Export(image::Export),
    /// Show all that is known about containers, images, networks and volumes, as JSON
    Inspect(Inspect),
    /// Show what happens, as it happens
    Events(system::Events),
    /// Show what the daemon and this machine are
    Info(system::Info),
    /// Log in to a registry
    Login(registry::Login),
    /// Log out from a registry
    Logout(registry::Logout),
    /// Everything about containers
    #[command(name = "container", subcommand, arg_required_else_help = true)]
    Containers(container::Group),
    /// Everything about checkpoints: what containers are doing, saved and gone on with
    #[command(subcommand, arg_required_else_help = true)]
    Checkpoint(checkpoint::Command),
    /// Everything about images
    #[command(subcommand, arg_required_else_help = true)]
    Image(ImageCommand),
    /// Everything about networks
    #[command(subcommand, arg_required_else_help = true)]
    Network(network::Command),
    /// Everything about volumes
    #[command(subcommand, arg_required_else_help = true)]
    Volume(volume::Command),
    /// Look into registries, or be one
    #[command(subcommand, arg_required_else_help = true)]
    Registry(registry::Command),
    /// The daemon and all that it keeps
    #[command(subcommand, arg_required_else_help = true)]
    System(system::Command),
    /// Look for what is wrong
    #[command(subcommand, arg_required_else_help = true)]
    Debug(debug::Command),
    /// Be the daemon
    Daemon(daemon::Daemon),
    /// Show the versions of this program and of the daemon
    Version(Version),
    /// Write the completions of a shell
    Completion(Completion),
    /// Write manual pages into a directory
    Man(Man),
}

/// The group `image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// List images
    #[command(visible_alias = "list")]
    Ls(image::List),
    /// Download images from a registry
    Pull(image::Pull),
    /// Upload an image to a registry
    Push(image::Push),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(image::Remove),
    /// Give an image one more name
    Tag(image::Tag),
    /// Show all that is known about images, as JSON
    Inspect(image::Inspect),
    /// Show how an image came to be
    History(image::History),
    /// Write images to a tar archive
    Save(image::Save),
    /// Read images from a tar archive
    Load(image::Load),
    /// Make an image of a tar archive of files
    Import(image::Import),
    /// Remove images that are not used
    Prune(image::Prune),
    /// Show which files differ between two images
    Diff(image::Diff),
}

/// `inspect`.
#[derive(Clone, Debug, Args)]
pub struct Inspect {
    /// Names or ids
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
    /// Form: 'json', or a TEMPLATE of Go
    #[arg(short, long, value_name = "FORM")]
    pub format: Option<String>,
    /// Show how large containers are
    #[arg(short, long)]
    pub size: bool,
    /// What is looked for
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    pub kind: Option<Kind>,
}

/// What `inspect` can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

/// How what is found is printed.
#[derive(Clone, Debug, Args)]
pub struct Output {
    /// Form: 'table', 'table TEMPLATE', 'json', or a TEMPLATE of Go
    #[arg(long, value_name = "FORM")]
    pub format: Option<String>,
    /// One JSON document, for programs
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

impl Output {
    /// The form that was asked for; else, unless nothing but ids is shown, the one that people have set for themselves.
    pub fn form(&self, quiet: bool, setting: &str) -> Option<String> {
        self.format.clone().or_else(|| if quiet || self.json { None } else { user::setting(setting) })
    }
}

/// `version`.
#[derive(Clone, Debug, Args)]
pub struct Version {
    /// Form: 'json', or a TEMPLATE of Go
    #[arg(short, long, value_name = "FORM")]
    pub format: Option<String>,
    /// One JSON document, for programs
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

/// `completion`.
#[derive(Clone, Debug, Args)]
pub struct Completion {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// The shells that there are completions for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// `man`.
#[derive(Clone, Debug, Args)]
pub struct Man {
    /// Where they are written: one file a command
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}
