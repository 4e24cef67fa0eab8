//! A container joins networks when it starts, and leaves them when it ends.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_net::dns::{Member, View};
use gantry_net::plan::EndpointPlan;
use gantry_net::ports::Reservation;
use gantry_net::{Netns, create_netns, open_netns, remove_netns};
use serde::{Deserialize, Serialize};

use crate::container::{Endpoint, Published, Record};
use crate::engine::{Engine, blocking};
use crate::error::{Context, Error, Result};
use crate::request::NetworkMode;
use crate::settings::Namespace;
use crate::table::{Container, lock};

use super::{DEFAULT, Hold, NetworkRecord, host_files};

/// What a container has of networks while it runs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Joined {
    /// Its network namespace.
    pub(crate) namespace: Namespace,
    /// Its places, with the name of the network.
    pub(crate) endpoints: Vec<(String, Endpoint)>,
    /// Its published ports.
    pub(crate) ports: Vec<Published>,
}

impl Joined {
    /// Writes it down among what a container has while it runs.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let (path, new) = (dir.join("network.json"), dir.join("network.new"));
        let text = serde_json::to_vec(self).unwrap_or_default();
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &path))
            .context(|| format!("write {}", path.display()))
    }

    /// What was written down.
    pub(crate) fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.join("network.json")).ok()?).ok()
    }
}

/// Where a container is to be, before anything is made.
pub(super) struct Plan {
    /// Networks, each with the place in it.
    pub(super) endpoints: Vec<(Arc<NetworkRecord>, Endpoint)>,
    /// The same as the kernel gets it.
    pub(super) plans: Vec<EndpointPlan>,
}

impl Engine {
    /// Makes the network of a container that starts.
    pub(crate) async fn join(&self, container: &Arc<Container>) -> Result<Joined> {
        let record = container.record();
        let dir = self.root_dir(&record.id);
        match &record.network.mode {
            NetworkMode::Host => {
                host_files(&dir, &record, &[], Vec::new(), None)?;
                Ok(Joined { namespace: Namespace::Host, ..Joined::default() })
            }
            NetworkMode::None => {
                host_files(&dir, &record, &[], Vec::new(), None)?;
                Ok(Joined::default())
            }
            NetworkMode::Container(other) => self.join_other(other),
            NetworkMode::Bridge | NetworkMode::Named(_) => {
                let changing = self.0.networks.changing.read().await;
                let plan = self.0.networks.plan(&record)?;
                let joined = self.carry_out(container, &record, &plan).await;
                drop(changing);
                if joined.is_err() {
                    self.leave(container).await;
                }
                joined
            }
        }
    }

    /// Joins the namespace of another container.
    fn join_other(&self, other: &str) -> Result<Joined> {
        let other = self.find(other)?;
        let state = other.state();
        if !state.status.is_running() {
            let id = &other.id;
            return Err(Error::Conflict(format!("cannot join network namespace of a non running container: {id}")));
        }
        let namespace = Namespace::Path(format!("/proc/{}/ns/net", state.pid));
        Ok(Joined { namespace, ..Joined::default() })
    }

    async fn carry_out(&self, container: &Arc<Container>, record: &Arc<Record>, plan: &Plan) -> Result<Joined> {
        let path = self.netns_path(&record.id);
        let (net, at, plans) = (Arc::clone(&self.0.networks.net), path.clone(), plan.plans.clone());
        let netns = blocking(move || {
            remove_netns(&at)?;
            let netns = create_netns(&at)?;
            net.attach(&netns, &plans)?;
            Ok(netns)
        })
        .await?;
        let ports = self.publish(record, plan)?;
        let links = self.links(record);
        let named = |network: &NetworkRecord| network.name() != DEFAULT;
        let endpoints: Vec<_> =
            plan.endpoints.iter().map(|(network, endpoint)| (endpoint.clone(), named(network))).collect();
        let bridge = plan.endpoints.first().and_then(|(network, _)| network.spec.as_ref());
        let gateway = bridge.and_then(|spec| spec.subnet(true)).and_then(|subnet| subnet.gateway);
        let upstreams = host_files(&self.root_dir(&record.id), record, &endpoints, links.clone(), gateway)?;
        self.listen(container, &netns, plan, links, upstreams)?;
        Ok(Joined {
            namespace: Namespace::Path(path.display().to_string()),
            endpoints: plan
                .endpoints
                .iter()
                .map(|(network, endpoint)| (network.name().to_owned(), endpoint.clone()))
                .collect(),
            ports,
        })
    }

    /// Makes a container's names known, and answers its questions for names.
    fn listen(
        &self,
        container: &Container,
        netns: &Netns,
        plan: &Plan,
        links: Vec<(String, IpAddr)>,
        upstreams: Vec<std::net::SocketAddr>,
    ) -> Result<()> {
        use std::os::fd::AsFd as _;
        let networks = &self.0.networks;
        let named: Vec<_> = plan.endpoints.iter().filter(|(network, _)| network.name() != DEFAULT).collect();
        if named.is_empty() {
            return Ok(());
        }
        networks.resolver.change(|zone| {
            for (network, endpoint) in &named {
                zone.insert(&network.id, &container.id, member(endpoint));
            }
        });
        let internal = named.iter().all(|(network, _)| network.request.internal);
        let mut view = View {
            networks: named.iter().map(|(network, _)| network.id.clone()).collect(),
            upstreams: if internal { Vec::new() } else { upstreams },
            ..View::default()
        };
        for (name, address) in links {
            view.names.entry(name).or_default().push(address);
        }
        let listener = networks.resolver.listen(netns.as_fd(), view)?;
        lock(&networks.holds).entry(container.id.clone()).or_default().resolver = Some(listener);
        Ok(())
    }

    /// The names of linked containers that run, with their addresses.
    fn links(&self, record: &Record) -> Vec<(String, IpAddr)> {
        let mut found = Vec::new();
        let asked = record.network.endpoints.iter().flat_map(|endpoint| &endpoint.links);
        for link in record.network.links.iter().chain(asked) {
            let (other, alias) = link.split_once(':').unwrap_or((link, link));
            let Ok(other) = self.find(other) else { continue };
            let (state, theirs) = (other.state(), other.record());
            let address = state.endpoints.values().find_map(|endpoint| endpoint.ipv4.parse().ok());
            let Some(address) = address else { continue };
            for name in [alias, &theirs.config.hostname, &theirs.name] {
                if !found.iter().any(|(known, _)| known == name) {
                    found.push((name.to_owned(), address));
                }
            }
        }
        found
    }

    /// Takes the network of a container away.
    pub(crate) async fn leave(&self, container: &Arc<Container>) {
        let networks = &self.0.networks;
        let _changing = networks.changing.read().await;
        let hold = lock(&networks.holds).remove(&container.id);
        networks.release(&container.id);
        let (net, path) = (Arc::clone(&networks.net), self.netns_path(&container.id));
        let left = blocking(move || {
            let Hold { ports, mappings, resolver } = hold.unwrap_or_default();
            let unpublished = if mappings.is_empty() { Ok(()) } else { net.unpublish(&mappings) };
            // The ports are free when nothing leads to them any more.
            ports.into_iter().for_each(Reservation::close);
            drop(resolver);
            remove_netns(&path)?;
            Ok(unpublished?)
        });
        if let Err(error) = left.await {
            tracing::warn!("take away the network of container {}: {error}", container.id);
        }
    }

    /// Takes up the network of a container that runs on from before.
    pub(crate) fn take_up(&self, container: &Arc<Container>, joined: &Joined) -> Result<()> {
        let networks = &self.0.networks;
        let record = container.record();
        let mut plan = Plan { endpoints: Vec::new(), plans: Vec::new() };
        for (_, endpoint) in &joined.endpoints {
            let network = networks.find(&endpoint.network_id)?;
            networks.occupy(&network.id, &container.id, endpoint)?;
            plan.endpoints.push((network, endpoint.clone()));
        }
        let endpoints: Vec<Endpoint> = plan.endpoints.iter().map(|(_, endpoint)| endpoint.clone()).collect();
        self.hold_ports(&container.id, &joined.ports, &endpoints);
        if let Namespace::Path(path) = &joined.namespace
            && plan.endpoints.iter().any(|(network, _)| network.name() != DEFAULT)
        {
            let netns = open_netns(Path::new(path))?;
            let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            let settings = super::files::dns(&record)?;
            let service = gantry_net::files::NameService::Own;
            let (_, upstreams) = gantry_net::files::ResolvConf::for_container(&host, &settings, service);
            self.listen(container, &netns, &plan, self.links(&record), upstreams)?;
        }
        Ok(())
    }

    /// Where the network namespace of a sandbox is mounted.
    pub(crate) fn netns_path(&self, id: &str) -> PathBuf {
        self.0.options.run.join("netns").join(id)
    }
}

/// What a place is known by.
pub(super) fn member(endpoint: &Endpoint) -> Member {
    let addresses = [&endpoint.ipv4, &endpoint.ipv6].into_iter().filter_map(|text| text.parse().ok()).collect();
    Member { names: endpoint.dns_names.clone(), addresses }
}

/// An empty hold says nothing.
impl Hold {
    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.mappings.is_empty() && self.resolver.is_none()
    }
}
