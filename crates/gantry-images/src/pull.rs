//! Pulling: from a registry to layers of the store, in one stream.
//!
//! Each piece of a layer goes to the file of its blob and to the thread that decompresses and unpacks it at the same time.
//! Layers do so side by side and are put in order afterwards, which costs little. A layer that is here is not downloaded,
//! nor is a blob; two pulls of the same thing share one download and one unpacking. The name is given at the very end, so
//! that a pull that fails leaves nothing but beginnings of blobs, from which the next one goes on.

use std::sync::Arc;

use bytes::Bytes;
use gantry_distribution::Blob;
use gantry_model::digest::Digest;
use gantry_model::image::{Descriptor, Document, ImageConfig, Index, MAX_CONFIG, MAX_MANIFEST, Manifest};
use gantry_model::platform::Platform;
use gantry_model::reference::Reference;
use gantry_store::{Claim, Expect, Ingest, LayerClaim, Lease, PendingLayer, Store};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::feed::{Source, feed};
use crate::plan::{self, LayerPlan};
use crate::progress::{Meter, Progress, Reporter, Step};
use crate::unpack::{self, Ready};
use crate::{Images, LEASE};

/// How deep indexes may lie in each other.
const DEPTH: usize = 4;
/// When the unpacking has failed, so much is still downloaded to learn whether the bytes were right.
const LEARN: u64 = 256 << 20;

/// What is pulled.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// The platform that is unpacked; this host's without it.
    pub platform: Option<Platform>,
    /// Whether the content of all other platforms, and what is attached to them, is downloaded too.
    pub all_platforms: bool,
}

/// An image that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The name that it has now.
    pub name: Reference,
    /// What the name points to: its digest is that of the registry.
    pub target: Descriptor,
    /// The image's id.
    pub id: Digest,
    /// Whether the name pointed to something else before, or was not there.
    pub changed: bool,
}

/// What the tasks of a pull share.
struct Pull {
    images: Images,
    name: Reference,
    lease: Arc<Lease>,
    reporter: Reporter,
}

/// A task that ends when nobody waits for it any more.
pub(crate) struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    pub(crate) fn spawn(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    pub(crate) async fn join(mut self) -> Result<T> {
        (&mut self.0).await.map_err(|_| Error::Task("an image"))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Images {
    /// Pulls an image and unpacks it.
    pub async fn pull(&self, name: &Reference, options: PullOptions, reporter: Reporter) -> Result<Pulled> {
        let name = name.clone().with_default_tag();
        let what = format!("pull {name}");
        let lease = self.blocking("pull", move |store| Ok(Arc::new(store.lease(&what, LEASE)?))).await?;
        let fetched = self.client().manifest(&name).await?;
        let target = fetched.descriptor;
        reporter(Progress::Resolved { target: target.digest.clone() });
        let pull = Arc::new(Pull { images: self.clone(), name: name.clone(), lease, reporter });
        pull.keep(target.clone(), fetched.bytes.clone()).await?;
        let mut indexes = Vec::new();
        let manifest = pull.select(&target, fetched.bytes, options.platform.as_ref(), &mut indexes).await?;
        let config = pull.config(&manifest).await?;
        plan::check_platform(&name.familiar(), &config.platform, options.platform.as_ref())?;
        let plans = plan::layers(&name.familiar(), &manifest, &config)?;
        pull.layers(plans).await?;
        if options.all_platforms {
            for index in &indexes {
                pull.rest(index).await?;
            }
        }
        // What is asked for by digest is kept under it: the tag beside it was not looked at.
        let kept = name.digest().map_or_else(|| name.clone(), |digest| name.at(digest.clone()));
        let changed = pull.finish(kept.clone(), target.clone()).await?;
        Ok(Pulled { name: kept, target, id: manifest.config.digest, changed })
    }
}

impl Pull {
    async fn blocking<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Store, &Lease) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let lease = self.lease.clone();
        self.images.blocking("pull", move |store| body(store, &lease)).await
    }

    /// Gives the image its name, now that all of it is here.
    async fn finish(&self, name: Reference, target: Descriptor) -> Result<bool> {
        self.blocking(move |store, lease| {
            let before = store.tag(lease, &name, &target)?;
            Ok(before.is_none_or(|before| before.digest != target.digest))
        })
        .await
    }

    /// Keeps a document.
    async fn keep(&self, descriptor: Descriptor, bytes: Bytes) -> Result<()> {
        self.blocking(move |store, lease| {
            let expect = Expect::Known { digest: descriptor.digest, size: Some(bytes.len() as u64) };
            if let Claim::Mine(mut ingest) = store.ingest(lease, expect)? {
                ingest.restart()?;
                ingest.append(&bytes)?;
                ingest.commit()?;
            }
            Ok(())
        })
        .await
    }

    /// A document that is here, and held from now on.
    async fn here(&self, descriptor: &Descriptor, limit: u64) -> Result<Option<Bytes>> {
        let digest = descriptor.digest.clone();
        self.blocking(move |store, lease| match lease.hold_blob(&digest)? {
            Some(_) => Ok(Some(store.read_blob(&digest, limit)?.into())),
            None => Ok(None),
        })
        .await
    }

    /// A manifest or index of an index.
    async fn child(&self, descriptor: &Descriptor) -> Result<Bytes> {
        if let Some(bytes) = self.here(descriptor, MAX_MANIFEST).await? {
            return Ok(bytes);
        }
        let fetched = self.images.client().manifest(&self.name.at(descriptor.digest.clone())).await?;
        if fetched.bytes.len() as u64 != descriptor.size {
            let why = format!("it has {} bytes, the index says {}", fetched.bytes.len(), descriptor.size);
            return Err(Error::document(format!("manifest {}", descriptor.digest), why));
        }
        self.keep(descriptor.clone(), fetched.bytes.clone()).await?;
        Ok(fetched.bytes)
    }

    /// The manifest for a platform, through the indexes above it, which are noted.
    async fn select(
        &self,
        target: &Descriptor,
        bytes: Bytes,
        platform: Option<&Platform>,
        indexes: &mut Vec<Index>,
    ) -> Result<Manifest> {
        let (mut descriptor, mut bytes) = (target.clone(), bytes);
        for _ in 0..DEPTH {
            let parsed = Document::parse(&bytes, &descriptor.media_type);
            match parsed.map_err(|error| Error::document(format!("manifest {}", descriptor.digest), error))? {
                Document::Manifest(manifest) => return Ok(manifest),
                Document::Index(index) => {
                    descriptor = plan::select(&self.name.familiar(), &index, platform)?.clone();
                    bytes = self.child(&descriptor).await?;
                    indexes.push(index);
                }
            }
        }
        Err(Error::document(self.name.familiar(), format!("more than {DEPTH} indexes lie in each other")))
    }

    async fn config(&self, manifest: &Manifest) -> Result<ImageConfig> {
        let descriptor = &manifest.config;
        let bytes = if let Some(bytes) = self.here(descriptor, MAX_CONFIG).await? {
            bytes
        } else {
            let bytes = self.images.client().blob_bytes(&self.name, descriptor, MAX_CONFIG).await?;
            self.keep(descriptor.clone(), bytes.clone()).await?;
            bytes
        };
        ImageConfig::parse(&bytes)
            .map_err(|error| Error::document(format!("configuration {}", descriptor.digest), error))
    }

    /// All layers at once; each gets its place when those below have theirs.
    async fn layers(self: &Arc<Self>, plans: Vec<LayerPlan>) -> Result<()> {
        let mut tasks = Vec::new();
        for plan in &plans {
            Meter::new(&self.reporter, &plan.blob.digest).tell(Step::Waiting { total: plan.blob.size });
            let (pull, plan) = (self.clone(), plan.clone());
            tasks.push(Task::spawn(async move { pull.layer(&plan).await }));
        }
        let mut parent: Option<Digest> = None;
        for (task, plan) in tasks.into_iter().zip(plans) {
            let ready = task.join().await??;
            let (reporter, below) = (self.reporter.clone(), parent);
            parent = Some(plan.chain.clone());
            self.blocking(move |store, lease| unpack::commit(store, lease, below.as_ref(), &plan, ready, &reporter))
                .await?;
        }
        Ok(())
    }

    /// One layer: up to where it is unpacked. Its claim comes before its turn, so that nobody who has a turn waits for one
    /// who has none.
    async fn layer(&self, plan: &LayerPlan) -> Result<Ready> {
        let chain = plan.chain.clone();
        let guard = match self.blocking(move |store, lease| Ok(store.claim_layer(lease, &chain)?)).await? {
            LayerClaim::Present(_) => {
                Meter::new(&self.reporter, &plan.blob.digest).tell(Step::Exists);
                return Ok(Ready::Present);
            }
            LayerClaim::Mine(guard) => guard,
        };
        let _turn = turn(&self.images.downloads).await?;
        let pending = match self.ingest(&plan.blob).await? {
            Some(ingest) if ingest.offset() == 0 => self.stream(plan, ingest).await?,
            Some(ingest) => {
                // What an earlier try left comes first, and only the file has it.
                self.download(&plan.blob, ingest).await?;
                self.unpack(plan).await?
            }
            None => self.unpack(plan).await?,
        };
        unpack::check(&self.name.familiar(), plan, &pending)?;
        let plan = plan.clone();
        self.blocking(move |store, _| unpack::note(store, &plan)).await?;
        Ok(Ready::Pending(guard, pending))
    }

    /// The right to write a blob; none if it is here.
    async fn ingest(&self, blob: &Descriptor) -> Result<Option<Ingest>> {
        let expect = Expect::Known { digest: blob.digest.clone(), size: Some(blob.size) };
        self.blocking(move |store, lease| match store.ingest(lease, expect)? {
            Claim::Present(_) => Ok(None),
            Claim::Mine(ingest) => Ok(Some(ingest)),
        })
        .await
    }

    /// Unpacks a blob that is here.
    async fn unpack(&self, plan: &LayerPlan) -> Result<PendingLayer> {
        let (digest, total) = (plan.blob.digest.clone(), plan.blob.size);
        let meter = Meter::new(&self.reporter, &digest);
        self.blocking(move |store, lease| {
            let mut file = store.open_blob(&digest)?;
            let progress = |done| meter.pass(|| Step::Extracting { done, total });
            Ok(store.unpack_layer(lease, &mut file, &progress)?)
        })
        .await
    }

    /// Downloads a blob and unpacks it at the same time.
    async fn stream(&self, plan: &LayerPlan, ingest: Ingest) -> Result<PendingLayer> {
        let blob = self.images.client().blob(&self.name, &plan.blob, 0).await?;
        let (to_unpacker, mut source) = feed();
        let (digest, total) = (plan.blob.digest.clone(), plan.blob.size);
        let meter = Meter::new(&self.reporter, &digest);
        let (images, lease) = (self.images.clone(), self.lease.clone());
        let unpacker = Task::spawn(async move {
            let unpack = move |store: &Store| {
                let progress = |done| meter.pass(|| Step::Extracting { done, total });
                Ok(store.unpack_layer(&lease, &mut source, &progress)?)
            };
            images.blocking("unpacking", unpack).await
        });
        let downloaded = self.receive(&plan.blob, ingest, blob, Some(to_unpacker)).await;
        let unpacked = unpacker.join().await?;
        match downloaded {
            Ok(()) => unpacked,
            // Wrong content from a mirror: the rest of the world may have the right one.
            Err(Failed { error: _, retry: true }) => {
                if let Some(ingest) = self.ingest(&plan.blob).await? {
                    self.download(&plan.blob, ingest).await?;
                }
                self.unpack(plan).await
            }
            // Nothing is known against the bytes, so the unpacker's word counts.
            Err(Failed { error: Error::Task("unpacking"), .. }) => unpacked.and(Err(Error::Task("unpacking"))),
            Err(Failed { error, .. }) => Err(error),
        }
    }

    /// Downloads a blob, or the rest of it.
    async fn download(&self, descriptor: &Descriptor, mut ingest: Ingest) -> Result<()> {
        loop {
            let blob = self.images.client().blob(&self.name, descriptor, ingest.offset()).await?;
            let failed = match self.receive(descriptor, ingest, blob, None).await {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            if !failed.retry {
                return Err(failed.error);
            }
            // A mirror that sends wrong bytes is left out for a while, so this ends.
            match self.ingest(descriptor).await? {
                Some(again) => ingest = again,
                None => return Ok(()),
            }
        }
    }

    /// Takes in what comes, for the file and for the unpacker.
    async fn receive(
        &self,
        descriptor: &Descriptor,
        ingest: Ingest,
        mut blob: Blob,
        mut unpacker: Option<crate::feed::Feed>,
    ) -> Result<(), Failed> {
        let meter = Meter::new(&self.reporter, &descriptor.digest);
        let total = descriptor.size;
        let (to_file, source) = feed();
        let images = self.images.clone();
        let writer = Task::spawn(async move { images.blocking("pull", move |_| write(ingest, source)).await });
        let mut gone = false;
        let received = loop {
            let piece = match blob.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break Ok(()),
                Err(error) => break Err(Error::from(error)),
            };
            let done = blob.offset();
            meter.pass(|| Step::Downloading { done, total });
            if let Some(feed) = &unpacker
                && !feed.put(piece.clone()).await
            {
                (unpacker, gone) = (None, true);
                if total - done > LEARN {
                    break Err(Error::Task("unpacking"));
                }
            }
            if !to_file.put(piece).await {
                // Its own error says why.
                break Ok(());
            }
        };
        if received.is_ok() {
            to_file.end().await;
            if let Some(feed) = unpacker.take() {
                feed.end().await;
            }
        } else {
            drop((to_file, unpacker.take()));
        }
        let written = writer.join().await.and_then(|written| written);
        match (received, written) {
            (Ok(()), Ok(())) if gone => Err(Failed { error: Error::Task("unpacking"), retry: false }),
            (Ok(()), Ok(())) => {
                meter.tell(Step::Downloaded);
                Ok(())
            }
            (Ok(()), Err(error)) => {
                let wrong = matches!(error, Error::Store(gantry_store::Error::Mismatch { .. }));
                Err(Failed { retry: wrong && blob.reject(), error })
            }
            (Err(error), _) => Err(Failed { error, retry: false }),
        }
    }

    /// The content of everything else that an index lists, without unpacking it.
    async fn rest(self: &Arc<Self>, index: &Index) -> Result<()> {
        let mut next: Vec<(Descriptor, usize)> = index.manifests.iter().map(|one| (one.clone(), 0)).collect();
        while let Some((descriptor, depth)) = next.pop() {
            if depth > DEPTH {
                return Err(Error::document(
                    self.name.familiar(),
                    format!("more than {DEPTH} indexes lie in each other"),
                ));
            }
            let bytes = self.child(&descriptor).await?;
            let parsed = Document::parse(&bytes, &descriptor.media_type);
            match parsed.map_err(|error| Error::document(format!("manifest {}", descriptor.digest), error))? {
                Document::Index(index) => next.extend(index.manifests.into_iter().map(|one| (one, depth + 1))),
                Document::Manifest(manifest) => self.blobs(manifest).await?,
            }
        }
        Ok(())
    }

    /// The blobs of a manifest.
    async fn blobs(self: &Arc<Self>, manifest: Manifest) -> Result<()> {
        let fetch = |blob: Descriptor| {
            let pull = self.clone();
            Task::spawn(async move {
                let _turn = turn(&pull.images.downloads).await?;
                match pull.ingest(&blob).await? {
                    Some(ingest) => pull.download(&blob, ingest).await,
                    None => Ok(()),
                }
            })
        };
        let tasks: Vec<Task<Result<()>>> = manifest.layers.into_iter().chain([manifest.config]).map(fetch).collect();
        for task in tasks {
            task.join().await??;
        }
        Ok(())
    }
}

/// A download that failed.
struct Failed {
    error: Error,
    /// Whether another source may have the right content.
    retry: bool,
}

/// Waits for a turn.
pub(crate) async fn turn(semaphore: &Arc<Semaphore>) -> Result<tokio::sync::OwnedSemaphorePermit> {
    semaphore.clone().acquire_owned().await.map_err(|_| Error::Task("an image"))
}

/// Writes what comes to a blob.
fn write(mut ingest: Ingest, mut source: Source) -> Result<()> {
    while let Some(piece) = source.next_piece().map_err(Error::io("receive a blob"))? {
        ingest.append(&piece)?;
    }
    ingest.commit()?;
    Ok(())
}
