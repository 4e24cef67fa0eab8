//! Connections: one pool for each way of connecting, made when it is first needed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;

use crate::config::{Config, Proxy, authority, is_loopback};
use crate::error::{Error, Result, chain};
use crate::resolver::Resolver;
use crate::tls::{self, Identity};

/// Bytes in flight that one stream, and one connection, of HTTP/2 may have: a fast line far away needs that many.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// Makes and keeps the HTTP clients.
pub(crate) struct Transport {
    config: Arc<Config>,
    resolver: Arc<Resolver>,
    clients: Mutex<HashMap<String, reqwest::Client>>,
}

impl Transport {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        let resolver = Arc::new(Resolver::new(PathBuf::from("/etc/hosts")));
        Self { config, resolver, clients: Mutex::default() }
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
        builder = match &self.config.proxy {
            _ if local => builder.no_proxy(),
            Proxy::Environment => builder,
            Proxy::None => builder.no_proxy(),
            Proxy::Fixed(url) => {
                let bad = |error| Error::Config(format!("proxy {url:?}: {}", chain(&error)));
                builder.proxy(reqwest::Proxy::all(url).map_err(bad)?)
            }
        };
        builder.build().map_err(|error| Error::Config(format!("HTTP client: {}", chain(&error))))
    }
}
