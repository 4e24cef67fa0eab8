//! Blocks of addresses for networks that ask for none.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::{Cidr, Subnet};

/// A block that is cut into blocks of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// The whole.
    pub base: Cidr,
    /// Bits of the network's part of each piece.
    pub size: u8,
}

/// Where networks get their blocks from, in the order of preference.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Pools(pub Vec<Pool>);

impl Default for Pools {
    /// Docker's pools in Docker's order, which make 31 networks, and then smaller blocks: 256 of the sixteenth that Docker
    /// leaves out, and 65,536 of `10.0.0.0/8`.
    fn default() -> Self {
        let pool = |a, b, prefix, size| Pool { base: Cidr::within(Ipv4Addr::new(a, b, 0, 0).into(), prefix), size };
        let large = (17..32).map(|b| pool(172, b, 16, 16));
        let small = [pool(192, 168, 16, 20), pool(172, 16, 16, 24), pool(10, 0, 8, 24)];
        Self(large.chain(small).collect())
    }
}

impl Pool {
    /// The IPv6 addresses that a host has for itself (RFC 4193), by 40 bits that are random, and always the same for one
    /// host; it makes 65,536 networks.
    pub fn unique_local(random: [u8; 5]) -> Self {
        let mut bytes = [0; 16];
        bytes[0] = 0xfd;
        bytes[1..6].copy_from_slice(&random);
        Self { base: Cidr::within(Ipv6Addr::from(bytes).into(), 48), size: 64 }
    }
}

impl Pools {
    /// Refuses pools that cannot be cut as they ask.
    pub fn check(&self) -> Result<()> {
        for pool in &self.0 {
            let most = if pool.base.is_ipv4() { 30 } else { 126 };
            if pool.size < pool.base.prefix() || pool.size > most {
                let why = format!("cannot be cut into blocks of {} bits", pool.size);
                return Err(Error::invalid("address pool", pool.base, why));
            }
        }
        Ok(())
    }

    /// The first block of a family that has nothing in common with any of those that are taken: other networks', and
    /// whatever the host has addresses in or routes to. Its first address is the gateway.
    pub fn choose(&self, ipv4: bool, taken: &[Cidr]) -> Result<Subnet> {
        let mut pools = self.0.iter().filter(|pool| pool.base.is_ipv4() == ipv4);
        let cidr = pools.find_map(|pool| first_free(*pool, taken)).ok_or(Error::PoolsExhausted)?;
        Ok(Subnet { cidr, gateway: first_address(&cidr), ip_range: None, aux: BTreeMap::new() })
    }
}

/// The first piece of a pool that overlaps nothing that is taken.
fn first_free(pool: Pool, taken: &[Cidr]) -> Option<Cidr> {
    let mut taken: Vec<&Cidr> = taken.iter().filter(|cidr| cidr.overlaps(&pool.base)).collect();
    // By their first addresses, so that what has been passed need not be looked at again.
    taken.sort_unstable();
    let mut piece = Cidr::new(pool.base.address(), pool.size)?;
    for cidr in taken {
        if piece.last() < cidr.address() {
            break;
        }
        if piece.overlaps(cidr) {
            piece = Cidr::new(cidr.last().max(piece.last()), pool.size)?.next()?;
        }
    }
    pool.base.covers(&piece).then_some(piece)
}

/// The address after the network's own.
pub(super) fn first_address(cidr: &Cidr) -> Option<IpAddr> {
    crate::cidr::next(cidr.address()).filter(|address| cidr.contains(*address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn choice() {
        let check = |taken: &[&str], expect: &str| {
            let subnet = Pools::default().choose(true, &cidrs(taken)).unwrap();
            assert_eq!(subnet.cidr.to_string(), expect, "{taken:?}");
            assert_eq!(subnet.gateway, first_address(&subnet.cidr));
        };
        check(&[], "172.17.0.0/16");
        check(&["172.17.0.0/16"], "172.18.0.0/16");
        check(&["172.17.3.0/24", "172.18.0.1/32"], "172.19.0.0/16");
        check(&["172.16.0.0/12"], "192.168.0.0/20");
        check(&["172.16.0.0/12", "192.168.0.0/24"], "192.168.16.0/20");
        check(&["172.16.0.0/12", "192.168.0.0/19", "192.168.33.0/24"], "192.168.48.0/20");
        check(&["172.16.0.0/12", "192.168.0.0/16"], "10.0.0.0/24");
        check(&["172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/9", "10.128.0.7/32"], "10.128.1.0/24");
        check(&["172.17.0.0/16", "fd00::/8"], "172.18.0.0/16");
    }

    #[test]
    fn many_networks_are_apart() {
        let mut taken = cidrs(&["10.0.0.0/16", "192.168.1.0/24"]);
        for _ in 0..1000 {
            let subnet = Pools::default().choose(true, &taken).unwrap();
            assert!(taken.iter().all(|other| !other.overlaps(&subnet.cidr)), "{}", subnet.cidr);
            taken.push(subnet.cidr);
        }
    }

    #[test]
    fn ipv6() {
        let pools = Pools(vec![Pool::unique_local([1, 2, 3, 4, 5])]);
        pools.check().unwrap();
        let check = |taken: &[&str], expect: &str| {
            let subnet = pools.choose(false, &cidrs(taken)).unwrap();
            assert_eq!((subnet.cidr.to_string().as_str(), subnet.gateway), (expect, first_address(&subnet.cidr)));
        };
        check(&["10.0.0.0/8"], "fd01:203:405::/64");
        check(&["fd01:203:405::/64", "fd01:203:405:1::7/128"], "fd01:203:405:2::/64");
    }

    #[test]
    fn exhaustion() {
        let pool = Pools(vec![Pool { base: "10.0.0.0/23".parse().unwrap(), size: 24 }]);
        assert!(pool.choose(true, &cidrs(&["10.0.0.0/24"])).is_ok());
        assert!(matches!(pool.choose(true, &cidrs(&["10.0.0.0/24", "10.0.1.9/32"])), Err(Error::PoolsExhausted)));
        assert!(matches!(pool.choose(false, &[]), Err(Error::PoolsExhausted)));
        assert!(matches!(pool.choose(true, &cidrs(&["0.0.0.0/0"])), Err(Error::PoolsExhausted)));
        assert!(pool.check().is_ok());
        assert!(Pools(vec![Pool { base: "10.0.0.0/23".parse().unwrap(), size: 22 }]).check().is_err());
        assert!(Pools(vec![Pool { base: "10.0.0.0/23".parse().unwrap(), size: 31 }]).check().is_err());
        assert!(Pools::default().check().is_ok());
    }
}
