//! What can go wrong between here and a registry.

use std::fmt::Write as _;
use std::path::PathBuf;

use gantry_model::Digest;

/// The result of everything that talks to a registry.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate: what was asked of whom, why it failed, and where there is one, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration of the client cannot be used.
    #[error("configuration of registries: {0}")]
    Config(String),
    /// A file could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was done.
        action: &'static str,
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file holds something unexpected.
    #[error("{}: {why}", path.display())]
    Content {
        /// Its path.
        path: PathBuf,
        /// Reason.
        why: String,
    },
    /// A credential helper failed.
    #[error("{program} {action}: {why}")]
    Helper {
        /// Name of the program.
        program: String,
        /// What it was asked for: `get`, `store` or `erase`.
        action: &'static str,
        /// Reason.
        why: String,
    },
    /// No connection, or it broke.
    #[error("{host}: {why}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// The chain of causes, and what to do.
        why: String,
    },
    /// The proxies that the environment names cannot be used.
    #[error("proxies of the environment: {0}")]
    Environment(String),
    /// A proxy does not let us through.
    #[error("{host}: the proxy {proxy} does not let us through: {why}")]
    Proxy {
        /// Host and port that were asked for.
        host: String,
        /// The proxy, without name and password.
        proxy: String,
        /// Reason, and what to do.
        why: String,
    },
    /// The registry did not answer in time.
    #[error("{host}: no answer to {what} within {seconds} s")]
    Timeout {
        /// Host and port.
        host: String,
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// The registry refused.
    #[error("{host}: {what}: {status}{}", detail(message))]
    Status {
        /// Host and port.
        host: String,
        /// The request: method and path.
        what: String,
        /// The status of the answer.
        status: u16,
        /// The first code of the answer's body (`NAME_UNKNOWN`); may be empty.
        code: String,
        /// What the registry says about it; may be empty.
        message: String,
    },
    /// The registry wants credentials, or other ones.
    #[error(
        "{host}: {what}: access denied{}; check the name, or log in with: gantry login {registry}",
        detail(message)
    )]
    Denied {
        /// Host and port.
        host: String,
        /// The registry to log in to.
        registry: String,
        /// The request: method and path.
        what: String,
        /// What the registry says about it; may be empty.
        message: String,
    },
    /// The registry limits how often it is asked, and wants a longer pause than we take.
    #[error("{host}: {what}: too many requests{}", pause(*seconds))]
    RateLimited {
        /// Host and port.
        host: String,
        /// The request: method and path.
        what: String,
        /// The pause that it asks for, in seconds.
        seconds: Option<u64>,
    },
    /// The registry breaks the protocol.
    #[error("{host}: {why}")]
    Protocol {
        /// Host and port.
        host: String,
        /// How.
        why: String,
    },
    /// The content has another digest than asked for or said.
    #[error("{host}: {what} has the digest {found} and not {expected}")]
    Digest {
        /// Host and port.
        host: String,
        /// What was fetched or sent.
        what: String,
        /// As asked for.
        expected: Digest,
        /// As computed, or as the registry says.
        found: Digest,
    },
    /// The content is longer or shorter than its descriptor says.
    #[error("{host}: {what} has {found} bytes and not {expected}")]
    Size {
        /// Host and port.
        host: String,
        /// What was fetched.
        what: String,
        /// By the descriptor.
        expected: u64,
        /// As the registry says or sent, so far.
        found: u64,
    },
    /// More bytes than are taken.
    #[error("{host}: {what} is larger than {limit} bytes, which is the most that is taken")]
    TooLarge {
        /// Host and port.
        host: String,
        /// What was fetched.
        what: String,
        /// The most that is taken.
        limit: u64,
    },
    /// A stream that was sent once cannot be sent again.
    #[error("{host}: upload of {what} was cut off and cannot go on: {why}; try again")]
    Interrupted {
        /// Host and port.
        host: String,
        /// Which blob.
        what: String,
        /// Reason.
        why: String,
    },
    /// What was to be sent could not be read.
    #[error("reading what is to be sent: {0}")]
    Source(#[source] std::io::Error),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// The status that the registry answered with, if it is about one.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Denied { .. } => Some(401),
            Self::RateLimited { .. } => Some(429),
            _ => None,
        }
    }

    /// Whether the registry says that there is no such thing.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }

    /// Whether the same request may succeed a little later.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::RateLimited { .. } => true,
            Self::Status { status, .. } => crate::retry::is_transient(*status),
            _ => false,
        }
    }

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File { action, path: path.into(), source }
    }

    pub(crate) fn protocol(host: &str, why: impl Into<String>) -> Self {
        Self::Protocol { host: host.to_owned(), why: why.into() }
    }
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn pause(seconds: Option<u64>) -> String {
    match seconds {
        Some(seconds) => format!("; it asks to wait for {seconds} s"),
        None => "; try again later, or log in for a higher limit".to_owned(),
    }
}

/// An error and what caused it, in one line; what a cause only repeats is left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            let _ = write!(text, ": {more}");
        }
        next = cause.source();
    }
    text
}
