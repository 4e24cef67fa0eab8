//! What is asked of networks: ports, places, and networks to be made.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A port with its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The number.
    pub number: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol.as_str())
    }
}

/// What was taken for a port is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid port: {0:?}: it must be a number from 1 to 65535, and may have /tcp, /udp or /sctp after it")]
pub struct InvalidPort(String);

impl FromStr for Port {
    type Err = InvalidPort;

    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        let fail = || InvalidPort(text.to_owned());
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" | "" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(fail()),
        };
        let number = number.parse().map_err(|_| fail())?;
        if number == 0 {
            return Err(fail());
        }
        Ok(Self { number, protocol })
    }
}

impl Serialize for Port {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The network of a container, or of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Network {
    /// What it is in.
    pub mode: NetworkMode,
    /// How it is in each network; that of the mode is there without being mentioned.
    pub endpoints: Vec<EndpointRequest>,
    /// Ports that are published.
    pub ports: Vec<Publish>,
    /// Whether all exposed ports are published, at ports that are free.
    pub publish_all: bool,
    /// Name servers; none are the host's.
    pub dns: Vec<String>,
    /// Domains that names are looked up in.
    pub dns_search: Vec<String>,
    /// Options of resolv.conf(5).
    pub dns_options: Vec<String>,
    /// `NAME:ADDRESS` for the hosts file.
    pub extra_hosts: Vec<String>,
    /// `CONTAINER[:ALIAS]` to be known by name.
    pub links: Vec<String>,
    /// MAC address of the network that the mode names; empty is made up.
    pub mac_address: String,
}

/// What network a container is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum NetworkMode {
    /// The engine's bridge.
    #[default]
    Bridge,
    /// Only a loopback.
    None,
    /// The host's.
    Host,
    /// That of another container, by name or id.
    Container(String),
    /// A network, by name or id.
    Named(String),
}

/// How a container is in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointRequest {
    /// The network, by name or id.
    pub network: String,
    /// Further names in it.
    pub aliases: Vec<String>,
    /// Other containers under names of this one's own, `CONTAINER:ALIAS`.
    pub links: Vec<String>,
    /// The IPv4 address; empty is one that is free.
    pub ipv4: String,
    /// The IPv6 address; empty is one that is free.
    pub ipv6: String,
    /// MAC address; empty is made up.
    pub mac_address: String,
    /// Options for the driver.
    pub driver_options: BTreeMap<String, String>,
    /// The network of the highest has the default gateway.
    pub gateway_priority: i64,
}

/// A port to publish.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Publish {
    /// The port in the container.
    pub port: Port,
    /// The host's address; empty is each of it.
    #[serde(default)]
    pub host_ip: String,
    /// The host's port, `FIRST-LAST` for whichever of them is free; empty is any.
    #[serde(default)]
    pub host_port: String,
}

/// A network to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateNetwork {
    /// Its name.
    pub name: String,
    /// Its driver; empty is bridge.
    pub driver: String,
    /// Whether nothing in it reaches outside.
    pub internal: bool,
    /// Whether containers may be connected while they run by others than services.
    pub attachable: bool,
    /// Whether it has IPv6.
    pub ipv6: bool,
    /// Whether it has IPv4.
    pub ipv4: Option<bool>,
    /// Who gives addresses; empty is the default.
    pub ipam_driver: String,
    /// Options for that.
    pub ipam_options: BTreeMap<String, String>,
    /// Its subnets.
    pub subnets: Vec<SubnetRequest>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A subnet of a network to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubnetRequest {
    /// In CIDR notation; empty is one that is free.
    pub subnet: String,
    /// The part that addresses are given from; empty is all.
    pub ip_range: String,
    /// The gateway's address; empty is the first.
    pub gateway: String,
    /// Addresses that are taken, by a name for each.
    pub aux_addresses: BTreeMap<String, String>,
}
