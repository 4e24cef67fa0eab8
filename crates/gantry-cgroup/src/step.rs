//! The steps of which every change to a cgroup consists.
//!
//! A step says all of what it does; `Display` prints it for a dry run. Some steps are an idiom of several system calls, such
//! as two writes that the kernel accepts only in one of both orders; none leaves a decision about what the container gets.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::devices::{DeviceSet, Write as DeviceWrite};
use crate::ebpf::Program;
use crate::systemd::Property;

/// A value for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// File.
    pub path: PathBuf,
    /// What is written, in one write(2).
    pub value: String,
}

impl Write {
    pub(crate) fn new(dir: &Path, name: &str, value: impl Into<String>) -> Self {
        Self { path: dir.join(name), value: value.into() }
    }
}

/// How a cgroup says that it is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freezer {
    /// Not in this hierarchy.
    None,
    /// `freezer.state`.
    V1,
    /// `cgroup.freeze`.
    V2,
}

/// Which service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bus {
    /// The system's.
    System,
    /// The user's own.
    User,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make the container's cgroup, and what is missing between the mount point and it. If it is there already, it must hold
    /// no process and not be frozen.
    MakeCgroup {
        /// Mount point of the hierarchy.
        mount: PathBuf,
        /// The cgroup.
        dir: PathBuf,
        /// How it would say that it is frozen.
        freezer: Freezer,
    },
    /// Make the cgroup if it is not there, whoever is in it.
    EnsureCgroup {
        /// Mount point of the hierarchy.
        mount: PathBuf,
        /// The cgroup.
        dir: PathBuf,
    },
    /// Make controllers of v2 available in a cgroup: those that its parent lacks are enabled from the mount point down.
    Enable {
        /// Mount point of the hierarchy.
        mount: PathBuf,
        /// The cgroup.
        dir: PathBuf,
        /// All that are wanted, as far as the host has them.
        wanted: Vec<String>,
        /// Those of them without which a limit cannot hold.
        needed: Vec<String>,
    },
    /// Give a v1 cpuset, and those above it, the processors and memory nodes of its parent where it has none.
    InheritCpuset {
        /// Mount point of the hierarchy.
        mount: PathBuf,
        /// The cgroup.
        dir: PathBuf,
        /// Names of the files.
        files: [String; 2],
    },
    /// Write to a file.
    Write {
        /// What and where.
        write: Write,
        /// Whether the file may be missing: an older kernel, or one without the feature.
        optional: bool,
    },
    /// Write to the first of these files that exists.
    WriteFirst(Vec<Write>),
    /// Two values that limit each other: if the kernel refuses the first, the second goes before it.
    WritePair {
        /// First.
        first: Write,
        /// Second.
        second: Write,
        /// Whether the file of the first may be missing.
        first_optional: bool,
        /// Whether the file of the second may be missing.
        second_optional: bool,
    },
    /// Change the period of `cpu.max`, and keep its quota.
    CpuPeriod {
        /// The `cpu.max`.
        path: PathBuf,
        /// Microseconds.
        period: u64,
    },
    /// Fail if the use is at or above the limit that comes next.
    RefuseBelowUse {
        /// File that says the use, in bytes.
        usage: PathBuf,
        /// Limit, bytes.
        limit: u64,
    },
    /// Write rules to the devices controller of v1.
    DeviceRules {
        /// The cgroup.
        dir: PathBuf,
        /// Rules.
        writes: Vec<DeviceWrite>,
    },
    /// Bring the devices controller of v1 from what it holds to a state, with the fewest writes.
    DeviceState {
        /// The cgroup.
        dir: PathBuf,
        /// State.
        target: DeviceSet,
    },
    /// Load a device filter and attach it to a v2 cgroup. It takes the place of every other that is attached there.
    AttachDeviceProgram {
        /// The cgroup.
        dir: PathBuf,
        /// Filter.
        program: Program,
        /// Whether there can be another: not in a cgroup that was only just made.
        replace: bool,
    },
    /// Give a v2 cgroup to a user, with the files that the kernel lists for delegation.
    Delegate {
        /// The cgroup.
        dir: PathBuf,
        /// User.
        uid: u32,
        /// Group; absent keeps it.
        gid: Option<u32>,
    },
    /// Move the process into a cgroup.
    Join {
        /// `cgroup.procs`.
        path: PathBuf,
    },
    /// Have systemd make a unit with the process in it, and wait until it has.
    StartUnit {
        /// Which manager.
        bus: Bus,
        /// Name of the unit.
        unit: String,
        /// Its properties; the process is added to them.
        properties: Vec<Property>,
    },
    /// Have systemd change a unit.
    SetUnit {
        /// Which manager.
        bus: Bus,
        /// Name of the unit.
        unit: String,
        /// The properties that change.
        properties: Vec<Property>,
    },
    /// Something that was asked for and is not done.
    Ignore {
        /// Field of config.json.
        what: &'static str,
        /// Reason.
        why: &'static str,
    },
}

impl Step {
    /// The directory or file that the step changes; units have none.
    pub fn place(&self) -> Option<&Path> {
        Some(match self {
            Self::MakeCgroup { dir, .. }
            | Self::EnsureCgroup { dir, .. }
            | Self::Enable { dir, .. }
            | Self::InheritCpuset { dir, .. }
            | Self::DeviceRules { dir, .. }
            | Self::DeviceState { dir, .. }
            | Self::AttachDeviceProgram { dir, .. }
            | Self::Delegate { dir, .. } => dir,
            Self::Write { write, .. } | Self::WritePair { first: write, .. } => &write.path,
            Self::CpuPeriod { path, .. } | Self::Join { path } | Self::RefuseBelowUse { usage: path, .. } => path,
            Self::WriteFirst(writes) => &writes.first()?.path,
            Self::StartUnit { .. } | Self::SetUnit { .. } | Self::Ignore { .. } => return None,
        })
    }

    /// Whether leaving the step out would leave a limit out that was asked for.
    pub(crate) fn is_limit(&self) -> bool {
        match self {
            Self::Write { .. }
            | Self::WritePair { .. }
            | Self::WriteFirst(_)
            | Self::CpuPeriod { .. }
            | Self::RefuseBelowUse { .. } => true,
            Self::Enable { needed, .. } => !needed.is_empty(),
            _ => false,
        }
    }

    pub(crate) fn write(dir: &Path, name: &str, value: impl Into<String>) -> Self {
        Self::Write { write: Write::new(dir, name, value), optional: false }
    }

    pub(crate) fn write_optional(dir: &Path, name: &str, value: impl Into<String>) -> Self {
        Self::Write { write: Write::new(dir, name, value), optional: true }
    }
}

fn if_there(optional: bool) -> &'static str {
    if optional { ", if it is there" } else { "" }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} to {}", self.value, self.path.display())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeCgroup { dir, .. } => write!(f, "make cgroup {}", dir.display()),
            Self::EnsureCgroup { dir, .. } => write!(f, "make cgroup {} unless it exists", dir.display()),
            Self::Enable { dir, wanted, needed, .. } => {
                write!(f, "enable {} for {}", wanted.join(" "), dir.display())?;
                if needed.is_empty() { Ok(()) } else { write!(f, ", {} without fail", needed.join(" ")) }
            }
            Self::InheritCpuset { dir, files, .. } => {
                write!(f, "copy {} from the parent of {} where empty", files.join(" and "), dir.display())
            }
            Self::Write { write, optional } => write!(f, "write {write}{}", if_there(*optional)),
            Self::WriteFirst(writes) => {
                f.write_str("write the first that exists:")?;
                writes.iter().enumerate().try_for_each(|(i, w)| write!(f, "{} {w}", if i == 0 { "" } else { "," }))
            }
            Self::WritePair { first, second, first_optional, second_optional } => {
                write!(f, "write {first}{}", if_there(*first_optional))?;
                write!(f, " and {second}{}, in the order that is accepted", if_there(*second_optional))
            }
            Self::CpuPeriod { path, period } => write!(f, "write the old quota and {period} to {}", path.display()),
            Self::RefuseBelowUse { usage, limit } => write!(f, "fail unless {} is below {limit}", usage.display()),
            Self::DeviceRules { dir, writes } => {
                write!(f, "write to devices.allow (+) and devices.deny (-) of {}:", dir.display())?;
                writes.iter().enumerate().try_for_each(|(i, w)| {
                    write!(f, "{} {}{}", if i == 0 { "" } else { "," }, if w.allow { '+' } else { '-' }, w.line)
                })
            }
            Self::DeviceState { dir, target } => write!(f, "bring the devices of {} to: {target}", dir.display()),
            Self::AttachDeviceProgram { dir, program, replace } => {
                let how = if *replace { " in place of others" } else { "" };
                write!(f, "attach device filter to {}{how}: {program}", dir.display())
            }
            Self::Delegate { dir, uid, gid } => {
                write!(f, "give {} to user {uid}", dir.display())?;
                gid.map_or(Ok(()), |gid| write!(f, ", group {gid}"))
            }
            Self::Join { path } => write!(f, "write the process to {}", path.display()),
            Self::StartUnit { bus, unit, properties } => unit_step(f, "start", *bus, unit, properties),
            Self::SetUnit { bus, unit, properties } => unit_step(f, "change", *bus, unit, properties),
            Self::Ignore { what, why } => write!(f, "ignore {what}: {why}"),
        }
    }
}

fn unit_step(f: &mut fmt::Formatter<'_>, verb: &str, bus: Bus, unit: &str, properties: &[Property]) -> fmt::Result {
    let user = if bus == Bus::User { "user " } else { "" };
    write!(f, "{verb} {user}unit {unit}:")?;
    properties.iter().enumerate().try_for_each(|(i, p)| write!(f, "{} {p}", if i == 0 { "" } else { "," }))
}
