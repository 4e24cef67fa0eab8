//! Making, looking at, joining and removing networks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use gantry_net::ipam::{Addresses, Pools};
use gantry_net::{Cidr, Desired, NetworkSpec, Subnet, open_netns};

use crate::container::Endpoint;
use crate::db::{Row, Table};
use crate::engine::{Engine, blocking};
use crate::error::{Error, Result};
use crate::events::Subject;
use crate::names;
use crate::request::{CreateNetwork, EndpointRequest, NetworkMode, SubnetRequest};
use crate::table::{Container, lock};

use super::{DEFAULT, HOST, NONE, NetworkRecord, NetworkView, Networks};

/// Options of the bridge driver, by the names that other engines gave them.
mod option {
    pub(super) const NAME: &str = "com.docker.network.bridge.name";
    pub(super) const ICC: &str = "com.docker.network.bridge.enable_icc";
    pub(super) const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
    pub(super) const MTU: &str = "com.docker.network.driver.mtu";
    /// Options that say what is so anyway, or concern the default network alone.
    pub(super) const KNOWN: [&str; 3] = [
        "com.docker.network.bridge.default_bridge",
        "com.docker.network.bridge.host_binding_ipv4",
        "com.docker.network.container_iface_prefix",
    ];
}

/// What is said to whoever wants to put a container into the host's network, or to take it out.
const HOST_IS_FIXED: &str = "container cannot be disconnected from host network or connected to host network";

impl Engine {
    /// Makes a network.
    ///
    /// # Errors
    /// The name is taken, a subnet overlaps with another, or something is asked for that there is not.
    pub async fn create_network(&self, request: CreateNetwork) -> Result<String> {
        if request.name.trim().is_empty() {
            return Err(Error::Invalid(format!("invalid name: {}", request.name)));
        }
        names::check("network", &request.name).map_err(|_| {
            Error::Invalid(format!(
                "invalid network name {:?}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
                request.name
            ))
        })?;
        if [DEFAULT, HOST, NONE, "container", "default"].contains(&request.name.as_str()) {
            let name = &request.name;
            return Err(Error::Forbidden(format!("operation is not permitted on predefined {name} network ")));
        }
        let record = self.make_network(request).await?;
        let (id, kind) = (record.id.clone(), record.request.driver.clone());
        let more = [("name".to_owned(), record.name().to_owned()), ("type".to_owned(), kind)];
        self.tell(Subject::Network, "create", &id, more);
        Ok(id)
    }

    async fn make_network(&self, mut request: CreateNetwork) -> Result<Arc<NetworkRecord>> {
        // One at a time: two must not get the same name or subnet.
        let _making = self.0.making.lock().await;
        if self.0.networks.find(&request.name).is_ok_and(|other| other.name() == request.name) {
            return Err(Error::Conflict(format!("network with name {} already exists", request.name)));
        }
        if request.driver.is_empty() {
            "bridge".clone_into(&mut request.driver);
        }
        let id = names::id()?;
        let spec = match request.driver.as_str() {
            "bridge" => Some(self.bridge_of(&id, &request).await?),
            "host" | "null" => None,
            other => return Err(Error::NoDriver(format!("plugin {other:?} not found"))),
        };
        let record = NetworkRecord { id, created: self.now(), request, spec };
        let _changing = self.0.networks.changing.read().await;
        if let Some(spec) = record.spec.clone() {
            let net = Arc::clone(&self.0.networks.net);
            blocking(move || Ok(net.ensure_bridge(&spec)?)).await?;
        }
        let kept = self.0.db.write(vec![Row::put(Table::Networks, &record.id, &record)]).await;
        if let Err(error) = kept {
            if let Some(spec) = record.spec {
                let net = Arc::clone(&self.0.networks.net);
                blocking(move || Ok(net.remove_bridge(&spec)?)).await?;
            }
            return Err(error);
        }
        self.0.networks.insert(record)
    }

    /// What a bridge is to be.
    async fn bridge_of(&self, id: &str, request: &CreateNetwork) -> Result<NetworkSpec> {
        let net = Arc::clone(&self.0.networks.net);
        let host = blocking(move || Ok(net.host()?)).await?;
        let others = self.0.networks.subnets();
        let taken: Vec<Cidr> = host.taken.iter().copied().chain(others.iter().copied()).collect();
        if request.ipv6 && !request.subnets.iter().any(|subnet| subnet.subnet.contains(':')) {
            let words = "IPv6 is enabled, and no IPv6 subnet is given: one is not chosen by itself";
            return Err(Error::Invalid(words.to_owned()));
        }
        let mut subnets = Vec::new();
        for asked in &request.subnets {
            let subnet = subnet_of(asked, &taken, &others)?;
            Addresses::new(subnet.clone())?;
            subnets.push(subnet);
        }
        if !subnets.iter().any(|subnet| subnet.cidr.is_ipv4()) && request.ipv4 != Some(false) {
            subnets.insert(0, Pools::default().choose(true, &taken)?);
        }
        let options = &request.options;
        let yes = |key: &str| match options.get(key).map(String::as_str) {
            None => Ok(true),
            Some(text) => text.parse().map_err(|_| Error::Invalid(format!("invalid value {text:?} of {key}"))),
        };
        for key in options.keys() {
            let known = [option::NAME, option::ICC, option::MASQUERADE, option::MTU];
            if key.starts_with("com.docker.network") && !known.iter().chain(&option::KNOWN).any(|one| one == key) {
                return Err(Error::Unsupported(format!("the bridge driver does not know the option {key}")));
            }
        }
        let mtu = options
            .get(option::MTU)
            .map(|text| text.parse().map_err(|_| Error::Invalid(format!("invalid value {text:?} of {}", option::MTU))));
        let names = self.0.networks.net.names();
        let default = if request.name == DEFAULT { names.default_bridge() } else { names.bridge(id) };
        Ok(NetworkSpec {
            id: id.to_owned(),
            name: request.name.clone(),
            bridge: options.get(option::NAME).cloned().unwrap_or(default),
            subnets,
            internal: request.internal,
            icc: yes(option::ICC)?,
            masquerade: yes(option::MASQUERADE)?,
            mtu: mtu.transpose()?,
        })
    }

    /// Makes the networks that are always there, and brings the kernel's to what they should be.
    pub(crate) async fn settle_networks(&self) -> Result<()> {
        for (name, driver) in [(DEFAULT, "bridge"), (HOST, "host"), (NONE, "null")] {
            if self.0.networks.find(name).is_err() {
                let request =
                    CreateNetwork { name: name.to_owned(), driver: driver.to_owned(), ..CreateNetwork::default() };
                self.make_network(request).await?;
            }
        }
        let desired = self.0.networks.desired();
        let net = Arc::clone(&self.0.networks.net);
        let synced = blocking(move || Ok(net.sync(&desired)?)).await?;
        if synced != gantry_net::Synced::default() {
            tracing::info!("networks brought to what they should be: {synced:?}");
        }
        Ok(())
    }

    /// A network as it is now.
    pub fn network(&self, asked: &str) -> Result<NetworkView> {
        let record = self.0.networks.find(asked)?;
        Ok(self.network_view(&record))
    }

    /// All networks.
    pub fn networks(&self) -> Vec<NetworkView> {
        let records: Vec<_> =
            lock(&self.0.networks.table).values().map(|network| Arc::clone(&network.record)).collect();
        records.iter().map(|record| self.network_view(record)).collect()
    }

    fn network_view(&self, record: &Arc<NetworkRecord>) -> NetworkView {
        let members =
            lock(&self.0.networks.table).get(&record.id).map(|network| network.members.clone()).unwrap_or_default();
        let named = members.into_iter().map(|(id, endpoint)| {
            let name = self.find(&id).map(|container| container.record().name.clone()).unwrap_or_default();
            (id, (name, endpoint))
        });
        NetworkView { record: Arc::clone(record), members: named.collect() }
    }

    /// Removes a network.
    ///
    /// # Errors
    /// Containers are in it, or it is one that stays.
    pub async fn remove_network(&self, asked: &str) -> Result<String> {
        let record = self.0.networks.find(asked)?;
        if record.is_predefined() {
            let name = record.name();
            return Err(Error::Forbidden(format!("{name} is a pre-defined network and cannot be removed")));
        }
        let _making = self.0.making.lock().await;
        let view = self.network_view(&record);
        if !view.members.is_empty() {
            let (name, id) = (record.name(), &record.id);
            let members =
                view.members.iter().map(|(_, (name, endpoint))| format!("name:{name:?} id:{:?}", &endpoint.id[..12]));
            let members = members.collect::<Vec<_>>().join(", ");
            let words =
                format!("error while removing network: network {name} id {id} has active endpoints ({members})");
            return Err(Error::Forbidden(words));
        }
        let _changing = self.0.networks.changing.read().await;
        lock(&self.0.networks.table).remove(&record.id);
        self.0.networks.resolver.change(|zone| zone.remove_network(&record.id));
        self.0.db.write(vec![Row::remove(Table::Networks, &record.id)]).await?;
        if let Some(spec) = record.spec.clone() {
            let net = Arc::clone(&self.0.networks.net);
            blocking(move || Ok(net.remove_bridge(&spec)?)).await?;
        }
        let more = [("name".to_owned(), record.name().to_owned()), ("type".to_owned(), record.request.driver.clone())];
        self.tell(Subject::Network, "destroy", &record.id, more);
        Ok(record.id.clone())
    }

    /// Puts a container into a network.
    pub async fn connect(&self, network: &str, container: &str, request: EndpointRequest) -> Result<()> {
        let record = self.0.networks.find(network)?;
        let container = self.find(container)?;
        let _life = container.hold().await?;
        let old = container.record();
        if record.name() == HOST {
            return Err(Error::Invalid(HOST_IS_FIXED.to_owned()));
        }
        if matches!(old.network.mode, NetworkMode::Host | NetworkMode::Container(_)) {
            let words = "container sharing network namespace with another container or host cannot be connected to any other network";
            return Err(Error::Invalid(words.to_owned()));
        }
        let mut new = (*old).clone();
        let is_it = |name: &str| self.0.networks.find(name).is_ok_and(|other| other.id == record.id);
        let main = match &old.network.mode {
            NetworkMode::Bridge => Some(DEFAULT.to_owned()),
            NetworkMode::Named(name) => Some(name.clone()),
            _ => None,
        };
        if main.as_deref().is_some_and(is_it) || old.network.endpoints.iter().any(|endpoint| is_it(&endpoint.network)) {
            let name = record.name();
            return Err(Error::Forbidden(format!("endpoint with name {} already exists in network {name}", old.name)));
        }
        let request = EndpointRequest { network: record.name().to_owned(), ..request };
        self.0.networks.check_addresses(&request)?;
        if main.is_none() {
            new.network.mode = NetworkMode::Named(record.name().to_owned());
        }
        new.network.endpoints.push(request.clone());
        if container.state().status.is_running() {
            if main.is_none() {
                let words = "a container without a network is connected to one only while it does not run";
                return Err(Error::Unsupported(words.to_owned()));
            }
            self.plug(&container, &record, &request).await?;
        }
        self.0.db.write(vec![Row::put(Table::Containers, &container.id, &new)]).await?;
        container.set_record(new);
        self.keep_state(&container);
        self.tell_of_network(&record, "connect", &container.id);
        Ok(())
    }

    /// Gives a container that runs a further place.
    async fn plug(
        &self,
        container: &Arc<Container>,
        network: &Arc<NetworkRecord>,
        request: &EndpointRequest,
    ) -> Result<()> {
        let networks = &self.0.networks;
        let _changing = networks.changing.read().await;
        let state = container.state();
        let free = (0..1024).find(|index| !state.endpoints.values().any(|one| one.interface == format!("eth{index}")));
        let (record, index) = (container.record(), free.unwrap_or_default());
        let first = state.endpoints.is_empty();
        let (_, endpoint, plan) = networks.place(&record, network.name(), request, index, first)?;
        let (net, path) = (Arc::clone(&networks.net), self.netns_path(&container.id));
        let plugged = blocking(move || Ok(net.attach(&open_netns(&path)?, &[plan])?)).await;
        if let Err(error) = plugged {
            networks.release_one(&network.id, &container.id);
            return Err(error);
        }
        container.change(|state| drop(state.endpoints.insert(network.name().to_owned(), endpoint)));
        let endpoints: Vec<Endpoint> = container.state().endpoints.values().cloned().collect();
        self.lead_anew(container, &endpoints).await?;
        self.keep_joined(container)?;
        self.names_anew(container)
    }

    /// Takes a container out of a network.
    pub async fn disconnect(&self, network: &str, container: &str, force: bool) -> Result<()> {
        let record = self.0.networks.find(network)?;
        let container = match self.find(container) {
            Err(error) if force && error.is_missing() => return Ok(()),
            found => found?,
        };
        let _life = container.hold().await?;
        let old = container.record();
        if old.network.mode == NetworkMode::Host && record.name() == HOST {
            return Err(Error::Conflict(HOST_IS_FIXED.to_owned()));
        }
        let is_it = |name: &str| self.0.networks.find(name).is_ok_and(|other| other.id == record.id);
        let mut new = (*old).clone();
        new.network.endpoints.retain(|endpoint| !is_it(&endpoint.network));
        let main = match &old.network.mode {
            NetworkMode::Bridge => is_it(DEFAULT),
            NetworkMode::Named(name) => is_it(name),
            _ => false,
        };
        if main {
            new.network.mode = match new.network.endpoints.first() {
                Some(next) => NetworkMode::Named(next.network.clone()),
                None => NetworkMode::None,
            };
        } else if new.network.endpoints.len() == old.network.endpoints.len() {
            let (name, id) = (record.name(), &container.id);
            return Err(Error::Forbidden(format!("container {id} is not connected to network {name}")));
        }
        if container.state().status.is_running() {
            self.unplug(&container, &record).await?;
        }
        self.0.db.write(vec![Row::put(Table::Containers, &container.id, &new)]).await?;
        container.set_record(new);
        self.keep_state(&container);
        self.tell_of_network(&record, "disconnect", &container.id);
        Ok(())
    }

    async fn unplug(&self, container: &Arc<Container>, network: &Arc<NetworkRecord>) -> Result<()> {
        let networks = &self.0.networks;
        let _changing = networks.changing.read().await;
        let state = container.state();
        let Some(endpoint) = networks.release_one(&network.id, &container.id) else { return Ok(()) };
        let left = state.endpoints.values().filter(|other| other.id != endpoint.id).cloned().collect::<Vec<_>>();
        self.lead_anew(container, &left).await?;
        let Some(spec) = network.spec.clone() else { return Ok(()) };
        let place = gantry_net::Endpoint {
            id: endpoint.id.clone(),
            interface: endpoint.interface.clone(),
            mac: endpoint.mac_address.parse()?,
            addresses: Vec::new(),
            gateway: false,
        };
        let plan = gantry_net::plan::endpoint(networks.net.names(), &spec, &place)?;
        let net = Arc::clone(&networks.net);
        blocking(move || Ok(net.detach(&plan)?)).await?;
        container.change(|state| drop(state.endpoints.remove(network.name())));
        self.keep_joined(container)?;
        self.names_anew(container)
    }

    /// Says again which names a container sees, after it came into a network or left one.
    fn names_anew(&self, container: &Arc<Container>) -> Result<()> {
        use std::os::fd::AsFd as _;
        let networks = &self.0.networks;
        let state = container.state();
        let named: Vec<&Endpoint> =
            state.endpoints.iter().filter(|(name, _)| *name != DEFAULT).map(|(_, endpoint)| endpoint).collect();
        networks.resolver.change(|zone| {
            for endpoint in &named {
                zone.insert(&endpoint.network_id, &container.id, super::join::member(endpoint));
            }
        });
        let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let settings = super::files::dns(&container.record())?;
        let service = gantry_net::files::NameService::Own;
        let (conf, upstreams) = gantry_net::files::ResolvConf::for_container(&host, &settings, service);
        let view = gantry_net::dns::View {
            networks: named.iter().map(|endpoint| endpoint.network_id.clone()).collect(),
            upstreams,
            ..gantry_net::dns::View::default()
        };
        let mut holds = lock(&networks.holds);
        let hold = holds.entry(container.id.clone()).or_default();
        match &hold.resolver {
            Some(listener) => listener.set_view(view),
            None if !named.is_empty() => {
                let netns = open_netns(&self.netns_path(&container.id))?;
                hold.resolver = Some(networks.resolver.listen(netns.as_fd(), view)?);
                // In place: the container has the file itself mounted.
                let path = self.root_dir(&container.id).join("resolv.conf");
                if let Err(error) = std::fs::write(&path, conf.text()) {
                    tracing::warn!("write {}: {error}", path.display());
                }
            }
            None => {}
        }
        if hold.is_empty() {
            holds.remove(&container.id);
        }
        Ok(())
    }

    pub(crate) fn tell_of_network(&self, network: &NetworkRecord, action: &str, container: &str) {
        let more = [
            ("container".to_owned(), container.to_owned()),
            ("name".to_owned(), network.name().to_owned()),
            ("type".to_owned(), network.request.driver.clone()),
        ];
        self.tell(Subject::Network, action, &network.id, more);
    }
}

impl Networks {
    /// The blocks of all networks.
    fn subnets(&self) -> Vec<Cidr> {
        let table = lock(&self.table);
        let specs = table.values().filter_map(|network| network.record.spec.as_ref());
        specs.flat_map(|spec| spec.subnets.iter().map(|subnet| subnet.cidr)).collect()
    }

    /// All that there is to be in the kernel.
    pub(super) fn desired(&self) -> Desired {
        let table = lock(&self.table);
        let mut desired = Desired::default();
        let members = table.values().flat_map(|network| network.members.values());
        desired.endpoints.extend(members.map(|endpoint| endpoint.id.clone()));
        desired.networks.extend(table.values().filter_map(|network| network.record.spec.clone()));
        drop(table);
        desired.ports.extend(lock(&self.holds).values().flat_map(|hold| hold.mappings.iter().copied()));
        desired
    }
}

/// A subnet that was asked for.
fn subnet_of(asked: &SubnetRequest, taken: &[Cidr], others: &[Cidr]) -> Result<Subnet> {
    let address = |what: &str, text: &String| {
        text.parse::<IpAddr>().map_err(|_| Error::Invalid(format!("invalid {what} {text}: it is no address")))
    };
    let mut subnet = if asked.subnet.is_empty() {
        Pools::default().choose(true, taken)?
    } else {
        let cidr: Cidr = asked
            .subnet
            .parse()
            .map_err(|error| Error::Invalid(format!("invalid subnet {}: {error}", asked.subnet)))?;
        if let Some(other) = others.iter().find(|other| other.overlaps(&cidr)) {
            return Err(gantry_net::Error::Overlap { subnet: cidr, other: *other }.into());
        }
        Subnet { cidr, gateway: first_of(&cidr), ip_range: None, aux: BTreeMap::new() }
    };
    if !asked.gateway.is_empty() {
        subnet.gateway = Some(address("gateway", &asked.gateway)?);
    }
    if !asked.ip_range.is_empty() {
        let range = asked
            .ip_range
            .parse()
            .map_err(|error| Error::Invalid(format!("invalid IP range {}: {error}", asked.ip_range)))?;
        subnet.ip_range = Some(range);
    }
    for (name, text) in &asked.aux_addresses {
        subnet.aux.insert(name.clone(), address("auxiliary address", text)?);
    }
    Ok(subnet)
}

/// The first address of a block that a host can have.
fn first_of(cidr: &Cidr) -> Option<IpAddr> {
    match cidr.address() {
        IpAddr::V4(address) => u32::from(address).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(address) => u128::from(address).checked_add(1).map(|next| IpAddr::V6(next.into())),
    }
}
