//! Reading the configuration again: what can change changes, what cannot is named, and a file that is wrong changes nothing.

use std::sync::Arc;

use gantry_distribution::Client;
use gantry_engine::events::Subject;
use gantry_engine::request::LogConfig;
use rustls::ServerConfig;

use super::metrics::{Outlet, Source};
use super::sockets::{Bound, Inherited, Listener};
use super::tls::{Identity, PlainDoor, TlsDoor};
use super::{Running, config::DaemonConfig};
use crate::config::Config;
use crate::context::{self, Context};
use crate::failure::{Failure, Of, Outcome};
use crate::log;

/// The keys that differ and are only looked at when the daemon starts.
pub fn fixed(started: &Config, now: &Config) -> Vec<&'static str> {
    let (old, new) = (&started.daemon, &now.daemon);
    let differing = [
        ("daemon.run", old.run != new.run),
        ("daemon.socket", old.socket != new.socket),
        ("daemon.group", old.group != new.group),
        ("daemon.listen", old.listen != new.listen),
        ("daemon.runtime", old.runtime != new.runtime),
        ("daemon.cgroup_parent", old.cgroup_parent != new.cgroup_parent),
        ("daemon.systemd_cgroups", old.systemd_cgroups != new.systemd_cgroups),
        ("daemon.network_prefix", old.network_prefix != new.network_prefix),
        ("daemon.experimental", old.experimental != new.experimental),
        ("daemon.log_format", old.log_format != new.log_format),
        ("daemon.registry", old.registry != new.registry),
        ("daemon.metrics_tls", old.metrics_tls != new.metrics_tls && old.metrics == new.metrics),
        ("store", started.store != now.store),
    ];
    differing.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// What becomes of metrics.
enum Metrics {
    /// They stay where they are.
    Stay,
    /// They are shown here from now on, or nowhere.
    Move(Option<Bound>),
}

/// What was made of a new configuration, before any of it is in force.
struct Ready {
    identity: Option<Arc<ServerConfig>>,
    metrics: Metrics,
    client: Client,
}

fn prepare(running: &Running, now: &Config) -> Outcome<Ready> {
    now.daemon.check()?;
    let identity = now.daemon.tls.as_ref().map(Identity::read).transpose().of("[daemon.tls]")?;
    let client = context::client(now.clone())?;
    let mut metrics = Metrics::Stay;
    if now.daemon.metrics != running.config.daemon.metrics {
        let bind = |address| Inherited::default().tcp(METRICS, address);
        metrics = Metrics::Move(now.daemon.metrics.map(bind).transpose()?);
    }
    Ok(Ready { identity, metrics, client })
}

/// What the socket of metrics is called.
pub const METRICS: &str = "metrics";

/// Connections for metrics at a time.
const CONNECTIONS: usize = 64;

/// Opens the door to metrics on a socket.
pub fn outlet(source: &Arc<Source>, bound: Bound, tls: bool, identity: &Arc<Identity>) -> Outcome<Outlet> {
    let source = Arc::clone(source);
    let Listener::Tcp(listener) = &bound.listener else {
        return Err(Failure::new("metrics are shown over TCP alone"));
    };
    let listener = tcp(listener)?;
    let connections = CONNECTIONS;
    Ok(if tls {
        let identity = Arc::clone(identity);
        Outlet::open(bound, TlsDoor { listener, identity, connections }, source)
    } else {
        Outlet::open(bound, PlainDoor { listener, connections }, source)
    })
}

/// A socket for the runtime of this program.
pub fn tcp(listener: &std::net::TcpListener) -> Outcome<tokio::net::TcpListener> {
    let listener = listener.try_clone().and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.and_then(tokio::net::TcpListener::from_std).of("listen")
}

/// Reads the configuration again and brings it into force.
pub fn reload(running: &mut Running, context: &Context, args: &crate::cli::daemon::Daemon) {
    match try_reload(running, context, args) {
        Ok(fixed) => {
            running.source.counters.reload(true);
            tracing::info!("the configuration was read again and is in force");
            if !fixed.is_empty() {
                let names = fixed.join(", ");
                tracing::warn!("changed, but in force only after a restart or gantry daemon --replace: {names}");
            }
            let engine = &running.source.engine;
            engine.tell(Subject::Daemon, "reload", engine.id(), attributes(&running.config));
        }
        Err(failure) => {
            running.source.counters.reload(false);
            tracing::error!("the configuration stays as it was: {}", failure.text());
        }
    }
}

fn try_reload(
    running: &mut Running,
    context: &Context,
    args: &crate::cli::daemon::Daemon,
) -> Outcome<Vec<&'static str>> {
    let now = super::settled(context, args)?;
    let ready = prepare(running, &now)?;
    if let Some(registry) = &running.registry {
        registry.reload().of("[daemon.registry]")?;
    }
    let outlet = match ready.metrics {
        Metrics::Stay => None,
        Metrics::Move(None) => Some(None),
        Metrics::Move(Some(bound)) => {
            Some(Some(outlet(&running.source, bound, now.daemon.metrics_tls, &running.identity)?))
        }
    };
    // The last that can fail; nothing below does.
    running.source.engine.set_default_log(default_log(&now.daemon))?;
    log::set_level(now.daemon.log_level);
    if let Some(identity) = ready.identity {
        running.identity.set(identity);
    }
    if let Some(outlet) = outlet {
        running.metrics = outlet;
    }
    let images = running.source.engine.images();
    images.set_client(ready.client);
    images.store().set_auto_collect(now.gc.policy());
    let names = fixed(&running.started, &now);
    running.config = now;
    Ok(names)
}

/// Where output goes of containers that do not say.
pub fn default_log(config: &DaemonConfig) -> LogConfig {
    LogConfig { driver: config.log_driver.clone(), options: config.log_options.clone() }
}

/// What the event of it tells.
fn attributes(config: &Config) -> Vec<(String, String)> {
    let daemon = &config.daemon;
    let mirrors = config.registries.registry.get("docker.io").map(|one| one.mirrors.clone()).unwrap_or_default();
    let level = format!("{:?}", daemon.log_level).to_lowercase();
    [
        ("name", rustix::system::uname().nodename().to_string_lossy().into_owned()),
        ("debug", (level == "debug" || level == "trace").to_string()),
        ("log-level", level),
        ("default-log-driver", daemon.log_driver.clone()),
        ("live-restore", "true".to_owned()),
        ("metrics-addr", daemon.metrics.map(|address| address.to_string()).unwrap_or_default()),
        ("registry-mirrors", serde_json::to_string(&mirrors).unwrap_or_default()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart() {
        let check = |before: &str, after: &str, expect: &[&str]| {
            let (before, after) = (Config::parse(before).unwrap(), Config::parse(after).unwrap());
            assert_eq!(fixed(&before, &after), expect);
        };
        check("", "", &[]);
        check("", "[daemon]\nlog_level = 'debug'\nlog_driver = 'json-file'\n[gc]\nunused = true", &[]);
        check("", "[daemon]\nsocket = '/x'\nnetwork_prefix = 'x'", &["daemon.socket", "daemon.network_prefix"]);
        check("[store]\nroot = '/a'", "[store]\nroot = '/b'", &["store"]);
        check("[daemon.registry]", "", &["daemon.registry"]);
    }
}
