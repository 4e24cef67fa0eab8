//! Image references: a registry, a repository in it, and a tag or digest, as people write them.
//!
//! The rules are Docker's, which every tool follows: `nginx` is `docker.io/library/nginx:latest`, a first component with
//! a dot, a colon or the name `localhost` is a registry, and repositories are lower case.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, InvalidDigest, cut};

/// The registry of references that name none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of references that name none.
pub const DEFAULT_TAG: &str = "latest";

const OFFICIAL: &str = "library/";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A reference with its registry and repository filled in. It has a tag, a digest, both, or neither.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// The form is wrong.
    #[error("invalid reference format: {0:?}: {1}")]
    Form(String, &'static str),
    /// Upper-case letters in the repository.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// Longer than any registry takes.
    #[error("invalid reference format: repository name must not be more than {MAX_NAME} characters, it has {0}")]
    TooLong(usize),
    /// 64 hexadecimal digits are an image's id, not a name.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// The digest is none.
    #[error("invalid reference format: {0}")]
    Digest(#[from] InvalidDigest),
}

impl Reference {
    /// A reference from its parts, each checked.
    pub fn new(
        registry: &str,
        repository: &str,
        tag: Option<&str>,
        digest: Option<Digest>,
    ) -> Result<Self, InvalidReference> {
        check_registry(registry)?;
        check_repository(repository)?;
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let total = registry.len() + 1 + repository.len();
        if total > MAX_NAME {
            return Err(InvalidReference::TooLong(total));
        }
        Ok(Self { registry: registry.into(), repository: repository.into(), tag: tag.map(Into::into), digest })
    }

    /// The registry: a host with an optional port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository: `docker.io/library/nginx`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Registry and repository as people write them: `nginx`.
    pub fn familiar_name(&self) -> &str {
        // Only the default registry is left out, so the rest is the repository itself or nothing is borrowed.
        self.repository.strip_prefix(OFFICIAL).filter(|rest| !rest.contains('/')).unwrap_or(&self.repository)
    }

    /// The whole reference as people write it: `nginx:latest`.
    pub fn familiar(&self) -> String {
        let short = self.familiar_name();
        // Some repositories would be read as a registry, or an id, if they stood alone.
        let plain = self.registry == DEFAULT_REGISTRY && split_registry(short).0.is_none() && !looks_like_id(short);
        let mut text = if plain { short.to_owned() } else { self.name() };
        self.push_ending(&mut text);
        text
    }

    /// The same with the tag `latest` if it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same without tag and digest, but with this digest.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// What a registry is asked for: the digest if there is one, else the tag, else `latest`.
    pub fn target(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    fn push_ending(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if looks_like_id(text) {
            return Err(InvalidReference::LooksLikeId(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon after the last slash begins a tag; one before it is a port's.
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[slash..].rfind(':') {
            Some(at) => (&rest[..slash + at], Some(&rest[slash + at + 1..])),
            None => (rest, None),
        };
        let (registry, repository) = split_registry(name);
        let official = registry.is_none_or(|r| r == DEFAULT_REGISTRY || r == "index.docker.io");
        let full = if official && !repository.contains('/') && !repository.is_empty() {
            format!("{OFFICIAL}{repository}")
        } else {
            repository.to_owned()
        };
        if full.bytes().any(|c| c.is_ascii_uppercase()) {
            return Err(InvalidReference::Uppercase(cut(&full)));
        }
        Self::new(registry.unwrap_or(DEFAULT_REGISTRY), &full, tag, digest)
    }
}

fn looks_like_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

/// The registry, if the first component is one, and the rest.
fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|c| c.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

fn form(text: &str, why: &'static str) -> InvalidReference {
    InvalidReference::Form(cut(text), why)
}

fn check_registry(registry: &str) -> Result<(), InvalidReference> {
    let (host, port) = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.is_empty() || !address.bytes().all(|c| c.is_ascii_hexdigit() || c == b':' || c == b'.') {
                return Err(form(registry, "the registry is no IPv6 address"));
            }
            ("v6", rest.strip_prefix(':').or((!rest.is_empty()).then_some("no port")))
        }
        None => registry.split_once(':').map_or((registry, None), |(host, port)| (host, Some(port))),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err() || !port.bytes().all(|c| c.is_ascii_digit())) {
        return Err(form(registry, "the registry's port is no number up to 65535"));
    }
    let label = |label: &str| {
        let inner = label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(form(registry, "the registry is no host name"));
    }
    Ok(())
}

/// Checks a repository's name: components of lower-case letters and digits, parted by `.`, `_`, `__` or dashes inside.
pub fn check_repository(repository: &str) -> Result<(), InvalidReference> {
    if repository.is_empty() {
        return Err(form(repository, "there is no repository"));
    }
    if repository.len() > MAX_NAME {
        return Err(InvalidReference::TooLong(repository.len()));
    }
    if repository.split('/').all(component) {
        return Ok(());
    }
    Err(form(repository, "a component of a repository is lower-case letters and digits, parted by . _ __ or dashes"))
}

fn component(component: &str) -> bool {
    let alphanumeric = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|s| !s.is_empty());
    component.bytes().next().is_some_and(alphanumeric)
        && component.bytes().last().is_some_and(alphanumeric)
        && separators.into_iter().all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|c| c == b'-'))
}

/// Checks a tag: letters, digits, `_`, `.` and `-`, at most 128 of them, the first a letter, digit or `_`.
pub fn check_tag(tag: &str) -> Result<(), InvalidReference> {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let rest = |c: u8| word(c) || c == b'.' || c == b'-';
    if tag.len() > MAX_TAG || !tag.bytes().next().is_some_and(word) || !tag.bytes().all(rest) {
        return Err(form(tag, "a tag is up to 128 letters, digits, _ . and -, and begins with a letter, digit or _"));
    }
    Ok(())
}

impl fmt::Display for Reference {
    /// The whole reference with its registry: `docker.io/library/nginx:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name();
        self.push_ending(&mut text);
        f.write_str(&text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

    #[test]
    fn references() {
        let check = |text: &str, full: &str, familiar: &str| {
            let parsed = text.parse::<Reference>().map(|r| (r.to_string(), r.familiar()));
            assert_eq!(parsed, Ok((full.to_owned(), familiar.to_owned())), "{text:?}");
        };
        check("nginx", "docker.io/library/nginx", "nginx");
        check("nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27");
        check("docker.io/nginx", "docker.io/library/nginx", "nginx");
        check("index.docker.io/library/nginx", "docker.io/library/nginx", "nginx");
        check("me/app:x", "docker.io/me/app:x", "me/app:x");
        check("localhost/app", "localhost/app", "localhost/app");
        check("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1");
        check("ghcr.io/a/b/c", "ghcr.io/a/b/c", "ghcr.io/a/b/c");
        check("Host/app", "Host/app", "Host/app");
        check("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app");
        check("a__b/c-----d.e", "docker.io/a__b/c-----d.e", "a__b/c-----d.e");
        check("1.2.3.4:80/x", "1.2.3.4:80/x", "1.2.3.4:80/x");
        check("docker.io/a.b/c", "docker.io/a.b/c", "docker.io/a.b/c");
        check("docker.io/localhost/c", "docker.io/localhost/c", "docker.io/localhost/c");
        let id = format!("docker.io/library/{HEX}");
        check(&id, &id, &id);
        let digest = format!("nginx:1@sha256:{HEX}");
        check(&digest, &format!("docker.io/library/{digest}"), &digest);
    }

    #[test]
    fn refused() {
        let long = format!("a/{}", "b".repeat(300));
        let bad = [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "a:",
            "a@",
            "a:b c",
            "NGINX",
            "host.io/App",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a@sha256:00",
            "a@md5:00",
            "ho_st.io/a",
            "h.io:99999/a",
            "h.io:x/a",
            "[::1/a",
            "[g]/a",
            "a:-x",
            "a/../b",
            "é",
            "a\0b",
            "a\nb",
            HEX,
            &long,
        ];
        for text in bad {
            let parsed = text.parse::<Reference>();
            assert!(parsed.is_err(), "{text:?} is {parsed:?}");
        }
    }

    #[test]
    fn tags_by_default() {
        let tag = |text: &str| text.parse::<Reference>().unwrap().with_default_tag().familiar();
        assert_eq!(tag("a"), "a:latest");
        assert_eq!(tag("a:1"), "a:1");
        assert_eq!(tag(&format!("a@sha256:{HEX}")), format!("a@sha256:{HEX}"));
    }
}
