//! Records of a container's log in its own format: what the monitor writes and everybody reads.
//!
//! A record is a length, a head of 12 bytes, the text, and the length again, so that the last lines of a file are found
//! from its end. All numbers are little-endian. A file that was cut off in the middle of a record is read up to there.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of head and text |
//! | 8 | nanoseconds since 1970 |
//! | 1 | stream |
//! | 1 | flags: 1, the line goes on in the next record of the stream |
//! | 2 | zero |
//! | n | text, without the end of line |
//! | 4 | length of head and text |

/// Bytes of a record beside its text.
pub const OVERHEAD: usize = 20;
const HEAD: usize = 12;
/// The longest text of a record in bytes: longer lines are several records.
pub const MAX_TEXT: usize = 16 << 10;
const PARTIAL: u8 = 1;

/// Where a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output, and all of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The number in records and in the frames of attached clients.
    pub const fn number(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    /// The name in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A line of a log, or a part of a long one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Nanoseconds since 1970.
    pub time: u64,
    /// Where it was written to.
    pub stream: Stream,
    /// Whether the line goes on in the next record of the stream.
    pub partial: bool,
    /// The bytes, without the end of line.
    pub text: &'a [u8],
}

/// What is found at a place of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A record, and its length with everything.
    Record(Record<'a>, usize),
    /// Not all of a record is there.
    Short,
    /// What is there is no record.
    Damaged,
}

impl Record<'_> {
    /// The length in bytes with everything. The text has at most [`MAX_TEXT`] bytes.
    pub const fn len(&self) -> usize {
        self.text.len() + OVERHEAD
    }

    /// Whether the text has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The bytes before and after the text.
    pub fn frame(&self) -> ([u8; OVERHEAD - 4], [u8; 4]) {
        let length = ((self.text.len() + HEAD) as u32).to_le_bytes();
        let mut head = [0; OVERHEAD - 4];
        head[..4].copy_from_slice(&length);
        head[4..12].copy_from_slice(&self.time.to_le_bytes());
        head[12] = self.stream.number();
        head[13] = if self.partial { PARTIAL } else { 0 };
        (head, length)
    }
}

/// Reads the record that these bytes begin with.
pub fn first(bytes: &[u8]) -> Found<'_> {
    let Some(length) = number(bytes, 0) else { return Found::Short };
    if !(HEAD..=HEAD + MAX_TEXT).contains(&length) {
        return Found::Damaged;
    }
    let Some(again) = number(bytes, 4 + length) else { return Found::Short };
    let body = &bytes[4..4 + length];
    let stream = match body[8] {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => return Found::Damaged,
    };
    // A reader looks for the next record after damage, so what is none is told from it as well as can be.
    if again != length || body[9] > PARTIAL || body[10..HEAD] != [0, 0] {
        return Found::Damaged;
    }
    let time = body[..8].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    Found::Record(Record { time, stream, partial: body[9] & PARTIAL != 0, text: &body[HEAD..] }, length + 8)
}

/// Reads the record that these bytes end with.
pub fn last(bytes: &[u8]) -> Found<'_> {
    let Some(length) = bytes.len().checked_sub(4).and_then(|at| number(bytes, at)) else { return Found::Short };
    if !(HEAD..=HEAD + MAX_TEXT).contains(&length) {
        return Found::Damaged;
    }
    bytes.len().checked_sub(length + 8).map_or(Found::Short, |at| first(&bytes[at..]))
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(record: &Record<'_>) -> Vec<u8> {
        let (head, tail) = record.frame();
        [&head[..], record.text, &tail[..]].concat()
    }

    #[test]
    fn records_are_read_from_both_ends() {
        let one = Record { time: u64::MAX - 1, stream: Stream::Stdout, partial: true, text: b"one" };
        let two = Record { time: 2, stream: Stream::Stderr, partial: false, text: b"" };
        let log = [bytes(&one), bytes(&two)].concat();
        assert_eq!(first(&log), Found::Record(one, one.len()));
        assert_eq!(first(&log[one.len()..]), Found::Record(two, two.len()));
        assert_eq!(last(&log), Found::Record(two, two.len()));
        assert_eq!(last(&log[..one.len()]), Found::Record(one, one.len()));
    }

    #[test]
    fn what_is_cut_off_is_short_and_what_is_wrong_is_damaged() {
        let record = bytes(&Record { time: 7, stream: Stream::Stdout, partial: false, text: b"text" });
        for end in 0..record.len() {
            assert_eq!(first(&record[..end]), Found::Short, "{end}");
        }
        for at in [0, 3, 12, 13, 14, 15, record.len() - 4, record.len() - 1] {
            let mut bad = record.clone();
            bad[at] ^= 0x40;
            let found = first(&bad);
            assert!(matches!(found, Found::Damaged | Found::Short), "{at}: {found:?}");
        }
        assert_eq!(first(&[0xff; 64]), Found::Damaged);
        assert_eq!(last(&[0xff; 64]), Found::Damaged);
    }
}
