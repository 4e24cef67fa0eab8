//! Messages of the forward protocol of Fluentd 1, in MessagePack. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Driver, Part};
use crate::error::{Error, Result};
use crate::logs::option::{self, Address};
use crate::logs::{Entry, Identity};

pub(in crate::logs) const OPTIONS: [&str; 8] = [
    "fluentd-address",
    "fluentd-async",
    "fluentd-async-connect",
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-request-ack",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
];

const PORT: u16 = 24224;

/// What the options say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(super) address: Address,
    /// Whether a container starts although nobody answers.
    pub(super) asynchronous: bool,
    pub(super) retries: u32,
    pub(super) wait: Duration,
    /// Whether each message is to be acknowledged.
    pub(super) acknowledge: bool,
    precise: bool,
}

pub(in crate::logs) fn plan<'a>(get: &impl Fn(&str) -> Option<&'a str>) -> Result<Driver> {
    let get = |name: &str| get(name).filter(|text| !text.is_empty());
    let switch = |name: &str| get(name).map_or(Ok(false), |text| option::switch(name, text));
    if get("fluentd-async").is_some() && get("fluentd-async-connect").is_some() {
        let words = "conflicting options: cannot specify both 'fluentd-async' and 'fluentd-async-connect'";
        return Err(Error::Invalid(words.to_owned()));
    }
    let address = match get("fluentd-address") {
        None => Address::Tcp("127.0.0.1".to_owned(), PORT),
        Some(text) if text.contains("://") => option::address("fluentd-address", text, Some(PORT))?,
        Some(text) => option::address("fluentd-address", &format!("tcp://{text}"), Some(PORT))?,
    };
    if matches!(address, Address::Udp(..) | Address::Unixgram(..)) {
        return Err(Error::Invalid(format!("invalid fluentd-address {address}: logs are forwarded over streams only")));
    }
    let retries = match get("fluentd-max-retries") {
        None => u32::MAX,
        Some(text) => option::number("fluentd-max-retries", text)?,
    };
    let wait = match get("fluentd-retry-wait") {
        None => Duration::from_secs(1),
        Some(text) => option::duration("fluentd-retry-wait", text)?,
    };
    Ok(Driver::Fluentd(Plan {
        address,
        asynchronous: switch("fluentd-async")? || switch("fluentd-async-connect")?,
        retries,
        wait,
        acknowledge: switch("fluentd-request-ack")?,
        precise: switch("fluentd-sub-second-precision")?,
    }))
}

/// What every message of a container says.
pub(super) fn fields(identity: &Identity, extra: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::from([
        ("container_id".to_owned(), identity.id.clone()),
        ("container_name".to_owned(), format!("/{}", identity.name)),
    ]);
    fields.extend(extra.clone());
    fields
}

impl Plan {
    /// One message of all entries; the id is what it is to be acknowledged with.
    pub(super) fn encode(
        &self,
        entries: &[(&Entry, Option<Part>)],
        tag: &str,
        fields: &BTreeMap<String, String>,
        id: &str,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        array(&mut out, if self.acknowledge { 3 } else { 2 });
        text(&mut out, tag.as_bytes());
        array(&mut out, entries.len());
        for (entry, part) in entries {
            array(&mut out, 2);
            self.time(&mut out, entry.time);
            let parts = part.as_ref().map_or(Vec::new(), Part::fields);
            map(&mut out, fields.len() + 2 + parts.len());
            for (name, value) in fields {
                pair(&mut out, name, value.as_bytes());
            }
            pair(&mut out, "source", entry.stream.as_str().as_bytes());
            pair(&mut out, "log", entry.bare());
            for (name, value) in parts {
                pair(&mut out, &format!("partial_{name}"), value.as_bytes());
            }
        }
        if self.acknowledge {
            map(&mut out, 1);
            pair(&mut out, "chunk", id.as_bytes());
        }
        out
    }

    /// Seconds, or both in the protocol's own type.
    fn time(&self, out: &mut Vec<u8>, time: i64) {
        let (seconds, nanoseconds) = (time.div_euclid(1_000_000_000), time.rem_euclid(1_000_000_000));
        if self.precise {
            out.extend_from_slice(&[0xd7, 0]);
            out.extend_from_slice(&(seconds as u32).to_be_bytes());
            out.extend_from_slice(&(nanoseconds as u32).to_be_bytes());
        } else {
            out.push(0xd3);
            out.extend_from_slice(&seconds.to_be_bytes());
        }
    }
}

fn array(out: &mut Vec<u8>, length: usize) {
    head(out, length, 0x90, 15, [None, Some(0xdc), Some(0xdd)]);
}

fn map(out: &mut Vec<u8>, length: usize) {
    head(out, length, 0x80, 15, [None, Some(0xde), Some(0xdf)]);
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    head(out, text.len(), 0xa0, 31, [Some(0xd9), Some(0xda), Some(0xdb)]);
    out.extend_from_slice(text);
}

fn pair(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    text(out, name.as_bytes());
    text(out, value);
}

/// A length: in the type's byte, or after one of its bytes for lengths of one, two and four bytes.
fn head(out: &mut Vec<u8>, length: usize, short: u8, most: usize, long: [Option<u8>; 3]) {
    match (length, long) {
        (length, _) if length <= most => out.push(short | length as u8),
        (0..=0xff, [Some(kind), ..]) => out.extend_from_slice(&[kind, length as u8]),
        (0..=0xffff, [_, Some(kind), _]) => {
            out.push(kind);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        (_, [.., kind]) => {
            out.push(kind.unwrap_or_default());
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_model::logrecord::Stream;

    fn planned(options: &[(&str, &str)]) -> Plan {
        let get = |name: &str| options.iter().find(|(one, _)| *one == name).map(|(_, value)| *value);
        let Driver::Fluentd(plan) = plan(&get).unwrap() else { panic!() };
        plan
    }

    #[test]
    fn messages() {
        let entry = Entry { time: 1_500_000_000, stream: Stream::Stdout, text: b"hi\n".to_vec() };
        let fields = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let plain = planned(&[]).encode(&[(&entry, None)], "t", &fields, "id");
        let record = b"\xa1a\xa1b\xa6source\xa6stdout\xa3log\xa2hi";
        assert_eq!(plain, [&b"\x92\xa1t\x91\x92\xd3\0\0\0\0\0\0\0\x01\x83"[..], record].concat());
        let plan = planned(&[("fluentd-request-ack", "true"), ("fluentd-sub-second-precision", "1")]);
        let part = Part { id: 10, ordinal: 2, last: true };
        let precise = plan.encode(&[(&entry, Some(part))], "t", &fields, "id");
        let time = b"\x93\xa1t\x91\x92\xd7\0\0\0\0\x01\x1d\xcd\x65\0\x87";
        let parts = b"\xafpartial_message\xa4true\xaapartial_id\xb000000000\
                      0000000a\xafpartial_ordinal\xa12\xacpartial_last\xa4true\x81\xa5chunk\xa2id";
        let parts: Vec<u8> = parts.to_vec();
        assert_eq!(precise, [&time[..], record, &parts].concat());
    }

    #[test]
    fn lengths() {
        let check = |write: fn(&mut Vec<u8>, usize), length: usize, expect: &[u8]| {
            let mut out = Vec::new();
            write(&mut out, length);
            assert_eq!(out[..expect.len()], *expect, "{length}");
        };
        let string: fn(&mut Vec<u8>, usize) = |out, length| text(out, &vec![0; length]);
        check(array, 15, &[0x9f]);
        check(array, 16, &[0xdc, 0, 16]);
        check(array, 70_000, &[0xdd, 0, 1, 0x11, 0x70]);
        check(map, 16, &[0xde, 0, 16]);
        check(string, 31, &[0xbf, 0]);
        check(string, 32, &[0xd9, 32, 0]);
        check(string, 256, &[0xda, 1, 0, 0]);
        check(string, 70_000, &[0xdb, 0, 1, 0x11, 0x70, 0]);
    }
}
