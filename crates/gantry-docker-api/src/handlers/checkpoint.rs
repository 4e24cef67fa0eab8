//! Checkpoints of containers.

use gantry_engine::CreateCheckpoint;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::done;
use crate::error::Outcome;
use crate::reply::{Reply, empty, ok};
use crate::request::Request;
use crate::server::Api;

/// The body of a checkpoint to be made.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Body {
    #[serde(rename = "CheckpointID")]
    name: String,
    checkpoint_dir: String,
    exit: bool,
}

/// A directory that was named.
fn dir(text: &str) -> Option<&str> {
    Some(text).filter(|dir| !dir.is_empty())
}

/// `POST /containers/ID/checkpoints`.
pub(crate) async fn create(api: &Api, id: &str, mut request: Request) -> Outcome<Reply> {
    let body: Body = request.json().await?;
    let dir = dir(&body.checkpoint_dir).map(str::to_owned);
    api.engine.checkpoint(id, CreateCheckpoint { name: body.name, dir, exit: body.exit }).await?;
    Ok(empty(StatusCode::CREATED))
}

/// `GET /containers/ID/checkpoints`.
pub(crate) async fn list(api: &Api, id: &str, request: &Request) -> Outcome<Reply> {
    let names = api.engine.checkpoints(id, dir(request.get("dir"))).await?;
    let documents: Vec<_> = names.iter().map(|name| json!({"Name": name})).collect();
    Ok(ok(&documents))
}

/// `DELETE /containers/ID/checkpoints/NAME`.
pub(crate) async fn remove(api: &Api, id: &str, name: &str, request: &Request) -> Outcome<Reply> {
    api.engine.remove_checkpoint(id, name, dir(request.get("dir"))).await?;
    Ok(done())
}
