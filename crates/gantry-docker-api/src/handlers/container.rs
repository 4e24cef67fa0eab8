//! Containers.

use gantry_engine::View;
use gantry_engine::container::Status;
use gantry_engine::request::{Port, RemoveOptions, StopOptions, Update, WaitFor};
use http::StatusCode;
use hyper::body::Body as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::done;
use crate::error::{Failure, Outcome};
use crate::filters::Filters;
use crate::reply::{Reply, json as reply_json, ok, stream};
use crate::request::{Request, Version, no_number, parse, typed};
use crate::server::Api;
use crate::time;
use crate::types::container::{Place, Sizes, inspect as document, summary};
use crate::types::create::{CreateBody, origin};
use crate::types::host::{RestartPolicy, restart as restart_policy};
use crate::types::limits::Limits;

/// `POST /containers/create`.
pub(crate) async fn create(api: &Api, mut request: Request) -> Outcome<Reply> {
    let bytes = request.document().await?;
    if bytes.is_empty() {
        return Err(Failure::invalid("invalid JSON: got EOF while reading request body"));
    }
    let mut value = parse(&bytes)?;
    if value.is_null() || value.as_object().is_some_and(Map::is_empty) {
        return Err(Failure::invalid("config cannot be empty in order to create a container"));
    }
    let origin = origin(&value);
    let body: CreateBody = typed(value.take())?;
    let name = Some(request.get("name").to_owned()).filter(|name| !name.is_empty());
    for link in body.links() {
        let other = link.split(':').next().unwrap_or_default();
        let found = api.engine.container(other);
        found.map_err(|error| Failure::invalid(format!("could not get container for {other}: {error}")))?;
    }
    let (image, mut warnings) = (body.image().to_owned(), body.warnings());
    let asked = body.request(name, Some(request.get("platform")), &origin)?;
    if asked.image.is_empty() {
        // Without an image, what is missing first is what it would run.
        let runs = asked.config.cmd.iter().chain(&asked.config.entrypoint).any(|words| !words.is_empty());
        return Err(Failure::invalid(if runs { "no image specified" } else { "no command specified" }));
    }
    let made = api.engine.create(asked).await.map_err(|error| match &error {
        gantry_engine::Error::Image(found) if found.is_not_found() => super::image::no_image(&image, error),
        _ => error.into(),
    })?;
    warnings.extend(made.warnings);
    Ok(reply_json(StatusCode::CREATED, &json!({"Id": made.id, "Warnings": warnings})))
}

/// `GET /containers/ID/json`.
pub(crate) async fn inspect(api: &Api, id: &str, request: &Request) -> Outcome<Reply> {
    let view = api.engine.container(id)?;
    let sizes = if request.flag("size") { sizes(api, &view).await } else { None };
    let root = api.engine.options().root.display().to_string();
    let place = Place { root: &root, unified: super::system::is_unified(), network_id: &|name| network_id(api, name) };
    Ok(ok(&document(&view, &place, sizes)))
}

/// The id of a network that a container is going to be in.
pub(crate) fn network_id(api: &Api, name: &str) -> String {
    api.engine.network(name).map(|view| view.record.id.clone()).unwrap_or_default()
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
    valid(&filters)?;
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
        documents.push(summary(&view, now, &|name| network_id(api, name), sizes));
        if limit.is_some_and(|limit| limit > 0 && documents.len() as i64 >= limit) {
            break;
        }
    }
    Ok(ok(&documents))
}

fn now(api: &Api) -> i64 {
    (api.engine.options().clock)()
}

/// Whether a name, with or without its slash, has what is asked for in it: an expression, or else a text.
fn fits_name(name: &str, wanted: &str) -> bool {
    let path = format!("/{name}");
    match regex_lite::Regex::new(wanted) {
        Ok(expression) => expression.is_match(&path) || expression.is_match(name),
        Err(_) => path.contains(wanted),
    }
}

/// The ports of a filter such as `80`, `80/udp` or `80-90/tcp`.
fn ports(wanted: &str) -> Option<(std::ops::RangeInclusive<u16>, &str)> {
    let (numbers, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty()).then_some((range, protocol))
}

/// Refuses filters whose values nothing can fit.
fn valid(filters: &Filters) -> Outcome<()> {
    let is_status =
        |text: &str| ["created", "running", "paused", "restarting", "removing", "exited", "dead"].contains(&text);
    let is_health = |text: &str| ["none", "starting", "healthy", "unhealthy"].contains(&text);
    let check = |name: &str, good: &dyn Fn(&str) -> bool, say: &dyn Fn(&str) -> String| match filters
        .get(name)
        .iter()
        .find(|value| !good(value))
    {
        Some(value) => Err(Failure::invalid(say(value))),
        None => Ok(()),
    };
    check("status", &is_status, &|value| format!("invalid filter 'status={value}'"))?;
    check("health", &is_health, &|value| format!("unrecognized filter value for health: {value}"))?;
    check("exited", &|value| value.parse::<i32>().is_ok(), &|value| {
        format!("invalid filter 'exited={value}': {}", no_number(value).message)
    })?;
    for name in ["publish", "expose"] {
        check(name, &|value| ports(value).is_some(), &|value| format!("invalid filter '{name}={value}': no port"))?;
    }
    filters.flag("is-task").map(drop)
}

/// Whether a container fits the filters of a list.
async fn fits(api: &Api, view: &View, filters: &Filters) -> Outcome<bool> {
    let (record, state) = (&view.record, &view.state);
    let port = |wanted: &str, has: &dyn Fn(u16, &str) -> bool| {
        ports(wanted).is_some_and(|(mut numbers, protocol)| numbers.any(|number| has(number, protocol)))
    };
    // What does not run has no ports.
    let published = |number: u16, protocol: &str| {
        state.ports.iter().any(|one| one.host_port == number && one.port.protocol.as_str() == protocol)
    };
    let exposed = |number: u16, protocol: &str| {
        let is_it = |one: &Port| one.number == number && one.protocol.as_str() == protocol;
        state.status.is_running() && record.config.exposed_ports.iter().any(is_it)
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
        && filters.any("name", |wanted| fits_name(&record.name, wanted))
        && filters.any("status", |wanted| state.status.as_str() == wanted)
        && filters.any("exited", |wanted| state.status == Status::Exited && wanted.parse() == Ok(state.exit_code))
        && filters.any("health", |wanted| health == wanted)
        && filters.any("publish", |wanted| port(wanted, &published))
        && filters.any("expose", |wanted| port(wanted, &exposed))
        && filters.any("network", network)
        && filters.any("volume", volume)
        && filters.any("is-task", |wanted| matches!(wanted, "0" | "false"))
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
    // An empty document is let pass, as some clients send one.
    if request.body.size_hint().lower() > 7 {
        let words =
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24";
        return Err(Failure::invalid(words));
    }
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
    let killed = api.engine.kill(id, request.get("signal")).await.map_err(Failure::from);
    let what = format!("cannot kill container: {id}");
    killed.map_err(|failure| {
        let is_said = failure.message.starts_with(&what);
        if is_said { failure } else { Failure { message: format!("{what}: {}", failure.message), ..failure } }
    })?;
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
    if request.get("name").is_empty() {
        return Err(Failure::invalid("Neither old nor new names may be empty"));
    }
    let renamed = api.engine.rename(id, request.get("name")).await.map_err(Failure::from);
    renamed.map_err(|failure| {
        let is_name = failure.status == StatusCode::CONFLICT || failure.message.starts_with("Invalid container name");
        // A name is told with its slash.
        let message = |text: &str| format!("Error when allocating new name: {}", text.replacen("name (", "name (/", 1));
        if is_name { Failure { message: message(&failure.message), ..failure } } else { failure }
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
    let bytes = request.document().await?;
    let view = api.engine.container(id)?;
    let given = if bytes.is_empty() { Value::Null } else { parse(&bytes)? };
    let body: UpdateBody = typed(given.clone())?;
    let mut origin: Value = serde_json::from_str(&view.record.origin).unwrap_or_default();
    if let (Value::Object(given), Some(host)) = (given, origin["HostConfig"].as_object_mut()) {
        let is_said = |value: &Value| {
            !matches!(value, Value::Null) && *value != json!(0) && *value != json!("") && *value != json!([])
        };
        host.extend(given.into_iter().filter(|(_, value)| is_said(value)));
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
    let view = api.engine.container(id)?;
    if view.record.config.terminal || !view.state.status.is_running() {
        api.engine.resize(id, rows, columns).await?;
    }
    Ok(crate::reply::empty(StatusCode::OK))
}

/// The size of a terminal.
pub(crate) fn size(request: &Request) -> Outcome<(u16, u16)> {
    let number = |key: &str| request.number(key)?.ok_or_else(|| no_number(""));
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
