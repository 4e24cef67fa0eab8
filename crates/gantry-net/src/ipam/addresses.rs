//! The addresses of one subnet: which are taken, and which is next.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::cidr::next;
use crate::error::{Error, Result};
use crate::{Cidr, Subnet};

/// How many addresses that were given back are left alone for a while: whoever remembers a container's address should
/// not reach another container by it.
const RECENT: usize = 16;

/// Which addresses of a subnet are taken.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Addresses {
    subnet: Subnet,
    /// Containers' addresses; those that the subnet itself reserves are not among them.
    taken: BTreeSet<IpAddr>,
    /// Addresses given back, the newest last.
    #[serde(default)]
    recent: VecDeque<IpAddr>,
}

impl Addresses {
    /// A subnet with nothing taken. Refused are a gateway, a range or other addresses outside of it, and a subnet
    /// without room for a container.
    pub fn new(subnet: Subnet) -> Result<Self> {
        let cidr = subnet.cidr;
        let outside = |address| Error::OutsideOfSubnet { address };
        if cidr.prefix() > if cidr.is_ipv4() { 31 } else { 127 } {
            return Err(Error::invalid("subnet", cidr, "it has no room for a container"));
        }
        for &address in subnet.gateway.iter().chain(subnet.aux.values()) {
            if !cidr.contains(address) {
                return Err(outside(address));
            }
        }
        match subnet.ip_range {
            Some(range) if !cidr.covers(&range) => return Err(outside(range.address())),
            _ => {}
        }
        Ok(Self { subnet, taken: BTreeSet::new(), recent: VecDeque::new() })
    }

    /// The subnet.
    pub fn subnet(&self) -> &Subnet {
        &self.subnet
    }

    /// The addresses that containers have.
    pub fn taken(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.taken.iter().copied()
    }

    /// Takes the lowest address that is free, of the subnet's range if it has one. Addresses that were given back lately
    /// come last, the oldest first.
    pub fn take(&mut self) -> Result<IpAddr> {
        let found = self.free().find(|address| !self.recent.contains(address)).or_else(|| {
            let range = self.range();
            self.recent.iter().copied().find(|&address| range.contains(address) && self.is_free(address))
        });
        let address = found.ok_or(Error::AddressesExhausted(self.range()))?;
        self.insert(address);
        Ok(address)
    }

    /// Takes an address that was asked for; it need not lie in the subnet's range.
    pub fn take_this(&mut self, address: IpAddr) -> Result<()> {
        if !self.subnet.cidr.contains(address) {
            return Err(Error::OutsideOfSubnet { address });
        }
        if !self.is_free(address) {
            return Err(Error::AddressInUse(address));
        }
        self.insert(address);
        Ok(())
    }

    /// Gives an address back; of no effect if it is not taken.
    pub fn release(&mut self, address: IpAddr) {
        if self.taken.remove(&address) {
            self.recent.push_back(address);
            if self.recent.len() > RECENT {
                self.recent.pop_front();
            }
        }
    }

    fn insert(&mut self, address: IpAddr) {
        self.recent.retain(|&recent| recent != address);
        self.taken.insert(address);
    }

    fn range(&self) -> Cidr {
        self.subnet.ip_range.unwrap_or(self.subnet.cidr)
    }

    /// Addresses of the range that are free, the lowest first.
    fn free(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let range = self.range();
        let mut taken = self.taken.range(range.address()..).copied().peekable();
        std::iter::successors(Some(range.address()), |&address| next(address))
            .take_while(move |&address| range.contains(address))
            .filter(move |&address| {
                let is_taken = taken.peek() == Some(&address);
                if is_taken {
                    taken.next();
                }
                !is_taken && !self.is_reserved(address)
            })
    }

    fn is_free(&self, address: IpAddr) -> bool {
        !self.taken.contains(&address) && !self.is_reserved(address)
    }

    /// Whether an address is the network's own, the broadcast address, the gateway's or somebody else's. A block of two
    /// addresses has neither of the former (RFC 3021).
    fn is_reserved(&self, address: IpAddr) -> bool {
        let cidr = self.subnet.cidr;
        let ends = cidr.is_ipv4() && cidr.prefix() < 31 && address == cidr.last()
            || cidr.address() == address && !(cidr.is_ipv4() && cidr.prefix() == 31);
        ends || self.subnet.gateway == Some(address) || self.subnet.aux.values().any(|&aux| aux == address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(cidr: &str, gateway: &str, range: Option<&str>, aux: &[&str]) -> Result<Addresses> {
        Addresses::new(Subnet {
            cidr: cidr.parse().unwrap(),
            gateway: Some(gateway.parse().unwrap()),
            ip_range: range.map(|range| range.parse().unwrap()),
            aux: aux.iter().map(|text| ((*text).to_owned(), text.parse().unwrap())).collect(),
        })
    }

    fn taken(addresses: &mut Addresses, count: usize) -> String {
        let one = |addresses: &mut Addresses| addresses.take().map_or_else(|_| "none".to_owned(), |a| a.to_string());
        (0..count).map(|_| one(addresses)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn lowest_first() {
        let check = |cidr: &str, gateway: &str, range: Option<&str>, aux: &[&str], expect: &str| {
            let mut addresses = addresses(cidr, gateway, range, aux).unwrap();
            assert_eq!(taken(&mut addresses, expect.split(' ').count()), expect, "{cidr}");
        };
        check("172.17.0.0/16", "172.17.0.1", None, &[], "172.17.0.2 172.17.0.3 172.17.0.4");
        check("10.0.0.0/29", "10.0.0.1", None, &["10.0.0.3"], "10.0.0.2 10.0.0.4 10.0.0.5 10.0.0.6 none");
        check("10.0.0.0/29", "10.0.0.6", None, &[], "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 none");
        check("10.0.0.0/24", "10.0.0.1", Some("10.0.0.128/31"), &[], "10.0.0.128 10.0.0.129 none");
        check("10.0.0.0/31", "10.0.0.0", None, &[], "10.0.0.1 none");
        check("fd00::/64", "fd00::1", None, &[], "fd00::2 fd00::3");
        check("255.255.255.252/30", "255.255.255.253", None, &[], "255.255.255.254 none");
    }

    #[test]
    fn asked_for_and_given_back() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut a = addresses("10.0.0.0/28", "10.0.0.1", None, &[]).unwrap();
        a.take_this(ip("10.0.0.3")).unwrap();
        assert!(matches!(a.take_this(ip("10.0.0.3")), Err(Error::AddressInUse(_))));
        assert!(matches!(a.take_this(ip("10.0.0.1")), Err(Error::AddressInUse(_))));
        assert!(matches!(a.take_this(ip("10.0.0.15")), Err(Error::AddressInUse(_))));
        assert!(matches!(a.take_this(ip("10.0.1.0")), Err(Error::OutsideOfSubnet { .. })));
        assert_eq!(taken(&mut a, 2), "10.0.0.2 10.0.0.4");
        // What was given back is not used at once, unless there is nothing else; then the oldest.
        a.release(ip("10.0.0.2"));
        a.release(ip("10.0.0.3"));
        a.release(ip("10.0.0.9"));
        let text = serde_json::to_string(&a).unwrap();
        let mut a: Addresses = serde_json::from_str(&text).unwrap();
        assert_eq!(taken(&mut a, 4), "10.0.0.5 10.0.0.6 10.0.0.7 10.0.0.8");
        assert_eq!(taken(&mut a, 6), "10.0.0.9 10.0.0.10 10.0.0.11 10.0.0.12 10.0.0.13 10.0.0.14");
        assert_eq!(taken(&mut a, 3), "10.0.0.2 10.0.0.3 none");
        a.release(ip("10.0.0.2"));
        a.take_this(ip("10.0.0.2")).unwrap();
    }

    #[test]
    fn refusals() {
        assert!(addresses("10.0.0.0/24", "10.0.1.1", None, &[]).is_err());
        assert!(addresses("10.0.0.0/24", "10.0.0.1", Some("10.0.0.0/23"), &[]).is_err());
        assert!(addresses("10.0.0.0/24", "10.0.0.1", None, &["10.0.1.1"]).is_err());
        assert!(addresses("10.0.0.1/32", "10.0.0.1", None, &[]).is_err());
    }
}
