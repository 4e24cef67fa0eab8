//! The server: doors, connections, requests, what every answer has, and how all of it ends.
//!
//! An end has two steps. First no more connections are taken and what would never end is ended: who follows events or a log
//! gets the end of it. What is being done goes on. In the second step it is cut off, and who waits for it is told so.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_engine::Engine;
use http::{HeaderValue, Method, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::ending;
use crate::error::Failure;
use crate::reply::Reply;
use crate::request::{Request, Version};
use crate::route::route;

/// Clients that are greeted at a time.
const GREETINGS: usize = 128;
/// How long a greeting may take.
const GREETING: Duration = Duration::from_secs(10);
/// Connections of a socket in the file system; whoever reaches it may do everything anyway.
const LOCAL: usize = 16 << 10;
/// How long the first request of a connection is waited for when the end begins: its client is about to send it.
const FIRST: Duration = Duration::from_millis(500);

/// What the program says of itself.
#[derive(Clone, Debug, Default)]
pub struct Build {
    /// Its version.
    pub version: String,
    /// The commit that it was built from.
    pub commit: String,
    /// When it was built, RFC 3339.
    pub time: String,
}

/// What handlers have.
#[derive(Clone)]
pub struct Api {
    /// The engine.
    pub engine: Engine,
    /// What the program says of itself.
    pub build: Arc<Build>,
    /// Whether clients are told that what Docker calls experimental may be asked for: some ask for checkpoints only then.
    pub experimental: bool,
    /// Who is told of each request when the head of its answer is made.
    pub observer: Option<Observer>,
}

/// Who is told of requests.
pub type Observer = Arc<dyn Fn(&Answered<'_>) + Send + Sync>;

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path, without the version.
    pub path: &'a [&'a str],
    /// The status of the answer.
    pub status: StatusCode,
    /// How long it took.
    pub took: Duration,
}

/// How far a server is with its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It serves.
    #[default]
    Serving,
    /// It takes no connections, what never ends is ended, and what is being done is done to its end.
    Draining,
    /// What is being done is cut off.
    Ending,
}

/// A way in: where connections come from, and what is done with each before it is served.
pub trait Door: Send + Sync + 'static {
    /// A connection that was taken.
    type Raw: Send + 'static;
    /// A connection that can be served.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// How many connections are served at a time.
    fn connections(&self) -> usize;

    /// How long a connection may be idle, and a client take over the head of a request; none is for ever.
    fn patience(&self) -> Option<Duration>;

    /// Takes a connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Raw>> + Send;

    /// Finds out who comes. This has a time limit, and nobody else waits for it.
    fn greet(&self, raw: Self::Raw) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Door for UnixListener {
    type Raw = UnixStream;
    type Stream = UnixStream;

    fn connections(&self) -> usize {
        LOCAL
    }

    fn patience(&self) -> Option<Duration> {
        None
    }

    async fn accept(&self) -> io::Result<UnixStream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }

    async fn greet(&self, raw: UnixStream) -> io::Result<UnixStream> {
        Ok(raw)
    }
}

/// Serves the API at a door until the end begins, and then until its connections have ended. Dropped, it cuts them off.
pub async fn serve(door: impl Door, api: Api, phase: watch::Receiver<Phase>) {
    let told = phase.clone();
    serve_by(door, phase, move |request| answer(api.clone(), told.clone(), request)).await;
}

/// Serves something else at a door, in the same way.
pub async fn serve_by<H, F, B>(door: impl Door, phase: watch::Receiver<Phase>, answer: H)
where
    H: Fn(http::Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = http::Response<B>> + Send + 'static,
    B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (door, mut told) = (Arc::new(door), phase.clone());
    let greetings = Arc::new(Semaphore::new(GREETINGS));
    let places = Arc::new(Semaphore::new(door.connections()));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = told.wait_for(|phase| *phase > Phase::Serving) => break,
            accepted = door.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        let raw = match accepted {
            Ok(raw) => raw,
            Err(error) => {
                tracing::warn!("accept a connection: {error}");
                // Too many open files: some will be closed.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(greeting) = Arc::clone(&greetings).acquire_owned().await else { break };
        let (door, places, answer, phase) = (Arc::clone(&door), Arc::clone(&places), answer.clone(), phase.clone());
        connections.spawn(async move {
            let stream = match tokio::time::timeout(GREETING, door.greet(raw)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!("a client was not let in: {error}"),
                Err(_) => return tracing::debug!("a client was not let in: it took too long"),
            };
            drop(greeting);
            let Ok(_place) = places.try_acquire_owned() else {
                return tracing::warn!("a client was sent away: there are too many connections");
            };
            connection(stream, answer, door.patience(), phase).await;
        });
    }
    drop(door);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection.
async fn connection<H, F, B>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answer: H,
    patience: Option<Duration>,
    mut phase: watch::Receiver<Phase>,
) where
    H: Fn(http::Request<Incoming>) -> F,
    F: Future<Output = http::Response<B>>,
    B: hyper::body::Body<Data = bytes::Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (begin, mut begun) = watch::channel(false);
    let service = service_fn(move |request| {
        begin.send_replace(true);
        let answered = answer(request);
        async { Ok::<_, Infallible>(answered.await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.half_close(true).title_case_headers(true);
    if let Some(patience) = patience {
        builder.timer(TokioTimer::new()).header_read_timeout(patience);
    }
    let serving = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(serving);
    let stopped = async {
        drop(phase.wait_for(|phase| *phase > Phase::Serving).await);
        // It fails when the connection has ended.
        let _ = tokio::time::timeout(FIRST, begun.wait_for(|begun| *begun)).await;
    };
    tokio::select! {
        served = &mut serving => return log(served),
        () = stopped => {}
    }
    serving.as_mut().graceful_shutdown();
    log(serving.await);
}

fn log(served: hyper::Result<()>) {
    if let Err(error) = served {
        // Clients go away in the middle of everything.
        tracing::debug!("connection: {error}");
    }
}

/// Where a path with nothing between two slashes is meant to lead.
fn moved(path: &str) -> Option<String> {
    if !path.contains("//") {
        return None;
    }
    let end = if path.ends_with('/') { "/" } else { "" };
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    Some(format!("/{}{end}", parts.join("/")))
}

fn redirect(path: &str) -> Reply {
    let mut reply = crate::reply::empty(StatusCode::MOVED_PERMANENTLY);
    if let Ok(path) = HeaderValue::from_str(path) {
        reply.headers_mut().insert(header::LOCATION, path);
    }
    reply
}

async fn answered(api: &Api, mut phase: watch::Receiver<Phase>, request: http::Request<Incoming>) -> Reply {
    match Request::new(request) {
        Ok(request) => tokio::select! {
            reply = Box::pin(route(api, request)) => reply.unwrap_or_else(Reply::from),
            _ = phase.wait_for(|phase| *phase == Phase::Ending) => cut_off().into(),
        },
        Err(failure) => failure.into(),
    }
}

async fn answer(api: Api, phase: watch::Receiver<Phase>, request: http::Request<Incoming>) -> Reply {
    let (began, method, uri) = (Instant::now(), request.method().clone(), request.uri().clone());
    let mut reply = match moved(uri.path()) {
        Some(there) => redirect(&there),
        None => answered(&api, phase.clone(), request).await,
    };
    let path = ending::parts(uri.path());
    if let Some(observer) = &api.observer {
        let (status, took) = (reply.status(), began.elapsed());
        observer(&Answered { method: &method, path: &path, status, took });
    }
    tracing::debug!(%method, path = uri.path(), status = reply.status().as_u16(), "answered");
    let server = format!("Gantry/{} (linux)", api.build.version);
    let headers = reply.headers_mut();
    headers.insert(
        "Api-Version",
        HeaderValue::from_str(&Version::NEWEST.to_string()).unwrap_or(HeaderValue::from_static("")),
    );
    let experimental = if api.experimental { "true" } else { "false" };
    headers.insert("Docker-Experimental", HeaderValue::from_static(experimental));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    if let Ok(server) = HeaderValue::from_str(&server) {
        headers.insert(header::SERVER, server);
    }
    if method == Method::HEAD {
        *reply.body_mut() = crate::reply::full("");
        return reply;
    }
    let last = ending::last_words(method.as_str(), &path);
    reply.map(|body| ending::ended_by(body, last, phase))
}

/// What whoever waits for something is told when it is cut off.
fn cut_off() -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, ending::WORDS)
}
