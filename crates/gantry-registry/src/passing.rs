//! Blobs of upstream that there is no room to keep: they pass through to whoever asks, and nothing is stored.

use std::ops::Range;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use gantry_distribution::{Blob, Client};
use gantry_model::Reference;
use gantry_model::digest::{Algorithm, Digest};
use gantry_model::image::Descriptor;
use ring::digest::Context;

use crate::error::{Error, Result};
use crate::uploads;

/// A blob that is asked of upstream once more for each client.
pub(crate) struct Passing {
    pub client: Client,
    pub remote: Reference,
    pub descriptor: Descriptor,
}

/// Where it is.
struct Flow {
    blob: Blob,
    left: u64,
    /// Of a blob that passes whole.
    hash: Option<(Context, Algorithm)>,
    expect: Digest,
    /// The last piece is kept back until all is known to be right.
    held: Option<Bytes>,
}

impl Passing {
    /// A part of it, as it comes. A whole one that turns out to be another blob is cut off before its end.
    pub async fn open(&self, range: Range<u64>) -> Result<BoxStream<'static, std::io::Result<Bytes>>> {
        let size = self.descriptor.size;
        let blob = self
            .client
            .blob(&self.remote, &self.descriptor, range.start)
            .await
            .map_err(|error| Error::Upstream { name: self.remote.registry().to_owned(), why: error.to_string() })?;
        let algorithm = self.descriptor.digest.algorithm();
        let whole = range == (0..size);
        let hash = whole.then(|| (uploads::context(algorithm), algorithm));
        let left = range.end.saturating_sub(range.start);
        let flow = Flow { blob, left, hash, expect: self.descriptor.digest.clone(), held: None };
        let stream = futures_util::stream::unfold(Some(flow), |flow| async move {
            let mut flow = flow?;
            match flow.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(flow))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(stream.boxed())
    }
}

impl Flow {
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        while self.left > 0 {
            let Some(mut piece) = self.blob.next().await.map_err(std::io::Error::other)? else {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            };
            piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= piece.len() as u64;
            let Some((hash, _)) = &mut self.hash else { return Ok(Some(piece)) };
            hash.update(&piece);
            if let Some(before) = self.held.replace(piece) {
                return Ok(Some(before));
            }
        }
        if let Some((hash, algorithm)) = self.hash.take() {
            let found = uploads::finish(algorithm, hash).map_err(std::io::Error::other)?;
            if found != self.expect {
                tracing::warn!(%found, expected = %self.expect, "what passes through has another digest, it is cut off");
                return Err(std::io::ErrorKind::InvalidData.into());
            }
        }
        Ok(self.held.take())
    }
}
