//! `[daemon]` of the configuration file, and what is refused of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::cli::Level;
use crate::cli::daemon::LogFormat;
use crate::client::host::Host;
use crate::failure::{Failure, Of, Outcome};

/// Where the daemon listens if nothing is said.
pub const SOCKET: &str = "/run/gantry/gantry.sock";
/// What is of no use after a start of the machine.
const RUN: &str = "/run/gantry";

/// `[daemon]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DaemonConfig {
    /// Directory for sockets, mount points and whatever else ends with the machine's run.
    pub run: PathBuf,
    /// The socket that clients connect to.
    pub socket: PathBuf,
    /// The group whose members may connect, besides root.
    pub group: Option<String>,
    /// Where it listens besides: `unix:///PATH`, and with `tls` also `tcp://ADDRESS:PORT`.
    pub listen: Vec<String>,
    /// How clients of TCP are known, and what they know the daemon by.
    pub tls: Option<TlsConfig>,
    /// Where Prometheus reads numbers; nowhere if nothing is said.
    pub metrics: Option<SocketAddr>,
    /// Whether that needs a certificate, as the API over TCP does.
    pub metrics_tls: bool,
    /// Whether that may be beyond loopback without TLS.
    pub metrics_insecure_open: bool,
    /// The program `gantry-oci`; it is looked for beside this one otherwise.
    pub runtime: Option<PathBuf>,
    /// The cgroup that containers get theirs in.
    pub cgroup_parent: String,
    /// Whether systemd makes the cgroups.
    pub systemd_cgroups: bool,
    /// What names of network interfaces begin with.
    pub network_prefix: String,
    /// Whether clients are told that what Docker calls experimental may be asked for.
    pub experimental: bool,
    /// The log driver of containers that do not say.
    pub log_driver: String,
    /// Its options.
    pub log_options: BTreeMap<String, String>,
    /// What the daemon says of itself.
    pub log_level: Level,
    /// In which form.
    pub log_format: LogFormat,
    /// A registry that runs in the daemon, with the keys of a registry's own file.
    pub registry: Option<gantry_registry::Config>,
}

/// `[daemon.tls]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file of the authority whose clients may do everything.
    pub ca: PathBuf,
    /// PEM file of the daemon's certificate and its chain.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
}

impl Default for DaemonConfig {
    fn default() -> Self {
        Self {
            run: RUN.into(),
            socket: SOCKET.into(),
            group: None,
            listen: Vec::new(),
            tls: None,
            metrics: None,
            metrics_tls: false,
            metrics_insecure_open: false,
            runtime: None,
            cgroup_parent: "gantry".to_owned(),
            systemd_cgroups: false,
            network_prefix: "gty".to_owned(),
            experimental: false,
            log_driver: String::new(),
            log_options: BTreeMap::new(),
            log_level: Level::Info,
            log_format: LogFormat::Text,
            registry: None,
        }
    }
}

impl DaemonConfig {
    /// Where it listens besides the socket.
    ///
    /// # Errors
    /// An address is none, or is of TCP while it is not said how clients are known.
    pub fn places(&self) -> Outcome<Vec<Host>> {
        let places: Result<Vec<_>, _> = self.listen.iter().map(|text| Host::parse(text, true)).collect();
        let places = places.map_err(|error| Failure::Usage(error.to_string()))?;
        if self.tls.is_none()
            && let Some(open) = places.iter().find(|place| matches!(place, Host::Tcp(..)))
        {
            return Err(without_tls(&open.to_string()));
        }
        Ok(places)
    }

    /// Refuses what would open this machine to others, and what contradicts itself.
    pub fn check(&self) -> Outcome {
        self.places()?;
        if let Some(address) = self.metrics {
            if self.metrics_tls && self.tls.is_none() {
                return Err(
                    Failure::new("metrics_tls needs certificates").hint("give ca, certificate and key in [daemon.tls]")
                );
            }
            if !address.ip().is_loopback() && !self.metrics_tls && !self.metrics_insecure_open {
                let text = format!("metrics at {address} would tell everybody which containers run here");
                let hint = "use an address of loopback, or say metrics_tls = true, or metrics_insecure_open = true if that is meant";
                return Err(Failure::new(text).hint(hint));
            }
        }
        if let Some(registry) = &self.registry {
            registry.check().of("[daemon.registry]")?;
        }
        Ok(())
    }
}

/// What is said when the API is to be served over TCP to anybody.
pub fn without_tls(place: &str) -> Failure {
    let text = format!(
        "{place}: who can use the API can do everything on this machine, so over TCP it is served by mutual TLS alone"
    );
    let hint = "give --tls-ca (the authority whose clients may come), --tls-cert and --tls-key, or ca, certificate and key in \
                [daemon.tls]";
    Failure::new(text).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> DaemonConfig {
        toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_is_refused() {
        let check = |text: &str, expect: &str| {
            let said = parsed(text).check().err().map(|failure| failure.text()).unwrap_or_default();
            assert!(if expect.is_empty() { said.is_empty() } else { said.contains(expect) }, "{text}: {said}");
        };
        let tls = "[tls]\nca = '/a'\ncertificate = '/b'\nkey = '/c'";
        check("", "");
        check("listen = ['unix:///run/x.sock']", "");
        check("listen = ['tcp://127.0.0.1:2376']", "by mutual TLS alone");
        check(&format!("listen = ['tcp://127.0.0.1:2376']\n{tls}"), "");
        check("listen = ['ssh://x']", "there is no ssh://");
        check("metrics = '127.0.0.1:9323'", "");
        check("metrics = '0.0.0.0:9323'", "would tell everybody");
        check("metrics = '0.0.0.0:9323'\nmetrics_insecure_open = true", "");
        check("metrics = '0.0.0.0:9323'\nmetrics_tls = true", "needs certificates");
        check(&format!("metrics = '0.0.0.0:9323'\nmetrics_tls = true\n{tls}"), "");
        check("[registry]\nlisten = '0.0.0.0:5000'", "[daemon.registry]");
        check("[registry]\nlisten = '127.0.0.1:5000'", "");
    }

    #[test]
    fn keys() {
        let config = parsed("log_level = 'debug'\nlog_format = 'json'\n[registry.storage]\nroot = '/r'");
        assert_eq!((config.log_level, config.log_format), (Level::Debug, LogFormat::Json));
        assert_eq!(config.registry.unwrap().storage.root, PathBuf::from("/r"));
        assert!(toml::from_str::<DaemonConfig>("[tls]\nca = '/a'").is_err());
    }
}
