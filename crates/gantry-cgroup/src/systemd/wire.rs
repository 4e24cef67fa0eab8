//! D-Bus messages as bytes (D-Bus Specification, Type System, Marshaling, and Message Protocol).

use crate::systemd::{Property, Value};

/// Longest message that is read. The specification allows 128 MiB; replies to what is asked here have a few hundred bytes.
pub(crate) const MAX_MESSAGE: usize = 4 << 20;

/// Bytes of the fixed part of a header, with the length of its array of fields.
pub(crate) const FIXED: usize = 16;

const METHOD_CALL: u8 = 1;

/// Writes values, little-endian, each at its alignment from the beginning.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(crate) fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend(value.to_le_bytes());
    }

    pub(crate) fn boolean(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    /// A string or object path. It ends where a NUL would be: the type cannot hold one.
    pub(crate) fn string(&mut self, value: &str) {
        let value = value.split('\0').next().unwrap_or_default();
        self.u32(value.len() as u32);
        self.bytes.extend(value.as_bytes());
        self.byte(0);
    }

    pub(crate) fn signature(&mut self, value: &str) {
        self.byte(value.len() as u8);
        self.bytes.extend(value.as_bytes());
        self.byte(0);
    }

    /// An array; its length counts neither itself nor the padding before the first element.
    pub(crate) fn array(&mut self, element_alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(element_alignment);
        let start = self.bytes.len();
        fill(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn structure(&mut self, fill: impl FnOnce(&mut Self)) {
        self.align(8);
        fill(self);
    }

    pub(crate) fn variant(&mut self, value: &Value) {
        self.signature(match value {
            Value::Bool(_) => "b",
            Value::Byte(_) => "y",
            Value::I32(_) => "i",
            Value::U32(_) => "u",
            Value::I64(_) => "x",
            Value::U64(_) => "t",
            Value::F64(_) => "d",
            Value::Str(_) => "s",
            Value::Strings(_) => "as",
            Value::U32s(_) => "au",
            Value::Bytes(_) => "ay",
            Value::Pairs(_) => "a(ss)",
            Value::Weights(_) => "a(st)",
        });
        match value {
            Value::Bool(v) => self.boolean(*v),
            Value::Byte(v) => self.byte(*v),
            Value::I32(v) => self.u32(v.cast_unsigned()),
            Value::U32(v) => self.u32(*v),
            Value::I64(v) => self.u64(v.cast_unsigned()),
            Value::U64(v) => self.u64(*v),
            Value::F64(v) => self.u64(v.to_bits()),
            Value::Str(v) => self.string(v),
            Value::Strings(v) => self.array(4, |w| v.iter().for_each(|s| w.string(s))),
            Value::U32s(v) => self.array(4, |w| v.iter().for_each(|n| w.u32(*n))),
            Value::Bytes(v) => self.array(1, |w| w.bytes.extend(v)),
            Value::Pairs(v) => self.array(8, |w| {
                for (a, b) in v {
                    w.structure(|w| {
                        w.string(a);
                        w.string(b);
                    });
                }
            }),
            Value::Weights(v) => self.array(8, |w| {
                for (a, b) in v {
                    w.structure(|w| {
                        w.string(a);
                        w.u64(*b);
                    });
                }
            }),
        }
    }

    /// An array of properties, `a(sv)`.
    pub(crate) fn properties<'a>(&mut self, properties: impl Iterator<Item = &'a Property>) {
        self.array(8, |w| {
            for property in properties {
                w.structure(|w| {
                    w.string(&property.name);
                    w.variant(&property.value);
                });
            }
        });
    }
}

/// A method call to be sent.
pub(crate) struct Call<'a> {
    pub(crate) serial: u32,
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
    pub(crate) signature: &'a str,
    pub(crate) body: &'a [u8],
}

impl Call<'_> {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.bytes.extend([b'l', METHOD_CALL, 0, 1]);
        w.u32(self.body.len() as u32);
        w.u32(self.serial);
        w.array(8, |w| {
            let mut field = |code: u8, kind: &str, value: &str| {
                w.structure(|w| {
                    w.byte(code);
                    w.signature(kind);
                    if kind == "g" { w.signature(value) } else { w.string(value) }
                });
            };
            field(1, "o", self.path);
            field(2, "s", self.interface);
            field(3, "s", self.member);
            field(6, "s", self.destination);
            if !self.signature.is_empty() {
                field(8, "g", self.signature);
            }
        });
        w.align(8);
        w.bytes.extend(self.body);
        w.bytes
    }
}

/// What a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    Return,
    Error,
    Signal,
    #[default]
    Other,
}

/// A message that was received.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) reply_serial: u32,
    pub(crate) member: String,
    pub(crate) error_name: String,
    pub(crate) signature: String,
    pub(crate) body: Vec<u8>,
    pub(crate) big: bool,
}

/// Length of a whole message, from its first [`FIXED`] bytes.
pub(crate) fn message_length(fixed: &[u8; FIXED]) -> Result<usize, &'static str> {
    let big = match fixed[0] {
        b'l' => false,
        b'B' => true,
        _ => return Err("its byte order is neither l nor B"),
    };
    if fixed[3] != 1 {
        return Err("it is of an unknown version of the protocol");
    }
    let mut reader = Reader::new(fixed, big);
    reader.at = 4;
    let body = reader.u32()? as usize;
    reader.at = 12;
    let fields = reader.u32()? as usize;
    let length = FIXED
        .checked_add(fields)
        .and_then(|n| n.checked_next_multiple_of(8))
        .and_then(|n| n.checked_add(body))
        .filter(|n| *n <= MAX_MESSAGE);
    length.ok_or("it is longer than 4 MiB")
}

impl Message {
    /// Takes a whole message apart.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let fixed = bytes.first_chunk::<FIXED>().ok_or("it is cut short")?;
        if message_length(fixed)? != bytes.len() {
            return Err("its length is not the one that it says");
        }
        let big = fixed[0] == b'B';
        let kind = match fixed[1] {
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => Kind::Other,
        };
        let mut message = Self { kind, big, ..Self::default() };
        let mut reader = Reader::new(bytes, big);
        reader.at = 12;
        let end = reader.u32()? as usize + FIXED;
        while reader.at < end {
            reader.align(8)?;
            let code = reader.byte()?;
            let signature = reader.signature()?;
            match signature {
                "s" | "o" => {
                    let value = reader.string()?;
                    match code {
                        3 => value.clone_into(&mut message.member),
                        4 => value.clone_into(&mut message.error_name),
                        _ => {}
                    }
                }
                "g" => {
                    let value = reader.signature()?;
                    if code == 8 {
                        value.clone_into(&mut message.signature);
                    }
                }
                "u" => {
                    let value = reader.u32()?;
                    if code == 5 {
                        message.reply_serial = value;
                    }
                }
                _ => return Err("a field of its header is of a type that none has"),
            }
        }
        if reader.at != end {
            return Err("its header is longer than it says");
        }
        reader.align(8)?;
        bytes[reader.at..].clone_into(&mut message.body);
        Ok(message)
    }

    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader::new(&self.body, self.big)
    }
}

/// Reads values; nothing is read beyond the end.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], big: bool) -> Self {
        Self { bytes, at: 0, big }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], &'static str> {
        let end = self.at.checked_add(n).ok_or("it is cut short")?;
        let bytes = self.bytes.get(self.at..end).ok_or("it is cut short")?;
        self.at = end;
        Ok(bytes)
    }

    fn align(&mut self, to: usize) -> Result<(), &'static str> {
        let padding = self.at.next_multiple_of(to) - self.at;
        self.take(padding).map(drop)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, &'static str> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().map_err(|_| "it is cut short")?;
        Ok(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// A string or object path.
    pub(crate) fn string(&mut self) -> Result<&'a str, &'static str> {
        let length = self.u32()? as usize;
        let text = self.take(length)?;
        self.end_of_text(text)
    }

    pub(crate) fn signature(&mut self) -> Result<&'a str, &'static str> {
        let length = usize::from(self.byte()?);
        let text = self.take(length)?;
        self.end_of_text(text)
    }

    fn end_of_text(&mut self, text: &'a [u8]) -> Result<&'a str, &'static str> {
        if self.byte()? != 0 {
            return Err("a text in it does not end in NUL");
        }
        std::str::from_utf8(text).map_err(|_| "a text in it is not UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fill: impl FnOnce(&mut Writer), expect: &[u8]) {
        let mut w = Writer::default();
        fill(&mut w);
        assert_eq!(w.bytes(), expect);
    }

    #[test]
    fn values() {
        check(|w| w.string("ab"), b"\x02\0\0\0ab\0");
        check(|w| w.signature("a(sv)"), b"\x05a(sv)\0");
        check(
            |w| {
                w.byte(7);
                w.u64(1);
            },
            b"\x07\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0",
        );
        check(|w| w.variant(&Value::Bool(true)), b"\x01b\0\0\x01\0\0\0");
        check(|w| w.variant(&Value::U64(u64::MAX)), b"\x01t\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
        check(|w| w.variant(&Value::U32s(vec![258])), b"\x02au\0\x04\0\0\0\x02\x01\0\0");
        check(|w| w.variant(&Value::Bytes(vec![3])), b"\x02ay\0\x01\0\0\0\x03");
        // The padding before the first structure is not counted in the array's length.
        check(
            |w| w.variant(&Value::Pairs(vec![("c".into(), "r".into())])),
            b"\x05a(ss)\0\0\x0e\0\0\0\0\0\0\0\x01\0\0\0c\0\0\0\x01\0\0\0r\0",
        );
        check(|w| w.variant(&Value::Pairs(Vec::new())), b"\x05a(ss)\0\0\0\0\0\0\0\0\0\0");
        check(
            |w| w.properties([Property::new("A", Value::Byte(9))].iter()),
            b"\x0a\0\0\0\0\0\0\0\x01\0\0\0A\0\x01y\0\x09",
        );
    }

    /// Byte for byte, with every alignment that there is.
    #[test]
    fn call() {
        let mut body = Writer::default();
        body.string("xy");
        let call = Call {
            serial: 2,
            destination: "d.e",
            path: "/o",
            interface: "i.f",
            member: "M",
            signature: "s",
            body: body.bytes(),
        };
        let expect = b"l\x01\0\x01\x07\0\0\0\x02\0\0\0\x47\0\0\0\
            \x01\x01o\0\x02\0\0\0/o\0\0\0\0\0\0\
            \x02\x01s\0\x03\0\0\0i.f\0\0\0\0\0\
            \x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0\
            \x06\x01s\0\x03\0\0\0d.e\0\0\0\0\0\
            \x08\x01g\0\x01s\0\0\
            \x02\0\0\0xy\0";
        let got = call.to_bytes();
        assert_eq!(got, expect);
        let parsed = Message::parse(&got).unwrap();
        assert_eq!((parsed.kind, parsed.member.as_str(), parsed.signature.as_str()), (Kind::Other, "M", "s"));
        assert_eq!(parsed.reader().string(), Ok("xy"));
    }

    /// A reply as a big-endian peer would send it.
    #[test]
    fn big_endian_reply() {
        let bytes =
            b"B\x02\x01\x01\0\0\0\x07\0\0\0\x09\0\0\0\x0f\x05\x01u\0\0\0\0\x02\x08\x01g\0\x01o\0\0\0\0\0\x02/j\0";
        let message = Message::parse(bytes).unwrap();
        assert_eq!((message.kind, message.reply_serial, message.signature.as_str()), (Kind::Return, 2, "o"));
        assert_eq!(message.reader().string(), Ok("/j"));
    }

    /// No prefix and no single changed byte of a good message makes the parser panic.
    #[test]
    fn damaged() {
        let good =
            Call { serial: 2, destination: "d", path: "/o", interface: "i", member: "M", signature: "", body: &[] }
                .to_bytes();
        for length in 0..good.len() {
            assert!(Message::parse(&good[..length]).is_err());
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = Message::parse(&bad);
            }
        }
        assert!(message_length(b"l\x02\0\x01\xff\xff\xff\xff\0\0\0\x01\xff\xff\xff\xff").is_err());
    }
}
