//! What can go wrong, with the thing, the cause, and where there is one, the remedy.

use std::io;

use gantry_sys::misc::error_text;

/// An error of the runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration asks for something impossible, forbidden or unknown.
    #[error("config.json: {field}: {reason}")]
    Config {
        /// Where in the document.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A document could not be parsed.
    #[error("parse {path}: {cause}")]
    Parse {
        /// The file.
        path: String,
        /// What the parser says.
        cause: serde_json::Error,
    },
    /// A step failed.
    #[error("{step}: {cause}")]
    Step {
        /// What was being done.
        step: String,
        /// Why it failed.
        cause: String,
    },
    /// An operation outside the steps failed.
    #[error("{what}: {}", cause_text(.cause))]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The kernel's answer.
        #[source]
        cause: io::Error,
    },
    /// The identifier is not allowed.
    #[error(transparent)]
    Id(#[from] gantry_model::InvalidId),
    /// No container has this identifier.
    #[error("container {0:?} does not exist")]
    NotFound(String),
    /// The identifier is in use.
    #[error("container with id {0} already exists")]
    Exists(String),
    /// The container is not in a state in which this can be done.
    #[error("cannot {action} container {id}: {}it is {status}", not_running(*status))]
    Status {
        /// What was asked.
        action: &'static str,
        /// The container.
        id: String,
        /// Its status.
        status: gantry_model::oci::state::Status,
    },
    /// Control groups.
    #[error(transparent)]
    Cgroup(#[from] gantry_cgroup::Error),
    /// The system call filter.
    #[error("seccomp: {0}")]
    Seccomp(#[from] gantry_seccomp::Error),
    /// Something is not possible on this host, or with this combination.
    #[error("{0}")]
    Unsupported(String),
    /// CRIU failed.
    #[error("criu could not {action}: {cause}; see its log {log}{said}")]
    Criu {
        /// What was asked of it.
        action: &'static str,
        /// What it says.
        cause: String,
        /// Path of its log.
        log: String,
        /// The last errors in it, each after a semicolon.
        said: String,
    },
    /// The container's process died before its program was started.
    #[error("the container's process ended before it could start: {0}")]
    InitDied(String),
    /// Several things went wrong while cleaning up.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Error>),
}

/// The result of the runtime's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The words by which engines tell a container that has ended from other failures.
fn not_running(status: gantry_model::oci::state::Status) -> &'static str {
    if status == gantry_model::oci::state::Status::Stopped { "container not running: " } else { "" }
}

/// The kernel's text for an error, as the field's tools print it.
pub fn cause_text(cause: &io::Error) -> String {
    cause.raw_os_error().map_or_else(|| cause.to_string(), error_text)
}

impl Error {
    /// An error of config.json.
    pub(crate) fn config(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config { field: field.into(), reason: reason.into() }
    }
}

/// Names what was being done when an operation of the kernel failed.
pub(crate) trait Context<T> {
    /// Adds it; the text is made only on failure.
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|cause| Error::Io { what: what().into(), cause: cause.into() })
    }
}

/// Collects the errors of a teardown, which goes on after each.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<Error>);

impl Errors {
    /// Notes a failure.
    pub(crate) fn note<T>(&mut self, result: Result<T>) {
        if let Err(error) = result {
            self.0.push(error);
        }
    }

    /// All of them as one, or none.
    pub(crate) fn finish(mut self) -> Result<()> {
        match self.0.len() {
            0 => Ok(()),
            1 => Err(self.0.remove(0)),
            _ => Err(Error::Several(self.0)),
        }
    }
}
