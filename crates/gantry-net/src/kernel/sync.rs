//! What an engine does when it starts: the kernel becomes what the engine's state says.

use std::collections::HashSet;
use std::sync::PoisonError;

use gantry_sys::netlink::Batch;
use rustix::io::Errno;

use super::links::{self, Link};
use super::rules::families;
use super::{Net, failed, random, refused};
use crate::error::{Error, Result};
use crate::plan::{self, Family};
use crate::{NetworkSpec, PortMapping};

/// All that there is to be: what else an engine finds of its own is removed.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Networks.
    pub networks: Vec<NetworkSpec>,
    /// Ids of the endpoints of containers that run.
    pub endpoints: Vec<String>,
    /// Ports of containers that run.
    pub ports: Vec<PortMapping>,
}

/// What [`Net::sync`] changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Bridges removed.
    pub bridges: Vec<String>,
    /// Devices of endpoints removed.
    pub veths: Vec<String>,
    /// Ids of endpoints whose device is not there, or belongs to no bridge.
    pub missing: Vec<String>,
}

impl Net {
    /// Makes everything as it should be, once, when the engine starts: rules in one transaction for each family, and
    /// bridges. Removes what is left of an engine that ended, and leaves what is right untouched. What fails does not
    /// keep the rest from being done.
    pub fn sync(&self, desired: &Desired) -> Result<Synced> {
        let links = links::links(&mut self.route()).map_err(|error| failed("list devices", &error))?;
        let synced = self.compare(desired, &links);
        let mut errors = Vec::new();
        errors.extend(self.remove_all(&links, &synced).err());
        errors.extend(self.sync_tables(desired).err());
        for network in &desired.networks {
            errors.extend(self.ensure_bridge(network).err());
        }
        Error::collect(errors).map(|()| synced)
    }

    /// Brings back what others took away: rules and bridges. Returns the ids of endpoints whose device is not there, or
    /// belongs to no bridge. Removes nothing.
    pub fn restore(&self, desired: &Desired) -> Result<Vec<String>> {
        let mut errors = Vec::new();
        errors.extend(self.sync_tables(desired).err());
        for network in &desired.networks {
            errors.extend(self.ensure_bridge(network).err());
        }
        let links = links::links(&mut self.route()).map_err(|error| failed("list devices", &error))?;
        Error::collect(errors).map(|()| self.compare(desired, &links).missing)
    }

    /// Removes everything of this engine: the rules, the bridges and the devices of endpoints.
    pub fn clear(&self) -> Result<Synced> {
        let links = links::links(&mut self.route()).map_err(|error| failed("list devices", &error))?;
        let synced = self.compare(&Desired::default(), &links);
        let mut errors = Vec::new();
        errors.extend(self.remove_all(&links, &synced).err());
        self.bridges.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        for family in [Family::Ipv4, Family::Ipv6] {
            errors.extend(self.remove_table(family).err());
            errors.extend(self.leave_others(family).err());
        }
        tables.clear();
        Error::collect(errors).map(|()| synced)
    }

    /// What there is and should not be, and the other way round.
    fn compare(&self, desired: &Desired, links: &[Link]) -> Synced {
        let bridges: HashSet<&str> = desired.networks.iter().map(|network| network.bridge.as_str()).collect();
        let veths: HashSet<String> = desired.endpoints.iter().map(|id| self.names().veth(id)).collect();
        let mut synced = Synced::default();
        let mut attached = HashSet::new();
        for link in links {
            if self.is_marked(link) {
                if !bridges.contains(link.name.as_str()) {
                    synced.bridges.push(link.name.clone());
                }
            } else if self.names().is_veth(&link.name) {
                if !veths.contains(&link.name) {
                    synced.veths.push(link.name.clone());
                } else if link.master != 0 {
                    attached.insert(link.name.as_str());
                }
            }
        }
        let is_missing = |id: &&String| !attached.contains(self.names().veth(id).as_str());
        synced.missing = desired.endpoints.iter().filter(is_missing).cloned().collect();
        synced
    }

    /// Removes devices: all at once, since each by itself would take as long.
    fn remove_all(&self, links: &[Link], synced: &Synced) -> Result<()> {
        let names: HashSet<&String> = synced.bridges.iter().chain(&synced.veths).collect();
        if names.is_empty() {
            return Ok(());
        }
        // Groups are numbers that nobody hands out; below this bit are those that people choose.
        let group = u32::from_ne_bytes(random()?) | 1 << 31;
        let mut batch = Batch::new();
        let doomed: Vec<&Link> = links.iter().filter(|link| names.contains(&link.name)).collect();
        for link in &doomed {
            links::set_group(&mut batch, link.index, group);
        }
        links::remove_group(&mut batch, group);
        let refusals = self.submit(&mut batch, "remove network devices")?;
        let gone = |errno| matches!(errno, Errno::NODEV | Errno::NOENT);
        let errors = refusals.iter().filter(|refusal| !gone(refusal.errno)).map(|refusal| {
            let name = doomed.get(refusal.index).map_or("", |link| link.name.as_str());
            refused(format!("remove network device {name}"), refusal)
        });
        Error::collect(errors.collect())
    }

    fn sync_tables(&self, desired: &Desired) -> Result<()> {
        let used: HashSet<Family> = desired.networks.iter().flat_map(families).collect();
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.clear();
        let mut errors = Vec::new();
        for family in [Family::Ipv4, Family::Ipv6] {
            if !used.contains(&family) {
                errors.extend(self.remove_table(family).err());
                continue;
            }
            let networks = desired.networks.iter().filter(|network| families(network).contains(&family));
            match self.replace_table(&plan::ruleset(self.names(), family, networks, &desired.ports)) {
                Ok(()) => drop(tables.insert(family)),
                Err(error) => errors.push(error),
            }
        }
        Error::collect(errors)
    }

    fn remove_table(&self, family: Family) -> Result<()> {
        let mut transaction = crate::nft::Transaction::new();
        transaction.remove(family, self.names().table());
        match self.commit(transaction, "remove rules")?.first() {
            // A kernel without the family has no table of it.
            Some(first) if family == Family::Ipv6 && first.errno == Errno::OPNOTSUPP => Ok(()),
            Some(first) => Err(refused(format!("remove table {family} {}", self.names().table()), first)),
            None => Ok(()),
        }
    }
}
