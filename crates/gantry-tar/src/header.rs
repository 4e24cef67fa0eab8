//! The block that an entry begins with: its fields and numbers (POSIX pax, ustar Interchange Format; GNU tar manual, Basic
//! Tar Format).

use crate::BLOCK;
use std::ops::Range;

pub const NAME: Range<usize> = 0..100;
pub const MODE: Range<usize> = 100..108;
pub const UID: Range<usize> = 108..116;
pub const GID: Range<usize> = 116..124;
pub const SIZE: Range<usize> = 124..136;
pub const MTIME: Range<usize> = 136..148;
pub const CHECKSUM: Range<usize> = 148..156;
pub const TYPE: usize = 156;
pub const LINK: Range<usize> = 157..257;
pub const MAGIC: Range<usize> = 257..265;
pub const USER: Range<usize> = 265..297;
pub const GROUP: Range<usize> = 297..329;
pub const MAJOR: Range<usize> = 329..337;
pub const MINOR: Range<usize> = 337..345;
pub const PREFIX: Range<usize> = 345..500;
/// Prefix of star's dialect, which has times after it.
pub const STAR_PREFIX: Range<usize> = 345..476;
/// First extents of a sparse file in GNU's old format.
pub const GNU_SPARSE: Range<usize> = 386..482;
/// Whether blocks with more extents follow.
pub const GNU_EXTENDED: usize = 482;
/// Size of the sparse file with its holes.
pub const GNU_REAL_SIZE: Range<usize> = 483..495;

/// Magic and version of POSIX.
pub const POSIX: &[u8; 8] = b"ustar\x0000";
/// Magic and version of GNU.
pub const GNU: &[u8; 8] = b"ustar  \0";

/// A header block.
pub type Block = [u8; BLOCK];

/// Who defined the fields after the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Before POSIX: there are none.
    V7,
    Posix,
    Star,
    Gnu,
}

pub fn dialect(block: &Block) -> Dialect {
    match &block[MAGIC] {
        magic if magic == GNU => Dialect::Gnu,
        magic if !magic.starts_with(b"ustar") => Dialect::V7,
        _ if block[508..] == *b"tar\0" => Dialect::Star,
        _ => Dialect::Posix,
    }
}

/// A field of text: up to its first NUL.
pub fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// A field that is a number: octal digits, or GNU's big-endian binary, which may be negative.
pub fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Seven bits with a sign, and then whole bytes. Twelve bytes have room in 128 bits.
        let start = (i128::from(*first) << 121) >> 121;
        let value = rest.iter().fold(start, |value, byte| value << 8 | i128::from(*byte));
        return i64::try_from(value).ok();
    }
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    if !digits[end..].iter().all(blank) {
        return None;
    }
    digits[..end].iter().try_fold(0_i64, |value, byte| {
        (b'0'..=b'7').contains(byte).then(|| value.checked_mul(8)?.checked_add(i64::from(byte - b'0')))?
    })
}

/// Whether the checksum is right. Old programs added up signed bytes.
pub fn checksum_matches(block: &Block) -> bool {
    let said = number(&block[CHECKSUM]);
    said == Some(checksum(block)) || {
        let all: i64 = block.iter().map(|byte| i64::from(*byte as i8)).sum();
        let own: i64 = block[CHECKSUM].iter().map(|byte| i64::from(*byte as i8)).sum();
        said == Some(all - own + 8 * 32)
    }
}

/// The sum of all bytes, those of the checksum itself taken as blanks.
pub fn checksum(block: &Block) -> i64 {
    let all: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = block[CHECKSUM].iter().map(|byte| u32::from(*byte)).sum();
    i64::from(all - own + 8 * 32)
}

/// Writes a number in octal, with a NUL behind it. False if it has no room.
pub fn put_octal(field: &mut [u8], value: u64) -> bool {
    let digits = field.len() - 1;
    let mut rest = value;
    for byte in field[..digits].iter_mut().rev() {
        *byte = b'0' + (rest & 7) as u8;
        rest >>= 3;
    }
    field[digits] = 0;
    rest == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let check = |field: &[u8], expect: Option<i64>| assert_eq!(number(field), expect, "{field:?}");
        check(b"0000644\0", Some(0o644));
        check(b"   644 \0", Some(0o644));
        check(b"\0\0\0\0\0\0\0\0", Some(0));
        check(b"        ", Some(0));
        check(b"77777777", Some(0o7777_7777));
        check(b"12 4567\0", None);
        check(b"0000648\0", None);
        check(b"-000644\0", None);
        check(b"\x80\0\0\0\0\x20\0\0", Some(0x20_0000));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2));
        check(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX));
        check(b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None);
        check(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None);
        check(b"", None);
    }

    #[test]
    fn octal() {
        let mut field = [0xff_u8; 8];
        assert!(put_octal(&mut field, 0o755));
        assert_eq!(&field, b"0000755\0");
        assert!(put_octal(&mut field, 0o7_777_777));
        assert!(!put_octal(&mut field, 0o10_000_000));
    }
}
