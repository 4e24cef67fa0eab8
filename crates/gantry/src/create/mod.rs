//! From the options of `run` and `create` to what the API is sent: a function of its input alone.
//!
//! Names, defaults and refusals are those of Docker's command line, so that a daemon gets the same document from both.

mod csv;
mod devices;
mod limits;
mod mounts;
mod networks;
pub mod pairs;
mod ports;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod units;
mod update;

use serde_json::{Map, Value, json};

pub use networks::{is_mac, link};
pub use update::update;

use crate::cli::create::{Create, Devices as DeviceOptions, General, Resources, Security};
use devices::{Devices, Rate};
use mounts::Volumes;
use networks::Networks;
use pairs::Outside;
use ports::Ports;

/// What a container is to be.
#[derive(Debug)]
pub struct Plan {
    /// The body of `POST /containers/create`.
    pub body: Value,
    /// Which of input, output and errors are joined to this terminal.
    pub attach: [bool; 3],
    /// What is said about it before it is made.
    pub warnings: Vec<String>,
}

/// Reads the options. A container that is detached has nothing joined.
pub fn plan(options: &Create, detach: bool, outside: &Outside<'_>) -> Result<Plan, String> {
    let attach = attached(&options.general, detach)?;
    let networks = networks::read(&options.network)?;
    let ports = Ports::read(&options.network.publish, &options.network.expose)?;
    let volumes = Volumes::read(&options.storage.volume, outside.here)?;
    let mut body = config(options, attach, &ports, &volumes, outside)?;
    let mut host = host_config(options, &ports, &volumes.binds, &networks)?;
    host.extend(security(&options.security, outside)?);
    host.extend(resources(&options.resources)?);
    host.extend(device_config(&options.devices)?);
    put(&mut host, "Mounts", mounts(&options.storage.mount, outside)?);
    // One that is removed when it ends cannot be started again.
    let policy = host.get("RestartPolicy").and_then(|policy| policy.get("Name")).and_then(Value::as_str);
    if options.general.rm && !matches!(policy, None | Some("" | "no")) {
        return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
    }
    body.insert("HostConfig".to_owned(), host.into());
    body.insert("NetworkingConfig".to_owned(), json!({"EndpointsConfig": networks.endpoints}));
    Ok(Plan { body: body.into(), attach, warnings: warnings(options) })
}

fn attached(general: &General, detach: bool) -> Result<[bool; 3], String> {
    let names = ["stdin", "stdout", "stderr"];
    let asked: Vec<String> = general.attach.iter().map(|name| name.to_ascii_lowercase()).collect();
    if let Some(wrong) = asked.iter().find(|name| !names.contains(&name.as_str())) {
        let known = "valid streams are STDIN, STDOUT and STDERR";
        return Err(format!("invalid argument {wrong:?} for \"-a, --attach\" flag: {known}"));
    }
    if detach {
        return if asked.is_empty() {
            Ok([false; 3])
        } else {
            Err("conflicting options: cannot specify both --attach and --detach".to_owned())
        };
    }
    let has = |name: &str| asked.iter().any(|one| one == name);
    let all = asked.is_empty();
    Ok([general.interactive || has("stdin"), all || has("stdout"), all || has("stderr")])
}

fn warnings(options: &Create) -> Vec<String> {
    let mut all = Vec::new();
    if options.resources.oom_kill_disable && options.resources.memory.is_none() {
        all.push(
            "WARNING: Disabling the OOM killer on containers without setting a '-m/--memory' limit may be dangerous."
                .to_owned(),
        );
    }
    let local = |text: &&String| text.starts_with("127.") || *text == "::1";
    if let Some(server) = options.network.dns.iter().find(local) {
        all.push(format!("WARNING: Localhost DNS setting (--dns={server}) may fail in containers."));
    }
    all
}

fn text(value: Option<&String>) -> &str {
    value.map_or("", String::as_str)
}

/// A list, or nothing where there is none, as Go has it.
fn list(all: &[String]) -> Value {
    if all.is_empty() { Value::Null } else { json!(all) }
}

fn each(all: &[String], read: impl Fn(&str) -> Result<String, String>) -> Result<Vec<String>, String> {
    all.iter().map(|text| read(text)).collect()
}

/// Puts a value there if it is one.
fn put(map: &mut Map<String, Value>, key: &str, value: Value) {
    let none = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    if !none {
        map.insert(key.to_owned(), value);
    }
}

fn config(
    options: &Create,
    attach: [bool; 3],
    ports: &Ports,
    volumes: &Volumes,
    outside: &Outside<'_>,
) -> Result<Map<String, Value>, String> {
    let general = &options.general;
    if let Some(mac) = options.network.mac_address.as_ref().filter(|mac| !is_mac(mac)) {
        return Err(format!("{mac} is not a valid mac address"));
    }
    let (image, command) = options.command.split_first().ok_or("an image is needed")?;
    let entrypoint = match general.entrypoint.as_deref() {
        None => Value::Null,
        Some(command) => json!([command]),
    };
    let anonymous: Map<String, Value> = volumes.anonymous.iter().map(|path| (path.clone(), json!({}))).collect();
    let environment = pairs::environment(&general.env_file, &general.env, outside)?;
    let labels = pairs::labels(&general.label_file, &general.label, outside)?;
    let document = json!({
        "Hostname": text(options.network.hostname.as_ref()),
        "Domainname": text(options.network.domainname.as_ref()),
        "User": text(general.user.as_ref()),
        "AttachStdin": attach[0],
        "AttachStdout": attach[1],
        "AttachStderr": attach[2],
        "Tty": general.tty,
        "OpenStdin": general.interactive,
        "StdinOnce": general.interactive && attach[0],
        "Env": list(&environment),
        "Cmd": list(command),
        "Image": image,
        "Volumes": anonymous,
        "WorkingDir": text(general.workdir.as_ref()),
        "Entrypoint": entrypoint,
        "OnBuild": Value::Null,
        "Labels": labels,
    });
    let Value::Object(mut map) = document else { return Ok(Map::new()) };
    put(&mut map, "ExposedPorts", ports.exposed().unwrap_or_default());
    put(&mut map, "Healthcheck", limits::health(&options.health)?.unwrap_or_default());
    put(&mut map, "StopSignal", text(general.stop_signal.as_ref()).into());
    put(&mut map, "StopTimeout", general.stop_timeout.map_or(Value::Null, Value::from));
    Ok(map)
}

fn host_config(
    options: &Create,
    ports: &Ports,
    binds: &[String],
    networks: &Networks,
) -> Result<Map<String, Value>, String> {
    let (general, network, storage) = (&options.general, &options.network, &options.storage);
    let log_options = pairs::map(&general.log_opt);
    if general.log_driver.as_deref() == Some("none") && !log_options.is_empty() {
        return Err("invalid logging opts for driver none".to_owned());
    }
    let isolation = text(general.isolation.as_ref());
    if !["", "default"].contains(&isolation) {
        return Err(format!("--isolation {isolation}: only Windows has it"));
    }
    let document = json!({
        "Binds": list(binds),
        "ContainerIDFile": general.cidfile.as_ref().map_or_else(String::new, |file| file.display().to_string()),
        "LogConfig": {"Type": text(general.log_driver.as_ref()), "Config": log_options},
        "NetworkMode": networks.mode,
        "PortBindings": ports.bindings(),
        "RestartPolicy": limits::restart(general.restart.as_deref().unwrap_or("no"))?,
        "AutoRemove": general.rm,
        "VolumeDriver": text(storage.volume_driver.as_ref()),
        "VolumesFrom": list(&storage.volumes_from),
        "Dns": each(&network.dns, networks::server)?,
        "DnsOptions": network.dns_option,
        "DnsSearch": each(&network.dns_search, networks::search_domain)?,
        "ExtraHosts": list(&each(&network.add_host, networks::extra_host)?),
        "GroupAdd": list(&general.group_add),
        "Links": list(&each(&network.link, link)?),
        "PublishAllPorts": network.publish_all,
        "ReadonlyRootfs": storage.read_only,
        "ShmSize": size(storage.shm_size.as_ref(), "shm-size")?,
        "Isolation": isolation,
    });
    let Value::Object(mut map) = document else { return Ok(Map::new()) };
    put(&mut map, "StorageOpt", json!(limits::options(&storage.storage_opt, "storage option")?));
    put(&mut map, "Annotations", json!(limits::options(&general.annotation, "annotation")?));
    put(&mut map, "Runtime", text(general.runtime.as_ref()).into());
    put(&mut map, "Init", general.init.map_or(Value::Null, Value::Bool));
    let tmpfs: Map<String, Value> = storage
        .tmpfs
        .iter()
        .map(|text| text.split_once(':').unwrap_or((text, "")))
        .map(|(target, options)| (target.to_owned(), options.into()))
        .collect();
    put(&mut map, "Tmpfs", tmpfs.into());
    Ok(map)
}

fn security(options: &Security, outside: &Outside<'_>) -> Result<Map<String, Value>, String> {
    let mode = |value: &Option<String>, flag: &str, kind: &str, known: &[&str]| {
        let value = text(value.as_ref());
        let shared =
            known.contains(&"container:") && value.strip_prefix("container:").is_some_and(|name| !name.is_empty());
        let good = value.is_empty() || known.contains(&value) || shared;
        if good && value != "container:" { Ok(value.to_owned()) } else { Err(format!("--{flag}: invalid {kind} mode")) }
    };
    let userns = text(options.userns.as_ref());
    if !["", "host", "auto"].contains(&userns) && !userns.starts_with("auto:") {
        return Err("--userns: invalid USER mode".to_owned());
    }
    let (security, hidden) = limits::security(&options.security_opt, outside)?;
    let paths = if hidden { Value::Null } else { json!([]) };
    let document = json!({
        "CapAdd": list(&options.cap_add),
        "CapDrop": list(&options.cap_drop),
        "CgroupnsMode": mode(&options.cgroupns, "cgroupns", "CGROUP", &["host", "private"])?,
        "IpcMode": text(options.ipc.as_ref()),
        "PidMode": mode(&options.pid, "pid", "PID", &["host", "container:"])?,
        "UTSMode": mode(&options.uts, "uts", "UTS", &["host"])?,
        "UsernsMode": userns,
        "Privileged": options.privileged,
        "SecurityOpt": list(&security),
        "MaskedPaths": paths,
        "ReadonlyPaths": paths,
    });
    let Value::Object(mut map) = document else { return Ok(Map::new()) };
    put(&mut map, "Sysctls", json!(limits::sysctls(&options.sysctl)?));
    Ok(map)
}

/// A size that an option has; 0 if it is not given.
fn size(value: Option<&String>, flag: &str) -> Result<i64, String> {
    let Some(text) = value else { return Ok(0) };
    units::bytes(text).map_err(|why| format!("invalid argument {text:?} for \"--{flag}\" flag: {why}"))
}

fn resources(options: &Resources) -> Result<Map<String, Value>, String> {
    let swappiness = options.memory_swappiness.unwrap_or(-1);
    if !(-1..=100).contains(&swappiness) {
        return Err(format!("invalid value: {swappiness}. Valid memory swappiness range is 0-100"));
    }
    let swap = match &options.memory_swap {
        None => 0,
        Some(text) => units::bytes_or_unlimited(text)
            .map_err(|why| format!("invalid argument {text:?} for \"--memory-swap\" flag: {why}"))?,
    };
    let cpus = match &options.cpus {
        None => 0,
        Some(text) => {
            units::cpus(text).map_err(|why| format!("invalid argument {text:?} for \"--cpus\" flag: {why}"))?
        }
    };
    let rated = |all: &[String], rate| all.iter().map(|text| devices::rated(text, rate)).collect::<Result<Vec<_>, _>>();
    let document = json!({
        "CgroupParent": text(options.cgroup_parent.as_ref()),
        "Memory": size(options.memory.as_ref(), "memory")?,
        "MemoryReservation": size(options.memory_reservation.as_ref(), "memory-reservation")?,
        "MemorySwap": swap,
        "MemorySwappiness": swappiness,
        "NanoCpus": cpus,
        "CpuShares": options.cpu_shares.unwrap_or(0),
        "CpuPeriod": options.cpu_period.unwrap_or(0),
        "CpuQuota": options.cpu_quota.unwrap_or(0),
        "CpuRealtimePeriod": options.cpu_rt_period.unwrap_or(0),
        "CpuRealtimeRuntime": options.cpu_rt_runtime.unwrap_or(0),
        "CpusetCpus": text(options.cpuset_cpus.as_ref()),
        "CpusetMems": text(options.cpuset_mems.as_ref()),
        "PidsLimit": options.pids_limit.unwrap_or(0),
        "BlkioWeight": options.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": rated(&options.blkio_weight_device, Rate::Weight)?,
        "BlkioDeviceReadBps": rated(&options.device_read_bps, Rate::Bytes)?,
        "BlkioDeviceWriteBps": rated(&options.device_write_bps, Rate::Bytes)?,
        "BlkioDeviceReadIOps": rated(&options.device_read_iops, Rate::Count)?,
        "BlkioDeviceWriteIOps": rated(&options.device_write_iops, Rate::Count)?,
        "OomKillDisable": options.oom_kill_disable,
        "OomScoreAdj": options.oom_score_adj.unwrap_or(0),
        "Ulimits": limits::ulimits(&options.ulimit)?,
    });
    let Value::Object(mut map) = document else { return Ok(Map::new()) };
    let kernel = size(options.kernel_memory.as_ref(), "kernel-memory")?;
    if kernel != 0 {
        map.insert("KernelMemory".to_owned(), kernel.into());
    }
    Ok(map)
}

fn device_config(options: &DeviceOptions) -> Result<Map<String, Value>, String> {
    let found = Devices::read(&options.device)?;
    let mut requests = options.gpus.iter().map(|text| devices::gpus(text)).collect::<Result<Vec<_>, _>>()?;
    if !found.cdi.is_empty() {
        let request = json!({"Driver": "cdi", "Count": 0, "DeviceIDs": found.cdi, "Capabilities": Value::Null, "Options": Value::Null});
        requests.push(request);
    }
    let document = json!({
        "Devices": found.mappings,
        "DeviceCgroupRules": list(&each(&options.device_cgroup_rule, devices::rule)?),
        "DeviceRequests": if requests.is_empty() { Value::Null } else { requests.into() },
    });
    let Value::Object(map) = document else { return Ok(Map::new()) };
    Ok(map)
}

/// `Mounts`.
fn mounts(all: &[String], outside: &Outside<'_>) -> Result<Value, String> {
    let read = |text: &String| {
        mounts::mount(text, outside.here)
            .map_err(|why| format!("invalid argument {text:?} for \"--mount\" flag: {why}"))
    };
    all.iter().map(read).collect::<Result<Vec<_>, _>>().map(Value::Array)
}
