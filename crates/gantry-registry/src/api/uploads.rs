//! Uploads of blobs: at once or in parts, resumed after a cut, or replaced by a mount.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_model::digest::{Algorithm, Digest};
use gantry_model::reference::check_repository;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderMap, HeaderName, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::OwnedMutexGuard;

use super::{Answer, CONTENT_DIGEST, Call, Code, Refusal, Request, empty};
use crate::config::Action;
use crate::keys;
use crate::repo::{Link, Repo};
use crate::storage::blocking;
use crate::uploads::{Progress, Upload};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// Bytes gathered before they are written.
const BATCH: usize = 512 << 10;
/// How long one waits for an earlier request on the same upload: its end may not have been noticed yet.
const TURN: Duration = Duration::from_secs(10);

/// POST: a new upload, a whole one, or a mount.
pub(super) async fn start(call: &Call<'_>, request: Request) -> Answer {
    if let Some(digest) = call.query.get("mount") {
        let digest = parse_digest(digest)?;
        if let Some(from) = call.query.get("from")
            && mount(call, &digest, from).await?
        {
            return Ok(created(call, &digest));
        }
        return begin(call, digest.algorithm()).map(|upload| accepted(call, &upload, 0));
    }
    let digest = call.query.get("digest").map(parse_digest).transpose()?;
    let algorithm = match (&digest, call.query.get("digest-algorithm")) {
        (Some(digest), _) => digest.algorithm(),
        (None, Some(name)) => Algorithm::ALL.into_iter().find(|a| a.as_str() == name).ok_or_else(|| {
            Refusal::new(
                Code::DigestInvalid,
                format!("digest algorithm {name:?} is not supported: it is sha256 or sha512"),
            )
        })?,
        (None, None) => Algorithm::Sha256,
    };
    check_length(call, request.headers(), 0).await?;
    let upload = begin(call, algorithm)?;
    let Some(digest) = digest else { return Ok(accepted(call, &upload, 0)) };
    let result = match lock(&upload).await {
        Ok(progress) => match receive(call, &upload, progress, request.into_body()).await {
            Ok(progress) => commit(call, &upload, progress, &digest).await,
            Err(refusal) => Err(refusal),
        },
        Err(refusal) => Err(refusal),
    };
    // The client has not learned where it could go on.
    if result.is_err() {
        call.registry.uploads.remove(&upload);
    }
    result
}

fn begin(call: &Call<'_>, algorithm: Algorithm) -> Result<Arc<Upload>, Refusal> {
    let uploads = &call.registry.uploads;
    if uploads.len() >= call.registry.config.limits.uploads {
        let message = "there are too many uploads under way: finish or cancel some, or come again later";
        return Err(Refusal::new(Code::TooManyRequests, message));
    }
    Ok(uploads.start(&call.repository, algorithm, call.now)?)
}

/// Takes a blob over from another repository, if the client may read it there.
async fn mount(call: &Call<'_>, digest: &Digest, from: &str) -> Result<bool, Refusal> {
    let registry = call.registry;
    check_repository(from).map_err(|e| Refusal::new(Code::NameInvalid, e.to_string()))?;
    if registry.auth.as_ref().is_some_and(|auth| !auth.may(&call.caller, from, Action::Pull)) {
        return Ok(false);
    }
    let source = registry.repos.get(from).await?;
    let _gate = registry.repos.gate(digest).read().await;
    let Some(size) = source.use_blob(digest, call.now) else { return Ok(false) };
    let target = registry.repos.get(&call.repository).await?;
    link(call, &target, digest, size).await?;
    Ok(true)
}

/// Notes that a repository has a blob, if it may have so much. The caller holds the blob's gate.
async fn link(call: &Call<'_>, repo: &Repo, digest: &Digest, size: u64) -> Result<(), Refusal> {
    // With a quota neither what is here nor the sum may change between the look and the change.
    let turn = if call.registry.quota(&call.repository).is_some() { Some(repo.turn.lock().await) } else { None };
    let known = repo.state().blobs.contains_key(digest);
    if !known {
        call.registry.check_quota(&call.repository, repo, size)?;
    }
    repo.put_link(digest, Link { size, used: call.now }).await?;
    call.registry.gc.touched(digest);
    drop(turn);
    Ok(())
}

/// GET: how much has come.
pub(super) async fn status(call: &Call<'_>, id: &str) -> Answer {
    let upload = find(call, id)?;
    let offset = lock(&upload).await?.offset;
    let mut response = accepted(call, &upload, offset);
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// DELETE: not wanted any more.
pub(super) async fn cancel(call: &Call<'_>, id: &str) -> Answer {
    let upload = find(call, id)?;
    let mut progress = lock(&upload).await?;
    progress.over = true;
    call.registry.uploads.remove(&upload);
    Ok(empty(StatusCode::NO_CONTENT, &[]))
}

/// PATCH: the next part.
pub(super) async fn chunk(call: &Call<'_>, id: &str, request: Request) -> Answer {
    let upload = find(call, id)?;
    let progress = lock(&upload).await?;
    check_order(call, &upload, request.headers(), progress.offset)?;
    check_length(call, request.headers(), progress.offset).await?;
    let progress = receive(call, &upload, progress, request.into_body()).await?;
    Ok(accepted(call, &upload, progress.offset))
}

/// PUT: the last part, which may be empty, and the digest of the whole.
pub(super) async fn finish(call: &Call<'_>, id: &str, request: Request) -> Answer {
    let upload = find(call, id)?;
    let digest = call
        .query
        .get("digest")
        .ok_or_else(|| Refusal::new(Code::DigestInvalid, "the digest of the whole blob is missing: add ?digest="));
    let digest = digest.and_then(parse_digest)?;
    let progress = lock(&upload).await?;
    check_order(call, &upload, request.headers(), progress.offset)?;
    check_length(call, request.headers(), progress.offset).await?;
    let progress = receive(call, &upload, progress, request.into_body()).await?;
    commit(call, &upload, progress, &digest).await
}

/// Verifies an upload and makes it a blob of the repository.
async fn commit(call: &Call<'_>, upload: &Arc<Upload>, progress: OwnedMutexGuard<Progress>, digest: &Digest) -> Answer {
    let registry = call.registry;
    let algorithm = digest.algorithm();
    let (mut progress, found) = blocking(move || {
        let mut progress = progress;
        let found = progress.digest(algorithm)?;
        Ok((progress, found))
    })
    .await?;
    if found != *digest {
        progress.over = true;
        registry.uploads.remove(upload);
        return Err(Refusal::new(Code::DigestInvalid, format!("what was sent has the digest {found}, not {digest}")));
    }
    let size = progress.offset;
    let repo = registry.repos.get(&call.repository).await?;
    // Once it has begun, this goes on when the client is gone: nothing half is left.
    let work = {
        let (registry, upload, digest) = (registry.clone(), upload.clone(), digest.clone());
        let call = (call.caller.clone(), call.repository.clone(), call.now);
        async move {
            let call = Call {
                registry: &registry,
                caller: call.0,
                repository: call.1,
                query: super::Query::parse(None),
                now: call.2,
            };
            let _gate = registry.repos.gate(&digest).read().await;
            let key = keys::blob(&digest);
            if !registry.storage.exists(&key).await? {
                registry.storage.adopt(upload.path(), &key).await?;
            }
            link(&call, &repo, &digest, size).await?;
            progress.over = true;
            registry.uploads.remove(&upload);
            Ok::<(), Refusal>(())
        }
    };
    match tokio::spawn(work).await {
        Ok(done) => done?,
        Err(_) => return Err(crate::Error::Stopped.into()),
    }
    Ok(created(call, digest))
}

/// Writes what the client sends, gathering the next part while the last is written.
async fn receive(
    call: &Call<'_>,
    upload: &Arc<Upload>,
    progress: OwnedMutexGuard<Progress>,
    mut body: Incoming,
) -> Result<OwnedMutexGuard<Progress>, Refusal> {
    let limits = &call.registry.config.limits;
    let mut total = progress.offset;
    let mut progress = Some(progress);
    let mut writing: Option<tokio::task::JoinHandle<crate::Result<OwnedMutexGuard<Progress>>>> = None;
    loop {
        let (batch, end) = gather(&mut body, limits.idle_timeout.duration()).await;
        if let Some(task) = writing.take() {
            progress = Some(task.await.unwrap_or(Err(crate::Error::Stopped))?);
        }
        let Some(mut mine) = progress.take() else { return Err(crate::Error::Stopped.into()) };
        let size: usize = batch.iter().map(Bytes::len).sum();
        total += size as u64;
        call.registry.metrics.received.fetch_add(size as u64, std::sync::atomic::Ordering::Relaxed);
        upload.touch((call.registry.clock)());
        if total > limits.blob.0 {
            let message = format!("the blob has more than {} bytes", limits.blob.0);
            return Err(Refusal::new(Code::SizeInvalid, message).with_status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        if end.is_none() {
            writing = Some(tokio::task::spawn_blocking(move || mine.write(&batch).map(|()| mine)));
            continue;
        }
        let mine = blocking(move || {
            mine.write(&batch)?;
            mine.rest();
            Ok(mine)
        })
        .await?;
        return match end {
            Some(Err(message)) => Err(Refusal::new(Code::BlobUploadInvalid, message)),
            _ => Ok(mine),
        };
    }
}

/// Some of a body, and whether and how it ended.
async fn gather(body: &mut Incoming, idle: Duration) -> (Vec<Bytes>, Option<Result<(), String>>) {
    let (mut batch, mut size) = (vec![], 0);
    while size < BATCH {
        match tokio::time::timeout(idle, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data() {
                    size += bytes.len();
                    batch.push(bytes);
                }
            }
            Ok(None) => return (batch, Some(Ok(()))),
            Ok(Some(Err(error))) => return (batch, Some(Err(format!("the body was cut off: {error}")))),
            Err(_) => return (batch, Some(Err("nothing came for too long".to_owned()))),
        }
    }
    (batch, None)
}

fn find(call: &Call<'_>, id: &str) -> Result<Arc<Upload>, Refusal> {
    call.registry.uploads.get(&call.repository, id).ok_or_else(gone)
}

fn gone() -> Refusal {
    Refusal::new(Code::BlobUploadUnknown, "there is no such upload: it was finished, cancelled, or is too old")
}

async fn lock(upload: &Arc<Upload>) -> Result<OwnedMutexGuard<Progress>, Refusal> {
    let progress = tokio::time::timeout(TURN, upload.progress.clone().lock_owned()).await.map_err(|_| {
        let message = "another request is sending to this upload: wait for its end, or cancel it";
        Refusal::new(Code::BlobUploadInvalid, message).with_status(StatusCode::CONFLICT)
    })?;
    if progress.over { Err(gone()) } else { Ok(progress) }
}

/// A part must begin where the last one ended.
fn check_order(call: &Call<'_>, upload: &Upload, headers: &HeaderMap, offset: u64) -> Result<(), Refusal> {
    let Some(value) = headers.get(CONTENT_RANGE) else { return Ok(()) };
    let bad = || Refusal::new(Code::BlobUploadInvalid, "Content-Range is not FIRST-LAST");
    let text = value.to_str().map_err(|_| bad())?;
    let text = text.strip_prefix("bytes ").unwrap_or(text);
    let (first, last) = text.split('/').next().and_then(|t| t.split_once('-')).ok_or_else(bad)?;
    let (first, last): (u64, u64) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
    let length = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    // Nothing has no range; clients then write one that is wrong in one way or another.
    let fits = last >= first && length.is_none_or(|length| length == 0 || last - first + 1 == length);
    if first == offset && fits {
        return Ok(());
    }
    let message = if first == offset {
        format!("Content-Range {first}-{last} and Content-Length do not agree")
    } else {
        format!("the next part begins at {offset}, this one at {first}")
    };
    let refusal = Refusal::new(Code::BlobUploadInvalid, message).with_status(StatusCode::RANGE_NOT_SATISFIABLE);
    let refusal = refusal.with_header(LOCATION, &location(call, upload)).with_header(RANGE, &span(offset));
    Err(refusal)
}

/// Refuses early what could only be refused late.
async fn check_length(call: &Call<'_>, headers: &HeaderMap, offset: u64) -> Result<(), Refusal> {
    let length = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    let total = length.unwrap_or_default().saturating_add(offset);
    let most = call.registry.config.limits.blob.0;
    if total > most {
        let message = format!("the blob has more than {most} bytes");
        return Err(Refusal::new(Code::SizeInvalid, message).with_status(StatusCode::PAYLOAD_TOO_LARGE));
    }
    if total > 0 && call.registry.quota(&call.repository).is_some() {
        let repo = call.registry.repos.get(&call.repository).await?;
        call.registry.check_quota(&call.repository, &repo, total)?;
    }
    Ok(())
}

fn parse_digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|e: gantry_model::digest::InvalidDigest| Refusal::new(Code::DigestInvalid, e.to_string()))
}

fn location(call: &Call<'_>, upload: &Upload) -> String {
    format!("/v2/{}/blobs/uploads/{}", call.repository, upload.id)
}

/// What has come, as the specification writes it. It has no way to say nothing; Docker's says this.
fn span(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

fn accepted(call: &Call<'_>, upload: &Upload, offset: u64) -> super::Response {
    let fields = [(LOCATION, location(call, upload)), (RANGE, span(offset)), (UPLOAD_ID, upload.id.clone())];
    empty(StatusCode::ACCEPTED, &fields.each_ref().map(|(name, value)| (name.clone(), value.as_str())))
}

fn created(call: &Call<'_>, digest: &Digest) -> super::Response {
    let place = format!("/v2/{}/blobs/{digest}", call.repository);
    empty(StatusCode::CREATED, &[(LOCATION, &place), (CONTENT_DIGEST, &digest.to_string())])
}
