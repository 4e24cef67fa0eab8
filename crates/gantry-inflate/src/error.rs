//! What can be wrong with a stream.

use std::io;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream that is read from failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The stream ends before its end.
    #[error("gzip: the stream ends in its middle: it was cut off")]
    Truncated,
    /// A member does not begin as one.
    #[error("gzip: {0}: this is no gzip stream, or it is damaged")]
    Header(&'static str),
    /// The compressed data make no sense.
    #[error("gzip: {0}: the stream is damaged")]
    Data(&'static str),
    /// What came out is not what went in.
    #[error("gzip: the {0} of what was unpacked is not that of the original: the stream is damaged")]
    Check(&'static str),
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => error,
            Error::Truncated => Self::new(io::ErrorKind::UnexpectedEof, error),
            _ => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}
