//! Container identifiers.
//!
//! An identifier becomes a directory name, a cgroup name and a systemd unit name, so what it may hold is decided once,
//! here, before it is used for any of them.

use std::fmt;

/// The longest name a directory may have on the file systems of Linux, in bytes.
const NAME_MAX: usize = 255;

/// A container's identifier: matches `[A-Za-z0-9_+-][A-Za-z0-9_+.-]*`, at most [`NAME_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

/// Why a string is no container identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The identifier has no characters.
    #[error("container ID is empty")]
    Empty,
    /// The identifier does not fit a directory name.
    #[error("container ID is {0} bytes long, at most {NAME_MAX} fit")]
    TooLong(usize),
    /// A character that is not allowed, or not at this place.
    #[error(
        "container ID {id:?} has the invalid character {found:?} at position {at}: an ID matches [A-Za-z0-9_+-][A-Za-z0-9_+.-]*"
    )]
    Character {
        /// The identifier as given, cut to a length that fits a message.
        id: String,
        /// The offending character.
        found: char,
        /// Its place, in bytes.
        at: usize,
    },
}

impl ContainerId {
    /// Checks `id` and keeps it.
    pub fn new(id: &str) -> Result<Self, InvalidId> {
        if id.is_empty() {
            return Err(InvalidId::Empty);
        }
        if id.len() > NAME_MAX {
            return Err(InvalidId::TooLong(id.len()));
        }
        let allowed = |at: usize, c: char| c.is_ascii_alphanumeric() || "_+-".contains(c) || (c == '.' && at > 0);
        match id.char_indices().find(|&(at, c)| !allowed(at, c)) {
            Some((at, found)) => Err(InvalidId::Character { id: id.chars().take(64).collect(), found, at }),
            None => Ok(Self(id.to_owned())),
        }
    }

    /// The identifier's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let check = |id: &str, ok: bool| assert_eq!(ContainerId::new(id).is_ok(), ok, "{id:?}");
        for id in ["a", "A9", "_x", "+x", "-x", "a.b", "a..b", "0123456789abcdef", &"a".repeat(255)] {
            check(id, true);
        }
        for id in ["", ".", "..", ".a", "a/b", "../a", "a b", "a\0b", "é", "a\n", &"a".repeat(256)] {
            check(id, false);
        }
    }
}
