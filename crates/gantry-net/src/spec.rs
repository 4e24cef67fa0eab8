//! What is asked for: networks, the places of containers in them, ports of the host that lead to containers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Cidr;

/// A block of addresses of a network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subnet {
    /// The whole block.
    pub cidr: Cidr,
    /// Address of the bridge in it; none for a network that the host has no address in.
    pub gateway: Option<IpAddr>,
    /// The part from which addresses are handed out unasked; none is all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<Cidr>,
    /// Addresses that are somebody else's, by whatever names they have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aux: BTreeMap<String, IpAddr>,
}

/// A network whose containers are joined by a bridge.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSpec {
    /// Id, hexadecimal.
    pub id: String,
    /// Name, as people gave it.
    pub name: String,
    /// Name of the bridge device; see [`crate::Names::bridge`].
    pub bridge: String,
    /// Its addresses; at most one block of each family is used.
    pub subnets: Vec<Subnet>,
    /// Whether there is no way in or out.
    #[serde(default)]
    pub internal: bool,
    /// Whether its containers reach each other.
    #[serde(default = "yes")]
    pub icc: bool,
    /// Whether what leaves it has the host's address.
    #[serde(default = "yes")]
    pub masquerade: bool,
    /// Largest packet in bytes; none is that of the host's way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

const fn yes() -> bool {
    true
}

impl NetworkSpec {
    /// The block of a family.
    pub fn subnet(&self, ipv4: bool) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.cidr.is_ipv4() == ipv4)
    }
}

/// A container's place in a network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Id, hexadecimal and random: the device on the host's side is named after its beginning.
    pub id: String,
    /// Name of the device in the container, as `eth0`.
    pub interface: String,
    /// Its hardware address.
    pub mac: Mac,
    /// Its addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Whether the container's default routes lead through this network. One endpoint of a container has it.
    #[serde(default)]
    pub gateway: bool,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission control protocol.
    Tcp,
    /// User datagram protocol.
    Udp,
}

impl Protocol {
    /// Its number in the header of a packet.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the host that leads to one of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Address of the host; the unspecified one is every address of the host.
    pub host: IpAddr,
    /// Port of the host.
    pub host_port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Address of the container, of the same family.
    pub target: IpAddr,
    /// Port of the container.
    pub target_port: u16,
}

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address that Docker gives to the holder of an IPv4 address: `02:42` and its four bytes.
    pub fn of_ipv4(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// A locally administered address of random bytes.
    pub fn of_random(mut bytes: [u8; 6]) -> Self {
        bytes[0] = bytes[0] & 0xfc | 0x02;
        Self(bytes)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl FromStr for Mac {
    type Err = crate::Error;

    /// Reads six numbers of two hexadecimal digits, with colons or hyphens between them. An address of many receivers,
    /// or none, is refused.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |why| crate::Error::invalid("hardware address", text, why);
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).unwrap_or_default();
            *byte = u8::from_str_radix(part, 16)
                .ok()
                .filter(|_| part.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or_else(|| invalid("it takes six bytes, as 02:42:ac:11:00:02"))?;
        }
        if parts.next().is_some() {
            return Err(invalid("it takes six bytes, as 02:42:ac:11:00:02"));
        }
        if bytes[0] & 1 != 0 || bytes == [0; 6] {
            return Err(invalid("it is not the address of one device"));
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(text.parse::<Mac>().ok().map(|mac| mac.to_string()).as_deref(), expect, "{text}");
        };
        check("02:42:ac:11:00:02", Some("02:42:ac:11:00:02"));
        check("02-42-AC-11-00-02", Some("02:42:ac:11:00:02"));
        check("02:42:ac:11:00", None);
        check("02:42:ac:11:00:02:03", None);
        check("02:42:ac:11:00:+2", None);
        check("03:42:ac:11:00:02", None);
        check("00:00:00:00:00:00", None);
        assert_eq!(Mac::of_ipv4(Ipv4Addr::new(172, 17, 0, 2)).to_string(), "02:42:ac:11:00:02");
        assert_eq!(Mac::of_random([0xff; 6]).to_string(), "fe:ff:ff:ff:ff:ff");
    }
}
