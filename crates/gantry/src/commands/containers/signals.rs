//! Signals that come to a command while something runs in a container for it: they are handed on, and a terminal that
//! changes its size tells the one in the container.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::{Client, Request, Target};
use crate::failure::{Failure, Outcome};
use crate::terminal;

/// After so many requests to end, they are for this program.
const PATIENCE: u32 = 3;
/// How often a terminal is told its size again, if it is not there yet.
const TRIES: u64 = 10;

/// What is told the size of the terminal.
#[derive(Clone, Debug)]
pub enum Sized {
    /// A container.
    Container(String),
    /// A command in one.
    Exec(String),
}

/// What is done with signals.
#[derive(Clone, Debug, Default)]
pub struct Proxy {
    /// The container that gets them; none leaves them to this program.
    pub container: Option<String>,
    /// What is told the size of the terminal.
    pub sized: Option<Sized>,
    /// Whether the terminal is set to hand on every key, and must be set back before this program ends.
    pub raw: bool,
}

/// The signals that are asked for, each with its name.
struct Heard(Vec<(&'static str, Signal)>);

impl Heard {
    fn new(proxy: &Proxy) -> io::Result<Self> {
        let mut kinds = vec![];
        if proxy.container.is_some() || proxy.raw {
            kinds.extend([
                ("HUP", SignalKind::hangup()),
                ("INT", SignalKind::interrupt()),
                ("QUIT", SignalKind::quit()),
                ("TERM", SignalKind::terminate()),
            ]);
        }
        if proxy.container.is_some() {
            kinds.extend([
                ("USR1", SignalKind::user_defined1()),
                ("USR2", SignalKind::user_defined2()),
                ("ALRM", SignalKind::alarm()),
            ]);
        }
        if proxy.sized.is_some() {
            kinds.push(("WINCH", SignalKind::window_change()));
        }
        kinds.into_iter().map(|(name, kind)| Ok((name, signal(kind)?))).collect::<io::Result<_>>().map(Self)
    }

    async fn next(&mut self) -> &'static str {
        std::future::poll_fn(|context| {
            for (name, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*name);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// Listens from now on, so that no signal is lost until [`Ears::serve`] hands it on.
pub struct Ears {
    heard: Heard,
    proxy: Proxy,
}

impl Ears {
    /// Begins to listen.
    pub fn open(proxy: Proxy) -> Outcome<Self> {
        Ok(Self { heard: Heard::new(&proxy)?, proxy })
    }

    /// Hands signals on for as long as it is waited for. Ends only to end the command.
    pub async fn serve<T>(mut self, client: &Client) -> Outcome<T> {
        let mut asked = 0;
        loop {
            let name = self.heard.next().await;
            if name == "WINCH" {
                if let Some(sized) = &self.proxy.sized {
                    let _ = resize(client, sized).await;
                }
                continue;
            }
            let status = match name {
                "HUP" => 129,
                "INT" => 130,
                "QUIT" => 131,
                _ => 143,
            };
            let Some(container) = &self.proxy.container else { return Err(Failure::Interrupted(status)) };
            asked += u32::from(matches!(name, "INT" | "TERM"));
            if asked > PATIENCE {
                return Err(Failure::Interrupted(status));
            }
            // It may have ended meanwhile.
            let target = Target::new(&["containers", container, "kill"]).with("signal", name);
            drop(client.bytes(Request::post(target)).await);
        }
    }
}

/// Tells a terminal its size, once.
async fn resize(client: &Client, sized: &Sized) -> Outcome {
    let Some((rows, columns)) = terminal::size() else { return Ok(()) };
    let target = match sized {
        Sized::Container(id) => Target::new(&["containers", id, "resize"]),
        Sized::Exec(id) => Target::new(&["exec", id, "resize"]),
    };
    let target = target.with("h", &rows.to_string()).with("w", &columns.to_string());
    client.bytes(Request::post(target)).await.map(drop)
}

/// Tells a terminal its size, which may not be there yet.
pub async fn first_size(client: &Client, sized: &Sized) {
    for again in 1..=TRIES {
        if resize(client, sized).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10 * again)).await;
    }
    terminal::tell("failed to resize tty, using default size\n");
}
