//! How registries are reached: mirrors, certificates, plain http, and how patient to be.
//!
//! What a person writes (TOML) becomes a list of endpoints for each registry: its mirrors in their order, and the
//! registry itself last. Everything here is data to data.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::Url;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::retry::Retry;

/// The name of the entry that serves registries without one of their own.
const EVERY: &str = "*";
/// Where images of `docker.io` really are.
const DOCKER_HUB: &str = "registry-1.docker.io";
const MAX_MIRRORS: usize = 16;

/// How registries are reached.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// By registry: a host with an optional port, as in references and mirrors; `*` for those not named.
    pub registry: BTreeMap<String, Registry>,
    /// Proxies.
    pub proxy: Proxy,
    /// Directories laid out as Docker's `certs.d`: in `HOST[:PORT]/`, `*.crt` are authorities, and `NAME.cert` with
    /// `NAME.key` certifies this client.
    pub certificates: Vec<PathBuf>,
    /// Value of the `User-Agent` header.
    pub user_agent: String,
    /// When and how often a failed request is made again.
    pub retry: Retry,
    /// How long to wait for a connection, in seconds.
    pub connect_timeout: u64,
    /// How long to wait for the head of an answer, in seconds.
    pub answer_timeout: u64,
    /// How long no byte may come or go before a transfer counts as cut off, in seconds.
    pub stall_timeout: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            registry: BTreeMap::new(),
            proxy: Proxy::Environment,
            certificates: vec![],
            user_agent: concat!("gantry/", env!("CARGO_PKG_VERSION")).to_owned(),
            retry: Retry::default(),
            connect_timeout: 15,
            answer_timeout: 60,
            stall_timeout: 30,
        }
    }
}

/// How one registry, or one mirror, is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// Who is asked before it for what is pulled, in this order: `https://HOST[:PORT][/PATH]`, or without a scheme.
    pub mirrors: Vec<String>,
    /// Its certificate is not checked, and if it speaks no TLS it is spoken to in plain http.
    pub insecure: bool,
    /// It is spoken to in plain http only.
    pub plain_http: bool,
    /// Files with certificates (PEM) of authorities, beside those of the system.
    pub ca: Vec<PathBuf>,
    /// The file with this client's certificate (PEM).
    pub client_certificate: Option<PathBuf>,
    /// The file with its key (PEM).
    pub client_key: Option<PathBuf>,
}

/// Which proxies are used. Loopback addresses are always spoken to directly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proxy {
    /// Those that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name.
    #[default]
    Environment,
    /// None.
    None,
    /// This one for everything: `http://`, `https://` or `socks5://HOST:PORT`, with `NAME:PASSWORD@` before the host if it
    /// wants them.
    #[serde(untagged)]
    Fixed(String),
    /// One for each scheme.
    #[serde(untagged)]
    Each(Proxies),
}

/// Proxies by the scheme of what is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Proxies {
    /// For plain http.
    pub http: Option<String>,
    /// For https.
    pub https: Option<String>,
    /// Who is spoken to directly, as `NO_PROXY` has them: `NAME` with all below it, `.NAME` for what is below it alone,
    /// addresses and networks (`10.0.0.0/8`), each but the last with `:PORT` if only that is meant; `*` for all.
    pub no_proxy: Vec<String>,
}

impl Config {
    /// Reads a configuration from TOML. Fields that are not known are refused.
    pub fn from_toml(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|error| Error::Config(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Checks what can be checked without the network.
    pub(crate) fn check(&self) -> Result<()> {
        if self.retry.attempts == 0 || self.connect_timeout == 0 || self.answer_timeout == 0 || self.stall_timeout == 0
        {
            return Err(Error::Config("attempts and timeouts are at least 1".to_owned()));
        }
        // The environment is looked at when it is used: what it holds is not of this configuration.
        crate::proxy::Routes::new(&self.proxy, &|_| None).map_err(Error::Config)?;
        for (name, registry) in &self.registry {
            if registry.mirrors.len() > MAX_MIRRORS {
                return Err(Error::Config(format!("registry {name:?} has more than {MAX_MIRRORS} mirrors")));
            }
            if registry.client_certificate.is_some() != registry.client_key.is_some() {
                let text = format!("registry {name:?}: client_certificate and client_key go together");
                return Err(Error::Config(text));
            }
            let host = if name == EVERY { "example.com" } else { name };
            self.endpoints(host)?;
        }
        Ok(())
    }

    /// The settings for a host; those of `*` if it has none of its own.
    pub(crate) fn settings(&self, host: &str) -> Option<&Registry> {
        let name = if host == DOCKER_HUB { gantry_model::reference::DEFAULT_REGISTRY } else { host };
        self.registry.get(name).or_else(|| self.registry.get(EVERY))
    }

    /// Who is asked for what is pulled from a registry: its mirrors, and itself last.
    pub(crate) fn endpoints(&self, registry: &str) -> Result<Vec<Endpoint>> {
        let mut endpoints = vec![];
        for mirror in self.settings(registry).map(|s| &s.mirrors[..]).unwrap_or_default() {
            endpoints.push(self.mirror(registry, mirror)?);
        }
        endpoints.push(self.origin(registry)?);
        Ok(endpoints)
    }

    /// The registry itself.
    pub(crate) fn origin(&self, registry: &str) -> Result<Endpoint> {
        let host = if registry == gantry_model::reference::DEFAULT_REGISTRY { DOCKER_HUB } else { registry };
        let base = parse(&format!("https://{host}/v2/"))?;
        Ok(self.endpoint(registry, registry, base, None, true))
    }

    fn mirror(&self, registry: &str, text: &str) -> Result<Endpoint> {
        let (explicit, full) =
            if text.contains("://") { (true, text.to_owned()) } else { (false, format!("https://{text}")) };
        let mut base = parse(&full)?;
        let bad = |why: &str| Error::Config(format!("mirror {text:?}: {why}"));
        if base.query().is_some() || base.fragment().is_some() {
            return Err(bad("it has a query or a fragment"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(bad("it holds credentials; log in to the mirror instead"));
        }
        // A path that names the version itself is the API's root, as with containerd's override_path.
        let path = base.path().trim_end_matches('/').to_owned();
        let path = if path.split('/').any(|part| part == "v2") { format!("{path}/") } else { format!("{path}/v2/") };
        base.set_path(&path);
        let name = authority(&base);
        let plain = explicit.then(|| base.scheme() == "http");
        Ok(self.endpoint(registry, &name, base, plain, false))
    }

    fn endpoint(&self, registry: &str, name: &str, mut base: Url, plain: Option<bool>, origin: bool) -> Endpoint {
        let settings = self.settings(name);
        let insecure = settings.is_some_and(|s| s.insecure);
        // A registry on this machine needs no certificate, as with Docker, unless its authority is named.
        let local = is_loopback(&base) && settings.is_none_or(|s| s.ca.is_empty());
        let scheme = match plain {
            Some(true) => Scheme::Http,
            _ if settings.is_some_and(|s| s.plain_http) => Scheme::Http,
            None if insecure || local => Scheme::Either,
            _ => Scheme::Https,
        };
        if scheme == Scheme::Http {
            // Cannot fail between these two schemes; if it did, https would be spoken.
            let _ = base.set_scheme("http");
        }
        Endpoint { registry: registry.to_owned(), name: name.to_owned(), base, scheme, origin }
    }

    /// Whether the certificate of a host is taken as it is.
    pub(crate) fn unchecked(&self, url: &Url) -> bool {
        let settings = self.settings(&authority(url));
        settings.is_some_and(|s| s.insecure) || (is_loopback(url) && settings.is_none_or(|s| s.ca.is_empty()))
    }
}

/// What is spoken to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Https,
    Http,
    /// TLS without checks, and plain http if it speaks no TLS.
    Either,
}

/// One place that serves a registry's content.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The registry whose content it is.
    pub(crate) registry: String,
    /// The name that credentials and settings go by.
    pub(crate) name: String,
    /// The root of its API: ends in a slash.
    pub(crate) base: Url,
    pub(crate) scheme: Scheme,
    /// Whether it is the registry itself and no mirror.
    pub(crate) origin: bool,
}

fn parse(text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|error| Error::Config(format!("{text:?}: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(Error::Config(format!("{text:?}: a registry is http://HOST or https://HOST")));
    }
    Ok(url)
}

/// Host, and port if it is none that the scheme implies.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Whether it is on this machine: `localhost`, 127.0.0.0/8 or ::1.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        user_agent = "x/1"
        proxy = "none"
        [registry."docker.io"]
        mirrors = ["mirror.test", "http://[::1]:5000/", "https://h.test/cache/", "https://h.test:8443/v2/hub"]
        [registry."plain.test"]
        plain_http = true
        [registry."loose.test:1"]
        insecure = true
        [registry."localhost:7000"]
        ca = ["/ca.pem"]
        [registry."*"]
        mirrors = ["localhost:9"]
    "#;

    #[test]
    fn endpoints() {
        let config = Config::from_toml(TEXT).unwrap();
        let check = |registry: &str, expect: &[(&str, &str, Scheme)]| {
            let found = config.endpoints(registry).unwrap();
            let found: Vec<_> = found.iter().map(|e| (e.name.as_str(), e.base.as_str(), e.scheme)).collect();
            assert_eq!(found, expect, "{registry}");
        };
        check(
            "docker.io",
            &[
                ("mirror.test", "https://mirror.test/v2/", Scheme::Https),
                ("[::1]:5000", "http://[::1]:5000/v2/", Scheme::Http),
                ("h.test", "https://h.test/cache/v2/", Scheme::Https),
                ("h.test:8443", "https://h.test:8443/v2/hub/", Scheme::Https),
                ("docker.io", "https://registry-1.docker.io/v2/", Scheme::Https),
            ],
        );
        check("plain.test", &[("plain.test", "http://plain.test/v2/", Scheme::Http)]);
        check("loose.test:1", &[("loose.test:1", "https://loose.test:1/v2/", Scheme::Either)]);
        check("localhost:7000", &[("localhost:7000", "https://localhost:7000/v2/", Scheme::Https)]);
        check(
            "other.test",
            &[
                ("localhost:9", "https://localhost:9/v2/", Scheme::Either),
                ("other.test", "https://other.test/v2/", Scheme::Https),
            ],
        );
    }

    #[test]
    fn loopback() {
        let check = |text: &str, expect| assert_eq!(is_loopback(&Url::parse(text).unwrap()), expect, "{text}");
        check("https://localhost:5000/", true);
        check("https://127.8.9.1/", true);
        check("https://[::1]:1/", true);
        check("https://localhost.evil.test/", false);
        check("https://128.0.0.1/", false);
        check("https://127.0.0.1.test/", false);
    }

    #[test]
    fn refused() {
        for text in [
            "x = 1",
            "[registry.a]\nmirror = 1",
            "[registry.a]\nmirrors = ['ftp://x']",
            "[registry.a]\nmirrors = ['https://u:p@x']",
            "[registry.a]\nmirrors = ['https://x/?a']",
            "[registry.a]\nmirrors = ['http://']",
            "[registry.a]\nclient_key = '/x'",
            "[registry.'a b']",
            "[retry]\nattempts = 0",
            "stall_timeout = 0",
        ] {
            assert!(Config::from_toml(text).is_err(), "{text}");
        }
        assert_eq!(Config::from_toml("proxy = 'http://p:1'").unwrap().proxy, Proxy::Fixed("http://p:1".into()));
        assert_eq!(Config::from_toml("proxy = 'environment'").unwrap().proxy, Proxy::Environment);
    }
}
