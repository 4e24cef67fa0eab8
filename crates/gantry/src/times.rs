//! Points in time, as people give them to `--since` and `--until`, and as tables show them.

use gantry_model::time;

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
    time::parse_begun(text).map(i128::from)
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
