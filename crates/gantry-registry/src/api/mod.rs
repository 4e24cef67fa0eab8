//! The interface that clients speak: distribution-spec 1.1, and Docker's catalog and tokens.

mod blobs;
mod body;
mod lists;
mod manifests;
mod refusal;
mod route;
mod uploads;

use std::sync::Arc;
use std::time::Instant;

use http::header::{CONTENT_LENGTH, HeaderName};
use http::{HeaderValue, Method, StatusCode};
use hyper::body::Incoming;

pub(crate) use self::body::{Body, Response};
pub(crate) use self::manifests::describe as describe_manifest;
pub(crate) use self::refusal::{Code, Refusal};
pub(crate) use self::route::{Query, Target};
use self::route::{Route, Work};
use crate::auth::Caller;
use crate::registry::Inner;

pub(crate) type Request = http::Request<Incoming>;
type Answer = Result<Response, Refusal>;

pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// One request, as the operations see it.
pub(crate) struct Call<'a> {
    pub registry: &'a Arc<Inner>,
    pub caller: Caller,
    pub repository: String,
    pub query: Query,
    pub now: i64,
}

/// Answers a request, whatever it is.
pub(crate) async fn answer(registry: Arc<Inner>, mut request: Request) -> Response {
    // HTTP/2 names the host beside the path (RFC 9113, 8.3.1), a proxy's client within it (RFC 9112, 3.2.2). Either
    // counts more than the header.
    if let Some(host) = request.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok()) {
        request.headers_mut().insert(http::header::HOST, host);
    }
    let begun = Instant::now();
    let head = *request.method() == Method::HEAD;
    let routed = route::route(request.method(), request.uri().path());
    let operation = match &routed {
        Ok(Route::In(_, work)) => work.name(),
        Ok(Route::Ping) => "ping",
        Ok(Route::Catalog) => "catalog",
        Ok(Route::Token) => "token",
        Ok(Route::Health) => "health",
        Err(_) => "invalid",
    };
    let answered = match routed {
        Ok(route) => dispatch(&registry, route, request).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = answered.unwrap_or_else(Refusal::into_response);
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    registry.metrics.request(operation, response.status().as_u16(), begun.elapsed());
    if head {
        let (mut parts, body) = response.into_parts();
        let length = hyper::body::Body::size_hint(&body).exact().unwrap_or_default();
        parts.headers.entry(CONTENT_LENGTH).or_insert(length.into());
        return Response::from_parts(parts, Body::empty());
    }
    response.body_mut().counter = Some(registry.metrics.sent.clone());
    response
}

async fn dispatch(registry: &Arc<Inner>, route: Route, request: Request) -> Answer {
    let now = (registry.clock)();
    let query = Query::parse(request.uri().query());
    if route == Route::Health {
        return Ok(health(registry, request.uri().path() == "/readyz"));
    }
    let auth = registry.auth.as_ref();
    if route == Route::Token {
        let auth = auth.ok_or_else(|| {
            Refusal::new(Code::Unsupported, "this registry has no users").with_status(StatusCode::NOT_FOUND)
        })?;
        return auth.token(request.headers(), &query, now).await;
    }
    let caller = match auth {
        Some(auth) => auth.caller(request.headers(), now).await?,
        None => Caller::default(),
    };
    // A list of names is for those who come with a name, or a token; what it holds is what they may read.
    if matches!(route, Route::Ping | Route::Catalog)
        && let Some(auth) = auth
        && caller == Caller::default()
    {
        return Err(auth.challenge(request.headers(), None, "", "credentials are needed for this"));
    }
    let (name, work) = match route {
        Route::In(name, work) => (name, work),
        Route::Catalog => {
            let call = Call { registry, caller, repository: String::new(), query, now };
            return lists::catalog(&call).await;
        }
        _ => {
            let mut response = Response::new(Body::full("{}"));
            response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            return Ok(response);
        }
    };
    let namespace = query.get("ns").map(str::to_owned).filter(|_| matches!(work.action(), crate::config::Action::Pull));
    let (repository, scoped) = registry.upstreams.place(name, namespace.as_deref());
    if let Some(auth) = auth
        && !auth.may(&caller, &repository, work.action())
    {
        return Err(auth.refuse(&caller, request.headers(), &repository, work.action()));
    }
    let call = Call { registry, caller, repository, query, now };
    let mut response = operate(&call, work, request).await?;
    if let Some(value) = namespace.filter(|_| scoped).and_then(|n| HeaderValue::from_str(&n).ok()) {
        response.headers_mut().insert(NAMESPACE, value);
    }
    Ok(response)
}

async fn operate(call: &Call<'_>, work: Work, request: Request) -> Answer {
    if !matches!(work.action(), crate::config::Action::Pull) && call.registry.upstreams.owns(&call.repository) {
        let message = format!("{} is a cache of another registry: push there", call.repository);
        return Err(Refusal::new(Code::Denied, message));
    }
    match work {
        Work::GetManifest(target) => manifests::get(call, target, &request).await,
        Work::PutManifest(target) => manifests::put(call, target, request).await,
        Work::DeleteManifest(target) => manifests::delete(call, target).await,
        Work::GetBlob(digest) => blobs::get(call, &digest, &request).await,
        Work::DeleteBlob(digest) => blobs::delete(call, &digest).await,
        Work::StartUpload => uploads::start(call, request).await,
        Work::UploadStatus(id) => uploads::status(call, &id).await,
        Work::UploadChunk(id) => uploads::chunk(call, &id, request).await,
        Work::FinishUpload(id) => uploads::finish(call, &id, request).await,
        Work::CancelUpload(id) => uploads::cancel(call, &id).await,
        Work::Tags => lists::tags(call).await,
        Work::Referrers(digest) => lists::referrers(call, &digest).await,
    }
}

/// Whether it lives, or whether it may be sent requests.
pub(crate) fn health(registry: &Inner, ready: bool) -> Response {
    let stopping = registry.stopping();
    let mut response = Response::new(Body::full(if ready && stopping { "stopping\n" } else { "ok\n" }));
    if ready && stopping {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// An answer without a body.
fn empty(status: StatusCode, headers: &[(HeaderName, &str)]) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// A time as RFC 3339 says it.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400);
    let (second, shifted) = (seconds.rem_euclid(86_400), days + 719_468);
    // Years of 365.2425 days from the first of March of year 0, in eras of 400 of them.
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let in_year = day - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * in_year + 2) / 153;
    let date = in_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times() {
        let check = |seconds, expect: &str| assert_eq!(rfc3339(seconds), expect);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(1_709_251_199, "2024-02-29T23:59:59Z");
        check(1_709_251_200, "2024-03-01T00:00:00Z");
        check(4_102_444_799, "2099-12-31T23:59:59Z");
    }
}
