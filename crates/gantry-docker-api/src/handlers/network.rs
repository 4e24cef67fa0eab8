//! Networks.

use gantry_engine::NetworkView;
use gantry_engine::request::NetworkMode;
use http::StatusCode;
use serde_json::{Value, json};

use crate::error::{Failure, Outcome, no_name};
use crate::filters::Filters;
use crate::reply::{Reply, empty, json as reply_json, ok};
use crate::request::Request;
use crate::server::Api;
use crate::types::network::{CreateNetworkBody, JoinBody, network};

/// The name of the network that a mode stands for.
pub(crate) fn mode_name(mode: &NetworkMode) -> &str {
    match mode {
        NetworkMode::Bridge => "bridge",
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
        NetworkMode::Container(_) => "",
        NetworkMode::Named(name) => name,
    }
}

/// `GET /networks`.
pub(crate) fn list(api: &Api, request: &Request) -> Outcome<Reply> {
    let filters = request.filters()?;
    filters.only(&["dangling", "driver", "id", "label", "label!", "name", "scope", "type"])?;
    let dangling = filters.flag("dangling").map_err(|_| {
        let words = "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")";
        Failure::invalid(words)
    })?;
    if let Some(kind) = filters.get("type").iter().find(|kind| !["builtin", "custom", ""].contains(&kind.as_str())) {
        return Err(Failure::invalid(format!("invalid filter: 'type'='{kind}'")));
    }
    let mut found = api.engine.networks();
    found.retain(|view| fits(api, view, &filters, dangling));
    found.sort_by(|a, b| a.record.name().cmp(b.record.name()));
    Ok(ok(&found.iter().map(|view| network(view, false)).collect::<Vec<_>>()))
}

/// Whether containers are to be in a network, running or not.
fn is_used(api: &Api, view: &NetworkView) -> bool {
    let name = view.record.name();
    !view.members.is_empty()
        || api.engine.containers().iter().any(|container| {
            let network = &container.record.network;
            mode_name(&network.mode) == name || network.endpoints.iter().any(|asked| asked.network == name)
        })
}

fn fits(api: &Api, view: &NetworkView, filters: &Filters, dangling: Option<bool>) -> bool {
    let record = &view.record;
    let kind = if record.is_predefined() { "builtin" } else { "custom" };
    filters.any("name", |wanted| record.name().contains(wanted))
        && filters.any("id", |wanted| record.id.contains(wanted))
        && filters.any("driver", |wanted| record.request.driver == wanted)
        && filters.any("scope", |wanted| wanted == "local")
        && filters.any("type", |wanted| wanted == kind)
        && filters.labels(&record.request.labels)
        && dangling.is_none_or(|dangling| dangling == (!record.is_predefined() && !is_used(api, view)))
}

/// `GET /networks/NAME`.
pub(crate) fn inspect(api: &Api, name: &str, request: &Request) -> Outcome<Reply> {
    // All networks are of this machine.
    if !matches!(request.get("scope"), "" | "local") {
        return Err(Failure::missing(format!("network {name} not found")));
    }
    Ok(ok(&network(&api.engine.network(name)?, true)))
}

/// `POST /networks/create`.
pub(crate) async fn create(api: &Api, mut request: Request) -> Outcome<Reply> {
    let body: CreateNetworkBody = request.json().await?;
    if body.ingress || matches!(body.scope.as_str(), "swarm" | "global") {
        return Err(Failure::new(StatusCode::NOT_IMPLEMENTED, "networks of a swarm are not part of this engine"));
    }
    let id = api.engine.create_network(body.request()).await?;
    Ok(reply_json(StatusCode::CREATED, &json!({"Id": id, "Warning": ""})))
}

/// `DELETE /networks/NAME`.
pub(crate) async fn remove(api: &Api, name: &str) -> Outcome<Reply> {
    api.engine.remove_network(name).await?;
    Ok(super::done())
}

/// `POST /networks/NAME/connect`.
pub(crate) async fn connect(api: &Api, name: &str, mut request: Request) -> Outcome<Reply> {
    let body: JoinBody = request.json().await?;
    if body.container.is_empty() {
        return Err(no_name());
    }
    api.engine.connect(name, &body.container, body.endpoint_config.request(name)).await?;
    Ok(empty(StatusCode::OK))
}

/// `POST /networks/NAME/disconnect`.
pub(crate) async fn disconnect(api: &Api, name: &str, mut request: Request) -> Outcome<Reply> {
    let body: JoinBody = request.json().await?;
    if body.container.is_empty() {
        return Err(no_name());
    }
    api.engine.disconnect(name, &body.container, body.force).await?;
    Ok(empty(StatusCode::OK))
}

/// `POST /networks/prune`.
pub(crate) async fn prune(api: &Api, request: &Request) -> Outcome<Reply> {
    let filters = request.filters()?;
    filters.only(&["label", "label!", "until"])?;
    let until = super::container::until(&filters, (api.engine.options().clock)())?;
    let mut removed = Vec::new();
    for view in api.engine.networks() {
        let record = &view.record;
        let old = until.is_none_or(|until| record.created < until);
        if record.is_predefined() || !old || is_used(api, &view) || !filters.labels(&record.request.labels) {
            continue;
        }
        // One that came into use meanwhile stays.
        if api.engine.remove_network(&record.id).await.is_ok() {
            removed.push(record.name().to_owned());
        }
    }
    let removed = if removed.is_empty() { Value::Null } else { json!(removed) };
    Ok(ok(&json!({"NetworksDeleted": removed})))
}
