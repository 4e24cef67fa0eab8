//! Containers.

use gantry_engine::View;
use gantry_engine::container::Status;
use gantry_engine::request::{RemoveOptions, StopOptions, Update, WaitFor};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::done;
use crate::error::{Failure, Outcome};
use crate::filters::Filters;
use crate::reply::{Reply, json as reply_json, ok, stream};
use crate::request::{Request, Version};
use crate::server::Api;
use crate::time;
use crate::types::container::{Sizes, inspect as document, summary};
use crate::types::create::CreateBody;
use crate::types::host::{RestartPolicy, restart as restart_policy};
use crate::types::limits::Limits;

/// `POST /containers/create`.
pub(crate) async fn create(api: &Api, mut request: Request) -> Outcome<Reply> {
    let bytes = request.bytes().await?;
    if bytes.is_empty() {
        return Err(Failure::invalid("invalid JSON: got EOF while reading request body"));
    }
    let value: Value = serde_json::from_slice(&bytes)?;
    if value.as_object().is_some_and(serde_json::Map::is_empty) {
        return Err(Failure::invalid("config cannot be empty in order to create a container"));
    }
    let body: CreateBody = serde_json::from_slice(&bytes)?;
    let name = Some(request.get("name").to_owned()).filter(|name| !name.is_empty());
    let origin = value.get("HostConfig").cloned().unwrap_or_default();
    let asked = body.request(name, Some(request.get("platform")), &origin)?;
    if asked.image.is_empty() {
        return Err(Failure::invalid("no image specified"));
    }
    let made = api.engine.create(asked).await?;
    Ok(reply_json(StatusCode::CREATED, &json!({"Id": made.id, "Warnings": made.warnings})))
}

/// `GET /containers/ID/json`.
pub(crate) async fn inspect(api: &Api, id: &str, request: &Request) -> Outcome<Reply> {
    let view = api.engine.container(id)?;
    let sizes = if request.flag("size") { sizes(api, &view).await } else { None };
    Ok(ok(&document(&view, &api.engine.options().root.display().to_string(), sizes)))
}

async fn sizes(api: &Api, view: &View) -> Option<Sizes> {
    let size = api.engine.size(&view.record.id).await.ok()?;
    Some(Sizes { written: size.written, all: size.all })
}

/// `GET /containers/json`.
pub(crate) async fn list(api: &Api, request: &Request) -> Outcome<Reply> {
    let filters = request.filters()?;
    filters.only(&[
        "ancestor",
        "before",
        "expose",
        "exited",
        "health",
        "id",
        "is-task",
        "isolation",
        "label",
        "label!",
        "name",
        "network",
        "publish",
        "since",
        "status",
        "volume",
    ])?;
    let limit: Option<i64> = request.number("limit")?;
    let everything = request.flag("all")
        || limit.is_some_and(|limit| limit > 0)
        || !filters.get("status").is_empty()
        || !filters.get("exited").is_empty();
    let now = now(api);
    let pivot = |name: &str| match filters.get(name).first() {
        Some(asked) => api.engine.container(asked).map(|view| Some(view.record.created)),
        None => Ok(None),
    };
    let (before, since) = (pivot("before")?, pivot("since")?);
    let mut documents = Vec::new();
    for view in api.engine.containers() {
        let created = view.record.created;
        let in_time = before.is_none_or(|before| created < before) && since.is_none_or(|since| created > since);
        let shown = everything || view.state.status.is_running() || view.state.status == Status::Restarting;
        if !shown || !in_time || !fits(api, &view, &filters).await? {
            continue;
        }
        let sizes = if request.flag("size") { sizes(api, &view).await } else { None };
        documents.push(summary(&view, now, sizes));
        if limit.is_some_and(|limit| limit > 0 && documents.len() as i64 >= limit) {
            break;
        }
    }
    Ok(ok(&documents))
}

fn now(api: &Api) -> i64 {
    (api.engine.options().clock)()
}

/// Whether a container fits the filters of a list.
async fn fits(api: &Api, view: &View, filters: &Filters) -> Outcome<bool> {
    let (record, state) = (&view.record, &view.state);
    let name = |wanted: &str| {
        let bare = wanted.trim_start_matches('^').trim_end_matches('$').trim_start_matches('/');
        let (front, back) = (wanted.starts_with('^'), wanted.ends_with('$'));
        match (front, back) {
            (true, true) => record.name == bare,
            (true, false) => record.name.starts_with(bare),
            (false, true) => record.name.ends_with(bare),
            (false, false) => record.name.contains(bare),
        }
    };
    for status in filters.get("status") {
        if !["created", "running", "paused", "restarting", "removing", "exited", "dead"].contains(&status.as_str()) {
            return Err(Failure::invalid(format!("invalid filter 'status={status}'")));
        }
    }
    let port = |wanted: &str, has: &dyn Fn(u16, &str) -> bool| {
        let (numbers, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) => (first..=last).any(|number| has(number, protocol)),
            _ => false,
        }
    };
    let published = |number: u16, protocol: &str| {
        let listed = record.network.ports.iter();
        listed.clone().any(|one| one.host_port == number.to_string() && one.port.protocol.as_str() == protocol)
            || state.ports.iter().any(|one| one.host_port == number && one.port.protocol.as_str() == protocol)
    };
    let exposed = |number: u16, protocol: &str| {
        record.config.exposed_ports.iter().any(|one| one.number == number && one.protocol.as_str() == protocol)
    };
    let health = state.health.as_ref().map_or("none", |health| health.status.as_str());
    let network = |wanted: &str| {
        let found = api.engine.network(wanted).map(|view| (view.record.id.clone(), view.record.name().to_owned()));
        found.is_ok_and(|(id, name)| {
            let here = state.endpoints.values().any(|place| place.network_id == id);
            here || record.network.endpoints.iter().any(|asked| asked.network == name)
                || super::network::mode_name(&record.network.mode) == name
        })
    };
    let volume = |wanted: &str| record.mounts.iter().any(|mount| mount.name == wanted || mount.target == wanted);
    let fits = filters.any("id", |wanted| record.id.starts_with(wanted))
        && filters.any("name", name)
        && filters.any("status", |wanted| state.status.as_str() == wanted)
        && filters.any("exited", |wanted| state.status == Status::Exited && wanted.parse() == Ok(state.exit_code))
        && filters.any("health", |wanted| health == wanted)
        && filters.any("publish", |wanted| port(wanted, &published))
        && filters.any("expose", |wanted| port(wanted, &exposed))
        && filters.any("network", network)
        && filters.any("volume", volume)
        && filters.any("is-task", |wanted| wanted == "false")
        && filters.labels(&record.config.labels);
    Ok(fits && is_descendant(api, view, filters.get("ancestor")).await)
}

/// Whether a container's image is one of these, or was built on one.
async fn is_descendant(api: &Api, view: &View, ancestors: &[String]) -> bool {
    if ancestors.is_empty() {
        return true;
    }
    let Some(image) = &view.record.image else { return false };
    for ancestor in ancestors {
        let Ok(found) = api.engine.images().resolve(ancestor, None).await else { continue };
        if *found.id() == image.id || image.chain.is_some() && found.top() == image.chain {
            return true;
        }
        let own = api.engine.images().resolve(&image.id.to_string(), None).await;
        let top = found.top();
        if own.is_ok_and(|own| top.is_some_and(|top| own.chains().contains(&top))) {
            return true;
        }
    }
    false
}

/// `POST /containers/ID/start`.
pub(crate) async fn start(api: &Api, id: &str, request: &Request) -> Outcome<Reply> {
    match request.get("checkpoint") {
        "" => api.engine.start(id).await?,
        name => {
            let dir = Some(request.get("checkpoint-dir")).filter(|dir| !dir.is_empty());
            api.engine.start_from(id, name, dir).await?;
        }
    }
    Ok(done())
}

fn stop_options(request: &Request) -> Outcome<StopOptions> {
    let signal = Some(request.get("signal").to_owned()).filter(|signal| !signal.is_empty());
    Ok(StopOptions { signal, timeout: request.number("t")? })
}

/// `POST /containers/ID/stop`.
pub(crate) async fn stop(api: &Api, id: &str, request: &Request) -> Outcome<Reply> {
    api.engine.stop(id, stop_options(request)?).await?;
    Ok(done())
}

/// `POST /containers/ID/restart`.
pub(crate) async fn restart(api: &Api, id: &str, request: &Request) -> Outcome<Reply> {
    api.engine.restart(id, stop_options(request)?).await?;
    Ok(done())
}

/// `POST /containers/ID/kill`.
pub(crate) async fn kill(api: &Api, id: &str, request: &Request) -> Outcome<Reply> {
    api.engine.kill(id, request.get("signal")).await?;
    Ok(done())
}

/// `POST /containers/ID/pause`.
pub(crate) async fn pause(api: &Api, id: &str) -> Outcome<Reply> {
    api.engine.pause(id).await?;
    Ok(done())
}

/// `POST /containers/ID/unpause`.
pub(crate) async fn unpause(api: &Api, id: &str) -> Outcome<Reply> {
    api.engine.unpause(id).await?;
    Ok(done())
}

/// `POST /containers/ID/rename`.
pub(crate) async fn rename(api: &Api, id: &str, request: &Request) -> Outcome<Reply> {
    let renamed = api.engine.rename(id, request.get("name")).await.map_err(Failure::from);
    renamed.map_err(|failure| match failure.status {
        StatusCode::CONFLICT => {
            Failure { message: format!("Error when allocating new name: {}", failure.message), ..failure }
        }
        _ => failure,
    })?;
    Ok(done())
}

/// The body of an update.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UpdateBody {
    #[serde(rename = "RestartPolicy")]
    restart: Option<RestartPolicy>,
    #[serde(flatten)]
    limits: Limits,
}

/// `POST /containers/ID/update`.
pub(crate) async fn update(api: &Api, id: &str, mut request: Request) -> Outcome<Reply> {
    let bytes = request.bytes().await?;
    let (body, given): (UpdateBody, Value) = (serde_json::from_slice(&bytes)?, serde_json::from_slice(&bytes)?);
    let view = api.engine.container(id)?;
    let mut origin: Value = serde_json::from_str(&view.record.origin).unwrap_or_default();
    if let (Value::Object(given), Some(origin)) = (&given, origin.as_object_mut()) {
        let is_said = |value: &Value| {
            !matches!(value, Value::Null) && *value != json!(0) && *value != json!("") && *value != json!([])
        };
        origin
            .extend(given.iter().filter(|(_, value)| is_said(value)).map(|(key, value)| (key.clone(), value.clone())));
    }
    let restart = body.restart.filter(|policy| !policy.name.is_empty());
    let update = Update {
        resources: body.limits.resources()?,
        restart: restart.as_ref().map(restart_policy).transpose()?,
        origin: Some(origin.to_string()),
    };
    let warnings = api.engine.update(id, update).await?;
    Ok(ok(&json!({"Warnings": if warnings.is_empty() { Value::Null } else { json!(warnings) }})))
}

/// `POST /containers/ID/wait`: the head of the answer goes at once.
pub(crate) fn wait(api: &Api, id: &str, request: &Request) -> Outcome<Reply> {
    let what = match request.get("condition") {
        // Older clients knew one condition, and waited for it.
        _ if request.version < Version(1, 30) => WaitFor::NotRunning,
        "" | "not-running" => WaitFor::NotRunning,
        "next-exit" => WaitFor::NextExit,
        "removed" => WaitFor::Removed,
        other => return Err(Failure::invalid(format!("invalid condition: {other:?}"))),
    };
    let waiting = api.engine.wait(id, what)?;
    let answer = async move {
        let document = match waiting.await {
            Ok(ended) if ended.error.is_empty() => json!({"StatusCode": ended.code}),
            Ok(ended) => json!({"StatusCode": ended.code, "Error": {"Message": ended.error}}),
            Err(error) => json!({"StatusCode": -1, "Error": {"Message": error.to_string()}}),
        };
        Ok(format!("{document}\n").into())
    };
    Ok(stream("application/json", futures_util::stream::once(answer)))
}

/// `DELETE /containers/ID`.
pub(crate) async fn remove(api: &Api, id: &str, request: &Request) -> Outcome<Reply> {
    if request.flag("link") {
        return Err(Failure::invalid("links are names in the hosts file here, and are not removed one by one"));
    }
    let options = RemoveOptions { force: request.flag("force"), volumes: request.flag("v") };
    api.engine.remove(id, options).await?;
    Ok(done())
}

/// `POST /containers/ID/resize`.
pub(crate) async fn resize(api: &Api, id: &str, request: &Request) -> Outcome<Reply> {
    let (rows, columns) = size(request)?;
    api.engine.resize(id, rows, columns).await?;
    Ok(crate::reply::empty(StatusCode::OK))
}

/// The size of a terminal.
pub(crate) fn size(request: &Request) -> Outcome<(u16, u16)> {
    let number = |key: &str| {
        request.number(key)?.ok_or_else(|| Failure::invalid(format!("invalid terminal size: {key} is missing")))
    };
    Ok((number("h")?, number("w")?))
}

/// `POST /containers/prune`.
pub(crate) async fn prune(api: &Api, request: &Request) -> Outcome<Reply> {
    let filters = request.filters()?;
    filters.only(&["label", "label!", "until"])?;
    let until = until(&filters, now(api))?;
    let (mut removed, mut bytes) = (Vec::new(), 0);
    for view in api.engine.containers() {
        let ended = matches!(view.state.status, Status::Created | Status::Exited | Status::Dead);
        let old = until.is_none_or(|until| view.record.created < until);
        if !ended || !old || !filters.labels(&view.record.config.labels) {
            continue;
        }
        let size = api.engine.size(&view.record.id).await.map_or(0, |size| size.written);
        // One that was started or removed meanwhile stays, or is gone.
        if api.engine.remove(&view.record.id, RemoveOptions::default()).await.is_ok() {
            removed.push(view.record.id.clone());
            bytes += size;
        }
    }
    let removed = if removed.is_empty() { Value::Null } else { json!(removed) };
    Ok(ok(&json!({"ContainersDeleted": removed, "SpaceReclaimed": bytes})))
}

/// The moment that `until` names: a time, or a span before now.
pub(crate) fn until(filters: &Filters, now: i64) -> Outcome<Option<i64>> {
    match filters.get("until") {
        [] => Ok(None),
        [text] => {
            let found = span(text).map(|span| now - span).or_else(|| time::parse(text));
            found.map(Some).ok_or_else(|| Failure::invalid(format!("invalid filter 'until={text}'")))
        }
        _ => Err(Failure::invalid("more than one until filter specified")),
    }
}

/// A span such as `1h30m`, in nanoseconds.
fn span(text: &str) -> Option<i64> {
    let (mut rest, mut all) = (text, 0_f64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, more) = rest.split_at(end);
        let unit_end = more.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(more.len());
        let (unit, after) = more.split_at(unit_end);
        let factor = match unit {
            "ns" => 1e0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        all += number.parse::<f64>().ok()? * factor;
        rest = after;
    }
    (!text.is_empty()).then_some(all as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (text, expect) in [
            ("1h30m", Some(5_400_000_000_000)),
            ("10ms", Some(10_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("5", None),
            ("", None),
            ("h", None),
        ] {
            assert_eq!(span(text), expect, "{text}");
        }
    }
}
