//! The group `network`.

use clap::{Args, Subcommand};

use super::Output;
use super::container::Prune;

/// The group `network`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Join a container to a network
    Connect(Connect),
    /// Make a network
    Create(Box<Create>),
    /// Part a container from a network
    Disconnect(Disconnect),
    /// Show all that is known about networks, as JSON
    Inspect(Inspect),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(List),
    /// Remove all networks that no container is in
    Prune(Prune),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(Remove),
}

/// `network connect`.
#[derive(Clone, Debug, Args)]
pub struct Connect {
    /// The network
    #[arg(value_name = "NETWORK")]
    pub network: String,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// One more name of it on this network
    #[arg(long, value_name = "NAME")]
    pub alias: Vec<String>,
    /// An option of the network's driver
    #[arg(long, value_name = "KEY=VALUE")]
    pub driver_opt: Vec<String>,
    /// Its IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// Its IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    pub ip6: Option<String>,
    /// Know another container by a name
    #[arg(long, value_name = "CONTAINER[:NAME]")]
    pub link: Vec<String>,
    /// One more link-local address
    #[arg(long, value_name = "ADDRESS")]
    pub link_local_ip: Vec<String>,
}

/// `network create`.
#[derive(Clone, Debug, Args)]
pub struct Create {
    /// Its name
    #[arg(value_name = "NETWORK")]
    pub name: String,
    /// Containers can be joined by hand, where a network is of a cluster
    #[arg(long)]
    pub attachable: bool,
    /// A further address that the driver uses
    #[arg(long, value_name = "NAME=ADDRESS")]
    pub aux_address: Vec<String>,
    /// The network that only says how it is to be
    #[arg(long, value_name = "NETWORK")]
    pub config_from: Option<String>,
    /// Only keep how a network is to be
    #[arg(long)]
    pub config_only: bool,
    /// How it is made
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    pub driver: String,
    /// The address of this machine in a subnet
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub gateway: Vec<String>,
    /// For the traffic into a cluster
    #[arg(long)]
    pub ingress: bool,
    /// Without a way out
    #[arg(long)]
    pub internal: bool,
    /// The addresses of a subnet that are given to containers
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    pub ip_range: Vec<String>,
    /// Who gives addresses
    #[arg(long, value_name = "DRIVER", default_value = "default")]
    pub ipam_driver: String,
    /// An option of who gives addresses
    #[arg(long, value_name = "KEY=VALUE")]
    pub ipam_opt: Vec<String>,
    /// With IPv6
    #[arg(long)]
    pub ipv6: bool,
    /// A label
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// An option of the driver
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub opt: Vec<String>,
    /// How far it reaches
    #[arg(long, value_name = "SCOPE")]
    pub scope: Option<String>,
    /// A subnet, as 10.1.0.0/16
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    pub subnet: Vec<String>,
}

/// `network disconnect`.
#[derive(Clone, Debug, Args)]
pub struct Disconnect {
    /// The network
    #[arg(value_name = "NETWORK")]
    pub network: String,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Also if it does not run
    #[arg(short, long)]
    pub force: bool,
}

/// `network inspect`.
#[derive(Clone, Debug, Args)]
pub struct Inspect {
    /// Names or ids of networks
    #[arg(value_name = "NETWORK", required = true)]
    pub names: Vec<String>,
    /// Form: 'json', or a TEMPLATE of Go
    #[arg(short, long, value_name = "FORM")]
    pub format: Option<String>,
    /// Show more, where a network is of a cluster
    #[arg(short, long)]
    pub verbose: bool,
}

/// `network ls`.
#[derive(Clone, Debug, Args)]
pub struct List {
    /// Only networks for which this holds: driver, id, label, name, scope, type, dangling
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Show whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Print nothing but ids
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `network rm`.
#[derive(Clone, Debug, Args)]
pub struct Remove {
    /// Names or ids of networks
    #[arg(value_name = "NETWORK", required = true)]
    pub names: Vec<String>,
    /// A missing one is no error
    #[arg(short, long)]
    pub force: bool,
}
