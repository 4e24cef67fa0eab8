//! The rules of an engine: one table for each family of addresses, whose chains never change. Whatever comes and goes is
//! an element of a set or a map, so that a change costs the same however much there is already.
//!
//! What the chains do:
//! - `guard`: what comes from a bridge for the host's loopback addresses is dropped, since publishing on loopback makes
//!   the kernel route such packets.
//! - `incoming`, `outgoing`: what is for an address of the host goes through `publish`, which sends it to the container
//!   that has the port: first by address, protocol and port, then by protocol and port.
//! - `leaving`: what goes out of a network with the host's address; what comes back to its own network over a published
//!   port, or from the host's loopback, has the bridge's, so that answers come the same way.
//! - `between`: nothing goes from one network to another, or from elsewhere into one, but what belongs to a connection,
//!   or came through a published port. Internal networks have not even that.
//!
//! Rules of other tables hold beside these: what the host's firewall drops stays dropped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::spec::{NetworkSpec, PortMapping, Protocol};
use crate::{Cidr, Names};

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

/// A table with all that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// Name of the table.
    pub table: String,
    /// Its family.
    pub family: Family,
    /// Sets and maps.
    pub sets: Vec<Set>,
    /// Chains; one that is jumped to stands before those that do.
    pub chains: Vec<Chain>,
}

/// A set, or with data a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Name.
    pub name: &'static str,
    /// What a key consists of.
    pub key: &'static [Type],
    /// What a key leads to; of no parts for a set.
    pub data: &'static [Type],
    /// What is in it.
    pub elements: Vec<Element>,
}

/// A kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Name of a device.
    Device,
    /// Address of the table's family.
    Address,
    /// Block of addresses of the table's family. A set with it is one of intervals.
    Block,
    /// Protocol.
    Protocol,
    /// Port.
    Port,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Name of a device.
    Device(String),
    /// Address.
    Address(IpAddr),
    /// Block of addresses.
    Block(Cidr),
    /// Protocol.
    Protocol(Protocol),
    /// Port.
    Port(u16),
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its key.
    pub key: Vec<Value>,
    /// What the key leads to.
    pub data: Vec<Value>,
}

/// A list of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Name.
    pub name: &'static str,
    /// Where packets come to it from; none for one that is only jumped to.
    pub base: Option<Base>,
    /// Rules, in order.
    pub rules: Vec<Rule>,
}

/// Where a chain stands in a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// What it may do.
    pub kind: Kind,
    /// The place.
    pub hook: Hook,
    /// Its order among others at the place.
    pub priority: i32,
}

/// What a chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Accept and drop.
    Filter,
    /// Change addresses of connections.
    Nat,
}

/// A place in a packet's way; the numbers are the kernel's (`NF_INET_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Received, before it is routed.
    Prerouting = 0,
    /// Routed to another device.
    Forward = 2,
    /// Made here.
    Output = 3,
    /// About to leave.
    Postrouting = 4,
}

/// A rule: what must hold, and what is done then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All of this must hold.
    pub when: Vec<Match>,
    /// What is done.
    pub then: Statement,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The destination is an address of the host.
    Local,
    /// The packet belongs to a connection that is known, or is about one.
    Established,
    /// The connection's destination was changed.
    Diverted,
    /// The device it came from is in a set.
    From(&'static str),
    /// The device it leaves by is in a set.
    To(&'static str),
    /// Both devices, in this order, are in a set.
    Between(&'static str),
    /// Both devices, in this order, are not in a set.
    NotBetween(&'static str),
    /// The source's address and the device it leaves by are in a set.
    Returning(&'static str),
    /// The source lies in a block.
    Source(Cidr),
    /// The destination lies in a block.
    Destination(Cidr),
    /// The destination lies outside of a block.
    NotDestination(Cidr),
    /// The packet has this protocol and is for this port.
    ToPort(Protocol, u16),
    /// The packet has this protocol and is from this port.
    FromPort(Protocol, u16),
}

/// What is done with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// It goes on.
    Accept,
    /// It ends here.
    Drop,
    /// A chain decides.
    Goto(&'static str),
    /// The connection goes where the map of destination address, protocol and port says, if it does.
    DivertByAddress(&'static str),
    /// The connection goes where the map of protocol and port says, if it does.
    DivertByPort(&'static str),
    /// The connection has the address of the device that it leaves by.
    Masquerade,
    /// The destination port of this one packet is changed.
    SetToPort(Protocol, u16),
    /// The source port of this one packet is changed.
    SetFromPort(Protocol, u16),
}

/// Devices of all bridges.
const BRIDGES: &str = "bridges";
/// Bridges of internal networks.
const INTERNAL: &str = "internal";
/// Bridges whose packets leave with the host's address.
const MASQUERADED: &str = "masqueraded";
/// Each network's blocks, with its bridge.
const SUBNETS: &str = "subnets";
/// Each bridge with itself.
const SAME: &str = "same";
/// The same, for networks whose containers reach each other.
const TALKING: &str = "talking";
/// Published ports of one address.
const PORTS_BY_ADDRESS: &str = "ports_by_address";
/// Published ports of every address.
const PORTS: &str = "ports";

/// Priorities at the kernel's places (`NF_IP_PRI_*`).
const RAW: i32 = -300;
const MANGLE: i32 = -150;
const DESTINATION: i32 = -100;
const FILTER: i32 = 0;
const SOURCE: i32 = 100;

/// The table of a family, with networks and ports in it. Ports of the other family are left out.
pub fn ruleset<'a>(
    names: &Names,
    family: Family,
    networks: impl IntoIterator<Item = &'a NetworkSpec>,
    ports: impl IntoIterator<Item = &'a PortMapping>,
) -> Ruleset {
    let mut ruleset = bare(names, family);
    let ports = ports.into_iter().filter(|port| Family::of(port.target) == family);
    let elements =
        networks.into_iter().flat_map(|network| network_elements(network, family)).chain(ports.map(port_element));
    for (name, element) in elements {
        if let Some(set) = ruleset.sets.iter_mut().find(|set| set.name == name) {
            set.elements.push(element);
        }
    }
    ruleset
}

/// The table of a family without anything in its sets.
pub fn bare(names: &Names, family: Family) -> Ruleset {
    let set = |name, key, data| Set { name, key, data, elements: Vec::new() };
    let place: &'static [Type] = &[Type::Address, Type::Port];
    Ruleset {
        table: names.table().to_owned(),
        family,
        sets: vec![
            set(BRIDGES, &[Type::Device], &[]),
            set(INTERNAL, &[Type::Device], &[]),
            set(MASQUERADED, &[Type::Device], &[]),
            set(SUBNETS, &[Type::Block, Type::Device], &[]),
            set(SAME, &[Type::Device, Type::Device], &[]),
            set(TALKING, &[Type::Device, Type::Device], &[]),
            set(PORTS_BY_ADDRESS, &[Type::Address, Type::Protocol, Type::Port], place),
            set(PORTS, &[Type::Protocol, Type::Port], place),
        ],
        chains: chains(family),
    }
}

/// Loopback addresses of a family.
fn loopback(family: Family) -> Option<Cidr> {
    match family {
        Family::Ipv4 => Cidr::new(Ipv4Addr::LOCALHOST.into(), 8),
        Family::Ipv6 => Some(Cidr::single(Ipv6Addr::LOCALHOST.into())),
    }
}

fn chains(family: Family) -> Vec<Chain> {
    use Match::{
        Between, Destination, Diverted, Established, From, Local, NotBetween, NotDestination, Returning, Source, To,
    };
    use Statement::{Accept, DivertByAddress, DivertByPort, Drop, Goto, Masquerade};
    let loopback = loopback(family);
    let rule = |when: Vec<Match>, then| Rule { when, then };
    let chain = |name, kind, hook, priority, rules| Chain { name, base: Some(Base { kind, hook, priority }), rules };
    // The loopback address of IPv6 cannot be routed at all.
    let own = match family {
        Family::Ipv4 => vec![Local],
        Family::Ipv6 => loopback.map(NotDestination).into_iter().chain([Local]).collect(),
    };
    let guard = loopback.map(|block| rule(vec![From(BRIDGES), Destination(block)], Drop));
    let from_loopback = loopback.map(|block| rule(vec![Source(block), To(BRIDGES)], Masquerade));
    let publish = vec![rule(vec![], DivertByAddress(PORTS_BY_ADDRESS)), rule(vec![], DivertByPort(PORTS))];
    let mut leaving: Vec<Rule> = from_loopback.into_iter().collect();
    // The device it came from is not known of a packet that the bridge itself hands on (br_netfilter).
    leaving.push(rule(vec![Diverted, Returning(SUBNETS)], Masquerade));
    leaving.push(rule(vec![From(MASQUERADED), NotBetween(SAME)], Masquerade));
    let between = vec![
        rule(vec![Established], Accept),
        rule(vec![Between(TALKING)], Accept),
        rule(vec![From(INTERNAL)], Drop),
        rule(vec![To(INTERNAL)], Drop),
        rule(vec![Diverted, To(BRIDGES)], Accept),
        rule(vec![To(BRIDGES)], Drop),
    ];
    vec![
        Chain { name: "publish", base: None, rules: publish },
        chain("guard", Kind::Filter, Hook::Prerouting, RAW, guard.into_iter().collect()),
        chain("incoming", Kind::Nat, Hook::Prerouting, DESTINATION, vec![rule(own.clone(), Goto("publish"))]),
        chain("outgoing", Kind::Nat, Hook::Output, DESTINATION, vec![rule(own, Goto("publish"))]),
        chain("leaving", Kind::Nat, Hook::Postrouting, SOURCE, leaving),
        chain("between", Kind::Filter, Hook::Forward, FILTER, between),
    ]
}

/// What a network has in the sets of a family, whose names come first.
pub fn network_elements(network: &NetworkSpec, family: Family) -> Vec<(&'static str, Element)> {
    let changes = network_changes(network, family).into_iter();
    changes.filter(|(.., there)| *there).map(|(set, element, _)| (set, element)).collect()
}

/// What a network could have in the sets of a family, whose names come first, and whether it has it.
pub fn network_changes(network: &NetworkSpec, family: Family) -> Vec<(&'static str, Element, bool)> {
    let device = || Value::Device(network.bridge.clone());
    let one = || Element { key: vec![device()], data: Vec::new() };
    let two = || Element { key: vec![device(), device()], data: Vec::new() };
    let mut changes = vec![
        (BRIDGES, one(), true),
        (SAME, two(), true),
        (INTERNAL, one(), network.internal),
        (MASQUERADED, one(), network.masquerade && !network.internal),
        (TALKING, two(), network.icc),
    ];
    if let Some(subnet) = network.subnet(family == Family::Ipv4) {
        let key = vec![Value::Block(subnet.cidr), device()];
        changes.push((SUBNETS, Element { key, data: Vec::new() }, true));
    }
    changes
}

/// What a published port has in the maps, whose name comes first.
pub fn port_element(port: &PortMapping) -> (&'static str, Element) {
    let data = vec![Value::Address(port.target), Value::Port(port.target_port)];
    let mut key = vec![Value::Protocol(port.protocol), Value::Port(port.host_port)];
    if port.host.is_unspecified() {
        return (PORTS, Element { key, data });
    }
    key.insert(0, Value::Address(port.host));
    (PORTS_BY_ADDRESS, Element { key, data })
}

/// The table of a container's own namespace by which the resolver there answers at port 53 of its address, and leaves the
/// port free for the container: single packets are changed, and no connection is tracked for it.
pub fn redirect(address: Ipv4Addr, udp: u16, tcp: u16) -> Ruleset {
    let block = Cidr::single(address.into());
    let both = |protocol, port| {
        [
            Rule {
                when: vec![Match::Destination(block), Match::ToPort(protocol, 53)],
                then: Statement::SetToPort(protocol, port),
            },
            Rule {
                when: vec![Match::Source(block), Match::FromPort(protocol, port)],
                then: Statement::SetFromPort(protocol, 53),
            },
        ]
    };
    let rules = [both(Protocol::Udp, udp), both(Protocol::Tcp, tcp)].concat();
    let base = Base { kind: Kind::Filter, hook: Hook::Output, priority: MANGLE };
    Ruleset {
        table: "gantry_resolver".to_owned(),
        family: Family::Ipv4,
        sets: Vec::new(),
        chains: vec![Chain { name: "output", base: Some(base), rules }],
    }
}
