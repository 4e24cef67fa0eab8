//! The names of objects in the storage.
//!
//! ```text
//! blobs/<algorithm>/<first two digits>/<digits>        content, shared by all repositories
//! repos/<repository, with @ for />/tags/<tag>          what a tag points to
//! repos/<repository>/manifests/<algorithm>-<digits>    a line of JSON, then the manifest's bytes
//! repos/<repository>/blobs/<algorithm>-<digits>        that the repository has a blob
//! gc/pending                                           since when blobs are not needed
//! keys/token                                           the key of tokens
//! ```
//!
//! Each change is one object, so that a crash leaves all of it or nothing. Referrers, and what a blob is needed by, are
//! worked out of the manifests.

use gantry_model::digest::{Algorithm, Digest};

pub(crate) const BLOBS: &str = "blobs/";
pub(crate) const REPOSITORIES: &str = "repos/";
pub(crate) const PENDING: &str = "gc/pending";
pub(crate) const TOKEN: &str = "keys/token";

pub(crate) fn blob(digest: &Digest) -> String {
    format!("{BLOBS}{}/{}/{}", digest.algorithm().as_str(), &digest.hex()[..2], digest.hex())
}

/// The digest of a blob's name, if it is one.
pub(crate) fn blob_digest(key: &str) -> Option<Digest> {
    let mut parts = key.strip_prefix(BLOBS)?.split('/');
    let (algorithm, _, hex) = (parts.next()?, parts.next()?, parts.next()?);
    format!("{algorithm}:{hex}").parse().ok()
}

pub(crate) fn repository(name: &str) -> String {
    format!("{REPOSITORIES}{}/", name.replace('/', "@"))
}

/// The repository of a directory's name.
pub(crate) fn repository_name(directory: &str) -> String {
    directory.replace('@', "/")
}

pub(crate) fn tag(repository: &str, tag: &str) -> String {
    format!("{}tags/{tag}", self::repository(repository))
}

pub(crate) fn manifest(repository: &str, digest: &Digest) -> String {
    format!("{}manifests/{}", self::repository(repository), flat(digest))
}

pub(crate) fn link(repository: &str, digest: &Digest) -> String {
    format!("{}blobs/{}", self::repository(repository), flat(digest))
}

fn flat(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().as_str(), digest.hex())
}

/// The digest of a flat name.
pub(crate) fn unflat(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.split_once('-')?;
    let algorithm = Algorithm::ALL.into_iter().find(|a| a.as_str() == algorithm)?;
    Digest::from_hex(algorithm, hex).ok()
}
