//! From a snapshot or an image to an archive of its whole root file system.

use std::io::{BufWriter, Write};
use std::os::fd::AsFd;

use gantry_model::digest::Digest;
use gantry_model::platform::Platform;
use gantry_store::{Snapshot, Store, layer};

use crate::error::{Error, Result};
use crate::query::pick;
use crate::{Images, LEASE, unpack};

/// Bytes that are written at a time.
const BUFFER: usize = 256 * 1024;

/// A read-only view that goes away with this.
pub(crate) struct View<'s> {
    store: &'s Store,
    snapshot: Snapshot,
}

impl<'s> View<'s> {
    /// A view of a chain of layers. `purpose` is for people who find it after a crash.
    pub(crate) fn new(store: &'s Store, purpose: &str, chain: Option<&Digest>) -> Result<Self> {
        // Two at the same instant differ by the try.
        for attempt in 0..100 {
            let key = format!("gantry-{purpose}-{}-{}-{attempt}", std::process::id(), store.now());
            match store.view(&key, chain) {
                Ok(snapshot) => return Ok(Self { store, snapshot }),
                Err(gantry_store::Error::Exists(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Task("a view"))
    }

    /// Mounts it, attached nowhere.
    pub(crate) fn mount(&self) -> Result<std::os::fd::OwnedFd> {
        Ok(self.snapshot.mount()?)
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.store.remove_snapshot(self.snapshot.key()) {
            tracing::warn!(%error, "a view stays until it is removed by hand");
        }
    }
}

impl Images {
    /// Writes the root file system of an image as an archive. Returns its digest and size.
    pub async fn export_image(
        &self,
        name: &str,
        platform: Option<Platform>,
        out: impl Write + Send + 'static,
    ) -> Result<(Digest, u64)> {
        let name = name.to_owned();
        self.blocking("export", move |store| {
            let (_, image) = pick(store, &name, platform.as_ref())?;
            let lease = store.lease("export", LEASE)?;
            let chain = unpack::ensure(store, &lease, &image)?;
            let view = View::new(store, "export", chain.as_ref())?;
            archive(&view.mount()?, out)
        })
        .await
    }

    /// Writes the root file system of a snapshot, with what was written to it, as an archive.
    pub async fn export_snapshot(&self, key: &str, out: impl Write + Send + 'static) -> Result<(Digest, u64)> {
        let key = key.to_owned();
        self.blocking("export", move |store| {
            let missing = || Error::invalid("snapshot", key.clone(), "it is not in the store");
            let snapshot = store.snapshot(&key)?.ok_or_else(missing)?;
            archive(&snapshot.mount()?, out)
        })
        .await
    }
}

fn archive(root: &impl AsFd, out: impl Write) -> Result<(Digest, u64)> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let written = layer::archive(root.as_fd(), &mut out, layer::DiffOptions::default())?;
    out.flush().map_err(Error::io("write the archive"))?;
    Ok(written)
}
