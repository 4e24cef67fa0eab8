//! Points in time, as people give them to `--since` and `--until`, and as tables show them.

use crate::create::units;

/// A point in time for the API: seconds since 1970, with nanoseconds after a dot. `text` is a date of RFC 3339 or the
/// beginning of one (in UTC), seconds since 1970, or so long ago as `10m`; `now` is in nanoseconds since 1970.
pub fn stamp(text: &str, now: i128) -> Result<String, String> {
    if let Ok(span) = units::nanoseconds(text) {
        return Ok(written(now - i128::from(span)));
    }
    if text.contains(['-', 'T']) && !text.starts_with('-') {
        return nanoseconds(text).map(written).ok_or_else(|| wrong(text));
    }
    let (seconds, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    if digits(seconds) && digits(part) && part.len() <= 9 {
        Ok(format!("{seconds}.{part:0<9}"))
    } else {
        Err(wrong(text))
    }
}

fn wrong(text: &str) -> String {
    format!("invalid time {text:?}: write 2026-01-02T03:04:05Z, seconds since 1970, or 10m for ten minutes ago")
}

fn written(nanoseconds: i128) -> String {
    format!("{}.{:09}", nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000))
}

/// A date of RFC 3339, or its beginning, in nanoseconds since 1970. Without an offset it is in UTC.
pub fn nanoseconds(text: &str) -> Option<i128> {
    let (date, rest) = text.split_at_checked(10)?;
    let mut parts = date.split('-');
    let mut number = |least: i64, most: i64| {
        let part = parts.next()?;
        let number: i64 = if part.chars().all(|c| c.is_ascii_digit()) { part.parse().ok()? } else { return None };
        (least..=most).contains(&number).then_some(number)
    };
    let (year, month, day) = (number(0, 9999)?, number(1, 12)?, number(1, 31)?);
    let days = days(year, month, day);
    let (clock, offset) = split_offset(rest)?;
    let clock = match clock.strip_prefix('T').or_else(|| clock.strip_prefix(' ')) {
        Some(clock) => clock,
        None if clock.is_empty() => "00:00:00",
        None => return None,
    };
    let (whole, part) = clock.split_once('.').unwrap_or((clock, ""));
    let mut fields = whole.split(':');
    let mut field = |most: i64| match fields.next() {
        None => Some(0),
        Some(text) => text.parse::<i64>().ok().filter(|n| (0..=most).contains(n) && text.len() == 2),
    };
    let seconds = field(23)? * 3600 + field(59)? * 60 + field(60)?;
    if fields.next().is_some() || part.len() > 9 || !part.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let part: i128 = if part.is_empty() { 0 } else { format!("{part:0<9}").parse().ok()? };
    Some(i128::from(days * 86_400 + seconds - offset) * 1_000_000_000 + part)
}

/// The clock, and the offset of its zone in seconds.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else { return Some((text, 0)) };
    let (hours, minutes) = text[at + 1..].split_once(':')?;
    let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
    Some((&text[..at], if text[at..].starts_with('-') { -seconds } else { seconds }))
}

/// Days from 1970 to a date of the proleptic Gregorian calendar, counted in years that begin in March.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps() {
        let check = |text: &str, expect: Result<&str, ()>| {
            let got = stamp(text, 1_800_000_000_000_000_005);
            assert_eq!(got.as_deref().map_err(|_| ()), expect, "{text}");
        };
        check("10m", Ok("1799999400.000000005"));
        check("0", Ok("1800000000.000000005"));
        check("1136073600", Ok("1136073600.000000000"));
        check("1136073600.5", Ok("1136073600.500000000"));
        check("2006-01-02T15:04:05.000000001Z", Ok("1136214245.000000001"));
        check("2006-01-02T15:04:05+07:00", Ok("1136189045.000000000"));
        check("2006-01-02T15:04:05-07:00", Ok("1136239445.000000000"));
        check("2006-01-02T15:04", Ok("1136214240.000000000"));
        check("2006-01-02", Ok("1136160000.000000000"));
        check("2000-02-29T23:59:59Z", Ok("951868799.000000000"));
        for wrong in ["", "x", "2006-13-01", "2006-01-02T25:00:00Z", "2006-01-02T1:2:3Z", "-5x", "1.2.3", "2006-01-0é"]
        {
            check(wrong, Err(()));
        }
    }
}
