//! The daemon as a command sees it: the Docker Engine API over a socket.
//!
//! A command makes few requests, one after the other on one connection as far as they are answered at once; what lasts
//! (a stream of output, a wait for an end) has a connection of its own. No thread is started for it.

pub mod frames;
pub mod hijack;
pub mod host;
mod http;
pub mod keys;
pub mod lines;
pub mod query;
mod start;
mod tls;

use std::path::{Path, PathBuf};

pub use http::{Client, Request};
pub use query::Target;

use crate::cli::Global;
use crate::client::host::Host;
use crate::failure::{Failure, Of, Outcome};

/// What says where the daemon is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where it listens.
    pub host: Host,
    /// Whether it may be started if it does not: on the default socket.
    pub startable: bool,
    /// Keys and certificates, if it is reached by TLS.
    pub tls: Option<TlsFiles>,
}

/// The files for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Whom to trust; none trusts anybody.
    pub authority: Option<PathBuf>,
    /// The certificate and key of this client, if there are some.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Place {
    /// By the flags, then `GANTRY_HOST`, then `DOCKER_HOST`.
    pub fn of(global: &Global) -> Outcome<Self> {
        let from = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let text = global.host.clone().or_else(|| from("GANTRY_HOST")).or_else(|| from("DOCKER_HOST"));
        let tls = tls_files(global, from);
        let Some(text) = text else {
            return Ok(Self { host: Host::default_socket(), startable: true, tls: None });
        };
        let host = Host::parse(&text, tls.is_some()).map_err(|error| Failure::Usage(error.to_string()))?;
        let tls = tls.filter(|_| matches!(host, Host::Tcp(..)));
        Ok(Self { startable: host == Host::default_socket(), host, tls })
    }
}

/// Docker's rules: `--tlsverify` needs all three files, which are in the directory of certificates by default; `--tls`
/// trusts anybody, and takes the files that there are.
fn tls_files(global: &Global, from: impl Fn(&str) -> Option<String>) -> Option<TlsFiles> {
    let verify = global.tlsverify || from("DOCKER_TLS_VERIFY").is_some();
    let given = global.tlscacert.is_some() || global.tlscert.is_some() || global.tlskey.is_some();
    if !verify && !global.tls && !given {
        return None;
    }
    let directory = match from("DOCKER_CERT_PATH").or_else(|| from("DOCKER_CONFIG")) {
        Some(directory) => PathBuf::from(directory),
        None => Path::new(&from("HOME").unwrap_or_default()).join(".docker"),
    };
    let file = |given: &Option<PathBuf>, name: &str| given.clone().unwrap_or_else(|| directory.join(name));
    let authority = file(&global.tlscacert, "ca.pem");
    let (cert, key) = (file(&global.tlscert, "cert.pem"), file(&global.tlskey, "key.pem"));
    let identity = (cert.exists() || key.exists() || verify).then_some((cert, key));
    Some(TlsFiles { authority: verify.then_some(authority), identity })
}

/// A client whose daemon answers. With `start` it is started if it may be and must be.
pub async fn connect(global: &Global, start: bool) -> Outcome<Client> {
    let place = Place::of(global)?;
    let connector = place.tls.as_ref().map(tls::Tls::read).transpose().of("prepare TLS")?;
    let mut client = Client::new(place.host.clone(), connector);
    match client.greet().await {
        Err(http::ConnectError::Nobody(_)) if start && place.startable => {
            start::daemon(global, &mut client).await?;
        }
        Err(error) => return Err(error.into_failure(&place.host)),
        Ok(()) => {}
    }
    Ok(client)
}
