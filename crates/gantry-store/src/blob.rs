//! Reading blobs, and what is known about them.
//!
//! A file has its final name only after its bytes were hashed and found right, so a name in the content directory is
//! trusted. Small documents are hashed again when they are read, which costs less than reading them did.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use gantry_model::digest::{Algorithm, Digest};
use gantry_model::image::Descriptor;
use rustix::fs::OFlags;

use crate::error::{Error, Result};
use crate::hash;
use crate::ingest::{Claim, Expect};
use crate::lease::Lease;
use crate::rows::{BLOBS, BlobRow, DIFFS};
use crate::store::{Inner, Store};

/// The most blobs that are listed for one layer.
const MAX_BLOBS_OF: usize = 64;

impl Store {
    /// The size of a blob, if it is here.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let row = self.inner().db.read("look up a blob", |tx| tx.get::<BlobRow>(BLOBS, &digest.to_string()))?;
        Ok(row.map(|row| row.size))
    }

    /// A blob, for reading.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        open(self.inner(), digest)
    }

    /// A whole blob of at most `limit` bytes, hashed once more.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        read(self.inner(), digest, limit)
    }

    /// Puts a small document into the store.
    ///
    /// It is brought to the disk together with the first name that is set after it.
    pub fn put_blob(&self, lease: &Lease, bytes: &[u8]) -> Result<Digest> {
        let digest = hash::digest(Algorithm::Sha256, bytes)?;
        match self.ingest(lease, Expect::Known { digest: digest.clone(), size: Some(bytes.len() as u64) })? {
            Claim::Present(_) => {}
            Claim::Mine(mut ingest) => {
                ingest.restart()?;
                ingest.append(bytes)?;
                ingest.finish(false)?;
            }
        }
        Ok(digest)
    }

    /// Notes that a blob, which is here, holds the layer `diff_id` in some compression.
    pub fn note_blob(&self, diff_id: &Digest, blob: &Descriptor) -> Result<()> {
        let blob = Descriptor::new(blob.media_type.clone(), blob.digest.clone(), blob.size);
        let key = format!("{diff_id} {}", blob.digest);
        self.inner().write("note what a blob holds", false, |tx| {
            // A note about a blob that is not here would outlive every collection.
            if tx.get::<BlobRow>(BLOBS, &blob.digest.to_string())?.is_some() {
                tx.put(DIFFS, &key, &blob)
            } else {
                Ok(())
            }
        })
    }

    /// The blobs here that hold the layer `diff_id`.
    pub fn blobs_of(&self, diff_id: &Digest) -> Result<Vec<Descriptor>> {
        self.inner().db.read("look up the blobs of a layer", |tx| {
            let noted = tx.list::<Descriptor>(DIFFS, &format!("{diff_id} "))?;
            let mut here = Vec::new();
            for (_, blob) in noted.into_iter().take(MAX_BLOBS_OF) {
                if tx.get::<BlobRow>(BLOBS, &blob.digest.to_string())?.is_some() {
                    here.push(blob);
                }
            }
            Ok(here)
        })
    }
}

fn open(inner: &Inner, digest: &Digest) -> Result<File> {
    let mut options = std::fs::OpenOptions::new();
    let options = options.read(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options.open(inner.dirs.blob(digest)).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::missing("blob", digest),
        _ => inner.dirs.error(format!("open blob {digest}"), error),
    })
}

/// See [`Store::read_blob`].
pub(crate) fn read(inner: &Inner, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
    let file = open(inner, digest)?;
    let fail = |error| inner.dirs.error(format!("read blob {digest}"), error);
    let size = file.metadata().map_err(fail)?.len();
    if size > limit {
        return Err(Error::TooLarge { digest: digest.clone(), size, limit });
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(fail)?;
    let found = hash::digest(digest.algorithm(), &bytes)?;
    if found != *digest {
        return Err(Error::corrupt(format!("blob {digest}"), format!("its bytes have the digest {found}")));
    }
    Ok(bytes)
}
