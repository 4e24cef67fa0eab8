//! Points in time as logs write them. Pure; all in UTC.

/// A date and time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    year: i64,
    month: i64,
    day: i64,
    second: i64,
    nanosecond: i64,
}

impl Moment {
    /// Of nanoseconds since 1970.
    pub(super) fn new(time: i64) -> Self {
        let (seconds, nanosecond) = (time.div_euclid(1_000_000_000), time.rem_euclid(1_000_000_000));
        // Years begin in March, so that the leap day is the last of one; an era is 400 years.
        let days = seconds.div_euclid(86_400) + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let march = (5 * of_year + 2) / 153;
        let month = if march < 10 { march + 3 } else { march - 9 };
        Self {
            year: era * 400 + year + i64::from(month <= 2),
            month,
            day: of_year - (153 * march + 2) / 5 + 1,
            second: seconds.rem_euclid(86_400),
            nanosecond,
        }
    }

    /// `2026-01-02T03:04:05`, then so many digits of the second's fraction, then `Z`.
    pub(super) fn rfc3339(self, digits: usize) -> String {
        let Self { year, month, day, second: s, nanosecond } = self;
        let mut text = format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
        if digits > 0 {
            text.push('.');
            text.push_str(&format!("{nanosecond:09}")[..digits.min(9)]);
        }
        text.push('Z');
        text
    }

    /// `Jan  2 03:04:05`, as RFC 3164 has it.
    pub(super) fn stamp(self) -> String {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = MONTHS.get(self.month as usize - 1).copied().unwrap_or("Jan");
        let s = self.second;
        format!("{month} {:2} {:02}:{:02}:{:02}", self.day, s / 3600, s / 60 % 60, s % 60)
    }
}

/// Nanoseconds since 1970 of a time as log files have it: `2026-01-02T03:04:05.000000006Z`.
pub(super) fn parse(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u32>().ok().map(i64::from);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let fraction = text.get(19..)?.trim_end_matches('Z').trim_start_matches('.');
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    seconds.checked_mul(1_000_000_000)?.checked_add(digits.parse::<u32>().ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |time: i64, digits: usize, expect: &str| {
            let text = Moment::new(time).rfc3339(digits);
            assert_eq!(text, expect);
            if digits == 9 {
                assert_eq!(parse(&text), Some(time));
            }
        };
        check(0, 0, "1970-01-01T00:00:00Z");
        check(86_401_500_000_000, 9, "1970-01-02T00:00:01.500000000Z");
        check(1_709_208_000_000_000_001, 9, "2024-02-29T12:00:00.000000001Z");
        check(1_709_208_000_123_456_789, 6, "2024-02-29T12:00:00.123456Z");
        check(1_735_689_599_000_000_000, 9, "2024-12-31T23:59:59.000000000Z");
        assert_eq!(Moment::new(1_709_208_000_000_000_001).stamp(), "Feb 29 12:00:00");
        assert_eq!(Moment::new(86_401_500_000_000).stamp(), "Jan  2 00:00:01");
        assert_eq!(parse("1970-01-02T00:00:01.5Z"), Some(86_401_500_000_000));
        for bad in ["x", "", "2024-02-29", "2024-02-29T12:00:00.-1Z", "9999-12-31T23:59:59Z"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
