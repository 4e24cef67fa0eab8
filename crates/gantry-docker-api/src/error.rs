//! Errors as clients expect them: a status, and a document with a message.

use gantry_engine::Kind;
use http::StatusCode;

/// A request that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The status.
    pub(crate) status: StatusCode,
    /// Why.
    pub(crate) message: String,
}

/// What a handler gives.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// What was asked for makes no sense.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// It is not there.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// It failed here.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }
}

/// Nothing was said where a container is meant.
pub(crate) fn no_name() -> Failure {
    Failure::invalid("invalid name or ID supplied: \"\"")
}

/// The status of an error's kind.
pub(crate) fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::NotModified => StatusCode::NOT_MODIFIED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<gantry_engine::Error> for Failure {
    fn from(error: gantry_engine::Error) -> Self {
        Self::new(status(error.kind()), error.to_string())
    }
}

impl From<gantry_images::Error> for Failure {
    fn from(error: gantry_images::Error) -> Self {
        gantry_engine::Error::from(error).into()
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        if error.is_eof() {
            return Self::invalid("invalid JSON: unexpected EOF");
        }
        Self::invalid(format!("invalid JSON: {error}"))
    }
}
