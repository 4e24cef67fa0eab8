//! Containers joined to bridges: one message for the pair of devices, one batch for what the namespace has of it.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::PoisonError;

use gantry_sys::netlink::{Batch, Refused};
use rustix::io::Errno;

use super::links::{self, Ends};
use super::{Net, Netns, bridges_are_filtered, refused, sysctl};
use crate::Mac;
use crate::error::{Error, Result};
use crate::plan::EndpointPlan;

/// How often other numbers are chosen for devices, when those that were chosen are somebody's.
const ATTEMPTS: usize = 4;

impl Net {
    /// Gives a namespace its devices. If one fails, none of them is left.
    pub fn attach(&self, netns: &Netns, endpoints: &[EndpointPlan]) -> Result<()> {
        self.pass_beside_others();
        let mut made = Vec::new();
        for endpoint in endpoints {
            match self.attach_one(netns, endpoint) {
                Ok(()) => made.push(endpoint.veth.as_str()),
                Err(error) => {
                    if !made.is_empty() {
                        let _ = self.remove_links(&made);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Takes one device from a namespace that goes on. Nothing there is no error. It waits for the kernel some 20 ms:
    /// when a namespace ends, [`super::remove_netns`] is enough.
    pub fn detach(&self, endpoint: &EndpointPlan) -> Result<()> {
        self.remove_links(&[&endpoint.veth])
    }

    fn attach_one(&self, netns: &Netns, endpoint: &EndpointPlan) -> Result<()> {
        let index = self.make_pair(netns, endpoint)?;
        let settled = settle(netns, endpoint, index + 1);
        if settled.is_err() {
            let _ = self.remove_links(&[&endpoint.veth]);
        }
        settled
    }

    /// Makes the pair of devices; returns the number of the host's end.
    fn make_pair(&self, netns: &Netns, endpoint: &EndpointPlan) -> Result<u32> {
        let action = || format!("join {} to bridge {}", endpoint.interface, endpoint.bridge);
        for attempt in 1.. {
            let bridge = self.bridge(&endpoint.bridge)?;
            let index = self.indexes();
            let (mtu, hairpin) = (bridge.mtu, bridges_are_filtered());
            let ends = Ends { index, bridge: bridge.index, mtu, hairpin, netns: netns.as_fd() };
            let mut batch = Batch::new();
            links::add_veth(&mut batch, endpoint, ends);
            let refusals = self.submit(&mut batch, &action())?;
            let Some(first) = refusals.first() else { return Ok(index) };
            if first.index > 0 {
                // The pair is there, and only its flags are not.
                let _ = self.remove_links(&[&endpoint.veth]);
            }
            if first.errno == Errno::XFULL {
                let why = "it has as many containers as the kernel allows, which is 1023; add another network";
                return Err(Error::invalid("bridge", &endpoint.bridge, why));
            }
            if attempt == ATTEMPTS || !self.can_differ(first, &endpoint.bridge)? {
                return Err(refused(action(), first));
            }
        }
        Err(Error::kernel(action(), Errno::EXIST))
    }

    /// Whether another attempt can end otherwise: the numbers were somebody's, or the bridge is not what it was.
    fn can_differ(&self, refused: &Refused, bridge: &str) -> Result<bool> {
        match refused.errno {
            Errno::EXIST | Errno::BUSY => self.other_indexes().map(|()| true),
            Errno::NODEV | Errno::INVAL => {
                let mut known = self.bridges.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(known.remove(bridge).is_some())
            }
            _ => Ok(false),
        }
    }
}

/// Brings a device in the namespace up, and gives it its addresses and routes.
fn settle(netns: &Netns, endpoint: &EndpointPlan, index: u32) -> Result<()> {
    let name = &endpoint.interface;
    if endpoint.addresses.iter().any(|(address, _)| address.is_ipv6()) {
        netns.enter(|| sysctl(&format!("ipv6/conf/{name}/disable_ipv6"), "0"))?;
    }
    // Who remembers the hardware address of a former holder must be told; most have one that goes with the address.
    let told = |address: &IpAddr| matches!(address, IpAddr::V4(ip) if Mac::of_ipv4(*ip) != endpoint.mac);
    if endpoint.addresses.iter().any(|(address, _)| told(address)) {
        netns.enter(|| sysctl(&format!("ipv4/conf/{name}/arp_notify"), "1"))?;
    }
    let mut batch = Batch::new();
    links::raise(&mut batch, index);
    for &(address, prefix) in &endpoint.addresses {
        links::add_address(&mut batch, index, address, prefix);
    }
    for &gateway in &endpoint.gateways {
        links::add_default_route(&mut batch, index, gateway);
    }
    let refusals = netns.with_route(|channel| channel.submit(&mut batch))?;
    refusals.first().map_or(Ok(()), |first| Err(refused(format!("give addresses and routes to {name}"), first)))
}
