//! Times as documents and filters write them: RFC 3339, seconds since 1970, and Go's durations.

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// A time as documents have it: `2026-01-02T03:04:05.000000006Z`, with as many decimals as it needs.
pub fn format(nanos: i64) -> String {
    let (seconds, rest) = (nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND));
    let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    let decimals = if rest == 0 { String::new() } else { format!(".{rest:09}").trim_end_matches('0').to_owned() };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{decimals}Z")
}

/// Nanoseconds since 1970 of an RFC 3339 time, in any time zone. None for what is none.
pub fn parse(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let days = date_days(date)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let seconds = clock_seconds(clock)?;
    let (nanos, zone) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            (decimals(&rest[..end])?, &rest[end..])
        }
        None => (0, rest),
    };
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let zone = zone.strip_prefix(['+', '-'])?;
            sign * clock_seconds(&format!("{zone}:00"))?
        }
    };
    days.checked_mul(86_400)?.checked_add(seconds - offset)?.checked_mul(SECOND)?.checked_add(nanos)
}

/// A point in time of a filter: RFC 3339, a date, seconds since 1970 with decimals, or a duration before `now`.
pub fn parse_point(text: &str, now: i64) -> Option<i64> {
    if let Some(time) = parse(text) {
        return Some(time);
    }
    if let Some(days) = date_days(text) {
        return days.checked_mul(86_400 * SECOND);
    }
    for form in ["Z", ":00Z", ":00:00Z"] {
        if let Some(time) = parse(&format!("{text}{form}")) {
            return Some(time);
        }
    }
    if let Some(nanos) = parse_duration(text) {
        return now.checked_sub(nanos);
    }
    let (seconds, rest) = text.split_once('.').unwrap_or((text, ""));
    let nanos = if rest.is_empty() { 0 } else { decimals(rest)? };
    seconds.parse::<i64>().ok()?.checked_mul(SECOND)?.checked_add(nanos)
}

/// A duration as Go writes it: `1h30m`, `10s`, `1.5h`. In nanoseconds; without a unit it is none.
pub fn parse_duration(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0_i64;
    if rest.is_empty() || rest == "0" {
        return (rest == "0").then_some(0);
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        if !number.bytes().any(|c| c.is_ascii_digit()) {
            return None;
        }
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let unit = match &tail[..end] {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            _ => return None,
        };
        if number.is_empty() {
            return None;
        }
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? };
        let part = if part.is_empty() { 0 } else { decimals(part)? };
        let part = i64::try_from(i128::from(part) * i128::from(unit) / i128::from(SECOND)).ok()?;
        total = total.checked_add(whole.checked_mul(unit)?)?.checked_add(part)?;
        rest = &tail[end..];
    }
    Some(total)
}

/// Nine decimals; more are cut.
fn decimals(digits: &str) -> Option<i64> {
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    format!("{digits:0<9}").get(..9)?.parse().ok()
}

fn number(text: &str) -> Option<i64> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn clock_seconds(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let [hour, minute, second] = [parts.next()?, parts.next()?, parts.next()?];
    let two = [hour, minute, second].iter().all(|part| part.len() == 2);
    let (hour, minute, second) = (number(hour)?, number(minute)?, number(second)?);
    (two && parts.next().is_none() && hour < 24 && minute < 60 && second <= 60)
        .then_some(hour * 3600 + minute * 60 + second)
}

fn date_days(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let [year, month, day] = [parts.next()?, parts.next()?, parts.next()?];
    if parts.next().is_some() || [year.len(), month.len(), day.len()] != [4, 2, 2] {
        return None;
    }
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    ((1..=12).contains(&month) && (1..=31).contains(&day)).then(|| days(year, month, day))
}

/// Days since 1970 of a date. Years are counted from March, so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

/// The date of days since 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |text: &str, expect: Option<i64>| {
            assert_eq!(parse(text), expect, "{text}");
            if let (Some(nanos), true) = (expect, text.ends_with('Z')) {
                assert_eq!(format(nanos), text);
            }
        };
        check("1970-01-01T00:00:00Z", Some(0));
        check("2024-02-29T12:34:56.000000789Z", Some(1_709_210_096_000_000_789));
        check("2024-02-29T14:34:56.5+02:00", Some(1_709_210_096_500_000_000));
        check("2000-03-01T00:00:00Z", Some(951_868_800_000_000_000));
        check("1969-12-31T23:59:59.5Z", Some(-500_000_000));
        check("1999-12-31T23:59:59-00:01", Some(946_684_859_000_000_000));
        for bad in [
            "",
            "2024",
            "2024-02-29",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "é024-01-01T00:00:00Z",
            "2024-01-01T00:00:00+é",
            "9999-01-01T00:00:00Z",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn points() {
        const NOW: i64 = 1_000_000 * SECOND;
        let check = |text: &str, expect: Option<i64>| assert_eq!(parse_point(text, NOW), expect, "{text}");
        check("10m", Some(NOW - 600 * SECOND));
        check("1h30m1.5s", Some(NOW - 5401 * SECOND - SECOND / 2));
        check("1136073600", Some(1_136_073_600 * SECOND));
        check("1136073600.25", Some(1_136_073_600 * SECOND + SECOND / 4));
        check("2006-01-01", Some(1_136_073_600 * SECOND));
        check("2006-01-01T00:00", Some(1_136_073_600 * SECOND));
        check("10", Some(10 * SECOND));
        for bad in ["", "x", "-", "1x", "h", ".h", "99999999999999999h"] {
            check(bad, None);
        }
    }
}
