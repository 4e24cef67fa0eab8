//! Layers: immutable trees, each named by its chain id.
//!
//! A layer is unpacked into a directory of its own, without looking at those below it, so all layers of an image are
//! unpacked at the same time. What needs the layers below is done when it is committed, the lowest first, which is little.
//! Then the directory gets its final name by one rename; it is never changed again.
//!
//! Nobody waits for the disk: a layer can be unpacked again, so it is enough to know after a loss of power which ones may
//! not have reached the disk (see the recovery, and the keeper, which syncs once for all that were unpacked of late).

use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use gantry_model::digest::Digest;
use rustix::fs::CWD;

use crate::collect::Root;
use crate::dirs::open_dir;
use crate::erofs;
use crate::error::{Error, Result};
use crate::hash::chain_id;
use crate::layer::{self, Unpacked};
use crate::lease::Lease;
use crate::options::LayerForm;
use crate::rows::{self, LAYERS, LayerKind, LayerRow};
use crate::store::{Claimed, State, Store};

/// A layer that is unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its chain id.
    pub chain: Digest,
    /// The chain id of the layer below it.
    pub parent: Option<Digest>,
    /// The digest of its uncompressed archive.
    pub diff_id: Digest,
    /// Its size on disk in bytes.
    pub size: u64,
    /// When it was unpacked, in nanoseconds since 1970.
    pub created: i64,
    /// How it lies on disk.
    pub kind: LayerKind,
}

impl From<&LayerRow> for Layer {
    fn from(row: &LayerRow) -> Self {
        Self {
            chain: row.chain.clone(),
            parent: row.parent.clone(),
            diff_id: row.diff_id.clone(),
            size: row.size,
            created: row.created,
            kind: row.kind.clone(),
        }
    }
}

/// A layer that was unpacked and is not yet published; dropped, it is removed.
#[derive(Debug)]
pub struct PendingLayer {
    store: Store,
    dir: PathBuf,
    number: u64,
    made: Made,
    published: bool,
}

/// What an archive became.
#[derive(Debug)]
enum Made {
    /// A directory, open, and what is known of it.
    Directory(OwnedFd, Unpacked),
    /// An image that lacks its end.
    Image(Box<layer::Image>),
}

impl PendingLayer {
    /// The digest of the uncompressed archive, which the caller compares with the one that it expects.
    pub fn diff_id(&self) -> &Digest {
        match &self.made {
            Made::Directory(_, unpacked) => &unpacked.diff_id,
            Made::Image(image) => image.diff_id(),
        }
    }

    /// The size of the uncompressed archive in bytes.
    pub fn size(&self) -> u64 {
        match &self.made {
            Made::Directory(_, unpacked) => unpacked.size,
            Made::Image(image) => image.size(),
        }
    }

    /// Bytes that it takes on disk; of an image before it is committed, about.
    pub fn disk(&self) -> u64 {
        match &self.made {
            Made::Directory(_, unpacked) => unpacked.disk,
            Made::Image(image) => image.written(),
        }
    }

    /// How many entries the archive had.
    pub fn entries(&self) -> u64 {
        match &self.made {
            Made::Directory(_, unpacked) => unpacked.entries,
            Made::Image(image) => image.entries(),
        }
    }
}

impl Drop for PendingLayer {
    fn drop(&mut self) {
        if !self.published {
            discard(&self.store, &self.dir);
        }
    }
}

/// The answer to a wish to unpack a layer.
#[derive(Debug)]
pub enum LayerClaim {
    /// It is here already, and held by the lease.
    Present(Layer),
    /// The caller unpacks it, and ends with [`Store::commit_layer`] under the same lease.
    Mine(LayerGuard),
}

/// The right to unpack a layer; others who want it wait until this is dropped.
#[derive(Debug)]
pub struct LayerGuard {
    store: Store,
    chain: Digest,
}

impl Drop for LayerGuard {
    fn drop(&mut self) {
        self.store.inner().release([Claimed::Layer(self.chain.clone())]);
    }
}

impl Store {
    /// A layer, if it is unpacked. [`Lease::hold_layer`] does the same and keeps it from being collected.
    pub fn layer(&self, chain: &Digest) -> Result<Option<Layer>> {
        Ok(self.inner().state().layers.get(chain).map(Layer::from))
    }

    /// All layers that are unpacked.
    pub fn layers(&self) -> Result<Vec<Layer>> {
        let mut layers: Vec<Layer> = self.inner().state().layers.values().map(Layer::from).collect();
        layers.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.chain.cmp(&b.chain)));
        Ok(layers)
    }

    /// Claims a layer for unpacking, unless it is here. While somebody else unpacks it, this waits for its end.
    pub fn claim_layer(&self, lease: &Lease, chain: &Digest) -> Result<LayerClaim> {
        let inner = self.inner();
        let claim = Claimed::Layer(chain.clone());
        let mut state = inner.unclaimed(inner.state(), &claim);
        if let Some(layer) = lease.add_layer(&mut state, chain) {
            return Ok(LayerClaim::Present(layer));
        }
        state.claims.insert(claim, lease.id);
        Ok(LayerClaim::Mine(LayerGuard { store: self.clone(), chain: chain.clone() }))
    }

    /// Unpacks an archive, compressed or not, into a private directory. `progress` is told how many bytes of `source` were
    /// read so far.
    pub fn unpack_layer(&self, lease: &Lease, source: &mut dyn Read, progress: &dyn Fn(u64)) -> Result<PendingLayer> {
        debug_assert!(lease.store.root() == self.root(), "a lease is of the store that it is used with");
        let inner = self.inner();
        let number = inner.dirs.number();
        let dir = inner.dirs.tmp.join(format!("layer-{number}"));
        let made = match inner.options.layers {
            LayerForm::Directories => {
                let fs = self.make_tree(&dir)?;
                layer::unpack(source, fs.as_fd(), &inner.options.layer, progress)
                    .map(|unpacked| Made::Directory(fs, unpacked))
            }
            LayerForm::Erofs => {
                let file = self.make_image(&dir)?;
                layer::image(source, file, &inner.options.layer, progress).map(|image| Made::Image(Box::new(image)))
            }
        };
        match made {
            Ok(made) => Ok(PendingLayer { store: self.clone(), dir, number, made, published: false }),
            Err(error) => {
                discard(self, &dir);
                Err(self.layer_error("unpack a layer", error))
            }
        }
    }

    /// A directory with an empty `fs` in it, which is returned open.
    fn make_tree(&self, dir: &std::path::Path) -> Result<OwnedFd> {
        let dirs = &self.inner().dirs;
        let fail = |error| dirs.error(format!("make {}", dir.display()), error);
        DirBuilder::new().mode(0o700).create(dir).map_err(fail)?;
        DirBuilder::new().mode(0o755).create(dir.join("fs")).map_err(fail)?;
        open_dir(CWD, dir.join("fs")).map_err(|errno| dirs.error(format!("open {}", dir.display()), errno))
    }

    /// A directory with an empty file for an image in it, which is returned open.
    fn make_image(&self, dir: &std::path::Path) -> Result<File> {
        let dirs = &self.inner().dirs;
        let fail = |error| dirs.error(format!("make {}", dir.display()), error);
        DirBuilder::new().mode(0o700).create(dir).map_err(fail)?;
        File::options().write(true).create_new(true).mode(0o600).open(dir.join(erofs::FILE)).map_err(fail)
    }

    /// Publishes a layer on top of `parent`, which is here. Returns its chain id; if it came here otherwise in the
    /// meantime, the pending one is dropped.
    pub fn commit_layer(&self, lease: &Lease, parent: Option<&Digest>, pending: PendingLayer) -> Result<Digest> {
        let inner = self.inner();
        let chain = chain_id(parent, pending.diff_id());
        let claim = Claimed::Layer(chain.clone());
        let mut state = inner.unclaimed_by_other(&claim, lease.id);
        if lease.add_layer(&mut state, &chain).is_some() {
            return Ok(chain);
        }
        let lowers = match parent {
            None => Vec::new(),
            Some(parent) => {
                lease.add_layer(&mut state, parent).ok_or_else(|| Error::missing("layer", parent))?;
                places(&state, parent)?
            }
        };
        // Somebody who claimed it by hand goes on with that claim; otherwise it is claimed for as long as this takes.
        let guard = (!state.claims.contains_key(&claim)).then(|| {
            state.claims.insert(claim, lease.id);
            LayerGuard { store: self.clone(), chain: chain.clone() }
        });
        lease.expect_layer(&mut state, &chain);
        drop(state);
        let published = self.publish_layer(parent, &chain, pending, &lowers);
        drop(guard);
        published.map(|()| chain)
    }

    fn publish_layer(
        &self,
        parent: Option<&Digest>,
        chain: &Digest,
        mut pending: PendingLayer,
        lowers: &[Place],
    ) -> Result<()> {
        let inner = self.inner();
        let (diff_id, (kind, size)) = (pending.diff_id().clone(), self.finish_layer(&mut pending, lowers)?);
        let now = inner.now();
        let row = LayerRow {
            number: pending.number,
            chain: chain.clone(),
            parent: parent.cloned(),
            diff_id,
            size,
            created: now,
            used: now,
            kind,
            boot: Some(inner.boot.clone()),
        };
        let fail = |error| inner.dirs.error(format!("publish layer {chain}"), error);
        std::fs::write(pending.dir.join("record"), rows::encode(&row)?).map_err(fail)?;
        std::fs::rename(&pending.dir, inner.dirs.layer(row.number)).map_err(fail)?;
        pending.published = true;
        if let Err(error) = inner.write("add a layer", false, |tx| tx.put(LAYERS, &chain.to_string(), &row)) {
            discard(self, &inner.dirs.layer(row.number));
            return Err(error);
        }
        inner.count(row.size, 0);
        inner.state().layers.insert(chain.clone(), row);
        self.root_added(Root::Layer(chain.clone()));
        self.0.keeper.grown();
        Ok(())
    }

    /// Does what needs the layers below. Returns how the layer lies on disk, and the bytes that it takes there.
    fn finish_layer(&self, pending: &mut PendingLayer, lowers: &[Place]) -> Result<(LayerKind, u64)> {
        let trees = self.open_layers(lowers)?;
        let borrowed: Vec<_> = trees.iter().map(AsFd::as_fd).collect();
        let finished = match &mut pending.made {
            Made::Directory(fs, unpacked) => {
                layer::settle(fs.as_fd(), &unpacked.pending, &borrowed).map(|()| (LayerKind::Directory, unpacked.disk))
            }
            Made::Image(image) => {
                image.finish(&borrowed).map(|size| (LayerKind::Erofs { file: erofs::FILE.to_owned() }, size))
            }
        };
        finished.map_err(|error| self.layer_error("finish a layer", error))
    }

    /// The trees of layers, opened.
    pub(crate) fn open_layers(&self, places: &[Place]) -> Result<Vec<OwnedFd>> {
        places.iter().map(|place| self.open_tree(place)).collect()
    }

    /// The tree of a layer, opened; an image is mounted for that.
    pub(crate) fn open_tree(&self, place: &Place) -> Result<OwnedFd> {
        let inner = self.inner();
        match &place.kind {
            LayerKind::Directory => {
                let path = inner.dirs.layer(place.number).join("fs");
                open_dir(CWD, &path).map_err(|errno| inner.dirs.error(format!("open {}", path.display()), errno))
            }
            LayerKind::Erofs { file } => inner.images.open(&inner.dirs, place.number, file),
        }
    }

    /// The root directory of a layer by itself, without those below it: whiteouts are what overlayfs takes for them. It can
    /// only be read.
    pub fn open_layer(&self, chain: &Digest) -> Result<OwnedFd> {
        let place = self.inner().state().layers.get(chain).map(Place::from);
        self.open_tree(&place.ok_or_else(|| Error::missing("layer", chain))?)
    }

    /// Writes a layer as an archive. Returns its digest and size. The same layer gives the same archive, which is not
    /// always the one that it was unpacked from: that one is a blob.
    pub fn diff_layer(&self, chain: &Digest, out: &mut dyn Write) -> Result<(Digest, u64)> {
        let fs = self.open_layer(chain)?;
        layer::diff(fs.as_fd(), out, layer::DiffOptions::default())
            .map_err(|error| self.layer_error("pack a layer", error))
    }

    /// An error of the layer module; a full disk becomes the store's own.
    pub(crate) fn layer_error(&self, action: &str, error: layer::LayerError) -> Error {
        if error.is_full() {
            let root = &self.inner().dirs.root;
            return Error::Full {
                action: action.into(),
                root: root.clone(),
                needed: None,
                free: crate::error::free_bytes(root),
            };
        }
        Error::Layer(Box::new(error))
    }
}

/// Where a layer lies.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) number: u64,
    pub(crate) kind: LayerKind,
}

impl From<&LayerRow> for Place {
    fn from(row: &LayerRow) -> Self {
        Self { number: row.number, kind: row.kind.clone() }
    }
}

/// The places of a layer and those below it, the top first.
pub(crate) fn places(state: &State, chain: &Digest) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    let mut next = Some(chain);
    while let Some(chain) = next {
        let row = state.layers.get(chain).ok_or_else(|| Error::missing("layer", chain))?;
        places.push(Place::from(row));
        next = row.parent.as_ref();
    }
    Ok(places)
}

/// Throws a tree away that nobody will miss; a failure leaves it to the next start.
fn discard(store: &Store, dir: &std::path::Path) {
    if let Err(error) = store.inner().dirs.discard(dir) {
        tracing::warn!(%error, "an unfinished layer stays until the store is opened again");
    }
    store.0.keeper.work();
}
