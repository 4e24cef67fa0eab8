//! Volumes.

use std::collections::BTreeMap;

use gantry_engine::{ANONYMOUS, CreateVolume, Volume};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Failure, Outcome};
use crate::reply::{Reply, json as reply_json, ok};
use crate::request::{Request, Version};
use crate::server::Api;
use crate::time::rfc3339;
use crate::types::nullable;

/// One volume.
fn document(volume: &Volume) -> Value {
    let options = if volume.options.is_empty() { Value::Null } else { json!(volume.options) };
    let labels = if volume.labels.is_empty() { Value::Null } else { json!(volume.labels) };
    json!({
        "CreatedAt": rfc3339(volume.created / 1_000_000_000 * 1_000_000_000),
        "Driver": "local",
        "Labels": labels,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": options,
        "Scope": "local",
    })
}

/// Volumes with what they take and how many use them.
pub(crate) async fn with_usage(api: &Api) -> Vec<Value> {
    let mut list = Vec::new();
    for volume in api.engine.volumes() {
        let size = api.engine.volume_size(&volume.name).await.map_or(-1, |size| size as i64);
        let mut one = document(&volume);
        if let Some(object) = one.as_object_mut() {
            let users = api.engine.users_of_volume(&volume.name).len();
            object.insert("UsageData".to_owned(), json!({"RefCount": users, "Size": size}));
        }
        list.push(one);
    }
    list
}

/// `GET /volumes`.
pub(crate) fn list(api: &Api, request: &Request) -> Outcome<Reply> {
    let filters = request.filters()?;
    filters.only(&["dangling", "driver", "label", "label!", "name"])?;
    let dangling = filters.flag("dangling")?;
    let fits = |volume: &Volume| {
        filters.any("name", |wanted| volume.name.contains(wanted))
            && filters.any("driver", |wanted| wanted == "local")
            && filters.labels(&volume.labels)
            && dangling.is_none_or(|dangling| dangling == api.engine.users_of_volume(&volume.name).is_empty())
    };
    let list: Vec<Value> =
        api.engine.volumes().iter().filter(|volume| fits(volume)).map(|volume| document(volume)).collect();
    Ok(ok(&json!({"Volumes": list, "Warnings": null})))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CreateBody {
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable")]
    driver: String,
    #[serde(deserialize_with = "nullable")]
    driver_opts: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    cluster_volume_spec: Option<Value>,
}

/// `POST /volumes/create`.
pub(crate) async fn create(api: &Api, mut request: Request) -> Outcome<Reply> {
    let body: CreateBody = request.json().await?;
    if body.cluster_volume_spec.is_some() {
        return Err(super::system::no_swarm());
    }
    let asked = CreateVolume {
        name: body.name,
        driver: body.driver,
        labels: body.labels,
        options: body.driver_opts,
        owner: String::new(),
    };
    let volume = api.engine.create_volume(asked).await?;
    Ok(reply_json(StatusCode::CREATED, &document(&volume)))
}

/// `GET /volumes/NAME`.
pub(crate) fn inspect(api: &Api, name: &str) -> Outcome<Reply> {
    Ok(ok(&document(&*api.engine.volume(name)?)))
}

/// `DELETE /volumes/NAME`.
pub(crate) async fn remove(api: &Api, name: &str, request: &Request) -> Outcome<Reply> {
    api.engine.remove_volume(name, request.flag("force")).await?;
    Ok(super::done())
}

/// `POST /volumes/prune`: those that nobody named, or with `all` every one that nobody uses.
pub(crate) async fn prune(api: &Api, request: &Request) -> Outcome<Reply> {
    let filters = request.filters()?;
    filters.only(&["all", "label", "label!"])?;
    // Before 1.42 all were meant.
    let all = filters.flag("all")?.unwrap_or(request.version < Version(1, 42));
    let (mut removed, mut bytes) = (Vec::new(), 0);
    for volume in api.engine.volumes() {
        let meant = all || volume.labels.contains_key(ANONYMOUS);
        if !meant || !filters.labels(&volume.labels) || !api.engine.users_of_volume(&volume.name).is_empty() {
            continue;
        }
        let size = api.engine.volume_size(&volume.name).await.unwrap_or_default();
        // One that came into use meanwhile stays.
        if api.engine.remove_volume(&volume.name, false).await.is_ok() {
            removed.push(volume.name.clone());
            bytes += size;
        }
    }
    let removed = if removed.is_empty() { Value::Null } else { json!(removed) };
    Ok(ok(&json!({"VolumesDeleted": removed, "SpaceReclaimed": bytes})))
}

/// `PUT /volumes/NAME`: only volumes of a cluster can be changed.
pub(crate) fn update() -> Failure {
    let words = "volume update only valid for cluster volumes, but swarm is unavailable";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, words)
}
