//! Host names to addresses, without the C library: it cannot be linked statically with its own name services.
//!
//! `localhost` and the names of `/etc/hosts` are answered here, so that they work without a name server and at once; the
//! rest is asked of the name servers in `/etc/resolv.conf`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The most of the file of hosts that is read, in bytes.
const MAX_HOSTS: u64 = 4 << 20;

/// Finds the addresses of registries.
#[derive(Clone)]
pub(crate) struct Resolver {
    hosts: Arc<PathBuf>,
    servers: Arc<OnceLock<TokioResolver>>,
}

impl Resolver {
    /// `hosts` is the path of the file of hosts.
    pub(crate) fn new(hosts: PathBuf) -> Self {
        Self { hosts: Arc::new(hosts), servers: Arc::default() }
    }

    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        if is_localhost(name) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let known = from_hosts(&self.read_hosts().await, name);
        if !known.is_empty() {
            return Ok(known);
        }
        let servers = if let Some(servers) = self.servers.get() {
            servers
        } else {
            let builder = TokioResolver::builder_tokio();
            let mut builder = builder.map_err(|error| format!("name servers: /etc/resolv.conf: {error}"))?;
            builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            self.servers.get_or_init(|| builder.build())
        };
        match servers.lookup_ip(name).await {
            Ok(found) => Ok(found.into_iter().collect()),
            Err(error) if error.is_no_records_found() => Err(format!("there is no host {name}").into()),
            Err(error) => Err(format!("look up {name}: {error}").into()),
        }
    }

    /// The file of hosts, read each time since it may change; empty if it cannot be read.
    async fn read_hosts(&self) -> String {
        let path = self.hosts.clone();
        let read = move || {
            let mut text = vec![];
            let file = std::fs::File::open(path.as_path())?;
            std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_HOSTS), &mut text)?;
            std::io::Result::Ok(String::from_utf8_lossy(&text).into_owned())
        };
        tokio::task::spawn_blocking(read).await.ok().and_then(Result::ok).unwrap_or_default()
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let found = this.lookup(name.as_str()).await?;
            let addresses: Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

/// `localhost` and everything under it is this machine (RFC 6761, 6.3).
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// The addresses of a name in a file of hosts (hosts(5)), in the file's order.
fn from_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let line = |line: &str| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    text.lines().filter_map(line).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let text = "# a comment\n127.0.0.1 localhost\n10.0.0.1\tRegistry.test r # other\n::5 r\nnonsense r\n\n10.0.0.2";
        let check = |name: &str, expect: &str| {
            let found: Vec<_> = from_hosts(text, name).iter().map(ToString::to_string).collect();
            assert_eq!(found.join(" "), expect, "{name}");
        };
        check("registry.test", "10.0.0.1");
        check("registry.test.", "10.0.0.1");
        check("R", "10.0.0.1 ::5");
        check("other", "");
        check("", "");
    }

    #[test]
    fn localhost() {
        for (name, expect) in [("localhost", true), ("LocalHost.", true), ("a.localhost", true), ("xlocalhost", false)]
        {
            assert_eq!(is_localhost(name), expect, "{name}");
        }
    }
}
