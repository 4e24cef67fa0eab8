//! Conditions on arguments: what they mean on an architecture, and in which order rules with conditions are tried.

use std::cmp::Reverse;

use gantry_model::oci::seccomp::SyscallArg;

/// The operators of the specification (config-linux.md, Seccomp, `syscalls[].args[].op`).
pub const KNOWN_OPERATORS: [&str; 7] =
    ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"];

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Ne,
    Lt,
    Le,
    /// Under the mask, if there is one.
    Eq,
    Ge,
    Gt,
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// 0 to 5.
    pub(crate) arg: u8,
    pub(crate) op: Op,
    /// Bits of the argument that count; all of them unless the operator is `SCMP_CMP_MASKED_EQ`.
    pub(crate) mask: u64,
    /// No bits beyond the mask: as libseccomp, whatever a profile has there does not count.
    pub(crate) value: u64,
}

/// Conditions that must all hold, on different arguments, in the order of the arguments.
///
/// Chains of one call are tried in an order that libseccomp established: compared condition by condition, the higher
/// argument comes first; then equality and its opposite before `LT` and `LE` before `GT` and `GE`; then the higher operand,
/// for `LT` and `LE` the lower. A chain that starts as another does and goes on comes after it, and so does nothing. What is
/// equal in all this stays in the order of the profile.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) action: u32,
    /// Index of the rule in the profile.
    pub(crate) rule: usize,
    pub(crate) conditions: Vec<Condition>,
}

impl Condition {
    /// Reads a condition, whose argument's index was checked. Nothing if the operator is unknown.
    pub(crate) fn new(arg: &SyscallArg) -> Option<Self> {
        let (op, mask, value) = match arg.op.as_str() {
            "SCMP_CMP_NE" => (Op::Ne, u64::MAX, arg.value),
            "SCMP_CMP_LT" => (Op::Lt, u64::MAX, arg.value),
            "SCMP_CMP_LE" => (Op::Le, u64::MAX, arg.value),
            "SCMP_CMP_EQ" => (Op::Eq, u64::MAX, arg.value),
            "SCMP_CMP_GE" => (Op::Ge, u64::MAX, arg.value),
            "SCMP_CMP_GT" => (Op::Gt, u64::MAX, arg.value),
            "SCMP_CMP_MASKED_EQ" => (Op::Eq, arg.value, arg.value_two & arg.value),
            _ => return None,
        };
        Some(Self { arg: arg.index as u8, op, mask, value })
    }

    /// That the first argument, under a mask, is the number of a call that goes through another one.
    pub(crate) const fn first_is(number: u32, mask: u32) -> Self {
        Self { arg: 0, op: Op::Eq, mask: mask as u64, value: number as u64 }
    }

    /// The condition where arguments have 32 bits.
    const fn narrow(self) -> Self {
        let low = 0xffff_ffff;
        Self { mask: self.mask & low, value: self.value & low, ..self }
    }

    fn order(&self) -> (Reverse<u8>, u8, u64) {
        let (class, value) = match self.op {
            Op::Eq | Op::Ne => (0, !self.value),
            Op::Lt | Op::Le => (1, self.value),
            Op::Gt | Op::Ge => (2, !self.value),
        };
        (Reverse(self.arg), class, value)
    }
}

impl Chain {
    /// The chain for an architecture: without the conditions that always hold.
    fn on(&self, wide: bool) -> Self {
        let conditions = self.conditions.iter().map(|condition| if wide { *condition } else { condition.narrow() });
        Self { conditions: conditions.filter(|condition| condition.mask != 0).collect(), ..*self }
    }

    fn order(&self) -> (Vec<(Reverse<u8>, u8, u64)>, usize) {
        (self.conditions.iter().map(Condition::order).collect(), self.rule)
    }
}

/// The chains of a call on an architecture, in the order in which they are tried.
pub(crate) fn ordered<'a>(chains: impl Iterator<Item = &'a Chain>, wide: bool) -> Vec<Chain> {
    let mut chains: Vec<_> = chains.map(|chain| chain.on(wide)).collect();
    chains.sort_by_cached_key(Chain::order);
    chains.dedup_by(|later, earlier| later.conditions == earlier.conditions);
    if chains.first().is_some_and(|chain| chain.conditions.is_empty()) {
        chains.truncate(1);
    }
    chains
}
