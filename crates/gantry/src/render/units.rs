//! Sizes and ages as Docker writes them, for people and for scripts that compare.

/// A size with three significant digits and decimal units: `231MB`, `1.05kB`, `12B`.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    // What rounds up to a thousand is one of the next unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

/// A size with four significant digits and decimal units: `230.7MB`.
#[allow(clippy::cast_precision_loss, reason = "four digits are shown")]
pub fn size_of_four(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", significant(value, 4), UNITS[unit])
}

/// A number with so many significant digits, and no zeros at its end.
fn significant(value: f64, digits: usize) -> String {
    let before = format!("{:.0}", value.floor()).len();
    let text = format!("{value:.*}", digits.saturating_sub(before));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A size in powers of 1024 with four significant digits: `1.5GiB`, `64MiB`.
#[allow(clippy::cast_precision_loss, reason = "four digits are shown")]
pub fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{}{}", significant(value, 4), UNITS[unit])
}

/// A time span, roughly, as `3 weeks`.
pub fn span(seconds: u64) -> String {
    let hours = (seconds + 1800) / 3600;
    match (seconds, seconds / 60, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (s @ ..60, ..) => format!("{s} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, m @ ..60, _) => format!("{m} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, h @ ..48) => format!("{h} hours"),
        (_, _, h @ ..336) => format!("{} days", h / 24),
        (_, _, h @ ..1440) => format!("{} weeks", h / 24 / 7),
        (_, _, h @ ..17520) => format!("{} months", h / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// How long ago something was, both in seconds since 1970; `N/A` if it is not known.
pub fn ago(then: Option<i64>, now: i64) -> String {
    then.map_or_else(|| "N/A".to_owned(), |then| span(u64::try_from(now - then).unwrap_or(0)) + " ago")
}

/// A point in time as `2026-11-22 03:04:05 +0000 UTC`, in seconds since 1970; `N/A` if it is not known.
pub fn date(seconds: Option<i64>) -> String {
    let Some(seconds) = seconds else { return "N/A".to_owned() };
    let (days, s) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} +0000 UTC", s / 3600, s / 60 % 60, s % 60)
}

/// A point in time as `2026-11-22T03:04:05.000000000Z`, in nanoseconds since 1970.
pub fn stamp(nanoseconds: i128) -> String {
    let (seconds, part) = (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
    let text = date(Some(seconds as i64));
    let text = text.trim_end_matches(" +0000 UTC").replace(' ', "T");
    format!("{text}.{part:09}Z")
}

/// The date of a number of days since 1970 in the proleptic Gregorian calendar, counted in years that begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (era * 400 + year + i64::from(month <= 2), month, of_year - (153 * march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |bytes: u64, expect: &str| assert_eq!(size(bytes), expect, "{bytes}");
        check(0, "0B");
        check(12, "12B");
        check(999, "999B");
        check(1000, "1kB");
        check(1050, "1.05kB");
        check(1_239_000, "1.24MB");
        check(12_345, "12.3kB");
        check(99_949, "99.9kB");
        check(99_960, "100kB");
        check(230_686_720, "231MB");
        check(999_499, "999kB");
        check(999_500, "1MB");
        check(1_500_000_000_000, "1.5TB");
        check(u64::MAX, "18.4EB");
    }

    #[test]
    fn other_sizes() {
        let check = |bytes: u64, four: &str, binary: &str| {
            assert_eq!((size_of_four(bytes).as_str(), binary_size(bytes).as_str()), (four, binary), "{bytes}");
        };
        check(0, "0B", "0B");
        check(999, "999B", "999B");
        check(1000, "1kB", "1000B");
        check(1536, "1.536kB", "1.5KiB");
        check(67_108_864, "67.11MB", "64MiB");
        check(25_276_272_640, "25.28GB", "23.54GiB");
        check(230_686_720, "230.7MB", "220MiB");
    }

    #[test]
    fn ages() {
        let check = |seconds: i64, expect: &str| assert_eq!(ago(Some(100), 100 + seconds), expect, "{seconds}");
        check(-5, "Less than a second ago");
        check(0, "Less than a second ago");
        check(1, "1 second ago");
        check(59, "59 seconds ago");
        check(60, "About a minute ago");
        check(120, "2 minutes ago");
        check(3599, "59 minutes ago");
        check(3600, "About an hour ago");
        check(5399, "About an hour ago");
        check(5400, "2 hours ago");
        check(47 * 3600, "47 hours ago");
        check(48 * 3600, "2 days ago");
        check(14 * 86_400, "2 weeks ago");
        check(21 * 86_400 + 5, "3 weeks ago");
        check(60 * 86_400, "2 months ago");
        check(730 * 86_400, "2 years ago");
        assert_eq!(ago(None, 5), "N/A");
    }

    #[test]
    fn dates() {
        let check = |seconds: Option<i64>, expect: &str| assert_eq!(date(seconds), expect);
        check(None, "N/A");
        check(Some(0), "1970-01-01 00:00:00 +0000 UTC");
        check(Some(-1), "1969-12-31 23:59:59 +0000 UTC");
        check(Some(951_868_799), "2000-02-29 23:59:59 +0000 UTC");
        check(Some(951_868_800), "2000-03-01 00:00:00 +0000 UTC");
        check(Some(1_795_316_645), "2026-11-22 03:04:05 +0000 UTC");
        check(Some(253_402_300_799), "9999-12-31 23:59:59 +0000 UTC");
    }
}
