//! Who has which name: the names of every network's members. Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// The names of all networks of an engine.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    networks: HashMap<String, Network>,
}

/// A network's members.
#[derive(Clone, Debug, Default)]
struct Network {
    /// Its own name, which may stand behind a member's as a domain.
    name: String,
    /// Members by the key that they were put in with.
    members: HashMap<String, Member>,
    /// Keys of the members that have a name.
    by_name: HashMap<String, Vec<String>>,
    /// Keys of the members that have an address.
    by_address: HashMap<IpAddr, String>,
}

/// A member of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its names: the container's, its short id, aliases. The first answers questions for its addresses.
    pub names: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// What one container sees of the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Ids of the networks that it is in; the first that has a name answers.
    pub networks: Vec<String>,
    /// Names of its own, which go before all others.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// Servers that are asked for what is not known here, at most three; none for a container that has only internal
    /// networks.
    pub upstreams: Vec<std::net::SocketAddr>,
}

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The name is known, and has these addresses.
    Addresses(Vec<IpAddr>),
    /// It is not.
    Unknown,
}

impl Zone {
    /// A network comes, or its name changes.
    pub fn set_network(&mut self, id: &str, name: &str) {
        self.networks.entry(id.to_owned()).or_default().name = name.to_ascii_lowercase();
    }

    /// A network goes, with its members.
    pub fn remove_network(&mut self, id: &str) {
        self.networks.remove(id);
    }

    /// Puts a member into a network in place of what was there under the same key, as the id of its endpoint.
    pub fn insert(&mut self, network: &str, key: &str, member: Member) {
        self.remove(network, key);
        let network = self.networks.entry(network.to_owned()).or_default();
        for name in &member.names {
            let keys = network.by_name.entry(name.to_ascii_lowercase()).or_default();
            if !keys.iter().any(|other| other == key) {
                keys.push(key.to_owned());
            }
        }
        for &address in &member.addresses {
            network.by_address.insert(address, key.to_owned());
        }
        network.members.insert(key.to_owned(), member);
    }

    /// Takes a member out of a network.
    pub fn remove(&mut self, network: &str, key: &str) {
        let Some(network) = self.networks.get_mut(network) else { return };
        let Some(member) = network.members.remove(key) else { return };
        for name in &member.names {
            let name = name.to_ascii_lowercase();
            if let Some(keys) = network.by_name.get_mut(&name) {
                keys.retain(|other| other != key);
                if keys.is_empty() {
                    network.by_name.remove(&name);
                }
            }
        }
        for address in &member.addresses {
            if network.by_address.get(address).is_some_and(|other| other == key) {
                network.by_address.remove(address);
            }
        }
    }

    /// Looks up a name, in lower case and without a dot at its end.
    pub fn find(&self, view: &View, name: &str) -> Found {
        let own = view.names.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        if let Some((_, addresses)) = own {
            return Found::Addresses(addresses.clone());
        }
        for network in view.networks.iter().filter_map(|id| self.networks.get(id)) {
            let addresses = network.find(name).or_else(|| {
                let bare = name.strip_suffix(network.name.as_str()).and_then(|name| name.strip_suffix('.'));
                bare.and_then(|name| network.find(name))
            });
            if let Some(addresses) = addresses {
                return Found::Addresses(addresses);
            }
        }
        Found::Unknown
    }

    /// The name that an address has, with its network's behind it.
    pub fn name_of(&self, view: &View, address: IpAddr) -> Option<String> {
        view.networks.iter().filter_map(|id| self.networks.get(id)).find_map(|network| {
            let member = network.members.get(network.by_address.get(&address)?)?;
            let name = member.names.first()?;
            Some(if network.name.is_empty() { name.clone() } else { format!("{name}.{}", network.name) })
        })
    }
}

impl Network {
    fn find(&self, name: &str) -> Option<Vec<IpAddr>> {
        let keys = self.by_name.get(name)?;
        Some(keys.iter().filter_map(|key| self.members.get(key)).flat_map(|m| m.addresses.iter().copied()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(names: &[&str], addresses: &[&str]) -> Member {
        Member {
            names: names.iter().map(ToString::to_string).collect(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn zone() -> Zone {
        let mut zone = Zone::default();
        zone.set_network("n1", "Front");
        zone.set_network("n2", "back");
        zone.insert("n1", "e1", member(&["Web", "0123456789ab", "www"], &["10.1.0.2", "fd00::2"]));
        zone.insert("n1", "e2", member(&["web2", "www"], &["10.1.0.3"]));
        zone.insert("n2", "e3", member(&["db", "www"], &["10.2.0.2"]));
        zone
    }

    fn view(networks: &[&str]) -> View {
        let networks = networks.iter().map(ToString::to_string).collect();
        let names = [("Linked".to_owned(), vec!["10.9.0.1".parse().unwrap()])].into();
        View { networks, names, upstreams: Vec::new() }
    }

    fn check(zone: &Zone, networks: &[&str], name: &str, expect: &str) {
        let found = match zone.find(&view(networks), name) {
            Found::Addresses(addresses) => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Found::Unknown => "unknown".to_owned(),
        };
        assert_eq!(found, expect, "{networks:?} {name}");
    }

    #[test]
    fn lookups() {
        let mut zone = zone();
        check(&zone, &["n1"], "web", "10.1.0.2 fd00::2");
        check(&zone, &["n1"], "web.front", "10.1.0.2 fd00::2");
        check(&zone, &["n1"], "0123456789ab", "10.1.0.2 fd00::2");
        check(&zone, &["n1"], "www", "10.1.0.2 fd00::2 10.1.0.3");
        check(&zone, &["n2", "n1"], "www", "10.2.0.2");
        check(&zone, &["n2", "n1"], "www.front", "10.1.0.2 fd00::2 10.1.0.3");
        check(&zone, &["n1"], "db", "unknown");
        check(&zone, &["n1"], "db.back", "unknown");
        check(&zone, &["n1"], "front", "unknown");
        check(&zone, &["n1"], "webfront", "unknown");
        check(&zone, &[], "linked", "10.9.0.1");
        zone.remove("n1", "e1");
        check(&zone, &["n1"], "www", "10.1.0.3");
        check(&zone, &["n1"], "web", "unknown");
        zone.insert("n1", "e2", member(&["renamed"], &["10.1.0.4"]));
        check(&zone, &["n1"], "www", "unknown");
        check(&zone, &["n1"], "renamed", "10.1.0.4");
        zone.remove_network("n1");
        check(&zone, &["n1"], "renamed", "unknown");
    }

    #[test]
    fn names_of_addresses() {
        let mut zone = zone();
        let check = |zone: &Zone, networks: &[&str], address: &str, expect: Option<&str>| {
            let name = zone.name_of(&view(networks), address.parse().unwrap());
            assert_eq!(name.as_deref(), expect, "{networks:?} {address}");
        };
        check(&zone, &["n1"], "10.1.0.2", Some("Web.front"));
        check(&zone, &["n1"], "fd00::2", Some("Web.front"));
        check(&zone, &["n1"], "10.2.0.2", None);
        check(&zone, &["n1", "n2"], "10.2.0.2", Some("db.back"));
        // An address that has a new holder stays when the old one goes.
        zone.insert("n2", "e4", member(&["new"], &["10.2.0.2"]));
        zone.remove("n2", "e3");
        check(&zone, &["n2"], "10.2.0.2", Some("new.back"));
    }
}
