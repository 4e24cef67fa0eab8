//! Network devices that move into a container, and their names (config-linux.md, Network Devices).

use std::collections::{BTreeMap, BTreeSet};

use super::NameError;
use crate::oci::linux::NetDevice;

/// Longest name of a device, in bytes.
const MAX_NAME: usize = 15;

/// A device to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move<'a> {
    /// Its name outside.
    pub from: &'a str,
    /// Its name inside; `%d` within it becomes a number that makes it unique there.
    pub to: &'a str,
}

/// Whether the kernel takes a name for a device: 1 to 15 bytes, none of them a space, `/`, `:` or NUL, not `.` or `..`;
/// with `template`, `%d` may stand in it once.
///
/// A device that moves is renamed only once it has left, so a name that the kernel refuses would lose it.
pub fn is_valid(name: &str, template: bool) -> bool {
    // The kernel reads names as Latin-1, where 0xa0 is a space too.
    let forbidden = |b: u8| b.is_ascii_whitespace() || matches!(b, 0 | 0x0b | b'/' | b':' | 0xa0);
    let percent = match name.split_once('%') {
        None => true,
        Some((_, rest)) => template && rest.strip_prefix('d').is_some_and(|rest| !rest.contains('%')),
    };
    (1..=MAX_NAME).contains(&name.len()) && name != "." && name != ".." && percent && !name.bytes().any(forbidden)
}

/// Translates the devices of a container. Two that would have the same name inside are refused.
pub fn moves(devices: &BTreeMap<String, NetDevice>) -> Result<Vec<Move<'_>>, NameError> {
    let mut taken = BTreeSet::new();
    let mut moves = Vec::new();
    for (from, device) in devices {
        let to = if device.name.is_empty() { from.as_str() } else { device.name.as_str() };
        for (name, template) in [(from.as_str(), false), (to, true)] {
            if !is_valid(name, template) {
                let why = "1 to 15 bytes without space, / and : are meant, with %d at most once";
                return Err(NameError::invalid("network device name", name, why));
            }
        }
        if !to.contains('%') && !taken.insert(to) {
            return Err(NameError::invalid("network device name", to, "two devices would have it in the container"));
        }
        moves.push(Move { from, to });
    }
    Ok(moves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, plain: bool, template: bool| {
            assert_eq!((is_valid(name, false), is_valid(name, true)), (plain, template), "{name:?}");
        };
        for name in ["eth0", "a", "container_eth0", "-", "...", "é", "fifteen-letters"] {
            check(name, true, true);
        }
        for name in ["eth%d", "%d", "a%db"] {
            check(name, false, true);
        }
        let long = "x".repeat(1 << 20);
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a:1",
            "a b",
            "a\t",
            "a\n",
            "a\u{b}",
            "a\0",
            "à",
            "%",
            "%s",
            "eth%d%d",
            "eth%%d",
            "sixteen-letters!",
            &long,
        ] {
            check(name, false, false);
        }
    }

    #[test]
    fn devices() {
        let check = |devices: &[(&str, &str)], expect: Option<&[(&str, &str)]>| {
            let map: BTreeMap<_, _> =
                devices.iter().map(|&(from, to)| (from.to_owned(), NetDevice { name: to.to_owned() })).collect();
            let got = moves(&map).ok().map(|moves| moves.iter().map(|m| (m.from, m.to)).collect::<Vec<_>>());
            assert_eq!(got.as_deref(), expect, "{devices:?}");
        };
        check(&[], Some(&[]));
        check(&[("b", ""), ("a", "c")], Some(&[("a", "c"), ("b", "b")]));
        check(&[("a", "b"), ("b", "a")], Some(&[("a", "b"), ("b", "a")]));
        check(&[("a", "eth%d"), ("b", "eth%d")], Some(&[("a", "eth%d"), ("b", "eth%d")]));
        check(&[("a", "x"), ("b", "x")], None);
        check(&[("a", "b"), ("b", "")], None);
        check(&[("eth%d", "a")], None);
        check(&[("eth%d", "")], None);
        check(&[("", "a")], None);
        check(&[("a", "b/c")], None);
    }
}
