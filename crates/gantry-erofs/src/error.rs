//! What can go wrong while an image is written.

use gantry_tar::show;
use std::io;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate: which entry, and what is wrong with it. An image whose builder gave one is not to be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image could not be written, or the data of a file not be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The archive that the entries come from is damaged.
    #[error(transparent)]
    Tar(#[from] gantry_tar::Error),
    /// An entry cannot be part of an image.
    #[error("EROFS image: {path}: {why}")]
    Entry {
        /// Path of the entry.
        path: String,
        /// Reason.
        why: &'static str,
    },
    /// An attribute cannot be part of an image.
    #[error("EROFS image: {path}: attribute {name}: {why}")]
    Xattr {
        /// Path of the entry.
        path: String,
        /// Name of the attribute.
        name: String,
        /// Reason.
        why: &'static str,
    },
    /// A hard link to something that was not an entry before.
    #[error("EROFS image: {path}: a hard link to {target}, which does not exist in this image")]
    NoTarget {
        /// Path of the entry.
        path: String,
        /// What it links to.
        target: String,
    },
    /// The data of a file does not have the length that was announced.
    #[error("EROFS image: {path}: the file was announced with {size} bytes and got {why}")]
    Size {
        /// Path of the entry.
        path: String,
        /// How many bytes were announced.
        size: u64,
        /// Reason.
        why: &'static str,
    },
    /// More than is allowed.
    #[error("EROFS image: {path}: {what} exceeds the limit of {limit}")]
    Limit {
        /// Path of the entry.
        path: String,
        /// What there is too much of, with its unit.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
    /// The image would be larger than the format allows.
    #[error("EROFS image: {what} exceeds what block numbers of 32 bits can address: keep this layer as a directory")]
    TooLarge {
        /// What does not fit.
        what: &'static str,
    },
}

impl Error {
    pub(crate) fn entry(path: &[u8], why: &'static str) -> Self {
        Self::Entry { path: show(path), why }
    }

    pub(crate) fn limit(path: &[u8], what: &'static str, limit: u64) -> Self {
        Self::Limit { path: show(path), what, limit }
    }
}
