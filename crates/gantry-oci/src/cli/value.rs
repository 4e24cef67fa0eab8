//! Values of flags as Go programs write them: truth, sizes, durations.

use std::time::Duration;

/// A truth value: 1, t, true, yes, 0, f, false, no.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" | "yes" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" | "no" => Some(false),
        _ => None,
    }
}

/// A size in bytes: a number, perhaps with a fraction, and a suffix b, k, m, g, t or p (also kb, kib ...), all of
/// powers of 1024; -1 is unlimited.
pub(super) fn size(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let suffix = suffix.strip_prefix(' ').unwrap_or(suffix).to_ascii_lowercase();
    let shift = match suffix.strip_suffix("ib").or(suffix.strip_suffix('b')).unwrap_or(&suffix) {
        "" if suffix != "ib" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 18 || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    // A fraction of the unit, cut to bytes: exact where floating point would round.
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let whole = digits(whole)?.checked_mul(1 << shift)?;
    let fraction = (digits(fraction)? << shift) / 10_u128.pow(fraction.len() as u32);
    i64::try_from(whole.checked_add(fraction)?).ok()
}

/// A duration above zero: numbers with units h, m, s, ms, us or ns, as `1m30s`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut total: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let units = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(units);
        let nanos: u128 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1000,
            "ns" => 1,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.len() > 18 {
            return None;
        }
        let whole = whole.parse::<u64>().ok()?;
        let fraction = u128::from(fraction.parse::<u64>().ok()?) * nanos / 10_u128.pow(fraction.len() as u32);
        total = total.checked_add(u128::from(whole) * nanos + fraction)?;
        rest = next;
    }
    let total = u64::try_from(total).ok().filter(|&n| n > 0)?;
    Some(Duration::from_nanos(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |text: &str, expect: Option<i64>| assert_eq!(size(text), expect, "{text:?}");
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("512b", 512),
            ("512B", 512),
            ("1k", 1024),
            ("1K", 1024),
            ("1kb", 1024),
            ("1KiB", 1024),
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("0.5k", 512),
            (".5k", 512),
            ("2 g", 2 << 30),
            ("3t", 3 << 40),
            ("1p", 1 << 50),
            ("-1", -1),
            ("9223372036854775807", i64::MAX),
        ] {
            check(text, Some(bytes));
        }
        for text in
            ["", "-2", "m", ".", ".k", "1x", "1mm", "1ib", "1 ", "1  m", "1.2.3", "9223372036854775808", "9000p", "é"]
        {
            let expect = if text == "1 " { Some(1) } else { None };
            check(text, expect);
        }
        check(&"9".repeat(60), None);
    }

    #[test]
    fn durations() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(duration(text), expect.map(Duration::from_millis), "{text:?}");
        };
        check("5s", Some(5000));
        check("500ms", Some(500));
        check("1m30s", Some(90_000));
        check("1.5s", Some(1500));
        check("1h", Some(3_600_000));
        for text in ["", "0s", "5", "s", "-5s", "5x", "1..5s", ".5s", "99999999999999999999s", "9999999h"] {
            check(text, None);
        }
    }
}
