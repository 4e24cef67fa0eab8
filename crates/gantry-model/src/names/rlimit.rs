//! Resource limits: `RLIMIT_NOFILE` and the others (getrlimit(2)).

use super::{NameError, lookup};
use crate::oci::spec::Rlimit;

/// All limits, by name.
const LIMITS: [(&str, u32); 16] = [
    ("RLIMIT_CPU", 0),
    ("RLIMIT_FSIZE", 1),
    ("RLIMIT_DATA", 2),
    ("RLIMIT_STACK", 3),
    ("RLIMIT_CORE", 4),
    ("RLIMIT_RSS", 5),
    ("RLIMIT_NPROC", 6),
    ("RLIMIT_NOFILE", 7),
    ("RLIMIT_MEMLOCK", 8),
    ("RLIMIT_AS", 9),
    ("RLIMIT_LOCKS", 10),
    ("RLIMIT_SIGPENDING", 11),
    ("RLIMIT_MSGQUEUE", 12),
    ("RLIMIT_NICE", 13),
    ("RLIMIT_RTPRIO", 14),
    ("RLIMIT_RTTIME", 15),
];

/// A limit to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The resource's number, as prlimit(2) takes it.
    pub resource: u32,
    /// Value in force; all ones is unlimited.
    pub soft: u64,
    /// Ceiling; all ones is unlimited.
    pub hard: u64,
}

/// The number of a limit, by its exact name.
pub fn number(name: &str) -> Option<u32> {
    lookup(&LIMITS, name)
}

/// Translates a process's limits. A name that stands twice is an error (config.md, POSIX process), so is a soft limit
/// above the hard one, which the kernel would refuse.
pub fn limits(rlimits: &[Rlimit]) -> Result<Vec<Limit>, NameError> {
    let mut seen = 0_u32;
    let mut limits = Vec::new();
    for rlimit in rlimits {
        let kind = rlimit.kind.as_str();
        let resource = number(kind)
            .ok_or_else(|| NameError::unknown("rlimit", kind, "a limit of getrlimit(2) is meant, as RLIMIT_NOFILE"))?;
        if seen & (1 << resource) != 0 {
            return Err(NameError::invalid("rlimit", kind, "it stands twice: keep one of them"));
        }
        seen |= 1 << resource;
        if rlimit.soft > rlimit.hard {
            let why = format!("the soft limit {} is above the hard limit {}", rlimit.soft, rlimit.hard);
            return Err(NameError::invalid("rlimit", kind, why));
        }
        limits.push(Limit { resource, soft: rlimit.soft, hard: rlimit.hard });
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rlimits() {
        let check = |given: &[(&str, u64, u64)], expect: Option<&[(u32, u64, u64)]>| {
            let given: Vec<Rlimit> =
                given.iter().map(|&(kind, soft, hard)| Rlimit { kind: kind.to_owned(), hard, soft }).collect();
            let got = limits(&given).ok();
            let got: Option<Vec<_>> = got.map(|l| l.iter().map(|l| (l.resource, l.soft, l.hard)).collect());
            assert_eq!(got.as_deref(), expect, "{given:?}");
        };
        check(&[], Some(&[]));
        check(&[("RLIMIT_NOFILE", 1, 2), ("RLIMIT_CPU", 3, 3)], Some(&[(7, 1, 2), (0, 3, 3)]));
        check(&[("RLIMIT_RTTIME", u64::MAX, u64::MAX)], Some(&[(15, u64::MAX, u64::MAX)]));
        check(&[("RLIMIT_NOFILE", 1, 2), ("RLIMIT_NOFILE", 1, 2)], None);
        check(&[("RLIMIT_NOFILE", 3, 2)], None);
        for name in ["", "NOFILE", "rlimit_nofile", "RLIMIT_NOFILE\0", "7", "RLIMIT_NLIMITS"] {
            check(&[(name, 0, 0)], None);
        }
    }
}
