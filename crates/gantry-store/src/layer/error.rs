//! What can go wrong with a layer.

use std::io;

use gantry_tar::show;
use rustix::io::Errno;

/// An error of layers: which entry, what was done to it, and why it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The compressed stream cannot be read, or is damaged.
    #[error("read the layer: {0}")]
    Source(#[source] io::Error),
    /// What is made cannot be written.
    #[error("write the archive: {0}")]
    Output(#[source] io::Error),
    /// The archive is damaged, or holds something that is not supported.
    #[error(transparent)]
    Archive(#[from] gantry_tar::Error),
    /// The kernel refused something.
    #[error("{action} {entry}: {}", text(*errno))]
    Kernel {
        /// What was done.
        action: &'static str,
        /// Entry, escaped.
        entry: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// An entry that is refused.
    #[error("entry {entry}: {why}")]
    Refused {
        /// Entry, escaped.
        entry: String,
        /// Reason.
        why: &'static str,
    },
    /// A layer that uses more than it may.
    #[error("entry {entry}: {what} exceeds the limit of {limit}")]
    Limit {
        /// Entry, escaped, or what else was being read.
        entry: String,
        /// What there is too much of, with its unit.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
    /// A hard link to something that is nowhere.
    #[error("entry {entry}: it is a hard link to {target}, which is neither in this layer nor in one below it")]
    Dangling {
        /// Entry, escaped.
        entry: String,
        /// Its target, escaped.
        target: String,
    },
    /// An image of the layer cannot be made.
    #[error(transparent)]
    Image(#[from] gantry_erofs::Error),
    /// A thread ended unexpectedly.
    #[error("a thread of the unpacking ended unexpectedly")]
    Thread,
}

impl LayerError {
    /// Whether the disk, or the user's share of it, is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Kernel { errno, .. } => matches!(*errno, Errno::NOSPC | Errno::DQUOT),
            Self::Source(error) | Self::Output(error) | Self::Image(gantry_erofs::Error::Io(error)) => {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    pub(super) fn refused(entry: &[u8], why: &'static str) -> Self {
        Self::Refused { entry: show(entry), why }
    }

    pub(super) fn limit(entry: &[u8], what: &'static str, limit: u64) -> Self {
        Self::Limit { entry: show(entry), what, limit }
    }

    /// For `map_err`: an answer of the kernel to what was done to an entry.
    pub(super) fn kernel(action: &'static str, entry: &[u8]) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::Kernel { action, entry: show(entry), errno }
    }
}

fn text(errno: Errno) -> String {
    gantry_sys::misc::error_text(errno.raw_os_error())
}
