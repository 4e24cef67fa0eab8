//! Docker's `config.json`: who one is to which registry, shared with Docker's own tools, Podman and all others.
//!
//! What is not understood in the file is kept as it is. It holds passwords: it is written for its owner alone, to another
//! name, and then put in its place.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use gantry_model::reference::DEFAULT_REGISTRY;
use serde_json::{Map, Value, json};

use crate::credential::{Credential, Credentials};
use crate::error::{Error, Result};
use crate::helper::Helper;

/// The most of the file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// The name of docker.io in the file.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";
/// The most symbolic links that lead to the file.
const MAX_LINKS: usize = 8;
const HELPER_LIMIT: Duration = Duration::from_secs(30);

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials in Docker's configuration, and in the stores that it names.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    path: PathBuf,
    search: OsString,
    limit: Duration,
}

impl DockerConfig {
    /// The file at `path`, which need not exist. Credential helpers are looked for in `search`, a list of directories as
    /// `PATH` has it.
    pub fn new(path: impl Into<PathBuf>, search: impl Into<OsString>) -> Self {
        Self { path: path.into(), search: search.into(), limit: HELPER_LIMIT }
    }

    /// The same with another limit of how long a credential helper may run.
    #[must_use]
    pub fn with_helper_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The user's own: `config.json` in `DOCKER_CONFIG`, or in `.docker` of the home directory.
    pub fn of_user() -> Result<Self> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let directory = match (variable("DOCKER_CONFIG"), variable("HOME")) {
            (Some(directory), _) => PathBuf::from(directory),
            (None, Some(home)) => Path::new(&home).join(".docker"),
            (None, None) => {
                return Err(Error::Config(
                    "neither DOCKER_CONFIG nor HOME is set: no place for credentials".to_owned(),
                ));
            }
        };
        Ok(Self::new(directory.join("config.json"), variable("PATH").unwrap_or_default()))
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a credential, in the store that is configured or in the file. Returns where it went: the name of a program or
    /// the path of the file.
    pub fn store(&self, registry: &str, credential: &Credential) -> Result<String> {
        if credential.username().contains(':') {
            return Err(Error::Invalid("a name with a colon cannot be kept: it ends where the password begins".into()));
        }
        let mut place = self.path.display().to_string();
        self.change(|file| {
            let key = key(registry);
            let entry = match Self::helper_name(file, registry) {
                Some(name) => {
                    self.helper(&name).store(&key, credential)?;
                    place = format!("docker-credential-{name}");
                    json!({})
                }
                None => entry(credential),
            };
            let auths = object(file, "auths", &self.path)?;
            auths.retain(|other, _| hostname(other) != hostname(&key));
            auths.insert(key, entry);
            Ok(true)
        })?;
        Ok(place)
    }

    /// Forgets the credential for a registry; false if there was none.
    pub fn erase(&self, registry: &str) -> Result<bool> {
        let mut found = false;
        self.change(|file| {
            let key = key(registry);
            if let Some(name) = Self::helper_name(file, registry) {
                let helper = self.helper(&name);
                if helper.get(&key)?.is_some() {
                    helper.erase(&key)?;
                    found = true;
                }
            }
            let Some(auths) = file.get_mut("auths").and_then(Value::as_object_mut) else { return Ok(false) };
            let before = auths.len();
            auths.retain(|other, _| hostname(other) != hostname(&key));
            found |= auths.len() < before;
            Ok(auths.len() < before)
        })?;
        Ok(found)
    }

    /// The registries that the file knows of, by the names that references have.
    pub fn registries(&self) -> Result<Vec<String>> {
        let file = self.read()?;
        let auths = file.get("auths").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let helpers = file.get("credHelpers").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let mut names: Vec<_> = auths.chain(helpers).map(|key| hostname(key).to_owned()).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn helper_name(file: &Map<String, Value>, registry: &str) -> Option<String> {
        let named = file.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
            helpers.iter().find(|(key, _)| hostname(key) == registry).and_then(|(_, name)| name.as_str())
        });
        let name = named.or_else(|| file.get("credsStore").and_then(Value::as_str));
        name.filter(|name| !name.is_empty()).map(str::to_owned)
    }

    fn helper<'a>(&'a self, name: &'a str) -> Helper<'a> {
        Helper { name, search: &self.search, limit: self.limit }
    }

    /// The file's content; empty if it does not exist.
    fn read(&self) -> Result<Map<String, Value>> {
        let mut text = vec![];
        match File::open(&self.path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut text)) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Map::new());
            }
            Err(error) => return Err(Error::file("reading", &self.path, error)),
        }
        let bad = |why: String| Error::Content { path: self.path.clone(), why };
        if text.len() as u64 > MAX_FILE {
            return Err(bad(format!("larger than {MAX_FILE} bytes")));
        }
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(Map::new());
        }
        // An error of the parser tells the place and not the content.
        serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))
    }

    /// Reads, changes and replaces the file, alone among those who do it this way. `change` says whether to write.
    fn change(&self, change: impl FnOnce(&mut Map<String, Value>) -> Result<bool>) -> Result<()> {
        let target = follow(&self.path)?;
        let directory = target.parent().unwrap_or(Path::new("/"));
        make_directory(directory)?;
        let lock = File::open(directory).map_err(|error| Error::file("opening", directory, error))?;
        lock.lock().map_err(|error| Error::file("locking", directory, error))?;
        let mut file = self.read()?;
        if change(&mut file)? {
            let text = serde_json::to_vec_pretty(&file)
                .map_err(|error| Error::Content { path: target.clone(), why: error.to_string() })?;
            replace(&target, &text, &lock)?;
        }
        Ok(())
    }
}

impl Credentials for DockerConfig {
    fn get(&self, registry: &str) -> Result<Option<Credential>> {
        let file = self.read()?;
        if let Some(name) = Self::helper_name(&file, registry)
            && let Some(found) = self.helper(&name).get(&key(registry))?
        {
            return Ok(Some(found));
        }
        let Some(auths) = file.get("auths").and_then(Value::as_object) else { return Ok(None) };
        let exact = key(registry);
        let entry = auths
            .get(&exact)
            .or_else(|| auths.iter().find(|(key, _)| hostname(key) == registry).map(|(_, entry)| entry));
        let bad = |why: &str| Error::Content { path: self.path.clone(), why: format!("auths of {registry}: {why}") };
        entry.map_or(Ok(None), |entry| credential(entry).map_err(bad))
    }
}

/// The name of a registry in the file.
fn key(registry: &str) -> String {
    if registry == DEFAULT_REGISTRY { DOCKER_KEY.to_owned() } else { registry.to_owned() }
}

/// The registry that a key of the file stands for: keys may be URLs, and docker.io has several names.
fn hostname(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    match rest.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => DEFAULT_REGISTRY,
        host => host,
    }
}

/// What an entry of `auths` holds; none if it is empty, as it is beside a credential helper.
fn credential(entry: &Value) -> Result<Option<Credential>, &'static str> {
    let field = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = field("registrytoken") {
        return Ok(Some(Credential::Bearer(token.to_owned())));
    }
    let (mut username, mut password) =
        (field("username").unwrap_or_default().to_owned(), field("password").unwrap_or_default().to_owned());
    if let Some(auth) = field("auth") {
        let bytes = BASE64.decode(auth.trim()).map_err(|_| "auth is no base64")?;
        let text = String::from_utf8(bytes).map_err(|_| "auth is no text")?;
        let (name, secret) = text.split_once(':').ok_or("auth is no NAME:PASSWORD")?;
        // Some tools padded the password with zero bytes.
        (username, password) = (name.to_owned(), secret.trim_end_matches('\0').to_owned());
    }
    if let Some(token) = field("identitytoken") {
        return Ok(Some(Credential::Identity { username, token: token.to_owned() }));
    }
    if username.is_empty() && password.is_empty() {
        return Ok(None);
    }
    Ok(Some(Credential::Password { username, password }))
}

/// The entry of `auths` for a credential.
fn entry(credential: &Credential) -> Value {
    match credential {
        Credential::Password { username, password } => {
            json!({ "auth": BASE64.encode(format!("{username}:{password}")) })
        }
        Credential::Identity { username, token } => {
            json!({ "auth": BASE64.encode(format!("{username}:")), "identitytoken": token })
        }
        Credential::Bearer(token) => json!({ "registrytoken": token }),
    }
}

fn object<'a>(file: &'a mut Map<String, Value>, name: &str, path: &Path) -> Result<&'a mut Map<String, Value>> {
    let value = file.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut().ok_or_else(|| Error::Content { path: path.into(), why: format!("{name} is no object") })
}

/// Where the file really is: people link it from elsewhere, and the link is to stay.
fn follow(path: &Path) -> Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(Error::Content { path, why: "too many symbolic links lead to it".to_owned() })
}

fn make_directory(directory: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| Error::file("making", directory, error))
}

/// Puts a file in place of another: written to a new name, synced, renamed. The owner stays; nobody else may read it.
fn replace(target: &Path, text: &[u8], directory: &File) -> Result<()> {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or(OsStr::new("config.json")));
    name.push(".gantry-new");
    let new = target.with_file_name(name);
    // One that was left by a crash; the lock says that nobody is writing it.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::file("removing", &new, error)),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        if let Ok(old) = std::fs::metadata(target) {
            // Only root can; for others it is their own already.
            let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
        }
        file.write_all(text)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&new, target)?;
        directory.sync_all()
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&new);
        Error::file("writing", target, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames() {
        let check = |key: &str, expect: &str| assert_eq!(hostname(key), expect, "{key}");
        check("https://index.docker.io/v1/", "docker.io");
        check("registry-1.docker.io", "docker.io");
        check("https://r.test:5000/v2/", "r.test:5000");
        check("http://r.test", "r.test");
        check("r.test", "r.test");
        check("", "");
    }

    #[test]
    fn entries() {
        let check = |entry: Value, expect: Result<Option<Credential>, &str>| {
            assert_eq!(credential(&entry).map_err(|e| &e[..4]), expect.map_err(|e| &e[..4]), "{entry}");
        };
        check(json!({"auth": "bWU6c2VjcmV0"}), Ok(Some(Credential::password("me", "secret"))));
        check(json!({"auth": "bWU6c2VjcmV0AAA="}), Ok(Some(Credential::password("me", "secret"))));
        check(json!({"auth": "bWU6YTpi"}), Ok(Some(Credential::password("me", "a:b"))));
        check(json!({"username": "me", "password": "x"}), Ok(Some(Credential::password("me", "x"))));
        check(
            json!({"auth": "bWU6", "identitytoken": "t"}),
            Ok(Some(Credential::Identity { username: "me".into(), token: "t".into() })),
        );
        check(json!({"registrytoken": "t"}), Ok(Some(Credential::Bearer("t".into()))));
        check(json!({}), Ok(None));
        check(json!({"email": "x"}), Ok(None));
        check(json!(null), Ok(None));
        check(json!({"auth": 5}), Ok(None));
        check(json!({"auth": "%%%"}), Err("auth is no base64"));
        check(json!({"auth": "bWU="}), Err("auth is no NAME"));
        for one in [
            Credential::password("me", "pä:ss"),
            Credential::Identity { username: "me".into(), token: "t".into() },
            Credential::Bearer("t".into()),
        ] {
            check(entry(&one), Ok(Some(one)));
        }
    }
}
