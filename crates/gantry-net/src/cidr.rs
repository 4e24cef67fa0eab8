//! Blocks of addresses: a network address and how many of its bits count.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A block of addresses, such as `172.17.0.0/16`. Its address has no bits beyond the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The block of `prefix` bits that `address` lies in; `None` if the family has fewer bits.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= width(address)).then(|| Self::within(address, prefix))
    }

    /// The block of `prefix` bits, or of all that the family has, that `address` lies in.
    pub(crate) fn within(address: IpAddr, prefix: u8) -> Self {
        let prefix = prefix.min(width(address));
        let host = mask(width(address) - prefix);
        Self { address: from_number(to_number(address) & !host, address.is_ipv4()), prefix }
    }

    /// The block of one address.
    pub fn single(address: IpAddr) -> Self {
        Self { address, prefix: width(address) }
    }

    /// The network address, the first of the block.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits are the network's.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether its addresses are of version 4.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// The last address of the block: of version 4 the broadcast address.
    pub fn last(&self) -> IpAddr {
        from_number(to_number(self.address) | mask(width(self.address) - self.prefix), self.is_ipv4())
    }

    /// Whether an address lies in the block.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.is_ipv4() == address.is_ipv4() && self.address <= address && address <= self.last()
    }

    /// Whether a block lies in this one, or is it.
    pub fn covers(&self, other: &Self) -> bool {
        self.contains(other.address) && self.prefix <= other.prefix
    }

    /// Whether two blocks have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// The block of the same size that follows, if the family has one.
    pub fn next(&self) -> Option<Self> {
        next(self.last()).map(|address| Self { address, prefix: self.prefix })
    }
}

/// The address after this one.
pub(crate) fn next(address: IpAddr) -> Option<IpAddr> {
    let number = to_number(address).checked_add(1)?;
    (number <= mask(width(address))).then(|| from_number(number, address.is_ipv4()))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A number whose lowest bits are set.
fn mask(bits: u8) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn from_number(number: u128, ipv4: bool) -> IpAddr {
    if ipv4 { Ipv4Addr::from_bits(number as u32).into() } else { Ipv6Addr::from_bits(number).into() }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A text is no block of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no subnet: it takes an address, a slash and a number of bits, as 10.1.0.0/16")]
pub struct ParseCidrError(String);

impl FromStr for Cidr {
    type Err = ParseCidrError;

    /// Reads `ADDRESS/BITS`; bits of the address beyond the prefix are dropped.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let digits = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
            Self::new(address.parse().ok()?, prefix.parse().ok().filter(|_| digits)?)
        });
        parsed.ok_or_else(|| ParseCidrError(text.chars().take(64).collect()))
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(text.parse::<Cidr>().ok().map(|c| c.to_string()).as_deref(), expect, "{text}");
        };
        check("172.17.0.0/16", Some("172.17.0.0/16"));
        check("172.17.3.4/16", Some("172.17.0.0/16"));
        check("0.0.0.0/0", Some("0.0.0.0/0"));
        check("10.0.0.1/32", Some("10.0.0.1/32"));
        check("fd00:1::5/64", Some("fd00:1::/64"));
        check("::/0", Some("::/0"));
        check("10.0.0.0/33", None);
        check("fd00::/129", None);
        check("10.0.0.0", None);
        check("10.0.0.0/", None);
        check("10.0.0.0/+8", None);
        check("10.0.0/8", None);
        check("", None);
    }

    #[test]
    fn relations() {
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        let check = |a: &str, b: &str, overlap: bool, cover: bool| {
            assert_eq!(cidr(a).overlaps(&cidr(b)), overlap, "{a} {b}");
            assert_eq!(cidr(b).overlaps(&cidr(a)), overlap, "{b} {a}");
            assert_eq!(cidr(a).covers(&cidr(b)), cover, "{a} {b}");
        };
        check("10.0.0.0/8", "10.1.0.0/16", true, true);
        check("10.1.0.0/16", "10.0.0.0/8", true, false);
        check("10.1.0.0/16", "10.2.0.0/16", false, false);
        check("10.1.0.0/16", "10.1.0.0/16", true, true);
        check("0.0.0.0/0", "fd00::/8", false, false);
        check("fd00::/8", "fd00:1::/64", true, true);
        assert_eq!(cidr("172.17.0.0/16").last().to_string(), "172.17.255.255");
        assert_eq!(cidr("172.17.0.0/16").next(), Some(cidr("172.18.0.0/16")));
        assert_eq!(cidr("255.255.255.0/24").next(), None);
        assert_eq!(cidr("::/0").next(), None);
    }
}
