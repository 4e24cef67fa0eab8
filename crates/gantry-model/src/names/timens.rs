//! Offsets of the time namespace (time_namespaces(7); config-linux.md, Offset for Time Namespace).

use std::collections::BTreeMap;
use std::fmt::Write;

use super::NameError;
use crate::oci::linux::TimeOffset;

/// The text for /proc/PID/timens_offsets: a line of clock, seconds and nanoseconds for each offset.
pub fn lines(offsets: &BTreeMap<String, TimeOffset>) -> Result<String, NameError> {
    let mut text = String::new();
    for (clock, offset) in offsets {
        if clock != "monotonic" && clock != "boottime" {
            return Err(NameError::unknown("clock of a time offset", clock, "monotonic or boottime is meant"));
        }
        if offset.nanosecs >= 1_000_000_000 {
            let why = "nanoseconds stay under 1000000000: give whole seconds in secs";
            return Err(NameError::invalid("time offset", &offset.nanosecs.to_string(), why));
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{clock} {} {}", offset.secs, offset.nanosecs);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets() {
        let check = |offsets: &[(&str, i64, u32)], expect: Option<&str>| {
            let map = offsets.iter().map(|&(clock, secs, nanosecs)| (clock.to_owned(), TimeOffset { secs, nanosecs }));
            assert_eq!(lines(&map.collect()).ok().as_deref(), expect, "{offsets:?}");
        };
        check(&[], Some(""));
        check(
            &[("monotonic", 172_800, 0), ("boottime", -5, 999_999_999)],
            Some("boottime -5 999999999\nmonotonic 172800 0\n"),
        );
        check(&[("boottime", i64::MIN, 0)], Some("boottime -9223372036854775808 0\n"));
        check(&[("monotonic", 0, 1_000_000_000)], None);
        for clock in ["", "realtime", "MONOTONIC", "monotonic\n", "monotonic\0", "1"] {
            check(&[(clock, 0, 0)], None);
        }
    }
}
