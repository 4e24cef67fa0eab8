//! One request and its answer: where it goes, who we are there, redirects, and trying again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Response, Url};

use crate::auth::{Auth, Scopes};
use crate::body::read_bounded;
use crate::config::{Config, Endpoint, Scheme, authority};
use crate::error::{Error, Result};
use crate::header::{error_body, text};
use crate::retry::{is_transient, retry_after};
use crate::transport::Transport;

/// The most redirects of one request.
const MAX_HOPS: u32 = 10;
/// The most of an error's body that is read, in bytes.
const MAX_ERROR: u64 = 64 << 10;
/// How long a mirror that did not answer is left out.
const MIRROR_PAUSE: Duration = Duration::from_secs(30);

/// What is shared by all requests of a client.
pub(crate) struct Core {
    pub(crate) config: Arc<Config>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) auth: Auth,
    /// For endpoints that may speak either: whether it is plain http.
    plain: Mutex<HashMap<String, bool>>,
    /// Mirrors that did not answer, and when.
    down: Mutex<HashMap<String, Instant>>,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) scopes: Scopes,
    pub(crate) body: Option<Bytes>,
    /// How long the head of the answer may take, in seconds; 0 is what is configured.
    pub(crate) patience: u64,
    /// Whether it is sent as it is, without any credential but one in its headers: a challenge, or a
    /// redirect to another host, is then the answer.
    pub(crate) bare: bool,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// Under the root of the endpoint's API.
    Path(String),
    /// Where the registry said.
    Url(Url),
}

impl Ask {
    pub(crate) fn new(method: Method, path: impl Into<String>, scope: &str) -> Self {
        Self::to(method, Target::Path(path.into()), scope)
    }

    pub(crate) fn to(method: Method, target: Target, scope: &str) -> Self {
        let scopes = if scope.is_empty() { Scopes::new() } else { Scopes::from([scope.to_owned()]) };
        Self { method, target, query: vec![], headers: HeaderMap::new(), scopes, body: None, patience: 0, bare: false }
    }

    pub(crate) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(crate) fn header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// For errors: method and path, without the query, which may hold signatures.
    pub(crate) fn what(&self) -> String {
        let path = match &self.target {
            Target::Path(path) => path.as_str(),
            Target::Url(url) => url.path(),
        };
        format!("{} {path}", self.method)
    }

    fn url(&self, endpoint: &Endpoint, base: &Url) -> Url {
        let mut url = match &self.target {
            Target::Url(url) => url.clone(),
            Target::Path(path) => {
                let mut url = base.clone();
                url.set_path(&format!("{}{path}", base.path()));
                url
            }
        };
        let name_space = (!endpoint.origin).then(|| ("ns", endpoint.registry.clone()));
        if !self.query.is_empty() || name_space.is_some() {
            url.query_pairs_mut().extend_pairs(self.query.iter().cloned().chain(name_space));
        }
        url
    }
}

impl Core {
    pub(crate) fn new(config: Arc<Config>, transport: Arc<Transport>, auth: Auth) -> Self {
        Self { config, transport, auth, plain: Mutex::default(), down: Mutex::default() }
    }

    /// Who is asked for what is pulled: mirrors that are not known to be down, then the registry.
    pub(crate) fn pull_endpoints(&self, registry: &str) -> Result<Vec<Endpoint>> {
        let mut endpoints = self.config.endpoints(registry)?;
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        down.retain(|_, since| since.elapsed() < MIRROR_PAUSE);
        endpoints.retain(|endpoint| endpoint.origin || !down.contains_key(&endpoint.name));
        Ok(endpoints)
    }

    /// Notes why a mirror did not serve, and leaves it out for a while if it was not there at all.
    pub(crate) fn passed_over(&self, endpoint: &Endpoint, error: &Error) {
        tracing::debug!(mirror = endpoint.name, registry = endpoint.registry, %error, "mirror passed over");
        if matches!(error, Error::Unreachable { .. } | Error::Proxy { .. } | Error::Timeout { .. }) {
            let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
            down.insert(endpoint.name.clone(), Instant::now());
        }
    }

    /// Sends, and sends again as configured; a mirror gets one chance, since others follow. Anything but success is an
    /// error.
    pub(crate) async fn send(&self, endpoint: &Endpoint, ask: &Ask) -> Result<Response> {
        let attempts = if endpoint.origin { self.config.retry.attempts } else { 1 };
        let mut failed = 0;
        loop {
            let (error, pause) = match self.once(endpoint, ask).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => {
                    let pause = retry_after(response.headers());
                    (self.refused(endpoint, ask, response).await, pause)
                }
                Err(error) => (error, None),
            };
            failed += 1;
            if failed >= attempts || !error.is_transient() || !self.may_wait(pause) {
                return Err(error);
            }
            tracing::debug!(%error, failed, "trying again");
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => self.config.retry.wait(failed).await,
            }
        }
    }

    fn may_wait(&self, pause: Option<Duration>) -> bool {
        pause.is_none_or(|pause| pause.as_secs() <= self.config.retry.longest_asked)
    }

    /// One attempt: over what the endpoint is known to speak, or over https and then http.
    pub(crate) async fn once(&self, endpoint: &Endpoint, ask: &Ask) -> Result<Response> {
        if let Some(plain) = self.speaks(endpoint) {
            let result = self.walk(endpoint, ask, plain).await;
            if matches!(result, Err(Error::Unreachable { .. } | Error::Proxy { .. }))
                && endpoint.scheme == Scheme::Either
            {
                // It may have been started anew, speaking the other.
                self.plain.lock().unwrap_or_else(PoisonError::into_inner).remove(&endpoint.name);
            }
            return result;
        }
        let (plain, result) = match self.walk(endpoint, ask, false).await {
            // A proxy may let nobody through to this port, and yet ask for what is there.
            Err(Error::Unreachable { why, .. } | Error::Proxy { why, .. }) => {
                tracing::debug!(host = endpoint.name, why, "no TLS, trying plain http");
                (true, self.walk(endpoint, ask, true).await)
            }
            result => (false, result),
        };
        if result.is_ok() {
            self.plain.lock().unwrap_or_else(PoisonError::into_inner).insert(endpoint.name.clone(), plain);
        }
        result
    }

    /// Whether an endpoint speaks plain http; none if that must be found out.
    pub(crate) fn speaks(&self, endpoint: &Endpoint) -> Option<bool> {
        match endpoint.scheme {
            Scheme::Http => Some(true),
            Scheme::Https => Some(false),
            Scheme::Either => self.plain.lock().unwrap_or_else(PoisonError::into_inner).get(&endpoint.name).copied(),
        }
    }

    /// The root of the API with the scheme that is spoken.
    pub(crate) fn base(endpoint: &Endpoint, plain: bool) -> Url {
        let mut base = endpoint.base.clone();
        // Cannot fail between these two schemes.
        let _ = base.set_scheme(if plain { "http" } else { "https" });
        base
    }

    /// Follows redirects and answers challenges. Credentials go to the endpoint itself only.
    async fn walk(&self, endpoint: &Endpoint, ask: &Ask, plain: bool) -> Result<Response> {
        let base = Self::base(endpoint, plain);
        let mut url = ask.url(endpoint, &base);
        let mut authorization = if ask.bare { None } else { self.auth.known(endpoint, &ask.scopes).await? };
        let (mut hops, mut answered) = (0, 0);
        loop {
            let own = same_origin(&url, &base);
            let response = self.request(&url, ask, authorization.as_ref().filter(|_| own)).await?;
            if response.status() == StatusCode::UNAUTHORIZED && own && answered < 2 && !ask.bare {
                let found =
                    self.auth.answer(endpoint, plain, &ask.scopes, response.headers(), authorization.as_ref()).await?;
                if let Some(better) = found {
                    answered += 1;
                    authorization = Some(better);
                    // Read to its end, so that the connection can be used again.
                    let _ =
                        tokio::time::timeout(Duration::from_secs(5), read_bounded(response, MAX_ERROR, "", "")).await;
                    continue;
                }
            }
            let follow = matches!(ask.method, Method::GET | Method::HEAD) && is_redirect(response.status());
            if !follow {
                return Ok(response);
            }
            hops += 1;
            let loose = endpoint.scheme != Scheme::Https;
            let next = redirect(&url, response.headers(), loose).filter(|_| hops <= MAX_HOPS);
            let next = next.ok_or_else(|| {
                Error::protocol(&endpoint.name, format!("{}: redirects to no good place", ask.what()))
            })?;
            // What holds a credential of its own goes nowhere else with it.
            if ask.bare && !same_origin(&next, &base) {
                return Ok(response);
            }
            url = next;
        }
    }

    async fn request(&self, url: &Url, ask: &Ask, authorization: Option<&HeaderValue>) -> Result<Response> {
        let mut builder =
            self.transport.client(url)?.request(ask.method.clone(), url.clone()).headers(ask.headers.clone());
        if let Some(value) = authorization {
            builder = builder.header(AUTHORIZATION, value);
        }
        if let Some(body) = &ask.body {
            builder = builder.body(body.clone());
        }
        let seconds = if ask.patience == 0 { self.config.answer_timeout } else { ask.patience };
        match tokio::time::timeout(Duration::from_secs(seconds), builder.send()).await {
            Ok(sent) => sent.map_err(|error| self.transport.unanswered(url, &error)),
            Err(_) => Err(Error::Timeout { host: authority(url), what: ask.what(), seconds }),
        }
    }

    /// Sends a body that can be sent only once: no second attempt, no redirect, no fallback.
    pub(crate) async fn send_stream(&self, endpoint: &Endpoint, ask: &Ask, body: reqwest::Body) -> Result<Response> {
        let plain = self.speaks(endpoint).unwrap_or(false);
        let base = Self::base(endpoint, plain);
        let url = ask.url(endpoint, &base);
        let mut builder =
            self.transport.client(&url)?.request(ask.method.clone(), url.clone()).headers(ask.headers.clone());
        if same_origin(&url, &base)
            && let Some(value) = self.auth.known(endpoint, &ask.scopes).await?
        {
            builder = builder.header(AUTHORIZATION, value);
        }
        let response = builder.body(body).send().await.map_err(|error| self.transport.unanswered(&url, &error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        if response.status() == StatusCode::UNAUTHORIZED && same_origin(&url, &base) {
            // The token was refused; the next attempt finds a new one in its place.
            let headers = response.headers();
            let sent = self.auth.known(endpoint, &ask.scopes).await?;
            self.auth.answer(endpoint, plain, &ask.scopes, headers, sent.as_ref()).await?;
        }
        Err(self.refused(endpoint, ask, response).await)
    }

    /// The error that an answer stands for.
    pub(crate) async fn refused(&self, endpoint: &Endpoint, ask: &Ask, response: Response) -> Error {
        let (host, what, status) = (authority(response.url()), ask.what(), response.status().as_u16());
        if let Some(error) = self.transport.refused_by_proxy(response.url(), status) {
            return error;
        }
        let asked = retry_after(response.headers()).map(|pause| pause.as_secs());
        let body = tokio::time::timeout(Duration::from_secs(10), read_bounded(response, MAX_ERROR, &host, &what)).await;
        let (code, message) = error_body(body.ok().and_then(Result::ok).as_deref().unwrap_or_default());
        match status {
            401 => Error::Denied { host, registry: endpoint.name.clone(), what, message },
            429 => Error::RateLimited {
                host,
                what,
                seconds: asked.filter(|_| !self.may_wait(asked.map(Duration::from_secs))),
            },
            status => Error::Status { host, what, status, code, message },
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Whether two URLs have the same scheme, host and port.
pub(crate) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Where a redirect leads: to http or https, and from https to http only if `loose`.
fn redirect(from: &Url, headers: &HeaderMap, loose: bool) -> Option<Url> {
    let mut to = from.join(text(headers, LOCATION)?).ok()?;
    let good = match to.scheme() {
        "https" => true,
        "http" => loose || from.scheme() == "http",
        _ => false,
    };
    // Credentials in a URL are nobody's we know.
    let _ = to.set_username("");
    let _ = to.set_password(None);
    good.then_some(to)
}

/// Whether the status of an error says that another endpoint, or later, is worth a try.
pub(crate) fn worth_retrying(error: &Error) -> bool {
    error.status().is_some_and(is_transient) || error.is_transient()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects() {
        let check = |from: &str, location: &str, loose: bool, expect: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, location.parse().unwrap());
            let found = redirect(&Url::parse(from).unwrap(), &headers, loose);
            assert_eq!(found.as_ref().map(Url::as_str), expect, "{from} {location}");
        };
        check("https://a.test/v2/x", "/y?z=1", false, Some("https://a.test/y?z=1"));
        check("https://a.test/v2/x", "https://b.test/y", false, Some("https://b.test/y"));
        check("https://a.test/v2/x", "http://b.test/y", false, None);
        check("https://a.test/v2/x", "http://b.test/y", true, Some("http://b.test/y"));
        check("http://a.test/v2/x", "http://b.test/y", false, Some("http://b.test/y"));
        check("https://a.test/v2/x", "file:///etc/passwd", true, None);
        check("https://a.test/v2/x", "https://u:p@b.test/y", false, Some("https://b.test/y"));
    }

    #[test]
    fn origins() {
        let check = |one: &str, other: &str, expect| {
            assert_eq!(same_origin(&Url::parse(one).unwrap(), &Url::parse(other).unwrap()), expect, "{one} {other}");
        };
        check("https://a.test/x", "https://a.test:443/y", true);
        check("https://a.test/x", "https://a.test:444/y", false);
        check("https://a.test/x", "http://a.test:443/y", false);
        check("https://a.test/x", "https://b.a.test/y", false);
        check("https://A.test/x", "https://a.test/y", true);
    }

    #[test]
    fn urls() {
        let config = Config::from_toml("[registry.'docker.io']\nmirrors = ['http://m.test/p']").unwrap();
        let check = |ask: &Ask, expect: [&str; 2]| {
            let found: Vec<_> =
                config.endpoints("docker.io").unwrap().iter().map(|e| ask.url(e, &e.base).to_string()).collect();
            assert_eq!(found, expect);
        };
        check(
            &Ask::new(Method::GET, "library/x/tags/list", "").query("n", "5"),
            [
                "http://m.test/p/v2/library/x/tags/list?n=5&ns=docker.io",
                "https://registry-1.docker.io/v2/library/x/tags/list?n=5",
            ],
        );
        check(
            &Ask::new(Method::GET, "a/b/manifests/x", ""),
            ["http://m.test/p/v2/a/b/manifests/x?ns=docker.io", "https://registry-1.docker.io/v2/a/b/manifests/x"],
        );
    }
}
