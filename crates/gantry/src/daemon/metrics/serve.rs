//! The door that numbers are read at, apart from the API: who may read them may do nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_docker_api::{Door, Phase, serve_by};
use gantry_engine::Engine;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use super::{Counters, render};
use crate::daemon::sockets::Bound;

/// How long who asks when it ends may take.
const GRACE: Duration = Duration::from_secs(2);

/// Where numbers come from.
pub struct Source {
    pub counters: Arc<Counters>,
    pub engine: Engine,
    /// One look at a time: it costs something for each container.
    turn: Mutex<()>,
}

impl Source {
    pub fn new(counters: Arc<Counters>, engine: Engine) -> Arc<Self> {
        Arc::new(Self { counters, engine, turn: Mutex::default() })
    }
}

/// A door that is served. It ends with this.
pub struct Outlet {
    /// The socket, to be handed on. It is there until this is closed.
    bound: Option<Bound>,
    phase: watch::Sender<Phase>,
    task: JoinHandle<()>,
}

impl Outlet {
    /// Serves numbers at a door of a socket.
    pub fn open(bound: Bound, door: impl Door, source: Arc<Source>) -> Self {
        let (phase, told) = watch::channel(Phase::Serving);
        let task = tokio::spawn(serve_by(door, told, move |request| answer(Arc::clone(&source), request)));
        Self { bound: Some(bound), phase, task }
    }

    /// Where it is.
    pub fn place(&self) -> String {
        self.bound.as_ref().map(|bound| bound.listener.place()).unwrap_or_default()
    }

    /// Ends it, but for the socket, when who asks now is answered.
    pub async fn close(mut self) -> Option<Bound> {
        self.phase.send_replace(Phase::Draining);
        // What takes longer is cut off.
        let _ = tokio::time::timeout(GRACE, &mut self.task).await;
        self.bound.take()
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(source: Arc<Source>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let _turn = source.turn.lock().await;
            (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", render(&source.counters, &source.engine).await)
        }
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, "text/plain", "numbers are at /metrics\n".to_owned())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "numbers can only be read\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
