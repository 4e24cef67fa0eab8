//! Times as ps(1) shows them: in the host's zone.

/// The offsets of a zone from universal time (tzfile(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Zone {
    /// From when on, and how many seconds east; in order.
    changes: Vec<(i64, i64)>,
    /// Before the first change.
    first: i64,
}

/// Changes of a zone that are read.
const MAX_CHANGES: usize = 4096;

impl Zone {
    /// Reads a zone's file: its second part, whose times have 64 bits.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [.., times, types, letters] = counts(bytes)?;
        let [is_ut, is_std, leaps, ..] = counts(bytes)?;
        let skip = 44 + times * 5 + types * 6 + letters + leaps * 8 + is_std + is_ut;
        let second = bytes.get(skip..)?;
        let [.., times, types, _] = counts(second)?;
        if times > MAX_CHANGES || types == 0 {
            return None;
        }
        let body = second.get(44..)?;
        let (at, rest) = body.split_at_checked(times * 8)?;
        let (kinds, rest) = rest.split_at_checked(times)?;
        let offset =
            |kind: usize| Some(i64::from(i32::from_be_bytes(rest.get(kind * 6..kind * 6 + 4)?.try_into().ok()?)));
        let change =
            |(at, kind): (&[u8], &u8)| Some((i64::from_be_bytes(at.try_into().ok()?), offset(usize::from(*kind))?));
        let changes = at.chunks_exact(8).zip(kinds).map(change).collect::<Option<_>>()?;
        Some(Self { changes, first: offset(0)? })
    }

    /// Seconds since 1970 by the clocks of the zone.
    fn local(&self, time: i64) -> i64 {
        let after = self.changes.partition_point(|(at, _)| *at <= time);
        time.saturating_add(after.checked_sub(1).map_or(self.first, |last| self.changes[last].1))
    }

    /// A time by the calendar.
    pub(super) fn date(&self, time: i64) -> Date {
        let local = self.local(time);
        let (days, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        // Days are counted from the first of March of year 0, so that leap days come last (Hinnant's civil_from_days).
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 2 } else { month - 10 };
        let year = year_of_era + era * 400 + i64::from(month < 2);
        Date { year, month: month as usize, day, weekday: (days + 4).rem_euclid(7) as usize, second, days }
    }
}

/// Counts in the header of a part of a zone's file: is_ut, is_std, leaps, times, types, letters.
fn counts(bytes: &[u8]) -> Option<[usize; 6]> {
    let header = bytes.get(..44).filter(|header| header.starts_with(b"TZif"))?;
    let mut counts = [0; 6];
    for (count, field) in counts.iter_mut().zip(header[20..].chunks_exact(4)) {
        *count = u32::from_be_bytes(field.try_into().ok()?) as usize;
    }
    (bytes.len() < 1 << 24 && counts.iter().all(|count| *count <= bytes.len())).then_some(counts)
}

/// A time by the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) year: i64,
    /// 0 is January.
    pub(super) month: usize,
    pub(super) day: i64,
    /// 0 is Sunday.
    pub(super) weekday: usize,
    /// Of the day.
    pub(super) second: i64,
    /// Since 1970.
    pub(super) days: i64,
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

impl Date {
    pub(super) fn month_name(&self) -> &'static str {
        MONTHS[self.month % 12]
    }

    pub(super) fn weekday_name(&self) -> &'static str {
        DAYS[self.weekday % 7]
    }

    /// `21:20`.
    pub(super) fn minutes(&self) -> String {
        format!("{:02}:{:02}", self.second / 3600, self.second / 60 % 60)
    }

    /// `21:20:52`.
    pub(super) fn seconds(&self) -> String {
        format!("{}:{:02}", self.minutes(), self.second % 60)
    }
}

/// A duration: `[DAYS-]HH:MM:SS`.
pub(super) fn long(seconds: i64) -> String {
    let days = seconds / 86_400;
    let rest = format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    if days > 0 { format!("{days}-{rest}") } else { rest }
}

/// A duration: `[[DAYS-]HH:]MM:SS`.
pub(super) fn elapsed(seconds: i64) -> String {
    let text = long(seconds);
    if seconds < 3600 { text[3..].to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let check = |time: i64, expect: &str| {
            let date = Zone::default().date(time);
            let found =
                format!("{} {} {} {} {}", date.weekday_name(), date.month_name(), date.day, date.seconds(), date.year);
            assert_eq!(found, expect, "{time}");
        };
        check(0, "Thu Jan 1 00:00:00 1970");
        check(951_782_400, "Tue Feb 29 00:00:00 2000");
        check(951_868_800, "Wed Mar 1 00:00:00 2000");
        check(1_795_728_052, "Thu Nov 26 21:20:52 2026");
        check(4_107_542_399, "Sun Feb 28 23:59:59 2100");
        check(-1, "Wed Dec 31 23:59:59 1969");
    }

    /// A file with nothing in its first part, and these in its second: when, and which offset.
    fn file(changes: &[(i64, u8)], offsets: &[i32]) -> Vec<u8> {
        let header = |counts: [u32; 6]| {
            let mut bytes = b"TZif2".to_vec();
            bytes.resize(20, 0);
            bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
            bytes
        };
        let mut bytes = header([0, 0, 0, 0, 1, 4]);
        bytes.extend([0; 6 + 4]);
        bytes.extend(header([0, 0, 0, changes.len() as u32, offsets.len() as u32, 4]));
        bytes.extend(changes.iter().flat_map(|(at, _)| at.to_be_bytes()));
        bytes.extend(changes.iter().map(|(_, kind)| kind));
        for offset in offsets {
            bytes.extend(offset.to_be_bytes());
            bytes.extend([0, 0]);
        }
        bytes.extend(b"UTC\0");
        bytes
    }

    #[test]
    fn zones() {
        let bytes = file(&[(1000, 1), (2000, 0)], &[3600, -7200]);
        let zone = Zone::parse(&bytes).unwrap();
        let check = |time: i64, expect: i64| assert_eq!(zone.local(time) - time, expect, "{time}");
        check(999, 3600);
        check(1000, -7200);
        check(1999, -7200);
        check(2000, 3600);
        assert_eq!(Zone::parse(&file(&[], &[60])).unwrap().local(0), 60);
        assert_eq!(Zone::parse(&file(&[(0, 7)], &[60])), None);
        for length in 0..bytes.len() - 4 {
            assert!(Zone::parse(&bytes[..length]).is_none() || length > bytes.len() - 8, "{length}");
        }
        assert_eq!(Zone::parse(b"TZif"), None);
        assert_eq!(Zone::parse(&[0xff; 100]), None);
    }

    #[test]
    fn durations() {
        let check = |seconds, expect: [&str; 2]| assert_eq!([long(seconds), elapsed(seconds)], expect);
        check(0, ["00:00:00", "00:00"]);
        check(75, ["00:01:15", "01:15"]);
        check(3600, ["01:00:00", "01:00:00"]);
        check(90_061, ["1-01:01:01", "1-01:01:01"]);
    }
}
