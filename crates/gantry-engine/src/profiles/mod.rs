//! Profiles that hold a container back: which system calls it may make, and what AppArmor lets it do.
//!
//! A filter depends on the container's capabilities and on the machine, so it is resolved for each container, purely. The
//! same capabilities on the same machine give the same text to the byte: compiled filters are kept by their text.

pub mod apparmor;

mod default;
mod docker;
mod rules;

use gantry_model::oci::seccomp::Seccomp;

pub use docker::BadProfile;

/// What of the machine a filter depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its architecture, named as in images: `amd64`.
    pub arch: String,
    /// Version of its kernel: the first two numbers.
    pub kernel: (u32, u32),
}

impl Default for Machine {
    /// The architecture that this program was built for, and the oldest kernel that it runs on.
    fn default() -> Self {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { arch: arch.to_owned(), kernel: (5, 0) }
    }
}

impl Machine {
    /// This machine. A release that has no numbers counts as the oldest kernel.
    pub fn here() -> Self {
        let default = Self::default();
        let uname = rustix::system::uname();
        let kernel = uname.release().to_str().ok().and_then(release).unwrap_or(default.kernel);
        Self { kernel, ..default }
    }
}

/// The version in a kernel's release: `6.12` of `6.12.3-amd64`. Pure.
fn release(text: &str) -> Option<(u32, u32)> {
    let number = |part: &str| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).map_or(part, |end| &part[..end]);
        digits.parse().ok()
    };
    let (major, rest) = text.split_once('.')?;
    Some((number(major)?, number(rest)?))
}

/// The filter that holds for a container unless it asks for another. `capabilities` are those of its bounding set.
pub fn seccomp(capabilities: &[String], machine: &Machine) -> Seccomp {
    default::resolve(&rules::Case { capabilities, machine })
}

/// The filter that a profile comes to, in the runtime's format or in Docker's, which has conditions on capabilities,
/// architecture and kernel. None if the profile asks for none.
///
/// # Errors
/// It is no profile, or contradicts itself.
pub fn resolve(profile: &str, capabilities: &[String], machine: &Machine) -> Result<Option<Seccomp>, BadProfile> {
    docker::resolve(profile, &rules::Case { capabilities, machine })
}

#[cfg(test)]
mod tests;
