//! Places of containers in networks: addresses taken and given back.

use std::net::IpAddr;
use std::sync::Arc;

use gantry_net::plan::EndpointPlan;
use gantry_net::{Mac, plan};

use crate::container::{Endpoint, Record};
use crate::error::{Error, Result};
use crate::names;
use crate::request::{EndpointRequest, NetworkMode};
use crate::table::lock;

use super::join::Plan;
use super::{DEFAULT, HOST, NONE, NetworkRecord, Networks};

impl Networks {
    /// Refuses addresses that a network does not give. One that is not there is missed when the container starts.
    pub(crate) fn check_addresses(&self, request: &EndpointRequest) -> Result<()> {
        let Ok(network) = self.find(&request.network) else { return Ok(()) };
        let asked = [&request.ipv4, &request.ipv6].into_iter().filter(|address| !address.is_empty());
        let faults = faults(&network, &asked.map(String::as_str).collect::<Vec<_>>());
        let list = match &faults[..] {
            [] => return Ok(()),
            [fault] => fault.clone(),
            _ => faults.iter().map(|fault| format!("* {fault}")).collect::<Vec<_>>().join("\n"),
        };
        let name = network.name();
        Err(Error::Invalid(format!("invalid config for network {name}: invalid endpoint settings:\n{list}")))
    }

    /// Takes addresses for a container, and plans its places.
    pub(super) fn plan(&self, record: &Record) -> Result<Plan> {
        let mut plan = Plan { endpoints: Vec::new(), plans: Vec::new() };
        let requests = requests(record);
        let gateway = gateway_of(&requests);
        for (index, (name, request)) in requests.iter().enumerate() {
            match self.place(record, name, request, index, gateway == Some(index)) {
                Ok((network, endpoint, planned)) => {
                    plan.endpoints.push((network, endpoint));
                    plan.plans.push(planned);
                }
                Err(error) => {
                    self.release(&record.id);
                    return Err(error);
                }
            }
        }
        Ok(plan)
    }

    /// Takes a place in one network.
    pub(super) fn place(
        &self,
        record: &Record,
        name: &str,
        request: &EndpointRequest,
        index: usize,
        gateway: bool,
    ) -> Result<(Arc<NetworkRecord>, Endpoint, EndpointPlan)> {
        let network = self.find(name)?;
        let spec = network.spec.as_ref().ok_or_else(|| {
            Error::Forbidden(format!("container cannot be connected to network {name}: it is of another kind"))
        })?;
        let mut endpoint = Endpoint {
            network_id: network.id.clone(),
            id: names::id()?,
            aliases: request.aliases.clone(),
            interface: format!("eth{index}"),
            ..Endpoint::default()
        };
        let mut addresses = Vec::new();
        for address in self.take_addresses(&network, request)? {
            let subnet = spec.subnet(address.is_ipv4());
            let prefix = subnet.map_or(0, |subnet| subnet.cidr.prefix());
            // Out of an internal network nothing leads.
            let leads = subnet.and_then(|subnet| subnet.gateway).filter(|_| !spec.internal);
            let leads = leads.map(|gateway| gateway.to_string()).unwrap_or_default();
            if address.is_ipv4() {
                (endpoint.ipv4, endpoint.ipv4_prefix, endpoint.gateway) = (address.to_string(), prefix, leads);
            } else {
                (endpoint.ipv6, endpoint.ipv6_prefix, endpoint.ipv6_gateway) = (address.to_string(), prefix, leads);
            }
            addresses.push(address);
        }
        let mac = match (request.mac_address.as_str(), addresses.iter().find(|address| address.is_ipv4())) {
            ("", Some(IpAddr::V4(address))) => Mac::of_ipv4(*address),
            ("", _) => Mac::of_random(names::random()?),
            (text, _) => text.parse()?,
        };
        endpoint.mac_address = mac.to_string();
        if network.name() != DEFAULT {
            let aliases = request.aliases.iter().cloned();
            let own = [record.id[..12].to_owned(), record.config.hostname.clone()];
            for name in [record.name.clone()].into_iter().chain(aliases).chain(own) {
                if !endpoint.dns_names.contains(&name) {
                    endpoint.dns_names.push(name);
                }
            }
        }
        let place = gantry_net::Endpoint {
            id: endpoint.id.clone(),
            interface: endpoint.interface.clone(),
            mac,
            addresses,
            gateway,
        };
        let planned = match plan::endpoint(self.net.names(), spec, &place) {
            Ok(planned) => planned,
            Err(error) => {
                self.free(&network.id, &endpoint);
                return Err(error.into());
            }
        };
        endpoint.host_interface.clone_from(&planned.veth);
        if let Some(network) = lock(&self.table).get_mut(&network.id) {
            network.members.insert(record.id.clone(), endpoint.clone());
        }
        Ok((network, endpoint, planned))
    }

    /// Takes the addresses of a place.
    fn take_addresses(&self, network: &NetworkRecord, request: &EndpointRequest) -> Result<Vec<IpAddr>> {
        let mut table = lock(&self.table);
        let entry = table.get_mut(&network.id).ok_or_else(|| Error::NoNetwork(network.id.clone()))?;
        let mut taken: Vec<IpAddr> = Vec::new();
        let mut result = Ok(());
        for addresses in &mut entry.addresses {
            let ipv4 = addresses.subnet().cidr.is_ipv4();
            let asked = if ipv4 { &request.ipv4 } else { &request.ipv6 };
            let got = if asked.is_empty() {
                addresses.take()
            } else {
                let parsed = asked.parse().map_err(|_| Error::Invalid(format!("invalid IP address: {asked}")));
                match parsed {
                    Ok(address) => addresses.take_this(address).map(|()| address),
                    Err(error) => {
                        result = Err(error);
                        break;
                    }
                }
            };
            match got {
                Ok(address) => taken.push(address),
                Err(error) => {
                    result = Err(error.into());
                    break;
                }
            }
        }
        if result.is_err() {
            for (addresses, address) in entry.addresses.iter_mut().zip(&taken) {
                addresses.release(*address);
            }
        }
        result.map(|()| taken)
    }

    /// Notes a place that is taken already.
    pub(super) fn occupy(&self, network: &str, container: &str, endpoint: &Endpoint) -> Result<()> {
        let mut table = lock(&self.table);
        let entry = table.get_mut(network).ok_or_else(|| Error::NoNetwork(network.to_owned()))?;
        for text in [&endpoint.ipv4, &endpoint.ipv6].into_iter().filter(|text| !text.is_empty()) {
            let address: IpAddr = text.parse().map_err(|_| Error::Invalid(format!("invalid IP address: {text}")))?;
            for addresses in entry.addresses.iter_mut().filter(|one| one.subnet().cidr.contains(address)) {
                // It is this container's, whatever else is noted.
                let _ = addresses.take_this(address);
            }
        }
        entry.members.insert(container.to_owned(), endpoint.clone());
        Ok(())
    }

    /// Gives the addresses of a place back.
    fn free(&self, network: &str, endpoint: &Endpoint) {
        if let Some(entry) = lock(&self.table).get_mut(network) {
            for address in [&endpoint.ipv4, &endpoint.ipv6].into_iter().filter_map(|text| text.parse().ok()) {
                entry.addresses.iter_mut().for_each(|addresses| addresses.release(address));
            }
        }
    }

    /// Gives up all places of a container; returns them.
    pub(super) fn release(&self, container: &str) -> Vec<Endpoint> {
        let ids: Vec<String> = lock(&self.table).keys().cloned().collect();
        ids.iter().filter_map(|network| self.release_one(network, container)).collect()
    }

    /// Gives up a container's place in one network.
    pub(super) fn release_one(&self, network: &str, container: &str) -> Option<Endpoint> {
        let endpoint = lock(&self.table).get_mut(network)?.members.remove(container)?;
        self.free(network, &endpoint);
        self.resolver.change(|zone| zone.remove(network, container));
        Some(endpoint)
    }
}

/// Which of a container's networks has its default route: that of the highest priority, and of those the first.
pub(super) fn gateway_of(requests: &[(String, EndpointRequest)]) -> Option<usize> {
    let all = requests.iter().enumerate();
    let best = all.max_by_key(|(index, (_, request))| (request.gateway_priority, std::cmp::Reverse(*index)));
    best.map(|(index, _)| index)
}

/// The networks that a container is to be in, each with how: that of its mode first.
pub(super) fn requests(record: &Record) -> Vec<(String, EndpointRequest)> {
    let main = match &record.network.mode {
        NetworkMode::Named(name) => name.as_str(),
        _ => DEFAULT,
    };
    let asked = &record.network.endpoints;
    let mut first = asked.iter().find(|one| one.network == main).cloned().unwrap_or_default();
    if first.mac_address.is_empty() {
        first.mac_address.clone_from(&record.network.mac_address);
    }
    let mut list = vec![(main.to_owned(), first)];
    let others = asked.iter().filter(|one| one.network != main && ![HOST, NONE].contains(&one.network.as_str()));
    list.extend(others.map(|one| (one.network.clone(), one.clone())));
    list
}

/// Why a network does not give addresses that somebody wants to have.
fn faults(network: &NetworkRecord, asked: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    if network.is_predefined() && !asked.is_empty() {
        faults.push("user specified IP address is supported on user defined networks only".to_owned());
        if network.request.subnets.is_empty() {
            let words =
                "user specified IP address is supported only when connecting to networks with user configured subnets";
            faults.push(words.to_owned());
        }
        return faults;
    }
    let Some(spec) = &network.spec else { return faults };
    for address in asked {
        let Ok(parsed) = address.parse::<IpAddr>() else { continue };
        if !spec.subnets.iter().any(|subnet| subnet.cidr.contains(parsed)) {
            faults.push(format!("no configured subnet or ip-range contain the IP address {address}"));
        }
    }
    faults
}
