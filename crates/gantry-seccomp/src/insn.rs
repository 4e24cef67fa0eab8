//! Instructions of classic BPF: those that the kernel lets a seccomp filter use and that filters in fact use, a check that
//! a program is sound, and an interpreter for tests.

use crate::error::ProgramError;

/// The kernel's limit for one program (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// A = the word at k of the call's data.
pub(crate) const LOAD: u16 = 0x20;
/// A = A & k.
pub(crate) const AND: u16 = 0x54;
/// Go on k instructions further.
pub(crate) const JUMP: u16 = 0x05;
/// Jump if A == k.
pub(crate) const JEQ: u16 = 0x15;
/// Jump if A > k.
pub(crate) const JGT: u16 = 0x25;
/// Jump if A >= k.
pub(crate) const JGE: u16 = 0x35;
/// Jump if A & k is not zero.
pub(crate) const JSET: u16 = 0x45;
/// Return k.
pub(crate) const RET: u16 = 0x06;

/// Size of the call's data that a filter sees, in bytes (the kernel's `struct seccomp_data`).
const DATA_SIZE: u32 = 64;

/// One instruction, as the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// What it does.
    pub code: u16,
    /// How many instructions to skip if the condition holds.
    pub jt: u8,
    /// How many to skip if not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl Insn {
    pub(crate) const fn plain(code: u16, k: u32) -> Self {
        Self { code, jt: 0, jf: 0, k }
    }
}

/// What a filter sees of a call, as the kernel's `struct seccomp_data`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeccompData {
    /// Number of the call.
    pub nr: u32,
    /// The kernel's `AUDIT_ARCH_` value.
    pub arch: u32,
    /// Where the call was made.
    pub instruction_pointer: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

impl SeccompData {
    /// The word at an offset in bytes, on a little-endian machine.
    fn word(&self, offset: u32) -> Option<u32> {
        let half = |value: u64| if offset.is_multiple_of(8) { value as u32 } else { (value >> 32) as u32 };
        match offset {
            0 => Some(self.nr),
            4 => Some(self.arch),
            8 | 12 => Some(half(self.instruction_pointer)),
            _ if !offset.is_multiple_of(4) => None,
            _ => self.args.get((offset as usize - 16) / 8).copied().map(half),
        }
    }
}

/// What a run of a program came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simulation {
    /// What the filter returned: an action with its data.
    pub value: u32,
    /// How many instructions ran.
    pub steps: usize,
}

/// Runs a program on a call's data, and gives what it returns.
pub fn simulate(program: &[Insn], data: &SeccompData) -> Result<u32, ProgramError> {
    simulate_counted(program, data).map(|run| run.value)
}

/// The same, with the number of instructions that ran. Jumps go only forward, so every run ends.
pub fn simulate_counted(program: &[Insn], data: &SeccompData) -> Result<Simulation, ProgramError> {
    let mut accumulator = 0;
    let mut at = 0;
    let mut steps = 0;
    let mut last = 0;
    while let Some(insn) = program.get(at) {
        steps += 1;
        last = at;
        at += 1;
        let choice = |holds: bool| usize::from(if holds { insn.jt } else { insn.jf });
        match insn.code {
            LOAD => accumulator = data.word(insn.k).ok_or(ProgramError::Offset { at: last, offset: insn.k })?,
            AND => accumulator &= insn.k,
            JUMP => at = at.saturating_add(insn.k as usize),
            JEQ => at += choice(accumulator == insn.k),
            JGT => at += choice(accumulator > insn.k),
            JGE => at += choice(accumulator >= insn.k),
            JSET => at += choice(accumulator & insn.k != 0),
            RET => return Ok(Simulation { value: insn.k, steps }),
            code => return Err(ProgramError::Code { at: last, code }),
        }
    }
    Err(ProgramError::End { at: last })
}

/// Checks that every run of a program ends in a return: its length, its instructions, its loads and its jumps.
pub fn verify(program: &[Insn]) -> Result<(), ProgramError> {
    let length = program.len();
    if length == 0 || length > MAX_INSTRUCTIONS {
        return Err(ProgramError::Length(length));
    }
    for (at, insn) in program.iter().enumerate() {
        let reach = match insn.code {
            RET => continue,
            LOAD if insn.k >= DATA_SIZE || !insn.k.is_multiple_of(4) => {
                return Err(ProgramError::Offset { at, offset: insn.k });
            }
            LOAD | AND => 0,
            JUMP => insn.k as usize,
            JEQ | JGT | JGE | JSET => usize::from(insn.jt.max(insn.jf)),
            code => return Err(ProgramError::Code { at, code }),
        };
        if at.saturating_add(reach).saturating_add(1) >= length {
            return Err(ProgramError::End { at });
        }
    }
    Ok(())
}
