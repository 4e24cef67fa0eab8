//! The commands for registries.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use gantry_model::reference::Reference;

/// The group `registry`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the repositories of a registry
    Ls(Ls),
    /// List the tags of a repository
    Tags(Tags),
    /// Be a registry, until a signal ends it
    Serve(Serve),
}

/// `registry ls`.
#[derive(Clone, Debug, Args)]
pub struct Ls {
    /// The registry: HOST[:PORT]
    #[arg(value_name = "REGISTRY")]
    pub registry: String,
    /// One JSON document, for programs
    #[arg(long)]
    pub json: bool,
}

/// `registry tags`.
#[derive(Clone, Debug, Args)]
pub struct Tags {
    /// The repository: [REGISTRY/]REPOSITORY
    #[arg(value_name = "REPOSITORY")]
    pub repository: Reference,
    /// One JSON document, for programs
    #[arg(long)]
    pub json: bool,
}

/// `login`.
#[derive(Clone, Debug, Args)]
pub struct Login {
    /// The registry: HOST[:PORT]; Docker Hub by default
    #[arg(value_name = "REGISTRY")]
    pub registry: Option<String>,
    /// Name of the user
    #[arg(short, long, value_name = "NAME")]
    pub username: Option<String>,
    /// The password; others can see it in the process list, so better use --password-stdin
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub password: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    pub password_stdin: bool,
}

/// `logout`.
#[derive(Clone, Debug, Args)]
pub struct Logout {
    /// The registry: HOST[:PORT]; Docker Hub by default
    #[arg(value_name = "REGISTRY")]
    pub registry: Option<String>,
}

/// `registry serve`.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Directory of the registry's content [default: registry in the store's directory]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Configuration file of the registry; flags go before it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File of users and passwords, as htpasswd -B writes it
    #[arg(long, value_name = "FILE")]
    pub htpasswd: Option<PathBuf>,
    /// Certificate chain, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Let others than this machine in without TLS or without passwords
    #[arg(long)]
    pub insecure_open: bool,
}
