//! The daemon: the engine, the doors to it, and how it begins, changes and ends.

pub mod config;
mod metrics;
mod notify;
mod reload;
mod replace;
mod sockets;
mod tls;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gantry_docker_api::{Api, Build, Phase, serve};
use gantry_engine::events::Listener as Events;
use gantry_engine::{Engine, Options};
use gantry_registry::Registry;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cli::daemon::Daemon;
use crate::config::Config;
use crate::context::{Context, Need};
use crate::failure::{Failure, Of, Outcome};
use crate::{log, terminal};

use metrics::{Counters, Outlet, Source};
use reload::METRICS;
use sockets::{Bound, Inherited, Listener};
use tls::{Identity, TlsDoor};

/// How long requests that are being answered may take when the daemon ends.
const GRACE: Duration = Duration::from_secs(10);
/// The same when another takes its place: whoever comes meanwhile waits.
const SHORT_GRACE: Duration = Duration::from_secs(3);
/// How long those may take who are told that they are cut off.
const LAST: Duration = Duration::from_secs(1);
/// When nothing has happened for so long, memory is given back.
const QUIET: Duration = Duration::from_secs(2);
/// Connections of TCP that are served at a time.
const CONNECTIONS: usize = 1024;
/// How many tasks of the daemon listen to events by themselves.
const LISTENERS: usize = 2;
/// What the sockets of the registry are called.
const REGISTRY: [&str; 2] = ["registry", "registry-admin"];

/// Nanoseconds since 1970. The one clock of the daemon.
#[allow(clippy::disallowed_methods)]
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

/// A daemon that runs.
struct Running {
    /// As it was when it started.
    started: Config,
    /// As it is.
    config: Config,
    source: Arc<Source>,
    identity: Arc<Identity>,
    metrics: Option<Outlet>,
    registry: Option<Registry>,
    phase: watch::Sender<Phase>,
    servers: Vec<JoinHandle<()>>,
    card: replace::Card,
}

/// How a daemon ends.
enum End {
    /// Nothing follows.
    Stop,
    /// A program takes its place.
    Replace(PathBuf),
}

/// The signals that a daemon listens to.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    replace: Signal,
}

/// Runs the daemon until it is told to end, says whether it could, or replaces one. Containers run on.
pub fn run(context: &Context, args: &Daemon) -> Outcome {
    let config = settled(context, args)?;
    log::start(config.daemon.log_level, config.daemon.log_format);
    if args.replace {
        return replace::ask(&config.daemon.run);
    }
    config.daemon.check()?;
    let options = options(&config, context.root(&config)?)?;
    gantry_engine::logs::plan(&options.log, &options.log).of("[daemon]: log_driver and log_options")?;
    let identity = Arc::new(Identity::default());
    if let Some(tls) = &config.daemon.tls {
        identity.set(Identity::read(tls).of("[daemon.tls]")?);
    }
    if args.validate {
        return terminal::print("the configuration can be used\n");
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new("the daemon makes containers for everybody, and must run as root"));
    }
    // The place that this program came from; what is there later is the one to be replaced by.
    let own = std::env::current_exe().of("find this program")?;
    let mut inherited = Inherited::take()?;
    // Before the store is waited for, so that clients that come meanwhile wait too.
    let sockets = Sockets::bind(&mut inherited, &config)?;
    let generation = inherited.close();
    let outcome = live(context, args, (config, options, identity), &sockets, (generation, &own));
    match outcome {
        Ok((End::Replace(program), metrics)) => {
            let all = sockets.api.iter().chain(&sockets.registry).chain(&metrics);
            let failure = replace::become_it(&program, all, generation);
            sockets.remove();
            Err(failure)
        }
        other => {
            sockets.remove();
            other.map(drop)
        }
    }
}

/// What a daemon is set up by.
type Settings = (Config, Options, Arc<Identity>);

/// The life of a daemon. Gives how it ended, and the socket of metrics that it had then.
fn live(
    context: &Context,
    args: &Daemon,
    (config, options, identity): Settings,
    sockets: &Sockets,
    (generation, own): (u64, &Path),
) -> Outcome<(End, Option<Bound>)> {
    let children = if generation > 0 { replace::children() } else { Vec::new() };
    let card = replace::Card::put(&config.daemon.run, generation)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build()
        .of("start threads")?;
    let outcome = runtime.block_on(async {
        // First of all, so that none of them ends the process.
        let mut signals = Signals::listen()?;
        tokio::spawn(replace::reap(children));
        let images = tokio::task::block_in_place(|| context.images(Need::Unpack))?;
        let engine = Engine::open(options, images).await.map_err(|error| Failure::new(error.to_string()))?;
        let mut running = Running::start(engine, config, identity, card, sockets).await?;
        let end = running.until_told(&mut signals, context, args, own).await;
        let metrics = running.end(&end).await;
        Ok((end, metrics))
    });
    runtime.shutdown_timeout(LAST);
    outcome
}

/// The sockets of a daemon. They outlive the servers, so that they can be handed on.
struct Sockets {
    api: Vec<Bound>,
    /// Taken by who serves it, since it can change.
    metrics: std::cell::Cell<Option<Bound>>,
    registry: Vec<Bound>,
}

impl Sockets {
    /// Binds what is configured, or takes it over.
    fn bind(inherited: &mut Inherited, config: &Config) -> Outcome<Self> {
        let api = inherited.api(&config.daemon)?;
        let metrics = config.daemon.metrics.map(|address| inherited.tcp(METRICS, address)).transpose()?;
        let mut registry = Vec::new();
        if let Some(config) = &config.daemon.registry {
            registry.push(inherited.tcp(REGISTRY[0], config.listen)?);
            if let Some(address) = config.admin_listen {
                registry.push(inherited.tcp(REGISTRY[1], address)?);
            }
        }
        Ok(Self { api, metrics: metrics.into(), registry })
    }

    /// Takes their names away.
    fn remove(&self) {
        self.api.iter().for_each(Bound::remove);
    }
}

impl Signals {
    fn listen() -> Outcome<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            replace: signal(SignalKind::user_defined2())?,
        })
    }
}

impl Running {
    /// Opens the doors.
    async fn start(
        engine: Engine,
        config: Config,
        identity: Arc<Identity>,
        mut card: replace::Card,
        sockets: &Sockets,
    ) -> Outcome<Self> {
        let counters = Arc::new(Counters::default());
        let (phase, _) = watch::channel(Phase::Serving);
        let observer = Arc::clone(&counters);
        let api = Api {
            engine: engine.clone(),
            build: Arc::new(Build { version: env!("CARGO_PKG_VERSION").to_owned(), ..Build::default() }),
            observer: Some(Arc::new(move |answered| observer.request(answered))),
            experimental: config.daemon.experimental,
        };
        let mut servers = Vec::new();
        for bound in &sockets.api {
            servers.push(match &bound.listener {
                Listener::Unix(listener) => tokio::spawn(serve(unix(listener)?, api.clone(), phase.subscribe())),
                Listener::Tcp(listener) => {
                    let (listener, identity) = (reload::tcp(listener)?, Arc::clone(&identity));
                    let door = TlsDoor { listener, identity, connections: CONNECTIONS };
                    tokio::spawn(serve(door, api.clone(), phase.subscribe()))
                }
            });
        }
        tokio::spawn(give_back_when_quiet(engine.events().1));
        tokio::spawn(Arc::clone(&counters).count_events(engine.events().1));
        let source = Source::new(counters, engine);
        let tls = config.daemon.metrics_tls;
        let metrics = sockets.metrics.take().map(|bound| reload::outlet(&source, bound, tls, &identity)).transpose()?;
        let registry = match &config.daemon.registry {
            Some(config) => Some(Registry::start_on(config.clone(), registry_sockets(&sockets.registry)?).await?),
            None => None,
        };
        card.ready();
        notify::ready();
        for bound in sockets.api.iter().chain(&sockets.registry) {
            tracing::info!("the daemon answers at {}", bound.listener.place());
        }
        if let Some(outlet) = &metrics {
            tracing::info!("metrics are at {}", outlet.place());
        }
        Ok(Self { started: config.clone(), config, source, identity, metrics, registry, phase, servers, card })
    }

    /// Does what signals ask for, until one asks for the end.
    async fn until_told(&mut self, signals: &mut Signals, context: &Context, args: &Daemon, own: &Path) -> End {
        let mut watchdog = notify::watchdog().map(tokio::time::interval);
        loop {
            let beat = async {
                match &mut watchdog {
                    Some(interval) => drop(interval.tick().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = signals.interrupt.recv() => return End::Stop,
                _ = signals.terminate.recv() => return End::Stop,
                _ = signals.hangup.recv() => {
                    notify::reloading("reads its configuration");
                    reload::reload(self, context, args);
                    notify::ready();
                }
                _ = signals.replace.recv() => match replace::program(&self.config.daemon.run, own).await {
                    Ok(program) => return End::Replace(program),
                    Err(failure) => {
                        tracing::error!("{}", failure.text());
                        self.card.refuse(failure.text());
                    }
                },
                () = beat => notify::alive(),
            }
        }
    }

    /// Ends what is being served, and the engine. Gives the socket of metrics back.
    async fn end(mut self, end: &End) -> Option<Bound> {
        let grace = match end {
            End::Stop => {
                notify::stopping();
                tracing::info!("the daemon ends; containers run on");
                GRACE
            }
            End::Replace(program) => {
                notify::reloading("is replaced");
                tracing::info!("the daemon is replaced by {}", program.display());
                SHORT_GRACE
            }
        };
        self.phase.send_replace(Phase::Draining);
        let registry = self.registry.take();
        let registry = async {
            // Dropped, it cuts off what is left.
            if let Some(registry) = registry {
                let _ = tokio::time::timeout(grace, registry.stop()).await;
            }
        };
        let aborts: Vec<_> = self.servers.iter().map(JoinHandle::abort_handle).collect();
        let servers = async {
            let mut all = futures_util::future::join_all(std::mem::take(&mut self.servers));
            // Who waits for something that does not come must not hold this up.
            if tokio::time::timeout(grace, &mut all).await.is_err() {
                self.phase.send_replace(Phase::Ending);
                let _ = tokio::time::timeout(LAST, all).await;
            }
        };
        let outlet = self.metrics.take();
        let metrics = async {
            match outlet {
                Some(outlet) => outlet.close().await,
                None => None,
            }
        };
        let (metrics, (), ()) = tokio::join!(metrics, registry, servers);
        if matches!(end, End::Stop) {
            self.card.remove();
        }
        aborts.iter().for_each(tokio::task::AbortHandle::abort);
        let engine = self.source.engine.clone();
        drop(self);
        engine.close().await;
        metrics
    }
}

/// A socket for the runtime of this program.
fn unix(listener: &std::os::unix::net::UnixListener) -> Outcome<UnixListener> {
    let listener = listener.try_clone().and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.and_then(UnixListener::from_std).of("listen")
}

/// Copies of the sockets of the registry.
fn registry_sockets(bound: &[Bound]) -> Outcome<gantry_registry::Sockets> {
    let mut all = Vec::new();
    for bound in bound {
        let Listener::Tcp(listener) = &bound.listener else { continue };
        all.push(listener.try_clone().of("listen")?);
    }
    let mut all = all.into_iter();
    let main = all.next().ok_or_else(|| Failure::new("there is no socket for the registry"))?;
    Ok(gantry_registry::Sockets { main, admin: all.next() })
}

/// Gives memory back each time that things have happened and then nothing more: most of a daemon's time is such.
async fn give_back_when_quiet(mut events: Events) {
    loop {
        loop {
            match tokio::time::timeout(QUIET, events.recv()).await {
                Err(_) => break,
                Ok(Err(RecvError::Closed)) => return,
                Ok(_) => {}
            }
        }
        gantry_sys::memory::give_back();
        if matches!(events.recv().await, Err(RecvError::Closed)) {
            return;
        }
    }
}

/// The configuration with what the command line says.
fn settled(context: &Context, args: &Daemon) -> Outcome<Config> {
    fn set<T: Clone>(value: &mut T, given: Option<&T>) {
        if let Some(given) = given {
            value.clone_from(given);
        }
    }
    let mut all = context.config()?;
    let config = &mut all.daemon;
    set(&mut config.run, args.run_dir.as_ref());
    set(&mut config.socket, args.socket.as_ref());
    set(&mut config.cgroup_parent, args.cgroup_parent.as_ref());
    set(&mut config.network_prefix, args.network_prefix.as_ref());
    config.experimental |= args.experimental;
    set(&mut config.log_level, log::asked(context.global()).as_ref());
    set(&mut config.log_format, args.log_format.as_ref());
    config.group = args.group.clone().or(config.group.take());
    config.runtime = args.runtime.clone().or(config.runtime.take());
    config.metrics = args.metrics.or(config.metrics);
    config.listen.extend(args.host.iter().cloned());
    if args.tls_ca.is_some() || args.tls_cert.is_some() || args.tls_key.is_some() {
        let (ca, certificate, key) = match config.tls.take() {
            Some(tls) => (Some(tls.ca), Some(tls.certificate), Some(tls.key)),
            None => (None, None, None),
        };
        let given = (args.tls_ca.clone().or(ca), args.tls_cert.clone().or(certificate), args.tls_key.clone().or(key));
        let (Some(ca), Some(certificate), Some(key)) = given else {
            let text = "--tls-ca, --tls-cert and --tls-key belong together: one of them is missing";
            return Err(Failure::Usage(text.to_owned()));
        };
        config.tls = Some(config::TlsConfig { ca, certificate, key });
    }
    let root = context.root(&all)?;
    if let Some(registry) = &mut all.daemon.registry
        && registry.storage == gantry_registry::Storage::default()
    {
        registry.storage.root = root.join("registry");
    }
    Ok(all)
}

fn options(config: &Config, root: PathBuf) -> Outcome<Options> {
    let config = &config.daemon;
    let runtime = match &config.runtime {
        Some(path) => path.clone(),
        None => beside()?,
    };
    if !runtime.exists() {
        let text = format!("the program {} is not there", runtime.display());
        return Err(Failure::new(text).hint("install gantry-oci beside gantry, or say with --runtime where it is"));
    }
    Ok(Options {
        root,
        run: config.run.clone(),
        runtime,
        cgroup_parent: config.cgroup_parent.clone(),
        systemd: config.systemd_cgroups,
        prefix: config.network_prefix.clone(),
        log: reload::default_log(config),
        clock: now,
    })
}

/// `gantry-oci` in the directory of this program.
fn beside() -> Outcome<PathBuf> {
    let own = std::env::current_exe().of("find this program")?;
    Ok(own.parent().unwrap_or(Path::new("/usr/bin")).join("gantry-oci"))
}
