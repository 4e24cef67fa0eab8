//! Connections that the kernel remembers, as far as they must be forgotten (nfnetlink_conntrack.h).
//!
//! A datagram goes where those before it between the same addresses and ports went. When a port is published, or leads to
//! another container, what is remembered of the port would send datagrams astray for as long as they keep coming.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gantry_sys::netlink::{Batch, Channel, Subsystem, attributes};
use rustix::io::Errno;

use super::links::{self, ip};
use super::{failed, refused};
use crate::PortMapping;
use crate::error::{Error, Result};
use crate::nft::{header, number};
use crate::plan::Family;
use crate::spec::Protocol;

const CTNETLINK_GET: u16 = 1 << 8 | 1;
const CTNETLINK_NEW: u16 = 1 << 8;
const CTNETLINK_DELETE: u16 = 1 << 8 | 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_FILTER: u16 = 25;

/// The most connections that are forgotten at once.
const MOST: usize = 65536;

/// A connection that is remembered.
#[derive(Debug)]
struct Connection {
    /// Where its first packet was sent.
    to: IpAddr,
    port: u16,
    /// Whose answers belong to it.
    answers: IpAddr,
    /// How the kernel names it.
    original: Vec<u8>,
    zone: Option<Vec<u8>>,
}

/// Ports whose datagrams are to be forgotten. The kernel takes some 10 ms to look through what it remembers, so nobody
/// waits for it: a thread does it, which ends when there is nothing more to do.
#[derive(Debug, Default)]
pub struct Forgetting {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    ports: Vec<PortMapping>,
    /// Whether there is a thread.
    busy: bool,
}

impl Forgetting {
    /// Has the datagrams to ports forgotten soon, in the calling thread's network namespace.
    pub fn add(&self, ports: &[PortMapping]) {
        let mut queue = lock(&self.queue);
        queue.ports.extend(ports.iter().filter(|port| port.protocol == Protocol::Udp));
        if queue.ports.is_empty() || queue.busy {
            return;
        }
        let shared = Arc::clone(&self.queue);
        match std::thread::Builder::new().name("conntrack".to_owned()).spawn(move || work(&shared)) {
            Ok(_) => queue.busy = true,
            // The next one tries again.
            Err(error) => tracing::warn!(%error, "no thread to forget connections of published ports"),
        }
    }
}

fn work(queue: &Mutex<Queue>) {
    loop {
        let mut locked = lock(queue);
        let ports = std::mem::take(&mut locked.ports);
        locked.busy = !ports.is_empty();
        drop(locked);
        if ports.is_empty() {
            return;
        }
        if let Err(error) = forget(&ports) {
            tracing::debug!(%error, "connections of published ports are not forgotten");
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets the datagrams to published ports.
fn forget(ports: &[PortMapping]) -> Result<()> {
    let open = |subsystem| Channel::new(subsystem).map_err(|error| failed("open netlink", &error));
    let local = links::addresses(&mut open(Subsystem::Route)?).map_err(|error| failed("list addresses", &error))?;
    let local: HashSet<IpAddr> = local.into_iter().map(|address| address.ip).collect();
    let mut channel = open(Subsystem::Netfilter)?;
    let mut errors = Vec::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        let ports: Vec<_> = ports.iter().filter(|port| Family::of(port.host) == family).collect();
        if ports.is_empty() {
            continue;
        }
        let is_stale = |connection: &Connection| {
            let to_host = local.contains(&connection.to) || connection.to.is_loopback();
            ports.iter().any(|port| {
                let to_port = port.host == connection.to || port.host.is_unspecified() && to_host;
                port.host_port == connection.port && (to_port || connection.answers == port.target)
            })
        };
        errors.extend(forget_those(&mut channel, family, &ports, &is_stale).err());
    }
    Error::collect(errors)
}

fn forget_those(
    channel: &mut Channel,
    family: Family,
    ports: &[&PortMapping],
    is_stale: &dyn Fn(&Connection) -> bool,
) -> Result<()> {
    let mut stale = Vec::new();
    // One port can be told to the kernel, which then lists little; a kernel before 5.8 lists all the same.
    let only = match ports {
        [port] => filter(port.host_port),
        _ => Vec::new(),
    };
    let only: Vec<(u16, &[u8])> = only.iter().map(|(kind, value)| (*kind, value.as_slice())).collect();
    let listed = channel.list(CTNETLINK_GET, &header(number(family), 0), &only, &mut || (), &mut |kind, payload| {
        if kind == CTNETLINK_NEW && stale.len() < MOST {
            stale.extend(parse(payload).filter(|connection| is_stale(connection)));
        }
    });
    listed.map_err(|error: io::Error| failed("list connections", &error))?;
    if stale.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new();
    for connection in &stale {
        batch.push(CTNETLINK_DELETE, 0, &header(number(family), 0), |body| {
            body.nest(CTA_TUPLE_ORIG, |body| body.raw(&connection.original));
            if let Some(zone) = &connection.zone {
                body.put(CTA_ZONE, zone);
            }
        });
    }
    let refusals = channel.submit(&mut batch).map_err(|error| failed("forget connections", &error))?;
    let other = refusals.iter().find(|refusal| refusal.errno != Errno::NOENT);
    other.map_or(Ok(()), |refusal| Err(refused("forget connections", refusal)))
}

/// Attributes that narrow a list to datagrams that were sent to a port.
fn filter(port: u16) -> Vec<(u16, Vec<u8>)> {
    const NESTED: u16 = 0x8000;
    const CTA_FILTER_ORIG_FLAGS: u16 = 1;
    const CTA_FILTER_REPLY_FLAGS: u16 = 2;
    const PROTO_NUM: u32 = 1 << 3;
    const PROTO_DST_PORT: u32 = 1 << 5;
    let mut original = Batch::new();
    // The body of a message is used for its attributes alone.
    original.push(0, 0, &[], |body| {
        body.nest(CTA_TUPLE_PROTO, |body| {
            body.put(CTA_PROTO_NUM, &[17]).put(CTA_PROTO_DST_PORT, &port.to_be_bytes());
        });
    });
    let mut flags = Batch::new();
    flags.push(0, 0, &[], |body| {
        body.number(CTA_FILTER_ORIG_FLAGS, PROTO_NUM | PROTO_DST_PORT).number(CTA_FILTER_REPLY_FLAGS, 0);
    });
    vec![(CTA_TUPLE_ORIG | NESTED, original.attributes().to_vec()), (CTA_FILTER | NESTED, flags.attributes().to_vec())]
}

/// A connection of datagrams; `None` for any other, or if the message is not whole.
fn parse(payload: &[u8]) -> Option<Connection> {
    let rest = payload.get(4..)?;
    let find = |wanted: u16| attributes(rest).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let original = find(CTA_TUPLE_ORIG)?;
    let (_, to, port) = tuple(original)?;
    let (answers, _, _) = tuple(find(CTA_TUPLE_REPLY)?)?;
    let zone = find(CTA_ZONE).map(<[u8]>::to_vec);
    Some(Connection { to, port, answers, original: original.to_vec(), zone })
}

/// Source, destination and destination port of datagrams.
fn tuple(bytes: &[u8]) -> Option<(IpAddr, IpAddr, u16)> {
    let find = |wanted: u16| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let mut addresses = attributes(find(CTA_TUPLE_IP)?).filter_map(|(kind, value)| Some((kind, ip(value)?)));
    // Sources have odd numbers, destinations even ones.
    let (mut from, mut to) = (None, None);
    for (kind, address) in &mut addresses {
        *(if kind % 2 == 1 { &mut from } else { &mut to }) = Some(address);
    }
    let protocol = find(CTA_TUPLE_PROTO)?;
    let of = |wanted: u16| attributes(protocol).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    if of(CTA_PROTO_NUM)? != [17] {
        return None;
    }
    let port = of(CTA_PROTO_DST_PORT)?.try_into().ok().map(u16::from_be_bytes)?;
    Some((from?, to?, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of the kernel's about datagrams that were sent on.
    fn message(protocol: u8) -> Vec<u8> {
        let tuple = |body: &mut gantry_sys::netlink::Body<'_>, from: [u8; 4], to: [u8; 4], port: u16| {
            body.nest(CTA_TUPLE_IP, |body| {
                body.put(1, &from).put(2, &to);
            });
            body.nest(CTA_TUPLE_PROTO, |body| {
                body.put(CTA_PROTO_NUM, &[protocol]).put(2, &[1, 2]).put(CTA_PROTO_DST_PORT, &port.to_be_bytes());
            });
        };
        let mut batch = Batch::new();
        batch.push(0, 0, &[2, 0, 0, 0], |body| {
            body.nest(CTA_TUPLE_ORIG, |body| tuple(body, [192, 0, 2, 2], [192, 0, 2, 1], 8080));
            body.nest(CTA_TUPLE_REPLY, |body| tuple(body, [10, 0, 0, 2], [192, 0, 2, 2], 4000));
            body.put(CTA_ZONE, &[0, 7]);
        });
        batch.attributes().to_vec()
    }

    #[test]
    fn connections_are_parsed_with_care() {
        let whole = message(17);
        let connection = parse(&whole).unwrap();
        assert_eq!((connection.to, connection.port), ("192.0.2.1".parse().unwrap(), 8080));
        assert_eq!(connection.answers, "10.0.0.2".parse::<IpAddr>().unwrap());
        assert_eq!(connection.zone, Some(vec![0, 7]));
        assert!(parse(&message(6)).is_none());
        for end in 0..whole.len() {
            // Cut anywhere, it is no connection, or the same without its zone.
            assert!(parse(&whole[..end]).is_none_or(|cut| cut.original == connection.original), "{end}");
        }
    }
}
