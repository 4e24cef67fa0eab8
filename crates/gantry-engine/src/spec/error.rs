//! Why settings cannot be carried out.

use crate::profiles::BadProfile;

/// Why settings cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// There is nothing to run.
    #[error("no command specified: the image names none, so one must be given")]
    NoCommand,
    /// A capability that the kernel does not know; where it was named.
    #[error("invalid {0}: unknown capability: {1:?}")]
    Capability(&'static str, String),
    /// A path that must be absolute and plain.
    #[error("invalid {0} {1:?}: it must be an absolute path without `..`")]
    Path(&'static str, String),
    /// Two mounts at one place.
    #[error("duplicate mount point: {0}")]
    Duplicate(String),
    /// A variable without a name.
    #[error("invalid environment variable: {0:?}")]
    Variable(String),
    /// A filter that is no profile.
    #[error("the seccomp profile is not valid: {0}")]
    Seccomp(BadProfile),
    /// Settings that exclude each other.
    #[error("conflicting options: {0}")]
    Conflict(&'static str),
    /// What does not go with a user namespace.
    #[error("{0}")]
    UserNamespace(&'static str),
    /// An id that the user namespace does not have.
    #[error("id {0} is not mapped in the container: its user namespace has {1} ids")]
    NotMapped(u32, u32),
    /// A security option that is none; of which kind the mistake is.
    #[error("invalid --security-opt {0}: {1:?}")]
    SecurityOption(u8, String),
    /// A label of SELinux that is none.
    #[error(
        "bad label option {0:?}, valid options 'disable' or \n'user, role, level, type, filetype' followed by ':' and a value"
    )]
    Label(String),
    /// A rule for devices that is none.
    #[error("invalid device cgroup rule format: '{0}'")]
    DeviceRule(String),
    /// What may be done with a device.
    #[error("invalid device mode: {0}")]
    DeviceMode(String),
    /// A device that is not to be had.
    #[error("error gathering device information while adding custom device {path:?}: {cause}")]
    Device {
        /// Path on the host.
        path: String,
        /// What is wrong.
        cause: String,
    },
    /// A limit that is none.
    #[error("{0}")]
    Ulimit(String),
    /// A source whose mounts are not handed on as asked.
    #[error("path {path} is mounted on {mount} but it is not a {kind} mount")]
    Propagation {
        /// The source.
        path: String,
        /// What it lies in.
        mount: String,
        /// What that should be.
        kind: &'static str,
    },
    /// How mounts are handed on.
    #[error("invalid propagation mode: {0:?}: [r]shared, [r]slave or [r]private is meant")]
    PropagationMode(String),
    /// The kernel cannot do it.
    #[error("{0} needs Linux {1}.{2}")]
    Kernel(&'static str, u32, u32),
}
