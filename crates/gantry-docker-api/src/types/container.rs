//! Containers as clients see them. Pure.

use std::collections::BTreeMap;

use gantry_engine::View;
use gantry_engine::container::{Endpoint, Mount, Status};
use gantry_engine::request::{EndpointRequest, MountKind, NetworkMode, Port, Restart, Sharing};
use serde_json::{Map, Value, json};

use super::{host, over};
use crate::time::rfc3339;

/// What a container takes on disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Bytes that were written.
    pub(crate) written: u64,
    /// Bytes with those of the image.
    pub(crate) all: u64,
}

/// What is known around a container.
pub(crate) struct Place<'a> {
    /// Where the engine keeps what is kept.
    pub(crate) root: &'a str,
    /// Whether there is version 2 of cgroups alone.
    pub(crate) unified: bool,
    /// The ids of networks by their names; empty if there is no such.
    pub(crate) network_id: &'a dyn Fn(&str) -> String,
}

/// One container in full.
pub(crate) fn inspect(view: &View, place: &Place<'_>, sizes: Option<Sizes>) -> Value {
    let (record, state) = (&view.record, &view.state);
    let origin: Value = serde_json::from_str(&record.origin).unwrap_or_default();
    let dir = format!("{}/containers/{}", place.root, record.id);
    let words: Vec<&String> =
        record.config.entrypoint.iter().flatten().chain(record.config.cmd.iter().flatten()).collect();
    let file = |name: &str| {
        if matches!(record.network.mode, NetworkMode::Container(_)) || state.started == 0 {
            String::new()
        } else {
            format!("{dir}/{name}")
        }
    };
    let mut document = json!({
        "Id": record.id,
        "Created": rfc3339(record.created),
        "Path": words.first().map_or("", |word| word.as_str()),
        "Args": words.get(1..).unwrap_or_default(),
        "State": state_of(view),
        "Image": record.image.as_ref().map(|image| image.id.to_string()).unwrap_or_default(),
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": if state.started == 0 { "" } else { &view.log_path },
        "Name": record.name_path(),
        "RestartCount": state.restarts,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": if view.execs.is_empty() || !state.status.is_running() { Value::Null } else { json!(view.execs) },
        "HostConfig": host_config(view, &origin, place.unified),
        "GraphDriver": {"Data": null, "Name": "overlay2"},
        "Mounts": mounts(view, &origin),
        "Config": config(view, &origin),
        "NetworkSettings": network_settings(view, place.network_id),
    });
    if let (Some(sizes), Some(object)) = (sizes, document.as_object_mut()) {
        object.insert("SizeRw".to_owned(), sizes.written.into());
        object.insert("SizeRootFs".to_owned(), sizes.all.into());
    }
    document
}

fn state_of(view: &View) -> Value {
    let state = &view.state;
    let mut document = json!({
        "Status": state.status.as_str(),
        "Running": state.status.is_running() || state.status == Status::Restarting,
        "Paused": state.status == Status::Paused,
        "Restarting": state.status == Status::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": state.status == Status::Dead,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": rfc3339(state.started),
        "FinishedAt": rfc3339(state.finished),
    });
    if let (Some(health), Some(object)) = (&state.health, document.as_object_mut()) {
        let log = health.log.iter().map(|result| {
            json!({
                "Start": rfc3339(result.start), "End": rfc3339(result.end), "ExitCode": result.exit_code, "Output": result.output,
            })
        });
        let log: Vec<Value> = log.collect();
        let health = json!({"Status": health.status, "FailingStreak": health.failing_streak, "Log": log});
        object.insert("Health".to_owned(), health);
    }
    document
}

/// `HostConfig` as it was given, with what is so if nothing is said.
fn host_config(view: &View, origin: &Value, unified: bool) -> Value {
    let given = &origin["HostConfig"];
    let mut document = over(host::defaults(), given);
    let record = &view.record;
    let Some(object) = document.as_object_mut() else { return document };
    for name in host::OPTIONAL {
        if let Some(value) = given.get(name).filter(|value| !value.is_null()) {
            object.insert(name.to_owned(), value.clone());
        }
    }
    let (name, most) = match record.host.restart {
        Restart::No => ("no", 0),
        Restart::Always => ("always", 0),
        Restart::UnlessStopped => ("unless-stopped", 0),
        Restart::OnFailure(most) => ("on-failure", most),
    };
    object.insert("RestartPolicy".to_owned(), json!({"Name": name, "MaximumRetryCount": most}));
    let default = |key: &str, value: &str, object: &mut Map<String, Value>| {
        if object.get(key).and_then(Value::as_str).is_none_or(str::is_empty) {
            object.insert(key.to_owned(), value.into());
        }
    };
    default("NetworkMode", "bridge", object);
    if object.get("NetworkMode").and_then(Value::as_str) == Some("default") {
        object.insert("NetworkMode".to_owned(), "bridge".into());
    }
    default("IpcMode", "private", object);
    let cgroup = match record.host.cgroup_namespace {
        Some(Sharing::Host) => "host",
        None if !unified => "host",
        _ => "private",
    };
    default("CgroupnsMode", cgroup, object);
    default("Runtime", "runc", object);
    if object.get("ShmSize").and_then(Value::as_u64) == Some(0) {
        object.insert("ShmSize".to_owned(), (64_u64 << 20).into());
    }
    // What clients say where they mean nothing.
    for (key, nothing) in [("MemorySwappiness", -1), ("PidsLimit", 0)] {
        if object.get(key).and_then(Value::as_i64) == Some(nothing) {
            object.insert(key.to_owned(), Value::Null);
        }
    }
    if let Some(bindings) = given.get("PortBindings").filter(|bindings| bindings.is_object()) {
        object.insert("PortBindings".to_owned(), port_bindings(bindings));
    }
    let memory = object.get("Memory").and_then(Value::as_i64).unwrap_or_default();
    if memory > 0 && object.get("MemorySwap") == Some(&json!(0)) {
        object.insert("MemorySwap".to_owned(), (memory * 2).into());
    }
    object.insert("LogConfig".to_owned(), log_config(view, given));
    if record.host.privileged {
        object.insert("MaskedPaths".to_owned(), Value::Null);
        object.insert("ReadonlyPaths".to_owned(), Value::Null);
    }
    document
}

/// The driver of logs. Clients (docker-py) decide by its name whether there is something to read, and know of our own
/// default no more than that of Docker: where nobody asked for a driver, it is told by the name of Docker's.
fn log_config(view: &View, given: &Value) -> Value {
    let log = &view.record.host.log;
    let asked = given.pointer("/LogConfig/Type").and_then(Value::as_str).is_some_and(|kind| !kind.is_empty());
    let kind = if log.driver == "local" && !asked { "json-file" } else { &log.driver };
    json!({"Type": kind, "Config": log.options})
}

/// What is mounted, but for what `Tmpfs` of `HostConfig` tells already.
fn mounts(view: &View, origin: &Value) -> Vec<Value> {
    let told = |mount: &Mount| {
        mount.kind == MountKind::Tmpfs
            && origin["HostConfig"].get("Tmpfs").is_some_and(|all| all.get(&mount.target).is_some())
    };
    view.record.mounts.iter().filter(|mount| !told(mount)).map(mount_point).collect()
}

/// Bindings with both of their fields.
fn port_bindings(given: &Value) -> Value {
    let text = |binding: &Value, key: &str| binding.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let whole = |binding: &Value| json!({"HostIp": text(binding, "HostIp"), "HostPort": text(binding, "HostPort")});
    let ports = given.as_object().into_iter().flatten().map(|(port, bindings)| {
        let bindings = bindings.as_array().map(|list| list.iter().map(whole).collect::<Vec<_>>());
        (port.clone(), json!(bindings))
    });
    ports.collect::<Map<_, _>>().into()
}

fn config(view: &View, origin: &Value) -> Value {
    let config = &view.record.config;
    let empty = |_: &Port| json!({});
    let is_attached = |place: usize| origin["Attach"][place] == json!(true);
    let mut document = json!({
        "Hostname": config.hostname,
        "Domainname": config.domainname,
        "User": config.user,
        "AttachStdin": is_attached(0),
        "AttachStdout": is_attached(1),
        "AttachStderr": is_attached(2),
        "Tty": config.terminal,
        "OpenStdin": config.stdin_open,
        "StdinOnce": config.stdin_once,
        "Env": if config.env.is_empty() { Value::Null } else { json!(config.env) },
        "Cmd": config.cmd,
        "Image": view.record.image.as_ref().map(|image| image.name.clone()).unwrap_or_default(),
        "Volumes": if config.volumes.is_empty() { Value::Null } else { set(&config.volumes) },
        "WorkingDir": config.working_dir,
        "Entrypoint": config.entrypoint.as_ref().filter(|words| !words.is_empty()),
        "OnBuild": null,
        "Labels": config.labels,
    });
    let Some(object) = document.as_object_mut() else { return document };
    if !config.exposed_ports.is_empty() {
        let ports: Map<String, Value> =
            config.exposed_ports.iter().map(|port| (port.to_string(), empty(port))).collect();
        object.insert("ExposedPorts".to_owned(), ports.into());
    }
    if !config.stop_signal.is_empty() {
        object.insert("StopSignal".to_owned(), config.stop_signal.clone().into());
    }
    if let Some(timeout) = config.stop_timeout {
        object.insert("StopTimeout".to_owned(), timeout.into());
    }
    if let Some(health) = &config.health {
        let mut check = Map::new();
        check.insert("Test".to_owned(), json!(health.test));
        for (name, value) in [
            ("Interval", health.interval),
            ("Timeout", health.timeout),
            ("StartPeriod", health.start_period),
            ("StartInterval", health.start_interval),
            ("Retries", health.retries),
        ] {
            if value != 0 {
                check.insert(name.to_owned(), value.into());
            }
        }
        object.insert("Healthcheck".to_owned(), check.into());
    }
    document
}

fn set<'a>(names: impl IntoIterator<Item = &'a String>) -> Value {
    names.into_iter().map(|name| (name.clone(), json!({}))).collect::<Map<_, _>>().into()
}

/// What is mounted at a place.
pub(crate) fn mount_point(mount: &Mount) -> Value {
    let kind = match mount.kind {
        MountKind::Bind => "bind",
        MountKind::Volume => "volume",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Image => "image",
    };
    let mut document = json!({
        "Type": kind, "Source": mount.source, "Destination": mount.target, "Mode": mount.mode, "RW": mount.writable,
        "Propagation": mount.propagation,
    });
    if let (MountKind::Volume, Some(object)) = (mount.kind, document.as_object_mut()) {
        object.insert("Name".to_owned(), mount.name.clone().into());
        let driver = if mount.driver.is_empty() { "local" } else { &mount.driver };
        object.insert("Driver".to_owned(), driver.into());
    }
    document
}

/// A place in a network, with what was asked of it, which tells clients whether what is there is still what they want.
fn endpoint(endpoint: &Endpoint, asked: Option<&EndpointRequest>) -> Value {
    let list = |words: &[String]| if words.is_empty() { Value::Null } else { json!(words) };
    let mut addresses = Map::new();
    for (key, address) in asked.iter().flat_map(|asked| [("IPv4Address", &asked.ipv4), ("IPv6Address", &asked.ipv6)]) {
        if !address.is_empty() {
            addresses.insert(key.to_owned(), address.clone().into());
        }
    }
    let options = asked.map(|asked| &asked.driver_options).filter(|options| !options.is_empty());
    json!({
        "IPAMConfig": if addresses.is_empty() { Value::Null } else { addresses.into() },
        "Links": list(asked.map(|asked| asked.links.as_slice()).unwrap_or_default()),
        "Aliases": list(&endpoint.aliases),
        "MacAddress": endpoint.mac_address,
        "DriverOpts": options,
        "NetworkID": endpoint.network_id,
        "EndpointID": endpoint.id,
        "Gateway": endpoint.gateway,
        "IPAddress": endpoint.ipv4,
        "IPPrefixLen": endpoint.ipv4_prefix,
        "IPv6Gateway": endpoint.ipv6_gateway,
        "GlobalIPv6Address": endpoint.ipv6,
        "GlobalIPv6PrefixLen": endpoint.ipv6_prefix,
        "DNSNames": list(&endpoint.dns_names),
    })
}

/// The name of the network that a container is in before all others.
fn main_network(view: &View) -> &str {
    match &view.record.network.mode {
        NetworkMode::Bridge => "bridge",
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
        NetworkMode::Container(_) => "",
        NetworkMode::Named(name) => name,
    }
}

/// All places of a container: those that it has, or, while it does not run, those that it is going to have.
fn endpoints(view: &View, network_id: &dyn Fn(&str) -> String) -> Map<String, Value> {
    let (state, network) = (&view.state, &view.record.network);
    let asked = |name: &str| network.endpoints.iter().find(|asked| asked.network == name);
    let mut all: Map<String, Value> =
        state.endpoints.iter().map(|(name, place)| (name.clone(), endpoint(place, asked(name)))).collect();
    if !all.is_empty() {
        return all;
    }
    let names = network.endpoints.iter().map(|asked| asked.network.as_str()).chain([main_network(view)]);
    for name in names.filter(|name| !name.is_empty()) {
        // Before it has run, nothing is decided.
        let id = if state.started == 0 && state.error.is_empty() { String::new() } else { network_id(name) };
        let aliases = asked(name).map(|asked| asked.aliases.clone()).unwrap_or_default();
        let place = Endpoint { aliases, network_id: id, ..Endpoint::default() };
        all.insert(name.to_owned(), endpoint(&place, asked(name)));
    }
    all
}

fn network_settings(view: &View, network_id: &dyn Fn(&str) -> String) -> Value {
    let state = &view.state;
    let default = state.endpoints.get("bridge").cloned().unwrap_or_default();
    json!({
        "Bridge": "",
        "SandboxID": if state.started == 0 { "" } else { view.record.sandbox.as_str() },
        "SandboxKey": view.network_namespace,
        "Ports": port_map(view),
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": default.id,
        "Gateway": default.gateway,
        "GlobalIPv6Address": default.ipv6,
        "GlobalIPv6PrefixLen": default.ipv6_prefix,
        "IPAddress": default.ipv4,
        "IPPrefixLen": default.ipv4_prefix,
        "IPv6Gateway": default.ipv6_gateway,
        "MacAddress": default.mac_address,
        "Networks": endpoints(view, network_id),
    })
}

fn port_map(view: &View) -> Value {
    if !view.state.status.is_running() {
        return json!({});
    }
    let mut ports: BTreeMap<String, Value> = BTreeMap::new();
    for port in &view.record.config.exposed_ports {
        ports.insert(port.to_string(), Value::Null);
    }
    for published in &view.state.ports {
        let binding = json!({"HostIp": published.host_ip, "HostPort": published.host_port.to_string()});
        let entry = ports.entry(published.port.to_string()).or_insert(Value::Null);
        match entry.as_array_mut() {
            Some(list) => list.push(binding),
            None => *entry = json!([binding]),
        }
    }
    json!(ports)
}

/// One container in a list.
pub(crate) fn summary(view: &View, now: i64, network_id: &dyn Fn(&str) -> String, sizes: Option<Sizes>) -> Value {
    let (record, state) = (&view.record, &view.state);
    let origin: Value = serde_json::from_str(&record.origin).unwrap_or_default();
    let words: Vec<String> = record
        .config
        .entrypoint
        .iter()
        .flatten()
        .chain(record.config.cmd.iter().flatten())
        .map(|word| quoted(word))
        .collect();
    let mode = match &record.network.mode {
        NetworkMode::Container(other) => format!("container:{other}"),
        _ => main_network(view).to_owned(),
    };
    let mut document = json!({
        "Id": record.id,
        "Names": [record.name_path()],
        "Image": record.image.as_ref().map(|image| image.name.clone()).unwrap_or_default(),
        "ImageID": record.image.as_ref().map(|image| image.id.to_string()).unwrap_or_default(),
        "Command": words.join(" "),
        "Created": record.created / 1_000_000_000,
        "Ports": port_list(view),
        "Labels": record.config.labels,
        "State": state.status.as_str(),
        "Status": status_text(view, now),
        "HostConfig": {"NetworkMode": mode},
        "NetworkSettings": {"Networks": endpoints(view, network_id)},
        "Mounts": mounts(view, &origin),
    });
    if let (Some(sizes), Some(object)) = (sizes, document.as_object_mut()) {
        if sizes.written != 0 {
            object.insert("SizeRw".to_owned(), sizes.written.into());
        }
        object.insert("SizeRootFs".to_owned(), sizes.all.into());
    }
    document
}

/// A word as a shell would need it.
fn quoted(word: &str) -> String {
    if word.contains(' ') { format!("'{word}'") } else { word.to_owned() }
}

fn port_list(view: &View) -> Vec<Value> {
    let state = &view.state;
    if !state.status.is_running() {
        return Vec::new();
    }
    let published = state.ports.iter().map(|one| {
        json!({
            "IP": one.host_ip, "PrivatePort": one.port.number, "PublicPort": one.host_port,
            "Type": one.port.protocol.as_str(),
        })
    });
    let exposed =
        view.record.config.exposed_ports.iter().filter(|port| !state.ports.iter().any(|one| one.port == **port));
    let exposed = exposed.map(|port| json!({"PrivatePort": port.number, "Type": port.protocol.as_str()}));
    published.chain(exposed).collect()
}

/// "Up 3 minutes (healthy)".
pub(crate) fn status_text(view: &View, now: i64) -> String {
    let state = &view.state;
    let since = |then: i64| ago((now - then).max(0) / 1_000_000_000);
    let health = match state.health.as_ref().map(|health| health.status.as_str()) {
        None | Some("none" | "") => String::new(),
        Some("starting") => " (health: starting)".to_owned(),
        Some(other) => format!(" ({other})"),
    };
    match state.status {
        Status::Running => format!("Up {}{health}", since(state.started)),
        Status::Paused => format!("Up {} (Paused)", since(state.started)),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(state.finished)),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
        Status::Created => "Created".to_owned(),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, since(state.finished)),
    }
}

/// A span of time as people say it.
fn ago(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (seconds, expect) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (86_400 * 3, "3 days"),
            (86_400 * 20, "2 weeks"),
            (86_400 * 100, "3 months"),
            (86_400 * 800, "2 years"),
        ] {
            assert_eq!(ago(seconds), expect, "{seconds}");
        }
    }
}
