//! Hashing content as it passes.

use std::io::{self, Read};

use gantry_model::digest::{Algorithm, Digest};
use sha2::{Digest as _, Sha256, Sha512};

use crate::error::{Error, Result};

/// How much is read at a time.
pub(crate) const CHUNK: usize = 1 << 20;

/// A hash in the making.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Box::new(Sha512::new())),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Result<Digest> {
        let made = match self {
            Self::Sha256(hash) => Digest::from_bytes(Algorithm::Sha256, &hash.finalize()),
            Self::Sha512(hash) => Digest::from_bytes(Algorithm::Sha512, &hash.finalize()),
        };
        made.map_err(|error| Error::corrupt("a digest", error.to_string()))
    }

    /// Takes in all that a reader has; returns how many bytes that were.
    pub(crate) fn read(&mut self, reader: &mut dyn Read) -> io::Result<u64> {
        let mut buffer = vec![0; CHUNK];
        let mut total = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(total),
                Ok(count) => {
                    self.update(&buffer[..count]);
                    total += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The digest of some bytes.
pub(crate) fn digest(algorithm: Algorithm, bytes: &[u8]) -> Result<Digest> {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// The id of a layer together with those below it (image-spec, config.md, Layer ChainID).
pub fn chain_id(parent: Option<&Digest>, diff_id: &Digest) -> Digest {
    let Some(parent) = parent else { return diff_id.clone() };
    // A hash of 32 bytes always makes a digest, so the other branch is never taken; it is no reason to panic.
    digest(Algorithm::Sha256, format!("{parent} {diff_id}").as_bytes()).unwrap_or_else(|_| diff_id.clone())
}

/// The chain ids of a whole list of layers, the lowest first.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chains.push(chain_id(chains.last(), diff_id));
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_those_of_the_specification() {
        let [a, b] = ["a", "b"].map(|digit| format!("sha256:{}", digit.repeat(64)).parse::<Digest>().unwrap());
        assert_eq!(chain_id(None, &a), a);
        let expect = digest(Algorithm::Sha256, format!("{a} {b}").as_bytes()).unwrap();
        assert_eq!(chain_ids(&[a.clone(), b]), [a, expect]);
    }

    #[test]
    fn both_algorithms() {
        let check = |algorithm, expect: &str| {
            let found = digest(algorithm, b"").unwrap().to_string();
            assert!(found.starts_with(expect), "{found}");
        };
        check(Algorithm::Sha256, "sha256:e3b0c44298fc1c149afbf4c8996fb924");
        check(Algorithm::Sha512, "sha512:cf83e1357eefb8bdf1542850d66d8007");
    }
}
