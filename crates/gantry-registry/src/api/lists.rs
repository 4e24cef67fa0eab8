//! Lists, in pages: repositories, tags, and what refers to a manifest.

use std::ops::Bound;

use gantry_model::digest::Digest;
use gantry_model::image::{Descriptor, media};
use http::header::{CONTENT_TYPE, LINK};
use http::{HeaderName, HeaderValue};

use super::route::escape;
use super::{Answer, Body, Call, Code, Refusal, Response};
use crate::repo::Record;

const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
/// Entries of a page, where the client says nothing, and at most.
const PAGE: usize = 1000;
const MOST: usize = 10_000;
/// The most bytes of descriptors in a page of referrers: clients refuse large manifests.
const REFERRERS_BYTES: usize = 3 << 20;
const REFERRERS_PAGE: usize = 200;

struct Page {
    count: usize,
    last: Option<String>,
}

fn page(call: &Call<'_>, most: usize) -> Result<Page, Refusal> {
    let count = match call.query.get("n") {
        Some(text) => {
            let count: usize = text.parse().map_err(|_| {
                Refusal::new(Code::Unsupported, format!("n={text:.20} is no number"))
                    .with_status(http::StatusCode::BAD_REQUEST)
            })?;
            count.min(MOST)
        }
        None => most,
    };
    Ok(Page { count, last: call.query.get("last").filter(|l| !l.is_empty()).map(str::to_owned) })
}

fn respond(json: &serde_json::Value, media_type: &'static str, next: Option<String>) -> Response {
    let mut response = Response::new(Body::full(json.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    if let Some(value) = next.and_then(|next| HeaderValue::from_str(&format!("<{next}>; rel=\"next\"")).ok()) {
        response.headers_mut().insert(LINK, value);
    }
    response
}

/// The repositories that the caller may read.
pub(super) async fn catalog(call: &Call<'_>) -> Answer {
    let Page { count, last } = page(call, PAGE)?;
    let names = call.registry.repos.names().await?;
    let from = last.map_or(0, |last| names.partition_point(|name| *name <= last));
    let mut found = vec![];
    let mut more = false;
    for name in &names[from..] {
        if call.registry.auth.as_ref().is_some_and(|auth| !auth.may_see(&call.caller, name)) {
            continue;
        }
        if found.len() >= count {
            more = count > 0;
            break;
        }
        if call.registry.repos.get(name).await?.state().exists() {
            found.push(name);
        }
    }
    let next = found.last().filter(|_| more).map(|last| format!("/v2/_catalog?n={count}&last={}", escape(last)));
    Ok(respond(&serde_json::json!({"repositories": found}), "application/json", next))
}

/// The tags of a repository.
pub(super) async fn tags(call: &Call<'_>) -> Answer {
    // Without n the whole list is promised.
    let Page { count, last } = page(call, usize::MAX)?;
    let repo = call.registry.repos.get(&call.repository).await?;
    let (found, more) = {
        let state = repo.state();
        if !state.exists() {
            return Err(Refusal::new(Code::NameUnknown, format!("there is no repository {}", call.repository)));
        }
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = state.tags.range::<String, _>((from, Bound::Unbounded)).map(|(name, _)| name.clone());
        let found: Vec<String> = rest.by_ref().take(count).collect();
        (found, count > 0 && rest.next().is_some())
    };
    let next = found.last().filter(|_| more);
    let next = next.map(|last| format!("/v2/{}/tags/list?n={count}&last={}", call.repository, escape(last)));
    Ok(respond(&serde_json::json!({"name": call.repository, "tags": found}), "application/json", next))
}

/// What refers to a manifest. That nothing does, or that there is no such manifest or repository, is an empty list.
pub(super) async fn referrers(call: &Call<'_>, digest: &Digest) -> Answer {
    let Page { count, last } = page(call, REFERRERS_PAGE)?;
    let filter = call.query.get("artifactType").filter(|f| !f.is_empty());
    let repo = call.registry.repos.get(&call.repository).await?;
    let last = last.and_then(|l| l.parse::<Digest>().ok()).map_or(Bound::Unbounded, Bound::Excluded);
    let (mut found, mut bytes, mut more) = (vec![], 0, None);
    {
        let state = repo.state();
        let all = state.referrers.get(digest);
        for one in all.into_iter().flat_map(|all| all.range((last.clone(), Bound::Unbounded))) {
            let Some(record) = state.manifests.get(one) else { continue };
            if filter.is_some_and(|f| record.artifact_type.as_deref() != Some(f)) {
                continue;
            }
            let text = serde_json::to_value(descriptor(one, record)).unwrap_or_default();
            bytes += text.to_string().len();
            if found.len() >= count.max(1) || (bytes > REFERRERS_BYTES && !found.is_empty()) {
                more = found.last().and_then(|v: &serde_json::Value| v["digest"].as_str()).map(str::to_owned);
                break;
            }
            found.push(text);
        }
    }
    let next = more.map(|last| {
        let filter = filter.map(|f| format!("&artifactType={}", escape(f))).unwrap_or_default();
        format!("/v2/{}/referrers/{digest}?n={count}&last={}{filter}", call.repository, escape(&last))
    });
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": found});
    let mut response = respond(&index, media::OCI_INDEX, next);
    if filter.is_some() {
        response.headers_mut().insert(FILTERS, HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}

fn descriptor(digest: &Digest, record: &Record) -> Descriptor {
    let mut descriptor = Descriptor::new(record.media_type.as_str(), digest.clone(), record.size);
    descriptor.artifact_type.clone_from(&record.artifact_type);
    descriptor.annotations.clone_from(&record.annotations);
    descriptor
}
