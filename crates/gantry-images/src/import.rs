//! From a root file system to an image of one layer.

use std::io::Read;
use std::thread;

use bytes::{Bytes, BytesMut};
use gantry_model::digest::Digest;
use gantry_model::image::{Compression, ContainerConfig, Descriptor, History, ImageConfig, RootFs, media};
use gantry_model::platform::Platform;
use gantry_model::reference::Reference;
use gantry_store::{Claim, Expect, Lease, PendingLayer, Store, chain_id};

use crate::commit::publish;
use crate::error::{Error, Result};
use crate::feed::{Feed, feed};
use crate::{Images, LEASE, changes, plan, time};

/// Bytes that are read at a time.
const PIECE: usize = 256 * 1024;

/// What becomes of a root file system.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The name that the image gets.
    pub name: Option<Reference>,
    /// Changes of the configuration: `CMD ["sh"]`.
    pub changes: Vec<String>,
    /// The comment of the layer.
    pub message: Option<String>,
    /// What it runs on; this host without it.
    pub platform: Option<Platform>,
}

impl Images {
    /// Makes an image of a tar archive, compressed or not. Returns its id.
    pub async fn import(&self, archive: impl Read + Send + 'static, options: ImportOptions) -> Result<Digest> {
        self.blocking("import", move |store| {
            let mut config = ContainerConfig::default();
            for change in &options.changes {
                changes::apply(&mut config, change)?;
            }
            import(store, archive, &options, config)
        })
        .await
    }
}

fn import(store: &Store, archive: impl Read, options: &ImportOptions, config: ContainerConfig) -> Result<Digest> {
    let lease = store.lease("import", LEASE)?;
    let (pending, blob) = receive(store, &lease, archive)?;
    let diff_id = pending.diff_id().clone();
    store.note_blob(&diff_id, &blob)?;
    store.commit_layer(&lease, None, pending)?;
    debug_assert_eq!(chain_id(None, &diff_id), diff_id, "the lowest layer is its own chain");
    let created = Some(time::format(store.now()));
    let comment = Some(options.message.clone().unwrap_or_else(|| "Imported from -".to_owned()));
    let image = ImageConfig {
        created: created.clone(),
        author: None,
        platform: options.platform.clone().unwrap_or_else(Platform::host),
        config,
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
        history: vec![History { created, comment, ..History::default() }],
        other: std::collections::BTreeMap::new(),
    };
    publish(store, &lease, &image, vec![blob], options.name.as_ref())
}

/// Writes an archive to a blob and unpacks it at the same time.
pub(crate) fn receive(store: &Store, lease: &Lease, archive: impl Read) -> Result<(PendingLayer, Descriptor)> {
    let (feed, mut source) = feed();
    thread::scope(|scope| {
        let unpacker = scope.spawn(move || store.unpack_layer(lease, &mut source, &|_| {}));
        let blob = keep(store, lease, archive, feed);
        let pending = unpacker.join().map_err(|_| Error::Task("import"))?;
        // What the unpacker found wrong says more than that it stopped reading.
        match (pending, blob) {
            (Ok(pending), Ok(Some(blob))) => Ok((pending, blob)),
            (_, Err(error)) => Err(error),
            (Err(error), _) => Err(error.into()),
            (Ok(_), Ok(None)) => Err(Error::Task("import")),
        }
    })
}

/// Reads, writes and passes on. None if nobody takes it any more.
fn keep(store: &Store, lease: &Lease, mut archive: impl Read, feed: Feed) -> Result<Option<Descriptor>> {
    let Claim::Mine(mut ingest) = store.ingest(lease, Expect::Unknown)? else { return Err(Error::Task("import")) };
    let mut kind = None;
    loop {
        let piece = read_piece(&mut archive)?;
        if piece.is_empty() {
            break;
        }
        kind.get_or_insert_with(|| Compression::detect(&piece));
        ingest.append(&piece)?;
        if !feed.put_blocking(piece) {
            return Ok(None);
        }
    }
    feed.end_blocking();
    let (digest, size) = ingest.commit()?;
    let media_type = plan::layer_type(media::OCI_MANIFEST, kind.unwrap_or(Compression::None));
    Ok(Some(Descriptor::new(media_type, digest, size)))
}

/// A whole piece, unless it is the last.
fn read_piece(reader: &mut impl Read) -> Result<Bytes> {
    let mut piece = BytesMut::zeroed(PIECE);
    let mut filled = 0;
    while filled < PIECE {
        match reader.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read the archive")(error)),
        }
    }
    piece.truncate(filled);
    Ok(piece.freeze())
}
