//! What a container finds in `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use gantry_net::files::{DnsSettings, Hosts, NameService, ResolvConf, hosts_file, parse_extra_host};

use crate::container::{Endpoint, Record};
use crate::error::{Context, Error, Result};
use crate::request::NetworkMode;

/// Where the host's own are.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Writes the files of a container into `dir`. Returns the servers that its resolver asks.
pub(crate) fn host_files(
    dir: &Path,
    record: &Record,
    endpoints: &[(Endpoint, bool)],
    links: Vec<(String, IpAddr)>,
    gateway: Option<IpAddr>,
) -> Result<Vec<SocketAddr>> {
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).context(|| format!("write {}", path.display()))
    };
    write("hostname", &format!("{}\n", record.config.hostname))?;
    let service = match record.network.mode {
        NetworkMode::Host => NameService::Host,
        _ if endpoints.iter().any(|(_, named)| *named) => NameService::Own,
        _ => NameService::Default,
    };
    let host = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let (conf, upstreams) = ResolvConf::for_container(&host, &dns(record)?, service);
    write("resolv.conf", &conf.text())?;
    write("hosts", &hosts(record, endpoints, links, gateway)?)?;
    Ok(upstreams)
}

/// The settings of names that were asked for.
pub(crate) fn dns(record: &Record) -> Result<DnsSettings> {
    let network = &record.network;
    let server = |text: &String| {
        text.parse().map_err(|_| Error::Invalid(format!("invalid IP address in add-host or dns: {text:?} is none")))
    };
    Ok(DnsSettings {
        servers: network.dns.iter().map(server).collect::<Result<_>>()?,
        search: network.dns_search.clone(),
        options: network.dns_options.clone(),
    })
}

fn hosts(
    record: &Record,
    endpoints: &[(Endpoint, bool)],
    links: Vec<(String, IpAddr)>,
    gateway: Option<IpAddr>,
) -> Result<String> {
    use gantry_net::files::HostAddress;
    let mut extra =
        record.network.extra_hosts.iter().map(|text| Ok(parse_extra_host(text)?)).collect::<Result<Vec<_>>>()?;
    if record.network.mode == NetworkMode::Host {
        let mut text = std::fs::read_to_string(HOSTS).unwrap_or_default();
        let own = hosts_file(&Hosts { extra, ..Hosts::default() }, gateway);
        // The host's own lines, then what was asked for.
        text.extend(own.lines().skip(1).flat_map(|line| [line, "\n"]));
        return Ok(text);
    }
    extra.extend(links.into_iter().map(|(name, address)| (name, HostAddress::Address(address))));
    let (name, domain) = (&record.config.hostname, &record.config.domainname);
    let names = if domain.is_empty() { vec![name.clone()] } else { vec![format!("{name}.{domain}"), name.clone()] };
    let addresses = endpoints.iter().flat_map(|(endpoint, _)| [&endpoint.ipv4, &endpoint.ipv6]);
    let own = addresses.filter_map(|text| text.parse().ok()).map(|address| (address, names.clone())).collect();
    Ok(hosts_file(&Hosts { own, extra, ipv6: true }, gateway))
}
