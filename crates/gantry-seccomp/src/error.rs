//! Everything that can be wrong with a profile, a program or a cached filter.

use crate::filter::MAX_LISTENER_TEXT;
use crate::insn::MAX_INSTRUCTIONS;

/// Why a profile is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An action that the specification does not have.
    #[error("seccomp {place}: unknown action {action:?}; use one as SCMP_ACT_ERRNO")]
    UnknownAction {
        /// Where it stands in the profile.
        place: String,
        /// As it stands there.
        action: String,
    },
    /// An operator that the specification does not have.
    #[error("seccomp {place}: unknown operator {op:?}; use one as SCMP_CMP_EQ")]
    UnknownOperator {
        /// Where it stands in the profile.
        place: String,
        /// As it stands there.
        op: String,
    },
    /// An architecture that the specification does not have.
    #[error("seccomp architectures: unknown architecture {name:?}; use one as SCMP_ARCH_X86_64")]
    UnknownArchitecture {
        /// As it stands in the profile.
        name: String,
    },
    /// A flag that the specification does not have.
    #[error("seccomp flags: unknown flag {name:?}; use one as SECCOMP_FILTER_FLAG_LOG")]
    UnknownFlag {
        /// As it stands in the profile.
        name: String,
    },
    /// An error number with an action that returns none; the specification has this fail.
    #[error("seccomp {place}: {action} takes no error number; leave it out, or use SCMP_ACT_ERRNO or SCMP_ACT_TRACE")]
    ErrnoWithoutUse {
        /// Where it stands in the profile.
        place: String,
        /// The action.
        action: String,
    },
    /// An error number beyond what the kernel hands on.
    #[error("seccomp {place}: error number {errno} is above 65535, the highest that a filter can return")]
    ErrnoTooLarge {
        /// Where it stands in the profile.
        place: String,
        /// The number.
        errno: u32,
    },
    /// A name of no letters.
    #[error("seccomp syscalls[{rule}].names: an empty string is not a system call; remove it")]
    EmptyName {
        /// Which rule.
        rule: usize,
    },
    /// A condition on an argument that no call has.
    #[error("seccomp syscalls[{rule}].args: there is no argument {index}; a system call has arguments 0 to 5")]
    ArgumentIndex {
        /// Which rule.
        rule: usize,
        /// As it stands in the profile.
        index: u32,
    },
    /// More conditions on one call than a program of the kernel's length can hold.
    #[error(
        "seccomp syscalls: more than {MAX_INSTRUCTIONS} conditions on one system call; a filter has no room for them"
    )]
    TooManyConditions,
    /// The default action hands every call to the agent, also those by which the agent would get to know of it.
    #[error("seccomp defaultAction: SCMP_ACT_NOTIFY cannot be the default action; use it in rules")]
    NotifyByDefault,
    /// The call by which the descriptor is handed on would wait for the descriptor's receiver.
    #[error("seccomp syscalls[{rule}]: SCMP_ACT_NOTIFY cannot be used for the write system call; remove it")]
    NotifyOnWrite {
        /// Which rule.
        rule: usize,
    },
    /// Nobody would get the descriptor, and every notified call would wait for ever.
    #[error("seccomp listenerPath: SCMP_ACT_NOTIFY is used, but no socket is given; set listenerPath")]
    NoListener,
    /// Metadata for nobody; the specification forbids it.
    #[error("seccomp listenerMetadata: set without listenerPath; set that too, or remove it")]
    MetadataWithoutListener,
    /// A listener's path or metadata that no one can mean.
    #[error("seccomp {field}: longer than {MAX_LISTENER_TEXT} bytes, or with a NUL; shorten it")]
    ListenerText {
        /// Which of the two.
        field: &'static str,
    },
    /// The program is longer than the kernel takes.
    #[error(
        "seccomp: the profile needs more than {MAX_INSTRUCTIONS} instructions, the kernel's limit; use fewer conditions"
    )]
    TooLong,
}

/// Why a program is not one that the kernel would run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// Empty, or beyond [`MAX_INSTRUCTIONS`].
    #[error("a program has 1 to {MAX_INSTRUCTIONS} instructions, not {0}")]
    Length(usize),
    /// An instruction that seccomp does not know, or that this crate never uses.
    #[error("instruction {at}: code {code:#06x} is not one of a filter")]
    Code {
        /// Index of the instruction.
        at: usize,
        /// Its code.
        code: u16,
    },
    /// A load from outside of the call's data.
    #[error("instruction {at}: no word of the call's data is at offset {offset}")]
    Offset {
        /// Index of the instruction.
        at: usize,
        /// The offset, in bytes.
        offset: u32,
    },
    /// A jump, or the flow itself, goes beyond the last instruction.
    #[error("instruction {at}: goes on beyond the end of the program")]
    End {
        /// Index of the instruction.
        at: usize,
    },
}

/// Why a cached filter is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// Not such a file, or of another version.
    #[error("cached seccomp filter: not one of this version; compile it again")]
    Foreign,
    /// Shorter or longer than its header says, or changed.
    #[error("cached seccomp filter: damaged; compile it again")]
    Damaged,
    /// The program in it would not run.
    #[error("cached seccomp filter: {0}; compile it again")]
    Program(#[from] ProgramError),
}
