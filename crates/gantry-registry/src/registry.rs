//! The registry: what its parts share, and the work that it does by itself from time to time.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gantry_model::digest::Digest;

use crate::api::{Code, Refusal};
use crate::auth::Auth;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::gc::{self, Collected};
use crate::metrics::Metrics;
use crate::repo::Repo;
use crate::repos::Repos;
use crate::retention::{self, Removed};
use crate::storage::Storage;
use crate::uploads::Uploads;
use crate::upstream::Upstreams;

/// Tells the time, in unix seconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What the parts share.
pub(crate) struct Inner {
    pub config: Config,
    pub clock: Clock,
    pub storage: Arc<Storage>,
    pub repos: Repos,
    pub uploads: Uploads,
    pub auth: Option<Auth>,
    pub metrics: Metrics,
    pub gc: gc::State,
    pub upstreams: Upstreams,
    stopping: AtomicBool,
    /// Held as long as the registry lives, so that no second one uses the directory.
    _lock: File,
}

impl Inner {
    /// Opens the storage and takes up what an earlier server left.
    pub async fn open(config: Config, clock: Clock) -> Result<Self> {
        config.check()?;
        let root = &config.storage.root;
        std::fs::create_dir_all(root).map_err(|e| Error::io("create", root, e))?;
        let lock = lock(root)?;
        let storage = Arc::new(Storage::open(&config.storage)?);
        storage.reach().await?;
        let auth = match &config.auth {
            Some(auth) => Some(Auth::open(auth, &config, &storage).await?),
            None => None,
        };
        let gc = gc::State::load(&storage).await?;
        let upstreams = Upstreams::open(&config.upstream)?;
        Ok(Self {
            repos: Repos::new(storage.clone()),
            uploads: Uploads::open(root)?,
            storage,
            auth,
            gc,
            upstreams,
            clock,
            config,
            metrics: Metrics::default(),
            stopping: AtomicBool::new(false),
            _lock: lock,
        })
    }

    /// Whether it takes no new connections any more.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The most bytes that a repository may hold.
    pub fn quota(&self, repository: &str) -> Option<u64> {
        let about = |patterns: &[crate::Pattern]| patterns.iter().any(|p| p.matches(repository));
        self.config.quota.iter().find(|quota| about(&quota.repositories)).map(|quota| quota.bytes.0)
    }

    /// Refuses what would make a repository hold more than it may.
    pub fn check_quota(&self, name: &str, repo: &Repo, more: u64) -> std::result::Result<(), Refusal> {
        let Some(most) = self.quota(name) else { return Ok(()) };
        let now = repo.state().bytes;
        if now.saturating_add(more) <= most {
            return Ok(());
        }
        let message =
            format!("{name} holds {now} bytes and may hold {most}: {more} more are too many; delete some first");
        Err(Refusal::new(Code::Denied, message))
    }

    /// The error of a repository that may not hold so much.
    pub fn over(&self, repository: &str, more: u64) -> Error {
        let most = self.quota(repository).unwrap_or(u64::MAX);
        Error::Quota { repository: repository.to_owned(), most, more }
    }

    /// Refuses to move (`new`) or delete a tag that is not to change.
    pub fn check_immutable(
        &self,
        repository: &str,
        tag: &str,
        old: Option<&Digest>,
        new: Option<&Digest>,
    ) -> std::result::Result<(), Refusal> {
        let Some(old) = old.filter(|old| Some(*old) != new) else { return Ok(()) };
        let about = |patterns: &[crate::Pattern], text: &str| patterns.iter().any(|p| p.matches(text));
        let fixed = |rule: &crate::Immutable| about(&rule.repositories, repository) && about(&rule.tags, tag);
        if !self.config.immutable.iter().any(fixed) {
            return Ok(());
        }
        let message = format!("the tag {tag} of {repository} is immutable and points to {old}: use another tag");
        Err(Refusal::new(Code::Denied, message))
    }

    /// Removes what nothing has needed for the grace period.
    pub async fn collect(&self, dry_run: bool) -> Result<Collected> {
        gc::collect(self, dry_run).await
    }

    /// Applies the rules of retention to all repositories.
    pub async fn retain(&self, dry_run: bool) -> Result<Vec<Removed>> {
        retention::apply(self, dry_run).await
    }

    /// Removes uploads that nobody goes on with.
    pub fn expire(&self) {
        let before = (self.clock)() - self.config.limits.upload_ttl.0 as i64;
        let removed = self.uploads.expire(before);
        self.metrics.uploads_expired.fetch_add(removed as u64, Ordering::Relaxed);
    }
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|e| Error::io("open", &path, e))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse(root.into())),
        Err(errno) => Err(Error::io("lock", &path, errno)),
    }
}
