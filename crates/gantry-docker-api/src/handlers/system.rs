//! The engine as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_engine::events::{Event, Subject};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use super::image::{Login, uses};
use crate::error::{Failure, Outcome};
use crate::filters::Filters;
use crate::reply::{Reply, full, ok, stream};
use crate::request::{Request, Version, parse, typed};
use crate::server::Api;
use crate::time::{self, rfc3339};
use crate::types::container::summary;

/// `GET /_ping`.
pub(crate) fn ping(_api: &Api) -> Reply {
    let mut reply = Reply::new(full("OK"));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert("Builder-Version", HeaderValue::from_static("2"));
    headers.insert("Swarm", HeaderValue::from_static("inactive"));
    reply
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The architecture as Go calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `GET /version`.
pub(crate) fn version(api: &Api) -> Reply {
    let build = &api.build;
    let (newest, oldest) = (Version::NEWEST.to_string(), Version::OLDEST.to_string());
    let details = json!({
        "ApiVersion": newest, "Arch": architecture(), "BuildTime": build.time, "Experimental": api.experimental.to_string(), "GitCommit": build.commit,
        "GoVersion": "", "KernelVersion": kernel(), "MinAPIVersion": oldest, "Os": "linux",
    });
    let mut document = json!({
        "Platform": {"Name": format!("Gantry {}", build.version)},
        "Components": [{"Name": "Engine", "Version": build.version, "Details": details}],
        "Version": build.version,
        "ApiVersion": newest,
        "MinAPIVersion": oldest,
        "GitCommit": build.commit,
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": kernel(),
        "BuildTime": build.time,
    });
    // Docker says it only where it is so.
    if api.experimental {
        document["Experimental"] = json!(true);
    }
    ok(&document)
}

/// The name and the version of the distribution.
fn distribution() -> (String, String) {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    (value("PRETTY_NAME"), value("VERSION_ID"))
}

/// The cgroup controllers that there are.
struct Controllers {
    /// Whether there is version 2 alone.
    v2: bool,
    names: Vec<String>,
}

fn controllers() -> Controllers {
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    if let Ok(listed) = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers") {
        Controllers { v2: true, names: listed.split_whitespace().map(str::to_owned).collect() }
    } else {
        let listed = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
        Controllers { v2: false, names: listed.lines().filter_map(first).collect() }
    }
}

/// Whether there is version 2 of cgroups alone.
pub(crate) fn is_unified() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// What keeps containers in.
fn security(v2: bool) -> Vec<&'static str> {
    let mut list = Vec::new();
    if std::path::Path::new("/sys/kernel/security/apparmor").exists() {
        list.push("name=apparmor");
    }
    list.push("name=seccomp,profile=builtin");
    if v2 {
        list.push("name=cgroupns");
    }
    list
}

/// Bytes of memory.
fn memory_total() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    total.unwrap_or_default() * 1024
}

/// `GET /info`.
pub(crate) async fn info(api: &Api) -> Outcome<Reply> {
    let engine = &api.engine;
    let (counts, options) = (engine.counts(), engine.options());
    let images = engine.images().list(gantry_images::ListOptions::default()).await?.len();
    let (system, release) = distribution();
    let controllers = controllers();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut document = json!({
        "ID": engine.id(),
        "Containers": counts.all,
        "ContainersRunning": counts.running,
        "ContainersPaused": counts.paused,
        "ContainersStopped": counts.stopped,
        "Images": images,
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", backing(&options.root)], ["Supports d_type", "true"], ["Native Overlay Diff", "true"]],
        "Plugins": {
            "Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null,
            "Log": ["fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"],
        },
        "IPv4Forwarding": true,
        "BridgeNfIptables": is_filtered("iptables"),
        "BridgeNfIp6tables": is_filtered("ip6tables"),
        "Debug": false,
        "NFd": std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        "NGoroutines": std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count),
        "SystemTime": rfc3339((options.clock)()),
        "LoggingDriver": engine.default_log_driver(),
        "CgroupDriver": if options.systemd { "systemd" } else { "cgroupfs" },
        "NEventsListener": 0,
        "KernelVersion": kernel(),
        "OperatingSystem": system,
        "OSVersion": release,
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "AllowNondistributableArtifactsCIDRs": null, "AllowNondistributableArtifactsHostnames": null,
            "InsecureRegistryCIDRs": ["127.0.0.0/8"], "Mirrors": null,
            "IndexConfigs": {"docker.io": {"Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true}},
        },
        "NCPU": cpus,
        "MemTotal": memory_total(),
        "GenericResources": null,
        "DockerRootDir": options.root.display().to_string(),
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Name": rustix::system::uname().nodename().to_string_lossy(),
        "Labels": [],
        "ExperimentalBuild": api.experimental,
        "ServerVersion": api.build.version,
        "Runtimes": {"runc": {"path": options.runtime.display().to_string()}},
        "DefaultRuntime": "runc",
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null},
        "LiveRestoreEnabled": true,
        "ContainerdCommit": commit(""),
        "RuncCommit": commit(&api.build.version),
        "InitCommit": commit(&api.build.version),
        "Isolation": "",
        "InitBinary": "gantry-init",
        "SecurityOptions": security(controllers.v2),
        "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
        "Warnings": null,
    });
    if let Some(object) = document.as_object_mut() {
        object.extend(limits(&controllers));
    }
    Ok(ok(&document))
}

/// What can be limited, by the cgroup controllers that there are.
fn limits(controllers: &Controllers) -> Map<String, Value> {
    let has = |name: &str| controllers.names.iter().any(|one| one == name);
    let facts = [
        ("MemoryLimit", has("memory")),
        ("SwapLimit", has("memory")),
        ("CpuCfsPeriod", has("cpu")),
        ("CpuCfsQuota", has("cpu")),
        ("CPUShares", has("cpu")),
        ("CPUSet", has("cpuset")),
        ("PidsLimit", has("pids")),
        ("KernelMemoryTCP", !controllers.v2),
        ("OomKillDisable", !controllers.v2),
    ];
    let mut all: Map<String, Value> = facts.map(|(name, is)| (name.to_owned(), is.into())).into_iter().collect();
    all.insert("CgroupVersion".to_owned(), if controllers.v2 { "2" } else { "1" }.into());
    all
}

/// A part of the engine, by its version; it is what was expected, since there is one program.
fn commit(version: &str) -> Value {
    json!({"ID": version, "Expected": version})
}

/// Whether what passes through bridges is seen by the host's filters.
fn is_filtered(by: &str) -> bool {
    let path = format!("/proc/sys/net/bridge/bridge-nf-call-{by}");
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

/// The file system that a directory is on.
fn backing(path: &std::path::Path) -> &'static str {
    match rustix::fs::statfs(path).map(|found| found.f_type as u64) {
        Ok(0xef53) => "extfs",
        Ok(0x5846_5342) => "xfs",
        Ok(0x9123_683e) => "btrfs",
        Ok(0x0102_1994) => "tmpfs",
        _ => "<unknown>",
    }
}

/// `GET /events`.
pub(crate) fn events(api: &Api, request: &Request) -> Outcome<Reply> {
    let filters = request.filters()?;
    let time = |key: &str| match request.get(key) {
        "" => Ok(None),
        text => time::parse(text).map(Some).ok_or_else(|| Failure::invalid(format!("invalid value {text:?} of {key}"))),
    };
    let (since, until) = (time("since")?, time("until")?);
    if let (Some(start), Some(end)) = (since, until)
        && start > end
    {
        let (since, until) = (request.get("since"), request.get("until"));
        return Err(Failure::invalid(format!("`since` time ({since}) cannot be after `until` time ({until})")));
    }
    let (kept, listener) = api.engine.events();
    let now = (api.engine.options().clock)();
    // What is over is told only if it was asked for.
    let before: Vec<Arc<Event>> = match since {
        Some(since) => kept
            .into_iter()
            .filter(|event| event.time >= since && until.is_none_or(|until| event.time <= until))
            .collect(),
        None => Vec::new(),
    };
    let ends_in = until.map(|until| std::time::Duration::from_nanos((until - now).max(0) as u64));
    let end = ends_in.map(|span| tokio::time::Instant::now() + span);
    let state = (before.into_iter(), listener, filters);
    let pieces = futures_util::stream::unfold(state, move |(mut before, mut listener, filters)| async move {
        loop {
            let event = if let Some(event) = before.next() {
                event
            } else {
                let next = match end {
                    Some(end) => tokio::time::timeout_at(end, listener.recv()).await.ok()?,
                    None => listener.recv().await,
                };
                match next {
                    Ok(event) => event,
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => continue,
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return None,
                }
            };
            if fits(&event, &filters) {
                let line = format!("{}\n", event_document(&event));
                return Some((Ok(line.into()), (before, listener, filters)));
            }
        }
    });
    Ok(stream("application/json", pieces))
}

fn event_document(event: &Event) -> Value {
    let mut document = json!({
        "Type": event.subject.as_str(),
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local",
        "time": event.time / 1_000_000_000,
        "timeNano": event.time,
    });
    // Old clients look at these.
    if let (Subject::Container | Subject::Image, Some(object)) = (event.subject, document.as_object_mut()) {
        object.insert("status".to_owned(), event.action.clone().into());
        object.insert("id".to_owned(), event.id.clone().into());
        if let Some(image) = event.attributes.get("image") {
            object.insert("from".to_owned(), image.clone().into());
        }
    }
    document
}

/// Whether an event is asked for.
fn fits(event: &Event, filters: &Filters) -> bool {
    let names = |subject: Subject, wanted: &str| {
        event.subject == subject
            && (event.id.starts_with(wanted) || event.attributes.get("name").is_some_and(|name| name == wanted))
    };
    let action = event.action.split(':').next().unwrap_or_default();
    let image = |wanted: &str| {
        let bare = |name: &str| name.split_once(':').map_or_else(|| name.to_owned(), |(bare, _)| bare.to_owned());
        let of = event.attributes.get(if event.subject == Subject::Container { "image" } else { "name" });
        of.is_some_and(|of| of == wanted || bare(of) == wanted) || event.id == wanted
    };
    let labels: BTreeMap<String, String> = event.attributes.clone();
    filters.any("type", |wanted| event.subject.as_str() == wanted)
        && filters.any("event", |wanted| action == wanted || event.action == wanted)
        && filters.any("container", |wanted| names(Subject::Container, wanted))
        && filters.any("network", |wanted| names(Subject::Network, wanted))
        && filters.any("volume", |wanted| names(Subject::Volume, wanted))
        && filters.any("daemon", |_| event.subject == Subject::Daemon)
        && filters.any("image", image)
        && filters.any("scope", |wanted| wanted == "local")
        && filters.labels(&labels)
}

/// `GET /system/df`.
pub(crate) async fn df(api: &Api, request: &Request) -> Outcome<Reply> {
    // Older clients could not choose, and what they say there means nothing.
    let kinds = if request.version < Version(1, 42) { Vec::new() } else { request.all("type") };
    if let Some(kind) = kinds.iter().find(|kind| !["container", "image", "volume", "build-cache"].contains(*kind)) {
        return Err(Failure::invalid(format!("unknown object type: {kind}")));
    }
    let wants = |kind: &str| kinds.is_empty() || kinds.contains(&kind);
    let mut document =
        json!({"LayersSize": 0, "Images": null, "Containers": null, "Volumes": null, "BuildCache": null});
    let Some(object) = document.as_object_mut() else { return Ok(ok(&document)) };
    let mut put = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    if wants("image") {
        let usage = api.engine.images().disk_usage(uses(api)).await?;
        put("LayersSize", usage.layers_size.into());
        put("Images", json!(usage.images));
    }
    if wants("container") {
        let now = (api.engine.options().clock)();
        let mut list = Vec::new();
        for view in api.engine.containers() {
            let size = api.engine.size(&view.record.id).await.ok();
            let sizes = size.map(|size| crate::types::container::Sizes { written: size.written, all: size.all });
            list.push(summary(&view, now, &|name| super::container::network_id(api, name), sizes));
        }
        put("Containers", json!(list));
    }
    if wants("volume") {
        put("Volumes", json!(super::volume::with_usage(api).await));
    }
    if wants("build-cache") {
        put("BuildCache", json!([]));
    }
    Ok(ok(&document))
}

/// `POST /auth`.
pub(crate) async fn auth(api: &Api, mut request: Request) -> Outcome<Reply> {
    let login: Login = typed(parse(&request.bytes().await?)?)?;
    let registry = match login.serveraddress.as_str() {
        "" | "https://index.docker.io/v1/" => "docker.io",
        other => other.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/'),
    };
    let credential = login.credential().ok_or_else(|| Failure::invalid("a user name and a password are needed"))?;
    match api.engine.images().client().login(registry, &credential).await {
        Ok(found) => {
            let token =
                if let gantry_distribution::Credential::Identity { token, .. } = &found { token.as_str() } else { "" };
            Ok(ok(&json!({"IdentityToken": token, "Status": "Login Succeeded"})))
        }
        Err(error @ (gantry_distribution::Error::Unreachable { .. } | gantry_distribution::Error::Timeout { .. })) => {
            Err(Failure::internal(error.to_string()))
        }
        Err(error) => Err(Failure::new(StatusCode::UNAUTHORIZED, error.to_string())),
    }
}

/// What an engine says that is in no swarm.
pub(crate) fn no_swarm() -> Failure {
    let words = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
                 swarm and try again.";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, words)
}
