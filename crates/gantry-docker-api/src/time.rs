//! Times as clients expect them.

use gantry_model::time;

/// RFC 3339 with nanoseconds, without trailing zeros; the year 1 for none.
pub(crate) fn rfc3339(nanoseconds: i64) -> String {
    if nanoseconds == 0 { "0001-01-01T00:00:00Z".to_owned() } else { time::format(nanoseconds) }
}

/// Seconds, or seconds with a fraction, or RFC 3339 or its beginning, as nanoseconds; none for what is neither.
pub(crate) fn parse(text: &str) -> Option<i64> {
    time::parse_seconds(text).or_else(|| time::parse_begun(text)).or_else(|| far(text))
}

/// Seconds that are too far away to be counted in nanoseconds are as far away as can be.
fn far(text: &str) -> Option<i64> {
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    decimals.bytes().all(|c| c.is_ascii_digit()).then_some(if seconds < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (nanoseconds, text) in [
            (0, "0001-01-01T00:00:00Z"),
            (1, "1970-01-01T00:00:00.000000001Z"),
            (1_709_208_000_500_000_000, "2024-02-29T12:00:00.5Z"),
            (-1_000_000_000, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(nanoseconds), text);
            if nanoseconds != 0 {
                assert_eq!(parse(text), Some(nanoseconds), "{text}");
            }
        }
    }

    #[test]
    fn other_forms() {
        assert_eq!(parse("12"), Some(12_000_000_000));
        assert_eq!(parse("12.5"), Some(12_500_000_000));
        assert_eq!(parse("1970-01-02"), Some(86_400_000_000_000));
        assert_eq!(parse("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(parse("1970-01-01T00:00:01"), Some(1_000_000_000));
        assert_eq!(parse("99999999999"), Some(i64::MAX));
        assert_eq!(parse("99999999999.x"), None);
        assert_eq!(parse("x"), None);
        assert_eq!(parse(""), None);
    }
}
