//! The files by which programs in containers find names: `/etc/hosts` and `/etc/resolv.conf`. Pure.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where a container's own resolver listens.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// Servers for a host whose own cannot be used in a container.
const FALLBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)), IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4))];
/// The most servers that are asked.
const MAX_UPSTREAMS: usize = 3;
/// The most bytes of the host's file that are read.
const MAX_TEXT: usize = 64 * 1024;
/// The port of name servers.
const DNS_PORT: u16 = 53;

/// What a resolver is told (resolv.conf(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Name servers, in order.
    pub servers: Vec<IpAddr>,
    /// Domains to look names up in.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// What a container's own settings say of names; what is empty is the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsSettings {
    /// Name servers (`--dns`).
    pub servers: Vec<IpAddr>,
    /// Domains (`--dns-search`); a single `.` is none at all.
    pub search: Vec<String>,
    /// Options (`--dns-option`).
    pub options: Vec<String>,
}

/// What kind of network a container has, as far as names are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameService {
    /// The host's network: the host's servers, whatever they are.
    Host,
    /// The default bridge, or none: the host's servers without those that only the host reaches.
    Default,
    /// A network with names: the container's own resolver.
    Own,
}

impl ResolvConf {
    /// Reads the text of a file; lines that are not understood are left out.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|&end| end <= MAX_TEXT).last();
        for line in text.get(..end.unwrap_or(0)).unwrap_or_default().lines() {
            let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
            match words.next() {
                // A scope as in fe80::1%eth0 means nothing in another namespace.
                Some("nameserver") => conf.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
                Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => conf.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        conf
    }

    /// What a container is told, and which servers its own resolver asks, of the host's file and the settings.
    pub fn for_container(host: &str, settings: &DnsSettings, service: NameService) -> (Self, Vec<SocketAddr>) {
        let mut conf = Self::parse(host);
        if !settings.servers.is_empty() {
            conf.servers.clone_from(&settings.servers);
        }
        if !settings.search.is_empty() {
            conf.search = settings.search.iter().filter(|domain| *domain != ".").cloned().collect();
        }
        if !settings.options.is_empty() {
            conf.options.clone_from(&settings.options);
        }
        if service == NameService::Host {
            return (conf, Vec::new());
        }
        // Our own resolver asks from the host's namespace, where the host's servers on loopback answer too.
        let upstreams = conf.servers.iter().take(MAX_UPSTREAMS).map(|&ip| SocketAddr::new(ip, DNS_PORT)).collect();
        if service == NameService::Own {
            conf.servers = vec![RESOLVER.into()];
            if !conf.options.iter().any(|option| option.starts_with("ndots:")) {
                conf.options.push("ndots:0".to_owned());
            }
            return (conf, upstreams);
        }
        if settings.servers.is_empty() {
            conf.servers.retain(|server| !server.is_loopback());
            if conf.servers.is_empty() {
                conf.servers = FALLBACK.to_vec();
            }
        }
        (conf, Vec::new())
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for server in &self.servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        for (word, values) in [("search", &self.search), ("options", &self.options)] {
            if !values.is_empty() {
                let _ = writeln!(text, "{word} {}", values.join(" "));
            }
        }
        text
    }
}

/// What a container finds in `/etc/hosts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// The container's own names and addresses.
    pub own: Vec<(IpAddr, Vec<String>)>,
    /// Names that were asked for (`--add-host`), in order, and the names of linked containers.
    pub extra: Vec<(String, HostAddress)>,
    /// Whether the container has IPv6.
    pub ipv6: bool,
}

/// The address of a name that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAddress {
    /// This one.
    Address(IpAddr),
    /// The host's, as the container reaches it (`host-gateway`).
    Gateway,
}

/// The text of `/etc/hosts`. `gateway` is what `host-gateway` stands for; where there is none such names are left out.
pub fn hosts_file(hosts: &Hosts, gateway: Option<IpAddr>) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n");
    if hosts.ipv6 {
        text += "::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n\
                 ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";
    }
    for (name, address) in &hosts.extra {
        let address = match address {
            HostAddress::Address(address) => Some(*address),
            HostAddress::Gateway => gateway,
        };
        if let Some(address) = address {
            let _ = writeln!(text, "{address}\t{name}");
        }
    }
    for (address, names) in &hosts.own {
        let _ = writeln!(text, "{address}\t{}", names.join(" "));
    }
    text
}

/// Reads `NAME:ADDRESS` or `NAME=ADDRESS`, where the address may be `host-gateway`, and may stand in brackets.
pub fn parse_extra_host(text: &str) -> crate::Result<(String, HostAddress)> {
    let invalid = |why: &str| crate::Error::invalid("extra host", text, why);
    let (name, address) =
        text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(|| invalid("it takes NAME:ADDRESS"))?;
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || c == '#';
    if name.is_empty() || name.len() > 253 || name.contains(forbidden) {
        return Err(invalid("the name cannot be used"));
    }
    if address == "host-gateway" {
        return Ok((name.to_owned(), HostAddress::Gateway));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address = bare.parse().map_err(|_| invalid("what stands behind the name is no address"))?;
    Ok((name.to_owned(), HostAddress::Address(address)))
}

#[cfg(test)]
mod tests;
