//! The engine's networks: addresses, bridges, published ports, names.
//!
//! What is to be is decided by functions from data to data: [`ipam`] hands out subnets and addresses, [`plan`] turns
//! networks, endpoints and ports into links, addresses, routes and rules, [`files`] writes what resolvers in containers
//! read. [`Net`] carries plans out by netlink, each in as few messages as there can be; no other program is ever run.
//! [`ports::PortKeeper`] holds host ports, and [`dns`] answers in each container's network namespace.
//!
//! Several engines can live on one host: the names of whatever one makes begin with its prefix ([`Names`]), and it
//! touches nothing else.

mod cidr;
pub mod dns;
mod error;
pub mod files;
pub mod ipam;
mod kernel;
mod names;
mod nft;
pub mod plan;
pub mod ports;
mod relay;
mod spec;

pub use cidr::{Cidr, ParseCidrError};
pub use error::{Error, Result};
pub use kernel::{
    Desired, Disturbance, HostNetworks, Net, Netns, Options, Synced, Watch, create_netns, open_netns, remove_netns,
};
pub use names::Names;
pub use spec::{Endpoint, Mac, NetworkSpec, PortMapping, Protocol, Subnet};
