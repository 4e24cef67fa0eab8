//! What can go wrong in the engine, and of which kind it is: front doors make their status codes of the kind.

use crate::spec::Invalid;

/// A result of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Of which kind an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for makes no sense.
    Invalid,
    /// What it is about is not there.
    NotFound,
    /// What it is about is in a state that forbids it.
    Conflict,
    /// It is so already.
    NotModified,
    /// It is not allowed.
    Forbidden,
    /// The machine or this program cannot do it.
    Unsupported,
    /// It is not possible now.
    Unavailable,
    /// The machine failed.
    Internal,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing.
    #[error("No such {0}: {1}")]
    NoSuch(&'static str, String),
    /// A name or the beginning of an id that fits several.
    #[error("multiple {0}s found with provided prefix: {1}")]
    Ambiguous(&'static str, String),
    /// A network that is not there.
    #[error("network {0} not found")]
    NoNetwork(String),
    /// A file that is not there.
    #[error("{0}")]
    NoFile(String),
    /// A driver that is not there, in the words for plugins.
    #[error("{0}")]
    NoDriver(String),
    /// A volume that is not there.
    #[error("get {0}: no such volume")]
    NoVolume(String),
    /// The name is taken.
    #[error(
        "Conflict. The container name {name:?} is already in use by container {by:?}. You have to remove (or rename) that \
         container to be able to reuse that name."
    )]
    NameTaken {
        /// The name, with its slash.
        name: String,
        /// The container that has it.
        by: String,
    },
    /// A name with characters that names cannot have.
    #[error("Invalid {0} name ({1}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    InvalidName(&'static str, String),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The settings ask for what cannot be.
    #[error(transparent)]
    Settings(#[from] Invalid),
    /// It cannot be done in the state that things are in.
    #[error("{0}")]
    Conflict(String),
    /// It is so already.
    #[error("{0}")]
    NotModified(String),
    /// It is not allowed.
    #[error("{0}")]
    Forbidden(String),
    /// It is not to be had here.
    #[error("{0}")]
    Unsupported(String),
    /// The process could not be made.
    #[error("{cause}")]
    Start {
        /// The runtime's words.
        cause: String,
        /// The exit status that tells of it: 127 if there is no such program, 126 if it cannot be executed, else 128.
        code: i32,
    },
    /// A container could not be saved.
    #[error("cannot checkpoint container {container}: {cause}")]
    Checkpoint {
        /// As it was asked for.
        container: String,
        /// The runtime's words.
        cause: String,
    },
    /// The image.
    #[error(transparent)]
    Image(#[from] gantry_images::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] gantry_store::Error),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] gantry_runtime::Error),
    /// The network.
    #[error(transparent)]
    Network(#[from] gantry_net::Error),
    /// A user namespace could not be had.
    #[error(transparent)]
    UserNamespace(#[from] crate::userns::Error),
    /// The database.
    #[error("{action}: the engine's database failed: {source}")]
    Database {
        /// What was being done.
        action: &'static str,
        /// The cause.
        source: Box<redb::Error>,
    },
    /// A record that cannot be read.
    #[error("{what} is damaged: {cause}")]
    Damaged {
        /// Whose.
        what: String,
        /// What is wrong.
        cause: String,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The engine is ending.
    #[error("the engine is shutting down")]
    Closed,
}

impl Error {
    /// Of which kind it is.
    pub fn kind(&self) -> Kind {
        use gantry_images::Error as Image;
        use gantry_net::Error as Net;
        match self {
            Self::NoSuch(..) | Self::NoFile(_) | Self::NoNetwork(_) | Self::NoDriver(_) | Self::NoVolume(_) => {
                Kind::NotFound
            }
            Self::Image(error) if error.is_not_found() => Kind::NotFound,
            Self::Ambiguous(..)
            | Self::InvalidName(..)
            | Self::Invalid(_)
            | Self::Settings(_)
            | Self::Start { code: 126 | 127, .. }
            | Self::Image(Image::Invalid { .. })
            | Self::Network(Net::Invalid { .. } | Net::OutsideOfSubnet { .. }) => Kind::Invalid,
            Self::NameTaken { .. } | Self::Conflict(_) | Self::Image(Image::Conflict(_)) => Kind::Conflict,
            Self::NotModified(_) => Kind::NotModified,
            Self::Forbidden(_) | Self::Network(Net::AddressInUse(_) | Net::Overlap { .. }) => Kind::Forbidden,
            Self::Unsupported(_) => Kind::Unsupported,
            Self::Closed => Kind::Unavailable,
            _ => Kind::Internal,
        }
    }

    /// Whether what it is about is not there.
    pub fn is_missing(&self) -> bool {
        self.kind() == Kind::NotFound
    }
}

/// Says what was being done.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Context<T> for Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::Io { what: what(), source: error.into() })
    }
}
