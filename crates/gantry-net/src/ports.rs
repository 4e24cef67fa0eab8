//! Ports of the host, held for containers.
//!
//! The kernel sends what is for a published port to the container before any program of the host could see it, so a
//! published port needs no program. But nothing would keep two from believing that they have it. So each port is held by
//! a socket that is bound to it: whoever else tries gets the kernel's refusal, and so do we if we come too late.
//!
//! - TCP: the socket listens, since only such a port is refused to others for certain while connections of its former
//!   owner fade. What connects before the port is published waits in vain: publish at once.
//! - UDP: the socket is bound, with the smallest buffer that there is.
//!
//! The kernel cannot translate from IPv6 to IPv4, nor send on what comes to `::1`. What it leaves to the socket that
//! holds the port, a [relay](Reservation::relay) passes on.
//!
//! An engine that comes back holds its ports anew. The rules have led to the containers all the time; the relays have
//! not, and who connects to them meanwhile is refused at once and goes on to try IPv4.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::error::{Error, Result};
use crate::relay::Relay;
use crate::spec::Protocol;

/// The ports to choose from when none is asked for; Linux gives out the same.
const EPHEMERAL: RangeInclusive<u16> = 32768..=60999;

/// Holds ports of the host, of the network namespace of the threads that use it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PortKeeper {
    held: Arc<Mutex<Held>>,
}

/// Which ports are held.
#[derive(Debug, Default)]
struct Held {
    /// Addresses of the host by protocol and port.
    addresses: BTreeMap<(Protocol, u16), Vec<IpAddr>>,
    /// The last port that was chosen.
    last: Option<u16>,
}

/// A wish for a port of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRequest {
    /// Addresses of the host, which all get the same port; an unspecified one is every address of its family.
    pub hosts: Vec<IpAddr>,
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
    held: Arc<Mutex<Held>>,
    socket: Option<OwnedFd>,
    relay: Option<Relay>,
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

    /// Has what the kernel leaves to the port passed on to `target`, until this is closed or dropped; another call changes
    /// where new connections go. To be called within a tokio runtime.
    pub fn relay(&mut self, target: SocketAddr) -> Result<()> {
        if let Some(relay) = &self.relay {
            relay.set_target(target);
        }
        let Some(socket) = self.socket.take() else { return Ok(()) };
        let relay = Relay::start(socket, self.protocol, target).map_err(|error| {
            let what = format!("listen at host port {}/{}", SocketAddr::new(self.host, self.port), self.protocol);
            Error::kernel(what, Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })?;
        self.relay = Some(relay);
        Ok(())
    }

    /// Gives the port back, and waits until it can be had again, which is some microseconds. Not to be called where the
    /// relay's runtime cannot go on meanwhile; dropping it is the same without waiting.
    pub fn close(mut self) {
        if let Some(relay) = self.relay.take() {
            relay.end();
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        drop(self.socket.take());
        let mut held = lock(&self.held);
        let key = (self.protocol, self.port);
        if let Some(addresses) = held.addresses.get_mut(&key) {
            addresses.retain(|address| *address != self.host);
            if addresses.is_empty() {
                held.addresses.remove(&key);
            }
        }
    }
}

impl PortKeeper {
    /// Holds nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds a port for each wish, all or none, in the order of the wishes and of the addresses in them.
    pub fn reserve(&self, wishes: &[PortRequest]) -> Result<Vec<Reservation>> {
        let mut held = Vec::new();
        for wish in wishes {
            held.extend(self.reserve_one(wish)?);
        }
        Ok(held)
    }

    /// Whether the host has IPv6: a kernel may lack it, or have it turned off.
    pub fn has_ipv6() -> bool {
        bind(Ipv6Addr::LOCALHOST.into(), 0, Protocol::Udp).is_ok()
    }

    fn reserve_one(&self, wish: &PortRequest) -> Result<Vec<Reservation>> {
        let candidates: Vec<u16> = match &wish.ports {
            Some(ports) if ports.is_empty() || *ports.start() == 0 => {
                let text = format!("{}-{}", ports.start(), ports.end());
                return Err(Error::invalid("host ports", text, "a range takes a first port, from 1, and a last"));
            }
            Some(ports) => ports.clone().collect(),
            None => from(lock(&self.held).last),
        };
        let mut first = None;
        for &port in &candidates {
            match self.try_port(wish, port) {
                Ok(reservations) => {
                    if wish.ports.is_none() {
                        lock(&self.held).last = Some(port);
                    }
                    return Ok(reservations);
                }
                Err(error) if error.is_port_conflict() => drop(first.get_or_insert(error)),
                Err(error) => return Err(error),
            }
        }
        let host = wish.hosts.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        Err(first.filter(|_| candidates.len() == 1).unwrap_or(Error::PortsExhausted { host }))
    }

    /// Holds a port at each address, or at none.
    fn try_port(&self, wish: &PortRequest, port: u16) -> Result<Vec<Reservation>> {
        wish.hosts.iter().map(|host| self.try_address(*host, port, wish.protocol)).collect()
    }

    fn try_address(&self, host: IpAddr, port: u16, protocol: Protocol) -> Result<Reservation> {
        let mut held = lock(&self.held);
        let taken = held.addresses.get(&(protocol, port));
        if taken.is_some_and(|taken| taken.iter().any(|&other| conflict(host, other))) {
            return Err(Error::PortAllocated { host, port, protocol });
        }
        let socket = bind(host, port, protocol).map_err(|errno| refused(errno, host, port, protocol))?;
        held.addresses.entry((protocol, port)).or_default().push(host);
        Ok(Reservation { host, port, protocol, held: Arc::clone(&self.held), socket: Some(socket), relay: None })
    }
}

/// All ephemeral ports, those after the last chosen one first: one that was given back is not used again at once.
fn from(last: Option<u16>) -> Vec<u16> {
    let start = last.filter(|last| last < EPHEMERAL.end()).map_or(*EPHEMERAL.start(), |last| last + 1);
    (start..=*EPHEMERAL.end()).chain(*EPHEMERAL.start()..start).collect()
}

/// Whether a port can not be had at both addresses.
fn conflict(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
}

fn refused(errno: Errno, host: IpAddr, port: u16, protocol: Protocol) -> Error {
    match errno {
        Errno::ADDRINUSE => Error::PortInUse { host, port, protocol },
        Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT => Error::NoSuchHostAddress { host, port, protocol },
        _ => Error::kernel(format!("bind host port {}/{protocol}", SocketAddr::new(host, port)), errno),
    }
}

/// A socket that is bound to a port, and keeps others from it.
fn bind(host: IpAddr, port: u16, protocol: Protocol) -> rustix::io::Result<OwnedFd> {
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let family = if host.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if host.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(host, port))?;
    match protocol {
        Protocol::Tcp => rustix::net::listen(&socket, 0)?,
        Protocol::Udp => sockopt::set_socket_recv_buffer_size(&socket, 1)?,
    }
    Ok(socket)
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts() {
        let check = |a: &str, b: &str, expect: bool| {
            assert_eq!(conflict(a.parse().unwrap(), b.parse().unwrap()), expect, "{a} {b}");
            assert_eq!(conflict(b.parse().unwrap(), a.parse().unwrap()), expect, "{b} {a}");
        };
        check("0.0.0.0", "0.0.0.0", true);
        check("0.0.0.0", "127.0.0.1", true);
        check("10.0.0.1", "127.0.0.1", false);
        check("0.0.0.0", "::", false);
        check("::", "::1", true);
        check("fd00::1", "::1", false);
    }

    #[test]
    fn ephemeral_ports_go_round() {
        let first = |last| from(last)[0];
        assert_eq!(first(None), 32768);
        assert_eq!(first(Some(40000)), 40001);
        assert_eq!(first(Some(60999)), 32768);
        assert_eq!(from(Some(40000)).len(), EPHEMERAL.len());
        assert_eq!(from(Some(40000)).last(), Some(&40000));
    }
}
