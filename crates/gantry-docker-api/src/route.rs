//! From a method and a path to a handler.

use http::{Method, StatusCode};
use serde_json::json;

use crate::error::{Failure, Outcome};
use crate::handlers::{
    checkpoint, container, exec, files, image, logs, network, stream, system, usage, volume, websocket,
};
use crate::reply::{Reply, empty, ok};
use crate::request::Request;
use crate::server::Api;

/// Finds the handler of a request and calls it.
pub(crate) async fn route(api: &Api, request: Request) -> Outcome<Reply> {
    let method = match request.method {
        // A HEAD that is answered as a GET is; others have an answer of their own, or none.
        Method::HEAD if request.path == ["_ping"] => Method::GET,
        Method::OPTIONS => return Ok(empty(StatusCode::OK)),
        ref other => other.clone(),
    };
    let path: Vec<String> = request.path.clone();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let path = path.as_slice();
    match (method.as_str(), path) {
        ("GET", ["_ping"]) => Ok(system::ping(api)),
        ("GET", ["version"]) => Ok(system::version(api)),
        ("GET", ["info"]) => system::info(api).await,
        ("GET", ["events"]) => system::events(api, &request),
        ("GET", ["system", "df"]) => system::df(api, &request).await,
        ("POST", ["auth"]) => system::auth(api, request).await,
        ("POST", ["commit"]) => image::commit(api, request).await,
        (_, ["containers", ..]) => Box::pin(containers(api, &method, path, request)).await,
        (_, ["exec", ..]) => execs(api, &method, path, request).await,
        (_, ["images", ..]) => Box::pin(images(api, &method, path, request)).await,
        (_, ["volumes", ..]) => volumes(api, &method, path, request).await,
        (_, ["networks", ..]) => networks(api, &method, path, request).await,
        ("GET", ["distribution", name @ .., "json"]) => image::distribution(api, &name.join("/"), &request).await,
        ("POST", ["build" | "session"] | ["build", "cancel"]) => {
            Err(unsupported("building images is not part of this engine yet"))
        }
        ("POST", ["build", "prune"]) => Ok(ok(&json!({"CachesDeleted": null, "SpaceReclaimed": 0}))),
        ("POST", ["swarm", "leave"]) => {
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "This node is not part of a swarm"))
        }
        ("POST", ["swarm", "init" | "join"]) => Err(unsupported("clusters are not part of this engine")),
        (_, ["swarm" | "services" | "nodes" | "tasks" | "secrets" | "configs", ..]) => Err(system::no_swarm()),
        ("GET", ["plugins"]) => Ok(ok(&json!([]))),
        ("GET", ["plugins", "privileges"]) | ("POST", ["plugins", "pull" | "create"]) => {
            Err(unsupported("plugins are not part of this engine"))
        }
        (_, ["plugins", name, ..]) => Err(Failure::missing(format!("plugin {name:?} not found"))),
        _ => Err(no_page()),
    }
}

/// What is asked for is no part of the API.
fn no_page() -> Failure {
    Failure::missing("page not found")
}

/// What is asked for is a part of the API that is not here.
fn unsupported(words: &str) -> Failure {
    Failure::new(StatusCode::NOT_IMPLEMENTED, words)
}

async fn containers(api: &Api, method: &Method, path: &[&str], request: Request) -> Outcome<Reply> {
    match (method.as_str(), &path[1..]) {
        ("GET", ["json"]) => container::list(api, &request).await,
        ("POST", ["create"]) => Box::pin(container::create(api, request)).await,
        ("POST", ["prune"]) => container::prune(api, &request).await,
        ("GET", [id, "json"]) => container::inspect(api, id, &request).await,
        ("POST", [id, "start"]) => container::start(api, id, &request).await,
        ("POST", [id, "stop"]) => container::stop(api, id, &request).await,
        ("POST", [id, "restart"]) => container::restart(api, id, &request).await,
        ("POST", [id, "kill"]) => container::kill(api, id, &request).await,
        ("POST", [id, "pause"]) => container::pause(api, id).await,
        ("POST", [id, "unpause"]) => container::unpause(api, id).await,
        ("POST", [id, "rename"]) => container::rename(api, id, &request).await,
        ("POST", [id, "update"]) => container::update(api, id, request).await,
        ("POST", [id, "wait"]) => container::wait(api, id, &request),
        ("DELETE", [id]) => container::remove(api, id, &request).await,
        ("POST", [id, "attach"]) => Ok(stream::attach(api, id, request).await),
        ("GET", [id, "attach", "ws"]) => websocket::attach(api, id, request).await,
        ("POST", [id, "resize"]) => container::resize(api, id, &request).await,
        ("GET" | "HEAD" | "PUT", [id, "archive"]) => files::archive(api, id, request).await,
        ("GET", [id, "export"]) => files::export(api, id),
        ("GET", [id, "changes"]) => files::changes(api, id).await,
        ("GET", [id, "top"]) => usage::top(api, id, &request).await,
        ("GET", [id, "logs"]) => logs::logs(api, id, &request).await,
        ("GET", [id, "stats"]) => usage::stats(api, id, &request).await,
        ("POST", [id, "exec"]) => exec::create(api, id, request).await,
        ("POST", [id, "checkpoints"]) => checkpoint::create(api, id, request).await,
        ("GET", [id, "checkpoints"]) => checkpoint::list(api, id, &request).await,
        ("DELETE", [id, "checkpoints", name]) => checkpoint::remove(api, id, name, &request).await,
        _ => Err(no_page()),
    }
}

async fn execs(api: &Api, method: &Method, path: &[&str], request: Request) -> Outcome<Reply> {
    match (method.as_str(), &path[1..]) {
        ("GET", [id, "json"]) => exec::inspect(api, id),
        ("POST", [id, "start"]) => exec::start(api, id, request).await,
        ("POST", [id, "resize"]) => exec::resize(api, id, &request).await,
        _ => Err(no_page()),
    }
}

async fn images(api: &Api, method: &Method, path: &[&str], request: Request) -> Outcome<Reply> {
    match (method.as_str(), &path[1..]) {
        ("GET", ["json"]) => image::list(api, &request).await,
        ("POST", ["create"]) => image::create(api, request).await,
        ("POST", ["load"]) => image::load(api, request).await,
        ("GET", ["get"]) => {
            let names = request.all("names").into_iter().map(str::to_owned).collect();
            image::save(api, names, &request).await
        }
        ("POST", ["prune"]) => image::prune(api, &request).await,
        ("GET", ["search"]) => Err(image::search(&request)?),
        ("GET", [name @ .., "json"]) => image::inspect(api, &name.join("/"), &request).await,
        ("GET", [name @ .., "history"]) => image::history(api, &name.join("/"), &request).await,
        ("GET", [name @ .., "get"]) => image::save(api, vec![name.join("/")], &request).await,
        ("POST", [name @ .., "tag"]) => image::tag(api, &name.join("/"), &request).await,
        ("POST", [name @ .., "push"]) => image::push(api, &name.join("/"), &request).await,
        ("DELETE", name) => image::remove(api, &name.join("/"), &request).await,
        _ => Err(no_page()),
    }
}

async fn networks(api: &Api, method: &Method, path: &[&str], request: Request) -> Outcome<Reply> {
    match (method.as_str(), &path[1..]) {
        ("GET", []) => network::list(api, &request),
        ("POST", ["create"]) => network::create(api, request).await,
        ("POST", ["prune"]) => network::prune(api, &request).await,
        ("GET", [name]) => network::inspect(api, name, &request),
        ("DELETE", [name]) => network::remove(api, name).await,
        ("POST", [name, "connect"]) => network::connect(api, name, request).await,
        ("POST", [name, "disconnect"]) => network::disconnect(api, name, request).await,
        _ => Err(no_page()),
    }
}

async fn volumes(api: &Api, method: &Method, path: &[&str], request: Request) -> Outcome<Reply> {
    match (method.as_str(), &path[1..]) {
        ("GET", []) => volume::list(api, &request),
        ("POST", ["create"]) => volume::create(api, request).await,
        ("POST", ["prune"]) => volume::prune(api, &request).await,
        ("GET", [name]) => volume::inspect(api, name),
        ("PUT", [_]) => Err(volume::update()),
        ("DELETE", [name]) => volume::remove(api, name, &request).await,
        _ => Err(no_page()),
    }
}
