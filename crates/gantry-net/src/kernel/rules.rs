//! Rules that come and go: elements of sets, each change a transaction.

use std::sync::PoisonError;

use gantry_sys::netlink::Refused;
use rustix::io::Errno;

use super::{Net, failed, refused};
use crate::error::{Error, Result};
use crate::nft::{Transaction, count_rules, there_is_table};
use crate::plan::{self, Element, Family, Ruleset};
use crate::{NetworkSpec, PortMapping};

impl Net {
    /// Publishes ports, all or none. One that leads elsewhere already is an error that says so.
    pub fn publish(&self, ports: &[PortMapping]) -> Result<()> {
        let refusal = self.change_ports(ports, Transaction::add)?;
        if let Some((port, refusal)) = refusal {
            return Err(match refusal.errno {
                Errno::EXIST | Errno::BUSY => Error::allocated(port),
                _ => refused(format!("publish port {}/{}", port.host_port, port.protocol), &refusal),
            });
        }
        self.forgetting.add(ports);
        Ok(())
    }

    /// Takes published ports back. Those that are not there, or lead elsewhere by now, are no error.
    pub fn unpublish(&self, ports: &[PortMapping]) -> Result<()> {
        let mut ports = ports.to_vec();
        while let Some((port, refusal)) = self.change_ports(&ports, Transaction::take)? {
            let port = *port;
            if !matches!(refusal.errno, Errno::EXIST | Errno::BUSY) {
                return Err(refused(format!("take back port {}/{}", port.host_port, port.protocol), &refusal));
            }
            ports.retain(|other| *other != port);
        }
        self.forgetting.add(&ports);
        Ok(())
    }

    /// Changes the elements of ports in one transaction; returns the first that was refused.
    fn change_ports<'a>(
        &self,
        ports: &'a [PortMapping],
        change: impl for<'t> Fn(&'t mut Transaction, Family, &str, &str, &[Element]) -> &'t mut Transaction,
    ) -> Result<Option<(&'a PortMapping, Refused)>> {
        let mut transaction = Transaction::new();
        let mut ends = Vec::new();
        for port in ports {
            if port.host.is_ipv4() != port.target.is_ipv4() {
                let why = "it leads to an address of another family, which the kernel cannot translate";
                return Err(Error::invalid("published address", port.host, why));
            }
            let family = Family::of(port.target);
            self.ensure_table(family)?;
            let (set, element) = plan::port_element(port);
            change(&mut transaction, family, self.names().table(), set, &[element]);
            ends.push((transaction.next_index(), port));
        }
        if ports.is_empty() {
            return Ok(None);
        }
        let refusals = self.commit(transaction, "change published ports")?;
        let Some(first) = refusals.into_iter().next() else { return Ok(None) };
        match ends.iter().find(|(end, _)| first.index < *end).filter(|_| first.index > 0) {
            Some((_, port)) => Ok(Some((*port, first))),
            None => Err(refused("change published ports", &first)),
        }
    }

    /// Whether the rules are there still. Who flushes all rules of a host takes ours too: [`Net::restore`] brings them
    /// back. To ask costs some microseconds.
    pub fn is_intact(&self) -> Result<bool> {
        for family in self.families_in_use() {
            let looking = |error: std::io::Error| failed("look for our rules", &error);
            let mut channel = self.filter();
            let there = there_is_table(&mut channel, family, self.names().table()).map_err(looking)?;
            let expected: usize = plan::bare(self.names(), family).chains.iter().map(|chain| chain.rules.len()).sum();
            if !there || count_rules(&mut channel, family, self.names().table()).map_err(looking)? != expected {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives a network its elements. Those that it has no more go: it may have become internal.
    pub(super) fn add_rules(&self, network: &NetworkSpec) -> Result<()> {
        self.change_network(network, true)
    }

    /// Takes all elements of a network.
    pub(super) fn take_rules(&self, network: &NetworkSpec) -> Result<()> {
        self.change_network(network, false)
    }

    fn change_network(&self, network: &NetworkSpec, comes: bool) -> Result<()> {
        let mut transaction = Transaction::new();
        let table = self.names().table();
        for family in families(network) {
            self.ensure_table(family)?;
            for (set, element, there) in plan::network_changes(network, family) {
                if comes && there {
                    transaction.add(family, table, set, &[element]);
                } else {
                    transaction.take(family, table, set, &[element]);
                }
            }
        }
        let action = format!("change the rules of network {}", network.name);
        match self.commit(transaction, &action)?.first() {
            Some(first) => Err(refused(action, first)),
            None => Ok(()),
        }
    }

    /// Families that have their table.
    pub(super) fn families_in_use(&self) -> Vec<Family> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        [Family::Ipv4, Family::Ipv6].into_iter().filter(|family| tables.contains(family)).collect()
    }

    /// Sees to it that a family has its table.
    fn ensure_table(&self, family: Family) -> Result<()> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if tables.contains(&family) {
            return Ok(());
        }
        self.replace_table(&plan::bare(self.names(), family))?;
        tables.insert(family);
        Ok(())
    }

    /// Puts a table in the place of the one of its name.
    pub(super) fn replace_table(&self, ruleset: &Ruleset) -> Result<()> {
        let mut transaction = Transaction::new();
        transaction.replace(ruleset);
        let action = format!("make table {} {}", ruleset.family, ruleset.table);
        match self.commit(transaction, &action)?.first() {
            Some(first) => Err(refused(action, first)),
            None => Ok(()),
        }
    }

    pub(super) fn commit(&self, transaction: Transaction, action: &str) -> Result<Vec<Refused>> {
        transaction.commit(&mut self.filter()).map_err(|error| failed(action, &error))
    }
}

/// The families of a network's addresses.
pub(super) fn families(network: &NetworkSpec) -> Vec<Family> {
    let mut families: Vec<Family> = network.subnets.iter().map(|subnet| Family::of(subnet.cidr.address())).collect();
    families.sort_by_key(|family| *family == Family::Ipv6);
    families.dedup();
    families
}
