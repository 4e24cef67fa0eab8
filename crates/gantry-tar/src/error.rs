//! What can go wrong with an archive.

use std::fmt::Write as _;
use std::io;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate: which entry, what is wrong with it, and which limit it broke.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream that the archive is read from or written to failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The archive ends in the middle of something.
    #[error("tar archive: it ends within {entry}: it was cut off")]
    Truncated {
        /// Entry, or what else was being read.
        entry: String,
    },
    /// A header that is none.
    #[error("tar archive: at byte {at}: {why}: this is no tar archive, or it is damaged")]
    Header {
        /// Where the header begins.
        at: u64,
        /// Reason.
        why: &'static str,
    },
    /// A field of an entry makes no sense.
    #[error("tar archive: {entry}: {field} {why}")]
    Field {
        /// Entry, or where it begins.
        entry: String,
        /// Which field.
        field: &'static str,
        /// Reason.
        why: &'static str,
    },
    /// A kind of entry that is not supported.
    #[error("tar archive: {entry}: entries of type {flag:?} are not supported")]
    Kind {
        /// Entry.
        entry: String,
        /// Its type flag.
        flag: char,
    },
    /// An entry needs more than is allowed.
    #[error("tar archive: {entry}: {what} exceeds the limit of {limit}")]
    Limit {
        /// Entry, or where it begins.
        entry: String,
        /// What there is too much of, with its unit.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
    /// An entry cannot be written, or its data is not what was announced.
    #[error("tar archive: {entry}: {why}")]
    Write {
        /// Entry.
        entry: String,
        /// Reason.
        why: &'static str,
    },
}

/// A name for an error message: what is not printable is escaped, and what is too long is cut.
pub fn show(name: &[u8]) -> String {
    const LONGEST: usize = 160;
    let mut text = String::from("\"");
    for chunk in name[..name.len().min(LONGEST)].utf8_chunks() {
        text.extend(chunk.valid().chars().flat_map(char::escape_debug));
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
    if name.len() > LONGEST {
        let _ = write!(text, "... ({} bytes)", name.len());
    }
    text
}
