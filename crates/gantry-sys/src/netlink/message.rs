//! The form of netlink messages: headers, attributes, verdicts (netlink(7)).

/// Length of `struct nlmsghdr`, in bytes.
pub const HEADER: usize = 16;
/// Length of an attribute's header, in bytes.
pub const ATTRIBUTE: usize = 4;
/// Length of the number and the header with which an acknowledgement begins.
const VERDICT: usize = 4 + HEADER;

/// The message asks for something.
pub const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// The bits of an attribute's type that tell its form rather than its meaning.
const FORM_BITS: u16 = 0xc000;

/// Longest explanation that is repeated in an error, in characters.
const MAX_DETAIL: usize = 256;

/// A length with the padding behind it.
pub fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// A number of four bytes, in the machine's order.
pub fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

fn short(bytes: &[u8]) -> Option<u16> {
    bytes.try_into().ok().map(u16::from_ne_bytes)
}

/// The text of an attribute, up to its NUL.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// A question under construction.
#[derive(Clone, Debug)]
pub struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
    too_long: bool,
}

impl Request {
    /// A question of a type, beginning with the fixed structure of that type.
    pub fn new(kind: u16, fixed: &[u8]) -> Self {
        Self { kind, flags: NLM_F_REQUEST, body: fixed.to_vec(), too_long: false }
    }

    /// Adds flags.
    pub fn flags(mut self, flags: u16) -> Self {
        self.flags |= flags;
        self
    }

    /// Adds an attribute.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        match u16::try_from(ATTRIBUTE + value.len()) {
            Ok(length) => {
                self.body.extend(length.to_ne_bytes());
                self.body.extend(kind.to_ne_bytes());
                self.body.extend(value);
                self.body.resize(aligned(self.body.len()), 0);
            }
            Err(_) => self.too_long = true,
        }
        self
    }

    /// The bytes to send; `None` if an attribute did not fit.
    pub fn finish(&self, sequence: u32) -> Option<Vec<u8>> {
        let length = u32::try_from(HEADER + self.body.len()).ok().filter(|_| !self.too_long)?;
        let mut bytes = Vec::with_capacity(HEADER + self.body.len());
        bytes.extend(length.to_ne_bytes());
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.body);
        Some(bytes)
    }
}

/// A message received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Type.
    pub kind: u16,
    flags: u16,
    /// Number of the question it answers.
    pub sequence: u32,
    /// What comes behind the header.
    pub payload: &'a [u8],
}

/// How the kernel ended an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Error number, 0 for success.
    pub errno: i32,
    /// The kernel's explanation.
    pub detail: Option<String>,
}

impl Message<'_> {
    /// Whether a list changed while it was read.
    pub fn is_interrupted(&self) -> bool {
        self.flags & NLM_F_DUMP_INTR != 0
    }

    /// The end of the answer, if this is it. One that is too short to hold its number counts as an error.
    pub fn verdict(&self) -> Option<Verdict> {
        if self.kind != NLMSG_ERROR && self.kind != NLMSG_DONE {
            return None;
        }
        let code = match self.payload.get(..4).and_then(number) {
            Some(code) => code.cast_signed(),
            // The end of a list may come without a number.
            None if self.kind == NLMSG_DONE => 0,
            None => -libc::EBADMSG,
        };
        let errno = if self.kind == NLMSG_DONE && code > 0 { 0 } else { code.saturating_neg().max(0) };
        Some(Verdict { errno, detail: if errno == 0 { None } else { self.detail() } })
    }

    fn detail(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let start = match (self.kind, self.flags & NLM_F_CAPPED) {
            (NLMSG_DONE, _) => 4,
            (_, 0) => {
                let copied = number(self.payload.get(4..8)?)?;
                aligned(usize::try_from(copied).ok()?).checked_add(4)?
            }
            _ => VERDICT,
        };
        let (_, value) = Attributes(self.payload.get(start..)?).find(|&(kind, _)| kind == NLMSGERR_ATTR_MSG)?;
        let detail: String = text(value).chars().filter(|c| !c.is_control()).take(MAX_DETAIL).collect();
        (!detail.is_empty()).then_some(detail)
    }
}

/// The messages of a datagram; `None` in place of one whose length cannot be right, which is the last.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Option<Message<'_>>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let message = first_message(bytes);
        bytes = match message {
            Some(message) => bytes.get(aligned(HEADER + message.payload.len())..).unwrap_or_default(),
            None => &[],
        };
        Some(message)
    })
}

fn first_message(bytes: &[u8]) -> Option<Message<'_>> {
    let length = usize::try_from(number(bytes.get(..4)?)?).ok()?;
    Some(Message {
        kind: short(bytes.get(4..6)?)?,
        flags: short(bytes.get(6..8)?)?,
        sequence: number(bytes.get(8..12)?)?,
        payload: bytes.get(HEADER..length)?,
    })
}

/// The attributes of a message, type and value; it ends where a length cannot be right.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(short(self.0.get(..2)?)?);
        let kind = short(self.0.get(2..4)?)?;
        let value = self.0.get(ATTRIBUTE..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind & !FORM_BITS, value))
    }
}
