//! Which proxy stands between us and a host, from the environment or the configuration: data to data.
//!
//! The environment is read as Go's programs read it, since people set it for those: `NO_PROXY` has names with all that is
//! below them, addresses, networks and ports.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use crate::config::{Proxies, Proxy};

/// Why proxies cannot be used.
type Result<T> = std::result::Result<T, String>;

/// The most entries of a list of hosts without proxy.
const MAX_DIRECT: usize = 4096;

/// The proxies that are used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    http: Option<Url>,
    https: Option<Url>,
    direct: Vec<Direct>,
}

/// Who is spoken to without a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Direct {
    Everybody,
    /// An address, or a network of so many bits.
    Network {
        address: IpAddr,
        bits: u32,
        port: Option<u16>,
    },
    /// What is below a name, and the name itself unless a dot was before it.
    Names {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Routes {
    /// What is configured. `variable` looks up the environment.
    pub(crate) fn new(proxy: &Proxy, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        match proxy {
            Proxy::None => Ok(Self::default()),
            Proxy::Fixed(text) => {
                let url = Some(parse("proxy", text)?);
                Ok(Self { http: url.clone(), https: url, direct: vec![] })
            }
            Proxy::Each(Proxies { http, https, no_proxy }) => Ok(Self {
                http: http.as_deref().map(|text| parse("proxy.http", text)).transpose()?,
                https: https.as_deref().map(|text| parse("proxy.https", text)).transpose()?,
                direct: direct(&no_proxy.join(","))?,
            }),
            Proxy::Environment => {
                // The first that is set and not empty.
                let first = |names: &[&str]| {
                    let find = |name: &&str| Some(((*name).to_owned(), variable(name).filter(|v| !v.is_empty())?));
                    names.iter().find_map(find)
                };
                let proxy = |names: &[&str]| first(names).map(|(name, text)| parse(&name, &text)).transpose();
                Ok(Self {
                    http: proxy(&["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])?,
                    https: proxy(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])?,
                    direct: direct(&first(&["NO_PROXY", "no_proxy"]).map(|(_, text)| text).unwrap_or_default())?,
                })
            }
        }
    }

    /// The proxy for what is at a URL; none if it is spoken to directly.
    pub(crate) fn of(&self, url: &Url) -> Option<&Url> {
        let proxy = if url.scheme() == "https" { self.https.as_ref() } else { self.http.as_ref() }?;
        let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        let port = url.port_or_known_default();
        (!self.direct.iter().any(|direct| direct.is(&host, port))).then_some(proxy)
    }
}

impl Direct {
    fn is(&self, host: &str, port: Option<u16>) -> bool {
        let same_port = |wanted: Option<u16>| wanted.is_none() || wanted == port;
        match self {
            Self::Everybody => true,
            Self::Network { address, bits, port } => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                same_port(*port) && host.parse().is_ok_and(|host| shares(*address, host, *bits))
            }
            Self::Names { suffix, itself, port } => {
                let below = host.strip_suffix(suffix.as_str());
                same_port(*port)
                    && below.is_some_and(|below| if below.is_empty() { *itself } else { below.ends_with('.') })
            }
        }
    }
}

/// Whether two addresses of one family have the same first bits.
fn shares(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (one.to_bits() ^ other.to_bits()).checked_shr(32 - bits.min(32)).unwrap_or(0) == 0
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            (one.to_bits() ^ other.to_bits()).checked_shr(128 - bits.min(128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// A list of hosts without proxy. What is no host is passed over, as everybody does: the list is made for many programs.
fn direct(text: &str) -> Result<Vec<Direct>> {
    let words = text.split([',', ' ', '\t']).map(str::trim).filter(|word| !word.is_empty());
    let list: Vec<Direct> = words.take(MAX_DIRECT + 1).filter_map(entry).collect();
    if list.len() > MAX_DIRECT {
        return Err(format!("NO_PROXY has more than {MAX_DIRECT} entries"));
    }
    Ok(list)
}

fn entry(word: &str) -> Option<Direct> {
    if word == "*" {
        return Some(Direct::Everybody);
    }
    let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    let whole = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
    if let Some((address, bits)) = word.split_once('/') {
        let (address, bits) = (bare(address)?, bits.parse().ok()?);
        return (bits <= whole(address)).then_some(Direct::Network { address, bits, port: None });
    }
    if let Some(address) = bare(word) {
        return Some(Direct::Network { address, bits: whole(address), port: None });
    }
    let (host, port) = match word.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (word, None),
    };
    if let Some(address) = bare(host) {
        return Some(Direct::Network { address, bits: whole(address), port });
    }
    let name = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    let (suffix, itself) = name.strip_prefix('.').map_or((name, true), |below| (below, false));
    let suffix = suffix.trim_end_matches('.').to_ascii_lowercase();
    (!suffix.is_empty() && !suffix.contains(':')).then_some(Direct::Names { suffix, itself, port })
}

/// A proxy's address. What is wrong with it is said without it: it may hold a password.
fn parse(place: &str, text: &str) -> Result<Url> {
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let bad = |why: &str| format!("{place}: {why}; a proxy is http://HOST:PORT, or https:// or socks5://");
    let mut url = Url::parse(&full).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") {
        return Err(bad(&format!("{:.20} is no kind of proxy that is known", url.scheme())));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("it names no host"));
    }
    if url.scheme().starts_with("socks") && url.port().is_none() {
        // Cannot fail: it has a host.
        let _ = url.set_port(Some(1080));
    }
    Ok(url)
}

/// A proxy's address for people: without its name and password.
pub(crate) struct Shown<'a>(pub(crate) &'a Url);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), crate::config::authority(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(variables: &[(&str, &str)]) -> Result<Routes> {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Routes::new(&Proxy::Environment, &find)
    }

    fn through(routes: &Routes, url: &str) -> String {
        routes.of(&Url::parse(url).unwrap()).map_or("-".into(), |proxy| Shown(proxy).to_string())
    }

    #[test]
    fn environment() {
        let check = |variables: &[(&str, &str)], http: &str, https: &str| {
            let routes = routes(variables).unwrap();
            let found = (through(&routes, "http://a.test/"), through(&routes, "https://a.test/"));
            assert_eq!(found, (http.to_owned(), https.to_owned()), "{variables:?}");
        };
        check(&[], "-", "-");
        check(&[("HTTP_PROXY", "http://p:1")], "http://p:1", "-");
        check(&[("HTTPS_PROXY", "p:1")], "-", "http://p:1");
        check(&[("https_proxy", "https://p")], "-", "https://p");
        check(&[("HTTPS_PROXY", ""), ("https_proxy", "p:2")], "-", "http://p:2");
        check(&[("HTTPS_PROXY", "p:1"), ("https_proxy", "p:2")], "-", "http://p:1");
        check(&[("ALL_PROXY", "socks5://p"), ("HTTP_PROXY", "p:2")], "http://p:2", "socks5://p:1080");
        check(&[("HTTP_PROXY", "http://u:secret@p:1")], "http://p:1", "-");
        for (name, value, expect) in [
            ("HTTPS_PROXY", "ftp://u:secret@p", "HTTPS_PROXY: ftp is no kind"),
            ("http_proxy", "http://u:secret@p:x", "http_proxy: invalid port"),
            ("ALL_PROXY", "http://", "ALL_PROXY: empty host"),
        ] {
            let error = routes(&[(name, value)]).unwrap_err();
            assert!(error.contains(expect) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn without_proxy() {
        let check = |list: &str, direct: &[&str], proxied: &[&str]| {
            let routes = routes(&[("ALL_PROXY", "http://p:1"), ("NO_PROXY", list)]).unwrap();
            for url in direct {
                assert_eq!(through(&routes, url), "-", "{list}: {url}");
            }
            for url in proxied {
                assert_eq!(through(&routes, url), "http://p:1", "{list}: {url}");
            }
        };
        check("", &[], &["https://a.test/"]);
        check("*", &["https://a.test/", "http://192.0.2.1/", "https://[2001:db8::1]/"], &[]);
        check(
            "corp.test, other.test",
            &["https://corp.test/", "https://a.corp.test/", "https://A.CORP.TEST:5000/", "http://other.test"],
            &["https://xcorp.test/", "https://corp.test.evil.test/", "https://test/"],
        );
        check(
            ".corp.test *.lab.test",
            &["https://a.b.corp.test/", "https://x.lab.test"],
            &["https://corp.test/", "https://lab.test/"],
        );
        check("Reg.test:5000", &["https://reg.test:5000/"], &["https://reg.test/", "http://reg.test:5001/"]);
        check("reg.test:443", &["https://reg.test/"], &["http://reg.test/"]);
        check(
            "10.0.0.0/8",
            &["https://10.255.1.2/", "http://10.0.0.1:5000"],
            &["https://11.0.0.1/", "https://10.test/"],
        );
        check("192.0.2.7:5000", &["http://192.0.2.7:5000/"], &["http://192.0.2.7/", "http://192.0.2.8:5000/"]);
        check("192.0.2.128/25", &["http://192.0.2.200/"], &["http://192.0.2.100/"]);
        check("0.0.0.0/0", &["http://8.8.8.8/"], &["http://[2001:db8::1]/"]);
        check(
            "2001:db8::/32,[2001:db9::1]:5000,fe80::1",
            &["https://[2001:db8:5::1]/", "https://[2001:db9::1]:5000/", "https://[fe80::1]/"],
            &["https://[2001:db9::1]/", "https://[2001:dba::1]/"],
        );
        // What means nothing changes nothing.
        check("a.test:x,10.0.0.0/99,/,:,.", &[], &["https://a.test/", "https://10.0.0.1/"]);
    }

    #[test]
    fn configured() {
        let none = |_: &str| None;
        let of = |toml: &str| Routes::new(&crate::Config::from_toml(toml).unwrap().proxy, &none).unwrap();
        assert_eq!(through(&of("proxy = 'none'"), "https://a.test/"), "-");
        assert_eq!(through(&of("proxy = 'p:8080'"), "https://a.test/"), "http://p:8080");
        let each = of("[proxy]\nhttps = 'http://p:1'\nno_proxy = ['b.test', '10.0.0.0/8']");
        for (url, expect) in [
            ("https://a.test/", "http://p:1"),
            ("http://a.test/", "-"),
            ("https://b.test/", "-"),
            ("https://10.1.1.1/", "-"),
        ] {
            assert_eq!(through(&each, url), expect, "{url}");
        }
        let error = crate::Config::from_toml("[proxy]\nhttps = 'ftp://p'").unwrap_err().to_string();
        assert!(error.contains("proxy.https"), "{error}");
    }
}
