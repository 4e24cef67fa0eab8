//! `registry ls`, `registry tags` and `registry serve`.

use std::net::{SocketAddr, ToSocketAddrs};

use gantry_registry::{Auth, Config, Registry, Scheme, Span, Tls};
use tokio::signal::unix::{SignalKind, signal};

use super::login;
use crate::cli::registry::{Ls, Serve, Tags};
use crate::context::{self, Context};
use crate::failure::{Failure, Of, Outcome};
use crate::terminal;

/// Lists the repositories of a registry.
pub fn ls(context: &Context, args: &Ls) -> Outcome {
    let registry = login::host(Some(&args.registry))?;
    let client = context.client()?;
    let list = context::run(async { client.catalog(&registry).await.of(format!("list {registry}")) })?;
    print(&list, args.json)
}

/// Lists the tags of a repository.
pub fn tags(context: &Context, args: &Tags) -> Outcome {
    if args.repository.tag().is_some() || args.repository.digest().is_some() {
        let text = format!("{} has a tag or a digest: give the name of a repository", args.repository.familiar());
        return Err(Failure::Usage(text));
    }
    let client = context.client()?;
    let what = || format!("list the tags of {}", args.repository.familiar());
    let list = context::run(async { client.tags(&args.repository).await.of(what()) })?;
    print(&list, args.json)
}

fn print(list: &[String], json: bool) -> Outcome {
    if json {
        return terminal::print(&(serde_json::to_string(list)? + "\n"));
    }
    terminal::print(&list.iter().fold(String::new(), |out, one| out + &one.replace(char::is_control, "?") + "\n"))
}

/// Is a registry until a signal ends it.
pub fn serve(context: &Context, args: &Serve) -> Outcome {
    let config = config(context, args)?;
    let tls = config.tls.is_some();
    let runtime = context::runtime()?;
    let outcome = runtime.block_on(async {
        let mut hangup = signal(SignalKind::hangup())?;
        let registry = Registry::start(config).await?;
        let address = registry.address();
        // Whoever started it may wait for this line, and knows then that it can connect.
        terminal::print(&format!("listening on {}://{address}\n", if tls { "https" } else { "http" }))?;
        let mut ended = std::pin::pin!(context::ended());
        loop {
            tokio::select! {
                outcome = &mut ended => {
                    outcome?;
                    break;
                }
                _ = hangup.recv() => {
                    if let Err(error) = registry.reload() {
                        tracing::error!(%error, "the certificates stay as they are");
                    }
                }
            }
        }
        terminal::tell("stopping: no new connections, transfers may end\n");
        registry.stop().await;
        Ok(())
    });
    runtime.shutdown_background();
    outcome
}

/// What the file says, and over it what the flags do.
fn config(context: &Context, args: &Serve) -> Outcome<Config> {
    let mut config = match &args.config {
        Some(file) => Config::read(file)?,
        None => Config::default(),
    };
    if let Some(listen) = &args.listen {
        config.listen = address(listen)?;
    }
    match (&args.root, &args.config) {
        (Some(root), _) => config.storage.root.clone_from(root),
        (None, None) => config.storage.root = context.root(&context.config()?)?.join("registry"),
        (None, Some(_)) => {}
    }
    if let Some(htpasswd) = &args.htpasswd {
        match &mut config.auth {
            Some(auth) => auth.htpasswd.clone_from(htpasswd),
            None => {
                config.auth = Some(Auth {
                    htpasswd: htpasswd.clone(),
                    scheme: Scheme::default(),
                    token_ttl: Span::seconds(300),
                    rules: Vec::new(),
                });
            }
        }
    }
    if let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) {
        config.tls = Some(Tls { certificate: certificate.clone(), key: key.clone() });
    }
    config.insecure_open |= args.insecure_open;
    config.check()?;
    Ok(config)
}

/// `127.0.0.1:5000`, `localhost:5000` or `:5000`, which is on loopback.
fn address(text: &str) -> Outcome<SocketAddr> {
    let full = if text.starts_with(':') { format!("127.0.0.1{text}") } else { text.to_owned() };
    let found = full.parse().ok().or_else(|| full.to_socket_addrs().ok()?.next());
    found.ok_or_else(|| {
        Failure::Usage(format!("invalid value {text:?} for --listen: write ADDRESS:PORT, such as 127.0.0.1:5000"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(address(text).ok().map(|a| a.to_string()).as_deref(), expect, "{text}");
        };
        check("127.0.0.1:5000", Some("127.0.0.1:5000"));
        check("[::1]:0", Some("[::1]:0"));
        check(":5000", Some("127.0.0.1:5000"));
        check("0.0.0.0:443", Some("0.0.0.0:443"));
        for text in ["", "5000", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "http://127.0.0.1:1"] {
            check(text, None);
        }
    }
}
