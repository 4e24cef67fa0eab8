//! Changes that others make: rules that are flushed with those of a whole host, devices that are removed.
//!
//! The kernel tells of every change. What the engine itself does is told too, and looks the same; so whoever hears of
//! something looks whether all is there still.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd as _;

use gantry_sys::netlink::{Listener, Subsystem, attributes};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::neighbours::{CHAIN, TABLE};
use super::{Net, failed};
use crate::Names;
use crate::error::{Error, Result};

/// `RTNLGRP_LINK`, `NFNLGRP_NFTABLES`.
const LINKS: u32 = 1;
const RULES: u32 = 7;

const RTM_DELLINK: u16 = 17;
const IFLA_IFNAME: u16 = 3;
const IFLA_IFALIAS: u16 = 20;
/// Bytes before the attributes of a device and of anything of nf_tables.
const LINK_HEADER: usize = 16;
const RULE_HEADER: usize = 4;

const NFT_MSG_DELTABLE: u16 = 10 << 8 | 2;
const NFT_MSG_NEWCHAIN: u16 = 10 << 8 | 3;
const NFT_MSG_DELCHAIN: u16 = 10 << 8 | 5;
const NFT_MSG_DELRULE: u16 = 10 << 8 | 8;
/// The table's name is the first attribute of all of them.
const NFTA_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_RULE_CHAIN: u16 = 2;

/// What may have been changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disturbance {
    /// Rules of the engine were removed, or replaced.
    pub rules: bool,
    /// The chain that a Docker Engine leaves to others came, or lost rules: see [`Net::pass_beside_others`].
    pub beside: bool,
    /// Devices with names or marks of the engine that were removed, or taken from their bridge.
    pub links: BTreeSet<String>,
    /// Something was not heard: any device may have been lost.
    pub missed: bool,
}

impl Disturbance {
    /// Whether it is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Hears of changes in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Watch {
    names: Names,
    links: Ear,
    rules: Ear,
}

/// A listener, and whether there is something to hear.
#[derive(Debug)]
struct Ear {
    listener: Listener,
    /// The same socket. What kind of socket it is is the same to who only waits for it.
    ready: UdpSocket,
}

impl Ear {
    /// To be called within a tokio runtime.
    fn open(subsystem: Subsystem, group: u32) -> io::Result<Self> {
        let listener = Listener::new(subsystem, group)?;
        let ready = std::net::UdpSocket::from(listener.as_fd().try_clone_to_owned()?);
        Ok(Self { listener, ready: UdpSocket::from_std(ready)? })
    }

    /// Takes all that was told until now; false if something was missed.
    fn take(&self, take: &mut dyn FnMut(u16, &[u8])) -> io::Result<bool> {
        let mut whole = Ok(true);
        // That nothing is left is how it is known that there is something to wait for.
        let nothing_left = || -> io::Result<()> {
            whole = self.listener.take(take);
            Err(io::ErrorKind::WouldBlock.into())
        };
        let _ = self.ready.try_io(Interest::READABLE, nothing_left);
        whole
    }
}

impl Net {
    /// Hears of changes from now on. To be called within a tokio runtime.
    pub fn watch(&self) -> Result<Watch> {
        let failed = |error: io::Error| failed("listen to changes of networks", &error);
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(Error::kernel("listen to changes of networks without a runtime", Errno::INVAL));
        }
        Ok(Watch {
            names: self.names().clone(),
            links: Ear::open(Subsystem::Route, LINKS).map_err(failed)?,
            rules: Ear::open(Subsystem::Netfilter, RULES).map_err(failed)?,
        })
    }
}

impl Watch {
    /// Waits until something may have been disturbed, and takes all that was told by then.
    pub async fn disturbed(&mut self) -> Result<Disturbance> {
        loop {
            let ready = tokio::select! {
                ready = self.links.ready.readable() => ready,
                ready = self.rules.ready.readable() => ready,
            };
            ready.map_err(|error| failed("wait for changes of networks", &error))?;
            let disturbance = self.take()?;
            if !disturbance.is_empty() {
                return Ok(disturbance);
            }
        }
    }

    /// Takes all that was told until now.
    pub fn take(&mut self) -> Result<Disturbance> {
        let failed = |error: io::Error| failed("hear of changes of networks", &error);
        let mut found = Disturbance::default();
        let names = &self.names;
        let all = self.links.take(&mut |kind, payload| {
            found.links.extend(lost_link(names, kind, payload));
        });
        found.missed = !all.map_err(failed)?;
        let all = self.rules.take(&mut |kind, payload| rule_change(names, kind, payload, &mut found));
        found.rules |= !all.map_err(failed)?;
        Ok(found)
    }
}

/// The name of a device of the engine that a message tells the loss of.
fn lost_link(names: &Names, kind: u16, payload: &[u8]) -> Option<String> {
    let rest = payload.get(LINK_HEADER..).filter(|_| kind == RTM_DELLINK)?;
    let name = text(rest, IFLA_IFNAME)?;
    let marked = text(rest, IFLA_IFALIAS).is_some_and(|alias| alias.starts_with(&names.alias_prefix()));
    (marked || names.is_veth(&name)).then_some(name)
}

/// Notes what a message of nf_tables tells.
fn rule_change(names: &Names, kind: u16, payload: &[u8], found: &mut Disturbance) {
    let Some(rest) = payload.get(RULE_HEADER..) else { return };
    let table = text(rest, NFTA_TABLE).unwrap_or_default();
    match kind {
        NFT_MSG_DELTABLE | NFT_MSG_DELCHAIN | NFT_MSG_DELRULE if table == names.table() => found.rules = true,
        NFT_MSG_NEWCHAIN if table == TABLE && text(rest, NFTA_CHAIN_NAME).as_deref() == Some(CHAIN) => {
            found.beside = true;
        }
        NFT_MSG_DELRULE if table == TABLE && text(rest, NFTA_RULE_CHAIN).as_deref() == Some(CHAIN) => {
            found.beside = true;
        }
        _ => {}
    }
}

fn text(bytes: &[u8], wanted: u16) -> Option<String> {
    let value = attributes(bytes).find(|(kind, _)| *kind == wanted)?.1;
    String::from_utf8(value.strip_suffix(&[0]).unwrap_or(value).to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &str) -> Vec<u8> {
        let mut bytes = ((value.len() + 5) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value.bytes().chain([0]));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn devices() {
        let names = Names::new("gtt").unwrap();
        let check = |kind: u16, name: &str, alias: &str, expect: bool| {
            let payload = [vec![0; LINK_HEADER], attribute(IFLA_IFNAME, name), attribute(IFLA_IFALIAS, alias)].concat();
            assert_eq!(lost_link(&names, kind, &payload), expect.then(|| name.to_owned()), "{kind} {name} {alias}");
            for end in 0..payload.len() {
                let _ = lost_link(&names, kind, &payload[..end]);
            }
        };
        check(RTM_DELLINK, "gttv0123456789a", "", true);
        check(RTM_DELLINK, "br7", "gantry/gtt/0123", true);
        check(RTM_DELLINK, "br7", "gantry/other/0123", false);
        check(RTM_DELLINK, "gtt7", "", false);
        check(16, "gttv0123456789a", "", false);
    }

    #[test]
    fn rules() {
        let names = Names::new("gtt").unwrap();
        let check = |kind: u16, table: &str, (at, name): (u16, &str), expect: (bool, bool)| {
            let payload = [vec![0; RULE_HEADER], attribute(NFTA_TABLE, table), attribute(at, name)].concat();
            let mut found = Disturbance::default();
            rule_change(&names, kind, &payload, &mut found);
            assert_eq!((found.rules, found.beside), expect, "{kind} {table} {name}");
        };
        check(NFT_MSG_DELTABLE, "gtt", (9, ""), (true, false));
        check(NFT_MSG_DELRULE, "gtt", (2, "guard"), (true, false));
        check(NFT_MSG_DELTABLE, "other", (9, ""), (false, false));
        check(NFT_MSG_NEWCHAIN, "gtt", (3, "guard"), (false, false));
        check(NFT_MSG_NEWCHAIN, "filter", (3, "DOCKER-USER"), (false, true));
        check(NFT_MSG_DELRULE, "filter", (2, "DOCKER-USER"), (false, true));
        check(NFT_MSG_DELRULE, "filter", (2, "FORWARD"), (false, false));
    }
}
