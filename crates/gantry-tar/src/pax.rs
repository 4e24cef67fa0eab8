//! Extended headers: records of a key and a value that stand for fields of the next header, or of all that follow
//! (POSIX pax, pax Extended Header; for sparse files GNU tar manual, Storing Sparse Files).

use crate::entry::{Entry, Extent, Time, Xattr};

/// What records said. A field that they did not name is `None`.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Time>,
    pub user: Option<Vec<u8>>,
    pub group: Option<Vec<u8>>,
    pub xattrs: Vec<Xattr>,
    pub sparse: Sparse,
}

/// What records said of a sparse file, in one of GNU's three ways.
#[derive(Clone, Debug, Default)]
pub struct Sparse {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    /// Version 0.1: offsets and lengths in one record.
    pub map: Option<Vec<Extent>>,
    /// Version 0.0: a record for each number.
    pub pairs: Vec<Extent>,
    /// An offset that waits for its length.
    offset: Option<u64>,
}

/// Why a record was refused.
pub type Refused = (&'static str, &'static str);

impl Extras {
    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Reads the records of one extended header over those that are there. `most` is how many extents a map may have.
    pub fn read(&mut self, mut records: &[u8], most: usize) -> Result<(), Refused> {
        while !records.is_empty() {
            let (record, rest) = split(records).ok_or(("pax header", "has a record of no valid form"))?;
            let equals = record.iter().position(|byte| *byte == b'=');
            let equals = equals.filter(|at| *at > 0).ok_or(("pax header", "has a record without a key"))?;
            self.record(&record[..equals], &record[equals + 1..], most)?;
            records = rest;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8], most: usize) -> Result<(), Refused> {
        let bytes = |field: &'static str| match value {
            [] => Ok(None),
            _ if value.contains(&0) => Err((field, "holds a NUL")),
            _ => Ok(Some(value.to_vec())),
        };
        match key {
            b"path" => self.path = bytes("pax path")?,
            b"linkpath" => self.link = bytes("pax linkpath")?,
            b"uname" => self.user = bytes("pax uname")?,
            b"gname" => self.group = bytes("pax gname")?,
            b"size" => self.size = number("pax size", value)?,
            b"uid" => self.uid = number("pax uid", value)?,
            b"gid" => self.gid = number("pax gid", value)?,
            b"mtime" => self.mtime = time(value)?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.set_xattr(name, value.to_vec(), true);
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let value = base64(value).ok_or(("LIBARCHIVE.xattr", "is no base64"))?;
                    self.set_xattr(&percent_decoded(name), value, false);
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.record(name, value, most)?;
                }
                // Every other record is of no use to a reader of files: times of access, comments, charsets.
            }
        }
        Ok(())
    }

    /// Two programs' records of one attribute are the same; the one with the plain value is taken.
    fn set_xattr(&mut self, name: &[u8], value: Vec<u8>, over: bool) {
        match self.xattrs.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) if over => *known = value,
            Some(_) => {}
            None => self.xattrs.push((name.to_vec(), value)),
        }
    }

    /// Moves what was said into the entry, and returns the size that was said for its data.
    pub fn apply(&mut self, entry: &mut Entry) -> Option<u64> {
        let Self { path, link, uid, gid, mtime, user, group, xattrs, .. } = self;
        for (field, value) in
            [(&mut entry.path, path), (&mut entry.link, link), (&mut entry.user, user), (&mut entry.group, group)]
        {
            if let Some(value) = value.take() {
                *field = value;
            }
        }
        entry.uid = uid.unwrap_or(entry.uid);
        entry.gid = gid.unwrap_or(entry.gid);
        entry.mtime = mtime.unwrap_or(entry.mtime);
        entry.xattrs.append(xattrs);
        self.size
    }
}

impl Sparse {
    fn record(&mut self, key: &[u8], value: &[u8], most: usize) -> Result<(), Refused> {
        match key {
            b"major" => self.major = number("GNU.sparse.major", value)?,
            b"minor" => self.minor = number("GNU.sparse.minor", value)?,
            b"name" if value.contains(&0) => return Err(("GNU.sparse.name", "holds a NUL")),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.real_size = number("GNU.sparse.realsize", value)?,
            b"map" => self.map = Some(map(value, most)?),
            b"offset" => self.offset = number("GNU.sparse.offset", value)?,
            b"numbytes" => {
                let (Some(offset), Some(length)) = (self.offset.take(), number("GNU.sparse.numbytes", value)?) else {
                    return Err(("GNU.sparse.numbytes", "comes without its offset"));
                };
                if self.pairs.len() >= most {
                    return Err(("GNU.sparse.numbytes", "is there too often"));
                }
                self.pairs.push(Extent { offset, length });
            }
            _ => {}
        }
        Ok(())
    }
}

/// The first record, without its length and newline, and what follows it.
fn split(records: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = records.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&records[..blank])?).ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    Some((record, rest))
}

/// Decimal digits and nothing else.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        byte.is_ascii_digit().then(|| value.checked_mul(10)?.checked_add(u64::from(byte - b'0')))?
    })
}

/// A number; an empty one takes back what was said before.
fn number(field: &'static str, value: &[u8]) -> Result<Option<u64>, Refused> {
    if value.is_empty() {
        return Ok(None);
    }
    decimal(value).map(Some).ok_or((field, "is no number"))
}

fn map(value: &[u8], most: usize) -> Result<Vec<Extent>, Refused> {
    const FIELD: &str = "GNU.sparse.map";
    let mut numbers = value.split(|byte| *byte == b',').map(decimal);
    let mut map = Vec::new();
    while let Some(offset) = numbers.next() {
        let (Some(offset), Some(Some(length))) = (offset, numbers.next()) else {
            return Err((FIELD, "is no list of pairs of numbers"));
        };
        if map.len() >= most {
            return Err((FIELD, "has too many extents"));
        }
        map.push(Extent { offset, length });
    }
    Ok(map)
}

/// Seconds with a sign and any number of decimals; what is below a nanosecond is dropped.
fn time(value: &[u8]) -> Result<Option<Time>, Refused> {
    const REFUSED: Refused = ("pax mtime", "is no time");
    if value.is_empty() {
        return Ok(None);
    }
    let (negative, value) = value.strip_prefix(b"-").map_or((false, value), |rest| (true, rest));
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let whole = parts.next().unwrap_or_default();
    let decimals = parts.next().unwrap_or_default();
    if !decimals.iter().all(u8::is_ascii_digit) {
        return Err(REFUSED);
    }
    let whole = decimal(whole).and_then(|whole| i64::try_from(whole).ok()).ok_or(REFUSED)?;
    let nanos = (0..9).fold(0, |nanos, at| nanos * 10 + decimals.get(at).map_or(0, |digit| u32::from(digit - b'0')));
    Ok(Some(match (negative, nanos) {
        (false, _) => Time { seconds: whole, nanos },
        (true, 0) => Time { seconds: -whole, nanos },
        (true, _) => Time { seconds: -whole - 1, nanos: 1_000_000_000 - nanos },
    }))
}

/// Standard base64, with or without its padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    if text.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut value = 0_u32;
        for byte in group {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            value = value << 6 | u32::from(digit);
        }
        value <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&value.to_be_bytes()[1..group.len()]);
    }
    Some(bytes)
}

/// Names in libarchive's records have what is not printable as `%XX`.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        if let (b'%', Some(high), Some(low)) = (byte, hex(text.get(at + 1)), hex(text.get(at + 2))) {
            bytes.push((high << 4 | low) as u8);
            at += 3;
        } else {
            bytes.push(*byte);
            at += 1;
        }
    }
    bytes
}

/// Writes one record: its length counts its own digits.
pub fn put(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |text: &str, expect: Option<(i64, u32)>| {
            let parsed = time(text.as_bytes()).ok().flatten().map(|time| (time.seconds, time.nanos));
            assert_eq!(parsed, expect, "{text:?}");
        };
        check("0", Some((0, 0)));
        check("1700000000.123456789", Some((1_700_000_000, 123_456_789)));
        check("1.5", Some((1, 500_000_000)));
        check("1.", Some((1, 0)));
        check("1.1234567899", Some((1, 123_456_789)));
        check("-1", Some((-1, 0)));
        check("-1.25", Some((-2, 750_000_000)));
        check("-0.25", Some((-1, 750_000_000)));
        for text in ["", ".5", "--1", "1.x", "x", "1.5.5", "9223372036854775808"] {
            check(text, None);
        }
    }

    #[test]
    fn values() {
        assert_eq!(base64(b"aGVsbG8="), Some(b"hello".to_vec()));
        assert_eq!(base64(b"aGVsbG8"), Some(b"hello".to_vec()));
        assert_eq!(base64(b""), Some(Vec::new()));
        assert_eq!(base64(b"a"), None);
        assert_eq!(base64(b"a*=="), None);
        assert_eq!(percent_decoded(b"user.a%20b%zz%4"), b"user.a b%zz%4");
    }

    #[test]
    fn records() {
        let check = |text: &[u8], ok: bool| {
            assert_eq!(Extras::default().read(text, 8).is_ok(), ok, "{}", text.escape_ascii());
        };
        check(b"", true);
        check(b"9 path=a\n", true);
        check(b"9 path=\0\n", false);
        check(b"12 comment=\n", true);
        check(b"9 path=ab", false);
        check(b"11 path=a\n", false);
        check(b"8 path=a\n", false);
        check(b"6 a=b\n6 c=d\n", true);
        check(b"6 a=b\n6 c=d", false);
        check(b"0 a=b\n", false);
        check(b"99999999999999999999999 a=b\n", false);
        check(b"4 =\n", false);
        check(b"x", false);
        check(b"16 size=garbage\n", false);
        check(b"28 GNU.sparse.numbytes=4096\n", false);
        check(b"22 GNU.sparse.map=0,1\n", true);
        check(b"20 GNU.sparse.map=0\n", false);
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for size in [0, 1, 85, 86, 87, 88, 89, 90, 91, 92, 980, 985, 990, 991, 992, 993] {
            let mut records = Vec::new();
            put(&mut records, b"path", &vec![b'x'; size]);
            let mut extras = Extras::default();
            extras.read(&records, 0).unwrap();
            assert_eq!(extras.path.map_or(0, |path| path.len()), size);
        }
    }
}
