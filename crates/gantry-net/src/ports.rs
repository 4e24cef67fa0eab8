//! Ports of the host, held for containers.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::error::{Error, Result};
use crate::spec::Protocol;

/// Holds ports of the host by sockets that are bound to them. Threads may share it.
#[derive(Debug, Default)]
pub struct PortKeeper {}

/// A wish for a port of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRequest {
    /// Address of the host; the unspecified one is every address.
    pub host: IpAddr,
    /// The ports to choose from; none is any of 32768 to 60999.
    pub ports: Option<RangeInclusive<u16>>,
    /// Protocol.
    pub protocol: Protocol,
}

/// A port that is held, until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    host: IpAddr,
    port: u16,
    protocol: Protocol,
}

impl Reservation {
    /// Address of the host.
    pub fn host(&self) -> IpAddr {
        self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
}

impl PortKeeper {
    /// Holds nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds a port for each wish, all or none, in the order of the wishes.
    pub fn reserve(&self, _wishes: &[PortRequest]) -> Result<Vec<Reservation>> {
        Err(Error::invalid("port", "", "skeleton"))
    }
}
