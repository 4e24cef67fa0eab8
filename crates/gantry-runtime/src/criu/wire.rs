//! The part of protocol buffers that CRIU's service protocol needs: numbers, texts and messages.

/// A message while it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

const NUMBER: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const BYTES: u64 = 2;
const FOUR_BYTES: u64 = 5;

impl Message {
    /// The finished message.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Adds a number, an enumeration or a truth value.
    pub(super) fn number(&mut self, field: u32, value: impl Into<i64>) {
        self.varint(u64::from(field) << 3 | NUMBER);
        self.varint(value.into() as u64);
    }

    /// Adds bytes or a text.
    pub(super) fn text(&mut self, field: u32, value: impl AsRef<[u8]>) {
        self.varint(u64::from(field) << 3 | BYTES);
        self.varint(value.as_ref().len() as u64);
        self.0.extend_from_slice(value.as_ref());
    }

    /// Adds a message.
    pub(super) fn message(&mut self, field: u32, value: Self) {
        self.text(field, value.0);
    }
}

/// A field's value as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number, an enumeration or a truth value.
    Number(u64),
    /// A text or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The number; 0 for another kind.
    pub(super) fn as_number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Bytes(_) => 0,
        }
    }

    /// The bytes; none for another kind.
    pub(super) fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(_) => &[],
        }
    }

    /// The text, whatever is no UTF-8 replaced.
    pub(super) fn as_text(self) -> String {
        String::from_utf8_lossy(self.as_bytes()).into_owned()
    }
}

/// Reads a message's fields in order; none if it is damaged. Fields of fixed width, which the protocol does not use, are
/// passed over.
pub(super) fn fields(mut data: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut found = Vec::new();
    while !data.is_empty() {
        let tag = varint(&mut data)?;
        let value = match tag & 7 {
            NUMBER => Value::Number(varint(&mut data)?),
            BYTES => {
                let length = usize::try_from(varint(&mut data)?).ok()?;
                let (bytes, rest) = data.split_at_checked(length)?;
                data = rest;
                Value::Bytes(bytes)
            }
            width @ (EIGHT_BYTES | FOUR_BYTES) => {
                data = data.get(if width == EIGHT_BYTES { 8 } else { 4 }..)?;
                continue;
            }
            _ => return None,
        };
        found.push((tag >> 3, value));
    }
    Some(found)
}

fn varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written() {
        let check = |fill: fn(&mut Message), expect: &[u8]| {
            let mut message = Message::default();
            fill(&mut message);
            assert_eq!(message.into_bytes(), expect);
        };
        check(|_| {}, &[]);
        check(|m| m.number(1, true), &[0x08, 1]);
        check(|m| m.number(2, 150), &[0x10, 0x96, 1]);
        // A negative number takes all ten bytes.
        check(|m| m.number(1, -1), &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        check(|m| m.text(64, "ab"), &[0x82, 4, 2, b'a', b'b']);
        check(
            |m| {
                let mut inner = Message::default();
                inner.number(1, 1);
                m.message(3, inner);
            },
            &[0x1a, 2, 8, 1],
        );
    }

    #[test]
    fn read() {
        let check = |data: &[u8], expect: Option<&[(u64, Value<'_>)]>| {
            assert_eq!(fields(data).as_deref(), expect, "{data:?}");
        };
        check(&[], Some(&[]));
        check(&[0x10, 0x96, 1], Some(&[(2, Value::Number(150))]));
        check(&[0x82, 4, 2, b'a', b'b'], Some(&[(64, Value::Bytes(b"ab"))]));
        check(&[0x0d, 1, 2, 3, 4, 0x08, 1], Some(&[(1, Value::Number(1))]));
        check(&[0x08], None);
        check(&[0x82, 4, 3, b'a', b'b'], None);
        check(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], None);
        check(&[0x0b], None);
        check(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], None);
        check(&[0x0d, 1], None);
    }
}
