//! The networks of a container, and how it is on each.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::csv;
use crate::cli::create::Network;

/// How a container is on a network.
#[derive(Clone, Debug, Default)]
struct Endpoint {
    network: String,
    aliases: Vec<String>,
    links: Vec<String>,
    ip: String,
    ip6: String,
    link_local: Vec<String>,
    mac: String,
    options: Map<String, Value>,
}

/// What the API is told of networks.
#[derive(Debug, PartialEq)]
pub struct Networks {
    /// `NetworkMode`.
    pub mode: String,
    /// `EndpointsConfig`.
    pub endpoints: Map<String, Value>,
}

/// Reads all that is said about networks.
pub fn read(options: &Network) -> Result<Networks, String> {
    let mut all = options.network.iter().map(|text| endpoint(text)).collect::<Result<Vec<_>, _>>()?;
    let count = all.len();
    let mode = all.first().map_or_else(|| "default".to_owned(), |first| first.network.clone());
    let kinds: Vec<bool> = all.iter().map(|one| is_user_defined(&one.network)).collect();
    if all.is_empty() {
        all.push(Endpoint { network: "default".to_owned(), ..Endpoint::default() });
    }
    apply(&mut all[0], options)?;
    let mut endpoints = Map::new();
    for (index, one) in all.iter().enumerate() {
        if endpoints.contains_key(&one.network) {
            return Err(format!("network \"{}\" is specified multiple times", one.network));
        }
        let plain = one.is_plain();
        // One network of which nothing more is said is said by its name alone.
        if plain && index == 0 && count == 1 {
            continue;
        }
        one.check()?;
        endpoints.insert(one.network.clone(), one.document());
    }
    if kinds.contains(&true) && kinds.contains(&false) {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes".to_owned()
        );
    }
    Ok(Networks { mode, endpoints })
}

/// Whether a network has to be made before a container can be in it.
fn is_user_defined(name: &str) -> bool {
    !["default", "bridge", "host", "none"].contains(&name) && !name.starts_with("container:") && !name.is_empty()
}

/// `NAME`, or `name=NAME,alias=..`.
fn endpoint(text: &str) -> Result<Endpoint, String> {
    if !text.contains('=') {
        return Ok(Endpoint { network: text.to_owned(), ..Endpoint::default() });
    }
    let mut endpoint = Endpoint::default();
    for field in csv::fields(text)? {
        let lower = field.to_ascii_lowercase();
        let (key, value) =
            lower.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| format!("invalid field {lower}"))?;
        let value = value.trim().to_owned();
        match key.trim() {
            "name" => endpoint.network = value,
            "alias" => endpoint.aliases.push(value),
            "ip" => endpoint.ip = value,
            "ip6" => endpoint.ip6 = value,
            "mac-address" => endpoint.mac = value,
            "link-local-ip" => endpoint.link_local.push(value),
            "driver-opt" => {
                let (key, value) = value
                    .split_once('=')
                    .filter(|(key, _)| !key.is_empty())
                    .ok_or("invalid key value pair format in driver options")?;
                endpoint.options.insert(key.trim().to_owned(), value.trim().into());
            }
            "gw-priority" => return Err("invalid field key gw-priority: a container has one default route".to_owned()),
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if endpoint.network.is_empty() { Err("network name/id is not specified".to_owned()) } else { Ok(endpoint) }
}

/// What the options beside `--network` say of the first network.
fn apply(endpoint: &mut Endpoint, options: &Network) -> Result<(), String> {
    let conflict = |flag: &str, field: &str| {
        Err(format!("conflicting options: cannot specify both --{flag} and per-network {field}"))
    };
    let text = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    if !endpoint.aliases.is_empty() && !options.network_alias.is_empty() {
        return conflict("network-alias", "alias");
    }
    if !endpoint.link_local.is_empty() && !options.link_local_ip.is_empty() {
        return conflict("link-local-ip", "link-local IP addresses");
    }
    endpoint.aliases.extend(options.network_alias.iter().cloned());
    endpoint.link_local.extend(options.link_local_ip.iter().cloned());
    if is_user_defined(&endpoint.network) {
        endpoint.links.extend(options.link.iter().cloned());
    }
    let single = [
        (text(&options.ip), &mut endpoint.ip, "ip", "IPv4 address"),
        (text(&options.ip6), &mut endpoint.ip6, "ip6", "IPv6 address"),
        (text(&options.mac_address), &mut endpoint.mac, "mac-address", "MAC address"),
    ];
    for (given, field, flag, name) in single {
        if let Some(given) = given {
            if !field.is_empty() {
                return conflict(flag, name);
            }
            *field = given;
        }
    }
    Ok(())
}

impl Endpoint {
    fn is_plain(&self) -> bool {
        self.aliases.is_empty()
            && self.links.is_empty()
            && self.ip.is_empty()
            && self.ip6.is_empty()
            && self.link_local.is_empty()
            && self.mac.is_empty()
            && self.options.is_empty()
    }

    fn check(&self) -> Result<(), String> {
        if !self.aliases.is_empty() && !is_user_defined(&self.network) {
            return Err("network-scoped aliases are only supported for user-defined networks".to_owned());
        }
        for address in [&self.ip, &self.ip6].into_iter().chain(&self.link_local).filter(|address| !address.is_empty()) {
            address.parse::<IpAddr>().map_err(|_| format!("invalid IP address: {address}"))?;
        }
        if !self.mac.is_empty() && !is_mac(&self.mac) {
            return Err(format!("{} is not a valid mac address", self.mac));
        }
        Ok(())
    }

    fn document(&self) -> Value {
        let list = |all: &[String]| if all.is_empty() { Value::Null } else { json!(all) };
        let mut ipam = Map::new();
        for (key, value) in [("IPv4Address", &self.ip), ("IPv6Address", &self.ip6)] {
            if !value.is_empty() {
                ipam.insert(key.to_owned(), value.clone().into());
            }
        }
        if !self.link_local.is_empty() {
            ipam.insert("LinkLocalIPs".to_owned(), json!(self.link_local));
        }
        json!({
            "IPAMConfig": if ipam.is_empty() { Value::Null } else { ipam.into() },
            "Links": list(&self.links),
            "Aliases": list(&self.aliases),
            "MacAddress": self.mac,
            "DriverOpts": if self.options.is_empty() { Value::Null } else { self.options.clone().into() },
        })
    }
}

/// Six pairs of hexadecimal digits.
pub fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit()))
}

/// A line of the hosts file: `NAME:ADDRESS` or `NAME=ADDRESS`, as `NAME:ADDRESS`.
pub fn extra_host(text: &str) -> Result<String, String> {
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("bad format for add-host: {text:?}"))?;
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if address != "host-gateway" && address.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{name}:{address}"))
}

/// A DNS server.
pub fn server(text: &str) -> Result<String, String> {
    let address = text.trim().parse::<IpAddr>();
    address.map(|address| address.to_string()).map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

/// A domain that names are looked for in; a dot is none.
pub fn search_domain(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name == "." {
        return Ok(name.to_owned());
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let good = name.len() < 255
        && name.contains(|c: char| c.is_ascii_alphabetic())
        && name.trim_end_matches('.').split('.').all(label);
    if good { Ok(name.to_owned()) } else { Err(format!("{text} is not a valid domain")) }
}

/// `CONTAINER[:NAME]`.
pub fn link(text: &str) -> Result<String, String> {
    match text.split(':').collect::<Vec<_>>()[..] {
        [""] => Err("empty string specified for links".to_owned()),
        [_] | [_, _] => Ok(text.to_owned()),
        _ => Err(format!("bad format for links: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create::testing::create;

    fn check(line: &str, expect: &str) {
        let got = match read(&create(line).network) {
            Ok(networks) => {
                let mut text = networks.mode;
                for (name, endpoint) in networks.endpoints {
                    let shown = endpoint.as_object().unwrap().iter().filter(|(_, v)| !v.is_null() && **v != json!(""));
                    let shown: Vec<String> = shown.map(|(key, value)| format!("{key}={value}")).collect();
                    text.extend([" ", &name, "(", &shown.join(","), ")"]);
                }
                text
            }
            Err(why) => format!("!{why}"),
        };
        assert_eq!(got, expect, "{line}");
    }

    #[test]
    fn networks() {
        check("", "default default()");
        check("--network host", "host");
        check("--net mine", "mine");
        check(
            "--network mine --network-alias a --ip 10.0.0.2",
            r#"mine mine(Aliases=["a"],IPAMConfig={"IPv4Address":"10.0.0.2"})"#,
        );
        check(
            "--network name=mine,alias=a,alias=b,ip6=fd00::2,mac-address=92:d0:c6:0a:29:33,driver-opt=x=y --link db",
            r#"mine mine(Aliases=["a","b"],DriverOpts={"x":"y"},IPAMConfig={"IPv6Address":"fd00::2"},Links=["db"],MacAddress="92:d0:c6:0a:29:33")"#,
        );
        check("--network a --network b", "a a() b()");
        check("--link db", "default default()");
        check("--mac-address 92:d0:c6:0a:29:33", "default default(MacAddress=\"92:d0:c6:0a:29:33\")");
    }

    #[test]
    fn what_is_refused() {
        check("--network-alias a", "!network-scoped aliases are only supported for user-defined networks");
        check("--network a --network a", "!network \"a\" is specified multiple times");
        check(
            "--network a --network host",
            "!conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        );
        check("--network alias=b", "!network name/id is not specified");
        check("--network name=a,x=b", "!invalid field key x");
        check("--network name=a,ip=b", "!invalid IP address: b");
        check("--network a --mac-address b", "!b is not a valid mac address");
        check(
            "--network name=a,ip=10.0.0.1 --ip 10.0.0.2",
            "!conflicting options: cannot specify both --ip and per-network IPv4 address",
        );
    }

    #[test]
    fn hosts_and_servers() {
        let check = |got: Result<String, String>, expect: &str| {
            assert_eq!(got.unwrap_or_else(|why| format!("!{why}")), expect);
        };
        check(extra_host("a:10.0.0.1"), "a:10.0.0.1");
        check(extra_host("a=::1"), "a:::1");
        check(extra_host("a:[::1]"), "a:::1");
        check(extra_host("a:host-gateway"), "a:host-gateway");
        check(extra_host("a"), "!bad format for add-host: \"a\"");
        check(extra_host("a:b"), "!invalid IP address in add-host: \"b\"");
        check(server("8.8.8.8"), "8.8.8.8");
        check(server("x"), "!IP address is not correctly formatted: x");
        check(search_domain("example.org"), "example.org");
        check(search_domain("."), ".");
        check(search_domain("-a"), "!-a is not a valid domain");
        check(search_domain("1.2"), "!1.2 is not a valid domain");
        check(link("a:b"), "a:b");
        check(link(""), "!empty string specified for links");
        check(link("a:b:c"), "!bad format for links: a:b:c");
    }
}
