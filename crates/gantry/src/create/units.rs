//! Sizes, times and parts of CPUs, as people write them.

/// A size such as `512m`, `1.5GiB` or `1024`; units are powers of 1024.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
pub fn bytes(text: &str) -> Result<i64, String> {
    let wrong = || format!("invalid size: '{text}'");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let power = match unit.strip_suffix('i').unwrap_or(unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    let size = number * 1024_f64.powi(power);
    // What is beyond 2^63 is no size of anything.
    if size >= 9.2e18 { Err(wrong()) } else { Ok(size as i64) }
}

/// A size, or -1 for no limit.
pub fn bytes_or_unlimited(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

/// A time as Go writes it (`1h30m`, `1.5s`, `500ms`), in nanoseconds.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
pub fn nanoseconds(text: &str) -> Result<i64, String> {
    let wrong = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = 0_f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            other => return Err(format!("time: unknown unit {other:?} in duration {text:?}")),
        };
        total += number * unit;
        rest = after;
    }
    if total >= 9.2e18 {
        return Err(wrong());
    }
    Ok(if negative { -(total as i64) } else { total as i64 })
}

/// A number of CPUs such as `1.5`, in billionths.
pub fn cpus(text: &str) -> Result<i64, String> {
    let wrong = || format!("failed to parse {text} as a rational number");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if (whole.is_empty() && part.is_empty()) || !digits(whole) || !digits(part) {
        return Err(wrong());
    }
    let part = part.trim_end_matches('0');
    if part.len() > 9 {
        return Err("value is too precise".to_owned());
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    let part: i64 = if part.is_empty() { 0 } else { format!("{part:0<9}").parse().map_err(|_| wrong())? };
    whole.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(part)).ok_or_else(wrong)
}

/// A word for a truth, as Go reads it.
pub fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(read: fn(&str) -> Result<i64, String>, text: &str, expect: Result<i64, &str>) {
        assert_eq!(read(text).as_ref().map(|n| *n).map_err(String::as_str), expect, "{text}");
    }

    #[test]
    fn sizes() {
        check(bytes, "0", Ok(0));
        check(bytes, "512m", Ok(512 << 20));
        check(bytes, "1.5GiB", Ok(3 << 29));
        check(bytes, "64 kb", Ok(64 << 10));
        check(bytes, "12", Ok(12));
        check(bytes, "7b", Ok(7));
        check(bytes, "-1", Err("invalid size: '-1'"));
        check(bytes_or_unlimited, "-1", Ok(-1));
        for wrong in ["", "m", "1x", "1.2.3", "1mm", "99999999p"] {
            check(bytes, wrong, Err(&format!("invalid size: '{wrong}'")));
        }
    }

    #[test]
    fn times() {
        check(nanoseconds, "30s", Ok(30_000_000_000));
        check(nanoseconds, "1h2m3s", Ok(3_723_000_000_000));
        check(nanoseconds, "1.5ms", Ok(1_500_000));
        check(nanoseconds, "0", Ok(0));
        check(nanoseconds, "-1s", Ok(-1_000_000_000));
        check(nanoseconds, "5", Err("time: missing unit in duration \"5\""));
        check(nanoseconds, "5d", Err("time: unknown unit \"d\" in duration \"5d\""));
        check(nanoseconds, "", Err("time: invalid duration \"\""));
        check(nanoseconds, "s", Err("time: invalid duration \"s\""));
    }

    #[test]
    fn parts_of_cpus() {
        check(cpus, "1.5", Ok(1_500_000_000));
        check(cpus, ".25", Ok(250_000_000));
        check(cpus, "2", Ok(2_000_000_000));
        check(cpus, "0.0000000001", Err("value is too precise"));
        check(cpus, "x", Err("failed to parse x as a rational number"));
        check(cpus, "-1", Err("failed to parse -1 as a rational number"));
        check(cpus, ".", Err("failed to parse . as a rational number"));
    }
}
