//! What can go wrong with networks.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::spec::Protocol;
use crate::{Cidr, PortMapping};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate: what was done to which thing, why it failed, and where there is one, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused.
    #[error("{action}: {}{}", text(*errno), Detail(detail.as_deref()))]
    Kernel {
        /// What was done, with the thing it was done to.
        action: String,
        /// The kernel's answer.
        errno: Errno,
        /// The kernel's explanation, where it gives one.
        detail: Option<String>,
    },
    /// A value cannot be used.
    #[error("{what} {value:?}: {why}")]
    Invalid {
        /// What it is for.
        what: &'static str,
        /// The value.
        value: String,
        /// Reason.
        why: String,
    },
    /// A port of the host leads to a container already.
    #[error("Bind for {}:{port} failed: port is already allocated", Host(*host))]
    PortAllocated {
        /// Address of the host.
        host: IpAddr,
        /// Port.
        port: u16,
        /// Protocol.
        protocol: Protocol,
    },
    /// A program of the host has the port.
    #[error("failed to bind host port {}:{port}/{protocol}: address already in use", Host(*host))]
    PortInUse {
        /// Address of the host.
        host: IpAddr,
        /// Port.
        port: u16,
        /// Protocol.
        protocol: Protocol,
    },
    /// The host has no such address to bind a port of.
    #[error("failed to bind host port {}:{port}/{protocol}: cannot assign requested address", Host(*host))]
    NoSuchHostAddress {
        /// Address asked for.
        host: IpAddr,
        /// Port.
        port: u16,
        /// Protocol.
        protocol: Protocol,
    },
    /// No port of a range is free.
    #[error("Bind for {} failed: all ports are allocated", Host(*host))]
    PortsExhausted {
        /// Address of the host.
        host: IpAddr,
    },
    /// An address of a network is taken.
    #[error("Address already in use: {0}")]
    AddressInUse(IpAddr),
    /// A network has no address left.
    #[error("no available {family} addresses on this network's address pools: {0}", family = family(.0))]
    AddressesExhausted(Cidr),
    /// An address lies outside of its network.
    #[error("Invalid address {address}: It does not belong to any of this network's subnets")]
    OutsideOfSubnet {
        /// The address.
        address: IpAddr,
    },
    /// A block of addresses has some in common with another network's.
    #[error("Pool overlaps with other one on this address space: {subnet} and {other}")]
    Overlap {
        /// The block asked for.
        subnet: Cidr,
        /// The other.
        other: Cidr,
    },
    /// Every block of the pools is taken.
    #[error(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
    )]
    PoolsExhausted,
    /// A file could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Several failures of one teardown.
    #[error("{}", Several(.0))]
    Several(Vec<Error>),
}

impl Error {
    /// Whether a port is held by another container or by a program of the host.
    pub fn is_port_conflict(&self) -> bool {
        matches!(self, Self::PortAllocated { .. } | Self::PortInUse { .. } | Self::PortsExhausted { .. })
    }

    /// The kernel's error number, where the kernel refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel { errno, .. } => Some(*errno),
            Self::File { source, .. } => Errno::from_io_error(source),
            _ => None,
        }
    }

    pub(crate) fn invalid(what: &'static str, value: impl fmt::Display, why: impl Into<String>) -> Self {
        Self::Invalid { what, value: value.to_string(), why: why.into() }
    }

    pub(crate) fn kernel(action: impl Into<String>, errno: Errno) -> Self {
        Self::Kernel { action: action.into(), errno, detail: None }
    }

    pub(crate) fn allocated(port: &PortMapping) -> Self {
        Self::PortAllocated { host: port.host, port: port.host_port, protocol: port.protocol }
    }

    /// One error of many: none, the one, or all.
    pub(crate) fn collect(mut errors: Vec<Self>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }
}

fn text(errno: Errno) -> String {
    gantry_sys::misc::error_text(errno.raw_os_error())
}

fn family(cidr: &Cidr) -> &'static str {
    if cidr.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// An address with a port behind it.
struct Host(IpAddr);

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "[{address}]"),
        }
    }
}

struct Detail<'a>(Option<&'a str>);

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |detail| write!(f, " ({detail})"))
    }
}

struct Several<'a>(&'a [Error]);

impl fmt::Display for Several<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}
