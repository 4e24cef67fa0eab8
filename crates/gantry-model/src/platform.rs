//! Platforms: what an image runs on (image-spec, image-index.md, `platform`), and which image of several is taken.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::cut;

/// An operating system and a processor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Platform {
    /// As Go calls it: `amd64`, `arm64`, `arm`.
    #[serde(default)]
    pub architecture: String,
    /// As Go calls it: `linux`.
    #[serde(default)]
    pub os: String,
    /// Version of the operating system; of meaning on Windows only.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system.
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the processor: `v7`, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no platform: one looks like linux/amd64 or linux/arm/v7")]
pub struct InvalidPlatform(String);

/// The processor that this program was built for.
const HOST: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else if cfg!(target_arch = "x86_64") {
    "amd64"
} else {
    "unknown"
};

impl Platform {
    /// Linux on the processor that this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = normalize(HOST, None);
        Self { architecture, os: "linux".to_owned(), variant, ..Self::default() }
    }

    /// How well an image for `self` serves someone who asked for `wanted`: higher is better, none is not at all.
    pub fn rank(&self, wanted: &Self) -> Option<u32> {
        let (arch, variant) = normalize(&self.architecture, self.variant.as_deref());
        let (wanted_arch, wanted_variant) = normalize(&wanted.architecture, wanted.variant.as_deref());
        if self.os != wanted.os {
            return None;
        }
        if arch == wanted_arch {
            if variant == wanted_variant {
                return Some(100);
            }
            let version = |v: &Option<String>, default| {
                v.as_deref().and_then(|v| v.strip_prefix('v')).map_or(Some(default), |n| n.parse::<u32>().ok())
            };
            let default = if arch == "arm" { 7 } else { 1 };
            // A processor runs what was made for an older one.
            let (have, want) = (version(&variant, default)?, version(&wanted_variant, default)?);
            return (have <= want && want - have < 50).then(|| 90 - (want - have));
        }
        // A 64-bit ARM runs 32-bit programs, and a PC those of its forebears.
        match (arch.as_str(), wanted_arch.as_str()) {
            ("arm", "arm64") => Some(20),
            ("386", "amd64") => Some(10),
            _ => None,
        }
    }
}

/// Architecture and variant by the names that Go has for them.
fn normalize(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let lower = architecture.to_ascii_lowercase();
    let (architecture, variant) = match (lower.as_str(), variant) {
        ("x86_64" | "x86-64" | "amd64", Some("v1") | None) => ("amd64", None),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("i386" | "x86" | "386", _) => ("386", None),
        ("aarch64" | "arm64", Some("8" | "v8") | None) => ("arm64", None),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", Some("7" | "v7") | None) => ("arm", Some("v7")),
        ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
        (other, variant) => (other, variant),
    };
    (architecture.to_owned(), variant.filter(|v| !v.is_empty()).map(Into::into))
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let invalid = || InvalidPlatform(cut(text));
        let word =
            |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-.".contains(&c));
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| word(part)) {
            return Err(invalid());
        }
        let (os, architecture, variant) = match parts[..] {
            [os @ ("linux" | "windows" | "darwin" | "freebsd")] => (os, Self::host().architecture, None),
            [architecture] => ("linux", architecture.to_owned(), None),
            [os, architecture] => (os, architecture.to_owned(), None),
            [os, architecture, variant] => (os, architecture.to_owned(), Some(variant)),
            _ => return Err(invalid()),
        };
        let (architecture, variant) = normalize(&architecture, variant);
        Ok(Self { architecture, os: os.to_ascii_lowercase(), variant, ..Self::default() })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        let check = |text: &str, full: Option<&str>| {
            assert_eq!(text.parse::<Platform>().ok().map(|p| p.to_string()).as_deref(), full, "{text:?}");
        };
        check("linux/amd64", Some("linux/amd64"));
        check("linux/x86_64", Some("linux/amd64"));
        check("arm64", Some("linux/arm64"));
        check("linux/arm", Some("linux/arm/v7"));
        check("linux/arm64/v8", Some("linux/arm64"));
        check("linux/arm/v6", Some("linux/arm/v6"));
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/a b"] {
            check(bad, None);
        }
    }

    #[test]
    fn ranks() {
        let rank = |have: &str, want: &str| have.parse::<Platform>().unwrap().rank(&want.parse().unwrap());
        assert_eq!(rank("linux/amd64", "linux/amd64"), Some(100));
        assert_eq!(rank("linux/arm64", "linux/amd64"), None);
        assert!(rank("linux/arm/v6", "linux/arm/v7") > rank("linux/arm/v5", "linux/arm/v7"));
        assert_eq!(rank("linux/arm/v7", "linux/arm/v6"), None);
        assert!(rank("linux/386", "linux/amd64").is_some());
        assert_eq!(rank("windows/amd64", "linux/amd64"), None);
    }
}
