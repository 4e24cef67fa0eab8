//! Blobs: given whole or in part, and taken out of a repository.

use std::ops::Range;

use gantry_model::digest::Digest;
use http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::{Answer, Body, CONTENT_DIGEST, Call, Code, Refusal, Request, Response, empty};
use crate::keys;
use crate::storage::Opened;
use crate::upstream::Found;

/// GET and HEAD of a blob.
pub(super) async fn get(call: &Call<'_>, digest: &Digest, request: &Request) -> Answer {
    let registry = call.registry;
    let repo = registry.repos.get(&call.repository).await?;
    let found = match repo.use_blob(digest, call.now) {
        Some(size) => Some(Found::Here(size)),
        None => registry.upstreams.blob(registry, &repo, digest, *request.method() == Method::HEAD).await?,
    };
    let found = found.ok_or_else(|| unknown(call, digest))?;
    let size = found.size();
    let headers = request.headers();
    let tag = format!("\"{digest}\"");
    if headers.get_all(IF_NONE_MATCH).iter().any(|v| v.to_str().is_ok_and(|v| v == "*" || v.contains(&tag))) {
        let mut response = empty(StatusCode::NOT_MODIFIED, &[]);
        describe(&mut response, digest, &tag);
        return Ok(response);
    }
    let range = match asked_range(headers, size, &tag) {
        Asked::Whole => None,
        Asked::Part(range) => Some(range),
        Asked::Beyond => {
            let refusal = Refusal::new(Code::SizeInvalid, format!("the blob has {size} bytes"));
            let refusal = refusal.with_status(StatusCode::RANGE_NOT_SATISFIABLE);
            return Err(refusal.with_header(CONTENT_RANGE, &format!("bytes */{size}")));
        }
    };
    let Range { start, end } = range.clone().unwrap_or(0..size);
    let body = if *request.method() == Method::HEAD {
        // Only the head of it leaves: the length is what counts.
        Body::stream(Box::pin(futures_util::stream::empty()), end - start)
    } else if let Found::Passing(passing) = &found {
        Body::stream(passing.open(start..end).await?, end - start)
    } else {
        match registry.storage.open_range(&keys::blob(digest), start..end).await? {
            Some(Opened::File(file)) => Body::file(file, start, end - start),
            Some(Opened::Stream(stream)) => Body::stream(stream, end - start),
            None => {
                tracing::error!(%digest, repository = call.repository, "blob is missing from the storage");
                return Err(unknown(call, digest));
            }
        }
    };
    let mut response = Response::new(body);
    describe(&mut response, digest, &tag);
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if range.is_some() {
        if let Ok(value) = HeaderValue::from_str(&format!("bytes {start}-{}/{size}", end - 1)) {
            fields.insert(CONTENT_RANGE, value);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn describe(response: &mut Response, digest: &Digest, tag: &str) {
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=31536000"));
    for (name, value) in [(CONTENT_DIGEST, digest.to_string().as_str()), (ETAG, tag)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
}

enum Asked {
    Whole,
    Part(Range<u64>),
    Beyond,
}

/// One range is answered. Several, or what is no range of bytes, are answered with the whole (RFC 9110, 14.2).
fn asked_range(headers: &HeaderMap, size: u64, tag: &str) -> Asked {
    let Some(text) = headers.get(RANGE).and_then(|v| v.to_str().ok()) else { return Asked::Whole };
    if headers.get(IF_RANGE).is_some_and(|v| v.as_bytes() != tag.as_bytes()) {
        return Asked::Whole;
    }
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|t| t.trim().split_once('-')) else {
        return Asked::Whole;
    };
    match (first.is_empty(), first.parse::<u64>(), last.is_empty(), last.parse::<u64>()) {
        (true, _, false, Ok(0)) => Asked::Beyond,
        (true, _, false, Ok(_)) if size == 0 => Asked::Beyond,
        (true, _, false, Ok(count)) => Asked::Part(size.saturating_sub(count)..size),
        (false, Ok(first), true, _) if first < size => Asked::Part(first..size),
        (false, Ok(first), false, Ok(last)) if first > last => Asked::Whole,
        (false, Ok(first), false, Ok(last)) if first < size => Asked::Part(first..last.saturating_add(1).min(size)),
        (false, Ok(_), true, _) | (false, Ok(_), false, Ok(_)) => Asked::Beyond,
        _ => Asked::Whole,
    }
}

/// DELETE of a blob.
pub(super) async fn delete(call: &Call<'_>, digest: &Digest) -> Answer {
    let registry = call.registry;
    let repo = registry.repos.get(&call.repository).await?;
    let _gate = registry.repos.gate(digest).write().await;
    let _turn = repo.turn.lock().await;
    let (known, needed) = {
        let state = repo.state();
        (state.blobs.contains_key(digest), state.needed.contains_key(digest))
    };
    if !known {
        return Err(unknown(call, digest));
    }
    if needed {
        let message = format!("a manifest in {} needs {digest}: delete that first", call.repository);
        return Err(Refusal::new(Code::Denied, message).with_status(StatusCode::METHOD_NOT_ALLOWED));
    }
    repo.remove_link(digest).await?;
    Ok(empty(StatusCode::ACCEPTED, &[]))
}

fn unknown(call: &Call<'_>, digest: &Digest) -> Refusal {
    Refusal::new(Code::BlobUnknown, format!("{} has no blob {digest}", call.repository))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |text: &str, size: u64, expect: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_str(text).unwrap());
            let found = match asked_range(&headers, size, "\"x\"") {
                Asked::Whole => "whole".to_owned(),
                Asked::Beyond => "beyond".to_owned(),
                Asked::Part(range) => format!("{}..{}", range.start, range.end),
            };
            assert_eq!(found, expect, "{text} of {size}");
        };
        check("bytes=0-4", 10, "0..5");
        check("bytes=5-", 10, "5..10");
        check("bytes=5-99", 10, "5..10");
        check("bytes=-3", 10, "7..10");
        check("bytes=-99", 10, "0..10");
        check("bytes=10-", 10, "beyond");
        check("bytes=0-", 0, "beyond");
        check("bytes=-0", 10, "beyond");
        check("bytes=5-4", 10, "whole");
        check("bytes=0-1,3-4", 10, "whole");
        check("bytes=x", 10, "whole");
        check("items=0-1", 10, "whole");
        check("bytes=0-18446744073709551615", 10, "0..10");
    }
}
