//! From blobs that are here to layers of the store.
//!
//! An image can be here without its layers: nobody waits for the disk when they are unpacked, so after a power loss those
//! that had not reached it are thrown away. Their blobs had, and the layers are unpacked from them again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::{iter, thread};

use gantry_model::digest::Digest;
use gantry_model::image::{Compression, Descriptor};
use gantry_store::{LayerClaim, LayerGuard, Lease, PendingLayer, Store};

use crate::error::{Error, Result};
use crate::local::{self, Loaded};
use crate::plan::{self, LayerPlan};
use crate::progress::{Meter, Reporter, Step, silent};
use crate::{Images, LEASE};

/// Layers that are unpacked at a time. Each keeps more than one processor busy.
const WORKERS: usize = 2;

/// A layer that is unpacked but has no place yet. The claim is held until it has.
pub(crate) enum Ready {
    /// It is here already.
    Present,
    /// To be committed when the layers below are.
    Pending(LayerGuard, PendingLayer),
}

/// An image whose layers are unpacked, and stay so while this is kept: until a snapshot stands on them.
#[derive(Debug)]
pub struct Unpacked {
    /// The image.
    pub image: Loaded,
    /// The chain id of all its layers; none for an image without any.
    pub chain: Option<Digest>,
    /// What holds them.
    _lease: Lease,
}

impl Images {
    /// Makes sure that the layers of an image that is here are unpacked: from its blobs those that are missing. Of an index
    /// it is the image for this host, or else the first; for another, give the descriptor of its manifest.
    ///
    /// # Errors
    ///
    /// [`Error::LayerGone`] if neither a layer nor a blob of it is here: then the image is to be pulled or loaded again.
    pub async fn ensure_unpacked(&self, target: &Descriptor) -> Result<Unpacked> {
        let target = target.clone();
        self.blocking("unpacking", move |store| {
            let name = target.digest.to_string();
            let lease = store.lease(&format!("unpack {name}"), LEASE)?;
            let image = local::select(store, &name, &target, None)?;
            let chain = ensure(store, &lease, &image)?;
            Ok(Unpacked { image, chain, _lease: lease })
        })
        .await
    }
}

/// Makes sure that the layers of an image are here, and holds them. Returns the chain id of all.
pub(crate) fn ensure(store: &Store, lease: &Lease, loaded: &Loaded) -> Result<Option<Digest>> {
    let Some(top) = loaded.top() else { return Ok(None) };
    // A layer is never here without those below it.
    if lease.hold_layer(&top)?.is_some() {
        return Ok(Some(top));
    }
    let name = loaded.id().to_string();
    let mut plans = plan::layers(&name, &loaded.manifest, &loaded.config)?;
    for plan in &mut plans {
        if lease.hold_layer(&plan.chain)?.is_none() {
            plan.blob = blob_here(store, lease, &plan.blob, &plan.diff_id)?
                .ok_or_else(|| Error::LayerGone(plan.diff_id.clone()))?;
        }
    }
    image(store, lease, &name, &plans, &silent())?;
    Ok(Some(top))
}

/// A blob that is here and holds a layer, and is held from now on: that of the manifest, another one, or the archive
/// itself.
pub(crate) fn blob_here(
    store: &Store,
    lease: &Lease,
    blob: &Descriptor,
    diff_id: &Digest,
) -> Result<Option<Descriptor>> {
    if lease.hold_blob(&blob.digest)?.is_some() {
        return Ok(Some(blob.clone()));
    }
    for other in store.blobs_of(diff_id)? {
        if lease.hold_blob(&other.digest)?.is_some() {
            return Ok(Some(other));
        }
    }
    let plain = lease.hold_blob(diff_id)?;
    Ok(plain.map(|size| Descriptor::new(Compression::None.layer_type(), diff_id.clone(), size)))
}

/// Refuses a layer that is not what the configuration says.
pub(crate) fn check(image: &str, plan: &LayerPlan, pending: &PendingLayer) -> Result<()> {
    if *pending.diff_id() == plan.diff_id {
        return Ok(());
    }
    Err(Error::DiffId {
        image: image.to_owned(),
        layer: plan.blob.digest.clone(),
        expected: plan.diff_id.clone(),
        found: pending.diff_id().clone(),
    })
}

/// Notes which layer a blob holds, if the blob is here.
pub(crate) fn note(store: &Store, plan: &LayerPlan) -> Result<()> {
    Ok(store.note_blob(&plan.diff_id, &plan.blob)?)
}

/// Gives a layer its place on top of `parent`.
pub(crate) fn commit(
    store: &Store,
    lease: &Lease,
    parent: Option<&Digest>,
    plan: &LayerPlan,
    ready: Ready,
    reporter: &Reporter,
) -> Result<()> {
    if let Ready::Pending(guard, pending) = ready {
        store.commit_layer(lease, parent, pending)?;
        drop(guard);
        Meter::new(reporter, &plan.blob.digest).tell(Step::Pulled);
    }
    Ok(())
}

/// Unpacks the layers of an image whose blobs are here, several at a time, and commits them in order.
pub(crate) fn image(store: &Store, lease: &Lease, name: &str, plans: &[LayerPlan], reporter: &Reporter) -> Result<()> {
    let (senders, receivers): (Vec<SyncSender<_>>, Vec<Receiver<_>>) = plans.iter().map(|_| sync_channel(1)).unzip();
    let senders: Vec<Mutex<Option<SyncSender<_>>>> = senders.into_iter().map(|one| Mutex::new(Some(one))).collect();
    let next = AtomicUsize::new(0);
    let failed = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..WORKERS.min(plans.len()) {
            // Layers are taken in order, so whoever waits for a layer of another waits for a lower one than he holds.
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(plan), Some(sender)) = (plans.get(index), senders.get(index)) else { break };
                    if failed.load(Ordering::Relaxed) {
                        break;
                    }
                    let sender = sender.lock().map(|mut sender| sender.take()).unwrap_or_default();
                    let ready = one(store, lease, name, plan, reporter);
                    if let Some(sender) = sender {
                        // Nobody waits any more if another layer failed; then it is removed.
                        let _ = sender.send(ready);
                    }
                }
            });
        }
        let parents = iter::once(None).chain(plans.iter().map(|plan| Some(&plan.chain)));
        let result = plans.iter().zip(parents).zip(&receivers).try_for_each(|((plan, parent), receiver)| {
            let ready = receiver.recv().map_err(|_| Error::Task("unpacking"))??;
            commit(store, lease, parent, plan, ready, reporter)
        });
        if result.is_err() {
            failed.store(true, Ordering::Relaxed);
            // Claims that wait here would keep the workers of others, and so our own, from going on.
            drop(receivers);
        }
        result
    })
}

fn one(store: &Store, lease: &Lease, name: &str, plan: &LayerPlan, reporter: &Reporter) -> Result<Ready> {
    let meter = Meter::new(reporter, &plan.blob.digest);
    let guard = match store.claim_layer(lease, &plan.chain)? {
        LayerClaim::Present(_) => {
            meter.tell(Step::Exists);
            return Ok(Ready::Present);
        }
        LayerClaim::Mine(guard) => guard,
    };
    let mut file = store.open_blob(&plan.blob.digest)?;
    let total = plan.blob.size;
    let pending = store.unpack_layer(lease, &mut file, &|done| meter.pass(|| Step::Extracting { done, total }))?;
    check(name, plan, &pending)?;
    note(store, plan)?;
    Ok(Ready::Pending(guard, pending))
}
