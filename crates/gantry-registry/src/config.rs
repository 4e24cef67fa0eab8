//! The configuration of a registry, as its file (TOML) and the command line give it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::pattern::Pattern;
use crate::units::{Size, Span};

/// Everything that can be configured. Every field has a default; the default listens on loopback only.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens: `127.0.0.1:5000`. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where operators reach `/metrics`, `/healthz`, `/readyz` and `/gantry/`; none: only health, on `listen`.
    pub admin_listen: Option<SocketAddr>,
    /// How clients reach it, if not by the address they say in `Host`: `https://registry.example.org`.
    pub external_url: Option<String>,
    /// Whether it may listen beyond loopback without TLS or without authentication. What is configured of them stays
    /// in force.
    pub insecure_open: bool,
    /// Where content is kept.
    pub storage: Storage,
    /// Certificates; none: plain HTTP.
    pub tls: Option<Tls>,
    /// Who may do what; none: everybody who reaches it may do everything.
    pub auth: Option<Auth>,
    /// Bounds on what clients may ask for.
    pub limits: Limits,
    /// Collection of content that nothing needs.
    pub gc: Gc,
    /// Removal of images by rules.
    pub retention: Retention,
    /// Tags that never move once they are set.
    pub immutable: Vec<Immutable>,
    /// How many bytes repositories may hold; the first that matches counts.
    pub quota: Vec<Quota>,
    /// Registries that this one caches.
    pub upstream: Vec<Upstream>,
}

/// Where content is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// A directory of this registry alone: content, or with S3 only uploads that are not complete.
    pub root: PathBuf,
    /// Keeps content in S3 instead. One registry writes to a bucket and prefix.
    pub s3: Option<S3>,
}

/// A bucket of S3 or of a service that speaks it. What is absent is taken from the `AWS_*` variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3 {
    /// Name of the bucket.
    pub bucket: String,
    /// What the names of its objects begin with.
    pub prefix: String,
    /// Region.
    pub region: Option<String>,
    /// URL of the service, if it is not Amazon's.
    pub endpoint: Option<String>,
    /// Whether the service may be spoken to in plain HTTP.
    pub allow_http: bool,
    /// Id of the access key.
    pub access_key_id: Option<String>,
    /// File that holds the secret key.
    pub secret_access_key_file: Option<PathBuf>,
}

/// Certificates. They are read again when the files change, and on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the certificate and its chain.
    pub certificate: PathBuf,
    /// PEM file of the private key.
    pub key: PathBuf,
}

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// File of users and bcrypt hashes, as `htpasswd -B` writes it. Read again when it changes.
    pub htpasswd: PathBuf,
    /// What clients are told to send.
    #[serde(default)]
    pub scheme: Scheme,
    /// How long a token is valid.
    #[serde(default = "five_minutes")]
    pub token_ttl: Span,
    /// Rights; a user has those of all rules that name them. Without rules, every user has all, and nobody else any.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

const fn five_minutes() -> Span {
    Span::seconds(300)
}

/// What clients are told to send. Passwords and tokens are both taken under either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// A token, which the registry gives at `/token` for a password.
    #[default]
    Token,
    /// The password, with each request.
    Basic,
}

/// Gives rights.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Names; `*` is every user, `anonymous` is whoever gives none.
    pub users: Vec<String>,
    /// To which repositories.
    pub repositories: Vec<Pattern>,
    /// To do what.
    pub actions: Vec<Action>,
}

/// What can be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Reading.
    Pull,
    /// Writing, and moving tags.
    Push,
    /// Deleting tags, manifests and blobs.
    Delete,
}

/// Bounds on what clients may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest manifest.
    pub manifest: Size,
    /// The largest blob.
    pub blob: Size,
    /// Connections at a time; more wait.
    pub connections: usize,
    /// How long a client may take over the head of a request, and a connection may be idle.
    pub header_timeout: Span,
    /// How long a client may send or take nothing in the middle of a body.
    pub idle_timeout: Span,
    /// How long an upload is kept after its last byte.
    pub upload_ttl: Span,
    /// Uploads that may be open at a time.
    pub uploads: usize,
    /// How long transfers may go on after the server was asked to stop.
    pub shutdown: Span,
}

/// Collection of content that nothing needs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gc {
    /// How often it runs; 0: only when asked.
    pub interval: Span,
    /// How long content stays after nothing referred to it any more.
    pub grace: Span,
}

/// Removal of images by rules.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// How often the rules are applied; 0: only when asked.
    pub interval: Span,
    /// Whether what would be removed is only logged.
    pub dry_run: bool,
    /// The rules; a tag is subject to the first that matches it.
    pub rules: Vec<RetentionRule>,
}

/// What is kept of the tags, or of the manifests without tags, that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionRule {
    /// In which repositories.
    pub repositories: Vec<Pattern>,
    /// Which tags. Ignored for untagged manifests.
    pub tags: Vec<Pattern>,
    /// Whether the rule is about manifests that no tag, no index and no subject needs, instead of tags.
    pub untagged: bool,
    /// The newest that stay, whatever their age.
    pub count: Option<u64>,
    /// Those younger than this stay.
    pub age: Option<Span>,
}

/// Tags that never move once they are set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Immutable {
    /// In which repositories.
    pub repositories: Vec<Pattern>,
    /// Which tags.
    pub tags: Vec<Pattern>,
}

/// How many bytes a repository may hold. One that stands for another registry's lets go of what nobody asked for the
/// longest, and passes on without keeping what is larger.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Which repositories.
    pub repositories: Vec<Pattern>,
    /// Bytes, of blobs and manifests.
    pub bytes: Size,
}

/// A registry that this one caches.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Its name, as in references: `docker.io`. Requests with `ns=` of this name are answered from it.
    pub name: String,
    /// Which repositories here stand for its own: `hub` makes `hub/library/nginx` its `library/nginx`; empty: all.
    #[serde(default)]
    pub prefix: String,
    /// How long a tag is answered without asking again.
    #[serde(default = "one_minute")]
    pub refresh: Span,
    /// User name there.
    #[serde(default)]
    pub username: Option<String>,
    /// File that holds the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Whether it is spoken to in plain HTTP.
    #[serde(default)]
    pub plain_http: bool,
    /// PEM file of the authority that signed its certificate.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// What is copied without being asked for, as `repository` or `repository:tag pattern`.
    #[serde(default)]
    pub mirror: Vec<String>,
    /// How often it is.
    #[serde(default = "one_hour")]
    pub mirror_interval: Span,
}

const fn one_minute() -> Span {
    Span::seconds(60)
}

const fn one_hour() -> Span {
    Span::hours(1)
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000),
            admin_listen: None,
            external_url: None,
            insecure_open: false,
            storage: Storage::default(),
            tls: None,
            auth: None,
            limits: Limits::default(),
            gc: Gc::default(),
            retention: Retention::default(),
            immutable: vec![],
            quota: vec![],
            upstream: vec![],
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { root: PathBuf::from("/var/lib/gantry/registry"), s3: None }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest: Size(4 << 20),
            blob: Size(64 << 30),
            connections: 4096,
            header_timeout: Span::seconds(30),
            idle_timeout: Span::seconds(120),
            upload_ttl: Span::hours(24),
            uploads: 10_000,
            shutdown: Span::seconds(30),
        }
    }
}

impl Default for Gc {
    fn default() -> Self {
        Self { interval: Span::hours(1), grace: Span::hours(24) }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { interval: Span::hours(1), dry_run: false, rules: vec![] }
    }
}

impl Default for RetentionRule {
    fn default() -> Self {
        Self { repositories: vec![Pattern::all()], tags: vec![Pattern::all()], untagged: false, count: None, age: None }
    }
}

impl Default for Immutable {
    fn default() -> Self {
        Self { repositories: vec![Pattern::all()], tags: vec![Pattern::all()] }
    }
}

impl Config {
    /// Reads a configuration from the text of its file.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    /// Reads a configuration from its file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        Self::parse(&text)
    }

    /// Checks what no single field shows: above all, that the registry is not open to others by accident.
    pub fn check(&self) -> Result<()> {
        self.check_open()?;
        self.check_limits()?;
        self.check_upstreams()?;
        if let Some(s3) = &self.storage.s3
            && s3.bucket.is_empty()
        {
            return Err(Error::config("storage.s3.bucket", "it is empty: name the bucket"));
        }
        if let Some(url) = &self.external_url
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            return Err(Error::config(
                "external_url",
                format!("{url:?} begins neither with https:// nor with http://"),
            ));
        }
        for (index, rule) in self.retention.rules.iter().enumerate() {
            if rule.count.is_none() && rule.age.is_none() {
                let why = "it would remove everything it matches: say count or age (age = 0 does remove everything)";
                return Err(Error::config(format!("retention.rules[{index}]"), why));
            }
        }
        Ok(())
    }

    fn check_open(&self) -> Result<()> {
        let missing = match (self.tls.is_some(), self.auth.is_some()) {
            (true, true) => None,
            (true, false) => Some("authentication (auth.htpasswd)"),
            (false, true) => Some("TLS (tls.certificate, tls.key)"),
            (false, false) => Some("TLS (tls.certificate, tls.key) and authentication (auth.htpasswd)"),
        };
        if let Some(missing) = missing.filter(|_| !self.listen.ip().is_loopback() && !self.insecure_open) {
            return Err(Error::Open { listen: self.listen, missing });
        }
        // The operator's address has no users: it stays on loopback unless that was said.
        if let Some(listen) = self.admin_listen.filter(|a| !a.ip().is_loopback() && !self.insecure_open) {
            return Err(Error::Open { listen, missing: "authentication (admin_listen has none)" });
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<()> {
        let limits = &self.limits;
        if limits.manifest.0 < 4 << 20 {
            return Err(Error::config("limits.manifest", "the specification asks for 4 MiB at least"));
        }
        if limits.manifest.0 > gantry_model::image::MAX_MANIFEST {
            let why = format!("at most {} bytes are read", gantry_model::image::MAX_MANIFEST);
            return Err(Error::config("limits.manifest", why));
        }
        for (field, zero) in [
            ("limits.connections", limits.connections == 0),
            ("limits.uploads", limits.uploads == 0),
            ("limits.header_timeout", limits.header_timeout.0 == 0),
            ("limits.idle_timeout", limits.idle_timeout.0 == 0),
            ("limits.blob", limits.blob.0 == 0),
        ] {
            if zero {
                return Err(Error::config(field, "it is 0, with which nothing works: leave it out for the default"));
            }
        }
        Ok(())
    }

    fn check_upstreams(&self) -> Result<()> {
        for (index, upstream) in self.upstream.iter().enumerate() {
            let field = |name: &str| format!("upstream[{index}].{name}");
            if !upstream.prefix.is_empty() {
                gantry_model::reference::check_repository(&upstream.prefix)
                    .map_err(|e| Error::config(field("prefix"), e.to_string()))?;
            }
            gantry_model::reference::Reference::new(&upstream.name, "x", None, None)
                .map_err(|e| Error::config(field("name"), e.to_string()))?;
            if upstream.username.is_some() != upstream.password_file.is_some() {
                return Err(Error::config(field("username"), "username and password_file go together"));
            }
            let twin = |other: &Upstream| other.prefix == upstream.prefix || other.name == upstream.name;
            if self.upstream[..index].iter().any(twin) {
                return Err(Error::config(field("prefix"), "another upstream has the same prefix or name"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        const AUTH: &str = "[auth]\nhtpasswd = '/x'\n";
        const TLS: &str = "[tls]\ncertificate = '/c'\nkey = '/k'\n";
        let check = |text: &str, expect: Option<&str>| {
            let result = Config::parse(text).and_then(|config| config.check());
            match (result, expect) {
                (Ok(()), None) => {}
                (Err(error), Some(expect)) => assert!(error.to_string().contains(expect), "{text}: {error}"),
                (result, expect) => panic!("{text}: {result:?}, not {expect:?}"),
            }
        };
        let world = "listen = '0.0.0.0:5000'\n";
        check("", None);
        check("listen = '[::1]:0'", None);
        check(world, Some("TLS (tls.certificate, tls.key) and authentication"));
        check(&format!("{world}{AUTH}"), Some("without TLS (tls.certificate, tls.key): set"));
        check(&format!("{world}{TLS}"), Some("without authentication"));
        check(&format!("{world}{TLS}{AUTH}"), None);
        check("listen = '192.0.2.1:5000'\ninsecure_open = true", None);
        check("admin_listen = '0.0.0.0:9000'", Some("admin_listen"));
        check("listne = '127.0.0.1:1'", Some("unknown field"));
        check("[limits]\nmanifest = '1MB'", Some("4 MiB"));
        check("[limits]\nmanifest = '1GB'", Some("are read"));
        check("[limits]\nconnections = 0", Some("limits.connections"));
        check("[gc]\ngrace = '1 fortnight'", Some("no amount"));
        check("[gc]\ngrace = '7d'\ninterval = 60", None);
        check("[[retention.rules]]\ntags = ['*']", Some("remove everything"));
        check("[[retention.rules]]\ncount = 3", None);
        check("[[quota]]\nrepositories = ['a/**']\nbytes = '10GiB'", None);
        check("[[upstream]]\nname = 'docker.io'\nprefix = 'Hub'", Some("prefix"));
        check(
            "[[upstream]]\nname = 'docker.io'\n[[upstream]]\nname = 'docker.io'\nprefix = 'x'",
            Some("another upstream"),
        );
        check("[[upstream]]\nname = 'docker.io'\nusername = 'x'", Some("go together"));
        check("[storage.s3]\nbucket = ''", Some("bucket"));
        check("external_url = 'registry.example.org'", Some("external_url"));
    }
}
