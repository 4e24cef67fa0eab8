//! Patterns for repositories and tags, as rules of access, retention, immutability and quotas use them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A pattern: `*` is any text without a slash, `**` any text, `?` one character, `{user}` the user's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern from its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The one that everything matches.
    pub fn all() -> Self {
        Self::new("**")
    }

    /// Whether a text matches as a whole.
    pub fn matches(&self, text: &str) -> bool {
        matches(self.0.as_bytes(), text.as_bytes())
    }

    /// Whether a text matches, with `{user}` standing for a name. A name with other than word characters matches none.
    pub fn matches_for(&self, text: &str, user: &str) -> bool {
        if !self.0.contains("{user}") {
            return self.matches(text);
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !user.is_empty() && user.chars().all(plain) && Self(self.0.replace("{user}", user)).matches(text)
    }
}

/// Matches with one way back for each kind of star, so that the time is bounded by the product of the lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // reachable[j]: whether the pattern so far matches the first j bytes of the text.
    let mut reachable = vec![false; text.len() + 1];
    reachable[0] = true;
    let mut at = 0;
    while at < pattern.len() {
        let deep = pattern[at..].starts_with(b"**");
        if pattern[at] == b'*' {
            for j in 1..=text.len() {
                reachable[j] |= reachable[j - 1] && (deep || text[j - 1] != b'/');
            }
            at += 1 + usize::from(deep);
            continue;
        }
        for j in (1..=text.len()).rev() {
            let same = pattern[at] == text[j - 1] || (pattern[at] == b'?' && text[j - 1] != b'/');
            reachable[j] = reachable[j - 1] && same;
        }
        reachable[0] = false;
        at += 1;
    }
    reachable[text.len()]
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() || text.len() > 512 {
            return Err(serde::de::Error::custom("a pattern has 1 to 512 characters; ** matches everything"));
        }
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, text: &str, expect: bool| {
            assert_eq!(Pattern::new(pattern).matches_for(text, "ann"), expect, "{pattern} {text}");
        };
        check("**", "a/b/c", true);
        check("*", "a", true);
        check("*", "a/b", false);
        check("a/*", "a/b", true);
        check("a/*", "a/b/c", false);
        check("a/**", "a/b/c", true);
        check("a/**", "a", false);
        check("v*.*", "v1.2", true);
        check("v*.*", "v12", false);
        check("pr-??", "pr-12", true);
        check("pr-??", "pr-1", false);
        check("users/{user}/*", "users/ann/x", true);
        check("users/{user}/*", "users/bob/x", false);
        check("*a*a*a*a*a*a*a*b", &"a".repeat(200), false);
        check("", "", true);
        assert!(!Pattern::new("{user}").matches_for("**", "**"));
    }
}
