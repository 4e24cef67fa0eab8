//! Points in time as RFC 3339 writes them, in UTC.
//!
//! The clock itself is a parameter everywhere: it is read once, in `main`.

use std::time::{SystemTime, UNIX_EPOCH};

/// A date and time of day in UTC.
struct Civil {
    year: i64,
    month: u64,
    day: u64,
    second_of_day: u64,
}

/// The date of a number of seconds since 1970, by the proleptic Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year, in eras of 400 years, which all have
/// the same number of days.
fn civil(seconds: u64) -> Civil {
    const DAYS_BEFORE_1970: u64 = 719_468;
    const ERA: u64 = 146_097;
    let days = seconds / 86_400 + DAYS_BEFORE_1970;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / (ERA - 1)) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    Civil {
        year: (era * 400 + year_of_era) as i64 + i64::from(month <= 2),
        month,
        day: day_of_year - (153 * march_month + 2) / 5 + 1,
        second_of_day: seconds % 86_400,
    }
}

/// Whole seconds, as `2026-11-22T03:04:05Z`. A time before 1970 counts as 1970.
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let Civil { year, month, day, second_of_day: s } = civil(seconds);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
}

/// With nanoseconds as far as they are not zero, as `2026-11-22T03:04:05.12Z`: the form of `created` in `state` and
/// `list`.
pub fn rfc3339_nano(time: SystemTime) -> String {
    let nanos = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    let mut text = rfc3339(time);
    if nanos > 0 {
        let fraction = format!("{nanos:09}");
        text.pop();
        text.push('.');
        text.push_str(fraction.trim_end_matches('0'));
        text.push('Z');
    }
    text
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
