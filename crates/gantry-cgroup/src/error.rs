//! What can go wrong with control groups.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// An error of this crate: what was done to which file, why it failed, and where there is one, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call on a file or a process failed.
    #[error("{action}: {}{}", text(*errno), Hint(hint))]
    Kernel {
        /// What was done, with the file and the value.
        action: String,
        /// The kernel's answer.
        errno: Errno,
        /// What to do about it; may be empty.
        hint: &'static str,
    },
    /// The path or name asked for a cgroup or a unit cannot be used.
    #[error("cgroup path {path:?}: {why}")]
    Path {
        /// As it was asked.
        path: String,
        /// Reason.
        why: &'static str,
    },
    /// A field of the resources cannot be applied.
    #[error("{field} = {value}: {why}")]
    Resource {
        /// Name of the field, as in config.json.
        field: &'static str,
        /// Its value.
        value: String,
        /// Reason.
        why: String,
    },
    /// A limit needs a controller that is not there.
    #[error("controller `{controller}` is not available under {}: {why}", place.display())]
    Controller {
        /// Name of the controller.
        controller: String,
        /// Where it was looked for.
        place: PathBuf,
        /// Reason.
        why: String,
    },
    /// The cgroup exists and holds somebody else's processes, or is frozen. Nothing was changed in it, and it must not be
    /// deleted by the one who gets this.
    #[error("cgroup {} is in use: {why}; choose another cgroupsPath or remove it first", dir.display())]
    InUse {
        /// Its directory.
        dir: PathBuf,
        /// Reason.
        why: String,
    },
    /// Limits were asked for, and the user may not make a cgroup.
    #[error(
        "{action}: {}: limits need a cgroup that this user may change; delegate one (systemd: Delegate=yes), or ask for \
         no limits and no cgroupsPath", text(*errno)
    )]
    Rootless {
        /// What was refused.
        action: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The control group hierarchies of the host could not be understood.
    #[error("control groups of the host: {0}")]
    Layout(String),
    /// A file of the kernel holds something unexpected.
    #[error("{}: {why}", path.display())]
    Content {
        /// File.
        path: PathBuf,
        /// Reason.
        why: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// The service manager refused, or could not be understood.
    #[error("systemd: {call} {unit}: {why}")]
    Systemd {
        /// Method that was called.
        call: &'static str,
        /// Unit, or the address of the bus.
        unit: String,
        /// Reason.
        why: String,
    },
    /// Several failures of one teardown.
    #[error("{}", Several(.0))]
    Several(Vec<Error>),
}

impl Error {
    /// Whether the cgroup belongs to somebody else, so that a failed create must leave it alone.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }

    /// Whether the kernel refused for lack of privilege, in one of the ways a cgroup file system has of saying so.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Kernel { errno, .. } if denied(*errno))
    }

    pub(crate) fn kernel(action: impl Into<String>, errno: Errno) -> Self {
        Self::Kernel { action: action.into(), errno, hint: "" }
    }

    pub(crate) fn path(path: &str, why: &'static str) -> Self {
        Self::Path { path: path.into(), why }
    }

    pub(crate) fn resource(field: &'static str, value: impl fmt::Display, why: impl Into<String>) -> Self {
        Self::Resource { field, value: value.to_string(), why: why.into() }
    }

    pub(crate) fn content(path: &Path, why: impl Into<String>) -> Self {
        Self::Content { path: path.into(), why: why.into() }
    }

    /// One error of many: none, the one, or all.
    pub(crate) fn collect(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }
}

/// Whether an errno means that the caller may not.
pub(crate) fn denied(errno: Errno) -> bool {
    matches!(errno, Errno::ACCESS | Errno::PERM | Errno::ROFS)
}

fn text(errno: Errno) -> String {
    gantry_sys::misc::error_text(errno.raw_os_error())
}

struct Hint<'a>(&'a str);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

struct Several<'a>(&'a [Error]);

impl fmt::Display for Several<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}
