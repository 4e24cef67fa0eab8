//! What can go wrong with the store.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_model::digest::Digest;
use rustix::io::Errno;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the store: what was done to which thing, why it failed, and where there is one, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{action}: {}", text(source))]
    Io {
        /// What was done, with the file.
        action: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// No space is left for it, on the disk or in the quota.
    #[error("{action}: the disk is full under {}{}: remove images or containers, or make room", root.display(), Room(needed, *free))]
    Full {
        /// What was done.
        action: String,
        /// Where the store is.
        root: PathBuf,
        /// How many bytes were still needed, if that is known.
        needed: Option<u64>,
        /// How many bytes are free.
        free: u64,
    },
    /// Another process has the store.
    #[error("the store {} is in use by {holder}; waited {} s: stop it, or wait for it to end", root.display(), waited.as_secs())]
    Locked {
        /// Where the store is.
        root: PathBuf,
        /// Who holds it.
        holder: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The database failed.
    #[error("{action}: database {}: {source}", path.display())]
    Database {
        /// What was done.
        action: &'static str,
        /// The database's file.
        path: PathBuf,
        /// Its word.
        #[source]
        source: Box<redb::Error>,
    },
    /// The content has not the digest that it should have.
    #[error("content of {expected} has the digest {found}: it was damaged on the way, fetch it again")]
    Mismatch {
        /// As it was announced.
        expected: Digest,
        /// As it is.
        found: Digest,
    },
    /// The content has not the size that it should have.
    #[error("content of {digest} has {found} bytes instead of {expected}: fetch it again")]
    Size {
        /// What was announced.
        digest: Digest,
        /// Its size as announced.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// Something larger than is read into memory.
    #[error("{digest} has {size} bytes, at most {limit} are read")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// What was allowed.
        limit: u64,
    },
    /// Something is not here.
    #[error("{kind} {name} is not in the store")]
    Missing {
        /// What it is.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A snapshot of that name is here already.
    #[error("snapshot {0} exists already: remove it first, or choose another key")]
    Exists(String),
    /// Something outside the rules was asked for.
    #[error("{what} {value:?}: {why}")]
    Invalid {
        /// What was asked for.
        what: &'static str,
        /// Its value.
        value: String,
        /// Reason.
        why: String,
    },
    /// What lies in the store is not what it should be.
    #[error("{what}: {why}")]
    Corrupt {
        /// The thing.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The layer could not be unpacked or packed.
    #[error(transparent)]
    Layer(Box<crate::layer::LayerError>),
}

impl Error {
    /// Whether a full disk or quota is the cause.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// Whether what was asked for is not in the store.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    pub(crate) fn missing(kind: &'static str, name: impl fmt::Display) -> Self {
        Self::Missing { kind, name: name.to_string() }
    }

    pub(crate) fn corrupt(what: impl fmt::Display, why: impl Into<String>) -> Self {
        Self::Corrupt { what: what.to_string(), why: why.into() }
    }
}

/// Whether an error of the system says that no space is left.
pub(crate) fn no_space(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(Errno::NOSPC.raw_os_error()) || code == Some(Errno::DQUOT.raw_os_error())
}

/// Free bytes of the file system of a directory.
pub(crate) fn free_bytes(root: &Path) -> u64 {
    rustix::fs::statvfs(root).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Turns a failure of the system into an error of this crate; a full disk becomes one of its own.
pub(crate) fn io_error(
    root: &Path,
    action: impl Into<String>,
    needed: Option<u64>,
    source: impl Into<io::Error>,
) -> Error {
    let (action, source) = (action.into(), source.into());
    if no_space(&source) {
        return Error::Full { action, root: root.to_owned(), needed, free: free_bytes(root) };
    }
    Error::Io { action, source }
}

fn text(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), gantry_sys::misc::error_text)
}

struct Room<'a>(&'a Option<u64>, u64);

impl fmt::Display for Room<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // What gave up meanwhile may have left room since.
            Some(needed) if *needed <= self.1 => write!(f, ": {needed} bytes were needed"),
            Some(needed) => write!(f, ": {needed} bytes are needed, {} are free", self.1),
            None => write!(f, ": {} bytes are free", self.1),
        }
    }
}
