//! Clients at the streams of a container.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;

use gantry_model::monitor::{Attach, Request};
use tokio::net::UnixStream;

use crate::engine::Engine;
use crate::error::{Context, Error, Result};
use crate::monitor::Connection;
use crate::request::Streams;
use crate::table::lock;

/// A client that is attached.
#[derive(Debug)]
pub struct Attached {
    /// What is written to it is typed, what is read from it was written by the process: as it is if there is a terminal, else
    /// in frames: stream, three zero bytes, length as four big-endian bytes, data. Its end is the process's.
    pub socket: UnixStream,
    /// Whether the process has a terminal.
    pub terminal: bool,
}

impl From<Streams> for Attach {
    fn from(streams: Streams) -> Self {
        Self { stdin: streams.stdin, stdout: streams.stdout, stderr: streams.stderr }
    }
}

/// The two ends of a client's connection: that of the client, and that of the process.
pub(crate) fn pair() -> Result<(UnixStream, OwnedFd)> {
    let what = || "make a socket".to_owned();
    let (ours, theirs) = StdStream::pair().context(what)?;
    ours.set_nonblocking(true).context(what)?;
    Ok((UnixStream::from_std(ours).context(what)?, theirs.into()))
}

impl Engine {
    /// Attaches a client to a container: to the process that runs, or to the next one.
    pub async fn attach(&self, asked: &str, streams: Streams) -> Result<Attached> {
        let container = self.find(asked)?;
        // Not while it is being started: then there is no saying who passes the client on.
        let _life = container.hold().await?;
        let (socket, theirs) = pair()?;
        let terminal = container.record().config.terminal;
        if container.state().status.is_running() {
            attach(&self.run_dir(&container.id).join("monitor"), streams, theirs).await?;
        } else {
            lock(&container.early).push((streams.into(), theirs));
        }
        self.tell_of(&container, "attach", &[]);
        Ok(Attached { socket, terminal })
    }

    /// Gives a container's terminal a size.
    pub async fn resize(&self, asked: &str, rows: u16, columns: u16) -> Result<()> {
        let container = self.find(asked)?;
        if !container.state().status.is_running() {
            return Err(Error::Conflict(format!("Container {} is not running", container.id)));
        }
        resize(&self.run_dir(&container.id).join("monitor"), rows, columns).await?;
        let size = [("height", rows.to_string()), ("width", columns.to_string())];
        self.tell_of(&container, "resize", &size);
        Ok(())
    }
}

/// Hands a client to a monitor.
pub(crate) async fn attach(monitor: &Path, streams: Streams, client: OwnedFd) -> Result<()> {
    let Attach { stdin, stdout, stderr } = streams.into();
    let request = Request::Attach { stdin, stdout, stderr };
    if ask(monitor, request, Some(client)).await? {
        return Ok(());
    }
    Err(Error::Conflict("there are too many clients attached".to_owned()))
}

/// Gives a terminal a size.
pub(crate) async fn resize(monitor: &Path, rows: u16, columns: u16) -> Result<()> {
    if ask(monitor, Request::Resize { rows, columns }, None).await? {
        return Ok(());
    }
    Err(Error::Conflict("it has no terminal to resize".to_owned()))
}

async fn ask(monitor: &Path, request: Request, client: Option<OwnedFd>) -> Result<bool> {
    let what = || format!("ask the monitor at {}", monitor.display());
    Connection::open(monitor).context(what)?.ask(request, client).await.context(what)
}
