//! The server: connections, requests, and what every answer has.

use std::convert::Infallible;
use std::sync::Arc;

use gantry_engine::Engine;
use http::{HeaderValue, Method, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::reply::Reply;
use crate::request::{Request, Version};
use crate::route::route;

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
}

/// Serves a socket until `shutdown` becomes true, and the requests that are being answered then to their end.
pub async fn serve(listener: UnixListener, api: Api, shutdown: watch::Receiver<bool>) {
    let mut stop = shutdown.clone();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, api.clone(), shutdown.clone()))),
            Err(error) => {
                tracing::warn!("accept a connection: {error}");
                // Too many open files: some will be closed.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves one connection.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    api: Api,
    mut shutdown: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| answer(api.clone(), request));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.half_close(true).title_case_headers(true);
    let serving = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(serving);
    let stopped = async { drop(shutdown.wait_for(|stop| *stop).await) };
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

async fn answer(api: Api, request: http::Request<Incoming>) -> Result<Reply, Infallible> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut reply = match Request::new(request) {
        Ok(request) => Box::pin(route(&api, request)).await.unwrap_or_else(Reply::from),
        Err(failure) => failure.into(),
    };
    tracing::debug!("{method} {uri}: {}", reply.status());
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
    }
    Ok(reply)
}
