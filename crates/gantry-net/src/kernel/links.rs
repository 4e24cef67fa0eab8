//! Devices, addresses and routes as messages of route netlink (rtnetlink(7)).

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use gantry_sys::netlink::{Batch, Body, Channel, attributes};

use crate::plan::EndpointPlan;
use crate::{Cidr, Mac};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
/// No search for others with the same address.
const IFA_F_NODAD: u32 = 2;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;

const IFF_UP: u32 = 1;
const AF_UNSPEC: u8 = 0;
const AF_BRIDGE: u8 = 7;

/// A device, as a list has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Number.
    pub index: u32,
    /// Name.
    pub name: String,
    /// What is written beside it.
    pub alias: String,
    /// Whether it is up.
    pub up: bool,
    /// Largest packet.
    pub mtu: u32,
    /// Number of the bridge that it belongs to, or 0.
    pub master: u32,
    /// Hardware address.
    pub address: Vec<u8>,
}

/// An address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Number of the device.
    pub index: u32,
    /// The address.
    pub ip: IpAddr,
    /// Bits of its network.
    pub prefix: u8,
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to; none is everywhere.
    pub to: Option<Cidr>,
    /// Number of the device, or 0.
    pub index: u32,
    /// The lower, the sooner it is taken.
    pub metric: u32,
}

/// Makes a bridge, down.
pub fn add_bridge(batch: &mut Batch, index: u32, name: &str, mac: Mac, mtu: Option<u32>) {
    batch.push(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link_header(AF_UNSPEC, index, 0), |body| {
        body.text(IFLA_IFNAME, name).put(IFLA_ADDRESS, &mac.0);
        if let Some(mtu) = mtu {
            body.number(IFLA_MTU, mtu);
        }
        body.nest(IFLA_LINKINFO, |body| {
            body.put(IFLA_INFO_KIND, b"bridge");
            // With it the kernel sets timers of every device whenever one comes; without a router that asks who listens,
            // which there is none of here, it changes nothing.
            body.nest(IFLA_INFO_DATA, |body| {
                body.put(IFLA_BR_MCAST_SNOOPING, &[0]);
            });
        });
    });
}

/// Writes an alias beside a device, and brings it up.
pub fn mark_and_raise(batch: &mut Batch, index: u32, alias: &str) {
    batch.push(RTM_NEWLINK, 0, &link_header(AF_UNSPEC, index, IFF_UP), |body| {
        body.put(IFLA_IFALIAS, alias.as_bytes());
    });
}

/// Changes the size of a device's largest packet.
pub fn set_mtu(batch: &mut Batch, index: u32, mtu: u32) {
    batch.push(RTM_NEWLINK, 0, &link_header(AF_UNSPEC, index, 0), |body| {
        body.number(IFLA_MTU, mtu);
    });
}

/// Where the two ends of a new pair of devices belong.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// Number of the host's end; the container's has the next.
    pub index: u32,
    /// Number of the bridge.
    pub bridge: u32,
    /// Largest packet of both.
    pub mtu: u32,
    /// Whether the bridge sends packets back to the device that they came from.
    pub hairpin: bool,
    /// The container's namespace.
    pub netns: BorrowedFd<'a>,
}

/// Makes an endpoint's pair of devices, each at once where it belongs, the host's end up: the kernel brings an end up only
/// when it has the other.
pub fn add_veth(batch: &mut Batch, plan: &EndpointPlan, ends: Ends<'_>) {
    let peer = |body: &mut Body<'_>| {
        body.text(IFLA_IFNAME, &plan.interface).put(IFLA_ADDRESS, &plan.mac.0).number(IFLA_MTU, ends.mtu);
        body.number(IFLA_NET_NS_FD, ends.netns.as_raw_fd().cast_unsigned());
    };
    batch.push(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link_header(AF_UNSPEC, ends.index, IFF_UP), |body| {
        body.text(IFLA_IFNAME, &plan.veth).number(IFLA_MTU, ends.mtu).number(IFLA_MASTER, ends.bridge);
        body.nest(IFLA_LINKINFO, |body| {
            body.put(IFLA_INFO_KIND, b"veth");
            body.nest(IFLA_INFO_DATA, |body| {
                body.nest_after(VETH_INFO_PEER, &link_header(AF_UNSPEC, ends.index + 1, 0), peer);
            });
        });
    });
    if plan.isolated || ends.hairpin {
        batch.push(RTM_SETLINK, 0, &link_header(AF_BRIDGE, ends.index, 0), |body| {
            body.nest(IFLA_PROTINFO, |body| {
                body.put(IFLA_BRPORT_ISOLATED, &[u8::from(plan.isolated)])
                    .put(IFLA_BRPORT_MODE, &[u8::from(ends.hairpin)]);
            });
        });
    }
}

/// Brings a device up.
pub fn raise(batch: &mut Batch, index: u32) {
    batch.push(RTM_NEWLINK, 0, &link_header(AF_UNSPEC, index, IFF_UP), |_| ());
}

/// Removes a device by its name.
pub fn remove_link(batch: &mut Batch, name: &str) {
    batch.push(RTM_DELLINK, 0, &link_header(AF_UNSPEC, 0, 0), |body| {
        body.text(IFLA_IFNAME, name);
    });
}

/// Puts a device into a group.
pub fn set_group(batch: &mut Batch, index: u32, group: u32) {
    batch.push(RTM_NEWLINK, 0, &link_header(AF_UNSPEC, index, 0), |body| {
        body.number(IFLA_GROUP, group);
    });
}

/// Removes all devices of a group, which takes no longer than removing one.
pub fn remove_group(batch: &mut Batch, group: u32) {
    batch.push(RTM_DELLINK, 0, &link_header(AF_UNSPEC, 0, 0), |body| {
        body.number(IFLA_GROUP, group);
    });
}

/// Gives a device an address, if it does not have it.
pub fn add_address(batch: &mut Batch, index: u32, address: IpAddr, prefix: u8) {
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    batch.push(RTM_NEWADDR, flags, &address_header(address, prefix, index), |body| {
        let bytes = octets(address);
        body.put(IFA_LOCAL, &bytes).put(IFA_ADDRESS, &bytes);
        match Cidr::new(address, prefix) {
            Some(block) if address.is_ipv4() && prefix < 31 => {
                body.put(IFA_BROADCAST, &octets(block.last()));
            }
            _ if address.is_ipv6() => {
                body.number(IFA_FLAGS, IFA_F_NODAD);
            }
            _ => {}
        }
    });
}

/// Takes an address from a device.
pub fn remove_address(batch: &mut Batch, address: &Address) {
    batch.push(RTM_DELADDR, 0, &address_header(address.ip, address.prefix, address.index), |body| {
        body.put(IFA_LOCAL, &octets(address.ip));
    });
}

/// Adds a default route.
pub fn add_default_route(batch: &mut Batch, index: u32, gateway: IpAddr) {
    let mut header = [0; 12];
    header[0] = family(gateway);
    (header[4], header[5], header[7]) = (RT_TABLE_MAIN, RTPROT_BOOT, RTN_UNICAST);
    batch.push(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &header, |body| {
        body.put(RTA_GATEWAY, &octets(gateway)).number(RTA_OIF, index);
    });
}

/// All devices.
pub fn links(channel: &mut Channel) -> io::Result<Vec<Link>> {
    list(channel, RTM_GETLINK, &link_header(AF_UNSPEC, 0, 0), RTM_NEWLINK, parse_link)
}

/// All addresses.
pub fn addresses(channel: &mut Channel) -> io::Result<Vec<Address>> {
    list(channel, RTM_GETADDR, &[0; 8], RTM_NEWADDR, parse_address)
}

/// All routes of the main table that lead to a device.
pub fn routes(channel: &mut Channel) -> io::Result<Vec<Route>> {
    list(channel, RTM_GETROUTE, &[0; 12], RTM_NEWROUTE, parse_route)
}

fn list<T>(
    channel: &mut Channel,
    kind: u16,
    fixed: &[u8],
    answer: u16,
    parse: fn(&[u8]) -> Option<T>,
) -> io::Result<Vec<T>> {
    let found = std::cell::RefCell::new(Vec::new());
    channel.list(kind, fixed, &[], &mut || found.borrow_mut().clear(), &mut |kind, payload| {
        if kind == answer {
            found.borrow_mut().extend(parse(payload));
        }
    })?;
    Ok(found.into_inner())
}

/// `struct ifinfomsg`; `flags` are those to set.
fn link_header(family: u8, index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// `struct ifaddrmsg`.
fn address_header(address: IpAddr, prefix: u8, index: u32) -> [u8; 8] {
    let mut header = [family(address), prefix, 0, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

/// An address of a family's length.
pub fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

fn parse_link(payload: &[u8]) -> Option<Link> {
    let (header, rest) = payload.split_at_checked(16)?;
    let flags = number(header.get(8..12)?)?;
    let mut link = Link { index: number(header.get(4..8)?)?, up: flags & IFF_UP != 0, ..Link::default() };
    for (kind, value) in attributes(rest) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_IFALIAS => link.alias = text(value),
            IFLA_MTU => link.mtu = number(value)?,
            IFLA_MASTER => link.master = number(value)?,
            IFLA_ADDRESS => link.address = value.to_vec(),
            _ => {}
        }
    }
    Some(link)
}

fn parse_address(payload: &[u8]) -> Option<Address> {
    let (header, rest) = payload.split_at_checked(8)?;
    let (prefix, index) = (*header.get(1)?, number(header.get(4..8)?)?);
    let find = |wanted| attributes(rest).find(|(kind, _)| *kind == wanted).and_then(|(_, value)| ip(value));
    Some(Address { index, ip: find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS))?, prefix })
}

fn parse_route(payload: &[u8]) -> Option<Route> {
    let (header, rest) = payload.split_at_checked(12)?;
    let &[family, length, _, _, table, _, _, kind, ..] = header else { return None };
    let mut table = u32::from(table);
    let (mut to, mut index, mut metric) = (None, 0, 0);
    for (kind, value) in attributes(rest) {
        match kind {
            RTA_DST => to = ip(value),
            RTA_OIF => index = number(value)?,
            RTA_PRIORITY => metric = number(value)?,
            RTA_TABLE => table = number(value)?,
            _ => {}
        }
    }
    if table != u32::from(RT_TABLE_MAIN) || kind != RTN_UNICAST || !matches!(family, 2 | 10) {
        return None;
    }
    let to = match to {
        Some(address) => Some(Cidr::new(address, length)?),
        None => None,
    };
    Some(Route { to, index, metric })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_whole_is_nothing() {
        for length in 0..12 {
            assert_eq!(parse_route(&vec![0; length]), None);
            assert!(length >= 8 || parse_address(&vec![0; length]).is_none());
            assert_eq!(parse_link(&vec![0; length]), None);
        }
        let mut route = vec![2, 33, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0, 8, 0, 1, 0, 10, 0, 0, 0];
        assert_eq!(parse_route(&route), None);
        route[1] = 8;
        assert_eq!(parse_route(&route), Some(Route { to: "10.0.0.0/8".parse().ok(), index: 0, metric: 0 }));
        route[4] = 255;
        assert_eq!(parse_route(&route), None);
    }
}
