//! Numbers for Prometheus: families have Docker's names where Docker has them, and our own for what containers use.
//!
//! Counters are kept here, from what requests and events tell; everything else is looked at when somebody asks. What labels
//! can say is bounded: actions are a fixed set, and no more than [`MOST`] containers are told of one by one.

#![allow(clippy::cast_precision_loss, reason = "numbers of Prometheus are of floating point, whatever they count")]

mod serve;
mod text;

pub use serve::{Outlet, Source};

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use gantry_docker_api::Answered;
use gantry_engine::Engine;
use gantry_engine::View;
use gantry_engine::events::Listener;
use gantry_engine::stats::Stats;
use tokio::sync::broadcast::error::RecvError;

use text::{Kind, Text};

/// The most containers that are told of one by one, the newest first.
const MOST: usize = 1000;
/// Containers that are looked at at a time.
const AT_A_TIME: usize = 8;
/// Upper bounds of the classes of durations, in milliseconds: those of Prometheus' own clients.
const CLASSES: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];
/// What containers' actions are called.
const ACTIONS: [&str; 5] = ["changes", "commit", "create", "delete", "start"];
/// What networks' actions are called.
const NETWORK_ACTIONS: [&str; 4] = ["connect", "create", "delete", "release"];

/// Durations by class.
#[derive(Clone, Copy, Debug, Default)]
struct Histogram {
    classes: [u64; CLASSES.len()],
    count: u64,
    micros: u64,
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        for (class, bound) in self.classes.iter_mut().zip(CLASSES) {
            *class += u64::from(took.as_micros() <= u128::from(bound * 1000));
        }
        self.count += 1;
        self.micros += took.as_micros() as u64;
    }
}

/// What is counted.
#[derive(Default)]
pub struct Counters {
    actions: Mutex<BTreeMap<&'static str, Histogram>>,
    networks: Mutex<BTreeMap<&'static str, Histogram>>,
    /// Requests by the class of their status, `2xx` first.
    requests: [AtomicU64; 4],
    events: AtomicU64,
    reloads: AtomicU64,
    reloads_failed: AtomicU64,
}

/// What a request does, if that is counted: to a container, or to a network.
fn action(method: &str, path: &[&str]) -> (Option<&'static str>, Option<&'static str>) {
    match (method, path) {
        ("POST", ["containers", "create"]) => (Some("create"), None),
        ("POST", ["containers", _, "start"]) => (Some("start"), None),
        ("DELETE", ["containers", _]) => (Some("delete"), None),
        ("GET", ["containers", _, "changes"]) => (Some("changes"), None),
        ("POST", ["commit"]) => (Some("commit"), None),
        ("POST", ["networks", "create"]) => (None, Some("create")),
        ("DELETE", ["networks", _]) => (None, Some("delete")),
        ("POST", ["networks", _, "connect"]) => (None, Some("connect")),
        ("POST", ["networks", _, "disconnect"]) => (None, Some("release")),
        _ => (None, None),
    }
}

impl Counters {
    /// Counts a request.
    pub fn request(&self, answered: &Answered<'_>) {
        let class = usize::from(answered.status.as_u16() / 100).clamp(2, 5) - 2;
        self.requests[class].fetch_add(1, Ordering::Relaxed);
        if !answered.status.is_success() {
            return;
        }
        let add = |table: &Mutex<BTreeMap<&'static str, Histogram>>, name: Option<&'static str>| {
            if let Some(name) = name {
                let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
                table.entry(name).or_default().add(answered.took);
            }
        };
        let (container, network) = action(answered.method.as_str(), answered.path);
        add(&self.actions, container);
        add(&self.networks, network);
    }

    /// Counts a reading of the configuration.
    pub fn reload(&self, good: bool) {
        let counter = if good { &self.reloads } else { &self.reloads_failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts events, for as long as there can be some.
    pub async fn count_events(self: Arc<Self>, mut events: Listener) {
        loop {
            let count = match events.recv().await {
                Ok(_) => 1,
                Err(RecvError::Lagged(missed)) => missed,
                Err(RecvError::Closed) => return,
            };
            self.events.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// All numbers, as text.
pub async fn render(counters: &Counters, engine: &Engine) -> String {
    let mut out = Text::default();
    daemon(&mut out, counters, engine);
    requests(&mut out, counters);
    containers(&mut out, engine).await;
    process(&mut out);
    out.0
}

fn daemon(out: &mut Text, counters: &Counters, engine: &Engine) {
    let counts = engine.counts();
    let name = "engine_daemon_container_states_containers";
    out.family(name, Kind::Gauge, "The count of containers in various states");
    for (state, count) in [("paused", counts.paused), ("running", counts.running), ("stopped", counts.stopped)] {
        out.sample(name, &[("state", state)], count as f64);
    }
    let table = |table: &Mutex<BTreeMap<&'static str, Histogram>>| table.lock().map(|t| t.clone()).unwrap_or_default();
    let name = "engine_daemon_container_actions_seconds";
    out.family(name, Kind::Histogram, "The number of seconds it takes to process each container action");
    histograms(out, name, &ACTIONS, &table(&counters.actions));
    let name = "engine_daemon_network_actions_seconds";
    out.family(name, Kind::Histogram, "The number of seconds it takes to process each network action");
    histograms(out, name, &NETWORK_ACTIONS, &table(&counters.networks));
    let (checks, failed) = engine.health_checks();
    // What counts and what follows events listens too, and is nobody's wish.
    let listeners = engine.listeners().saturating_sub(super::LISTENERS);
    let events = counters.events.load(Ordering::Relaxed);
    let reloads = |good: &AtomicU64| good.load(Ordering::Relaxed) as f64;
    for (name, kind, help, value) in [
        ("engine_daemon_events_total", Kind::Counter, "The number of events logged", events as f64),
        (
            "engine_daemon_events_subscribers_total",
            Kind::Gauge,
            "The number of current subscribers to events",
            listeners as f64,
        ),
        ("engine_daemon_health_checks_total", Kind::Counter, "The total number of health checks", checks as f64),
        (
            "engine_daemon_health_checks_failed_total",
            Kind::Counter,
            "The total number of failed health checks",
            failed as f64,
        ),
        (
            "engine_daemon_engine_cpus_cpus",
            Kind::Gauge,
            "The number of cpus that the host system of the engine has",
            processors() as f64,
        ),
        (
            "engine_daemon_engine_memory_bytes",
            Kind::Gauge,
            "The number of bytes of memory that the host system of the engine has",
            memory() as f64,
        ),
        (
            "gantry_reloads_total",
            Kind::Counter,
            "How often the configuration was read again",
            reloads(&counters.reloads),
        ),
        ("gantry_reloads_failed_total", Kind::Counter, "How often that failed", reloads(&counters.reloads_failed)),
    ] {
        out.family(name, kind, help);
        out.sample(name, &[], value);
    }
    info(out, engine);
}

fn info(out: &mut Text, engine: &Engine) {
    let uname = rustix::system::uname();
    let kernel = uname.release().to_string_lossy();
    let name = "engine_daemon_engine_info";
    out.family(name, Kind::Gauge, "The information related to the engine and the OS it is running on");
    let labels = [
        ("architecture", std::env::consts::ARCH),
        ("daemon_id", engine.id()),
        ("graphdriver", "overlay2"),
        ("kernel", &kernel),
        ("os_type", "linux"),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    out.sample(name, &labels, 1.0);
}

fn requests(out: &mut Text, counters: &Counters) {
    let name = "gantry_api_requests_total";
    out.family(name, Kind::Counter, "Requests of the API, by the class of the answer's status");
    for (class, count) in ["2xx", "3xx", "4xx", "5xx"].iter().zip(&counters.requests) {
        out.sample(name, &[("status", class)], count.load(Ordering::Relaxed) as f64);
    }
}

fn histograms(out: &mut Text, name: &str, actions: &[&'static str], table: &BTreeMap<&'static str, Histogram>) {
    for action in actions {
        let histogram = table.get(action).copied().unwrap_or_default();
        let bucket = format!("{name}_bucket");
        for (class, bound) in histogram.classes.iter().zip(CLASSES) {
            let bound = Duration::from_millis(bound).as_secs_f64().to_string();
            out.sample(&bucket, &[("action", action), ("le", &bound)], *class as f64);
        }
        out.sample(&bucket, &[("action", action), ("le", "+Inf")], histogram.count as f64);
        let seconds = Duration::from_micros(histogram.micros).as_secs_f64();
        out.sample(&format!("{name}_sum"), &[("action", action)], seconds);
        out.sample(&format!("{name}_count"), &[("action", action)], histogram.count as f64);
    }
}

/// A family of numbers of each container: its name, kind, and help, and how the number is found, if it is known.
type Family = (&'static str, Kind, &'static str, fn(&View, Option<&Stats>) -> Option<f64>);

/// The families of containers.
const FAMILIES: [Family; 9] = [
    ("gantry_container_restarts_total", Kind::Counter, "How often the restart policy started it again", |view, _| {
        Some(f64::from(view.state.restarts))
    }),
    (
        "gantry_container_healthy",
        Kind::Gauge,
        "Whether its health check says that it is well, if it has one",
        |view, _| {
            let health = view.state.health.as_ref()?;
            Some(f64::from(u8::from(health.status == gantry_engine::health::HEALTHY)))
        },
    ),
    ("gantry_container_cpu_seconds_total", Kind::Counter, "Processor time that it used", |_, stats| {
        Some(Duration::from_nanos(stats?.cpu.as_ref()?.total).as_secs_f64())
    }),
    ("gantry_container_memory_usage_bytes", Kind::Gauge, "Memory in use, with the page cache", |_, stats| {
        Some(stats?.memory.as_ref()?.usage as f64)
    }),
    (
        "gantry_container_memory_used_bytes",
        Kind::Gauge,
        "Memory in use that could not be given back at once",
        |_, stats| Some(stats?.memory.as_ref()?.used() as f64),
    ),
    (
        "gantry_container_memory_limit_bytes",
        Kind::Gauge,
        "What its memory may be: its limit, or all there is",
        |_, stats| Some(stats?.memory.as_ref()?.limit as f64),
    ),
    ("gantry_container_processes", Kind::Gauge, "Its processes and threads", |_, stats| {
        Some(stats?.pids?.current as f64)
    }),
    ("gantry_container_network_receive_bytes_total", Kind::Counter, "Bytes that came over its network", |_, stats| {
        let all = stats?.networks.as_ref()?.iter().filter(|(name, _)| *name != "lo");
        Some(all.map(|(_, one)| one.rx_bytes).sum::<u64>() as f64)
    }),
    ("gantry_container_network_transmit_bytes_total", Kind::Counter, "Bytes that went over its network", |_, stats| {
        let all = stats?.networks.as_ref()?.iter().filter(|(name, _)| *name != "lo");
        Some(all.map(|(_, one)| one.tx_bytes).sum::<u64>() as f64)
    }),
];

async fn containers(out: &mut Text, engine: &Engine) {
    let mut views = engine.containers();
    let more = views.len().saturating_sub(MOST);
    views.truncate(MOST);
    let looks = views.into_iter().map(|view| async move {
        let running = view.state.status.is_running();
        // One that ends meanwhile has no numbers any more.
        let stats = if running { engine.stats(&view.record.id).await.ok().flatten() } else { None };
        (view, stats)
    });
    let all: Vec<(View, Option<Stats>)> = futures_util::stream::iter(looks).buffered(AT_A_TIME).collect().await;
    for (name, kind, help, find) in FAMILIES {
        out.family(name, kind, help);
        for (view, stats) in &all {
            if let Some(value) = find(view, stats.as_ref()) {
                let id = view.record.id.get(..12).unwrap_or_default();
                out.sample(name, &[("id", id), ("name", &view.record.name)], value);
            }
        }
    }
    let name = "gantry_containers_not_told";
    out.family(name, Kind::Gauge, "Containers that there are no numbers of, since there are too many");
    out.sample(name, &[], more as f64);
}

/// What this process uses, under the names that Prometheus' own clients have for it.
fn process(out: &mut Text) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/self/stat");
    // The name may have spaces and parentheses, so what follows is counted from its end.
    let fields: Vec<u64> =
        stat.rsplit(") ").next().unwrap_or_default().split(' ').map(|n| n.parse().unwrap_or(0)).collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    // The kernel counts hundredths of a second for programs, on every machine that there is.
    let seconds = |ticks: u64| ticks as f64 / 100.0;
    let boot =
        read("/proc/stat").lines().find_map(|line| line.strip_prefix("btime ")?.parse::<u64>().ok()).unwrap_or(0);
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let resident = |line: &str| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok();
    let resident = read("/proc/self/status").lines().find_map(resident).unwrap_or(0);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            Kind::Counter,
            "Total user and system CPU time spent in seconds.",
            seconds(field(14) + field(15)),
        ),
        (
            "process_start_time_seconds",
            Kind::Gauge,
            "Start time of the process since unix epoch in seconds.",
            boot as f64 + seconds(field(22)),
        ),
        ("process_virtual_memory_bytes", Kind::Gauge, "Virtual memory size in bytes.", field(23) as f64),
        ("process_resident_memory_bytes", Kind::Gauge, "Resident memory size in bytes.", (resident * 1024) as f64),
        ("process_open_fds", Kind::Gauge, "Number of open file descriptors.", descriptors as f64),
        ("process_max_fds", Kind::Gauge, "Maximum number of open file descriptors.", limit as f64),
        ("process_threads", Kind::Gauge, "Number of threads.", field(20) as f64),
    ] {
        out.family(name, kind, help);
        out.sample(name, &[], value);
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    total.unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions() {
        let check = |method: &str, path: &[&str], expect: (Option<&str>, Option<&str>)| {
            assert_eq!(action(method, path), expect, "{method} {path:?}");
        };
        check("POST", &["containers", "create"], (Some("create"), None));
        check("DELETE", &["containers", "x"], (Some("delete"), None));
        check("POST", &["networks", "x", "disconnect"], (None, Some("release")));
        check("GET", &["containers", "json"], (None, None));
        check("POST", &["containers", "x", "stop"], (None, None));
    }

    #[test]
    fn durations() {
        let mut histogram = Histogram::default();
        for millis in [1, 7, 300, 60_000] {
            histogram.add(Duration::from_millis(millis));
        }
        assert_eq!((histogram.classes[0], histogram.classes[1], histogram.classes[6]), (1, 2, 3));
        assert_eq!((histogram.classes[10], histogram.count, histogram.micros), (3, 4, 60_308_000));
    }
}
