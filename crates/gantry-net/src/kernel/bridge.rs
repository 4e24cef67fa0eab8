//! Bridges: made once, and brought to what they should be whenever they are asked for.

use std::net::IpAddr;
use std::sync::PoisonError;

use gantry_sys::netlink::Batch;
use rustix::io::Errno;

use super::links::{self, Address, Link};
use super::{Bridge, Net, failed, refused, sysctl};
use crate::error::{Error, Result};
use crate::{Mac, NetworkSpec};

/// The largest packet where the host has no way out that would say.
const DEFAULT_MTU: u32 = 1500;
/// The smallest that IPv4 can use; below 1280 the kernel takes IPv6 away.
const SMALLEST_MTU: u32 = 68;

impl Net {
    /// Makes a network's bridge and rules, or brings those there are to what they should be. The host becomes a router.
    pub fn ensure_bridge(&self, network: &NetworkSpec) -> Result<()> {
        check(network)?;
        let mut known = self.bridges.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&network.bridge);
        let bridge = self.make_bridge(network)?;
        let settled = settings(network).and_then(|()| self.add_rules(network));
        if let Err(error) = settled {
            drop(known);
            return Err(error);
        }
        known.insert(network.bridge.clone(), bridge);
        self.pass_beside_others();
        Ok(())
    }

    /// Removes a network's bridge and rules. Nothing there is no error.
    pub fn remove_bridge(&self, network: &NetworkSpec) -> Result<()> {
        let mut known = self.bridges.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&network.bridge);
        let mut errors = Vec::new();
        errors.extend(self.take_rules(network).err());
        // What has the name but not the mark is somebody else's.
        let links = links::links(&mut self.route()).map_err(|error| failed("list devices", &error))?;
        let marked = links.iter().any(|link| link.name == network.bridge && self.is_marked(link));
        if marked {
            errors.extend(self.remove_links(&[&network.bridge]).err());
        }
        Error::collect(errors)
    }

    /// Removes devices by name; those that are not there are no error.
    pub(super) fn remove_links(&self, names: &[&str]) -> Result<()> {
        let mut batch = Batch::new();
        for name in names {
            links::remove_link(&mut batch, name);
        }
        let refusals = self.submit(&mut batch, "remove network devices")?;
        let errors = refusals.iter().filter(|r| !matches!(r.errno, Errno::NODEV | Errno::NOENT)).map(|r| {
            let name = names.get(r.index).copied().unwrap_or_default();
            refused(format!("remove network device {name}"), r)
        });
        Error::collect(errors.collect())
    }

    /// What is known of a bridge, from memory or else from the kernel.
    pub(super) fn bridge(&self, name: &str) -> Result<Bridge> {
        let mut known = self.bridges.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bridge) = known.get(name) {
            return Ok(*bridge);
        }
        let links = links::links(&mut self.route()).map_err(|error| failed("list devices", &error))?;
        let link = links.iter().find(|link| link.name == name);
        let link = link.ok_or_else(|| Error::kernel(format!("find bridge {name}"), Errno::NODEV))?;
        let bridge = Bridge { index: link.index, mtu: link.mtu };
        known.insert(name.to_owned(), bridge);
        Ok(bridge)
    }

    /// Whether a device is a bridge of this engine.
    pub(super) fn is_marked(&self, link: &Link) -> bool {
        link.alias.starts_with(&self.names().alias_prefix())
    }

    fn make_bridge(&self, network: &NetworkSpec) -> Result<Bridge> {
        let listing = |error: std::io::Error| failed("list devices", &error);
        let mtu = match network.mtu {
            Some(mtu) => mtu,
            None => self.host()?.mtu.unwrap_or(DEFAULT_MTU),
        };
        let name = &network.bridge;
        let mut batch = Batch::new();
        let links = links::links(&mut self.route()).map_err(listing)?;
        let there = links.iter().find(|link| &link.name == name);
        let index = match there {
            Some(link) if !self.is_marked(link) => {
                let why = "there is a network device of this name that this engine did not make; choose another name";
                return Err(Error::invalid("bridge", name, why));
            }
            Some(link) => {
                if link.mtu != mtu {
                    links::set_mtu(&mut batch, link.index, mtu);
                }
                let addresses = links::addresses(&mut self.route()).map_err(listing)?;
                for stale in addresses.iter().filter(|address| is_stale(address, link.index, network)) {
                    links::remove_address(&mut batch, stale);
                }
                link.index
            }
            None => {
                let index = self.free_index(&links)?;
                links::add_bridge(&mut batch, index, name, hardware_address(&network.id), Some(mtu));
                index
            }
        };
        links::mark_and_raise(&mut batch, index, &self.names().alias(&network.id));
        for subnet in &network.subnets {
            if let Some(gateway) = subnet.gateway {
                links::add_address(&mut batch, index, gateway, subnet.cidr.prefix());
            }
        }
        let refusals = self.submit(&mut batch, &format!("make bridge {name}"))?;
        if let Some(first) = refusals.first() {
            let error = refused(format!("make bridge {name}"), first);
            if there.is_none() {
                let _ = self.remove_links(&[name]);
            }
            return Err(error);
        }
        Ok(Bridge { index, mtu })
    }

    /// A number that none of these devices has.
    fn free_index(&self, links: &[Link]) -> Result<u32> {
        loop {
            let index = self.indexes();
            if !links.iter().any(|link| link.index == index) {
                return Ok(index);
            }
            self.other_indexes()?;
        }
    }
}

fn check(network: &NetworkSpec) -> Result<()> {
    if !gantry_model::names::netdevice::is_valid(&network.bridge, false) {
        return Err(Error::invalid("bridge", &network.bridge, "no device can have this name"));
    }
    match network.mtu {
        Some(mtu) if !(SMALLEST_MTU..=65535).contains(&mtu) => {
            Err(Error::invalid("mtu", mtu, "it takes 68 to 65535 bytes"))
        }
        _ => Ok(()),
    }
}

/// Kernel parameters that a bridge and its host need.
fn settings(network: &NetworkSpec) -> Result<()> {
    let name = &network.bridge;
    if network.subnet(true).is_some() {
        // Only a change is written: it resets parameters of every device.
        let forwards = std::fs::read("/proc/sys/net/ipv4/ip_forward").is_ok_and(|value| value.starts_with(b"1"));
        if !forwards {
            sysctl("ipv4/ip_forward", "1")?;
        }
        // Ports published on loopback, and answers that come another way than the kernel would send them.
        sysctl(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
        sysctl(&format!("ipv4/conf/{name}/rp_filter"), "2")?;
        make_room_for_neighbours("ipv4");
    }
    if network.subnet(false).is_some() {
        sysctl(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
        sysctl("ipv6/conf/all/forwarding", "1")?;
        make_room_for_neighbours("ipv6");
    }
    Ok(())
}

/// Lets the kernel remember more hardware addresses than the 1024 that are its default: it counts those that all
/// namespaces remember together, and each container takes two, so that 500 of them would be cut off at times. Only the
/// first network namespace has these parameters. What people have set higher stays.
fn make_room_for_neighbours(family: &str) {
    for (name, least) in [("gc_thresh3", 16384_u32), ("gc_thresh2", 8192)] {
        let name = format!("{family}/neigh/default/{name}");
        let present = std::fs::read_to_string(format!("/proc/sys/net/{name}"));
        let is_low = present.is_ok_and(|text| text.trim().parse::<u32>().is_ok_and(|present| present < least));
        if is_low && let Err(error) = sysctl(&name, &least.to_string()) {
            tracing::debug!(%error, "the kernel remembers few hardware addresses");
        }
    }
}

/// Whether a device has an address that its network has no more. What the kernel gives by itself is left alone.
fn is_stale(address: &Address, index: u32, network: &NetworkSpec) -> bool {
    let by_itself = matches!(address.ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let wanted = network
        .subnets
        .iter()
        .any(|subnet| subnet.gateway == Some(address.ip) && subnet.cidr.prefix() == address.prefix);
    address.index == index && !by_itself && !wanted
}

/// A bridge's hardware address, from the network's id: always the same, so that containers need not learn it anew. One
/// that were not given would change with the devices that come and go.
fn hardware_address(id: &str) -> Mac {
    // FNV-1a: every bit of the id counts.
    let hash = id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_be_bytes();
    Mac([0x02, 0x42, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_steady_and_apart() {
        let of = |id: &str| hardware_address(id).to_string();
        assert_eq!(of("0123456789abcdef"), of("0123456789abcdef"));
        let ids = ["0123456789abcdef", "0123456789abcdee", "1123456789abcdef", "fedcba9876543210", "0101", "0202"];
        let all: std::collections::HashSet<String> = ids.iter().map(|id| of(id)).collect();
        assert_eq!(all.len(), ids.len());
        assert!(all.iter().all(|mac| mac.starts_with("02:42:")));
    }
}
