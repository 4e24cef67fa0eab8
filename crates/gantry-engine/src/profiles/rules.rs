//! When a rule of a profile holds, and what architectures are called where.

use super::Machine;

/// What a profile is resolved for.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    /// The container's bounding set.
    pub(super) capabilities: &'a [String],
    pub(super) machine: &'a Machine,
}

/// Architectures as they are called in images, in conditions of profiles, and in filters.
const ARCHITECTURES: [(&str, &str, &str); 13] = [
    ("386", "x86", "SCMP_ARCH_X86"),
    ("amd64", "amd64", "SCMP_ARCH_X86_64"),
    ("arm", "arm", "SCMP_ARCH_ARM"),
    ("arm64", "arm64", "SCMP_ARCH_AARCH64"),
    ("loong64", "loongarch64", "SCMP_ARCH_LOONGARCH64"),
    ("mips64", "mips64", "SCMP_ARCH_MIPS64"),
    ("mips64le", "mipsel64", "SCMP_ARCH_MIPSEL64"),
    ("mipsle", "mipsel", "SCMP_ARCH_MIPSEL"),
    ("ppc64", "ppc64", "SCMP_ARCH_PPC64"),
    ("ppc64le", "ppc64le", "SCMP_ARCH_PPC64LE"),
    ("riscv64", "riscv64", "SCMP_ARCH_RISCV64"),
    ("s390", "s390", "SCMP_ARCH_S390"),
    ("s390x", "s390x", "SCMP_ARCH_S390X"),
];

impl Case<'_> {
    /// The machine's architecture as conditions call it.
    fn arch(&self) -> &str {
        let arch = self.machine.arch.as_str();
        ARCHITECTURES.iter().find(|(image, ..)| *image == arch).map_or(arch, |(_, condition, _)| condition)
    }

    /// The machine's architecture as filters call it.
    pub(super) fn filter_arch(&self) -> Option<&'static str> {
        ARCHITECTURES.iter().find(|(image, ..)| *image == self.machine.arch).map(|(.., filter)| *filter)
    }

    fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|had| had == capability)
    }
}

/// What a rule depends on. What is empty holds.
pub(super) struct When<'a, S> {
    pub(super) capabilities: &'a [S],
    pub(super) architectures: &'a [S],
    pub(super) kernel: Option<(u32, u32)>,
}

impl<S: AsRef<str>> When<'_, S> {
    /// Whether all of it is so: all capabilities, one of the architectures, and a kernel that is not older.
    pub(super) fn all(&self, case: &Case<'_>) -> bool {
        self.capabilities.iter().all(|capability| case.has(capability.as_ref()))
            && (self.architectures.is_empty() || self.is_arch(case))
            && self.kernel.is_none_or(|kernel| case.machine.kernel >= kernel)
    }

    /// Whether any of it is so: which excludes a rule.
    pub(super) fn any(&self, case: &Case<'_>) -> bool {
        self.capabilities.iter().any(|capability| case.has(capability.as_ref()))
            || self.is_arch(case)
            || self.kernel.is_some_and(|kernel| case.machine.kernel >= kernel)
    }

    fn is_arch(&self, case: &Case<'_>) -> bool {
        self.architectures.iter().any(|arch| arch.as_ref() == case.arch())
    }
}
