//! What can go wrong with a registry as a whole. What a client asked wrongly is a [`crate::api::Refusal`] instead: it is
//! an answer, not a failure.

use std::path::{Path, PathBuf};

/// An error of this crate: what was done to what, why it failed, and where there is one, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value of the configuration cannot be used.
    #[error("configuration of the registry: {field}: {why}")]
    Config {
        /// Name of the field, as in the file.
        field: String,
        /// Reason, and what to write instead.
        why: String,
    },
    /// The configuration is no TOML of the expected shape.
    #[error("configuration of the registry: {0}")]
    Toml(#[from] toml::de::Error),
    /// The registry would be open to others.
    #[error(
        "the registry would listen on {listen} without {missing}: set them up, listen on 127.0.0.1, or say insecure_open = \
         true (--insecure-open) if whoever reaches it may use it"
    )]
    Open {
        /// The address asked for.
        listen: std::net::SocketAddr,
        /// What there is not.
        missing: &'static str,
    },
    /// A file or directory of the registry could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process uses the storage.
    #[error("{} is in use by another registry: stop it, or choose another storage.root", .0.display())]
    InUse(PathBuf),
    /// The object store failed.
    #[error("storage: {action} {key}: {source}")]
    Storage {
        /// What was done.
        action: &'static str,
        /// To which object.
        key: String,
        /// Why not.
        source: object_store::Error,
    },
    /// An object of the storage holds what no registry wrote.
    #[error("storage: {key}: {why}")]
    Content {
        /// Which object.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// A certificate, key or password file cannot be used.
    #[error("{}: {why}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The registry that this one caches did not answer as hoped.
    #[error("upstream {name}: {why}")]
    Upstream {
        /// Its name.
        name: String,
        /// What happened.
        why: String,
    },
    /// A repository may not hold so much.
    #[error("{repository} may hold {most} bytes, and {more} more are too many")]
    Quota {
        /// Its name.
        repository: String,
        /// The most that it may hold.
        most: u64,
        /// What was to come.
        more: u64,
    },
    /// A task of the server ended without a result.
    #[error("the server is shutting down")]
    Stopped,
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn config(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Config { field: field.into(), why: why.into() }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<std::io::Error>) -> Self {
        Self::Io { action, path: path.into(), source: source.into() }
    }

    pub(crate) fn storage(action: &'static str, key: &str, source: object_store::Error) -> Self {
        Self::Storage { action, key: key.into(), source }
    }

    pub(crate) fn content(key: &str, why: impl Into<String>) -> Self {
        Self::Content { key: key.into(), why: why.into() }
    }

    pub(crate) fn secret(path: &Path, why: impl Into<String>) -> Self {
        Self::Secret { path: path.into(), why: why.into() }
    }

    /// Whether the disk is full, so that the client can be told.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
    }
}
