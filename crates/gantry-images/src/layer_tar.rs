//! The uncompressed archive of a layer, wherever it can be had from.
//!
//! An image's id depends on the bytes of its layers' archives, so only those bytes will do. They are in a blob, compressed
//! or not; a layer whose blob is gone is packed again from its files, which serves if that gives the same bytes.

use std::io::{self, Read, Write};

use gantry_model::digest::Digest;
use gantry_model::image::Descriptor;
use gantry_store::{Lease, Store, layer};

use crate::error::{Error, Result};
use crate::unpack;

/// Bytes that are read at a time.
const PIECE: usize = 256 * 1024;

/// Where a layer's archive comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A blob that is the archive itself, with its size.
    Plain(Digest, u64),
    /// A blob that holds it compressed.
    Compressed(Digest),
    /// The files, which give the same archive, with its size.
    Files(Digest, u64),
}

/// Finds where the archive of a layer can be had. It is held from then on.
pub(crate) fn source(
    store: &Store,
    lease: &Lease,
    blob: &Descriptor,
    diff_id: &Digest,
    chain: &Digest,
) -> Result<Source> {
    if let Some(size) = lease.hold_blob(diff_id)? {
        return Ok(Source::Plain(diff_id.clone(), size));
    }
    if let Some(here) = unpack::blob_here(store, lease, blob, diff_id)? {
        return Ok(Source::Compressed(here.digest));
    }
    if lease.hold_layer(chain)?.is_some() {
        let (digest, size) = store.diff_layer(chain, &mut io::sink())?;
        if digest == *diff_id {
            return Ok(Source::Files(chain.clone(), size));
        }
    }
    Err(Error::LayerGone(diff_id.clone()))
}

impl Source {
    /// The size of the archive in bytes. Of a compressed one it is counted.
    pub(crate) fn size(&self, store: &Store) -> Result<u64> {
        match self {
            Self::Plain(_, size) | Self::Files(_, size) => Ok(*size),
            Self::Compressed(_) => self.write(store, &mut io::sink()),
        }
    }

    /// Writes the archive. Returns its size.
    pub(crate) fn write(&self, store: &Store, out: &mut dyn Write) -> Result<u64> {
        match self {
            Self::Plain(digest, _) => {
                let mut file = store.open_blob(digest)?;
                copy(&mut file, out).map_err(Error::io(format!("copy layer {digest}")))
            }
            Self::Compressed(digest) => {
                let file = store.open_blob(digest)?;
                let fail = || Error::io(format!("decompress layer {digest}"));
                let mut reader = layer::decompress(file).map_err(fail())?;
                copy(&mut reader, out).map_err(fail())
            }
            Self::Files(chain, _) => Ok(store.diff_layer(chain, out)?.1),
        }
    }
}

/// Copies in large pieces.
pub(crate) fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<u64> {
    let mut buffer = vec![0; PIECE];
    let mut total = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                total += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
