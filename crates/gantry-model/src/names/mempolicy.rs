//! NUMA memory policies (set_mempolicy(2); config-linux.md, Memory policy).

use super::cpulist::{self, BitSet};
use super::{NameError, lookup};
use crate::oci::linux::MemoryPolicy;

/// The most memory nodes that Linux can be built for.
const MAX_NODES: usize = 1024;

const DEFAULT: u32 = 0;
const PREFERRED: u32 = 1;
const LOCAL: u32 = 4;

/// Modes by name, sorted.
const MODES: [(&str, u32); 7] = [
    ("MPOL_BIND", 2),
    ("MPOL_DEFAULT", DEFAULT),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", LOCAL),
    ("MPOL_PREFERRED", PREFERRED),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

const RELATIVE_NODES: u32 = 1 << 14;
const STATIC_NODES: u32 = 1 << 15;

/// Mode flags by name, sorted.
const FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", RELATIVE_NODES),
    ("MPOL_F_STATIC_NODES", STATIC_NODES),
];

/// What set_mempolicy(2) is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Mode and mode flags.
    pub mode: u32,
    /// Nodes the mode is about; their [`BitSet::words`] are the call's mask.
    pub nodes: BitSet,
}

/// Translates a memory policy, and refuses combinations that the kernel would refuse.
pub fn policy(given: &MemoryPolicy) -> Result<Policy, NameError> {
    let name = given.mode.as_str();
    let mode = lookup(&MODES, name).ok_or_else(|| {
        NameError::unknown("memory policy mode", name, "a mode of set_mempolicy(2) is meant, as MPOL_BIND")
    })?;
    let mut flags = 0;
    for flag in &given.flags {
        flags |= lookup(&FLAGS, flag).ok_or_else(|| {
            NameError::unknown(
                "memory policy flag",
                flag,
                "a flag of set_mempolicy(2) is meant, as MPOL_F_STATIC_NODES",
            )
        })?;
    }
    if flags & STATIC_NODES != 0 && flags & RELATIVE_NODES != 0 {
        return Err(NameError::invalid("memory policy", name, "nodes are either static or relative, not both"));
    }
    let nodes = cpulist::parse_below(&given.nodes, MAX_NODES, "memory node list")?;
    match mode {
        DEFAULT | LOCAL if !nodes.is_empty() => {
            Err(NameError::invalid("memory policy", name, "the mode takes no nodes: leave them out"))
        }
        DEFAULT | LOCAL | PREFERRED => Ok(Policy { mode: mode | flags, nodes }),
        _ if nodes.is_empty() => Err(NameError::invalid("memory policy", name, "the mode needs at least one node")),
        _ => Ok(Policy { mode: mode | flags, nodes }),
    }
}

/// The names of all modes, sorted, for the features document.
pub fn known_modes() -> Vec<&'static str> {
    MODES.iter().map(|&(name, _)| name).collect()
}

/// The names of all mode flags, sorted, for the features document.
pub fn known_flags() -> Vec<&'static str> {
    FLAGS.iter().map(|&(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let check = |mode: &str, nodes: &str, flags: &[&str], expect: Option<(u32, &[u64])>| {
            let flags = flags.iter().map(|&f| f.to_owned()).collect();
            let given = MemoryPolicy { mode: mode.to_owned(), nodes: nodes.to_owned(), flags };
            let got = policy(&given).ok();
            assert_eq!(got.as_ref().map(|p| (p.mode, p.nodes.words())), expect, "{given:?}");
        };
        check("MPOL_DEFAULT", "", &[], Some((0, &[])));
        check("MPOL_PREFERRED", "", &[], Some((1, &[])));
        check("MPOL_PREFERRED", "1", &["MPOL_F_RELATIVE_NODES"], Some((1 | 1 << 14, &[2])));
        check("MPOL_BIND", "0", &["MPOL_F_STATIC_NODES"], Some((2 | 1 << 15, &[1])));
        check("MPOL_BIND", "0", &["MPOL_F_NUMA_BALANCING"], Some((2 | 1 << 13, &[1])));
        check("MPOL_INTERLEAVE", "0-3,7", &[], Some((3, &[0x8f])));
        check("MPOL_LOCAL", "", &[], Some((4, &[])));
        check("MPOL_PREFERRED_MANY", "0,1", &[], Some((5, &[3])));
        check("MPOL_WEIGHTED_INTERLEAVE", "64", &[], Some((6, &[0, 1])));
        check("MPOL_DEFAULT", "0", &[], None);
        check("MPOL_LOCAL", "0-1", &[], None);
        for mode in ["MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"] {
            check(mode, "", &[], None);
            for nodes in ["1024", "x", "0-", "99999999999999999999", "0\0", ","] {
                check(mode, nodes, &[], None);
            }
        }
        for mode in ["", "BIND", "mpol_bind", "MPOL_BIND\0", "2"] {
            check(mode, "0", &[], None);
        }
        check("MPOL_BIND", "0", &["badflag"], None);
        check("MPOL_BIND", "0", &[""], None);
        check("MPOL_BIND", "0", &["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"], None);
    }

    #[test]
    fn known_names_are_sorted() {
        assert!(known_modes().is_sorted() && known_flags().is_sorted());
    }
}
