//! Capabilities: `CAP_CHOWN` and the others (capabilities(7)).

/// All capabilities that are known, by name, in the kernel's order; a capability's place is its number.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The number of a capability. The name is exact, upper case with its prefix: a looser reading would grant what other
/// runtimes, given the same document, leave out.
pub fn number(name: &str) -> Option<u8> {
    NAMES.iter().position(|known| *known == name).map(|at| at as u8)
}

/// A set of capabilities; bit n is the capability of number n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(pub u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// The capabilities of `names`, and the names that are not known: the specification has them ignored with a
    /// warning (config.md, Linux Process). A name that stands twice counts once.
    pub fn from_names(names: &[String]) -> (Self, Vec<&str>) {
        let mut set = Self::EMPTY;
        let mut unknown: Vec<&str> = Vec::new();
        for name in names {
            match number(name) {
                Some(cap) => set = set.with(cap),
                None => unknown.push(name),
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        (set, unknown)
    }

    /// All capabilities with a number up to and including `last`, as /proc/sys/kernel/cap_last_cap names it.
    pub fn up_to(last: u8) -> Self {
        Self(u64::MAX.checked_shr(63_u32.saturating_sub(u32::from(last))).unwrap_or(u64::MAX))
    }

    /// The set with one capability more; a number from 64 on adds nothing.
    #[must_use]
    pub fn with(self, cap: u8) -> Self {
        Self(self.0 | 1_u64.checked_shl(u32::from(cap)).unwrap_or(0))
    }

    /// Whether a capability is in the set.
    pub fn contains(self, cap: u8) -> bool {
        self.0 & 1_u64.checked_shl(u32::from(cap)).unwrap_or(0) != 0
    }

    /// What both sets hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What either set holds.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What this set holds and the other does not.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the set holds nothing.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The numbers of the set's capabilities, ascending.
    pub fn numbers(self) -> impl Iterator<Item = u8> {
        (0..64_u8).filter(move |&cap| self.contains(cap))
    }

    /// The names of the set's capabilities, in the kernel's order; a number without a name is left out.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.numbers().filter_map(|cap| NAMES.get(usize::from(cap)).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |names: &[&str], bits: u64, unknown: &[&str]| {
            let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
            assert_eq!(CapSet::from_names(&names), (CapSet(bits), unknown.to_vec()), "{names:?}");
        };
        check(&[], 0, &[]);
        check(&["CAP_CHOWN"], 1, &[]);
        check(&["CAP_CHECKPOINT_RESTORE", "CAP_SETPCAP"], 1 << 40 | 1 << 8, &[]);
        check(&["CAP_SYS_ADMIN", "CAP_SYS_ADMIN"], 1 << 21, &[]);
        check(&NAMES, (1 << 41) - 1, &[]);
        check(
            &["cap_chown", "CHOWN", "", "CAP_", "CAP_CHOWN\0", "CAP_CHOWN ", "CAP_41", "CAP_"],
            0,
            &["", "CAP_", "CAP_41", "CAP_CHOWN\0", "CAP_CHOWN ", "CHOWN", "cap_chown"],
        );
    }

    #[test]
    fn sets() {
        assert_eq!(CapSet::up_to(40), CapSet((1 << 41) - 1));
        assert_eq!(CapSet::up_to(0), CapSet(1));
        assert_eq!(CapSet::up_to(63), CapSet(u64::MAX));
        assert_eq!(CapSet::up_to(255), CapSet(u64::MAX));
        assert!(!CapSet(u64::MAX).contains(64));
        assert_eq!(CapSet::EMPTY.with(200), CapSet::EMPTY);
        assert_eq!(CapSet(0b101).names().collect::<Vec<_>>(), ["CAP_CHOWN", "CAP_DAC_READ_SEARCH"]);
        assert_eq!(CapSet(1 << 63).names().count(), 0);
        assert_eq!(CapSet(0b110).and(CapSet(0b011)), CapSet(0b010));
        assert_eq!(CapSet(0b110).or(CapSet(0b011)), CapSet(0b111));
        assert_eq!(CapSet(0b110).without(CapSet(0b011)), CapSet(0b100));
    }
}
