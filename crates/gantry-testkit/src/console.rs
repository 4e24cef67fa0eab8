//! The other end of a console socket: takes the pseudo-terminal that a runtime sends, and reads what comes from it.

use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::outcome::{Outcome, fail};

/// A listening console socket.
pub struct ConsoleSocket {
    listener: UnixListener,
}

impl ConsoleSocket {
    /// Makes the socket at `path`.
    pub fn bind(path: &Path) -> io::Result<Self> {
        Ok(Self { listener: UnixListener::bind(path)? })
    }

    /// Takes the descriptors that come with the next message, and the message.
    pub fn receive(&self, limit: Duration) -> Outcome<(Vec<OwnedFd>, Vec<u8>)> {
        if !readable(&self.listener, limit)? {
            return fail(format!("nobody connected to the socket within {limit:?}"));
        }
        let (stream, _) = self.listener.accept()?;
        if !readable(&stream, limit)? {
            return fail(format!("nothing came over the socket within {limit:?}"));
        }
        let mut bytes = vec![0; 64 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        bytes.truncate(got.bytes);
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        Ok((fds, bytes))
    }

    /// Takes the pseudo-terminal.
    pub fn terminal(&self, limit: Duration) -> Outcome<File> {
        let (mut fds, _) = self.receive(limit)?;
        match fds.len() {
            1 => Ok(File::from(fds.remove(0))),
            count => fail(format!("{count} descriptors came over the console socket, expected 1")),
        }
    }
}

/// Reads from a pseudo-terminal until its last user closed it, `until` was seen, or the time is over.
pub fn read_terminal(terminal: &mut File, until: &str, limit: Duration) -> Outcome<String> {
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.contains(until) {
        if !readable(&*terminal, limit)? {
            return fail(format!("terminal silent for {limit:?}; so far {text:?}"));
        }
        match terminal.read(&mut bytes) {
            // EIO: nobody has the other end any more.
            Ok(0) | Err(_) => break,
            Ok(count) => text.push_str(&String::from_utf8_lossy(&bytes[..count])),
        }
    }
    Ok(text)
}

/// Whether there is something to read, or the other side is gone, within `limit`.
pub fn readable(fd: &impl std::os::fd::AsFd, limit: Duration) -> io::Result<bool> {
    let time = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
    Ok(poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&time))? > 0)
}
