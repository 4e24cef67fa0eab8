//! Answers that say no: the specification's error codes, and the JSON that carries them.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::body::{Body, Response};
use crate::error::Error;

/// The codes (distribution-spec, Error Codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    /// Docker's, for tags that are none.
    TagInvalid,
    /// Ours, for failures of the server.
    Unknown,
}

impl Code {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::TagInvalid => "TAG_INVALID",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The status that a code usually goes with.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown | Self::BlobUploadUnknown | Self::ManifestUnknown | Self::NameUnknown => {
                StatusCode::NOT_FOUND
            }
            Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestBlobUnknown
            | Self::ManifestInvalid
            | Self::NameInvalid
            | Self::TagInvalid
            | Self::SizeInvalid => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An answer that says no.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub status: StatusCode,
    pub code: Code,
    pub message: String,
    pub headers: HeaderMap,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { status: code.status(), code, message: message.into(), headers: HeaderMap::new() }
    }

    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub fn into_response(self) -> Response {
        let text = serde_json::json!({"errors": [{"code": self.code.as_str(), "message": self.message}]}).to_string();
        let mut response = Response::new(Body::full(text));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        if error.is_full() {
            tracing::error!(%error, "storage is full");
            let full = Self::new(Code::Unknown, "the registry's storage is full: free some, then push again");
            return full.with_status(StatusCode::INSUFFICIENT_STORAGE);
        }
        match error {
            Error::Stopped => Self::new(Code::Unknown, error.to_string()).with_status(StatusCode::SERVICE_UNAVAILABLE),
            Error::Quota { .. } => Self::new(Code::Denied, error.to_string()),
            Error::Upstream { .. } => {
                tracing::warn!(%error);
                Self::new(Code::Unknown, error.to_string()).with_status(StatusCode::BAD_GATEWAY)
            }
            error => {
                // What lies where is the operator's to know.
                tracing::error!(%error, "request failed");
                Self::new(Code::Unknown, "the registry could not read or write its storage; its log says why")
            }
        }
    }
}
