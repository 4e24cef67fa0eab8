//! The configuration file: how registries are reached, where the store is, what is collected.
//!
//! `[store]` and `[gc]` are of this file; everything beside them says how registries are reached, and is read by the
//! client of registries.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_registry::{Size, Span};
use gantry_store::{Filter, Policy};
use serde::Deserialize;

use crate::daemon::config::DaemonConfig;
use crate::failure::{Failure, Of, Outcome};

/// Where it is looked for.
pub const DEFAULT: &str = "/etc/gantry/config.toml";
/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What is configured.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The store.
    pub store: StoreConfig,
    /// What is collected by itself.
    pub gc: Gc,
    /// The daemon.
    pub daemon: DaemonConfig,
    /// How registries are reached.
    pub registries: gantry_distribution::Config,
}

/// `[store]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Its directory.
    pub root: Option<PathBuf>,
    /// How long a command waits for another that has the store.
    pub lock_wait: Option<Span>,
    /// How long the beginning of a cut-off download is kept.
    pub keep_partial: Option<Span>,
    /// What layers are on the disk: `directories`, or `erofs` for images of that file system.
    #[serde(deserialize_with = "layer_form")]
    pub layers: Option<gantry_store::LayerForm>,
}

/// `[gc]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gc {
    /// Whether anything is collected without being asked.
    pub automatic: bool,
    /// Whether images without a name go.
    pub dangling: bool,
    /// Whether images with a name go that nothing uses.
    pub unused: bool,
    /// What nothing refers to stays so long.
    pub min_age: Span,
    /// Images go that were not used for so long.
    pub max_age: Option<Span>,
    /// Beyond this size unused images go, the least recently used first.
    pub max_size: Option<Size>,
    /// Names of images that stay, with `*`; or `label:KEY[=VALUE]`.
    pub keep: Vec<String>,
}

impl Default for Gc {
    fn default() -> Self {
        Self {
            automatic: true,
            dangling: false,
            unused: false,
            min_age: Span::hours(1),
            max_age: None,
            max_size: None,
            keep: Vec::new(),
        }
    }
}

impl Config {
    /// Reads a file; without one, that of the system if there is one.
    pub fn read(path: Option<&Path>) -> Outcome<Self> {
        let file = path.unwrap_or(Path::new(DEFAULT));
        let size = match std::fs::metadata(file) {
            Ok(found) => found.len(),
            Err(error) if path.is_none() && error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::from(error).of(format!("read the configuration {}", file.display()))),
        };
        if size > MAX_FILE {
            let text = format!("configuration {}: it has {size} bytes, at most {MAX_FILE} are read", file.display());
            return Err(Failure::new(text));
        }
        let text = std::fs::read_to_string(file).of(format!("read the configuration {}", file.display()))?;
        Self::parse(&text).of(format!("configuration {}", file.display()))
    }

    /// Reads the text of a file.
    pub fn parse(text: &str) -> Outcome<Self> {
        let mut rest: toml::Table = toml::from_str(text).map_err(|error| Failure::new(error.to_string()))?;
        let section = |name: &str, rest: &mut toml::Table| rest.remove(name).unwrap_or(toml::Table::new().into());
        let store = StoreConfig::deserialize(section("store", &mut rest)).of("[store]")?;
        let daemon = DaemonConfig::deserialize(section("daemon", &mut rest)).of("[daemon]")?;
        let gc = Gc::deserialize(section("gc", &mut rest)).of("[gc]")?;
        let registries = gantry_distribution::Config::from_toml(&toml::to_string(&rest)?)?;
        Ok(Self { store, gc, daemon, registries })
    }
}

impl Gc {
    /// The policy, if anything is collected by itself.
    pub fn policy(&self) -> Option<Policy> {
        let filter = |text: &String| match text.strip_prefix("label:") {
            Some(label) => match label.split_once('=') {
                Some((key, value)) => Filter::Label(key.to_owned(), Some(value.to_owned())),
                None => Filter::Label(label.to_owned(), None),
            },
            None => Filter::Name(text.clone()),
        };
        self.automatic.then(|| Policy {
            dangling: self.dangling,
            unused: self.unused,
            min_age: Some(self.min_age.duration()),
            max_age: self.max_age.map(Span::duration),
            max_bytes: self.max_size.map(|size| size.0),
            keep: self.keep.iter().map(filter).collect(),
            only: Vec::new(),
        })
    }
}

/// Reads the name of a form of layers.
fn layer_form<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<gantry_store::LayerForm>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

impl StoreConfig {
    /// How the store is opened, but for what is collected.
    pub fn options(&self) -> gantry_store::Options {
        let default = gantry_store::Options::default();
        let or = |span: Option<Span>, default: Duration| span.map_or(default, Span::duration);
        gantry_store::Options {
            lock_wait: or(self.lock_wait, default.lock_wait),
            partial_ttl: or(self.keep_partial, default.partial_ttl),
            layers: self.layers.unwrap_or_default(),
            ..default
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let text = r#"
            proxy = "none"
            [registry."docker.io"]
            mirrors = ["https://mirror.test"]
            [store]
            root = "/data"
            lock_wait = "5s"
            [gc]
            max_size = "20GB"
            max_age = "7d"
            unused = true
            keep = ["debian:*", "label:keep", "label:tier=prod"]
        "#;
        let Ok(config) = Config::parse(text) else { panic!("{:?}", Config::parse(text)) };
        assert_eq!(config.store.root.as_deref(), Some(Path::new("/data")));
        assert_eq!(config.store.options().lock_wait, Duration::from_secs(5));
        assert_eq!(config.registries.registry["docker.io"].mirrors, ["https://mirror.test"]);
        let policy = config.gc.policy().unwrap();
        assert_eq!((policy.max_bytes, policy.unused, policy.dangling), (Some(20_000_000_000), true, false));
        assert_eq!(policy.max_age, Some(Duration::from_secs(7 * 86_400)));
        let label = |key: &str, value: Option<&str>| Filter::Label(key.into(), value.map(Into::into));
        assert_eq!(policy.keep, [Filter::Name("debian:*".into()), label("keep", None), label("tier", Some("prod"))]);
        assert_eq!(Config::parse("[gc]\nautomatic = false").unwrap().gc.policy(), None);
        assert_eq!(Config::parse("").unwrap().gc.policy(), Some(Policy::default()));
    }

    #[test]
    fn refused() {
        let check = |text: &str, expect: &str| match Config::parse(text) {
            Err(Failure::Error(report)) => assert!(report.text.contains(expect), "{text}: {}", report.text),
            other => panic!("{text}: {other:?}"),
        };
        check("x = ", "TOML parse error");
        check("[stroe]\nroot = '/x'", "unknown field `stroe`");
        check("[store]\nrot = '/x'", "[store]: unknown field `rot`, expected one of");
        check("[gc]\nmax_size = 'big'", "\"big\" is no amount");
        check("[registry.a]\nmirror = 1", "unknown field `mirror`");
    }
}
