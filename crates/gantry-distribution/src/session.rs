//! One upload at a registry: where it goes on, how far it is, and its end.

use bytes::Bytes;
use gantry_model::{Digest, Reference};
use http::header::LOCATION;
use http::{HeaderMap, Method};
use reqwest::{Response, Url};

use crate::client::push_scope;
use crate::config::{Endpoint, Scheme};
use crate::error::{Error, Result};
use crate::exchange::{Ask, Core, Target};
use crate::header::{content_digest, received, text};

/// How long a registry may take to put an upload in its place: some copy it, in seconds.
pub(crate) const COMMIT_PATIENCE: u64 = 600;
/// The largest smallest chunk that is believed, in bytes.
const MAX_MIN_CHUNK: u64 = 256 << 20;

/// An upload that was begun.
pub(crate) struct Session<'a> {
    core: &'a Core,
    pub(crate) endpoint: Endpoint,
    scope: String,
    location: Url,
    /// The fewest bytes of a chunk that is not the last (`OCI-Chunk-Min-Length`).
    pub(crate) min_chunk: u64,
}

impl<'a> Session<'a> {
    /// Begins an upload.
    pub(crate) async fn start(core: &'a Core, reference: &Reference) -> Result<Self> {
        let endpoint = core.config.origin(reference.registry())?;
        let scope = push_scope(reference);
        let ask = start_ask(reference, &scope);
        let response = core.send(&endpoint, &ask).await?;
        Self::from_response(core, endpoint, scope, &response)
    }

    /// An upload that a registry began with this answer.
    pub(crate) fn from_response(
        core: &'a Core,
        endpoint: Endpoint,
        scope: String,
        response: &Response,
    ) -> Result<Self> {
        let location = response.url().clone();
        let mut session = Self { core, endpoint, scope, location, min_chunk: 0 };
        let told = session.follow(response)?;
        if !told {
            return Err(Error::protocol(&session.endpoint.name, "it began an upload and did not say where (Location)"));
        }
        Ok(session)
    }

    /// Takes over where the upload goes on; false if the answer does not tell.
    pub(crate) fn follow(&mut self, response: &Response) -> Result<bool> {
        let headers = response.headers();
        if let Some(least) = text(headers, "oci-chunk-min-length").and_then(|text| text.parse().ok()) {
            self.min_chunk = u64::min(least, MAX_MIN_CHUNK);
        }
        let Some(place) = text(headers, LOCATION) else { return Ok(false) };
        let bad = || Error::protocol(&self.endpoint.name, "its upload goes on at no good place (Location)");
        let url = response.url().join(place).map_err(|_| bad())?;
        let loose = self.endpoint.scheme != Scheme::Https;
        if !(url.scheme() == "https" || url.scheme() == "http" && loose) {
            return Err(bad());
        }
        self.location = url;
        Ok(true)
    }

    fn ask(&self, method: Method) -> Ask {
        Ask::to(method, Target::Url(self.location.clone()), &self.scope)
    }

    /// A request that adds bytes. `range` is the first and the last of them, if both are known.
    pub(crate) fn patch(&self, range: Option<(u64, u64)>) -> Ask {
        let mut ask = self.ask(Method::PATCH);
        ask.headers.insert(http::header::CONTENT_TYPE, octets());
        if let Some((first, last)) = range
            && let Ok(value) = http::HeaderValue::from_str(&format!("{first}-{last}"))
        {
            ask.headers.insert(http::header::CONTENT_RANGE, value);
        }
        ask
    }

    /// The request that ends it.
    pub(crate) fn put(&self, digest: &Digest) -> Ask {
        let mut ask = self.ask(Method::PUT).query("digest", digest.to_string());
        ask.headers.insert(http::header::CONTENT_TYPE, octets());
        ask.patience = COMMIT_PATIENCE;
        ask
    }

    /// Ends it: the registry verifies the digest and has the blob.
    pub(crate) async fn finish(&self, digest: &Digest) -> Result<()> {
        let mut ask = self.put(digest);
        ask.body = Some(Bytes::new());
        // Not sent twice by itself: after a success that got lost the upload is no longer there.
        let response = self.core.once(&self.endpoint, &ask).await?;
        if !response.status().is_success() {
            return Err(self.core.refused(&self.endpoint, &ask, response).await);
        }
        self.check(digest, response.headers())
    }

    /// Whether the registry has what was sent.
    pub(crate) fn check(&self, digest: &Digest, headers: &HeaderMap) -> Result<()> {
        let said = content_digest(headers).map_err(|why| Error::protocol(&self.endpoint.name, why))?;
        match said.filter(|said| said.algorithm() == digest.algorithm() && said != digest) {
            None => Ok(()),
            Some(found) => {
                let (host, what, expected) = (self.endpoint.name.clone(), "the pushed blob".to_owned(), digest.clone());
                Err(Error::Digest { host, what, expected, found })
            }
        }
    }

    /// How many bytes the registry has.
    pub(crate) async fn status(&mut self) -> Result<u64> {
        let response = self.core.send(&self.endpoint.clone(), &self.ask(Method::GET)).await?;
        self.follow(&response)?;
        Ok(received(response.headers()).unwrap_or(0))
    }

    /// Gives it up. Registries forget uploads by themselves, so a failure to say so is no error.
    pub(crate) async fn cancel(self) {
        if let Err(error) = self.core.once(&self.endpoint, &self.ask(Method::DELETE)).await {
            tracing::debug!(%error, "upload not cancelled");
        }
    }
}

/// The request that begins an upload.
pub(crate) fn start_ask(reference: &Reference, scope: &str) -> Ask {
    let path = format!("{}/blobs/uploads/", reference.repository());
    let mut ask = Ask::new(Method::POST, path, scope);
    ask.body = Some(Bytes::new());
    ask
}

const fn octets() -> http::HeaderValue {
    http::HeaderValue::from_static("application/octet-stream")
}
