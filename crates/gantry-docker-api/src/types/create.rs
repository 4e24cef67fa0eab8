//! The body of `/containers/create`.

use std::collections::BTreeMap;

use gantry_engine::request::{Config, CreateContainer, EndpointRequest, Network};
use gantry_model::image::Healthcheck;
use serde::Deserialize;
use serde_json::{Value, json};

use super::host::{HostConfig, network_mode};
use super::{Set, nullable, words};
use crate::error::{Failure, Outcome};

/// The body.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct CreateBody {
    #[serde(deserialize_with = "nullable")]
    hostname: String,
    #[serde(deserialize_with = "nullable")]
    domainname: String,
    #[serde(deserialize_with = "nullable")]
    user: String,
    #[serde(deserialize_with = "nullable")]
    exposed_ports: Set,
    #[serde(deserialize_with = "nullable")]
    tty: bool,
    #[serde(deserialize_with = "nullable")]
    open_stdin: bool,
    #[serde(deserialize_with = "nullable")]
    stdin_once: bool,
    #[serde(deserialize_with = "nullable")]
    env: Vec<String>,
    #[serde(deserialize_with = "words")]
    cmd: Option<Vec<String>>,
    healthcheck: Option<Health>,
    #[serde(deserialize_with = "nullable")]
    image: String,
    #[serde(deserialize_with = "nullable")]
    volumes: Set,
    #[serde(deserialize_with = "nullable")]
    working_dir: String,
    #[serde(deserialize_with = "words")]
    entrypoint: Option<Vec<String>>,
    #[serde(deserialize_with = "nullable")]
    network_disabled: bool,
    #[serde(deserialize_with = "nullable")]
    mac_address: String,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    stop_signal: String,
    stop_timeout: Option<i64>,
    #[serde(deserialize_with = "nullable")]
    host_config: HostConfig,
    #[serde(deserialize_with = "nullable")]
    networking_config: NetworkingConfig,
}

/// A health check.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Health {
    #[serde(deserialize_with = "nullable")]
    test: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    interval: i64,
    #[serde(deserialize_with = "nullable")]
    timeout: i64,
    #[serde(deserialize_with = "nullable")]
    start_period: i64,
    #[serde(deserialize_with = "nullable")]
    start_interval: i64,
    #[serde(deserialize_with = "nullable")]
    retries: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkingConfig {
    #[serde(deserialize_with = "nullable")]
    endpoints_config: BTreeMap<String, Option<EndpointConfig>>,
}

/// How a container is to be in a network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct EndpointConfig {
    #[serde(rename = "IPAMConfig", deserialize_with = "nullable")]
    ipam_config: IpamConfig,
    #[serde(deserialize_with = "nullable")]
    links: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    aliases: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    mac_address: String,
    #[serde(deserialize_with = "nullable")]
    driver_opts: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    gw_priority: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct IpamConfig {
    #[serde(rename = "IPv4Address", default, deserialize_with = "nullable")]
    ipv4: String,
    #[serde(rename = "IPv6Address", default, deserialize_with = "nullable")]
    ipv6: String,
}

impl EndpointConfig {
    /// As the engine has it.
    pub(crate) fn request(&self, network: &str) -> EndpointRequest {
        EndpointRequest {
            network: if network == "default" { "bridge".to_owned() } else { network.to_owned() },
            aliases: self.aliases.clone(),
            links: self.links.clone(),
            ipv4: self.ipam_config.ipv4.clone(),
            ipv6: self.ipam_config.ipv6.clone(),
            mac_address: self.mac_address.clone(),
            driver_options: self.driver_opts.clone(),
            gateway_priority: self.gw_priority,
        }
    }
}

impl Health {
    fn check(&self) -> Outcome<Healthcheck> {
        const MILLISECOND: i64 = 1_000_000;
        for (name, value) in [
            ("Interval", self.interval),
            ("Timeout", self.timeout),
            ("StartPeriod", self.start_period),
            ("StartInterval", self.start_interval),
        ] {
            if value != 0 && value < MILLISECOND {
                return Err(Failure::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
            }
        }
        if self.retries < 0 {
            return Err(Failure::invalid("Retries in Healthcheck cannot be negative"));
        }
        Ok(Healthcheck {
            test: self.test.clone(),
            interval: self.interval,
            timeout: self.timeout,
            start_period: self.start_period,
            start_interval: self.start_interval,
            retries: self.retries,
        })
    }
}

/// What is kept of a body as it came: how the container stands on its host, and which streams were to be attached, which
/// only clients care about.
pub(crate) fn origin(body: &Value) -> Value {
    let host = body.get("HostConfig").filter(|host| host.is_object()).cloned().unwrap_or_else(|| json!({}));
    let is_on = |key: &str| body.get(key).and_then(Value::as_bool).unwrap_or_default();
    let attached = ["AttachStdin", "AttachStdout", "AttachStderr"].map(is_on);
    json!({"HostConfig": host, "Attach": attached})
}

impl CreateBody {
    /// What is accepted, and yet may not be what was meant.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.host_config.warnings()
    }

    /// The image that was asked for.
    pub(crate) fn image(&self) -> &str {
        &self.image
    }

    /// Other containers that are to be known by names, `CONTAINER:ALIAS`.
    pub(crate) fn links(&self) -> &[String] {
        &self.host_config.links
    }

    /// As the engine has it, with what is kept of the body as it came.
    pub(crate) fn request(
        self,
        name: Option<String>,
        platform: Option<&str>,
        origin: &Value,
    ) -> Outcome<CreateContainer> {
        let mut exposed_ports = std::collections::BTreeSet::new();
        for port in self.exposed_ports.keys().chain(self.host_config.port_bindings.keys()) {
            exposed_ports
                .insert(port.parse().map_err(|_| Failure::invalid(format!("invalid port specification: {port:?}")))?);
        }
        let host = &self.host_config;
        let mode = if self.network_disabled { "none" } else { host.network_mode.as_str() };
        let endpoints = &self.networking_config.endpoints_config;
        let endpoints = endpoints.iter().map(|(name, config)| config.clone().unwrap_or_default().request(name));
        let network = Network {
            mode: network_mode(mode)?,
            endpoints: endpoints.collect(),
            ports: host.publish()?,
            publish_all: host.publish_all_ports,
            dns: host.dns.clone(),
            dns_search: host.dns_search.clone(),
            dns_options: host.dns_options.clone(),
            extra_hosts: host.extra_hosts.clone(),
            links: host.links.clone(),
            mac_address: self.mac_address.clone(),
        };
        let is_mac = |text: &str| {
            let parts: Vec<&str> = text.split([':', '-']).collect();
            parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && u8::from_str_radix(part, 16).is_ok())
        };
        for text in [&self.mac_address].into_iter().chain(network.endpoints.iter().map(|asked| &asked.mac_address)) {
            if !text.is_empty() && !is_mac(text) {
                return Err(Failure::invalid(format!("invalid MAC address: {text}")));
            }
        }
        let platform = platform
            .filter(|text| !text.is_empty())
            .map(|text| text.parse().map_err(|error| Failure::invalid(format!("invalid platform {text:?}: {error}"))));
        Ok(CreateContainer {
            name,
            image: self.image.clone(),
            platform: platform.transpose()?,
            host: host.host()?,
            network,
            sandbox: None,
            origin: origin.to_string(),
            config: Config {
                hostname: self.hostname,
                domainname: self.domainname,
                user: self.user,
                entrypoint: self.entrypoint,
                cmd: self.cmd,
                env: self.env,
                working_dir: self.working_dir,
                labels: self.labels,
                exposed_ports,
                volumes: self.volumes.into_keys().collect(),
                terminal: self.tty,
                stdin_open: self.open_stdin,
                stdin_once: self.stdin_once,
                stop_signal: self.stop_signal,
                stop_timeout: self.stop_timeout,
                health: self.healthcheck.as_ref().map(Health::check).transpose()?,
            },
        })
    }
}
