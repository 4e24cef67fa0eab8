//! The operators' address: metrics, health, and work that is done when asked.
//!
//! ```text
//! GET  /metrics                              counters for Prometheus
//! GET  /healthz, /readyz                     whether it lives, whether it takes requests
//! GET  /gantry/gc, POST /gantry/gc           what a collection would remove; remove it
//! GET  /gantry/retention, POST ...           what the rules would remove; remove it
//! ```

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};

use crate::api::{Body, Code, Refusal, Request, Response, health};
use crate::registry::Inner;

/// Answers an operator.
pub(crate) async fn answer(registry: Arc<Inner>, request: Request) -> Response {
    work(&registry, &request).await.unwrap_or_else(Refusal::into_response)
}

async fn work(registry: &Arc<Inner>, request: &Request) -> Result<Response, Refusal> {
    let (method, path) = (request.method(), request.uri().path());
    let dry_run = *method == Method::GET;
    if !dry_run && *method != Method::POST {
        return Err(Refusal::new(Code::Unsupported, format!("{method} is not possible here")));
    }
    match path {
        "/metrics" if dry_run => {
            let mut response = Response::new(Body::full(registry.metrics.render(registry.uploads.len())));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            Ok(response)
        }
        "/healthz" | "/readyz" if dry_run => Ok(health(registry, path == "/readyz")),
        "/gantry/gc" => json(&registry.collect(dry_run).await?),
        "/gantry/retention" => json(&registry.retain(dry_run).await?),
        _ => {
            let refusal = Refusal::new(Code::Unsupported, format!("there is nothing at {path:.200}"));
            Err(refusal.with_status(http::StatusCode::NOT_FOUND))
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<Response, Refusal> {
    let text = serde_json::to_string(value).map_err(|e| Refusal::new(Code::Unknown, e.to_string()))?;
    let mut response = Response::new(Body::full(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
