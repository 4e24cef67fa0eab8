//! Blobs, read piece by piece, through cuts, stalls and mirrors that go away.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_model::Reference;
use gantry_model::image::Descriptor;
use http::header::RANGE;
use http::{HeaderMap, HeaderValue, Method};
use reqwest::Response;

use crate::client::{Client, blob_path, no_endpoint, pull_scope};
use crate::config::Endpoint;
use crate::error::{Error, Result, chain};
use crate::exchange::{Ask, Core, worth_retrying};
use crate::header::{content_digest, content_length, content_range};

/// After so many new bytes a further cut is counted from the start again.
const PROGRESS: u64 = 64 << 10;

/// A blob on its way. Pieces come as they were received, without copies.
///
/// When the connection is cut, or no byte comes for a while, the rest is asked for by range. A registry without ranges
/// sends everything again, of which what was delivered before is left out: content is named by its digest, so it is the
/// same. The size is checked here; the digest by the one who takes the pieces, since a resumed blob began elsewhere.
pub struct Blob {
    core: Arc<Core>,
    ask: Ask,
    descriptor: Descriptor,
    endpoints: Vec<Endpoint>,
    current: usize,
    response: Option<Response>,
    /// Where the next byte for the caller is in the blob.
    at: u64,
    /// Bytes to leave out, since the registry began before `at`.
    skip: u64,
    /// Where the current response began, and how many in a row brought little.
    began: u64,
    failed: u32,
}

impl Client {
    /// Begins to read a blob at an offset. Mirrors are asked first. The `urls` of a descriptor (foreign layers) are not
    /// followed: they lead anywhere.
    pub async fn blob(&self, reference: &Reference, descriptor: &Descriptor, offset: u64) -> Result<Blob> {
        if offset > descriptor.size {
            let text = format!("offset {offset} is after the end of {} at {}", descriptor.digest, descriptor.size);
            return Err(Error::Invalid(text));
        }
        let ask = Ask::new(Method::GET, blob_path(reference, &descriptor.digest), &pull_scope(reference));
        let endpoints = self.core.pull_endpoints(reference.registry())?;
        if endpoints.is_empty() {
            return Err(no_endpoint(reference));
        }
        let mut blob = Blob {
            core: self.core.clone(),
            ask,
            descriptor: descriptor.clone(),
            endpoints,
            current: 0,
            response: None,
            at: offset,
            skip: 0,
            began: offset,
            failed: 0,
        };
        if offset < descriptor.size {
            blob.open().await?;
        }
        Ok(blob)
    }
}

impl Blob {
    /// Where in the blob the next piece begins, in bytes.
    pub const fn offset(&self) -> u64 {
        self.at
    }

    /// Size of the whole blob in bytes, by its descriptor.
    pub const fn size(&self) -> u64 {
        self.descriptor.size
    }

    /// The registry or mirror that it comes from.
    pub fn source(&self) -> &str {
        self.endpoints.get(self.current).map_or("", |endpoint| &endpoint.name)
    }

    /// Says that the content turned out to be wrong. If it came from a mirror, that is left out for a while, and true
    /// means that fetching the blob anew asks somebody else.
    pub fn reject(self) -> bool {
        let Some(endpoint) = self.endpoints.get(self.current).filter(|endpoint| !endpoint.origin) else { return false };
        self.core
            .passed_over(endpoint, &Error::Unreachable { host: endpoint.name.clone(), why: "wrong content".into() });
        true
    }

    /// The next piece; none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.at == self.descriptor.size {
                return self.finish().await.map(|()| None);
            }
            let cut = match self.piece().await {
                Ok(Some(piece)) => {
                    let piece = self.take(piece)?;
                    if piece.is_empty() {
                        continue;
                    }
                    return Ok(Some(piece));
                }
                Ok(None) => self.unreachable("the connection was closed before the end"),
                Err(error) => error,
            };
            self.response = None;
            self.failed = if self.at - self.began >= PROGRESS { 1 } else { self.failed + 1 };
            tracing::debug!(error = %cut, at = self.at, failed = self.failed, "blob cut off");
            if self.failed >= self.core.config.retry.attempts {
                self.give_up_endpoint(cut)?;
            } else {
                self.core.config.retry.wait(self.failed).await;
            }
            self.open().await?;
        }
    }

    /// The next bytes of the connection, as they come.
    async fn piece(&mut self) -> Result<Option<Bytes>> {
        let seconds = self.core.config.stall_timeout;
        let Some(response) = &mut self.response else { return Ok(None) };
        match tokio::time::timeout(Duration::from_secs(seconds), response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(self.unreachable(&chain(&error))),
            Err(_) => Err(self.unreachable(&format!("no byte came for {seconds} s"))),
        }
    }

    /// What of some bytes is for the caller.
    fn take(&mut self, mut piece: Bytes) -> Result<Bytes> {
        let skipped = self.skip.min(piece.len() as u64);
        self.skip -= skipped;
        let piece = piece.split_off(skipped as usize);
        let after = self.at + piece.len() as u64;
        if after > self.descriptor.size {
            self.response = None;
            return Err(self.wrong_size(after));
        }
        self.at = after;
        Ok(piece)
    }

    /// At the end nothing may follow. The connection is read to its end, so that it can be used again.
    async fn finish(&mut self) -> Result<()> {
        if self.response.is_some() {
            let more = self.piece().await;
            self.response = None;
            if let Ok(Some(more)) = more
                && !more.is_empty()
            {
                return Err(self.wrong_size(self.at + more.len() as u64));
            }
        }
        Ok(())
    }

    /// Opens a response at the current offset, at the current endpoint or one after it.
    async fn open(&mut self) -> Result<()> {
        loop {
            let Some(endpoint) = self.endpoints.get(self.current).cloned() else {
                return Err(Error::Config(format!("{}: there is nobody to ask", self.descriptor.digest)));
            };
            let mut ask = self.ask.clone();
            if self.at > 0
                && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", self.at))
            {
                ask = ask.header(RANGE, range);
            }
            let result = match self.core.send(&endpoint, &ask).await {
                Ok(response) => self.accept(&endpoint, response),
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => return Ok(()),
                Err(error) => self.give_up_endpoint(error)?,
            }
        }
    }

    /// Goes on to the next endpoint; the last one's error is the error of all.
    fn give_up_endpoint(&mut self, error: Error) -> Result<()> {
        match self.endpoints.get(self.current) {
            Some(endpoint) if self.current + 1 < self.endpoints.len() => {
                if worth_retrying(&error) {
                    self.core.passed_over(endpoint, &error);
                }
                self.current += 1;
                self.failed = 0;
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Takes a response, if it is of the right digest, range and size.
    fn accept(&mut self, endpoint: &Endpoint, response: Response) -> Result<()> {
        let headers = response.headers();
        let said = content_digest(headers).ok().flatten();
        if let Some(found) = said
            .filter(|said| said.algorithm() == self.descriptor.digest.algorithm() && *said != self.descriptor.digest)
        {
            let (what, expected) = (self.descriptor.digest.to_string(), self.descriptor.digest.clone());
            return Err(Error::Digest { host: endpoint.name.clone(), what, expected, found });
        }
        let partial = response.status().as_u16() == 206;
        self.skip = self.check_place(endpoint, headers, partial)?;
        self.began = self.at;
        self.response = Some(response);
        Ok(())
    }

    /// How many bytes of a response are to be left out.
    fn check_place(&self, endpoint: &Endpoint, headers: &HeaderMap, partial: bool) -> Result<u64> {
        let (size, length) = (self.descriptor.size, content_length(headers));
        if !partial {
            return match length {
                Some(found) if found != size => Err(self.wrong_size(found)),
                _ => Ok(self.at),
            };
        }
        let bad = |why: &str| Error::protocol(&endpoint.name, format!("{}: {why}", self.ask.what()));
        let (first, total) = content_range(headers).ok_or_else(|| bad("a part without a good Content-Range"))?;
        if let Some(found) = total.filter(|total| *total != size) {
            return Err(self.wrong_size(found));
        }
        if first > self.at {
            return Err(bad("the part begins after the byte that was asked for"));
        }
        match length {
            Some(length) if first.saturating_add(length) > size => Err(self.wrong_size(first.saturating_add(length))),
            _ => Ok(self.at - first),
        }
    }

    fn unreachable(&self, why: &str) -> Error {
        Error::Unreachable { host: self.source().to_owned(), why: format!("{}: {why}", self.descriptor.digest) }
    }

    fn wrong_size(&self, found: u64) -> Error {
        let what = self.descriptor.digest.to_string();
        Error::Size { host: self.source().to_owned(), what, expected: self.descriptor.size, found }
    }
}
