//! Points in time as documents, logs and filters write them: RFC 3339 in UTC, seconds since 1970, and Go's durations.
//!
//! Points are nanoseconds since 1970, of which 64 bits reach from 1677 to 2262. No clock is read: where "now" matters it is
//! a parameter.

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;
/// Seconds of a day.
const DAY: i64 = 86_400;

/// A date and time of day, by the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Year.
    pub year: i64,
    /// Month, from 1.
    pub month: i64,
    /// Day of the month, from 1.
    pub day: i64,
    /// Second of the day.
    pub second: i64,
    /// Nanosecond of the second.
    pub nanosecond: i64,
}

impl Moment {
    /// Of nanoseconds since 1970.
    pub const fn new(time: i64) -> Self {
        Self::of_seconds(time.div_euclid(SECOND), time.rem_euclid(SECOND))
    }

    /// Of seconds since 1970, and nanoseconds of the second.
    pub const fn of_seconds(seconds: i64, nanosecond: i64) -> Self {
        // Years begin in March, so that the leap day is the last of one; an era is 400 years.
        let days = seconds.div_euclid(DAY) + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let march = (5 * of_year + 2) / 153;
        let month = if march < 10 { march + 3 } else { march - 9 };
        Self {
            year: era * 400 + year + (month <= 2) as i64,
            month,
            day: of_year - (153 * march + 2) / 5 + 1,
            second: seconds.rem_euclid(DAY),
            nanosecond,
        }
    }

    /// `2026-01-02T03:04:05`, then so many digits of the second's fraction, nine at most, then `Z`.
    pub fn rfc3339(self, digits: usize) -> String {
        let Self { year, month, day, second: s, nanosecond } = self;
        let mut text = format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
        if digits > 0 {
            text.push('.');
            text.extend(format!("{nanosecond:09}").chars().take(digits));
        }
        text.push('Z');
        text
    }

    /// `2026-01-02T03:04:05.12Z`: with as many digits of the second's fraction as it needs.
    pub fn rfc3339_short(self) -> String {
        let mut digits = 9;
        let mut rest = self.nanosecond;
        while digits > 0 && rest % 10 == 0 {
            rest /= 10;
            digits -= 1;
        }
        self.rfc3339(digits)
    }

    /// `Jan  2 03:04:05`, as RFC 3164 has it.
    pub fn stamp(self) -> String {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = MONTHS.get(self.month as usize - 1).copied().unwrap_or("Jan");
        let s = self.second;
        format!("{month} {:2} {:02}:{:02}:{:02}", self.day, s / 3600, s / 60 % 60, s % 60)
    }
}

/// A time as documents have it: `2026-01-02T03:04:05.000000006Z`, with as many decimals as it needs.
pub fn format(time: i64) -> String {
    Moment::new(time).rfc3339_short()
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
    together(days.checked_mul(DAY)?.checked_add(seconds - offset)?, nanos)
}

/// The same, or the beginning of one: without a zone it is in UTC, and what is missing of the clock is zero.
pub fn parse_begun(text: &str) -> Option<i64> {
    if let Some(time) = parse(text) {
        return Some(time);
    }
    let (_, after) = text.split_at_checked(10)?;
    let (clock, zone) = match after.rfind(['+', '-', 'Z', 'z']) {
        Some(at) => text.split_at(10 + at),
        None => (text, "Z"),
    };
    ["", ":00", ":00:00", "T00:00:00"].iter().find_map(|end| parse(&format!("{clock}{end}{zone}")))
}

/// Seconds since 1970, with decimals or without.
pub fn parse_seconds(text: &str) -> Option<i64> {
    let (seconds, rest) = text.split_once('.').unwrap_or((text, ""));
    let nanos = if rest.is_empty() { 0 } else { decimals(rest)? };
    let whole = seconds.parse::<i64>().ok()?;
    together(whole, if seconds.starts_with('-') { -nanos } else { nanos })
}

/// A point in time of a filter: RFC 3339 or its beginning, seconds since 1970 with decimals, or a duration before `now`.
pub fn parse_point(text: &str, now: i64) -> Option<i64> {
    if let Some(time) = parse_begun(text) {
        return Some(time);
    }
    match parse_duration(text) {
        Some(nanos) => now.checked_sub(nanos),
        None => parse_seconds(text),
    }
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
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? };
        let part = if part.is_empty() { 0 } else { decimals(part)? };
        let part = i64::try_from(i128::from(part) * i128::from(unit) / i128::from(SECOND)).ok()?;
        total = total.checked_add(whole.checked_mul(unit)?)?.checked_add(part)?;
        rest = &tail[end..];
    }
    Some(total)
}

/// Nanoseconds of seconds and a part of one.
fn together(seconds: i64, nanos: i64) -> Option<i64> {
    seconds.checked_mul(SECOND)?.checked_add(nanos)
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
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
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
        check("1970-01-01T00:00:00.000000001Z", Some(1));
        check("1970-01-01T23:59:59.999999999Z", Some(86_399_999_999_999));
        check("2024-02-29T12:34:56.000000789Z", Some(1_709_210_096_000_000_789));
        check("2024-02-29T14:34:56.5+02:00", Some(1_709_210_096_500_000_000));
        check("2000-02-28T23:59:59Z", Some(951_782_399_000_000_000));
        check("2000-02-29T00:00:00Z", Some(951_782_400_000_000_000));
        check("2000-03-01T00:00:00Z", Some(951_868_800_000_000_000));
        check("2100-03-01T00:00:00Z", Some(4_107_542_400_000_000_000));
        check("1969-12-31T23:59:59.5Z", Some(-500_000_000));
        check("1999-12-31T23:59:59-00:01", Some(946_684_859_000_000_000));
        for bad in [
            "",
            "x",
            "2024",
            "2024-02-29",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-02-29T12:00:00.-1Z",
            "é024-01-01T00:00:00Z",
            "2024-01-01T00:00:00+é",
            "9999-01-01T00:00:00Z",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn forms() {
        let check = |time: i64, digits: usize, expect: &str| assert_eq!(Moment::new(time).rfc3339(digits), expect);
        check(0, 0, "1970-01-01T00:00:00Z");
        check(86_401_500_000_000, 9, "1970-01-02T00:00:01.500000000Z");
        check(1_709_208_000_123_456_789, 6, "2024-02-29T12:00:00.123456Z");
        check(1_709_208_000_123_456_789, 12, "2024-02-29T12:00:00.123456789Z");
        assert_eq!(Moment::of_seconds(253_402_300_799, 1000).rfc3339_short(), "9999-12-31T23:59:59.000001Z");
        assert_eq!(Moment::new(1_709_208_000_000_000_001).stamp(), "Feb 29 12:00:00");
        assert_eq!(Moment::new(86_401_500_000_000).stamp(), "Jan  2 00:00:01");
    }

    #[test]
    fn points() {
        const NOW: i64 = 1_000_000 * SECOND;
        let check = |text: &str, expect: Option<i64>| assert_eq!(parse_point(text, NOW), expect, "{text}");
        check("10m", Some(NOW - 600 * SECOND));
        check("1h30m1.5s", Some(NOW - 5401 * SECOND - SECOND / 2));
        check("1136073600", Some(1_136_073_600 * SECOND));
        check("1136073600.25", Some(1_136_073_600 * SECOND + SECOND / 4));
        check("-1.5", Some(-SECOND - SECOND / 2));
        check("2006-01-01", Some(1_136_073_600 * SECOND));
        check("2006-01-01T00:00", Some(1_136_073_600 * SECOND));
        check("2006-01-01T00:00:00", Some(1_136_073_600 * SECOND));
        check("2006-01-01T00", Some(1_136_073_600 * SECOND));
        check("2006-01-01T02:00+02:00", Some(1_136_073_600 * SECOND));
        check("2006-01-01Z", Some(1_136_073_600 * SECOND));
        check("10", Some(10 * SECOND));
        for bad in ["", "x", "-", "1x", "h", ".h", "1.-5", "99999999999999999h", "99999999999999999999", "9223372036.9"]
        {
            check(bad, None);
        }
    }
}
