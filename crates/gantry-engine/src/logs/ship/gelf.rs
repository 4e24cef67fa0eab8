//! Messages of the Graylog Extended Log Format 1.1: JSON, in packets or chunks of them, or ended by zero bytes. Pure.

use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use gantry_model::logrecord::Stream;
use serde_json::{Value, json};

use super::Driver;
use crate::error::{Error, Result};
use crate::logs::option::{self, Address};
use crate::logs::{Entry, Identity};

pub(in crate::logs) const OPTIONS: [&str; 5] = [
    "gelf-address",
    "gelf-compression-level",
    "gelf-compression-type",
    "gelf-tcp-max-reconnect",
    "gelf-tcp-reconnect-delay",
];

/// Bytes of a chunk, so that no packet is cut into fragments on usual networks.
const CHUNK: usize = 1420;
const CHUNK_HEAD: usize = 12;
/// The most chunks of a message.
const MOST_CHUNKS: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zlib,
    None,
}

/// What the options say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(super) address: Address,
    packing: Packing,
    level: u32,
    pub(super) retries: u32,
    pub(super) delay: std::time::Duration,
}

pub(in crate::logs) fn plan<'a>(get: &impl Fn(&str) -> Option<&'a str>) -> Result<Driver> {
    let invalid = |words: &str| Error::Invalid(words.to_owned());
    let text = get("gelf-address").filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| invalid("gelf: please provide gelf-address as proto://host:port"))?;
    let address = option::address("gelf-address", text, None)?;
    let udp = match &address {
        Address::Udp(..) => true,
        Address::Tcp(..) => false,
        _ => return Err(invalid("gelf: endpoint needs to be TCP or UDP")),
    };
    for (prefix, right) in [("gelf-compression-", udp), ("gelf-tcp-", !udp)] {
        if let Some(name) = OPTIONS.iter().find(|name| name.starts_with(prefix) && !right && get(name).is_some()) {
            return Err(Error::Invalid(format!("{name} is for {} only", if udp { "tcp" } else { "udp" })));
        }
    }
    let unknown = |name: &str, value: &str| {
        Error::Invalid(format!("unknown value {value:?} for log opt {name:?} for gelf log driver"))
    };
    let packing = match get("gelf-compression-type") {
        None | Some("gzip") => Packing::Gzip,
        Some("zlib") => Packing::Zlib,
        Some("none") => Packing::None,
        Some(other) => return Err(unknown("gelf-compression-type", other)),
    };
    let level = match get("gelf-compression-level") {
        None => 1,
        // The library's own choice.
        Some("-1") => 6,
        Some(text) => {
            text.parse().ok().filter(|level| *level <= 9).ok_or_else(|| unknown("gelf-compression-level", text))?
        }
    };
    let number = |name: &str, default: u32| match get(name) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| unknown(name, text)),
    };
    let retries = number("gelf-tcp-max-reconnect", 3)?;
    let delay = std::time::Duration::from_secs(number("gelf-tcp-reconnect-delay", 1)?.into());
    Ok(Driver::Gelf(Plan { address, packing, level, retries, delay }))
}

/// What every message of a container says.
pub(super) fn fields(identity: &Identity, tag: &str, extra: &BTreeMap<String, String>) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::from([
        ("version".to_owned(), json!("1.1")),
        ("host".to_owned(), json!(identity.hostname)),
        ("_container_id".to_owned(), json!(identity.id)),
        ("_container_name".to_owned(), json!(identity.name)),
        ("_image_id".to_owned(), json!(identity.image_id)),
        ("_image_name".to_owned(), json!(identity.image_name)),
        ("_command".to_owned(), json!(identity.command)),
        ("_tag".to_owned(), json!(tag)),
        ("_created".to_owned(), json!(identity.created)),
    ]);
    for (name, value) in extra {
        let name = if name.starts_with('_') { name.clone() } else { format!("_{name}") };
        fields.insert(name, json!(value));
    }
    fields
}

impl Plan {
    /// The packets of a message, whose chunks have an id that no other message has at the time; none where there is nothing
    /// to say, which the format does not allow for.
    pub(super) fn encode(&self, entry: &Entry, fields: &BTreeMap<String, Value>, id: u64) -> Vec<Vec<u8>> {
        let text = String::from_utf8_lossy(entry.bare());
        if text.is_empty() {
            return Vec::new();
        }
        let mut message = fields.clone();
        message.insert("short_message".to_owned(), json!(text));
        #[allow(clippy::cast_precision_loss)] // milliseconds since 1970 are exact for a long time to come
        let seconds = entry.time.div_euclid(1_000_000) as f64 / 1000.0;
        message.insert("timestamp".to_owned(), json!(seconds));
        message.insert("level".to_owned(), json!(if entry.stream == Stream::Stderr { 3 } else { 6 }));
        let mut bytes = serde_json::to_vec(&message).unwrap_or_default();
        if !matches!(self.address, Address::Udp(..)) {
            bytes.push(0);
            return vec![bytes];
        }
        chunks(self.pack(bytes), id.to_be_bytes())
    }

    fn pack(&self, bytes: Vec<u8>) -> Vec<u8> {
        let level = Compression::new(self.level);
        // Writing into memory does not fail.
        match self.packing {
            Packing::None => bytes,
            Packing::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                let _ = encoder.write_all(&bytes);
                encoder.finish().unwrap_or_default()
            }
            Packing::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                let _ = encoder.write_all(&bytes);
                encoder.finish().unwrap_or_default()
            }
        }
    }
}

/// Cuts a message into packets. One that is too long for the most chunks is left out: receivers would not take it, and
/// records of a log are short enough for it by far.
fn chunks(bytes: Vec<u8>, id: [u8; 8]) -> Vec<Vec<u8>> {
    if bytes.len() <= CHUNK {
        return vec![bytes];
    }
    let pieces = bytes.chunks(CHUNK - CHUNK_HEAD);
    let count = pieces.len();
    if count > MOST_CHUNKS {
        return Vec::new();
    }
    let head = |number: usize| [&[0x1e, 0x0f][..], &id, &[number as u8, count as u8]].concat();
    pieces.enumerate().map(|(number, piece)| [&head(number), piece].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn encoded(options: &[(&str, &str)], text: &str) -> Vec<Vec<u8>> {
        let get = |name: &str| options.iter().find(|(one, _)| *one == name).map(|(_, value)| *value);
        let Driver::Gelf(plan) = plan(&get).unwrap() else { panic!() };
        let identity = Identity { id: "abc".to_owned(), hostname: "h".to_owned(), ..Identity::default() };
        let extra = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("_b".to_owned(), "2".to_owned())]);
        let entry = Entry { time: 1_234_567_890_123, stream: Stream::Stderr, text: text.as_bytes().to_vec() };
        plan.encode(&entry, &fields(&identity, "t", &extra), 77)
    }

    #[test]
    fn messages() {
        let expect = r#"{"_a":"1","_b":"2","_command":"","_container_id":"abc","_container_name":"","_created":"","_image_id":"","_image_name":"","_tag":"t","host":"h","level":3,"short_message":"hello","timestamp":1234.567,"version":"1.1"}"#;
        let tcp = encoded(&[("gelf-address", "tcp://a:1")], "hello\n");
        assert_eq!(tcp, [[expect.as_bytes(), b"\0"].concat()]);
        let none = encoded(&[("gelf-address", "udp://a:1"), ("gelf-compression-type", "none")], "hello\n");
        assert_eq!(none, [expect.as_bytes()]);
        let mut text = String::new();
        let gzip = encoded(&[("gelf-address", "udp://a:1")], "hello\n");
        flate2::read::GzDecoder::new(&gzip[0][..]).read_to_string(&mut text).unwrap();
        let zlib = encoded(&[("gelf-address", "udp://a:1"), ("gelf-compression-type", "zlib")], "hello\n");
        flate2::read::ZlibDecoder::new(&zlib[0][..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("{expect}{expect}"));
        assert!(encoded(&[("gelf-address", "udp://a:1")], "\n").is_empty());
    }

    #[test]
    fn long_messages_are_cut() {
        let options = [("gelf-address", "udp://a:1"), ("gelf-compression-type", "none")];
        let packets = encoded(&options, &"x".repeat(16 << 10));
        assert_eq!(packets.len(), 12);
        let mut whole = Vec::new();
        for (number, packet) in packets.iter().enumerate() {
            assert!(packet.len() <= CHUNK);
            assert_eq!(packet[..2], [0x1e, 0x0f]);
            assert_eq!(packet[2..10], 77_u64.to_be_bytes());
            assert_eq!(packet[10..12], [number as u8, 12]);
            whole.extend_from_slice(&packet[12..]);
        }
        assert!(serde_json::from_slice::<Value>(&whole).is_ok());
        assert!(chunks(vec![0; 200_000], [0; 8]).is_empty());
    }
}
