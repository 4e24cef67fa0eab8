//! Points in time as RFC 3339 writes them, in UTC.
//!
//! The clock itself is a parameter everywhere: it is read once, in `main`.

use std::time::{SystemTime, UNIX_EPOCH};

use gantry_model::time::Moment;

/// A time before 1970 counts as 1970.
fn moment(time: SystemTime) -> Moment {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment::of_seconds(since.as_secs().try_into().unwrap_or(i64::MAX), since.subsec_nanos().into())
}

/// Whole seconds, as `2026-11-22T03:04:05Z`.
pub fn rfc3339(time: SystemTime) -> String {
    moment(time).rfc3339(0)
}

/// With nanoseconds as far as they are not zero, as `2026-11-22T03:04:05.12Z`: the form of `created` in `state` and
/// `list`.
pub fn rfc3339_nano(time: SystemTime) -> String {
    moment(time).rfc3339_short()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times() {
        let check = |seconds: u64, nanos: u32, expect: &str| {
            assert_eq!(rfc3339_nano(UNIX_EPOCH + Duration::new(seconds, nanos)), expect);
        };
        check(0, 0, "1970-01-01T00:00:00Z");
        check(86_399, 999_999_999, "1970-01-01T23:59:59.999999999Z");
        check(951_782_400, 0, "2000-02-29T00:00:00Z");
        check(951_868_800, 0, "2000-03-01T00:00:00Z");
        check(1_709_164_800, 500_000_000, "2024-02-29T00:00:00.5Z");
        check(1_735_689_599, 1000, "2024-12-31T23:59:59.000001Z");
        check(4_107_542_400, 0, "2100-03-01T00:00:00Z");
        check(253_402_300_799, 0, "9999-12-31T23:59:59Z");
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(5)), "1970-01-01T00:00:00Z");
    }
}
