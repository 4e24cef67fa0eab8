//! A registry inside the test: it does what the specification says, except where it is told to misbehave.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use futures_util::StreamExt as _;
use gantry_model::Digest;
use gantry_model::digest::Algorithm;
use sha2::Digest as _;
use tokio::net::TcpListener;

/// What goes wrong, once.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, with these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// The body of the answer ends after so many bytes.
    Cut(usize),
    /// The body of the answer stops after so many bytes, and nothing more comes.
    Stall(usize),
    /// The answer comes with these headers more, or in place of others.
    Headers(Vec<(&'static str, String)>),
    /// The answer has this body instead, without a length.
    Content(Vec<u8>),
    /// The connection is closed after so many bytes of the request's body, which are kept.
    CutRequest(usize),
    /// The request's body is not read, and no answer comes.
    Deaf,
    /// The request is done, but the connection is closed without an answer.
    NoAnswer,
}

/// A request, as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub headers: HeaderMap,
}

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    Open,
    /// `Authorization` has this value.
    Basic(String),
    /// A token of the token server that is named by this header.
    Token(String),
}

#[derive(Default)]
pub struct Inner {
    blobs: HashMap<(String, String), Bytes>,
    manifests: HashMap<(String, String), (String, Bytes)>,
    uploads: HashMap<String, Vec<u8>>,
    faults: Vec<(String, Fault)>,
    seen: Vec<Seen>,
}

pub struct Fake {
    pub address: String,
    pub inner: Mutex<Inner>,
    pub guard: Mutex<Guard>,
    /// Whether it knows ranges, mounts, and referrers.
    pub ranges: bool,
    pub referrers: bool,
    pub min_chunk: Option<u64>,
    pub page: usize,
    /// How the token server answers: see `token`.
    pub post_only: bool,
    pub next: AtomicUsize,
}

pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Algorithm::Sha256, &sha2::Sha256::digest(bytes)).unwrap()
}

/// Bytes that are not all the same, by a simple generator.
pub fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

impl Fake {
    pub fn new() -> Self {
        Self {
            address: String::new(),
            inner: Mutex::default(),
            guard: Mutex::new(Guard::Open),
            ranges: true,
            referrers: true,
            min_chunk: None,
            page: 1000,
            post_only: false,
            next: AtomicUsize::new(1),
        }
    }

    pub async fn start(mut self) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.address = listener.local_addr().unwrap().to_string();
        let this = Arc::new(self);
        let router = this.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        this
    }

    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(handle).with_state(self.clone())
    }

    /// The next request whose line begins so meets this fault.
    pub fn fault(&self, line: &str, fault: Fault) {
        self.inner.lock().unwrap().faults.push((line.to_owned(), fault));
    }

    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = sha256(bytes);
        let key = (repository.to_owned(), digest.to_string());
        self.inner.lock().unwrap().blobs.insert(key, Bytes::copy_from_slice(bytes));
        digest
    }

    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        self.inner.lock().unwrap().blobs.get(&(repository.to_owned(), digest.to_string())).cloned()
    }

    pub fn put_manifest(&self, repository: &str, tag: &str, kind: &str, bytes: &[u8]) -> Digest {
        let digest = sha256(bytes);
        let mut inner = self.inner.lock().unwrap();
        for name in [tag.to_owned(), digest.to_string()] {
            inner.manifests.insert((repository.to_owned(), name), (kind.to_owned(), Bytes::copy_from_slice(bytes)));
        }
        digest
    }

    pub fn manifest(&self, repository: &str, name: &str) -> Option<Bytes> {
        self.inner.lock().unwrap().manifests.get(&(repository.into(), name.into())).map(|(_, bytes)| bytes.clone())
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.inner.lock().unwrap().seen.clone()
    }

    /// The lines of the requests that begin so.
    pub fn lines(&self, start: &str) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).filter(|line| line.starts_with(start)).collect()
    }

    pub fn uploads(&self) -> usize {
        self.inner.lock().unwrap().uploads.len()
    }

    fn take_fault(&self, line: &str) -> Option<Fault> {
        let mut inner = self.inner.lock().unwrap();
        let at = inner.faults.iter().position(|(start, _)| line.starts_with(start.as_str()))?;
        Some(inner.faults.remove(at).1)
    }
}

async fn handle(State(fake): State<Arc<Fake>>, request: Request) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().clone();
    fake.inner.lock().unwrap().seen.push(Seen { line: line.clone(), headers: headers.clone() });
    let path = request.uri().path().to_owned();
    if path.starts_with("/token") {
        return token(&fake, request).await;
    }
    if let Some(refused) = guarded(&fake, &headers, &line) {
        return refused;
    }
    let fault = fake.take_fault(&line);
    if let Some(Fault::Status(status, headers)) = &fault {
        return answer(*status, headers, r#"{"errors":[{"code":"X","message":"as told"}]}"#);
    }
    if let Some(Fault::Deaf) = fault {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let query = query(request.uri().query().unwrap_or_default());
    let method = request.method().clone();
    let limit = match fault {
        Some(Fault::CutRequest(limit)) => limit,
        _ => usize::MAX,
    };
    let mut body = vec![];
    let mut stream = request.into_body().into_data_stream();
    while let Some(Ok(piece)) = stream.next().await {
        body.extend_from_slice(&piece);
        if body.len() >= limit {
            body.truncate(limit);
            break;
        }
    }
    let mut response = route(&fake, &method, &path, &query, &headers, &body, limit != usize::MAX);
    match fault {
        // Ends the task of the connection, and the connection with it, without a word.
        Some(Fault::CutRequest(_) | Fault::NoAnswer) => std::panic::resume_unwind(Box::new(())),
        Some(Fault::Headers(more)) => {
            for (name, value) in more {
                if name == "content-length" {
                    // Of a body whose length is known the server would not say another.
                    response = broken(response, usize::MAX, false).await;
                }
                response.headers_mut().insert(name, value.parse().unwrap());
            }
        }
        Some(Fault::Content(bytes)) => {
            response.headers_mut().remove("content-length");
            *response.body_mut() = Body::from_stream(futures_util::stream::iter([std::io::Result::Ok(bytes)]));
        }
        Some(Fault::Cut(after)) => return broken(response, after, false).await,
        Some(Fault::Stall(after)) => return broken(response, after, true).await,
        _ => {}
    }
    response
}

/// The same answer, whose body ends early.
async fn broken(response: Response, after: usize, stall: bool) -> Response {
    let (parts, body) = response.into_parts();
    let whole = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let first = whole.slice(..after.min(whole.len()));
    let start = futures_util::stream::iter([std::io::Result::Ok(first)]);
    let end = futures_util::stream::once(async move {
        // What was given before is to be on its way.
        tokio::time::sleep(Duration::from_millis(if stall { 60_000 } else { 30 })).await;
        Err(std::io::Error::other("cut"))
    });
    let mut response = Response::from_parts(parts, Body::from_stream(start.chain(end)));
    response.headers_mut().insert("content-length", whole.len().into());
    response
}

fn guarded(fake: &Fake, headers: &HeaderMap, line: &str) -> Option<Response> {
    let sent = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let challenge = match &*fake.guard.lock().unwrap() {
        Guard::Open => return None,
        Guard::Basic(expect) if sent.as_deref() == Some(expect) => return None,
        Guard::Basic(_) => "Basic realm=\"fake\"".to_owned(),
        Guard::Token(realm) => {
            let repository = line.split('?').next().unwrap().split("/v2/").nth(1).unwrap_or_default();
            let end = ["/manifests/", "/blobs/", "/tags/", "/referrers/"].iter().find_map(|part| repository.find(part));
            let action = if line.starts_with("GET") || line.starts_with("HEAD") { "pull" } else { "pull,push" };
            let scope = end.map(|end| format!("repository:{}:{action}", &repository[..end]));
            let good = |token: &str| {
                let granted: Vec<_> = token.split('|').collect();
                scope.as_deref().is_none_or(|scope| {
                    granted.iter().any(|one| *one == scope || one.strip_suffix(",push") == Some(scope))
                })
            };
            if sent.as_deref().and_then(|sent| sent.strip_prefix("Bearer granted|")).is_some_and(good) {
                return None;
            }
            let scope = scope.map(|scope| format!(",scope=\"{scope}\"")).unwrap_or_default();
            format!("Bearer realm=\"{realm}\",service=\"fake\"{scope}")
        }
    };
    Some(answer(401, &[("www-authenticate", challenge)], r#"{"errors":[{"code":"UNAUTHORIZED","message":"who"}]}"#))
}

/// The token server: me and secret, or the refresh token `refresh`. The token names what it grants.
async fn token(fake: &Fake, request: Request) -> Response {
    let authorization = request.headers().get("authorization").cloned();
    let post = request.method() == Method::POST;
    if fake.post_only && !post {
        return answer(405, &[], "");
    }
    let mut query = query(request.uri().query().unwrap_or_default());
    if post {
        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
        query = self::query(std::str::from_utf8(&body).unwrap());
    }
    let get = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let good = match get("grant_type") {
        Some("refresh_token") => get("refresh_token") == Some("refresh"),
        Some("password") => get("username") == Some("me") && get("password") == Some("secret"),
        _ => authorization.is_none_or(|value| value == "Basic bWU6c2VjcmV0"),
    };
    if !good || get("service") != Some("fake") {
        return answer(401, &[], r#"{"details":"incorrect username or password"}"#);
    }
    let scopes = query.iter().filter(|(key, _)| key == "scope").flat_map(|(_, value)| value.split(' '));
    let granted: Vec<_> = scopes.collect();
    let refresh = if get("offline_token").is_some() { r#","refresh_token":"refresh""# } else { "" };
    let body = format!(r#"{{"token":"granted|{}","expires_in":300{refresh}}}"#, granted.join("|"));
    answer(200, &[], &body)
}

fn query(text: &str) -> Vec<(String, String)> {
    let url = reqwest::Url::parse(&format!("http://x/?{text}")).unwrap();
    url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
}

fn answer(status: u16, headers: &[(&'static str, String)], body: &str) -> Response {
    let mut response = Response::new(Body::from(body.to_owned()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    response
}

fn route(
    fake: &Fake,
    method: &Method,
    path: &str,
    query: &[(String, String)],
    headers: &HeaderMap,
    body: &[u8],
    cut: bool,
) -> Response {
    let missing = || answer(404, &[], r#"{"errors":[{"code":"UNKNOWN","message":"no such thing"}]}"#);
    let get = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let Some(rest) = path.split_once("/v2/").map(|(_, rest)| rest) else { return missing() };
    if rest.is_empty() {
        return answer(200, &[], "{}");
    }
    if rest == "_catalog" {
        return page(fake, path, &["a".into(), "b/c".into(), "bad\u{7}name".into()], "repositories", get("last"));
    }
    let find = |part: &str| rest.split_once(part).map(|(name, last)| (name.to_owned(), last.to_owned()));
    if let Some((name, id)) = find("/blobs/uploads/") {
        return upload(fake, method, &name, &id, query, headers, body, cut);
    }
    if let Some((name, digest)) = find("/blobs/") {
        return blob(fake, method, &name, &digest, headers);
    }
    if let Some((name, target)) = find("/manifests/") {
        return manifest(fake, method, &name, &target, headers, body);
    }
    if let Some((name, _)) = find("/tags/") {
        let inner = fake.inner.lock().unwrap();
        let mut tags: Vec<_> = inner.manifests.keys().filter(|(repository, _)| *repository == name).collect();
        tags.retain(|(_, tag)| !tag.contains(':'));
        tags.sort();
        let tags: Vec<_> = tags.into_iter().map(|(_, tag)| tag.clone()).collect();
        return page(fake, path, &tags, "tags", get("last"));
    }
    match find("/referrers/").filter(|_| fake.referrers) {
        Some((name, digest)) => referrers(fake, &name, &digest),
        None => missing(),
    }
}

fn page(fake: &Fake, path: &str, all: &[String], field: &str, last: Option<String>) -> Response {
    let from = last.map_or(0, |last| all.iter().position(|one| *one == last).map_or(0, |at| at + 1));
    let part: Vec<_> = all[from..].iter().take(fake.page).collect();
    let body = serde_json::json!({ "name": "x", field: part }).to_string();
    let more = from + part.len() < all.len();
    let link = part.last().filter(|_| more).map(|last| ("link", format!("<{path}?last={last}>; rel=\"next\"")));
    answer(200, &link.into_iter().collect::<Vec<_>>(), &body)
}

fn blob(fake: &Fake, method: &Method, name: &str, digest: &str, headers: &HeaderMap) -> Response {
    let mut inner = fake.inner.lock().unwrap();
    let key = (name.to_owned(), digest.to_owned());
    let Some(bytes) = inner.blobs.get(&key).cloned() else { return answer(404, &[], "") };
    if method == Method::DELETE {
        inner.blobs.remove(&key);
        return answer(202, &[], "");
    }
    let range = headers.get("range").filter(|_| fake.ranges).map(|value| value.to_str().unwrap().to_owned());
    let mut told = vec![("docker-content-digest", digest.to_owned())];
    let (status, part) = match range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()) {
        Some(from) => {
            told.push(("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())));
            (206, bytes.slice(from..))
        }
        None => (200, bytes),
    };
    let mut response = answer(status, &told, "");
    response.headers_mut().insert("content-length", part.len().into());
    *response.body_mut() = if method == Method::HEAD { Body::empty() } else { Body::from(part) };
    response
}

fn manifest(fake: &Fake, method: &Method, name: &str, target: &str, headers: &HeaderMap, body: &[u8]) -> Response {
    if method == Method::PUT {
        let kind = headers["content-type"].to_str().unwrap();
        let digest = fake.put_manifest(name, target, kind, body);
        let mut told = vec![("docker-content-digest", digest.to_string())];
        let subject = serde_json::from_slice::<serde_json::Value>(body)
            .ok()
            .and_then(|v| Some(v.get("subject")?.get("digest")?.as_str()?.to_owned()));
        told.extend(subject.filter(|_| fake.referrers).map(|digest| ("oci-subject", digest)));
        return answer(201, &told, "");
    }
    let mut inner = fake.inner.lock().unwrap();
    let key = (name.to_owned(), target.to_owned());
    let Some((kind, bytes)) = inner.manifests.get(&key).cloned() else {
        return answer(404, &[], r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#);
    };
    if method == Method::DELETE {
        inner.manifests.remove(&key);
        return answer(202, &[], "");
    }
    let told = [("docker-content-digest", sha256(&bytes).to_string()), ("content-type", kind)];
    let mut response = answer(200, &told, "");
    response.headers_mut().insert("content-length", bytes.len().into());
    *response.body_mut() = if method == Method::HEAD { Body::empty() } else { Body::from(bytes) };
    response
}

fn referrers(fake: &Fake, name: &str, digest: &str) -> Response {
    let inner = fake.inner.lock().unwrap();
    let mut found = BTreeMap::new();
    for ((repository, _), (kind, bytes)) in &inner.manifests {
        let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
        if repository == name && value["subject"]["digest"] == digest {
            let own = sha256(bytes).to_string();
            let entry = serde_json::json!({"mediaType": kind, "digest": own, "size": bytes.len(), "artifactType": value["artifactType"]});
            found.insert(own.clone(), entry);
        }
    }
    let body = serde_json::json!({"schemaVersion": 2, "manifests": found.values().collect::<Vec<_>>()});
    answer(200, &[("content-type", "application/vnd.oci.image.index.v1+json".into())], &body.to_string())
}

#[allow(clippy::too_many_arguments, reason = "the parts of a request")]
fn upload(
    fake: &Fake,
    method: &Method,
    name: &str,
    id: &str,
    query: &[(String, String)],
    headers: &HeaderMap,
    body: &[u8],
    cut: bool,
) -> Response {
    let get = |wanted: &str| query.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.clone());
    let mut inner = fake.inner.lock().unwrap();
    if method == Method::POST {
        if let (Some(digest), Some(from)) = (get("mount"), get("from"))
            && let Some(bytes) = inner.blobs.get(&(from, digest.clone())).cloned()
        {
            inner.blobs.insert((name.to_owned(), digest), bytes);
            return answer(201, &[], "");
        }
        let id = format!("u{}", fake.next.fetch_add(1, Ordering::Relaxed));
        inner.uploads.insert(id.clone(), vec![]);
        // Relative, and with a query that must be kept.
        let mut told = vec![("location", format!("./{id}?state=x"))];
        told.extend(fake.min_chunk.map(|least| ("oci-chunk-min-length", least.to_string())));
        return answer(202, &told, "");
    }
    if get("state").as_deref() != Some("x") {
        return answer(400, &[], "the state was lost");
    }
    let Some(upload) = inner.uploads.get_mut(id) else { return answer(404, &[], "") };
    let place = format!("/v2/{name}/blobs/uploads/{id}?state=x");
    let told = |length: usize| [("location", place.clone()), ("range", format!("0-{}", length.saturating_sub(1)))];
    if *method == Method::GET {
        return answer(204, &told(upload.len()), "");
    }
    if *method == Method::DELETE {
        inner.uploads.remove(id);
        return answer(204, &[], "");
    }
    if let Some(range) = headers.get("content-range") {
        let first: usize = range.to_str().unwrap().split('-').next().unwrap().parse().unwrap();
        if first != upload.len() {
            return answer(416, &told(upload.len()), "");
        }
    }
    upload.extend_from_slice(body);
    if *method == Method::PATCH || cut {
        return answer(202, &told(upload.len()), "");
    }
    let digest = get("digest").unwrap();
    let whole = inner.uploads.remove(id).unwrap();
    if sha256(&whole).to_string() != digest {
        return answer(400, &[], r#"{"errors":[{"code":"DIGEST_INVALID","message":"another digest"}]}"#);
    }
    inner.blobs.insert((name.to_owned(), digest.clone()), whole.into());
    answer(201, &[("docker-content-digest", digest)], "")
}
