//! Sending one blob: taken from where the registry has it, read from the store, or compressed on the way.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use gantry_distribution::{Open, Stream, Upload};
use gantry_model::digest::Digest;
use gantry_model::image::{Compression, Descriptor};
use gantry_model::reference::Reference;
use gantry_store::{Claim, Expect, Lease, Store};
use tokio::sync::{mpsc, oneshot};

use crate::Images;
use crate::compress::{Method, compress};
use crate::error::{Error, Result};
use crate::layer_tar;
use crate::plan;
use crate::progress::{Meter, Reporter, Step, silent};
use crate::pull::{Task, turn};
use crate::push::LayerPush;

/// Bytes that are read at a time.
const PIECE: usize = 256 * 1024;
/// Pieces that are under way to the connection.
const AHEAD: usize = 6;

/// What the tasks of a push share.
pub(crate) struct Sender {
    pub(crate) images: Images,
    pub(crate) name: Reference,
    pub(crate) lease: Arc<Lease>,
    pub(crate) method: Method,
    pub(crate) recompress: bool,
    pub(crate) mounts: HashMap<Digest, Vec<String>>,
    pub(crate) reporter: Reporter,
}

/// Sends a layer. Returns its blob as the registry has it now.
pub(crate) async fn layer(sender: &Sender, layer: &LayerPush) -> Result<Descriptor> {
    let own = plan::compression(&layer.blob.media_type);
    let wanted = sender.method.compression;
    let convert = own.is_some_and(|own| own != wanted && (own == Compression::None || sender.recompress));
    if !convert && sender.blob(&layer.blob, Some(&layer.blob.digest)).await? {
        return Ok(layer.blob.clone());
    }
    let Some((diff_id, chain)) = layer.layer.clone() else { return Err(Error::LayerGone(layer.blob.digest.clone())) };
    // It may have been compressed before, by a push or by whoever made another image with it.
    let noted = diff_id.clone();
    for other in sender.images.blocking("push", move |store| Ok(store.blobs_of(&noted)?)).await? {
        let fits = plan::compression(&other.media_type) == Some(wanted);
        if fits && sender.blob(&other, Some(&layer.blob.digest)).await? {
            return Ok(typed(layer, wanted, other.digest, other.size));
        }
    }
    let blob = layer.blob.clone();
    let (digest, size) = sender.compressed(blob, diff_id, chain).await?;
    Ok(typed(layer, wanted, digest, size))
}

fn typed(layer: &LayerPush, compression: Compression, digest: Digest, size: u64) -> Descriptor {
    Descriptor::new(plan::layer_type(&layer.manifest_type, compression), digest, size)
}

impl Sender {
    /// Sends a configuration.
    pub(crate) async fn config(&self, descriptor: &Descriptor) -> Result<()> {
        if self.blob(descriptor, None).await? {
            return Ok(());
        }
        Err(Error::LayerGone(descriptor.digest.clone()))
    }

    /// Lets the registry have a blob as it is; false if it has it nowhere and it is not here. `shown` is the digest that
    /// progress is told of, if it is a layer.
    async fn blob(&self, blob: &Descriptor, shown: Option<&Digest>) -> Result<bool> {
        let (client, name) = (self.images.client(), &self.name);
        let meter = Arc::new(match shown {
            Some(shown) => Meter::new(&self.reporter, shown),
            None => Meter::new(&silent(), &blob.digest),
        });
        if client.has_blob(name, &blob.digest).await? {
            meter.tell(Step::Exists);
            return Ok(true);
        }
        for repository in self.mounts.get(&blob.digest).into_iter().flatten() {
            if client.mount_blob(name, &blob.digest, repository).await? {
                meter.tell(Step::Mounted);
                return Ok(true);
            }
        }
        let (digest, lease) = (blob.digest.clone(), self.lease.clone());
        let here = self.images.blocking("push", move |_| Ok(lease.hold_blob(&digest)?)).await?;
        let Some(size) = here else { return Ok(false) };
        self.known(blob.digest.clone(), size, &meter).await?;
        Ok(true)
    }

    /// Sends a blob that is here.
    async fn known(&self, digest: Digest, size: u64, meter: &Arc<Meter>) -> Result<()> {
        let (images, what, progress) = (self.images.clone(), digest.clone(), meter.clone());
        let open: Open = Arc::new(move |offset| {
            let (images, digest, meter) = (images.clone(), what.clone(), progress.clone());
            Box::pin(async move { stream(images, digest, offset, size, meter).await })
        });
        self.images.client().push_blob(&self.name, Upload::Known { digest, size, open }).await?;
        meter.tell(Step::Pushed);
        Ok(())
    }

    /// Compresses a layer and sends it at the same time. What comes out is kept.
    async fn compressed(&self, blob: Descriptor, diff_id: Digest, chain: Digest) -> Result<(Digest, u64)> {
        // Each uses all processors already.
        let _turn = turn(&self.images.compressions).await?;
        let meter = Arc::new(Meter::new(&self.reporter, &blob.digest));
        let (chunks, received) = mpsc::channel(AHEAD);
        let (tell, told) = oneshot::channel();
        let (lease, method, images) = (self.lease.clone(), self.method, self.images.clone());
        let progress = meter.clone();
        let making = Task::spawn(async move {
            let make = move |store: &Store| {
                let made = make(store, &lease, method, &Layer { blob, diff_id, chain }, &chunks, &progress);
                drop(chunks);
                if let Ok((digest, size)) = &made {
                    let _ = tell.send((digest.clone(), *size));
                }
                made
            };
            images.blocking("compression", make).await
        });
        let done = Box::pin(async move { told.await.map_err(|_| io::Error::other("the compression failed")) });
        let sent = self.images.client().push_blob(&self.name, Upload::Stream { chunks: received, done }).await;
        let (digest, size) = making.join().await??;
        match sent {
            Ok(_) => meter.tell(Step::Pushed),
            // All of it is here now, so it can be sent from anywhere.
            Err(error) => {
                tracing::debug!(%error, %digest, "a stream could not be sent, its blob is");
                self.known(digest.clone(), size, &meter).await?;
            }
        }
        Ok((digest, size))
    }
}

/// A layer that is to be compressed.
struct Layer {
    blob: Descriptor,
    diff_id: Digest,
    chain: Digest,
}

/// Compresses to a blob, and to whoever still listens.
fn make(
    store: &Store,
    lease: &Lease,
    method: Method,
    layer: &Layer,
    chunks: &mpsc::Sender<Bytes>,
    meter: &Meter,
) -> Result<(Digest, u64)> {
    let source = layer_tar::source(store, lease, &layer.blob, &layer.diff_id, &layer.chain)?;
    let Claim::Mine(mut ingest) = store.ingest(lease, Expect::Unknown)? else { return Err(Error::Task("compression")) };
    let (mut listening, mut done) = (true, 0);
    let mut emit = |piece: Bytes| {
        ingest.append(&piece).map_err(io::Error::other)?;
        done += piece.len() as u64;
        meter.pass(|| Step::Pushing { done, total: 0 });
        listening = listening && chunks.blocking_send(piece).is_ok();
        Ok(())
    };
    compress(method, &mut emit, |out| source.write(store, out).map(|_| ()))?;
    let (digest, size) = ingest.commit()?;
    let media_type = method.compression.layer_type();
    store.note_blob(&layer.diff_id, &Descriptor::new(media_type, digest.clone(), size))?;
    Ok((digest, size))
}

/// A blob of the store as a stream.
async fn stream(images: Images, digest: Digest, offset: u64, total: u64, meter: Arc<Meter>) -> io::Result<Stream> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let opened = images.blocking("push", move |store| {
        let mut file = store.open_blob(&digest)?;
        file.seek(SeekFrom::Start(offset)).map_err(Error::io(format!("read blob {digest}")))?;
        Ok(file)
    });
    let file = opened.await.map_err(io::Error::other)?;
    tokio::task::spawn_blocking(move || read(file, &sender));
    let pieces = futures_util::stream::unfold((receiver, offset, meter), move |(mut receiver, at, meter)| async move {
        let piece: io::Result<Bytes> = receiver.recv().await?;
        let done = at + piece.as_ref().map_or(0, Bytes::len) as u64;
        meter.pass(|| Step::Pushing { done, total });
        Some((piece, (receiver, done, meter)))
    });
    Ok(pieces.boxed())
}

/// Reads ahead, until nobody listens any more.
fn read(mut file: File, sender: &mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let mut piece = BytesMut::zeroed(PIECE);
        let read = match file.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => {
                piece.truncate(count);
                Ok(piece.freeze())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = read.is_err();
        if sender.blocking_send(read).is_err() || failed {
            return;
        }
    }
}
