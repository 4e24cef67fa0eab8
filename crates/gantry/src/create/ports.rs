//! Published and exposed ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Map, Value, json};

/// What is published and exposed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Address and port of the host for each port, as `80/tcp`; either may be empty.
    bindings: BTreeMap<String, Vec<(String, String)>>,
    /// Ports that are exposed, of which some are published.
    exposed: BTreeSet<String>,
}

impl Ports {
    /// Reads all of `--publish` and `--expose`.
    pub fn read(publish: &[String], expose: &[String]) -> Result<Self, String> {
        let mut ports = Self::default();
        for text in publish {
            ports.publish(&short(text)?)?;
        }
        for text in expose {
            ports.expose(text)?;
        }
        Ok(ports)
    }

    fn publish(&mut self, text: &str) -> Result<(), String> {
        let (spec, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (ip, host, container) = split(spec);
        if container.is_empty() {
            return Err(format!("no port specified: {text}<empty>"));
        }
        let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
        if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
            return Err(format!("invalid IP address: {ip}"));
        }
        let (first, last) = range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
        let hosts = match host {
            "" => None,
            host => Some(range(host).map_err(|_| format!("invalid hostPort: {host}"))?),
        };
        // One port may get any of a range; several get one each.
        if let Some((from, to)) = hosts
            && to - from != last - first
            && first != last
        {
            return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
        }
        let protocol = protocol.to_ascii_lowercase();
        if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
            return Err(format!("invalid proto: {protocol}"));
        }
        for port in first..=last {
            let host = match hosts {
                None => String::new(),
                Some((from, to)) if first == last && from != to => format!("{from}-{to}"),
                Some((from, _)) => (from + (port - first)).to_string(),
            };
            let name = format!("{port}/{protocol}");
            self.exposed.insert(name.clone());
            self.bindings.entry(name).or_default().push((ip.to_owned(), host));
        }
        Ok(())
    }

    fn expose(&mut self, text: &str) -> Result<(), String> {
        if text.contains(':') {
            return Err(format!("invalid port format for --expose: {text}"));
        }
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) =
            range(ports).map_err(|why| format!("invalid range format for --expose: {text}, error: {why}"))?;
        for port in first..=last {
            self.exposed.insert(format!("{port}/{protocol}"));
        }
        Ok(())
    }

    /// `ExposedPorts`; none if there are none.
    pub fn exposed(&self) -> Option<Value> {
        let map: Map<String, Value> = self.exposed.iter().map(|port| (port.clone(), json!({}))).collect();
        (!map.is_empty()).then_some(Value::Object(map))
    }

    /// `PortBindings`.
    pub fn bindings(&self) -> Value {
        let binding = |(ip, port): &(String, String)| json!({"HostIp": ip, "HostPort": port});
        let list = |all: &Vec<(String, String)>| Value::Array(all.iter().map(binding).collect());
        Value::Object(self.bindings.iter().map(|(port, all)| (port.clone(), list(all))).collect())
    }
}

/// The short form of the long one: `target=80,published=8080,protocol=udp`.
fn short(text: &str) -> Result<String, String> {
    if !text.contains('=') {
        return Ok(text.to_owned());
    }
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid field {field}"))?;
        match key {
            "target" => target = value,
            "published" => published = value,
            "protocol" => protocol = value,
            // Without a cluster both modes are the same.
            "mode" if ["host", "ingress"].contains(&value) => {}
            "mode" => return Err(format!("invalid publish mode value {value}")),
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if target.is_empty() {
        return Err("missing mandatory field \"target\"".to_owned());
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// Address, port of the host, and port of the container.
fn split(text: &str) -> (&str, &str, &str) {
    match text.rsplit_once(':') {
        None => ("", "", text),
        Some((rest, container)) => match rest.rsplit_once(':') {
            None => ("", rest, container),
            Some((ip, host)) => (ip, host, container),
        },
    }
}

/// `80` or `80-90`.
fn range(text: &str) -> Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    let port = |text: &str| text.parse::<u16>().map_err(|error| format!("{text:?} is no port: {error}"));
    let Some((first, last)) = text.split_once('-') else { return port(text).map(|port| (port, port)) };
    let (first, last) = (port(first)?, port(last)?);
    if last < first { Err(format!("invalid range specified for port: {text}")) } else { Ok((first, last)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(publish: &[&str], expose: &[&str], expect: &str) {
        let own = |all: &[&str]| all.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let got = match Ports::read(&own(publish), &own(expose)) {
            Ok(ports) => {
                let exposed: Vec<&str> = ports.exposed.iter().map(String::as_str).collect();
                let bindings = ports
                    .bindings
                    .iter()
                    .flat_map(|(port, all)| all.iter().map(move |(ip, host)| format!("{ip}:{host}->{port}")));
                format!("{} [{}]", bindings.collect::<Vec<_>>().join(" "), exposed.join(" "))
            }
            Err(why) => format!("!{why}"),
        };
        assert_eq!(got, expect, "{publish:?} {expose:?}");
    }

    #[test]
    fn ports() {
        check(&["80"], &[], ":->80/tcp [80/tcp]");
        check(&["8080:80"], &[], ":8080->80/tcp [80/tcp]");
        check(&["127.0.0.1:8080:80/udp"], &[], "127.0.0.1:8080->80/udp [80/udp]");
        check(&["127.0.0.1::80"], &[], "127.0.0.1:->80/tcp [80/tcp]");
        check(&["[::1]:80:80"], &[], "::1:80->80/tcp [80/tcp]");
        check(&["::1:80:80"], &[], "::1:80->80/tcp [80/tcp]");
        check(&["90-91:80-81"], &[], ":90->80/tcp :91->81/tcp [80/tcp 81/tcp]");
        check(&["90-95:80"], &[], ":90-95->80/tcp [80/tcp]");
        check(&["80-81"], &["53/udp", "80-82"], ":->80/tcp :->81/tcp [53/udp 80/tcp 81/tcp 82/tcp]");
        check(&["1:80", "2:80/TCP"], &[], ":1->80/tcp :2->80/tcp [80/tcp]");
        check(&["target=80,published=8080,protocol=udp"], &[], ":8080->80/udp [80/udp]");
        check(&["target=80,mode=host"], &[], ":->80/tcp [80/tcp]");
    }

    #[test]
    fn what_is_refused() {
        check(&["8080:"], &[], "!no port specified: 8080:<empty>");
        check(&["a:80:80"], &[], "!invalid IP address: a");
        check(&["80:x"], &[], "!invalid containerPort: x");
        check(&["x:80"], &[], "!invalid hostPort: x");
        check(&["70000:80"], &[], "!invalid hostPort: 70000");
        check(&["90-92:80-81"], &[], "!invalid ranges specified for container and host Ports: 80-81 and 90-92");
        check(&["80/frob"], &[], "!invalid proto: frob");
        check(&["published=1"], &[], "!missing mandatory field \"target\"");
        check(&["target=1,x=2"], &[], "!invalid field key x");
        check(&[], &["80:90"], "!invalid port format for --expose: 80:90");
        check(&[], &["9-8"], "!invalid range format for --expose: 9-8, error: invalid range specified for port: 9-8");
    }
}
