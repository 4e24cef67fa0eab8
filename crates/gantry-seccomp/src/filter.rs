//! A compiled filter, and the form in which it is cached.

use crate::arch::Arch;
use crate::error::{CacheError, Error};
use crate::insn::{Insn, MAX_INSTRUCTIONS, verify};

/// Version of the cached form and of what the compiler makes of a profile: change it with either.
pub const CACHE_VERSION: u32 = 1;

/// Longest listener path and metadata, in bytes each.
pub(crate) const MAX_LISTENER_TEXT: usize = 65536;

const MAGIC: [u8; 8] = *b"gantrysf";
const HEADER: usize = 40;

/// The flags that a profile may name (config-linux.md, Seccomp, `flags`).
pub const KNOWN_FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// Flags for seccomp(2), as the kernel's `SECCOMP_FILTER_FLAG_` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// Log what the filter does, except that it allows.
    pub const LOG: Self = Self(1 << 1);
    /// Leave speculative store bypass as it is.
    pub const SPEC_ALLOW: Self = Self(1 << 2);
    /// Give a descriptor to listen at. Never in a profile: see [`Filter::load_flags`].
    pub const NEW_LISTENER: Self = Self(1 << 3);
    /// Once a call's notification was received, only a fatal signal interrupts the call.
    pub const WAIT_KILLABLE_RECV: Self = Self(1 << 5);

    /// The kernel's bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The flags of a profile. One that names none gets `SPEC_ALLOW`, as from runc and crun. `TSYNC` is accepted and not set:
    /// a runtime loads a filter in its only thread.
    pub fn of_names(names: &[String]) -> Result<Self, Error> {
        if names.is_empty() {
            return Ok(Self::SPEC_ALLOW);
        }
        names.iter().try_fold(Self::default(), |flags, name| match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => Ok(flags),
            "SECCOMP_FILTER_FLAG_LOG" => Ok(flags.with(Self::LOG)),
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(flags.with(Self::SPEC_ALLOW)),
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => Ok(flags.with(Self::WAIT_KILLABLE_RECV)),
            _ => Err(Error::UnknownFlag { name: name.clone() }),
        })
    }
}

/// A profile ready for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The instructions.
    pub program: Vec<Insn>,
    /// The flags of the profile.
    pub flags: Flags,
    /// Whether a rule has `SCMP_ACT_NOTIFY`, so that there is a descriptor to hand on.
    pub notify: bool,
    /// Path of the socket that gets the descriptor; empty unless `notify`.
    pub listener_path: String,
    /// Handed on with it; empty unless `notify`.
    pub listener_metadata: String,
}

impl Filter {
    /// The flags to load the filter with: `NEW_LISTENER` if there is something to listen for, and `WAIT_KILLABLE_RECV` only
    /// then, as the kernel refuses it alone.
    pub const fn load_flags(&self) -> Flags {
        if self.notify {
            self.flags.with(Flags::NEW_LISTENER)
        } else {
            Flags(self.flags.0 & !Flags::WAIT_KILLABLE_RECV.0)
        }
    }

    /// What a cache's key must hold besides the profile's text: the same profile compiles to something else for another
    /// architecture or by another version.
    pub fn cache_salt(native: Arch) -> String {
        format!("{CACHE_VERSION}:{}", native.oci_name())
    }

    /// The filter as bytes, to be read by [`Filter::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body =
            Vec::with_capacity(self.program.len() * 8 + self.listener_path.len() + self.listener_metadata.len());
        for insn in &self.program {
            body.extend_from_slice(&insn.code.to_le_bytes());
            body.extend_from_slice(&[insn.jt, insn.jf]);
            body.extend_from_slice(&insn.k.to_le_bytes());
        }
        body.extend_from_slice(self.listener_path.as_bytes());
        body.extend_from_slice(self.listener_metadata.as_bytes());
        let words = [
            CACHE_VERSION,
            self.flags.0,
            u32::from(self.notify),
            self.program.len() as u32,
            self.listener_path.len() as u32,
            self.listener_metadata.len() as u32,
        ];
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend_from_slice(&body);
        let sum = checksum(&bytes[16..]);
        bytes[8..16].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads what [`Filter::to_bytes`] wrote. Anything else is an error: another version, a byte too few or too many, a
    /// changed byte (against damage, not against malice: who can write the cache can write a filter), a program that does
    /// not pass [`verify`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CacheError> {
        let (header, body) = bytes.split_at_checked(HEADER).ok_or(CacheError::Foreign)?;
        let word = |at: usize| header[at..].first_chunk().copied().map_or(0, u32::from_le_bytes);
        if header[..8] != MAGIC || word(16) != CACHE_VERSION {
            return Err(CacheError::Foreign);
        }
        let sum = header[8..].first_chunk().copied().map_or(0, u64::from_le_bytes);
        let [flags, notify, count, path, metadata] = [20, 24, 28, 32, 36].map(word);
        let [count, path, metadata] = [count, path, metadata].map(|length| length as usize);
        let bounded = count <= MAX_INSTRUCTIONS && path <= MAX_LISTENER_TEXT && metadata <= MAX_LISTENER_TEXT;
        let known = Flags::LOG.with(Flags::SPEC_ALLOW).with(Flags::WAIT_KILLABLE_RECV);
        if !bounded
            || body.len() != count * 8 + path + metadata
            || sum != checksum(&bytes[16..])
            || !known.contains(Flags(flags))
            || notify > 1
        {
            return Err(CacheError::Damaged);
        }
        let (program, texts) = body.split_at(count * 8);
        let (path, metadata) = texts.split_at(path);
        let program = program.as_chunks::<8>().0.iter().copied().map(insn_of).collect::<Vec<_>>();
        verify(&program)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| CacheError::Damaged);
        Ok(Self {
            program,
            flags: Flags(flags),
            notify: notify == 1,
            listener_path: text(path)?,
            listener_metadata: text(metadata)?,
        })
    }
}

fn insn_of([c0, c1, jt, jf, k0, k1, k2, k3]: [u8; 8]) -> Insn {
    Insn { code: u16::from_le_bytes([c0, c1]), jt, jf, k: u32::from_le_bytes([k0, k1, k2, k3]) }
}

/// FNV-1a over words of eight bytes: the file is read at every start, so this takes about a microsecond.
fn checksum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let step = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    let sum = words.iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| step(sum, u64::from_le_bytes(*word)));
    rest.iter().fold(sum ^ bytes.len() as u64, |sum, byte| step(sum, u64::from(*byte)))
}
