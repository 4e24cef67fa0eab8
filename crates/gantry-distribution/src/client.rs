//! The client: logging in, manifests, and what else is one request.

use std::sync::Arc;

use bytes::Bytes;
use gantry_model::digest::Algorithm;
use gantry_model::image::{Descriptor, MAX_MANIFEST, media};
use gantry_model::{Digest, Reference};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method};
use reqwest::Response;
use sha2::Digest as _;

use crate::auth::{Auth, Scopes, TokenRequest, bearer, choose, secret};
use crate::body::read_bounded;
use crate::challenge::challenges;
use crate::config::{Config, Endpoint};
use crate::credential::{Anonymous, Credential, Credentials};
use crate::error::{Error, Result};
use crate::exchange::{Ask, Core};
use crate::header::{content_digest, content_length, content_type};
use crate::transport::Transport;

/// Talks to registries. Clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    pub(crate) core: Arc<Core>,
}

/// A manifest or an index, in the bytes that it came in.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Its type, digest and size.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Bytes,
}

impl Client {
    /// A client that reaches registries as `config` says, with these credentials. Nothing is contacted yet.
    pub fn new(config: Config, credentials: Arc<dyn Credentials>) -> Result<Self> {
        config.check()?;
        let config = Arc::new(config);
        let transport = Arc::new(Transport::new(config.clone()));
        let auth = Auth::new(config.clone(), transport.clone(), credentials);
        Ok(Self { core: Arc::new(Core::new(config, transport, auth)) })
    }

    /// The same client with other credentials: connections are shared, tokens are not.
    #[must_use]
    pub fn with_credentials(&self, credentials: Arc<dyn Credentials>) -> Self {
        let (config, transport) = (self.core.config.clone(), self.core.transport.clone());
        let auth = Auth::new(config.clone(), transport.clone(), credentials);
        Self { core: Arc::new(Core::new(config, transport, auth)) }
    }

    /// Whether the registry is there, and takes the credentials that it may ask for.
    pub async fn ping(&self, registry: &str) -> Result<()> {
        let endpoint = self.core.config.origin(registry)?;
        self.core.send(&endpoint, &Ask::new(Method::GET, "", "")).await.map(drop)
    }

    /// Checks a credential against a registry, and returns what is to be kept of it: a refresh token if the registry
    /// gives one, else the credential itself.
    pub async fn login(&self, registry: &str, credential: &Credential) -> Result<Credential> {
        let endpoint = self.core.config.origin(registry)?;
        // Without any credential first, so that the answer tells what is asked for.
        let alone = self.with_credentials(Arc::new(Anonymous));
        let ask = Ask { bare: true, ..Ask::new(Method::GET, "", "") };
        let response = alone.first_answer(&endpoint, &ask).await?;
        let plain = alone.core.speaks(&endpoint).unwrap_or(false);
        if response.status().as_u16() != 401 {
            return if response.status().is_success() {
                Ok(credential.clone())
            } else {
                Err(alone.core.refused(&endpoint, &ask, response).await)
            };
        }
        let Some((method, _)) = choose(&challenges(response.headers()), plain, &endpoint.name)? else {
            return Err(Error::protocol(&endpoint.name, "it asks for credentials in no way that is known"));
        };
        let mut kept = credential.clone();
        let authorization = match (&method, credential) {
            (_, Credential::Bearer(token)) => bearer(token, &endpoint.name)?,
            (crate::auth::Method::Basic, _) => {
                let basic = credential.basic().ok_or_else(|| {
                    Error::Invalid(format!("{registry} asks for a name and a password, and there is only a token"))
                })?;
                secret(&basic, &endpoint.name)?
            }
            (crate::auth::Method::Bearer { realm, service }, _) => {
                let (service, scopes) = (service.as_deref(), Scopes::new());
                let request = TokenRequest { endpoint: &endpoint, realm, service, scopes: &scopes, offline: true };
                let granted = alone.core.auth.fetch(&request, Some(credential)).await?;
                if let Some(token) = granted.refresh {
                    kept = Credential::Identity { username: credential.username().to_owned(), token };
                }
                bearer(&granted.token, &endpoint.name)?
            }
        };
        let ask = ask.header(http::header::AUTHORIZATION, authorization);
        alone.core.send(&endpoint, &ask).await?;
        Ok(kept)
    }

    /// The first answer, with a challenge if there is one: only failures of the connection are tried again.
    async fn first_answer(&self, endpoint: &Endpoint, ask: &Ask) -> Result<Response> {
        let mut failed = 0;
        loop {
            match self.core.once(endpoint, ask).await {
                Err(error) if error.is_transient() && failed + 1 < self.core.config.retry.attempts => {
                    failed += 1;
                    self.core.config.retry.wait(failed).await;
                }
                result => return result,
            }
        }
    }

    /// What a reference points to now: one HEAD request, or a GET where a registry's HEAD tells too little.
    pub async fn resolve(&self, reference: &Reference) -> Result<Descriptor> {
        let ask = manifest_ask(Method::HEAD, reference, &pull_scope(reference));
        let endpoints = self.core.pull_endpoints(reference.registry())?;
        for endpoint in &endpoints {
            let result = match self.core.send(endpoint, &ask).await {
                Ok(response) => match described(&response, reference, &endpoint.name) {
                    Ok(Some(descriptor)) => return Ok(descriptor),
                    Ok(None) => self.manifest_from(endpoint, reference).await.map(|fetched| fetched.descriptor),
                    Err(error) => Err(error),
                },
                Err(Error::Status { status: 405 | 501, .. }) => {
                    self.manifest_from(endpoint, reference).await.map(|fetched| fetched.descriptor)
                }
                Err(error) => Err(error),
            };
            match result {
                Err(error) if !endpoint.origin => self.core.passed_over(endpoint, &error),
                result => return result,
            }
        }
        Err(no_endpoint(reference))
    }

    /// The manifest or index that a reference points to, in one request. Its digest is verified against the reference,
    /// and against what the registry says.
    pub async fn manifest(&self, reference: &Reference) -> Result<Fetched> {
        let endpoints = self.core.pull_endpoints(reference.registry())?;
        for endpoint in &endpoints {
            match self.manifest_from(endpoint, reference).await {
                Err(error) if !endpoint.origin => self.core.passed_over(endpoint, &error),
                result => return result,
            }
        }
        Err(no_endpoint(reference))
    }

    pub(crate) async fn manifest_from(&self, endpoint: &Endpoint, reference: &Reference) -> Result<Fetched> {
        let ask = manifest_ask(Method::GET, reference, &pull_scope(reference));
        let (host, what) = (&endpoint.name, reference.to_string());
        let (headers, bytes) = self.fetch(endpoint, &ask, MAX_MANIFEST, &what).await?;
        let said = content_digest(&headers).map_err(|why| Error::protocol(host, why))?;
        let digest = verified(&bytes, reference.digest().or(said.as_ref()), host, &what)?;
        if let Some(said) = said {
            // The registry may name it by another algorithm than it was asked by.
            verified(&bytes, Some(&said), host, &what)?;
        }
        let media_type = manifest_type(&content_type(&headers), &bytes);
        Ok(Fetched { descriptor: Descriptor::new(media_type, digest, bytes.len() as u64), bytes })
    }

    /// A small body and its headers; a body that is cut off is asked for again.
    pub(crate) async fn fetch(
        &self,
        endpoint: &Endpoint,
        ask: &Ask,
        limit: u64,
        what: &str,
    ) -> Result<(http::HeaderMap, Bytes)> {
        let mut failed = 0;
        let seconds = self.core.config.answer_timeout;
        loop {
            let response = self.core.send(endpoint, ask).await?;
            let headers = response.headers().clone();
            let body = read_bounded(response, limit, &endpoint.name, what);
            let body = tokio::time::timeout(std::time::Duration::from_secs(seconds), body).await;
            let late = || Error::Timeout { host: endpoint.name.clone(), what: ask.what(), seconds };
            match body.unwrap_or_else(|_| Err(late())) {
                Ok(bytes) => return Ok((headers, bytes)),
                Err(error) => {
                    failed += 1;
                    if !error.is_transient() || !endpoint.origin || failed >= self.core.config.retry.attempts {
                        return Err(error);
                    }
                    self.core.config.retry.wait(failed).await;
                }
            }
        }
    }

    /// A whole small blob (a configuration), verified. It may have at most `limit` bytes.
    pub async fn blob_bytes(&self, reference: &Reference, descriptor: &Descriptor, limit: u64) -> Result<Bytes> {
        let what = descriptor.digest.to_string();
        if descriptor.size > limit {
            return Err(Error::TooLarge { host: reference.registry().to_owned(), what, limit });
        }
        let path = blob_path(reference, &descriptor.digest);
        let ask = Ask::new(Method::GET, path, &pull_scope(reference));
        for endpoint in &self.core.pull_endpoints(reference.registry())? {
            let result = self.fetch(endpoint, &ask, descriptor.size, &what).await.and_then(|(_, bytes)| {
                let (host, found, expected) = (endpoint.name.clone(), bytes.len() as u64, descriptor.size);
                if found != expected {
                    return Err(Error::Size { host, what: what.clone(), expected, found });
                }
                verified(&bytes, Some(&descriptor.digest), &endpoint.name, &what)?;
                Ok(bytes)
            });
            match result {
                Err(error) if !endpoint.origin => self.core.passed_over(endpoint, &error),
                result => return result,
            }
        }
        Err(no_endpoint(reference))
    }

    /// Whether the registry itself has a blob in this repository.
    pub async fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<bool> {
        let endpoint = self.core.config.origin(reference.registry())?;
        let ask = Ask::new(Method::HEAD, blob_path(reference, digest), &push_scope(reference));
        match self.core.send(&endpoint, &ask).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Pushes a manifest or an index to the reference's tag or digest (its own digest, if the reference has neither).
    /// If it has a subject and the registry does not keep referrers, the list of them is updated as the
    /// specification's fallback has it.
    pub async fn push_manifest(&self, reference: &Reference, media_type: &str, bytes: Bytes) -> Result<Digest> {
        let endpoint = self.core.config.origin(reference.registry())?;
        let (host, what) = (&endpoint.name, reference.to_string());
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(Error::TooLarge { host: host.clone(), what, limit: MAX_MANIFEST });
        }
        let digest = verified(&bytes, reference.digest(), host, &what)?;
        let target = reference.tag().map_or_else(|| digest.to_string(), str::to_owned);
        let value = HeaderValue::from_str(media_type)
            .map_err(|_| Error::Invalid(format!("{media_type:?} is no media type")))?;
        let path = format!("{}/manifests/{target}", reference.repository());
        let mut ask = Ask::new(Method::PUT, path, &push_scope(reference)).header(CONTENT_TYPE, value);
        ask.body = Some(bytes.clone());
        let response = self.core.send(&endpoint, &ask).await?;
        if let Some(said) = content_digest(response.headers()).map_err(|why| Error::protocol(host, why))? {
            verified(&bytes, Some(&said), host, &what)?;
        }
        let keeps_referrers = response.headers().contains_key("oci-subject");
        drop(response);
        if !keeps_referrers {
            self.note_referrer(reference, media_type, &digest, &bytes).await?;
        }
        Ok(digest)
    }

    /// Deletes a manifest by its digest; by its tag, if the reference has no digest, which some registries refuse.
    pub async fn delete_manifest(&self, reference: &Reference) -> Result<()> {
        let path = format!("{}/manifests/{}", reference.repository(), reference.target());
        self.delete(reference, path).await
    }

    /// Deletes a blob.
    pub async fn delete_blob(&self, reference: &Reference, digest: &Digest) -> Result<()> {
        self.delete(reference, blob_path(reference, digest)).await
    }

    async fn delete(&self, reference: &Reference, path: String) -> Result<()> {
        let endpoint = self.core.config.origin(reference.registry())?;
        let scope = format!("repository:{}:delete,pull", reference.repository());
        self.core.send(&endpoint, &Ask::new(Method::DELETE, path, &scope)).await.map(drop)
    }
}

pub(crate) fn pull_scope(reference: &Reference) -> String {
    format!("repository:{}:pull", reference.repository())
}

pub(crate) fn push_scope(reference: &Reference) -> String {
    format!("repository:{}:pull,push", reference.repository())
}

pub(crate) fn blob_path(reference: &Reference, digest: &Digest) -> String {
    format!("{}/blobs/{digest}", reference.repository())
}

fn manifest_ask(method: Method, reference: &Reference, scope: &str) -> Ask {
    let path = format!("{}/manifests/{}", reference.repository(), reference.target());
    let accept = format!("{}, */*", media::MANIFESTS.join(", "));
    let ask = Ask::new(method, path, scope);
    // It is made of constants that are good for a header.
    match HeaderValue::from_str(&accept) {
        Ok(value) => ask.header(ACCEPT, value),
        Err(_) => ask,
    }
}

/// What a HEAD request told, if it told digest and size.
fn described(response: &Response, reference: &Reference, host: &str) -> Result<Option<Descriptor>> {
    let headers = response.headers();
    let said = content_digest(headers).map_err(|why| Error::protocol(host, why))?;
    let (Some(said), Some(size)) = (said, content_length(headers)) else { return Ok(None) };
    let media_type = content_type(headers);
    if !media::is_index(&media_type) && !media::is_manifest(&media_type) {
        return Ok(None);
    }
    if size > MAX_MANIFEST {
        return Err(Error::TooLarge { host: host.to_owned(), what: reference.to_string(), limit: MAX_MANIFEST });
    }
    match reference.digest() {
        Some(expected) if *expected != said => Err(Error::Digest {
            host: host.to_owned(),
            what: reference.to_string(),
            expected: expected.clone(),
            found: said,
        }),
        _ => Ok(Some(Descriptor::new(media_type, said, size))),
    }
}

/// The type of a manifest: as it was served, or the document's own word where the registry has none.
fn manifest_type(served: &str, bytes: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Own {
        media_type: Option<String>,
    }
    if media::is_index(served) || media::is_manifest(served) {
        return served.to_owned();
    }
    let own = serde_json::from_slice::<Own>(bytes).ok().and_then(|own| own.media_type);
    own.filter(|own| !own.is_empty() && own.len() < 256).unwrap_or_else(|| served.to_owned())
}

/// The digest of bytes, by the algorithm of the expected one, which it must equal; by SHA-256 if none is expected.
pub(crate) fn verified(bytes: &[u8], expected: Option<&Digest>, host: &str, what: &str) -> Result<Digest> {
    let algorithm = expected.map_or(Algorithm::Sha256, Digest::algorithm);
    let found = match algorithm {
        Algorithm::Sha256 => Digest::from_bytes(algorithm, &sha2::Sha256::digest(bytes)),
        Algorithm::Sha512 => Digest::from_bytes(algorithm, &sha2::Sha512::digest(bytes)),
    };
    let found = found.map_err(|error| Error::Invalid(error.to_string()))?;
    match expected {
        Some(expected) if *expected != found => {
            Err(Error::Digest { host: host.to_owned(), what: what.to_owned(), expected: expected.clone(), found })
        }
        _ => Ok(found),
    }
}

/// The list of endpoints ends in the registry itself, whose answer is always returned.
pub(crate) fn no_endpoint(reference: &Reference) -> Error {
    Error::Config(format!("{}: there is nobody to ask", reference.registry()))
}
