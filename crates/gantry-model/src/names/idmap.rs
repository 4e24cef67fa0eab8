//! Mappings of user and group ids (user_namespaces(7); config-linux.md, User namespace mappings).

use std::fmt::Write;

use super::NameError;
use crate::oci::spec::IdMapping;

/// The most lines the kernel takes.
const MAX_LINES: usize = 340;
/// The kernel takes the map in one write, of less than a page.
const MAX_TEXT: usize = 4095;

/// A mapping as the configuration has it, for messages.
fn text_of(mapping: &IdMapping) -> String {
    format!("{} {} {}", mapping.container_id, mapping.host_id, mapping.size)
}

/// Checks a mapping by the kernel's rules: 1 to 340 ranges, none empty, none beyond the greatest id, no id mapped twice
/// on either side.
pub fn validate(mappings: &[IdMapping]) -> Result<(), NameError> {
    let invalid = |value: &str, why: &str| Err(NameError::invalid("id mapping", value, why));
    if mappings.is_empty() {
        return invalid("", "it has no range: map at least one id");
    }
    if mappings.len() > MAX_LINES {
        return invalid(&format!("{} ranges", mappings.len()), "the kernel takes at most 340");
    }
    for mapping in mappings {
        if mapping.size == 0 {
            return invalid(&text_of(mapping), "the range is empty: its size is at least 1");
        }
        // The last id, 2^32 - 1, stands for "none" and is never mapped.
        let fits = |first: u32| first.checked_add(mapping.size).is_some();
        if !fits(mapping.container_id) || !fits(mapping.host_id) {
            return invalid(&text_of(mapping), "the range reaches beyond the greatest id, 4294967294");
        }
    }
    let sides: [fn(&IdMapping) -> u32; 2] = [|m| m.container_id, |m| m.host_id];
    for first in sides {
        let mut sorted: Vec<&IdMapping> = mappings.iter().collect();
        sorted.sort_unstable_by_key(|mapping| first(mapping));
        for pair in sorted.windows(2) {
            if let [low, high] = pair
                && first(high) - first(low) < low.size
            {
                return invalid(&format!("{}, {}", text_of(low), text_of(high)), "the ranges overlap");
            }
        }
    }
    Ok(())
}

/// Checks a mapping and writes it as the text of /proc/PID/uid_map and gid_map: a line of container id, host id and
/// size for each range.
pub fn format(mappings: &[IdMapping]) -> Result<String, NameError> {
    validate(mappings)?;
    let mut text = String::new();
    for mapping in mappings {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", text_of(mapping));
    }
    if text.len() > MAX_TEXT {
        let why = "the kernel takes less than a page of text: use fewer ranges";
        return Err(NameError::invalid("id mapping", &format!("{} bytes", text.len()), why));
    }
    Ok(text)
}

/// The id outside that an id inside stands for; `None` if it is not mapped.
pub fn host_id(mappings: &[IdMapping], container_id: u32) -> Option<u32> {
    translate(mappings, container_id, |m| m.container_id, |m| m.host_id)
}

/// The id inside that an id outside appears as; `None` if it is not mapped.
pub fn container_id(mappings: &[IdMapping], host_id: u32) -> Option<u32> {
    translate(mappings, host_id, |m| m.host_id, |m| m.container_id)
}

fn translate(mappings: &[IdMapping], id: u32, from: fn(&IdMapping) -> u32, to: fn(&IdMapping) -> u32) -> Option<u32> {
    mappings.iter().find_map(|mapping| {
        let distance = id.checked_sub(from(mapping)).filter(|&distance| distance < mapping.size)?;
        to(mapping).checked_add(distance)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mappings(triples: &[(u32, u32, u32)]) -> Vec<IdMapping> {
        triples.iter().map(|&(container_id, host_id, size)| IdMapping { container_id, host_id, size }).collect()
    }

    #[test]
    fn texts() {
        let check = |triples: &[(u32, u32, u32)], expect: Option<&str>| {
            assert_eq!(format(&mappings(triples)).ok().as_deref(), expect, "{triples:?}");
        };
        check(&[(0, 1000, 1)], Some("0 1000 1\n"));
        check(&[(0, 100_000, 65_536)], Some("0 100000 65536\n"));
        check(&[(1, 100_000, 65_536), (0, 1000, 1)], Some("1 100000 65536\n0 1000 1\n"));
        check(&[(0, 0, u32::MAX)], Some("0 0 4294967295\n"));
        check(&[(0, 10, 5), (5, 15, 5)], Some("0 10 5\n5 15 5\n"));
        check(&[], None);
        check(&[(0, 0, 0)], None);
        check(&[(1, 0, u32::MAX)], None);
        check(&[(0, 1, u32::MAX)], None);
        check(&[(u32::MAX, 0, 1)], None);
        check(&[(0, 10, 5), (4, 20, 5)], None);
        check(&[(0, 10, 5), (5, 14, 5)], None);
        check(&[(0, 10, 5), (0, 20, 1)], None);
        check(&[(0, 5, 1), (1, 0, 10)], None);
    }

    #[test]
    fn sizes() {
        let lines = |count: u32| mappings(&(0..count).map(|n| (n, n, 1)).collect::<Vec<_>>());
        assert!(format(&lines(340)).is_ok());
        assert!(validate(&lines(341)).is_err());
        assert!(validate(&lines(100_000)).is_err());
        // Within the count, but longer than a page.
        let wide: Vec<_> = (0..340).map(|n| (1_000_000_000 + n, 2_000_000_000 + n, 1)).collect();
        assert!(validate(&mappings(&wide)).is_ok() && format(&mappings(&wide)).is_err());
    }

    #[test]
    fn lookups() {
        let map = mappings(&[(0, 1000, 1), (1, 100_000, 65_536)]);
        let check = |inside: u32, outside: Option<u32>| assert_eq!(host_id(&map, inside), outside, "{inside}");
        check(0, Some(1000));
        check(1, Some(100_000));
        check(65_536, Some(165_535));
        check(65_537, None);
        check(u32::MAX, None);
        let check = |outside: u32, inside: Option<u32>| assert_eq!(container_id(&map, outside), inside, "{outside}");
        check(1000, Some(0));
        check(100_000, Some(1));
        check(165_535, Some(65_536));
        check(0, None);
        check(u32::MAX, None);
        // A mapping that was never validated gives no wrong id.
        assert_eq!(host_id(&mappings(&[(0, u32::MAX, u32::MAX)]), 5), None);
    }
}
