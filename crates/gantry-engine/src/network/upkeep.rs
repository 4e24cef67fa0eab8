//! Networks are kept as they should be: what others take away comes back.
//!
//! Whoever reloads a firewall flushes the rules of the whole host, and tools that manage devices remove those that they do
//! not know. The kernel tells of it; then it is compared what should be and what is.

use std::sync::Arc;
use std::time::Duration;

use gantry_net::plan::{self, EndpointPlan};
use gantry_net::{Disturbance, Watch, open_netns};

use crate::engine::{Engine, blocking};
use crate::error::Result;
use crate::table::lock;

use super::places::{gateway_of, requests};

/// How long is waited for more after something was heard: a reload is many changes.
const SETTLE: Duration = Duration::from_millis(200);
/// How long nothing is done after something was brought back: whoever takes it away again and again keeps us no busier.
const REST: Duration = Duration::from_secs(1);
/// The same when it could not be, at most: it becomes longer each time.
const LONGEST_REST: Duration = Duration::from_secs(60);

impl Engine {
    /// Brings back what others take away of the networks, from now on.
    pub(crate) fn look_after_networks(&self) {
        match self.0.networks.net.watch() {
            Ok(watch) => {
                let engine = self.clone();
                self.spawn(async move { engine.look_after(watch).await });
            }
            Err(error) => tracing::warn!("rules and devices that others remove are not brought back: {error}"),
        }
    }

    async fn look_after(&self, mut watch: Watch) {
        // How long to rest when something could not be brought back, which is tried again.
        let mut failed: Option<Duration> = None;
        loop {
            let done = async {
                let first = if failed.is_some() { Disturbance::default() } else { watch.disturbed().await? };
                tokio::time::sleep(SETTLE).await;
                let more = watch.take()?;
                self.repair(&[first, more], failed.is_some()).await
            };
            match done.await {
                Ok(false) => failed = None,
                Ok(true) => {
                    failed = None;
                    tokio::time::sleep(REST).await;
                }
                Err(error) => {
                    tracing::warn!("bring networks back to what they should be: {error}");
                    let rest = failed.map_or(REST, |rest| (rest * 2).min(LONGEST_REST));
                    failed = Some(rest);
                    tokio::time::sleep(rest).await;
                }
            }
        }
    }

    /// Looks at what may have been disturbed, and brings it back; `anyway` if that failed before. Returns whether anything
    /// was.
    async fn repair(&self, disturbances: &[Disturbance], anyway: bool) -> Result<bool> {
        let networks = &self.0.networks;
        // Nobody joins or leaves meanwhile: what should be stays the same until it is.
        let _changing = networks.changing.write().await;
        let net = Arc::clone(&networks.net);
        let lost = disturbances.iter().any(|one| one.missed || one.links.iter().any(|name| networks.has_link(name)));
        let beside = disturbances.iter().any(|one| one.beside);
        let intact = blocking(move || {
            if beside {
                net.pass_beside_others();
            }
            Ok(net.is_intact()?)
        });
        if intact.await? && !lost && !anyway {
            return Ok(false);
        }
        let (net, desired) = (Arc::clone(&networks.net), networks.desired());
        let missing = blocking(move || Ok(net.restore(&desired)?)).await?;
        tracing::warn!("others removed rules or network devices of the engine; they were brought back");
        for id in &missing {
            if let Err(error) = self.attach_again(id).await {
                tracing::warn!("bring back the network device of endpoint {id}: {error}");
            }
        }
        Ok(true)
    }

    /// Gives a container its device again.
    async fn attach_again(&self, endpoint: &str) -> Result<()> {
        let Some((container, plan)) = self.plan_of(endpoint)? else { return Ok(()) };
        let (net, path) = (Arc::clone(&self.0.networks.net), self.netns_path(&container));
        blocking(move || {
            let netns = open_netns(&path)?;
            // What is left of it is of no use.
            net.detach(&plan)?;
            Ok(net.attach(&netns, &[plan])?)
        })
        .await
    }

    /// The container that has an endpoint, and how the endpoint is made.
    fn plan_of(&self, id: &str) -> Result<Option<(String, EndpointPlan)>> {
        let networks = &self.0.networks;
        let table = lock(&networks.table);
        let member = |network: &super::Network| {
            let found = network.members.iter().find(|(_, endpoint)| endpoint.id == id);
            found.map(|(container, endpoint)| (Arc::clone(&network.record), container.clone(), endpoint.clone()))
        };
        let Some((network, container, endpoint)) = table.values().find_map(member) else { return Ok(None) };
        drop(table);
        let Some(spec) = &network.spec else { return Ok(None) };
        let requests = requests(&self.find(&container)?.record());
        let way_out = gateway_of(&requests).and_then(|index| requests.get(index)).map(|(name, _)| name);
        let gateway = way_out.is_some_and(|name| networks.find(name).is_ok_and(|other| other.id == network.id));
        let addresses = [&endpoint.ipv4, &endpoint.ipv6].into_iter().filter_map(|text| text.parse().ok()).collect();
        let place = gantry_net::Endpoint {
            id: endpoint.id.clone(),
            interface: endpoint.interface.clone(),
            mac: endpoint.mac_address.parse()?,
            addresses,
            gateway,
        };
        Ok(Some((container, plan::endpoint(networks.net.names(), spec, &place)?)))
    }
}

impl super::Networks {
    /// Whether a device of the host is one that should be there.
    fn has_link(&self, name: &str) -> bool {
        let table = lock(&self.table);
        let is_bridge = |network: &super::Network| network.record.spec.as_ref().is_some_and(|spec| spec.bridge == name);
        let is_port =
            |network: &super::Network| network.members.values().any(|endpoint| endpoint.host_interface == name);
        table.values().any(|network| is_bridge(network) || is_port(network))
    }
}
