//! Ports of the host that lead to containers: which they are, what is held of them, and who leads where.
//!
//! The kernel leads what comes to an address of the family that the container has one of. Everything else, and what comes
//! to `::1`, is relayed by the engine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use gantry_net::PortMapping;
use gantry_net::ports::{PortKeeper, PortRequest, Reservation};

use crate::container::{Endpoint, Published, Record};
use crate::engine::{Engine, blocking};
use crate::error::{Error, Result};
use crate::request::{Port, Protocol, Publish};
use crate::table::{Container, lock};

use super::Networks;
use super::join::Plan;

impl Engine {
    /// Publishes the ports of a container that starts.
    pub(super) fn publish(&self, record: &Record, plan: &Plan) -> Result<Vec<Published>> {
        let networks = &self.0.networks;
        let endpoints: Vec<Endpoint> = plan.endpoints.iter().map(|(_, endpoint)| endpoint.clone()).collect();
        let Some(endpoint) = networks.way_in(&endpoints) else { return Ok(Vec::new()) };
        let wanted = wanted_ports(record);
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |error: gantry_net::Error| {
            let (name, id) = (&record.name, &endpoint.id);
            Error::Conflict(format!(
                "driver failed programming external connectivity on endpoint {name} ({id}): {error}"
            ))
        };
        let everywhere = everywhere();
        let wishes = wanted.iter().map(|wish| port_request(wish, &everywhere)).collect::<Result<Vec<_>>>()?;
        let mut held = networks.keeper.reserve(&wishes).map_err(failed)?;
        // A port of the container stands as often as it has addresses of the host.
        let owners = wishes.iter().zip(&wanted).flat_map(|(wish, wanted)| wish.hosts.iter().map(|_| wanted.port));
        let published: Vec<Published> = owners.zip(&held).map(|(port, held)| published(port, held)).collect();
        let mappings = mappings(&published, Some(endpoint));
        networks.net.publish(&mappings).map_err(failed)?;
        let relayed = relay(&mut held, endpoint, &published);
        let mut holds = lock(&networks.holds);
        let hold = holds.entry(record.id.clone()).or_default();
        // From here on whoever takes the network away takes this away too.
        (hold.ports, hold.mappings) = (held, mappings);
        relayed.map_err(failed).map(|()| published)
    }

    /// Holds the ports of a container that runs on from before, and relays what the kernel does not lead.
    pub(super) fn hold_ports(&self, container: &str, ports: &[Published], endpoints: &[Endpoint]) {
        let networks = &self.0.networks;
        let Some(endpoint) = networks.way_in(endpoints) else { return };
        let mut held = Vec::new();
        for port in ports {
            let Ok(host) = port.host_ip.parse() else { continue };
            let number = Some(port.host_port..=port.host_port);
            let wish = PortRequest { hosts: vec![host], ports: number, protocol: protocol(port.port.protocol) };
            let taken = networks.keeper.reserve(&[wish]).and_then(|mut one| {
                relay(&mut one, endpoint, std::slice::from_ref(port))?;
                held.append(&mut one);
                Ok(())
            });
            if let Err(error) = taken {
                // The rules lead there all the same; somebody else has the port too.
                tracing::warn!("hold port {} of container {container}: {error}", port.port);
            }
        }
        let mut holds = lock(&networks.holds);
        let hold = holds.entry(container.to_owned()).or_default();
        hold.ports = held;
        hold.mappings = mappings(ports, Some(endpoint));
    }

    /// Leads the ports of a container that runs through the places that it has now: it came into a network, or left one.
    pub(super) async fn lead_anew(&self, container: &Arc<Container>, endpoints: &[Endpoint]) -> Result<()> {
        let (networks, state) = (&self.0.networks, container.state());
        let endpoint = networks.way_in(endpoints);
        let new = mappings(&state.ports, endpoint);
        let old = {
            let mut holds = lock(&networks.holds);
            let Some(hold) = holds.get_mut(&container.id) else { return Ok(()) };
            if let Some(endpoint) = endpoint {
                relay(&mut hold.ports, endpoint, &state.ports)?;
            }
            std::mem::replace(&mut hold.mappings, new.clone())
        };
        if old == new {
            return Ok(());
        }
        let net = Arc::clone(&networks.net);
        blocking(move || {
            net.unpublish(&old)?;
            Ok(net.publish(&new)?)
        })
        .await
    }
}

impl Networks {
    /// The place of a container that published ports lead to: of those with a way to the outside the first.
    fn way_in<'a>(&self, endpoints: &'a [Endpoint]) -> Option<&'a Endpoint> {
        let table = lock(&self.table);
        let is_open = |endpoint: &&Endpoint| {
            table.get(&endpoint.network_id).is_some_and(|network| !network.record.request.internal)
        };
        let number = |endpoint: &&Endpoint| endpoint.interface.trim_start_matches("eth").parse().unwrap_or(u32::MAX);
        endpoints.iter().filter(is_open).min_by_key(number)
    }
}

/// The ports that are to be published.
fn wanted_ports(record: &Record) -> Vec<Publish> {
    let mut wanted = record.network.ports.clone();
    if record.network.publish_all {
        for port in &record.config.exposed_ports {
            if !wanted.iter().any(|wish| wish.port == *port) {
                wanted.push(Publish { port: *port, host_ip: String::new(), host_port: String::new() });
            }
        }
    }
    wanted
}

/// Every address of the host.
fn everywhere() -> Vec<IpAddr> {
    let mut all = vec![Ipv4Addr::UNSPECIFIED.into()];
    all.extend(PortKeeper::has_ipv6().then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    all
}

/// A wish as whoever holds ports takes it. Without an address of the host it is for `everywhere`.
fn port_request(wish: &Publish, everywhere: &[IpAddr]) -> Result<PortRequest> {
    let invalid = || Error::Invalid(format!("invalid port specification: {:?}", wish.host_port));
    let hosts = match wish.host_ip.as_str() {
        "" => everywhere.to_vec(),
        text => vec![text.parse().map_err(|_| Error::Invalid(format!("invalid IP address: {text}")))?],
    };
    let ports = match wish.host_port.split_once('-') {
        None if wish.host_port.is_empty() || wish.host_port == "0" => None,
        None => {
            let port = wish.host_port.parse().map_err(|_| invalid())?;
            Some(port..=port)
        }
        Some((first, last)) => Some(first.parse().map_err(|_| invalid())?..=last.parse().map_err(|_| invalid())?),
    };
    if wish.port.protocol == Protocol::Sctp {
        return Err(Error::Unsupported("ports of SCTP cannot be published".to_owned()));
    }
    Ok(PortRequest { hosts, ports, protocol: protocol(wish.port.protocol) })
}

fn protocol(protocol: Protocol) -> gantry_net::Protocol {
    match protocol {
        Protocol::Udp => gantry_net::Protocol::Udp,
        Protocol::Tcp | Protocol::Sctp => gantry_net::Protocol::Tcp,
    }
}

fn published(port: Port, held: &Reservation) -> Published {
    Published { port, host_ip: held.host().to_string(), host_port: held.port() }
}

/// How what comes to an address of the host gets to a place.
#[derive(Debug, PartialEq, Eq)]
struct Way {
    /// The address that the kernel leads it to.
    led: Option<IpAddr>,
    /// The address that what the kernel does not lead is relayed to.
    relayed: Option<IpAddr>,
}

fn way(host: IpAddr, endpoint: &Endpoint) -> Way {
    let address = |ipv4: bool| if ipv4 { &endpoint.ipv4 } else { &endpoint.ipv6 }.parse::<IpAddr>().ok();
    let (same, other) = (address(host.is_ipv4()), address(!host.is_ipv4()));
    let is_own = host == Ipv6Addr::LOCALHOST;
    let relayed = same.or(other).filter(|_| host.is_ipv6() || same.is_none());
    Way { led: same.filter(|_| !is_own), relayed }
}

/// The rules of published ports that lead to a place.
fn mappings(ports: &[Published], endpoint: Option<&Endpoint>) -> Vec<PortMapping> {
    let mapping = |port: &Published| {
        let host = port.host_ip.parse().ok()?;
        Some(PortMapping {
            host,
            host_port: port.host_port,
            protocol: protocol(port.port.protocol),
            target: way(host, endpoint?).led?,
            target_port: port.port.number,
        })
    };
    ports.iter().filter_map(mapping).collect()
}

/// Has relayed to a place what the kernel does not lead there.
fn relay(held: &mut [Reservation], endpoint: &Endpoint, ports: &[Published]) -> gantry_net::Result<()> {
    for held in held {
        let is_it = |port: &&Published| {
            port.host_port == held.port()
                && protocol(port.port.protocol) == held.protocol()
                && port.host_ip.parse() == Ok(held.host())
        };
        let Some(port) = ports.iter().find(is_it) else { continue };
        if let Some(target) = way(held.host(), endpoint).relayed {
            held.relay(SocketAddr::new(target, port.port.number))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways() {
        let check = |host: &str, (ipv4, ipv6): (&str, &str), led: &str, relayed: &str| {
            let endpoint = Endpoint { ipv4: ipv4.to_owned(), ipv6: ipv6.to_owned(), ..Endpoint::default() };
            let expect = Way { led: led.parse().ok(), relayed: relayed.parse().ok() };
            assert_eq!(way(host.parse().unwrap(), &endpoint), expect, "{host} {ipv4} {ipv6}");
        };
        let (four, six, both) = (("10.0.0.2", ""), ("", "fd00::2"), ("10.0.0.2", "fd00::2"));
        check("0.0.0.0", four, "10.0.0.2", "");
        check("127.0.0.1", four, "10.0.0.2", "");
        check("::", four, "", "10.0.0.2");
        check("::1", four, "", "10.0.0.2");
        check("0.0.0.0", both, "10.0.0.2", "");
        check("::", both, "fd00::2", "fd00::2");
        check("::1", both, "", "fd00::2");
        check("0.0.0.0", six, "", "fd00::2");
        check("::", six, "fd00::2", "fd00::2");
        check("::", ("", ""), "", "");
    }

    /// Addresses, and the first and last port.
    type Asked = (&'static [&'static str], Option<(u16, u16)>);

    #[test]
    fn wishes() {
        let every: Vec<IpAddr> = vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()];
        let check = |host_ip: &str, host_port: &str, expect: Result<Asked, &str>| {
            let port = "80/tcp".parse().unwrap();
            let wish = Publish { port, host_ip: host_ip.to_owned(), host_port: host_port.to_owned() };
            let got = port_request(&wish, &every).map_err(|error| error.to_string());
            let expect = expect.map_err(str::to_owned).map(|(hosts, ports)| PortRequest {
                hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
                ports: ports.map(|(first, last)| first..=last),
                protocol: gantry_net::Protocol::Tcp,
            });
            assert_eq!(got, expect, "{host_ip} {host_port}");
        };
        check("", "", Ok((&["0.0.0.0", "::"], None)));
        check("", "0", Ok((&["0.0.0.0", "::"], None)));
        check("0.0.0.0", "8080", Ok((&["0.0.0.0"], Some((8080, 8080)))));
        check("::1", "8080-8090", Ok((&["::1"], Some((8080, 8090)))));
        check("nowhere", "1", Err("invalid IP address: nowhere"));
        check("", "x", Err("invalid port specification: \"x\""));
        check("", "1-x", Err("invalid port specification: \"1-x\""));
    }
}
