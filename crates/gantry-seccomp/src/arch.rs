//! Architectures: how a profile, the kernel and the tables of calls name them.

use crate::tables::{self, NONE, ROWS};

/// Set in the number of a call that an x32 program makes (the kernel's `__X32_SYSCALL_BIT`).
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// Where the private calls of arm start (the kernel's `__ARM_NR_BASE`).
pub(crate) const ARM_PRIVATE: u32 = 0x0f_0000;

/// An architecture that a filter can be compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// 64-bit x86 with 32-bit pointers; its calls come under x86_64's name, with a bit set in their number.
    X32,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm, EABI.
    Arm,
}

/// The names of architectures that the specification has (config-linux.md, Seccomp, `architectures`). Those that are not an
/// [`Arch`] are accepted and add nothing: no such call can come on a machine that this crate compiles for, and if one did,
/// it would be killed as that of any architecture that the profile leaves out.
pub const KNOWN_ARCHITECTURES: [&str; 23] = [
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

impl Arch {
    /// Every architecture, in the order of the tables' columns.
    pub const ALL: [Self; 5] = [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm];

    /// The architecture of a name as `SCMP_ARCH_X86_64`.
    pub fn from_oci_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.oci_name() == name)
    }

    /// Its name in a profile.
    pub const fn oci_name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// The architecture that this program is compiled for, if it is one of these.
    pub const fn of_this_program() -> Option<Self> {
        if cfg!(all(target_arch = "x86_64", target_pointer_width = "32")) {
            Some(Self::X32)
        } else if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "x86") {
            Some(Self::X86)
        } else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
            Some(Self::Aarch64)
        } else if cfg!(all(target_arch = "arm", target_endian = "little")) {
            Some(Self::Arm)
        } else {
            None
        }
    }

    /// The kernel's `AUDIT_ARCH_` value: what a filter sees.
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// The number that a filter sees for a call, if the architecture has the call of its own.
    pub fn number(self, name: &str) -> Option<u32> {
        let row = &ROWS[find(name)?];
        let number = row.numbers[self as usize];
        (number != NONE).then_some(number | self.bit())
    }

    /// Every call of the architecture: the number that a filter sees, and the name.
    pub fn calls(self) -> impl Iterator<Item = (u32, &'static str)> {
        tables::BY_NUMBER[self as usize]
            .iter()
            .map(move |(number, row)| (number | self.bit(), ROWS[usize::from(*row)].name))
    }

    /// Whether conditions look at the whole 64 bits of an argument.
    pub(crate) const fn is_wide(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    /// What is set in the number of each of its calls.
    pub(crate) const fn bit(self) -> u32 {
        match self {
            Self::X32 => X32_BIT,
            _ => 0,
        }
    }
}

/// The row of a call. A profile names some four hundred, so this is a hash table, made when the crate is compiled.
pub(crate) fn find(name: &str) -> Option<usize> {
    let mut slot = hash(name.as_bytes());
    loop {
        let row = usize::from(SLOTS[slot % SLOTS.len()].checked_sub(1)?);
        if ROWS[row].name == name {
            return Some(row);
        }
        slot += 1;
    }
}

/// FNV-1a.
const fn hash(name: &[u8]) -> usize {
    let mut hash = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 15)) as usize
}

/// One more than the index of a row at its name's hash, or at the next slot that was free; four times as many slots as
/// rows, so that few names share one.
static SLOTS: [u16; 2048] = {
    let mut slots = [0; 2048];
    let mut row = 0;
    while row < ROWS.len() {
        let mut slot = hash(ROWS[row].name.as_bytes());
        while slots[slot % slots.len()] != 0 {
            slot += 1;
        }
        slots[slot % slots.len()] = row as u16 + 1;
        row += 1;
    }
    slots
};
