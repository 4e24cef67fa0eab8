//! Who is asking, and what they may do.

mod htpasswd;
mod token;

use std::sync::Arc;

use base64::Engine as _;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};

use self::htpasswd::Passwords;
pub(crate) use self::token::Grant;
use self::token::{Claims, Signer};
use crate::api::{Body, Code, Query, Refusal, Response};
use crate::config::{self, Action, Config, Rule, Scheme};
use crate::error::Result;
use crate::pattern::Pattern;
use crate::storage::Storage;

/// The user name of those who give none, in rules.
const ANONYMOUS: &str = "anonymous";
const SERVICE: &str = "gantry";
const ACTIONS: [(Action, &str); 3] = [(Action::Pull, "pull"), (Action::Push, "push"), (Action::Delete, "delete")];

/// Who is asking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Their name; none: they gave none.
    pub name: Option<String>,
    /// What a token allows; none: they came without one, and the rules say.
    grants: Option<Vec<Grant>>,
}

/// Passwords, tokens and rules.
pub(crate) struct Auth {
    passwords: Arc<Passwords>,
    signer: Signer,
    scheme: Scheme,
    ttl: u64,
    rules: Vec<Rule>,
    external: Option<String>,
    secure: bool,
}

impl Auth {
    /// Reads the password file, and reads or makes the key of tokens.
    pub async fn open(auth: &config::Auth, config: &Config, storage: &Storage) -> Result<Self> {
        let mut rules = auth.rules.clone();
        if rules.is_empty() {
            let actions = ACTIONS.iter().map(|(action, _)| *action).collect();
            rules.push(Rule { users: vec!["*".to_owned()], repositories: vec![Pattern::all()], actions });
        }
        Ok(Self {
            passwords: Arc::new(Passwords::open(&auth.htpasswd)?),
            signer: Signer::open(storage).await?,
            scheme: auth.scheme,
            ttl: auth.token_ttl.0.max(60),
            rules,
            external: config.external_url.as_deref().map(|url| url.trim_end_matches('/').to_owned()),
            secure: config.tls.is_some(),
        })
    }

    /// Who is asking. Wrong credentials are refused, also where none are needed.
    pub async fn caller(&self, headers: &HeaderMap, now: i64) -> Result<Caller, Refusal> {
        let Some(value) = headers.get(AUTHORIZATION) else { return Ok(Caller::default()) };
        let refuse = |message: &str| self.challenge(headers, None, "", message);
        let (kind, rest) = value
            .to_str()
            .ok()
            .and_then(|v| v.split_once(' '))
            .ok_or_else(|| refuse("credentials of no known form"))?;
        if kind.eq_ignore_ascii_case("basic") {
            let (name, password) = decode(rest.trim()).ok_or_else(|| refuse("credentials of no known form"))?;
            return if self.passwords.verify(&name, &password, now).await {
                Ok(Caller { name: Some(name), grants: None })
            } else {
                Err(refuse("wrong user name or password"))
            };
        }
        if !kind.eq_ignore_ascii_case("bearer") {
            return Err(refuse("credentials of no known form"));
        }
        let claims = self
            .signer
            .verify(rest.trim(), now)
            .map_err(|why| self.challenge(headers, None, r#",error="invalid_token""#, why))?;
        Ok(Caller { name: Some(claims.sub).filter(|s| !s.is_empty()), grants: Some(claims.access) })
    }

    /// Whether somebody may do something.
    pub fn may(&self, caller: &Caller, repository: &str, action: Action) -> bool {
        match &caller.grants {
            Some(grants) => grants.iter().any(|grant| grant.allows(repository, word(action))),
            None => self.ruled(caller.name.as_deref(), repository, action),
        }
    }

    /// Whether the rules let somebody read a repository's name in a list.
    pub fn may_see(&self, caller: &Caller, repository: &str) -> bool {
        self.ruled(caller.name.as_deref(), repository, Action::Pull)
    }

    fn ruled(&self, name: Option<&str>, repository: &str, action: Action) -> bool {
        let named = |rule: &Rule| match name {
            Some(name) => rule.users.iter().any(|u| u == "*" || (u == name && u != ANONYMOUS)),
            None => rule.users.iter().any(|u| u == ANONYMOUS),
        };
        let user = name.unwrap_or_default();
        let about = |rule: &Rule| rule.repositories.iter().any(|p| p.matches_for(repository, user));
        // Whatever is open to everybody is open to those with a name as well.
        let open = |rule: &Rule| rule.users.iter().any(|u| u == ANONYMOUS);
        self.rules.iter().any(|rule| rule.actions.contains(&action) && (named(rule) || open(rule)) && about(rule))
    }

    /// Refuses what somebody may not do: credentials could help, or nothing does.
    pub fn refuse(&self, caller: &Caller, headers: &HeaderMap, repository: &str, action: Action) -> Refusal {
        // A token that allows something else can be exchanged for one that allows this.
        if caller.name.is_none() || (caller.grants.is_some() && self.ruled(caller.name.as_deref(), repository, action))
        {
            return self.challenge(headers, Some((repository, action)), "", "credentials are needed for this");
        }
        let name = caller.name.as_deref().unwrap_or(ANONYMOUS);
        Refusal::new(Code::Denied, format!("{name} has no right to {} in {repository}", word(action)))
    }

    /// Asks for credentials.
    pub fn challenge(&self, headers: &HeaderMap, scope: Option<(&str, Action)>, extra: &str, message: &str) -> Refusal {
        let text = match self.scheme {
            Scheme::Basic => r#"Basic realm="gantry",charset="UTF-8""#.to_owned(),
            Scheme::Token => {
                let Some(base) = self.base(headers) else {
                    let why = "the request does not say which host it is for, and tokens are given there: send Host";
                    return Refusal::new(Code::Unsupported, why).with_status(StatusCode::BAD_REQUEST);
                };
                let scope = scope.map(|(repository, action)| {
                    // Whoever pushes also looks at what is there.
                    let words = if action == Action::Push { "pull,push" } else { word(action) };
                    format!(r#",scope="repository:{repository}:{words}""#)
                });
                let scope = scope.unwrap_or_default();
                format!(r#"Bearer realm="{base}/token",service="{SERVICE}"{scope}{extra}"#)
            }
        };
        Refusal::new(Code::Unauthorized, message).with_header(WWW_AUTHENTICATE, &text)
    }

    /// The URL that the client reached the registry by; none if it does not say, or says what is no host. A guess would
    /// send its password to whoever has that name.
    fn base(&self, headers: &HeaderMap) -> Option<String> {
        if let Some(external) = &self.external {
            return Some(external.clone());
        }
        let host = headers.get(http::header::HOST).and_then(|h| h.to_str().ok())?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b);
        let named = (1..=255).contains(&host.len()) && host.bytes().all(plain);
        named.then(|| format!("{}://{host}", if self.secure { "https" } else { "http" }))
    }

    /// Gives a token for what is asked, as far as it is allowed.
    pub async fn token(&self, headers: &HeaderMap, query: &Query, now: i64) -> Result<Response, Refusal> {
        let caller = self.caller(headers, now).await.map_err(|refusal| {
            // Here a password is what helps, whatever the scheme.
            let help = refusal.status == StatusCode::UNAUTHORIZED;
            if help { refusal.with_header(WWW_AUTHENTICATE, r#"Basic realm="gantry""#) } else { refusal }
        })?;
        if caller.grants.is_some() {
            return Err(Refusal::new(Code::Denied, "a token is given for a password, not for a token"));
        }
        let mut access = vec![];
        for scope in query.all("scope").flat_map(|s| s.split(' ')).take(64) {
            let Some((kind, rest)) = scope.split_once(':') else { continue };
            let Some((name, words)) = rest.rsplit_once(':') else { continue };
            if kind != "repository" || gantry_model::reference::check_repository(name).is_err() {
                continue;
            }
            let asked = |text: &str| words.split(',').any(|w| w == text || w == "*");
            let allowed = ACTIONS.iter().filter(|(action, text)| asked(text) && self.may(&caller, name, *action));
            let actions: Vec<String> = allowed.map(|(_, text)| (*text).to_owned()).collect();
            if !actions.is_empty() {
                access.push(Grant { kind: kind.to_owned(), name: name.to_owned(), actions });
            }
        }
        let ttl = self.ttl as i64;
        let claims = Claims { sub: caller.name.unwrap_or_default(), iat: now, exp: now + ttl, access };
        let token = self.signer.sign(&claims)?;
        let answer = serde_json::json!({"token": token, "access_token": token, "expires_in": ttl, "issued_at": crate::api::rfc3339(now)});
        let mut response = Response::new(Body::full(answer.to_string()));
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, json);
        response.headers_mut().insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

fn word(action: Action) -> &'static str {
    match action {
        Action::Pull => "pull",
        Action::Push => "push",
        Action::Delete => "delete",
    }
}

fn decode(text: &str) -> Option<(String, String)> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}
