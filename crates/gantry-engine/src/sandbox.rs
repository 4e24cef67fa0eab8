//! Sandboxes that stand by themselves: namespaces that several containers share, with an address.
//!
//! One small process, which does nothing but reap, keeps the namespaces as long as the sandbox is up: so containers of it
//! come and go in any order, and share process ids where that was asked for. It is started, watched over and found again
//! like every container, and seen by nobody who lists containers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::container::{Record, State};
use crate::db::{Row, Table};
use crate::engine::{Engine, blocking, make_dir};
use crate::error::{Error, Result};
use crate::names;
use crate::request::{Config, CreateContainer, Host, LogConfig, Network, NetworkMode, RemoveOptions, Sharing};
use crate::table::Container;

/// Where the process of a sandbox finds its program.
pub(crate) const PROGRAM: &str = "/sbin/gantry-init";

/// A sandbox to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateSandbox {
    /// Its name; empty is made up.
    pub name: String,
    /// Host name of its containers; empty is the beginning of its id.
    pub hostname: String,
    /// Its network.
    pub network: Network,
    /// Whether its containers see each other's processes.
    pub share_pid: bool,
    /// Labels.
    pub labels: std::collections::BTreeMap<String, String>,
}

/// What makes a container a sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SandboxRecord {
    /// Whether its containers see each other's processes.
    pub share_pid: bool,
}

impl Engine {
    /// Makes a sandbox; it is started as a container is. Returns its id.
    ///
    /// # Errors
    /// Its name is taken, or its network makes no sense.
    pub async fn create_sandbox(&self, asked: CreateSandbox) -> Result<String> {
        let id = names::id()?;
        let name = if asked.name.is_empty() { format!("sandbox-{}", &id[..12]) } else { asked.name };
        names::check("sandbox", &name)?;
        let hostname = if asked.hostname.is_empty() { id[..12].to_owned() } else { asked.hostname };
        let record = Record {
            id: id.clone(),
            name: name.clone(),
            created: self.now(),
            image: None,
            config: Config { hostname, cmd: Some(vec![PROGRAM.to_owned()]), labels: asked.labels, ..Config::default() },
            host: Host {
                ipc: Sharing::Shareable,
                log: LogConfig { driver: "none".to_owned(), ..LogConfig::default() },
                ..Host::default()
            },
            network: asked.network,
            sandbox: id.clone(),
            infra: Some(SandboxRecord { share_pid: asked.share_pid }),
            mounts: Vec::new(),
            origin: String::new(),
        };
        self.write().take_name(&name, &id)?;
        let (store, key, dir) = (self.images().store().clone(), id.clone(), self.root_dir(&id));
        let made = blocking(move || {
            // The directory comes first and goes last: by it what a crash left is found.
            make_dir(&dir)?;
            Ok(store.prepare(&key, None).map(drop)?)
        });
        let kept = match made.await {
            Ok(()) => self.0.db.write(vec![Row::put(Table::Containers, &id, &record)]).await,
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            self.clear(&id).await;
            self.write().free_name(&name);
            return Err(error);
        }
        self.write().insert(Arc::new(Container::new(record, State::default())));
        Ok(id)
    }

    /// The ids of the containers of a sandbox.
    pub fn containers_of(&self, sandbox: &str) -> Vec<String> {
        let all = self.read().all();
        all.iter()
            .filter(|one| one.record().sandbox == sandbox && one.id != sandbox)
            .map(|one| one.id.clone())
            .collect()
    }

    /// Removes a sandbox with all its containers, whatever they do.
    pub async fn remove_sandbox(&self, asked: &str) -> Result<()> {
        let sandbox = self.find(asked)?;
        if sandbox.record().infra.is_none() {
            return Err(Error::NoSuch("sandbox", asked.to_owned()));
        }
        let options = RemoveOptions { force: true, volumes: true };
        for id in self.containers_of(&sandbox.id) {
            match self.remove(&id, options).await {
                Err(error) if !error.is_missing() => return Err(error),
                _ => {}
            }
        }
        self.remove(&sandbox.id, options).await
    }

    /// Puts a container that is to be made into the sandbox that it names.
    pub(crate) fn placed(&self, mut request: CreateContainer) -> Result<CreateContainer> {
        let Some(asked) = &request.sandbox else { return Ok(request) };
        let sandbox = self.find(asked)?;
        let record = sandbox.record();
        let Some(infra) = record.infra else { return Err(Error::NoSuch("sandbox", asked.clone())) };
        let own =
            [&request.host.ipc, &request.host.uts, &request.host.pid].into_iter().all(|one| *one == Sharing::Private);
        if !own || request.network != Network::default() {
            return Err(Error::Invalid("a container in a sandbox has the sandbox's network and namespaces".to_owned()));
        }
        let id = &sandbox.id;
        request.network.mode = NetworkMode::Container(id.clone());
        (request.host.ipc, request.host.uts) = (Sharing::Container(id.clone()), Sharing::Container(id.clone()));
        if infra.share_pid {
            request.host.pid = Sharing::Container(id.clone());
        }
        if request.config.hostname.is_empty() {
            request.config.hostname.clone_from(&record.config.hostname);
        }
        request.sandbox = Some(id.clone());
        Ok(request)
    }
}
