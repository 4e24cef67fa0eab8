//! What commands share: the configuration, the store, the clock, and how something asynchronous is run. Each is made when
//! a command asks for it, and not before.

use std::future::Future;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gantry_distribution::{Anonymous, Client, Credentials, DockerConfig};
use gantry_images::Images;
use gantry_store::Store;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Global;
use crate::client as daemon;
use crate::config::Config;
use crate::failure::{Failure, Of, Outcome};
use crate::terminal;

/// How long work that was given up may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// Where the store is for root.
const ROOT: &str = "/var/lib/gantry";

/// What a command does with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Looks at it, or moves names.
    Store,
    /// Unpacks layers, with their owners and devices.
    Unpack,
}

/// What commands share.
pub struct Context {
    global: Global,
}

impl Context {
    /// Nothing is read or opened yet.
    pub const fn new(global: Global) -> Self {
        Self { global }
    }

    /// The configuration.
    pub fn config(&self) -> Outcome<Config> {
        Config::read(self.global.config.as_deref())
    }

    /// Where the store is.
    pub fn root(&self, config: &Config) -> Outcome<PathBuf> {
        if let Some(root) = self.global.root.clone().or_else(|| config.store.root.clone()) {
            return Ok(root);
        }
        if is_root() {
            return Ok(PathBuf::from(ROOT));
        }
        let home = |name: &str, below: &str| {
            std::env::var_os(name).filter(|dir| Path::new(dir).is_absolute()).map(|dir| Path::new(&dir).join(below))
        };
        let found = home("XDG_DATA_HOME", "gantry").or_else(|| home("HOME", ".local/share/gantry"));
        found.ok_or_else(|| Failure::new("there is no directory for the store").hint("give --root, or set HOME"))
    }

    /// The images of the store, and registries.
    pub fn images(&self, need: Need) -> Outcome<Images> {
        if need == Need::Unpack && !is_root() {
            let text = "only root can unpack and mount layers: their files have owners and devices, which the kernel takes from \
                        root alone";
            return Err(Failure::new(text).hint("run the command as root, as with sudo"));
        }
        let config = self.config()?;
        let root = self.root(&config)?;
        let options = gantry_store::Options {
            auto_collect: config.gc.policy(),
            on_wait: Some(Arc::new(|holder| terminal::tell(&format!("waiting for the store, which {holder} has\n")))),
            ..config.store.options()
        };
        let store = Store::open(&root, options)?;
        Ok(Images::new(store, client(config)?))
    }

    /// Whether images are worked on in the store itself, without a daemon: somebody named a directory for it.
    pub const fn direct(&self) -> bool {
        self.global.root.is_some()
    }

    /// What stood before the command.
    pub const fn global(&self) -> &Global {
        &self.global
    }

    /// Asks the daemon, which is started if it must be and may be.
    ///
    /// A command that only asks has nothing to clean up: a signal ends it as the system does.
    pub fn ask<T>(&self, work: impl AsyncFnOnce(&daemon::Client) -> Outcome<T>) -> Outcome<T> {
        self.talk(true, work)
    }

    /// The same, but a daemon that is not there is not started.
    pub fn ask_if_there<T>(&self, work: impl AsyncFnOnce(&daemon::Client) -> Outcome<T>) -> Outcome<T> {
        self.talk(false, work)
    }

    fn talk<T>(&self, start: bool, work: impl AsyncFnOnce(&daemon::Client) -> Outcome<T>) -> Outcome<T> {
        let runtime = Builder::new_current_thread().enable_all().build().of("start")?;
        let outcome = runtime.block_on(async {
            let client = daemon::connect(&self.global, start).await?;
            work(&client).await
        });
        // Nothing is left that has to end.
        runtime.shutdown_background();
        outcome
    }

    /// Registries alone.
    pub fn client(&self) -> Outcome<Client> {
        client(self.config()?)
    }
}

/// The way to registries that a configuration describes.
pub fn client(config: Config) -> Outcome<Client> {
    let logins: Arc<dyn Credentials> = match credentials() {
        Ok(config) => Arc::new(config),
        // A service may have no home directory, and pulls what everybody may have.
        Err(_) => Arc::new(Anonymous),
    };
    Ok(Client::new(config.registries, logins)?)
}

/// Where logins are kept.
pub fn credentials() -> Outcome<DockerConfig> {
    Ok(DockerConfig::of_user()?)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Seconds since 1970. The one clock of the commands.
#[allow(clippy::disallowed_methods)]
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// Nanoseconds since 1970, of the same clock.
#[allow(clippy::disallowed_methods)]
pub fn now_in_nanoseconds() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128)
}

/// Runs something asynchronous to its end, or until a signal.
pub fn run<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = work => outcome,
            ended = ended() => ended.and_then(|status| Err(Failure::Interrupted(status))),
        }
    });
    // Threads that still read or write find that nobody wants it, and end.
    runtime.shutdown_timeout(GRACE);
    outcome
}

/// A runtime of a few threads.
pub fn runtime() -> Outcome<Runtime> {
    let threads = std::thread::available_parallelism().map_or(2, NonZero::get).clamp(2, 4);
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().of("start threads")
}

/// Waits for a signal that asks for the end; gives the exit status that tells so.
pub async fn ended() -> Outcome<u8> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
    })
}
