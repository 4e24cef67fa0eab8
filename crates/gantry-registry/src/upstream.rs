//! Registries that this one caches: which of its repositories stand for theirs, and what is fetched when.
//!
//! A manifest is fetched when it is asked for and not here, or when its tag was last looked up too long ago; a blob when
//! it is asked for and a manifest that is here needs it. What was fetched is kept as if it had been pushed, and counts to
//! the quota of its repository: what nobody asked for the longest makes room, and a blob for which there can be none
//! passes through. An upstream that does not answer costs nothing of what is here already.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use gantry_distribution::{Anonymous, Blob, Client, Credential, Credentials, Fixed};
use gantry_model::Reference;
use gantry_model::digest::Digest;
use gantry_model::image::{Descriptor, Document};
use std::sync::atomic::Ordering;

use crate::api::{Refusal, Target, describe_manifest};
use crate::error::{Error, Result};
use crate::passing::Passing;
use crate::registry::Inner;
use crate::repo::{Link, Repo, Tag};
use crate::room::{self, Want};
use crate::uploads::digest_of;
use crate::{Pattern, config, keys};

/// A blob that can be given.
pub(crate) enum Found {
    /// It is here, or only its size was asked for.
    Here(u64),
    /// It is upstream, and there is no room for it here.
    Passing(Box<Passing>),
}

impl Found {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Here(size) => *size,
            Self::Passing(passing) => passing.descriptor.size,
        }
    }
}

/// Bytes gathered before they are written.
const BATCH: usize = 1 << 20;

/// All of them.
pub(crate) struct Upstreams {
    list: Vec<Upstream>,
    /// Blobs that are being fetched: whoever wants one waits for whoever fetches it.
    fetching: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

struct Upstream {
    config: config::Upstream,
    client: Client,
}

impl Upstreams {
    /// Makes a client for each.
    pub fn open(list: &[config::Upstream]) -> Result<Self> {
        let list = list.iter().map(Upstream::open).collect::<Result<_>>()?;
        Ok(Self { list, fetching: Mutex::default() })
    }

    /// The repository that a request is about, and whether `ns` decided that.
    pub fn place(&self, name: String, namespace: Option<&str>) -> (String, bool) {
        let Some(upstream) = namespace.and_then(|n| self.list.iter().find(|u| u.config.name == n)) else {
            return (name, false);
        };
        let prefix = &upstream.config.prefix;
        if prefix.is_empty() { (name, true) } else { (format!("{prefix}/{name}"), true) }
    }

    /// Whether a repository stands for one of another registry.
    pub fn owns(&self, repository: &str) -> bool {
        self.owner(repository).is_some()
    }

    /// Who a repository stands for, and its name there. The longest prefix counts.
    fn owner(&self, repository: &str) -> Option<(&Upstream, Reference)> {
        let below = |upstream: &Upstream| match upstream.config.prefix.as_str() {
            "" => Some(repository.to_owned()),
            prefix => Some(repository.strip_prefix(prefix)?.strip_prefix('/')?.to_owned()),
        };
        let found = self.list.iter().filter_map(|upstream| below(upstream).map(|name| (upstream, name)));
        let (upstream, name) = found.max_by_key(|(upstream, _)| upstream.config.prefix.len())?;
        Some((upstream, Reference::new(&upstream.config.name, &name, None, None).ok()?))
    }

    /// Sees to it that a manifest is here, and as new as it has to be.
    pub async fn refresh(&self, registry: &Arc<Inner>, repo: &Arc<Repo>, target: &Target) -> Result<(), Refusal> {
        let Some((upstream, remote)) = self.owner(&repo.name) else { return Ok(()) };
        let now = (registry.clock)();
        let (here, fresh) = {
            let state = repo.state();
            match target {
                Target::Digest(digest) => (state.manifests.contains_key(digest), state.manifests.contains_key(digest)),
                Target::Tag(tag) => {
                    let tag = state.tags.get(tag);
                    let age = upstream.config.refresh.0 as i64;
                    (tag.is_some(), tag.is_some_and(|tag| now - tag.checked < age))
                }
            }
        };
        let metrics = &registry.metrics;
        if fresh {
            metrics.cache_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        metrics.cache_misses.fetch_add(1, Ordering::Relaxed);
        match upstream.look(registry, repo, &remote, target, now).await {
            Ok(()) => Ok(()),
            Err(error) if here => {
                tracing::warn!(%error, repository = repo.name, "upstream did not answer, what is here is served");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Finds a blob, and sees to it that it is here if there is room; none if no manifest of the repository needs it. With
    /// `head` its size is enough.
    pub async fn blob(
        &self,
        registry: &Arc<Inner>,
        repo: &Arc<Repo>,
        digest: &Digest,
        head: bool,
    ) -> Result<Option<Found>, Refusal> {
        let Some((upstream, remote)) = self.owner(&repo.name) else { return Ok(None) };
        let Some(descriptor) = descriptor(repo, digest).await? else { return Ok(None) };
        if head {
            return Ok(Some(Found::Here(descriptor.size)));
        }
        if let Some(size) = self.keep(registry, repo, upstream, &remote, &descriptor, Want::Blob).await? {
            return Ok(Some(Found::Here(size)));
        }
        registry.metrics.cache_passed.fetch_add(1, Ordering::Relaxed);
        let passing = Passing { client: upstream.client.clone(), remote, descriptor };
        Ok(Some(Found::Passing(Box::new(passing))))
    }

    /// Sees to it that a blob is here, and returns its size; none if there is no room.
    async fn keep(
        &self,
        registry: &Arc<Inner>,
        repo: &Arc<Repo>,
        upstream: &Upstream,
        remote: &Reference,
        descriptor: &Descriptor,
        want: Want,
    ) -> Result<Option<u64>> {
        registry.metrics.cache_misses.fetch_add(1, Ordering::Relaxed);
        let turn = {
            let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            fetching.retain(|_, turn| Arc::strong_count(turn) > 1);
            fetching.entry(descriptor.digest.clone()).or_default().clone()
        };
        let (registry, repo, client) = (registry.clone(), repo.clone(), upstream.client.clone());
        let (remote, descriptor) = (remote.clone(), descriptor.clone());
        // Once it has begun, this goes on when the client is gone: others may wait for it.
        let work = async move {
            let _turn = turn.lock().await;
            let now = (registry.clock)();
            if let Some(size) = repo.use_blob(&descriptor.digest, now) {
                return Ok(Some(size));
            }
            if registry.quota(&repo.name).is_some_and(|most| descriptor.size > most) {
                return Ok(None);
            }
            // Upstream answers before anything goes to make room.
            let blob = client.blob(&remote, &descriptor, 0).await;
            let blob = blob.map_err(|e| Error::Upstream { name: remote.registry().to_owned(), why: e.to_string() })?;
            let room = room::reserve(&registry, &repo, descriptor.size, want, now).await?;
            let Some(_room) = room else { return Ok(None) };
            fetch(&registry, &repo, blob, &remote, &descriptor.digest, now).await.map(Some)
        };
        tokio::spawn(work).await.unwrap_or(Err(Error::Stopped))
    }

    /// Copies what is to be here without being asked for. What fails is told, and tried again the next time.
    pub async fn mirror(&self, registry: &Arc<Inner>, index: usize) {
        let Some(upstream) = self.list.get(index) else { return };
        for entry in &upstream.config.mirror {
            if let Err(error) = self.mirror_entry(registry, upstream, entry).await {
                tracing::warn!(upstream = upstream.config.name, entry, %error, "not mirrored");
            }
        }
    }

    /// Copies the tags of one repository that an entry names.
    async fn mirror_entry(&self, registry: &Arc<Inner>, upstream: &Upstream, entry: &str) -> Result<()> {
        let (repository, pattern) = entry.split_once(':').unwrap_or((entry, "*"));
        let remote = Reference::new(&upstream.config.name, repository, None, None);
        let remote = remote.map_err(|e| Error::config("upstream.mirror", e.to_string()))?;
        let pattern = Pattern::new(pattern);
        let name = match upstream.config.prefix.as_str() {
            "" => repository.to_owned(),
            prefix => format!("{prefix}/{repository}"),
        };
        let repo = registry.repos.get(&name).await?;
        let tags = upstream.client.tags(&remote).await.map_err(|e| upstream.failed(&e))?;
        for tag in tags.into_iter().filter(|tag| pattern.matches(tag)) {
            upstream.look(registry, &repo, &remote, &Target::Tag(tag.clone()), (registry.clock)()).await?;
            let digest = repo.state().tags.get(&tag).map(|tag| tag.digest.clone());
            let mut wanted: Vec<Digest> = digest.into_iter().collect();
            while let Some(digest) = wanted.pop() {
                let here = repo.state().manifests.contains_key(&digest);
                if !here {
                    upstream
                        .look(registry, &repo, &remote, &Target::Digest(digest.clone()), (registry.clock)())
                        .await?;
                }
                let Some(record) = repo.state().manifests.get(&digest).cloned() else { continue };
                wanted.extend(record.manifests.iter().cloned());
                for blob in &record.blobs {
                    let here = repo.use_blob(blob, (registry.clock)()).is_some();
                    let Some(descriptor) = descriptor(&repo, blob).await?.filter(|_| !here) else { continue };
                    let kept = self.keep(registry, &repo, upstream, &remote, &descriptor, Want::Copy).await?;
                    if kept.is_none() {
                        return Err(registry.over(&name, descriptor.size));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Upstream {
    fn open(config: &config::Upstream) -> Result<Self> {
        let reach = gantry_distribution::Registry {
            plain_http: config.plain_http,
            ca: config.ca.iter().cloned().collect(),
            ..gantry_distribution::Registry::default()
        };
        let settings = gantry_distribution::Config {
            registry: BTreeMap::from([(config.name.clone(), reach)]),
            ..gantry_distribution::Config::default()
        };
        let credentials: Arc<dyn Credentials> = match (&config.username, &config.password_file) {
            (Some(username), Some(file)) => {
                let password = std::fs::read_to_string(file).map_err(|e| Error::io("read", file, e))?;
                let credential = Credential::password(username.clone(), password.trim_end_matches(['\r', '\n']));
                Arc::new(Fixed { registry: config.name.clone(), credential })
            }
            _ => Arc::new(Anonymous),
        };
        let failed = |e: gantry_distribution::Error| Error::Upstream { name: config.name.clone(), why: e.to_string() };
        let client = Client::new(settings, credentials).map_err(failed)?;
        Ok(Self { config: config.clone(), client })
    }

    fn failed(&self, error: &gantry_distribution::Error) -> Error {
        Error::Upstream { name: self.config.name.clone(), why: error.to_string() }
    }

    /// Takes over what upstream has at a tag or digest; what it does not have is no error, and no longer here by that tag.
    async fn look(
        &self,
        registry: &Inner,
        repo: &Arc<Repo>,
        remote: &Reference,
        target: &Target,
        now: i64,
    ) -> Result<()> {
        let reference = match target {
            Target::Digest(digest) => remote.at(digest.clone()),
            Target::Tag(tag) => Reference::new(remote.registry(), remote.repository(), Some(tag), None)
                .map_err(|e| Error::Upstream { name: self.config.name.clone(), why: e.to_string() })?,
        };
        if let Target::Tag(tag) = target {
            let known = repo.state().tags.get(tag).map(|tag| tag.digest.clone());
            if let Some(known) = known {
                match self.client.resolve(&reference).await {
                    Ok(found) if found.digest == known => {
                        repo.note_checked(tag, now);
                        return Ok(());
                    }
                    Ok(_) => {}
                    Err(error) if error.is_not_found() => {
                        let _turn = repo.turn.lock().await;
                        return repo.remove_tag(tag).await;
                    }
                    Err(error) => return Err(self.failed(&error)),
                }
            }
        }
        let fetched = match self.client.manifest(&reference).await {
            Ok(fetched) => fetched,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(self.failed(&error)),
        };
        let bytes: &Bytes = &fetched.bytes;
        let digest = match target {
            Target::Digest(digest) => digest.clone(),
            Target::Tag(_) => digest_of(fetched.descriptor.digest.algorithm(), bytes)?,
        };
        let record = describe_manifest(bytes, &fetched.descriptor.media_type, now)
            .map_err(|refused| Error::Upstream { name: self.config.name.clone(), why: refused.message })?;
        let known = repo.state().manifests.contains_key(&digest);
        let size = if known { 0 } else { record.size };
        let room = room::reserve(registry, repo, size, Want::Manifest, now).await?;
        let _room = room.ok_or_else(|| registry.over(&repo.name, size))?;
        let _turn = repo.turn.lock().await;
        let known = repo.state().manifests.contains_key(&digest);
        if !known {
            repo.put_manifest(&digest, record, bytes).await?;
        }
        if let Target::Tag(tag) = target {
            repo.put_tag(tag, Tag { digest, pushed: now, checked: now }).await?;
        }
        Ok(())
    }
}

/// A blob as a manifest of the repository describes it.
async fn descriptor(repo: &Repo, digest: &Digest) -> Result<Option<Descriptor>> {
    let holder =
        repo.state().manifests.iter().find(|(_, r)| r.blobs.contains(digest)).map(|(d, r)| (d.clone(), r.clone()));
    let Some((manifest, record)) = holder else { return Ok(None) };
    let Some(bytes) = repo.manifest_bytes(&manifest).await? else { return Ok(None) };
    let Ok(document) = Document::parse(&bytes, &record.media_type) else { return Ok(None) };
    Ok(document.children().into_iter().find(|child| child.digest == *digest).cloned())
}

/// Takes a blob as it comes, verifies it and makes it one of the repository.
async fn fetch(
    registry: &Arc<Inner>,
    repo: &Repo,
    mut blob: Blob,
    remote: &Reference,
    digest: &Digest,
    now: i64,
) -> Result<u64> {
    let failed =
        |e: gantry_distribution::Error| Error::Upstream { name: remote.registry().to_owned(), why: e.to_string() };
    let upload = registry.uploads.start(&repo.name, digest.algorithm(), now)?;
    let result = async {
        let mut progress = upload.progress.clone().lock_owned().await;
        loop {
            let (mut batch, mut size, mut end) = (vec![], 0, true);
            while let Some(bytes) = blob.next().await.map_err(failed)? {
                size += bytes.len();
                batch.push(bytes);
                if size >= BATCH {
                    end = false;
                    break;
                }
            }
            upload.touch((registry.clock)());
            let written = tokio::task::spawn_blocking(move || progress.write(&batch).map(|()| progress)).await;
            progress = written.unwrap_or(Err(Error::Stopped))?;
            if end {
                break;
            }
        }
        let algorithm = digest.algorithm();
        let hashed = tokio::task::spawn_blocking(move || {
            progress.rest();
            progress.digest(algorithm).map(|found| (progress, found))
        });
        let (mut progress, found) = hashed.await.unwrap_or(Err(Error::Stopped))?;
        if found != *digest {
            let why = format!("the blob has the digest {found}, not {digest}");
            return Err(Error::Upstream { name: remote.registry().to_owned(), why });
        }
        let _gate = registry.repos.gate(digest).read().await;
        let key = keys::blob(digest);
        if !registry.storage.exists(&key).await? {
            registry.storage.adopt(upload.path(), &key).await?;
        }
        let size = progress.offset;
        repo.put_link(digest, Link { size, used: now }).await?;
        registry.gc.touched(digest);
        progress.over = true;
        Ok(size)
    };
    let result = result.await;
    registry.uploads.remove(&upload);
    result
}
