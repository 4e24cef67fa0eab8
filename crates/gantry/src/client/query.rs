//! Paths and queries of requests: every part is from outside, and is written so that it stays one part.

use std::fmt::Write as _;

/// A request's path below the version, and its query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    text: String,
    query: bool,
}

impl Target {
    /// A path of fixed parts and of names between them: `Target::new(&["containers", id, "json"])`.
    pub fn new(parts: &[&str]) -> Self {
        let mut text = String::new();
        for part in parts {
            text.push('/');
            escape(&mut text, part);
        }
        Self { text, query: false }
    }

    /// The same for a name that may have slashes, which stay: `Target::named("images", "a/b:c", "json")`.
    pub fn named(before: &str, name: &str, after: &str) -> Self {
        let mut text = format!("/{before}");
        for part in name.split('/') {
            text.push('/');
            escape(&mut text, part);
        }
        if !after.is_empty() {
            let _ = write!(text, "/{after}");
        }
        Self { text, query: false }
    }

    /// One more value.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.text.push(if self.query { '&' } else { '?' });
        self.query = true;
        self.text.push_str(name);
        self.text.push('=');
        escape(&mut self.text, value);
        self
    }

    /// One more value, if there is one.
    #[must_use]
    pub fn maybe(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// A switch, which is left out if it is off.
    #[must_use]
    pub fn flag(self, name: &str, on: bool) -> Self {
        if on { self.with(name, "1") } else { self }
    }

    /// Path and query.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Percent-encodes what has a meaning in a path or query.
fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let check = |target: Target, expect: &str| assert_eq!(target.as_str(), expect);
        check(Target::new(&["containers", "a/b?c", "json"]), "/containers/a%2Fb%3Fc/json");
        check(Target::named("images", "h:5000/a b:1", "push"), "/images/h:5000/a%20b:1/push");
        check(Target::named("images", "a", ""), "/images/a");
        let target = Target::new(&["x"]).flag("all", true).flag("none", false).maybe("m", None).with("f", "{\"é\":1}");
        check(target, "/x?all=1&f=%7B%22%C3%A9%22:1%7D");
    }
}
