//! Messages of the syslog protocols (RFC 3164, RFC 5424, and RFC 5425's frames). Pure.

use gantry_model::logrecord::Stream;
use gantry_model::time::Moment;

use super::Driver;
use crate::error::{Error, Result};
use crate::logs::Entry;
use crate::logs::option::{self, Address};

pub(in crate::logs) const OPTIONS: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
];

/// Where sockets of this machine's own syslog may be.
pub(super) const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "", "", "",
    "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const DAEMON: u8 = 3;
const ERROR: u8 = 3;
const INFORMATION: u8 = 6;

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// As local syslog daemons want it: RFC 3164 without a host.
    Local,
    Rfc3164,
    Rfc5424,
    /// With microseconds.
    Rfc5424Micro,
}

/// Files of keys and certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsFiles {
    pub(super) ca: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
    pub(super) skip_verify: bool,
}

/// What the options say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// None is this machine's own.
    pub(super) address: Option<Address>,
    facility: u8,
    format: Format,
    pub(super) tls: TlsFiles,
}

pub(in crate::logs) fn plan<'a>(get: &impl Fn(&str) -> Option<&'a str>) -> Result<Driver> {
    let address = match get("syslog-address").filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(option::address("syslog-address", text, Some(514))?),
    };
    let facility = match get("syslog-facility").filter(|text| !text.is_empty()) {
        None => Some(DAEMON),
        Some(text) => match FACILITIES.iter().position(|name| *name == text) {
            Some(number) => Some(number as u8),
            None => text.parse::<u8>().ok().filter(|number| *number < FACILITIES.len() as u8),
        },
    };
    let facility = facility.ok_or_else(|| Error::Invalid("invalid syslog facility".to_owned()))?;
    let format = match get("syslog-format").unwrap_or_default() {
        "" => Format::Local,
        "rfc3164" => Format::Rfc3164,
        "rfc5424" => Format::Rfc5424,
        "rfc5424micro" => Format::Rfc5424Micro,
        _ => return Err(Error::Invalid("invalid syslog format".to_owned())),
    };
    let file = |name: &str| get(name).filter(|path| !path.is_empty()).map(str::to_owned);
    let tls = TlsFiles {
        ca: file("syslog-tls-ca-cert"),
        certificate: file("syslog-tls-cert"),
        key: file("syslog-tls-key"),
        // As elsewhere, that it is given says yes, whatever the value.
        skip_verify: get("syslog-tls-skip-verify").is_some(),
    };
    if tls.certificate.is_some() != tls.key.is_some() {
        return Err(Error::Invalid("syslog-tls-cert and syslog-tls-key belong together: give both".to_owned()));
    }
    if tls != TlsFiles::default() && !matches!(address, Some(Address::Tls(..))) {
        return Err(Error::Invalid("syslog-tls-* is for a syslog-address of tcp+tls://".to_owned()));
    }
    Ok(Driver::Syslog(Plan { address, facility, format, tls }))
}

impl Plan {
    /// Messages one after another in a stream, or one in a packet.
    pub(super) fn encode(&self, entry: &Entry, tag: &str, host: &str, pid: u32) -> Vec<u8> {
        let severity = if entry.stream == Stream::Stderr { ERROR } else { INFORMATION };
        let priority = self.facility << 3 | severity;
        let time = Moment::new(entry.time);
        let head = match self.format {
            Format::Local => format!("<{priority}>{} {tag}[{pid}]: ", time.stamp()),
            Format::Rfc3164 => format!("<{priority}>{} {host} {tag}[{pid}]: ", time.stamp()),
            Format::Rfc5424 | Format::Rfc5424Micro => {
                let time = time.rfc3339(if self.format == Format::Rfc5424 { 0 } else { 6 });
                let (host, app, id) = (name(host, 255), name(tag, 48), name(tag, 32));
                format!("<{priority}>1 {time} {host} {app} {pid} {id} - ")
            }
        };
        let newer = matches!(self.format, Format::Rfc5424 | Format::Rfc5424Micro);
        let framed = newer && matches!(self.address, Some(Address::Tls(..)));
        let mut message = head.into_bytes();
        message.extend_from_slice(entry.bare());
        if framed {
            let length = message.len().to_string();
            message.splice(0..0, [length.as_bytes(), b" "].concat());
        } else {
            message.push(b'\n');
        }
        message
    }
}

/// A name as RFC 5424 allows it: printable, of so many characters; `-` is none.
fn name(text: &str, most: usize) -> String {
    let clean = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let name: String = text.chars().map(clean).take(most).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let check = |options: &[(&str, &str)], stream: Stream, expect: &str| {
            let get = |name: &str| options.iter().find(|(one, _)| *one == name).map(|(_, value)| *value);
            let Driver::Syslog(plan) = plan(&get).unwrap() else { panic!() };
            let entry = Entry { time: 86_401_500_000_000, stream, text: b"some text\n".to_vec() };
            let found = plan.encode(&entry, "a tag", "host", 7);
            assert_eq!(String::from_utf8(found).unwrap(), expect, "{options:?}");
        };
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        check(&[], out, "<30>Jan  2 00:00:01 a tag[7]: some text\n");
        check(&[("syslog-facility", "local7")], err, "<187>Jan  2 00:00:01 a tag[7]: some text\n");
        check(&[("syslog-facility", "0")], out, "<6>Jan  2 00:00:01 a tag[7]: some text\n");
        check(&[("syslog-format", "rfc3164")], out, "<30>Jan  2 00:00:01 host a tag[7]: some text\n");
        let newer = "<30>1 1970-01-02T00:00:01Z host a_tag 7 a_tag - some text";
        check(&[("syslog-format", "rfc5424"), ("syslog-address", "tcp://a")], out, &format!("{newer}\n"));
        check(&[("syslog-format", "rfc5424"), ("syslog-address", "tcp+tls://a")], out, &format!("57 {newer}"));
        let micro = "<30>1 1970-01-02T00:00:01.500000Z host a_tag 7 a_tag - some text\n";
        check(&[("syslog-format", "rfc5424micro")], out, micro);
    }

    #[test]
    fn what_is_refused() {
        let check = |options: &[(&str, &str)], expect: &str| {
            let get = |name: &str| options.iter().find(|(one, _)| *one == name).map(|(_, value)| *value);
            assert_eq!(plan(&get).unwrap_err().to_string(), expect, "{options:?}");
        };
        check(&[("syslog-facility", "24")], "invalid syslog facility");
        let words = "syslog-tls-cert and syslog-tls-key belong together: give both";
        check(&[("syslog-address", "tcp+tls://a"), ("syslog-tls-key", "/x")], words);
        check(&[("syslog-tls-ca-cert", "/x")], "syslog-tls-* is for a syslog-address of tcp+tls://");
    }
}
