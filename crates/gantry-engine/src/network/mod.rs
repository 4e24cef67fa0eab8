//! Networks, and the places of containers in them.
//!
//! What a network is to be is kept in the database; which addresses are taken is known from the containers that run.

mod files;
mod join;
mod manage;
mod places;
mod publish;
mod upkeep;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use gantry_net::dns::{Listener, Resolver};
use gantry_net::ipam::Addresses;
use gantry_net::ports::{PortKeeper, Reservation};
use gantry_net::{Names, Net, NetworkSpec, PortMapping};
use serde::{Deserialize, Serialize};

use crate::container::Endpoint;
use crate::error::{Error, Result};
use crate::request::CreateNetwork;
use crate::table::lock;

pub(crate) use files::host_files;
pub(crate) use join::Joined;

/// The network that containers are in if nothing else is said.
pub const DEFAULT: &str = "bridge";
/// Names that are networks of another kind.
pub const HOST: &str = "host";
/// No network but a loopback.
pub const NONE: &str = "none";

/// What a network is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkRecord {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// When it was made, in nanoseconds since 1970.
    pub created: i64,
    /// What was asked for, with what was filled in.
    pub request: CreateNetwork,
    /// What it is in the kernel; none for those that are no bridge.
    #[serde(default)]
    pub spec: Option<NetworkSpec>,
}

impl NetworkRecord {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.request.name
    }

    /// Whether it is there from the beginning and stays.
    pub fn is_predefined(&self) -> bool {
        [DEFAULT, HOST, NONE].contains(&self.name())
    }
}

/// A network as it is at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkView {
    /// What it is.
    pub record: Arc<NetworkRecord>,
    /// The containers in it that run: by id, their name and place.
    pub members: BTreeMap<String, (String, Endpoint)>,
}

/// A network, and what of it is in use.
#[derive(Debug)]
pub(crate) struct Network {
    record: Arc<NetworkRecord>,
    addresses: Vec<Addresses>,
    /// Places in it, by the container's id.
    members: BTreeMap<String, Endpoint>,
}

/// What a container's network holds in this process.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    ports: Vec<Reservation>,
    /// What the kernel leads to it.
    mappings: Vec<PortMapping>,
    resolver: Option<Listener>,
}

/// All networks.
#[derive(Debug)]
pub(crate) struct Networks {
    net: Arc<Net>,
    keeper: PortKeeper,
    resolver: Resolver,
    table: Mutex<BTreeMap<String, Network>>,
    holds: Mutex<HashMap<String, Hold>>,
    /// Read by who joins or leaves; written by who compares all that should be with what is.
    changing: tokio::sync::RwLock<()>,
}

impl Networks {
    /// Networks that were kept.
    pub(crate) fn open(prefix: &str, records: Vec<NetworkRecord>) -> Result<Self> {
        let names = Names::new(prefix)?;
        let net = Arc::new(Net::open(gantry_net::Options { names })?);
        let networks = Self {
            net,
            keeper: PortKeeper::new(),
            resolver: Resolver::new(),
            table: Mutex::default(),
            holds: Mutex::default(),
            changing: tokio::sync::RwLock::default(),
        };
        for record in records {
            networks.insert(record)?;
        }
        Ok(networks)
    }

    /// The kernel's side.
    pub(crate) fn kernel(&self) -> Arc<Net> {
        Arc::clone(&self.net)
    }

    fn insert(&self, record: NetworkRecord) -> Result<Arc<NetworkRecord>> {
        let subnets = record.spec.iter().flat_map(|spec| spec.subnets.iter().cloned());
        let addresses = subnets.map(Addresses::new).collect::<Result<_, _>>()?;
        let record = Arc::new(record);
        self.resolver.change(|zone| zone.set_network(&record.id, record.name()));
        let network = Network { record: Arc::clone(&record), addresses, members: BTreeMap::new() };
        lock(&self.table).insert(record.id.clone(), network);
        Ok(record)
    }

    /// Finds one by id, name, or the beginning of an id.
    pub(crate) fn find(&self, asked: &str) -> Result<Arc<NetworkRecord>> {
        let table = lock(&self.table);
        if let Some(network) = table.get(asked) {
            return Ok(Arc::clone(&network.record));
        }
        if let Some(network) = table.values().find(|network| network.record.name() == asked) {
            return Ok(Arc::clone(&network.record));
        }
        let mut found = table.iter().filter(|(id, _)| !asked.is_empty() && id.starts_with(asked));
        match (found.next(), found.next()) {
            (Some((_, network)), None) => Ok(Arc::clone(&network.record)),
            (Some(_), Some(_)) => Err(Error::Ambiguous("network", asked.to_owned())),
            _ => Err(Error::NoNetwork(asked.to_owned())),
        }
    }
}
