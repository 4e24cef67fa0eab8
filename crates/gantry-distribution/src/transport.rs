//! Connections: one pool for each way of connecting, made when it is first needed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::Url;

use crate::config::{Config, authority, is_loopback};
use crate::error::{Error, Result, chain};
use crate::proxy::{Routes, Shown};
use crate::resolver::Resolver;
use crate::tls::{self, Identity};

/// Bytes in flight that one stream, and one connection, of HTTP/2 may have: a fast line far away needs that many.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// What a proxy wants.
const CREDENTIALS: &str = "it wants a name and password, or other ones: http://NAME:PASSWORD@HOST:PORT";

/// Makes and keeps the HTTP clients.
pub(crate) struct Transport {
    config: Arc<Config>,
    resolver: Arc<Resolver>,
    /// Worked out when the first connection is made; an error is that of all of them.
    routes: OnceLock<Result<Routes, String>>,
    clients: Mutex<HashMap<String, reqwest::Client>>,
}

impl Transport {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        let resolver = Arc::new(Resolver::new(PathBuf::from("/etc/hosts")));
        Self { config, resolver, routes: OnceLock::new(), clients: Mutex::default() }
    }

    /// The client for a URL's host. Hosts without certificates of their own share one, so that a client certificate goes
    /// to no host but its own.
    pub(crate) fn client(&self, url: &Url) -> Result<reqwest::Client> {
        let local = is_loopback(url);
        let secure = url.scheme() == "https";
        let identity = if secure { self.identity(url)? } else { Identity::default() };
        let special = identity != Identity::default();
        let key = if special { authority(url) } else { format!("/{secure}/{local}") };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = self.build(&identity, secure && !identity.unchecked, local)?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn identity(&self, url: &Url) -> Result<Identity> {
        let host = authority(url);
        let mut identity = Identity { unchecked: self.config.unchecked(url), ..Identity::default() };
        if let Some(settings) = self.config.settings(&host) {
            identity.authorities.clone_from(&settings.ca);
            identity.client = settings.client_certificate.clone().zip(settings.client_key.clone());
        }
        for directory in &self.config.certificates {
            identity.add_directory(directory, &host)?;
        }
        // An authority that is named is the one that counts, wherever it is named.
        if !identity.authorities.is_empty() && self.config.settings(&host).is_none_or(|s| !s.insecure) {
            identity.unchecked = false;
        }
        Ok(identity)
    }

    fn build(&self, identity: &Identity, system: bool, local: bool) -> Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder()
            .use_preconfigured_tls(tls::config(identity, system)?)
            .dns_resolver(self.resolver.clone())
            .user_agent(&self.config.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(Duration::from_secs(self.config.connect_timeout))
            .pool_idle_timeout(Duration::from_secs(60))
            .tcp_keepalive(Duration::from_secs(30))
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(20));
        builder = builder.no_proxy();
        if !local {
            let routes = self.routes()?.clone();
            builder = builder.proxy(reqwest::Proxy::custom(move |url| routes.of(url).cloned()));
        }
        builder.build().map_err(|error| Error::Config(format!("HTTP client: {}", chain(&error))))
    }
    fn routes(&self) -> Result<&Routes> {
        let make = || Routes::new(&self.config.proxy, &|name| std::env::var(name).ok());
        self.routes.get_or_init(make).as_ref().map_err(|text| Error::Environment(text.clone()))
    }

    /// What it means that a request for a URL was not answered.
    pub(crate) fn unanswered(&self, url: &Url, error: &reqwest::Error) -> Error {
        let host = authority(url);
        let mut why = chain(error);
        // reqwest begins with the whole URL, whose query may hold signatures.
        if let Some((_, cause)) = why.split_once("): ") {
            why = cause.to_owned();
        }
        // What the library calls it says nothing to people.
        for noise in ["client error (Connect): ", "tcp connect error: ", "dns error: "] {
            why = why.replace(noise, "");
        }
        if why.contains("UnknownIssuer") {
            why.push_str(tls::hint());
        }
        let Some(proxy) = self.proxy(url) else { return Error::Unreachable { host, why } };
        let refused = why.split_once("tunnel error: ").map(|(_, why)| why);
        match refused {
            Some(why) if why.starts_with("unsuccessful") => {
                Error::Proxy { host, proxy, why: "it refuses to connect there".to_owned() }
            }
            Some(why) if why.starts_with("proxy auth") => Error::Proxy { host, proxy, why: CREDENTIALS.to_owned() },
            _ => Error::Unreachable { host, why: format!("through the proxy {proxy}: {why}") },
        }
    }

    /// The error that an answer stands for if it is that of a proxy and not of whom was asked.
    pub(crate) fn refused_by_proxy(&self, url: &Url, status: u16) -> Option<Error> {
        let proxy = self.proxy(url).filter(|_| status == 407)?;
        Some(Error::Proxy { host: authority(url), proxy, why: CREDENTIALS.to_owned() })
    }

    /// The proxy that a URL is asked through, for people.
    fn proxy(&self, url: &Url) -> Option<String> {
        let routes = self.routes().ok().filter(|_| !is_loopback(url))?;
        routes.of(url).map(|proxy| Shown(proxy).to_string())
    }
}
