//! Where the daemon is: what `--host` and the environment may say, as data.

use std::fmt;
use std::path::PathBuf;

/// The socket of the daemon of this machine.
pub const SOCKET: &str = "/run/gantry/gantry.sock";
/// The port of a daemon that listens without TLS.
const PORT: u16 = 2375;
/// The port of a daemon that listens with TLS.
const TLS_PORT: u16 = 2376;

/// Where a daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A name or address, and a port.
    Tcp(String, u16),
}

/// Why a host cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// It is of no known form.
    #[error("invalid host {0:?}: write unix:///PATH or tcp://HOST[:PORT]")]
    Form(String),
    /// Another protocol.
    #[error("host {0:?}: there is no {1}:// here; write unix:///PATH or tcp://HOST[:PORT]")]
    Protocol(String, String),
}

impl Host {
    /// Reads `unix:///run/x.sock`, `tcp://host:2375`, or `host:2375` as Docker does.
    pub fn parse(text: &str, tls: bool) -> Result<Self, HostError> {
        let text = text.trim();
        let form = || HostError::Form(text.to_owned());
        let (protocol, rest) = text.split_once("://").unwrap_or(("tcp", text));
        match protocol {
            "unix" if rest.is_empty() => Ok(Self::Unix(PathBuf::from(SOCKET))),
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            "tcp" | "http" | "https" => {
                let (host, port) = address(rest.trim_end_matches('/')).ok_or_else(form)?;
                Ok(Self::Tcp(host, port.unwrap_or(if tls { TLS_PORT } else { PORT })))
            }
            "unix" => Err(form()),
            other => Err(HostError::Protocol(text.to_owned(), other.to_owned())),
        }
    }

    /// The socket that a daemon is started on if there is none.
    pub fn default_socket() -> Self {
        Self::Unix(PathBuf::from(SOCKET))
    }

    /// What stands in the `Host` header.
    pub fn header(&self) -> String {
        match self {
            Self::Unix(_) => "api.gantry.localhost".to_owned(),
            Self::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp(host, port) => format!("{host}:{port}"),
        }
    }
}

/// Host and port of `host`, `host:1`, `[::1]:1`, `:1`; no host is this machine.
fn address(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return None,
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = match port {
        None | Some("") => None,
        Some(port) => Some(port.parse().ok()?),
    };
    let good = host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c));
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    (good && !(text.is_empty())).then(|| (host.to_owned(), port))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(..) => write!(f, "tcp://{}", self.header()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let check = |text: &str, expect: &str| {
            let got = match Host::parse(text, false) {
                Ok(host) => host.to_string(),
                Err(error) => format!("!{error}"),
            };
            assert_eq!(got, expect, "{text}");
        };
        check("unix:///run/x.sock", "unix:///run/x.sock");
        check("unix://", "unix:///run/gantry/gantry.sock");
        check("tcp://1.2.3.4:99", "tcp://1.2.3.4:99");
        check("tcp://build.example.org", "tcp://build.example.org:2375");
        check("localhost:4000", "tcp://localhost:4000");
        check("tcp://[::1]:99/", "tcp://[::1]:99");
        check("tcp://:99", "tcp://127.0.0.1:99");
        let form = |text: &str| format!("!invalid host {text:?}: write unix:///PATH or tcp://HOST[:PORT]");
        for wrong in ["", "tcp://", "unix://x", "tcp://a:b", "tcp://a b", "tcp://::1", "tcp://a:99999", "tcp://[::1"] {
            check(wrong, &form(wrong));
        }
        check("ssh://a", "!host \"ssh://a\": there is no ssh:// here; write unix:///PATH or tcp://HOST[:PORT]");
        assert_eq!(Host::parse("tcp://a", true), Ok(Host::Tcp("a".to_owned(), 2376)));
    }
}
