//! Many netlink messages in one datagram: the kernel is entered once, however much there is to do.

use super::message::{ATTRIBUTE, HEADER, NLM_F_REQUEST, aligned};

/// An attribute whose value consists of attributes.
const NLA_F_NESTED: u16 = 0x8000;

/// Messages that are sent together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each message begins.
    starts: Vec<usize>,
    too_long: bool,
}

/// The attributes of a message that is being written.
#[derive(Debug)]
pub struct Body<'a> {
    bytes: &'a mut Vec<u8>,
    too_long: &'a mut bool,
}

impl Batch {
    /// No messages.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message of a type with `NLM_F_*` flags, which begins with the fixed structure of its type. Its attributes
    /// are written by `write`.
    pub fn push(&mut self, kind: u16, flags: u16, fixed: &[u8], write: impl FnOnce(&mut Body<'_>)) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend([0; HEADER - 8]);
        self.bytes.extend(fixed);
        self.bytes.resize(aligned(self.bytes.len()), 0);
        write(&mut Body { bytes: &mut self.bytes, too_long: &mut self.too_long });
        match u32::try_from(self.bytes.len() - start) {
            Ok(length) => patch(&mut self.bytes, start, &length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// What stands behind the header of the first message.
    pub fn attributes(&self) -> &[u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }

    /// The bytes to send, with the messages numbered from `first` on; `None` if an attribute did not fit.
    pub(super) fn numbered(&mut self, first: u32) -> Option<&[u8]> {
        if self.too_long {
            return None;
        }
        for (index, &start) in self.starts.iter().enumerate() {
            let number = first.wrapping_add(index as u32);
            patch(&mut self.bytes, start + 8, &number.to_ne_bytes());
        }
        Some(&self.bytes)
    }
}

impl Body<'_> {
    /// Adds an attribute.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let start = self.open(kind);
        self.bytes.extend(value);
        self.close(start)
    }

    /// Adds a text, with its NUL.
    pub fn text(&mut self, kind: u16, text: &str) -> &mut Self {
        let start = self.open(kind);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        self.close(start)
    }

    /// Adds a number in the machine's order, as route netlink has it.
    pub fn number(&mut self, kind: u16, number: u32) -> &mut Self {
        self.put(kind, &number.to_ne_bytes())
    }

    /// Adds a number in network order, as netfilter has it.
    pub fn network_number(&mut self, kind: u16, number: u32) -> &mut Self {
        self.put(kind, &number.to_be_bytes())
    }

    /// Adds an attribute that consists of attributes, which `write` writes.
    pub fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Body<'_>)) -> &mut Self {
        self.nest_after(kind, &[], write)
    }

    /// Adds an attribute that consists of a fixed structure and attributes behind it.
    pub fn nest_after(&mut self, kind: u16, fixed: &[u8], write: impl FnOnce(&mut Body<'_>)) -> &mut Self {
        let start = self.open(kind | NLA_F_NESTED);
        self.bytes.extend(fixed);
        self.bytes.resize(aligned(self.bytes.len()), 0);
        write(&mut Body { bytes: self.bytes, too_long: self.too_long });
        self.close(start)
    }

    /// Adds attributes that are written already.
    pub fn raw(&mut self, attributes: &[u8]) {
        self.bytes.extend(attributes);
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) -> &mut Self {
        debug_assert!(self.bytes.len() >= start + ATTRIBUTE);
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => patch(self.bytes, start, &length.to_ne_bytes()),
            Err(_) => *self.too_long = true,
        }
        self.bytes.resize(aligned(self.bytes.len()), 0);
        self
    }
}

fn patch(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form() {
        let mut batch = Batch::new();
        batch.push(16, 4, &[1, 2, 3], |body| {
            body.text(3, "lo").nest(18, |body| {
                body.put(1, b"veth").number(2, 7);
            });
        });
        batch.push(17, 0, &[], |_| ());
        let expect: &[u8] = &[
            44,
            0,
            0,
            0,
            16,
            0,
            5,
            0,
            9,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            1,
            2,
            3,
            0,
            7,
            0,
            3,
            0,
            b'l',
            b'o',
            0,
            0,
            16 + 4,
            0,
            18,
            0x80,
            8,
            0,
            1,
            0,
            b'v',
            b'e',
            b't',
            b'h',
            8,
            0,
            2,
            0,
            7,
            0,
            0,
            0,
        ];
        let mut expect = expect.to_vec();
        expect[0] = 48;
        expect.extend([16, 0, 0, 0, 17, 0, 1, 0, 10, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(batch.numbered(9), Some(expect.as_slice()));
        assert_eq!((batch.len(), batch.is_empty()), (2, false));
    }

    #[test]
    fn what_does_not_fit_is_not_sent() {
        let mut batch = Batch::new();
        batch.push(16, 0, &[], |body| {
            body.put(1, &[0; 0xfffb]);
        });
        assert!(batch.numbered(1).is_some());
        batch.push(16, 0, &[], |body| {
            body.put(1, &[0; 0xfffc]);
        });
        assert!(batch.numbered(1).is_none());
    }
}
