//! Manifests: kept to the byte, checked for what they need, and given by tag or digest.

use std::collections::BTreeMap;

use bytes::Bytes;
use gantry_model::digest::{Algorithm, Digest};
use gantry_model::image::{Document, media};
use gantry_model::reference::check_tag;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION};
use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;

use super::{Answer, Body, CONTENT_DIGEST, Call, Code, Refusal, Request, Response, Target, empty};
use crate::repo::{Record, Repo, Tag};
use crate::uploads::digest_of;

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Tags that one push may set.
const MAX_TAGS: usize = 100;

/// GET and HEAD of a manifest.
pub(super) async fn get(call: &Call<'_>, target: Target, request: &Request) -> Answer {
    let registry = call.registry;
    let repo = registry.repos.get(&call.repository).await?;
    registry.upstreams.refresh(registry, &repo, &target).await?;
    let (digest, record) = {
        let state = repo.state();
        let digest = match &target {
            Target::Digest(digest) => Some(digest.clone()),
            Target::Tag(tag) => state.tags.get(tag).map(|t| t.digest.clone()),
        };
        digest
            .and_then(|digest| state.manifests.get(&digest).map(|record| (digest, record.clone())))
            .ok_or_else(|| unknown(call, &target, state.exists()))?
    };
    let tag = format!("\"{digest}\"");
    let same = request.headers().get_all(IF_NONE_MATCH).iter().any(|v| v.to_str().is_ok_and(|v| v.contains(&tag)));
    let mut response = if same {
        empty(StatusCode::NOT_MODIFIED, &[])
    } else if *request.method() == http::Method::HEAD {
        Response::new(Body::stream(Box::pin(futures_util::stream::empty()), record.size))
    } else {
        let bytes = repo.manifest_bytes(&digest).await?.ok_or_else(|| unknown(call, &target, true))?;
        Response::new(Body::full(bytes))
    };
    let values = [(CONTENT_TYPE, record.media_type.clone()), (CONTENT_DIGEST, digest.to_string()), (ETAG, tag)];
    for (name, value) in values {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

fn unknown(call: &Call<'_>, target: &Target, exists: bool) -> Refusal {
    if !exists {
        return Refusal::new(Code::NameUnknown, format!("there is no repository {}", call.repository));
    }
    let what = match target {
        Target::Tag(tag) => format!("tag {tag}"),
        Target::Digest(digest) => format!("manifest {digest}"),
    };
    Refusal::new(Code::ManifestUnknown, format!("{} has no {what}", call.repository))
}

/// PUT of a manifest.
pub(super) async fn put(call: &Call<'_>, target: Target, request: Request) -> Answer {
    let registry = call.registry;
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
    let bytes = body(call, request).await?;
    let algorithm = match &target {
        Target::Digest(digest) => digest.algorithm(),
        Target::Tag(_) => match call.query.get("digest").and_then(|d| d.parse::<Digest>().ok()) {
            Some(digest) => digest.algorithm(),
            None => Algorithm::Sha256,
        },
    };
    let digest = digest_of(algorithm, &bytes)?;
    if let Target::Digest(expect) = &target
        && *expect != digest
    {
        return Err(Refusal::new(Code::DigestInvalid, format!("what was sent has the digest {digest}, not {expect}")));
    }
    let mut tags: Vec<String> = call.query.all("tag").map(str::to_owned).collect();
    if let Target::Tag(tag) = &target {
        tags.push(tag.clone());
    }
    if tags.len() > MAX_TAGS {
        let message = format!("one push sets at most {MAX_TAGS} tags");
        return Err(Refusal::new(Code::TagInvalid, message).with_status(StatusCode::URI_TOO_LONG));
    }
    for tag in &tags {
        check_tag(tag).map_err(|e| Refusal::new(Code::TagInvalid, e.to_string()))?;
    }
    let record = describe(&bytes, &media_type, call.now)?;
    let subject = record.subject.clone();
    let repo = registry.repos.get(&call.repository).await?;
    // Once it has begun, this goes on when the client is gone: manifest and tags arrive together.
    let work = {
        let (registry, name, now) = (registry.clone(), call.repository.clone(), call.now);
        let (digest, tags) = (digest.clone(), tags.clone());
        async move { store(&registry, &name, &repo, &digest, record, &bytes, &tags, now).await }
    };
    match tokio::spawn(work).await {
        Ok(done) => done?,
        Err(_) => return Err(crate::Error::Stopped.into()),
    }
    let place = format!("/v2/{}/manifests/{digest}", call.repository);
    let mut response = empty(StatusCode::CREATED, &[(LOCATION, &place), (CONTENT_DIGEST, &digest.to_string())]);
    let set = |response: &mut Response, name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().append(name, value);
        }
    };
    if let Some(subject) = subject {
        set(&mut response, SUBJECT, &subject.to_string());
    }
    for tag in call.query.all("tag") {
        set(&mut response, TAG, tag);
    }
    Ok(response)
}

#[allow(clippy::too_many_arguments)] // the parts of one push, which end here
async fn store(
    registry: &crate::registry::Inner,
    name: &str,
    repo: &Repo,
    digest: &Digest,
    record: Record,
    bytes: &[u8],
    tags: &[String],
    now: i64,
) -> Result<(), Refusal> {
    let _turn = repo.turn.lock().await;
    let known = {
        let state = repo.state();
        for tag in tags {
            registry.check_immutable(name, tag, state.tags.get(tag).map(|t| &t.digest), Some(digest))?;
        }
        for blob in &record.blobs {
            if !state.blobs.contains_key(blob) {
                return Err(Refusal::new(
                    Code::ManifestBlobUnknown,
                    format!("{name} has no blob {blob}: push it first"),
                ));
            }
        }
        for manifest in &record.manifests {
            if !state.manifests.contains_key(manifest) {
                let message = format!("{name} has no manifest {manifest}: push it first");
                return Err(Refusal::new(Code::ManifestBlobUnknown, message));
            }
        }
        state.manifests.get(digest).cloned()
    };
    if known.is_none() {
        registry.check_quota(name, repo, record.size)?;
    }
    if known.is_none_or(|known| known.media_type != record.media_type) {
        repo.put_manifest(digest, record, bytes).await?;
    }
    for tag in tags {
        repo.put_tag(tag, Tag { digest: digest.clone(), pushed: now, checked: now }).await?;
    }
    Ok(())
}

async fn body(call: &Call<'_>, request: Request) -> Result<Bytes, Refusal> {
    let most = usize::try_from(call.registry.config.limits.manifest.0).unwrap_or(usize::MAX);
    let large = || {
        let message = format!("a manifest has at most {most} bytes");
        Refusal::new(Code::ManifestInvalid, message).with_status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    let length =
        request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if length.is_some_and(|length| length > most) {
        return Err(large());
    }
    let idle = call.registry.config.limits.idle_timeout.duration();
    let mut body = request.into_body();
    let mut bytes = Vec::with_capacity(length.unwrap_or_default());
    let cut = |why: String| Refusal::new(Code::ManifestInvalid, why);
    loop {
        match tokio::time::timeout(idle, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                let Ok(piece) = frame.into_data() else { continue };
                if bytes.len() + piece.len() > most {
                    return Err(large());
                }
                bytes.extend_from_slice(&piece);
            }
            Ok(None) => return Ok(bytes.into()),
            Ok(Some(Err(error))) => return Err(cut(format!("the body was cut off: {error}"))),
            Err(_) => return Err(cut("nothing came for too long".to_owned())),
        }
    }
}

/// What is to be known of a manifest.
pub(crate) fn describe(bytes: &[u8], media_type: &str, now: i64) -> Result<Record, Refusal> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Own {
        media_type: Option<String>,
    }
    let invalid = |why: String| Refusal::new(Code::ManifestInvalid, why);
    let document = Document::parse(bytes, media_type).map_err(|e| invalid(format!("the manifest is invalid: {e}")))?;
    let own: Own = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
    let own = own.media_type.filter(|t| !t.is_empty());
    let media_type = match (own, &document) {
        (Some(own), _) if !media_type.is_empty() && own != media_type => {
            return Err(invalid(format!("it was sent as {media_type:.100} but says it is {own:.100}")));
        }
        (Some(own), _) => own,
        (None, _) if !media_type.is_empty() => media_type.to_owned(),
        (None, Document::Manifest(_)) => media::OCI_MANIFEST.to_owned(),
        (None, Document::Index(_)) => media::OCI_INDEX.to_owned(),
    };
    let subject = document.subject().map(|s| s.digest.clone());
    let mut record = Record {
        media_type,
        size: bytes.len() as u64,
        pushed: now,
        subject,
        artifact_type: None,
        annotations: BTreeMap::new(),
        blobs: vec![],
        manifests: vec![],
    };
    match document {
        Document::Manifest(manifest) => {
            record.blobs.push(manifest.config.digest.clone());
            // What lies elsewhere by its own word need not be here.
            let here =
                manifest.layers.iter().filter(|l| l.urls.is_empty() && l.media_type != media::DOCKER_FOREIGN_LAYER);
            record.blobs.extend(here.map(|layer| layer.digest.clone()));
            if record.subject.is_some() {
                let own = manifest.artifact_type.filter(|t| !t.is_empty());
                record.artifact_type = own.or(Some(manifest.config.media_type)).filter(|t| !t.is_empty());
                record.annotations = manifest.annotations;
            }
        }
        Document::Index(index) => {
            record.manifests.extend(index.manifests.iter().map(|m| m.digest.clone()));
            if record.subject.is_some() {
                record.artifact_type = index.artifact_type.filter(|t| !t.is_empty());
                record.annotations = index.annotations;
            }
        }
    }
    record.blobs.sort_unstable();
    record.blobs.dedup();
    record.manifests.sort_unstable();
    record.manifests.dedup();
    Ok(record)
}

/// DELETE of a tag, or of a manifest with its tags.
pub(super) async fn delete(call: &Call<'_>, target: Target) -> Answer {
    let registry = call.registry;
    let repo = registry.repos.get(&call.repository).await?;
    let _turn = repo.turn.lock().await;
    let (exists, tags, known) = {
        let state = repo.state();
        let (tags, known): (Vec<String>, bool) = match &target {
            Target::Tag(tag) => (vec![tag.clone()], state.tags.contains_key(tag)),
            Target::Digest(digest) => {
                let of = state.tags.iter().filter(|(_, tag)| tag.digest == *digest);
                (of.map(|(name, _)| name.clone()).collect(), state.manifests.contains_key(digest))
            }
        };
        for tag in &tags {
            registry.check_immutable(&call.repository, tag, state.tags.get(tag).map(|t| &t.digest), None)?;
        }
        (state.exists(), tags, known)
    };
    if !known {
        return Err(unknown(call, &target, exists));
    }
    for tag in &tags {
        repo.remove_tag(tag).await?;
    }
    if let Target::Digest(digest) = &target {
        repo.remove_manifest(digest, call.now).await?;
    }
    Ok(empty(StatusCode::ACCEPTED, &[]))
}
