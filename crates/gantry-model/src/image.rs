//! The documents of images: descriptors, manifests, indexes and configurations (image-spec 1.1; Docker's schema 2 has
//! the same shape under other media types).
//!
//! Documents from outside are kept as the bytes that they came in, since a digest is of bytes; what is here is read from
//! them, and new documents are written from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::platform::Platform;

/// Media types (image-spec, media-types.md), and Docker's for the same things.
#[allow(missing_docs)]
pub mod media {
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    pub const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

    /// What a client accepts when it asks for a manifest.
    pub const MANIFESTS: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

    /// Whether it is of an index or a manifest list.
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, OCI_INDEX | DOCKER_LIST)
    }

    /// Whether it is of the manifest of one image.
    pub fn is_manifest(media_type: &str) -> bool {
        matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
    }
}

/// How a layer's tar archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952), of one or several members.
    Gzip,
    /// Zstandard (RFC 8878), of one or several frames.
    Zstd,
}

impl Compression {
    /// By the first bytes of the content: registries are full of layers whose media type is wrong.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // The second is a skippable frame, as chunked zstd files may begin with.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// The media type of an OCI layer so compressed.
    pub const fn layer_type(self) -> &'static str {
        match self {
            Self::None => media::OCI_LAYER,
            Self::Gzip => media::OCI_LAYER_GZIP,
            Self::Zstd => media::OCI_LAYER_ZSTD,
        }
    }
}

/// The largest manifest or index that is read, in bytes. The distribution specification asks for 4 MB at least.
pub const MAX_MANIFEST: u64 = 8 << 20;
/// The largest configuration that is read, in bytes.
pub const MAX_CONFIG: u64 = 16 << 20;
/// The most layers an image may have.
pub const MAX_LAYERS: usize = 1024;
/// The most manifests an index may have.
pub const MAX_MANIFESTS: usize = 4096;

/// Absent and `null` are the same: Go writes `null` for empty lists and maps.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Points to content: its type, digest and size (descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Type of the content.
    #[serde(default)]
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// Where else the content may be found.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free-form.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What an image in an index runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Type of the artifact that it points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The content itself, in base64, if it is small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl Descriptor {
    /// A descriptor of nothing but type, digest and size.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        let media_type = media_type.into();
        Self {
            media_type,
            digest,
            size,
            urls: vec![],
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
            data: None,
        }
    }
}

/// The manifest of one image (manifest.md).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// The manifest's own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Type of the artifact, where it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(default, deserialize_with = "nullable")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, one a platform (image-index.md).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// The index's own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Type of the artifact, where it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests.
    #[serde(default, deserialize_with = "nullable")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Either of the two documents that a tag may point to.
#[allow(clippy::large_enum_variant, reason = "there are few at a time, and a box would be in the way of every match")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// The manifest of one image.
    Manifest(Manifest),
    /// A list of manifests.
    Index(Index),
}

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDocument {
    /// Larger than any honest one.
    #[error("it has {0} bytes, at most {1} are read")]
    TooLarge(u64, u64),
    /// It is no JSON of the expected shape.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A version or type that no longer, or does not, exist.
    #[error("{0}")]
    Unsupported(String),
    /// More parts than any honest one has.
    #[error("it lists {0} {1}, at most {2} are taken")]
    TooMany(usize, &'static str, usize),
}

impl Document {
    /// Reads a manifest or an index. `media_type` is what it was served as; the document's own word goes before it.
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Self, InvalidDocument> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            #[serde(default)]
            schema_version: u32,
            media_type: Option<String>,
            manifests: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
        }
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(InvalidDocument::TooLarge(bytes.len() as u64, MAX_MANIFEST));
        }
        let head: Head = serde_json::from_slice(bytes)?;
        if head.schema_version != 2 {
            let version = head.schema_version;
            let text = format!(
                "schema version {version} of manifests is not supported: push the image again with a current tool"
            );
            return Err(InvalidDocument::Unsupported(text));
        }
        // A document with both could be taken for either, depending on who reads it.
        if head.manifests.is_some() && head.config.is_some() {
            return Err(InvalidDocument::Unsupported("it has both a config and manifests".to_owned()));
        }
        let own = head.media_type.as_deref().filter(|own| !own.is_empty()).unwrap_or(media_type);
        let index = media::is_index(own) || (!media::is_manifest(own) && head.manifests.is_some());
        if !index && head.config.is_none() {
            return Err(InvalidDocument::Unsupported(format!("{own:?} is no manifest and no index")));
        }
        if index {
            let index: Index = serde_json::from_slice(bytes)?;
            if index.manifests.len() > MAX_MANIFESTS {
                return Err(InvalidDocument::TooMany(index.manifests.len(), "manifests", MAX_MANIFESTS));
            }
            return Ok(Self::Index(index));
        }
        let manifest: Manifest = serde_json::from_slice(bytes)?;
        if manifest.layers.len() > MAX_LAYERS {
            return Err(InvalidDocument::TooMany(manifest.layers.len(), "layers", MAX_LAYERS));
        }
        Ok(Self::Manifest(manifest))
    }

    /// Everything that it points to.
    pub fn children(&self) -> Vec<&Descriptor> {
        match self {
            Self::Manifest(manifest) => std::iter::once(&manifest.config).chain(&manifest.layers).collect(),
            Self::Index(index) => index.manifests.iter().collect(),
        }
    }

    /// The manifest that it is about.
    pub const fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Manifest(manifest) => manifest.subject.as_ref(),
            Self::Index(index) => index.subject.as_ref(),
        }
    }
}

impl Index {
    /// The manifest for a platform: the best match, the first of equals. One that names no platform serves any, last.
    pub fn select(&self, wanted: &Platform) -> Option<&Descriptor> {
        let rank = |one: &Descriptor| match &one.platform {
            Some(platform) => platform.rank(wanted),
            None => Some(1),
        };
        let ranked = self.manifests.iter().filter_map(|one| rank(one).map(|rank| (rank, one)));
        ranked.rev().max_by_key(|(rank, _)| *rank).map(|(_, one)| one)
    }
}

/// The configuration of an image (config.md). Unknown fields are kept, so that a new image made from it has them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ImageConfig {
    /// When it was made (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What it runs on.
    #[serde(flatten)]
    pub platform: Platform,
    /// What is run, and how.
    #[serde(default, deserialize_with = "nullable")]
    pub config: ContainerConfig,
    /// The layers.
    pub rootfs: RootFs,
    /// How it came to be, the oldest first.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Fields that the specification does not name.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

impl ImageConfig {
    /// Reads a configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        if bytes.len() as u64 > MAX_CONFIG {
            return Err(InvalidDocument::TooLarge(bytes.len() as u64, MAX_CONFIG));
        }
        let config: Self = serde_json::from_slice(bytes)?;
        if config.rootfs.diff_ids.len() > MAX_LAYERS {
            return Err(InvalidDocument::TooMany(config.rootfs.diff_ids.len(), "layers", MAX_LAYERS));
        }
        Ok(config)
    }
}

/// What is run, and how (config.md, `config`).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// User and group: names or numbers.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports that it listens on: `80/tcp`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// Environment: `NAME=value`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Arguments by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Where its data lies: `/var/lib/x`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// The directory that the program starts in.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Free-form.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks it to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Docker's: how to find out whether it is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Docker's: the shell of later build steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Docker's: build steps for images made from this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// Fields that the specification does not name.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// How to find out whether a container is well. Durations are in nanoseconds; 0 is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `NONE`, or `CMD` and arguments, or `CMD-SHELL` and a line.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two probes.
    #[serde(default)]
    pub interval: i64,
    /// For one probe.
    #[serde(default)]
    pub timeout: i64,
    /// After the start, while failures do not count.
    #[serde(default)]
    pub start_period: i64,
    /// Between two probes in the start period.
    #[serde(default)]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(default)]
    pub retries: i64,
}

/// The layers of an image (config.md, `rootfs`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Digests of the uncompressed layers, the lowest first.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<Digest>,
}

/// A step of an image's making (config.md, `history`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct History {
    /// When (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Free-form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether it made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digit: &str) -> String {
        format!("sha256:{}", digit.repeat(64))
    }

    fn descriptor(digit: &str, platform: &str) -> String {
        format!(r#"{{"mediaType":"m","digest":"{}","size":1{platform}}}"#, hex(digit))
    }

    #[test]
    fn documents() {
        let check = |text: &str, served: &str, expect: &str| {
            let found = match Document::parse(text.as_bytes(), served) {
                Ok(Document::Manifest(manifest)) => format!("manifest of {}", manifest.layers.len()),
                Ok(Document::Index(index)) => format!("index of {}", index.manifests.len()),
                Err(error) => error.to_string(),
            };
            assert!(found.contains(expect), "{text}: {found}");
        };
        let one = descriptor("a", "");
        check(
            &format!(r#"{{"schemaVersion":2,"config":{one},"layers":[{one},{one}]}}"#),
            media::OCI_MANIFEST,
            "manifest of 2",
        );
        check(&format!(r#"{{"schemaVersion":2,"config":{one},"layers":null}}"#), "", "manifest of 0");
        check(&format!(r#"{{"schemaVersion":2,"manifests":[{one}]}}"#), "", "index of 1");
        check(r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json"}"#, "", "index of 0");
        check(&format!(r#"{{"schemaVersion":2,"config":{one},"manifests":[]}}"#), media::OCI_INDEX, "both");
        check(r#"{"schemaVersion":1}"#, "", "schema version 1");
        check(r#"{"schemaVersion":2}"#, "text/html", "no manifest");
        check("[]", "", "invalid");
        check(r#"{"schemaVersion":2,"config":{"digest":"sha256:..","size":1},"layers":[]}"#, "", "no sha256 digest");
        check(&format!(r#"{{"schemaVersion":2,"config":{{"digest":"{}","size":-1}}}}"#, hex("a")), "", "invalid");
    }

    #[test]
    fn the_best_platform_is_selected() {
        let platform = |os: &str, arch: &str| format!(r#","platform":{{"os":"{os}","architecture":"{arch}"}}"#);
        let list = [
            descriptor("a", &platform("linux", "arm64")),
            descriptor("b", &platform("linux", "amd64")),
            descriptor("c", &platform("linux", "amd64")),
            descriptor("d", &platform("unknown", "unknown")),
        ];
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, list.join(","));
        let Ok(Document::Index(index)) = Document::parse(text.as_bytes(), "") else { panic!("{text}") };
        let select = |wanted: &str| index.select(&wanted.parse().unwrap()).map(|one| one.digest.to_string());
        assert_eq!(select("linux/amd64"), Some(hex("b")));
        assert_eq!(select("linux/arm64"), Some(hex("a")));
        assert_eq!(select("linux/s390x"), None);
    }

    #[test]
    fn configurations_keep_what_they_hold() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"],"ArgsEscaped":true},"rootfs":{"type":"layers","diff_ids":null},"x":1}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
        assert_eq!(config.platform.architecture, "amd64");
        let again: serde_json::Value = serde_json::to_value(&config).unwrap();
        assert_eq!(again["x"], 1);
        assert_eq!(again["config"]["ArgsEscaped"], true);
        assert_eq!(again["os"], "linux");
    }
}
