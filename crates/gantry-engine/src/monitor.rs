//! The engine's side of monitors: starts them, asks them, and learns from them how a process ended.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use gantry_model::monitor::{DONE, Exit, Launch, Ready, Request};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Interest};
use tokio::net::UnixStream;

use crate::error::{Context, Error, Result};

/// The longest first word of a monitor in bytes.
const MAX_READY: u64 = 64 << 10;
/// The longest record of an exit in bytes.
const MAX_EXIT: usize = 4 << 10;

/// Starts a monitor with a launch document at `path`. Returns the process that it looks after: a container's own waits to
/// be started. The client's socket is attached as the document says.
pub(crate) async fn spawn(program: &Path, path: &Path, launch: &Launch, client: Option<OwnedFd>) -> Result<i32> {
    let text = serde_json::to_vec(launch).unwrap_or_default();
    std::fs::write(path, text).context(|| format!("write {}", path.display()))?;
    let mut command = tokio::process::Command::new(program);
    command.arg("monitor").arg(path).stdout(Stdio::piped());
    command.stdin(client.map_or_else(Stdio::null, Stdio::from));
    let mut child = command.spawn().context(|| format!("start {}", program.display()))?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        let read = BufReader::new(out.take(MAX_READY)).read_line(&mut line).await;
        read.context(|| "read what the monitor says".to_owned())?;
    }
    // Who looks after it is the monitor's business from here on; its end is reaped by the runtime of this program.
    match serde_json::from_str::<Ready>(&line) {
        Ok(Ready::Pid(pid)) => Ok(pid),
        Ok(Ready::Error(cause)) => Err(failed(&cause)),
        Err(_) => {
            let status = child.wait().await.context(|| "wait for the monitor".to_owned())?;
            Err(failed(&format!("the monitor ended with {status} and said nothing")))
        }
    }
}

/// The error for a process that could not be made, with the exit status that shells have for its reason.
pub(crate) fn failed(cause: &str) -> Error {
    let has = |words: &[&str]| words.iter().any(|word| cause.contains(word));
    let code = if !cause.contains("exec") {
        128
    } else if has(&["No such file or directory", "not found", "no such file"]) {
        127
    } else if has(&["Permission denied", "permission denied", "Exec format error", "is a directory"]) {
        126
    } else {
        128
    };
    Error::Start { cause: cause.to_owned(), code }
}

/// A connection to a monitor. The socket is one of packets, and treated as such.
#[derive(Debug)]
pub(crate) struct Connection(UnixStream);

impl Connection {
    /// Connects to the monitor that listens at a path of any length.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let parent = path.parent().unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(parent, flags, Mode::empty())?;
        let name = path.file_name().unwrap_or_default();
        let mut address = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        address.push(name);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&address)?)?;
        Ok(Self(UnixStream::from_std(socket.into())?))
    }

    /// The next packet; empty at the end.
    async fn receive(&self, packet: &mut [u8]) -> io::Result<usize> {
        let receive = || Ok(rustix::net::recv(&self.0, &mut *packet, RecvFlags::empty())?.0);
        self.0.async_io(Interest::READABLE, receive).await
    }

    /// Asks for something; whether it was done.
    pub(crate) async fn ask(&self, request: Request, socket: Option<OwnedFd>) -> io::Result<bool> {
        let (packet, length) = request.encode();
        let fds: Vec<_> = socket.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let data = [IoSlice::new(&packet[..length])];
        rustix::net::sendmsg(&self.0, &data, &mut control, SendFlags::NOSIGNAL)?;
        drop(socket);
        let mut answer = [0; MAX_EXIT];
        let got = self.receive(&mut answer).await?;
        Ok(&answer[..got] == DONE)
    }

    /// Waits for the end of the process; none if the monitor is gone without having said it.
    pub(crate) async fn exit(&self) -> Option<Exit> {
        let mut packet = [0; MAX_EXIT];
        loop {
            match self.receive(&mut packet).await {
                Ok(0) | Err(_) => return None,
                Ok(got) => {
                    if let Ok(exit) = serde_json::from_slice(&packet[..got]) {
                        return Some(exit);
                    }
                }
            }
        }
    }
}

/// How long a monitor that was left alone may take to end.
const END: std::time::Duration = std::time::Duration::from_secs(15);

/// Waits until the monitor of a launch document is gone, and keeps others from beginning with it as long as what is returned
/// is kept; none if there is no document.
pub(crate) async fn until_gone(path: &Path) -> Option<std::fs::File> {
    let file = std::fs::File::open(path).ok()?;
    let until = tokio::time::Instant::now() + END;
    while rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        if tokio::time::Instant::now() > until {
            tracing::warn!("who holds {} does not end", path.display());
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Some(file)
}

/// The record of an exit, if there is one.
pub(crate) fn read_exit(path: &Path) -> Option<Exit> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
