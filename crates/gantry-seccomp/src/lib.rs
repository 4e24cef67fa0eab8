//! Compiles the seccomp object of an OCI configuration (config-linux.md, Seccomp) to the classic BPF that the kernel loads.
//!
//! The filter stands between every system call of a container and the kernel, and making it is a large part of starting
//! one: so this crate is pure (a profile in, instructions out: no files, no kernel, no clock), its result can be cached,
//! and the instructions are few and lie in a balanced search tree.
//!
//! What a profile means where the specification is silent is what its users have come to rely on from runc and libseccomp:
//!
//! * The native architecture is always in the filter. A call of an architecture that is not gets `SCMP_ACT_KILL`.
//! * On x86, arm and x32, arguments and operands are their low 32 bits; elsewhere they are 64 bits.
//! * A rule holds if all its conditions do; two conditions on one argument make a rule of each of the rule's conditions.
//! * A rule without conditions stands for the whole call (the first such rule does). The order of rules with conditions
//!   only matters if they overlap and act differently: compared condition by condition, the one with the higher argument
//!   is tried first; then equality and its opposite before `LT` and `LE` before `GT` and `GE`; then the higher operand, for
//!   `LT` and `LE` the lower; then the earlier in the profile.
//! * Rules with the default action, and names that no architecture knows, do nothing.
//! * Calls newer than the newest that the profile names fail with `ENOSYS`, so that programs fall back to what they did
//!   before those calls came, unless the default action lets calls through. On arm the range of private calls is counted
//!   apart, or its high numbers would make every other call old.
//! * On x86, rules for socket and System V IPC calls hold for `socketcall` and `ipc` too, by the number of the call in their
//!   first argument (for `ipc` without the version in the upper half, which the kernel does not look at to choose the call).

mod arch;
mod emit;
mod error;
mod filter;
mod insn;
mod nodes;
mod profile;
mod rules;
mod search;
mod tables;

pub use arch::{Arch, KNOWN_ARCHITECTURES};
pub use error::{CacheError, Error, ProgramError};
pub use filter::{CACHE_VERSION, Filter, Flags, KNOWN_FLAGS};
pub use insn::{Insn, MAX_INSTRUCTIONS, SeccompData, Simulation, simulate, simulate_counted, verify};
pub use profile::KNOWN_ACTIONS;
pub use rules::KNOWN_OPERATORS;

use gantry_model::oci::seccomp::Seccomp;

/// Compiles a profile for a machine whose own architecture is `native`. The listener's path and metadata are only in the
/// result if an action of the profile is `SCMP_ACT_NOTIFY`.
pub fn compile(profile: &Seccomp, native: Arch) -> Result<Filter, Error> {
    let plan = profile::read(profile, native)?;
    let (nodes, root) = search::build(&plan)?;
    let program = emit::emit(&nodes, root)?;
    let listener = |text: &str| if plan.notify { text.to_owned() } else { String::new() };
    Ok(Filter {
        program,
        flags: plan.flags,
        notify: plan.notify,
        listener_path: listener(&profile.listener_path),
        listener_metadata: listener(&profile.listener_metadata),
    })
}
