//! A container's place in a network, as devices, addresses and routes.

use std::fmt;
use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::{Endpoint, Mac, Names, NetworkSpec};

/// All that there is to make for one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPlan {
    /// Name of the device on the host's side.
    pub veth: String,
    /// Name of the bridge that it belongs to.
    pub bridge: String,
    /// Whether it reaches only the bridge itself, and no other device of it.
    pub isolated: bool,
    /// Name of the device in the container.
    pub interface: String,
    /// Its hardware address.
    pub mac: Mac,
    /// Its addresses, each with the bits of its network.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where its default routes lead, at most one of each family.
    pub gateways: Vec<IpAddr>,
}

/// Plans an endpoint of a network. Refused are names that no device can have, and addresses that are not the network's.
pub fn endpoint(names: &Names, network: &NetworkSpec, endpoint: &Endpoint) -> Result<EndpointPlan> {
    if !gantry_model::names::netdevice::is_valid(&endpoint.interface, false) {
        return Err(Error::invalid("network interface", &endpoint.interface, "no device can have this name"));
    }
    if endpoint.id.len() < 12 || !endpoint.id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(Error::invalid("endpoint id", &endpoint.id, "it takes 12 hexadecimal digits at least"));
    }
    let mut addresses = Vec::new();
    let mut gateways = Vec::new();
    for &address in &endpoint.addresses {
        let subnet = network.subnet(address.is_ipv4()).filter(|subnet| subnet.cidr.contains(address));
        let subnet = subnet.ok_or(Error::OutsideOfSubnet { address })?;
        addresses.push((address, subnet.cidr.prefix()));
        if endpoint.gateway && !network.internal {
            gateways.extend(subnet.gateway);
        }
    }
    Ok(EndpointPlan {
        veth: names.veth(&endpoint.id),
        bridge: network.bridge.clone(),
        isolated: !network.icc,
        interface: endpoint.interface.clone(),
        mac: endpoint.mac,
        addresses,
        gateways,
    })
}

impl fmt::Display for EndpointPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let isolated = if self.isolated { " isolated" } else { "" };
        writeln!(f, "link {} master {}{isolated} peer {} {}", self.veth, self.bridge, self.interface, self.mac)?;
        for (address, prefix) in &self.addresses {
            writeln!(f, "address {address}/{prefix} dev {}", self.interface)?;
        }
        for gateway in &self.gateways {
            writeln!(f, "route default via {gateway} dev {}", self.interface)?;
        }
        Ok(())
    }
}
