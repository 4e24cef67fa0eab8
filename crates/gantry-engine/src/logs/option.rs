//! Values of log options, as texts: sizes, switches, durations, addresses. Pure.

use std::time::Duration;

use crate::error::{Error, Result};

/// Where a log is shipped to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A stream over the network.
    Tcp(String, u16),
    /// The same, encrypted.
    Tls(String, u16),
    /// Packets over the network.
    Udp(String, u16),
    /// A socket of this machine, of whichever type it is.
    Unix(String),
    /// A socket of packets of this machine.
    Unixgram(String),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (scheme, host, port) = match self {
            Self::Tcp(host, port) => ("tcp", host, port),
            Self::Tls(host, port) => ("tcp+tls", host, port),
            Self::Udp(host, port) => ("udp", host, port),
            Self::Unix(path) => return write!(f, "unix://{path}"),
            Self::Unixgram(path) => return write!(f, "unixgram://{path}"),
        };
        if host.contains(':') { write!(f, "{scheme}://[{host}]:{port}") } else { write!(f, "{scheme}://{host}:{port}") }
    }
}

/// An address `scheme://host:port` or `unix://path`. Without a port it is `port`, if there is one to assume.
pub(super) fn address(option: &str, text: &str, port: Option<u16>) -> Result<Address> {
    let invalid = |why: &str| Error::Invalid(format!("invalid {option} {text}: {why}"));
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| Error::Invalid(format!("{option} should be in form proto://address, got {text}")))?;
    if scheme == "unix" || scheme == "unixgram" {
        if !rest.starts_with('/') {
            return Err(invalid("the path of a socket begins with /"));
        }
        let path = rest.to_owned();
        return Ok(if scheme == "unix" { Address::Unix(path) } else { Address::Unixgram(path) });
    }
    let rest = rest.trim_end_matches('/');
    let (host, given) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(|| invalid("missing ']' in address"))?;
            (host, after.strip_prefix(':').or(if after.is_empty() { None } else { Some(after) }))
        }
        None => match rest.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => return Err(invalid("too many colons in address")),
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let port = match given {
        Some(text) => text.parse().map_err(|_| invalid("the port is no number of a port"))?,
        None => port.ok_or_else(|| invalid("missing port in address"))?,
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
        return Err(invalid("there is no host in it"));
    }
    let host = host.to_owned();
    match scheme {
        "tcp" => Ok(Address::Tcp(host, port)),
        "tcp+tls" => Ok(Address::Tls(host, port)),
        "udp" => Ok(Address::Udp(host, port)),
        _ => Err(invalid("the scheme is none of tcp, tcp+tls, udp, unix, unixgram")),
    }
}

/// Bytes of a text such as `10m`, `512kb`, `1.5g`.
pub(super) fn size(option: &str, text: &str) -> Result<u64> {
    let invalid = || Error::Invalid(format!("invalid value for {option}: {text}"));
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(invalid()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| invalid())?;
    let bytes = whole.checked_mul(1 << shift).ok_or_else(invalid)?;
    let fraction: f64 =
        if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().map_err(|_| invalid())? };
    #[allow(clippy::cast_precision_loss)] // a part of a unit, which people write with a digit or two
    let part = (fraction * (1_u64 << shift) as f64) as u64;
    let bytes = bytes.checked_add(part).ok_or_else(invalid)?;
    if bytes == 0 { Err(invalid()) } else { Ok(bytes) }
}

/// A switch, with the words for it that other engines know.
pub(super) fn switch(option: &str, text: &str) -> Result<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::Invalid(format!("invalid boolean value for {option}: {text}"))),
    }
}

/// A number.
pub(super) fn number(option: &str, text: &str) -> Result<u32> {
    text.parse().map_err(|_| Error::Invalid(format!("invalid value for {option}: {text}")))
}

/// A duration such as `1m30s` or `250ms`.
pub(super) fn duration(option: &str, text: &str) -> Result<Duration> {
    let invalid = || Error::Invalid(format!("invalid duration for {option}: {text}"));
    let mut sum = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(invalid()),
        };
        let number: f64 = number.parse().map_err(|_| invalid())?;
        sum += Duration::try_from_secs_f64(number * seconds).map_err(|_| invalid())?;
        rest = after;
    }
    if text.is_empty() { Err(invalid()) } else { Ok(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expect: &str| {
            let found = match address("syslog-address", text, Some(514)) {
                Ok(address) => address.to_string(),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expect, "{text}");
        };
        check("tcp://host", "tcp://host:514");
        check("tcp+tls://host:6514", "tcp+tls://host:6514");
        check("udp://[::1]:1514", "udp://[::1]:1514");
        check("udp://[::1]", "udp://[::1]:514");
        check("unix:///dev/log", "unix:///dev/log");
        check("unixgram:///dev/log", "unixgram:///dev/log");
        check("host:1", "syslog-address should be in form proto://address, got host:1");
        check("tcp://::1", "invalid syslog-address tcp://::1: too many colons in address");
        check("tcp://a:99999", "invalid syslog-address tcp://a:99999: the port is no number of a port");
        check("tcp://", "invalid syslog-address tcp://: there is no host in it");
        check("unix://a", "invalid syslog-address unix://a: the path of a socket begins with /");
        let words = "invalid syslog-address x://a:1: the scheme is none of tcp, tcp+tls, udp, unix, unixgram";
        check("x://a:1", words);
        assert!(address("gelf-address", "udp://a", None).is_err());
    }

    #[test]
    fn sizes_and_durations() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(size("x", text).ok(), expect, "{text}");
        check("1", Some(1));
        check("2k", Some(2048));
        check("10M", Some(10 << 20));
        check("1.5kb", Some(1536));
        check("1GiB", Some(1 << 30));
        check("1 b", Some(1));
        for bad in ["", "0", "-1", "m", "1x", "99999999999t", "1..5m"] {
            check(bad, None);
        }
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(duration("x", text).ok().map(|found| found.as_millis() as u64), expect, "{text}");
        };
        check("1s", Some(1000));
        check("1m30s", Some(90_000));
        check("1.5s250ms", Some(1750));
        for bad in ["", "1", "s", "1y", "-1s", "1e99h"] {
            check(bad, None);
        }
    }
}
