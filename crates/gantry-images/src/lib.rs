//! Images: pulled and pushed, saved and loaded, listed, named and removed.
//!
//! The store holds content and layers, the registry client moves bytes; this crate knows what an image is. Decisions are
//! made in modules that do no input or output (`plan`, `filter`, `changes`, `docs`, `pattern`).
//!
//! An image's id is the digest of its configuration, as Docker users expect. A name points to a manifest or an index.

mod changes;
mod commit;
mod compress;
mod diff;
mod docs;
mod error;
mod export;
mod feed;
mod filter;
mod import;
mod layer_tar;
mod load;
mod local;
mod names;
mod pattern;
mod plan;
mod progress;
mod prune;
mod pull;
mod push;
mod query;
mod remove;
mod save;
mod sink;
mod unpack;
mod upload;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use gantry_distribution::Client;
use gantry_model::time;
use gantry_store::Store;
use tokio::sync::Semaphore;

pub use commit::CommitOptions;
pub use compress::{DEFAULT_GZIP, DEFAULT_ZSTD, Method, compress};
pub use diff::{Change, ChangeKind};
pub use docs::{Config, GraphDriver, HistoryEntry, Inspect, Metadata, Removed, RootFs, Summary};
pub use error::{Error, Result};
pub use filter::{Filter, Filters, Subject};
pub use import::ImportOptions;
pub use load::{LoadOptions, Loading};
pub use local::{Asked, Loaded, Local};
pub use pattern::{matches, matches_reference};
pub use progress::{Progress, Reporter, Step, silent};
pub use prune::{PruneOptions, Pruned};
pub use pull::{PullOptions, Pulled};
pub use push::{PushOptions, Pushed};
pub use query::{DiskUsage, ListOptions};
pub use remove::{ContainerUse, RemoveOptions};
pub use save::{Format, SaveOptions};
pub use unpack::Unpacked;

/// How long what a crashed operation had is kept for the next try.
pub(crate) const LEASE: Duration = Duration::from_secs(24 * 3600);

/// How much is done at a time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Layers that are downloaded and unpacked at a time, by all pulls together.
    pub downloads: usize,
    /// Layers that are sent at a time, by all pushes together.
    pub uploads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { downloads: 3, uploads: 4 }
    }
}

/// The images of a store, and the way to registries. Clones share everything.
#[derive(Clone)]
pub struct Images {
    pub(crate) store: Store,
    client: Arc<RwLock<Client>>,
    pub(crate) downloads: Arc<Semaphore>,
    pub(crate) uploads: Arc<Semaphore>,
    pub(crate) compressions: Arc<Semaphore>,
}

impl Images {
    /// The images of a store.
    pub fn new(store: Store, client: Client) -> Self {
        Self::with_limits(store, client, Limits::default())
    }

    /// The same with limits of its own.
    pub fn with_limits(store: Store, client: Client, limits: Limits) -> Self {
        let semaphore = |count: usize| Arc::new(Semaphore::new(count.max(1)));
        Self {
            store,
            client: Arc::new(RwLock::new(client)),
            downloads: semaphore(limits.downloads),
            uploads: semaphore(limits.uploads),
            compressions: semaphore(1),
        }
    }

    /// The same images, with another way to registries: with the logins of one request, say.
    #[must_use]
    pub fn with_client(&self, client: Client) -> Self {
        Self { client: Arc::new(RwLock::new(client)), ..self.clone() }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The registry client.
    pub fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the way to registries, for these images and all clones of them. What is being moved goes on as it began.
    pub fn set_client(&self, client: Client) {
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
    }

    /// Runs something that waits for the disk where it may.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        body: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || body(&store)).await.map_err(|_| Error::Task(what))?
    }
}
