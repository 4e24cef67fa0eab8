//! The daemon: the engine, and the doors to it.

pub mod config;
mod listen;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use gantry_docker_api::{Api, Build, serve};
use gantry_engine::events::Listener;
use gantry_engine::request::LogConfig;
use gantry_engine::{Engine, Options};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::cli::daemon::Daemon;
use crate::context::{Context, Need};
use crate::failure::{Failure, Of, Outcome};

use config::DaemonConfig;

/// How long requests that are being answered may take when the daemon ends.
const GRACE: std::time::Duration = std::time::Duration::from_secs(10);
/// When nothing has happened for so long, memory is given back.
const QUIET: std::time::Duration = std::time::Duration::from_secs(2);

/// Nanoseconds since 1970. The one clock of the daemon.
#[allow(clippy::disallowed_methods)]
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

/// Runs the daemon until it is told to end. Containers run on.
pub fn run(context: &Context, args: &Daemon) -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new("the daemon makes containers for everybody, and must run as root"));
    }
    let config = settled(context.config()?.daemon, args);
    let root = context.root(&context.config()?)?;
    let options = options(&config, root)?;
    // Before the store is waited for, so that clients that come meanwhile wait too.
    let bound = listen::bind(&config)?;
    let images = context.images(Need::Unpack)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .enable_all()
        .build()
        .of("start threads")?;
    let outcome = runtime.block_on(async {
        let engine = Engine::open(options, images).await.map_err(|error| Failure::new(error.to_string()))?;
        let build = Build { version: env!("CARGO_PKG_VERSION").to_owned(), ..Build::default() };
        let api = Api { engine: engine.clone(), build: Arc::new(build), experimental: config.experimental };
        let (stop, stopped) = watch::channel(false);
        let listener = listen::listener(&bound)?;
        let server = tokio::spawn(serve(listener, api, stopped));
        tokio::spawn(give_back_when_quiet(engine.events().1));
        listen::say_ready();
        tracing::info!("the daemon answers at {}", config.socket.display());
        until_told().await?;
        listen::say_stopping();
        stop.send_replace(true);
        // Who waits for something that does not come must not hold this up.
        let _ = tokio::time::timeout(GRACE, server).await;
        engine.close().await;
        Ok(())
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    bound.remove();
    outcome
}

/// Gives memory back each time that things have happened and then nothing more: most of a daemon's time is such.
async fn give_back_when_quiet(mut events: Listener) {
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

/// Waits for a signal that asks for the end.
async fn until_told() -> Outcome {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// The configuration with what the command line says.
fn settled(mut config: DaemonConfig, args: &Daemon) -> DaemonConfig {
    fn set<T: Clone>(value: &mut T, given: Option<&T>) {
        if let Some(given) = given {
            value.clone_from(given);
        }
    }
    set(&mut config.run, args.run_dir.as_ref());
    set(&mut config.socket, args.socket.as_ref());
    set(&mut config.cgroup_parent, args.cgroup_parent.as_ref());
    set(&mut config.network_prefix, args.network_prefix.as_ref());
    config.experimental |= args.experimental;
    config.group = args.group.clone().or(config.group);
    config.runtime = args.runtime.clone().or(config.runtime);
    config
}

fn options(config: &DaemonConfig, root: PathBuf) -> Outcome<Options> {
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
        log: LogConfig { driver: config.log_driver.clone(), options: config.log_options.clone() },
        clock: now,
    })
}

/// `gantry-oci` in the directory of this program.
fn beside() -> Outcome<PathBuf> {
    let own = std::env::current_exe().of("find this program")?;
    Ok(own.parent().unwrap_or(Path::new("/usr/bin")).join("gantry-oci"))
}
