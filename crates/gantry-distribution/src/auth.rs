//! Proving to registries who we are: challenges, tokens, and their cache.
//!
//! Who gets a credential (these are Docker's rules, and a defence):
//! - A credential belongs to an endpoint's name. A mirror gets its own, never the registry's.
//! - Only answers of the endpoint itself are heeded: the challenge of a host that it redirected to, or of a foreign
//!   layer's URL, is an error and gets nothing.
//! - A token server may be on any host: the registry names it (`realm`), and gets the credential by that. It must be
//!   reached over https; over http only if the registry itself was.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use reqwest::Url;
use serde::Deserialize;

use crate::body::read_bounded;
use crate::challenge::{Challenge, challenges};
use crate::config::{Config, Endpoint, authority};
use crate::credential::{Credential, Credentials};
use crate::error::{Error, Result};
use crate::header::error_body;
use crate::retry::is_transient;
use crate::transport::Transport;

/// What one wants to do with what: `repository:library/nginx:pull`.
pub(crate) type Scopes = BTreeSet<String>;

/// The most of a token server's answer that is read, in bytes.
const MAX_ANSWER: u64 = 1 << 20;
/// The most tokens kept for one endpoint.
const MAX_TOKENS: usize = 1024;
/// The most scopes taken over from a challenge.
const MAX_SCOPES: usize = 16;
/// How long a credential is kept before its source is asked again: running a helper takes time.
const CREDENTIAL_AGE: Duration = Duration::from_secs(60);
/// The lifetime of tokens that tell none, by the specification, in seconds; and the longest that is believed.
const LIFETIME: u64 = 60;
const LONGEST: u64 = 24 * 3600;
const CLIENT_ID: &str = "gantry";

/// The state of authentication with all endpoints.
pub(crate) struct Auth {
    config: Arc<Config>,
    transport: Arc<Transport>,
    credentials: Arc<dyn Credentials>,
    /// Each is locked while a token is fetched, so that many layers wait for one token.
    hosts: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Host>>>>,
}

#[derive(Default)]
struct Host {
    method: Option<Method>,
    tokens: HashMap<String, Token>,
    credential: Option<(Instant, Option<Credential>)>,
}

/// How an endpoint wants to be convinced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

struct Token {
    header: HeaderValue,
    until: Instant,
}

/// What a token server gave.
pub(crate) struct Granted {
    pub(crate) token: String,
    pub(crate) refresh: Option<String>,
    lifetime: Duration,
}

impl Auth {
    pub(crate) fn new(config: Arc<Config>, transport: Arc<Transport>, credentials: Arc<dyn Credentials>) -> Self {
        Self { config, transport, credentials, hosts: Mutex::default() }
    }

    fn host(&self, name: &str) -> Arc<tokio::sync::Mutex<Host>> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.entry(name.to_owned()).or_default().clone()
    }

    /// The `Authorization` for a request, as far as an earlier challenge told how.
    pub(crate) async fn known(&self, endpoint: &Endpoint, scopes: &Scopes) -> Result<Option<HeaderValue>> {
        let host = self.host(&endpoint.name);
        let mut host = host.lock().await;
        self.provide(&mut host, endpoint, scopes, scopes).await
    }

    /// The `Authorization` that answers a challenge; none if there is nothing better than what was `sent`.
    pub(crate) async fn answer(
        &self,
        endpoint: &Endpoint,
        plain: bool,
        scopes: &Scopes,
        headers: &HeaderMap,
        sent: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>> {
        let Some((method, more)) = choose(&challenges(headers), plain, &endpoint.name)? else { return Ok(None) };
        let host = self.host(&endpoint.name);
        let mut host = host.lock().await;
        host.method = Some(method);
        let key = key(scopes);
        if host.tokens.get(&key).is_some_and(|token| Some(&token.header) == sent) {
            host.tokens.remove(&key);
        }
        if sent.is_some() {
            // It may have been changed by a login since.
            host.credential = None;
        }
        let wanted: Scopes = scopes.iter().cloned().chain(more).collect();
        let found = self.provide(&mut host, endpoint, scopes, &wanted).await?;
        Ok(found.filter(|found| Some(found) != sent))
    }

    /// The `Authorization` by the method that is known; tokens are kept under `scopes` and asked for `wanted`.
    async fn provide(
        &self,
        host: &mut Host,
        endpoint: &Endpoint,
        scopes: &Scopes,
        wanted: &Scopes,
    ) -> Result<Option<HeaderValue>> {
        let Some(method) = host.method.clone() else { return Ok(None) };
        let key = key(scopes);
        if method != Method::Basic
            && let Some(token) = host.tokens.get(&key).filter(|token| Instant::now() < token.until)
        {
            return Ok(Some(token.header.clone()));
        }
        let credential = self.credential(host, &endpoint.name).await?;
        if let Some(Credential::Bearer(token)) = &credential {
            return bearer(token, &endpoint.name).map(Some);
        }
        let Method::Bearer { realm, service } = method else {
            return credential
                .as_ref()
                .and_then(Credential::basic)
                .map(|text| secret(&text, &endpoint.name))
                .transpose();
        };
        let request =
            TokenRequest { endpoint, realm: &realm, service: service.as_deref(), scopes: wanted, offline: false };
        let granted = self.fetch(&request, credential.as_ref()).await?;
        let header = bearer(&granted.token, &endpoint.name)?;
        if host.tokens.len() >= MAX_TOKENS {
            host.tokens.clear();
        }
        // Renewed a little early, so that it does not expire on the way.
        let until = Instant::now() + granted.lifetime.mul_f32(0.9);
        host.tokens.insert(key, Token { header: header.clone(), until });
        Ok(Some(header))
    }

    async fn credential(&self, host: &mut Host, name: &str) -> Result<Option<Credential>> {
        if let Some((_, known)) = host.credential.as_ref().filter(|(since, _)| since.elapsed() < CREDENTIAL_AGE) {
            return Ok(known.clone());
        }
        let (source, registry) = (self.credentials.clone(), name.to_owned());
        let found = tokio::task::spawn_blocking(move || source.get(&registry)).await;
        let found = found.map_err(|error| Error::Config(format!("credentials for {name}: {error}")))??;
        host.credential = Some((Instant::now(), found.clone()));
        Ok(found)
    }

    /// Asks a token server for a token.
    pub(crate) async fn fetch(&self, request: &TokenRequest<'_>, credential: Option<&Credential>) -> Result<Granted> {
        let post = matches!(credential, Some(Credential::Identity { .. }));
        let mut form = post;
        let mut failed = 0;
        loop {
            let result = self.fetch_once(request, credential, form).await;
            match result {
                // Some token servers know one form only; without a password there is nothing else to try.
                Err(Error::Status { status: 404 | 405, .. })
                    if !form && matches!(credential, Some(Credential::Password { .. })) =>
                {
                    form = true;
                }
                Err(error) if error.is_transient() && failed + 1 < self.config.retry.attempts => {
                    failed += 1;
                    tracing::debug!(%error, failed, "token");
                    self.config.retry.wait(failed).await;
                }
                result => return result,
            }
        }
    }

    async fn fetch_once(
        &self,
        request: &TokenRequest<'_>,
        credential: Option<&Credential>,
        post: bool,
    ) -> Result<Granted> {
        let host = authority(request.realm);
        let client = self.transport.client(request.realm)?;
        let builder = if post {
            let form = request.form(credential);
            client.post(request.realm.clone()).form(&form)
        } else {
            let mut url = request.realm.clone();
            url.query_pairs_mut().extend_pairs(request.query(credential));
            let builder = client.get(url);
            match credential.and_then(Credential::basic) {
                Some(basic) => builder.header(AUTHORIZATION, secret(&basic, &host)?),
                None => builder,
            }
        };
        let seconds = self.config.answer_timeout;
        let late = || Error::Timeout { host: host.clone(), what: "a request for a token".to_owned(), seconds };
        let sent = tokio::time::timeout(Duration::from_secs(seconds), builder.send()).await.map_err(|_| late())?;
        let response = sent.map_err(|error| self.transport.unanswered(request.realm, &error))?;
        let status = response.status().as_u16();
        if let Some(error) = self.transport.refused_by_proxy(request.realm, status) {
            return Err(error);
        }
        let bytes =
            tokio::time::timeout(Duration::from_secs(seconds), read_bounded(response, MAX_ANSWER, &host, "a token"))
                .await
                .map_err(|_| late())??;
        granted(status, &bytes, request, &host)
    }
}

/// What is asked of a token server.
pub(crate) struct TokenRequest<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) realm: &'a Url,
    pub(crate) service: Option<&'a str>,
    pub(crate) scopes: &'a Scopes,
    /// Whether to ask for a refresh token too.
    pub(crate) offline: bool,
}

impl TokenRequest<'_> {
    /// The parameters of the GET form.
    fn query(&self, credential: Option<&Credential>) -> Vec<(&'static str, String)> {
        let mut pairs = vec![];
        if let Some(name) = credential.map(Credential::username).filter(|name| !name.is_empty()) {
            pairs.push(("account", name.to_owned()));
        }
        if self.offline {
            pairs.push(("client_id", CLIENT_ID.to_owned()));
            pairs.push(("offline_token", "true".to_owned()));
        }
        pairs.extend(self.service.map(|service| ("service", service.to_owned())));
        pairs.extend(self.scopes.iter().map(|scope| ("scope", scope.clone())));
        pairs
    }

    /// The parameters of the POST form (OAuth 2, as registries have it).
    fn form(&self, credential: Option<&Credential>) -> Vec<(&'static str, String)> {
        let mut pairs = vec![("client_id", CLIENT_ID.to_owned())];
        pairs.extend(self.service.map(|service| ("service", service.to_owned())));
        if !self.scopes.is_empty() {
            let scopes: Vec<_> = self.scopes.iter().map(String::as_str).collect();
            pairs.push(("scope", scopes.join(" ")));
        }
        if self.offline {
            pairs.push(("access_type", "offline".to_owned()));
        }
        match credential {
            Some(Credential::Identity { token, .. }) => {
                pairs.push(("grant_type", "refresh_token".to_owned()));
                pairs.push(("refresh_token", token.clone()));
            }
            Some(Credential::Password { username, password }) => {
                pairs.push(("grant_type", "password".to_owned()));
                pairs.push(("username", username.clone()));
                pairs.push(("password", password.clone()));
            }
            Some(Credential::Bearer(_)) | None => {}
        }
        pairs
    }
}

fn granted(status: u16, bytes: &[u8], request: &TokenRequest<'_>, host: &str) -> Result<Granted> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        refresh_token: Option<String>,
        expires_in: Option<f64>,
    }
    let what = "token".to_owned();
    if !(200..300).contains(&status) {
        let (code, message) = error_body(bytes);
        let (host, registry) = (host.to_owned(), request.endpoint.name.clone());
        return Err(match status {
            // OAuth's word for a credential that is no good is 400.
            401 | 403 => Error::Denied { host, registry, what, message },
            400 if !is_transient(status) => Error::Denied { host, registry, what, message },
            429 => Error::RateLimited { host, what, seconds: None },
            _ => Error::Status { host, what, status, code, message },
        });
    }
    let bad = |why: String| Error::protocol(host, format!("the token server's answer: {why}"));
    let answer: Answer = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    let token = [answer.token, answer.access_token].into_iter().flatten().find(|token| !token.is_empty());
    let seconds = answer.expires_in.filter(|s| *s >= 1.0).map_or(LIFETIME, |s| s as u64).min(LONGEST);
    Ok(Granted {
        token: token.ok_or_else(|| bad("there is no token in it".to_owned()))?,
        refresh: answer.refresh_token.filter(|token| !token.is_empty()),
        lifetime: Duration::from_secs(seconds),
    })
}

/// The best challenge that can be answered, and the scopes that it names.
pub(crate) fn choose(found: &[Challenge], plain: bool, host: &str) -> Result<Option<(Method, Vec<String>)>> {
    if let Some(bearer) = found.iter().find(|one| one.scheme == "bearer" && one.get("realm").is_some()) {
        let text = bearer.get("realm").unwrap_or_default();
        let bad = |why: &str| Error::protocol(host, format!("its token server {:?} {why}", crate::header::tidy(text)));
        let mut realm = Url::parse(text).map_err(|_| bad("is no URL"))?;
        match realm.scheme() {
            "https" => {}
            "http" if plain => {}
            "http" => return Err(bad("speaks plain http, and would get the credentials in the clear")),
            _ => return Err(bad("is neither http nor https")),
        }
        // Credentials in a URL would be sent along as ours; they cannot be set on some URLs, which have none then.
        let _ = realm.set_username("");
        let _ = realm.set_password(None);
        realm.set_fragment(None);
        let scopes = bearer.get("scope").unwrap_or_default().split_whitespace();
        let scopes = scopes.take(MAX_SCOPES).map(str::to_owned).collect();
        let service = bearer.get("service").map(str::to_owned);
        return Ok(Some((Method::Bearer { realm, service }, scopes)));
    }
    Ok(found.iter().any(|one| one.scheme == "basic").then_some((Method::Basic, vec![])))
}

fn key(scopes: &Scopes) -> String {
    scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

pub(crate) fn bearer(token: &str, host: &str) -> Result<HeaderValue> {
    secret(&format!("Bearer {token}"), host)
}

/// A header's value that is shown nowhere.
pub(crate) fn secret(text: &str, host: &str) -> Result<HeaderValue> {
    let bad = |_| Error::protocol(host, "the token or password holds characters that no header may hold");
    let mut value = HeaderValue::from_str(text).map_err(bad)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenge::parse;

    #[test]
    fn the_best_challenge_is_chosen() {
        let check = |header: &str, plain: bool, expect: &str| {
            let found = match choose(&parse(header), plain, "h.test") {
                Ok(Some((Method::Basic, _))) => "basic".to_owned(),
                Ok(Some((Method::Bearer { realm, service }, scopes))) => {
                    format!("{realm} {} {}", service.unwrap_or_default(), scopes.join("+"))
                }
                Ok(None) => "none".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(found.contains(expect), "{header}: {found}");
        };
        let bearer = "Bearer realm=\"https://a.test/t\",service=s,scope=\"a:b:pull c:d:push\"";
        check(bearer, false, "https://a.test/t s a:b:pull+c:d:push");
        check(&format!("Basic realm=x, {bearer}"), false, "https://a.test/t");
        check("Basic realm=x", false, "basic");
        check("Negotiate", false, "none");
        check("", false, "none");
        check("Bearer service=x", false, "none");
        check("Bearer realm=\"http://a.test/t\"", false, "in the clear");
        check("Bearer realm=\"http://a.test/t\"", true, "http://a.test/t");
        check("Bearer realm=\"file:///etc/passwd\"", true, "neither http nor https");
        check("Bearer realm=\"/token\"", true, "no URL");
        check("Bearer realm=\"https://u:p@a.test/t#f\"", true, "https://a.test/t ");
    }

    #[test]
    fn answers_of_token_servers() {
        let config = Config::default();
        let endpoint = config.origin("r.test").unwrap();
        let realm = Url::parse("https://t.test/").unwrap();
        let scopes = Scopes::new();
        let request =
            TokenRequest { endpoint: &endpoint, realm: &realm, service: None, scopes: &scopes, offline: false };
        let check = |status: u16, body: &str, expect: &str| {
            let found = match granted(status, body.as_bytes(), &request, "t.test") {
                Ok(g) => format!("{} {:?} {}", g.token, g.refresh, g.lifetime.as_secs()),
                Err(error) => error.to_string(),
            };
            assert!(found.contains(expect), "{status} {body}: {found}");
        };
        check(200, r#"{"token":"a"}"#, "a None 60");
        check(200, r#"{"access_token":"b","expires_in":300,"refresh_token":"r"}"#, "b Some(\"r\") 300");
        check(200, r#"{"token":"","access_token":"b","expires_in":-5}"#, "b None 60");
        check(200, r#"{"token":"a","expires_in":1e300}"#, "a None 86400");
        check(200, "{}", "no token in it");
        check(200, "<html>", "the token server's answer");
        check(
            401,
            r#"{"details":"wrong"}"#,
            "access denied: wrong; check the name, or log in with: gantry login r.test",
        );
        check(400, "", "access denied");
        check(429, "", "too many requests");
        check(503, "", "503");
    }
}
