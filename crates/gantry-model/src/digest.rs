//! Content digests (image-spec, descriptor.md, Digests).
//!
//! A digest names a file, a cache key and a part of a URL, so what it may hold is decided once, here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The algorithms that content is named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, which every registry has.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name before the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal digits a digest has.
    pub const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A digest: `sha256:` or `sha512:` and lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

/// Why a text is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDigest {
    /// There is no colon, or nothing before or after it.
    #[error("{0:?} is no digest: one looks like sha256:<64 hexadecimal digits>")]
    Form(String),
    /// The algorithm is none that Gantry computes.
    #[error("digest algorithm {0:?} is not supported: it is sha256 or sha512")]
    Algorithm(String),
    /// The digits are too few, too many, or none.
    #[error("{0:?} is no {1} digest: {2} lower-case hexadecimal digits follow the colon")]
    Hex(String, &'static str, usize),
}

/// A text for an error message, cut to a length that fits one.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(160).collect()
}

impl Digest {
    /// A digest from the bytes of a hash.
    ///
    /// The bytes are those of `algorithm`'s output; of another length they are refused.
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, InvalidDigest> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|n| char::from(DIGITS[usize::from(n)]));
        Self::from_hex(algorithm, &digits.collect::<String>())
    }

    /// A digest from its digits.
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Result<Self, InvalidDigest> {
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if hex.len() != algorithm.hex_len() || !hex.bytes().all(digit) {
            return Err(InvalidDigest::Hex(cut(hex), algorithm.as_str(), algorithm.hex_len()));
        }
        Ok(Self { algorithm, hex: hex.into() })
    }

    /// What it was computed with.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digits.
    pub const fn hex(&self) -> &str {
        &self.hex
    }

    /// The first twelve digits, as tables show them.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let Some((algorithm, hex)) = text.split_once(':').filter(|(a, h)| !a.is_empty() && !h.is_empty()) else {
            return Err(InvalidDigest::Form(cut(text)));
        };
        let known = Algorithm::ALL.into_iter().find(|known| known.as_str() == algorithm);
        Self::from_hex(known.ok_or_else(|| InvalidDigest::Algorithm(cut(algorithm)))?, hex)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests() {
        let check = |text: &str, ok: bool| {
            let parsed = text.parse::<Digest>();
            assert_eq!(parsed.is_ok(), ok, "{text:?}: {parsed:?}");
            if let Ok(digest) = parsed {
                assert_eq!(digest.to_string(), text);
            }
        };
        check(&format!("sha256:{}", "a0".repeat(32)), true);
        check(&format!("sha512:{}", "0f".repeat(64)), true);
        for text in ["", ":", "sha256:", "sha256", ":00", "md5:00", "sha256:00", "../../etc"] {
            check(text, false);
        }
        for hex in ["A0".repeat(32), "g0".repeat(32), "a0".repeat(33), "é".repeat(32), "../".repeat(22)] {
            check(&format!("sha256:{hex}"), false);
        }
    }

    #[test]
    fn bytes_become_digits() {
        let digest = Digest::from_bytes(Algorithm::Sha256, &[0xa5; 32]).unwrap();
        assert_eq!(digest.hex(), "a5".repeat(32));
        assert_eq!(digest.short(), "a5a5a5a5a5a5");
        assert!(Digest::from_bytes(Algorithm::Sha512, &[0; 32]).is_err());
    }
}
