//! Questions and answers as bytes (RFC 1035, RFC 6891). Pure.
//!
//! Only what an own answer takes is understood; whatever is handed on is handed on as it came.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// Bytes of a message's header.
const HEADER: usize = 12;
/// The most bytes of a name, its lengths counted.
const LONGEST_NAME: usize = 255;
/// The most bytes of a part of a name.
const LONGEST_LABEL: usize = 63;
/// Bytes that everybody takes in a datagram.
const SMALLEST: u16 = 512;
/// The most bytes that are sent in a datagram, so that it is not cut into pieces.
const LARGEST: u16 = 4096;
/// Seconds for which an answer may be remembered.
const TTL: u32 = 600;

const QR: u8 = 0x80;
const OPCODE: u8 = 0x78;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const CODE: u8 = 0x0f;

/// Type of an IPv4 address.
pub const A: u16 = 1;
/// Type of a name for an address.
pub const PTR: u16 = 12;
/// Type of an IPv6 address.
pub const AAAA: u16 = 28;
/// Type of everything that there is.
pub const ANY: u16 = 255;
const OPT: u16 = 41;
/// The class of the internet.
pub const IN: u16 = 1;

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Well.
    NoError = 0,
    /// It was not understood.
    FormErr = 1,
    /// Nobody could tell.
    ServFail = 2,
    /// There is no such name.
    NxDomain = 3,
    /// It is of a kind that is not answered here.
    NotImp = 4,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name in lower case, without a dot at its end; none if it cannot be one of ours.
    pub name: Option<String>,
    /// Type of what is asked for.
    pub kind: u16,
    /// Class; that of the internet is [`IN`].
    pub class: u16,
    /// The most bytes of an answer in a datagram.
    pub room: u16,
    /// Whether the question has extensions, and the answer is to have them too.
    extended: bool,
    /// Where the question stands in the message.
    span: Range<usize>,
}

/// What comes of reading a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A question.
    Question(Question),
    /// Something else that is answered with an error.
    Refuse(Code),
    /// Something that is not answered.
    Ignore,
}

/// An answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An address.
    Address(IpAddr),
    /// A name.
    Name(String),
}

/// Reads a message of a client.
pub fn read(message: &[u8]) -> Read {
    let Some(&[_, _, high, _, q1, q2, ..]) = message.get(..HEADER) else { return Read::Ignore };
    if high & QR != 0 {
        return Read::Ignore;
    }
    if high & OPCODE != 0 {
        return Read::Refuse(Code::NotImp);
    }
    if [q1, q2] != [0, 1] {
        return Read::Refuse(Code::FormErr);
    }
    question(message).map_or(Read::Refuse(Code::FormErr), Read::Question)
}

fn question(message: &[u8]) -> Option<Question> {
    let (name, end) = name(message, HEADER)?;
    let kind = short(message, end)?;
    let class = short(message, end + 2)?;
    let span = HEADER..end + 4;
    let extension = extension(message, span.end);
    let room = extension.unwrap_or(SMALLEST).clamp(SMALLEST, LARGEST);
    Some(Question { name, kind, class, room, extended: extension.is_some(), span })
}

/// A name that is written out, and where it ends. The name is `None` if it has bytes that no name of ours has.
fn name(message: &[u8], mut at: usize) -> Option<(Option<String>, usize)> {
    let start = at;
    let mut name = Some(String::new());
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        if length > LONGEST_LABEL || at + length + 1 - start > LONGEST_NAME {
            return None;
        }
        let label = message.get(at..at + length)?;
        at += length;
        if label.iter().any(|b| !b.is_ascii_graphic() || *b == b'.') {
            name = None;
        }
        if let Some(name) = &mut name {
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
        }
    }
}

/// The room of which a client's extensions tell: the only further record that a question has.
fn extension(message: &[u8], at: usize) -> Option<u16> {
    let counts = message.get(6..HEADER)?;
    let is_opt = counts == [0, 0, 0, 0, 0, 1] && message.get(at) == Some(&0) && short(message, at + 1)? == OPT;
    if is_opt { short(message, at + 3) } else { None }
}

fn short(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` asks for.
pub fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(rest) = name.strip_suffix(".in-addr.arpa") {
        let parts: Vec<&str> = rest.split('.').rev().collect();
        let address: Ipv4Addr = parts.join(".").parse().ok().filter(|_| parts.len() == 4)?;
        return Some(address.into());
    }
    let rest = name.strip_suffix(".ip6.arpa")?;
    let mut bits: u128 = 0;
    let mut count = 0;
    for digit in rest.split('.').rev() {
        let [byte] = digit.as_bytes() else { return None };
        bits = bits << 4 | u128::from(char::from(*byte).to_digit(16)?);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from_bits(bits).into())
}

/// The answer to a question of a message, of at most `room` bytes: one that does not fit is empty and says so.
pub fn answer(message: &[u8], question: &Question, code: Code, records: &[Record], room: usize) -> Vec<u8> {
    let bytes = message.get(question.span.clone()).unwrap_or_default();
    let mut answer = head(message, code, 1);
    answer.extend(bytes);
    let end = answer.len();
    let mut count: u16 = 0;
    for record in records {
        // The name is the question's.
        let mut data = Vec::new();
        let kind = match record {
            Record::Address(IpAddr::V4(address)) => {
                data.extend(address.octets());
                A
            }
            Record::Address(IpAddr::V6(address)) => {
                data.extend(address.octets());
                AAAA
            }
            Record::Name(name) => {
                let Some(labels) = labels(name) else { continue };
                data.extend(labels);
                PTR
            }
        };
        answer.extend([0xc0, HEADER as u8]);
        answer.extend(kind.to_be_bytes());
        answer.extend(IN.to_be_bytes());
        answer.extend(TTL.to_be_bytes());
        answer.extend((data.len() as u16).to_be_bytes());
        answer.extend(data);
        count = count.saturating_add(1);
    }
    let extension = if question.extended { own_extension() } else { Vec::new() };
    if answer.len() + extension.len() > room {
        answer.truncate(end);
        count = 0;
        answer[2] |= TRUNCATED;
    }
    answer[6..8].copy_from_slice(&count.to_be_bytes());
    answer[11] = u8::from(question.extended);
    answer.extend(extension);
    answer
}

/// An answer that is only an error.
pub fn refusal(message: &[u8], code: Code) -> Vec<u8> {
    head(message, code, 0)
}

/// A header that answers a message's.
fn head(message: &[u8], code: Code, questions: u8) -> Vec<u8> {
    let byte = |at: usize| message.get(at).copied().unwrap_or_default();
    let flags = QR | byte(2) & (OPCODE | RECURSION_DESIRED);
    vec![byte(0), byte(1), flags, RECURSION_AVAILABLE | code as u8, 0, questions, 0, 0, 0, 0, 0, 0]
}

/// The record that tells how long datagrams may be that come here.
fn own_extension() -> Vec<u8> {
    let [high, low] = LARGEST.to_be_bytes();
    vec![0, 0, OPT as u8, high, low, 0, 0, 0, 0, 0, 0]
}

/// A name with the length of each part before it; `None` if a part is too long.
fn labels(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).ok().filter(|length| usize::from(*length) <= LONGEST_LABEL)?);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= LONGEST_NAME).then_some(bytes)
}

/// A message with another number, by which its answer will be known.
pub fn with_number(message: &[u8], number: [u8; 2]) -> Vec<u8> {
    let mut message = message.to_vec();
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&number);
    }
    message
}

/// Whether a message is the answer to a question that was sent with a number.
pub fn answers(reply: &[u8], message: &[u8], question: &Question, number: [u8; 2]) -> bool {
    let (Some(asked), Some(told)) = (message.get(question.span.clone()), reply.get(question.span.clone())) else {
        return false;
    };
    let Some(&[a, b, high, _, q1, q2, ..]) = reply.get(..HEADER) else { return false };
    [a, b] == number && high & QR != 0 && [q1, q2] == [0, 1] && asked.eq_ignore_ascii_case(told)
}

/// Whether an answer was cut.
pub fn is_truncated(reply: &[u8]) -> bool {
    reply.get(2).is_some_and(|flags| flags & TRUNCATED != 0)
}

/// Whether the server could not answer, so that another should be asked.
pub fn has_failed(reply: &[u8]) -> bool {
    const REFUSED: u8 = 5;
    reply.get(3).is_some_and(|flags| matches!(flags & CODE, c if c == Code::ServFail as u8 || c == REFUSED))
}

/// An answer that was cut to a question alone, for a client that has no room for all of it.
pub fn truncated(message: &[u8], question: &Question) -> Vec<u8> {
    answer(message, question, Code::NoError, &[], 0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A question, as clients send it; `room` with extensions.
    pub fn ask(name: &str, kind: u16, room: Option<u16>) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(room.is_some())];
        message.extend(labels(name).unwrap());
        message.extend(kind.to_be_bytes());
        message.extend(IN.to_be_bytes());
        if let Some(room) = room {
            message.extend([0, 0, 41]);
            message.extend(room.to_be_bytes());
            message.extend([0; 6]);
        }
        message
    }

    fn parsed(message: &[u8]) -> Question {
        match read(message) {
            Read::Question(question) => question,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn questions() {
        let question = parsed(&ask("Web.Front", A, None));
        assert_eq!(question.name.as_deref(), Some("web.front"));
        assert_eq!((question.kind, question.class, question.room), (A, IN, 512));
        assert_eq!(parsed(&ask("a", AAAA, Some(1232))).room, 1232);
        assert_eq!(parsed(&ask("a", A, Some(100))).room, 512);
        assert_eq!(parsed(&ask("a", A, Some(65535))).room, 4096);
        assert_eq!(parsed(&ask("", A, None)).name.as_deref(), Some(""));
        assert_eq!(parsed(&ask("a b", A, None)).name, None);
        let whole = ask("web.front", A, None);
        for end in 0..whole.len() {
            let expect = if end < HEADER { Read::Ignore } else { Read::Refuse(Code::FormErr) };
            assert_eq!(read(&whole[..end]), expect, "{end}");
        }
        let changed = |at: usize, value: u8| {
            let mut message = ask("web", A, None);
            message[at] = value;
            read(&message)
        };
        assert_eq!(changed(2, QR), Read::Ignore);
        assert_eq!(changed(2, 4 << 3), Read::Refuse(Code::NotImp));
        assert_eq!(changed(5, 0), Read::Refuse(Code::FormErr));
        assert_eq!(changed(5, 2), Read::Refuse(Code::FormErr));
        assert_eq!(changed(12, 0xc0), Read::Refuse(Code::FormErr));
        assert_eq!(changed(12, 64), Read::Refuse(Code::FormErr));
        // A name of more than 255 bytes.
        let long = vec!["abcdefg"; 40].join(".");
        let mut message = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in long.split('.') {
            message.push(7);
            message.extend(label.bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        assert_eq!(read(&message), Read::Refuse(Code::FormErr));
    }

    #[test]
    fn no_message_does_harm() {
        let seed = 0x2545_f491_4f6c_dd1d_u64;
        println!("seed {seed:#x}");
        let mut state = seed;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..20_000 {
            let mut message = ask("web.front", A, (round % 2 == 0).then_some(1232));
            for _ in 0..next() % 6 {
                let at = (next() as usize) % message.len();
                message[at] = next() as u8;
            }
            message.truncate(message.len() - (next() as usize) % 8);
            if let Read::Question(question) = read(&message) {
                let reply = answer(&message, &question, Code::NoError, &[Record::Name("a.b".to_owned())], 512);
                assert!(reply.len() <= 512 && reply[..2] == message[..2], "{message:?}");
                assert!(question.name.is_none_or(|name| name.len() < LONGEST_NAME), "{message:?}");
                answers(&message, &reply, &parsed(&message), [1, 2]);
            }
        }
    }

    #[test]
    fn addresses_asked_for() {
        let check = |name: &str, expect: Option<&str>| {
            assert_eq!(reversed(name).map(|address| address.to_string()).as_deref(), expect, "{name}");
        };
        check("2.0.17.172.in-addr.arpa", Some("172.17.0.2"));
        check("0.17.172.in-addr.arpa", None);
        check("1.2.0.17.172.in-addr.arpa", None);
        check("256.0.17.172.in-addr.arpa", None);
        let six = format!("2.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
        check(&six, Some("fd00::2"));
        check(&six[2..], None);
        check("web", None);
    }

    #[test]
    fn answers_have_what_fits() {
        let message = ask("web", A, None);
        let question = parsed(&message);
        let records = |count: u8| -> Vec<Record> {
            (0..count).map(|n| Record::Address(Ipv4Addr::new(10, 0, 0, n).into())).collect()
        };
        let reply = answer(&message, &question, Code::NoError, &records(2), 512);
        assert_eq!(reply[..12], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]);
        assert_eq!(reply[12..21], message[12..]);
        assert_eq!(reply[21..37], [0xc0, 12, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4, 10, 0, 0, 0]);
        assert_eq!(reply.len(), 21 + 2 * 16);
        let cut = answer(&message, &question, Code::NoError, &records(50), 512);
        assert!(is_truncated(&cut) && cut.len() == 21 && cut[7] == 0);
        assert!(!is_truncated(&answer(&message, &question, Code::NoError, &records(50), 65535)));
        assert!(is_truncated(&truncated(&message, &question)));
        // With extensions the answer has them too.
        let message = ask("web", A, Some(1232));
        let reply = answer(&message, &parsed(&message), Code::NxDomain, &[], 1232);
        assert_eq!(reply[3] & CODE, 3);
        assert_eq!((reply[11], &reply[reply.len() - 11..][..5]), (1, &[0, 0, 41, 16, 0][..]));
    }

    #[test]
    fn only_the_right_answer_is_taken() {
        let message = ask("Web.example", A, None);
        let question = parsed(&message);
        let sent = with_number(&message, [7, 8]);
        let reply = answer(&with_number(&ask("wEB.example", A, None), [7, 8]), &question, Code::NoError, &[], 512);
        assert!(answers(&reply, &sent, &question, [7, 8]));
        assert!(!answers(&reply, &sent, &question, [7, 9]));
        assert!(!answers(&sent, &sent, &question, [7, 8]));
        assert!(!answers(&reply[..20], &sent, &question, [7, 8]));
        let other = answer(&with_number(&ask("wub.example", A, None), [7, 8]), &question, Code::NoError, &[], 512);
        assert!(!answers(&other, &sent, &question, [7, 8]));
        assert!(has_failed(&refusal(&message, Code::ServFail)));
        assert!(!has_failed(&refusal(&message, Code::NxDomain)));
    }
}
