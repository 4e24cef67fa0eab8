//! The command line: its table, from which parsing, help, completions and pages come.
//!
//! Names, flags and their meaning are Docker's, so that scripts and hands need not learn. What Docker does not have is
//! `--json` with every command that tells something, and the groups `registry` and `image diff`.

pub mod image;
pub mod registry;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Directory of the store [default: /var/lib/gantry]
    #[arg(long, value_name = "DIR", env = "GANTRY_ROOT", hide_env = true)]
    pub root: Option<PathBuf>,
    /// Configuration file [default: /etc/gantry/config.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "GANTRY_CONFIG", hide_env = true)]
    pub config: Option<PathBuf>,
    /// What is logged on standard error
    #[arg(short, long, value_enum, value_name = "LEVEL", default_value_t = Level::Warn)]
    pub log_level: Level,
    /// Log everything, as --log-level debug
    #[arg(short = 'D', long)]
    pub debug: bool,
}

/// What is said when a flag of [`Global`] stands after the command.
pub fn misplaced(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let known = ["--root", "--config", "--log-level", "--debug"].contains(&flag.as_str());
    (error.kind() == ErrorKind::UnknownArgument && known)
        .then(|| format!("\nhint: {flag} stands before the command, as in gantry {flag} ... COMMAND\n"))
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
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
    /// Write the files of an image to a tar archive
    Export(image::Export),
    /// Log in to a registry
    Login(registry::Login),
    /// Log out from a registry
    Logout(registry::Logout),
    /// Everything about images
    #[command(subcommand, arg_required_else_help = true)]
    Image(ImageCommand),
    /// Look into registries, or be one
    #[command(subcommand, arg_required_else_help = true)]
    Registry(registry::Command),
    /// The store as a whole
    #[command(subcommand, arg_required_else_help = true)]
    System(SystemCommand),
    /// Show the version
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

/// The group `system`.
#[derive(Debug, Subcommand)]
pub enum SystemCommand {
    /// Show how much disk is used, and how much could be freed
    Df(Df),
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
