//! Who is connected to a monitor: those who ask, and the sockets that they joined to the process's streams.
//!
//! There are few of them, and bounded: a monitor is small, and serves one process.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gantry_model::logrecord::Stream;
use gantry_model::monitor::{DONE, REFUSED, Request};
use rustix::fs::OFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg,
};

/// The most connections, and the most attached sockets.
pub const MAX: usize = 32;

/// A connection of someone who may ask.
#[derive(Debug)]
pub struct Connection(OwnedFd);

/// What came over a connection.
#[derive(Debug)]
pub enum Asked {
    /// A request, with the socket that came along.
    Request(Request, Option<OwnedFd>),
    /// Nothing at present.
    Later,
    /// It is closed, or what came makes no sense.
    Gone,
}

impl Connection {
    /// A connection that was accepted.
    pub const fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// The next request.
    pub fn receive(&self) -> Asked {
        let mut packet = [0; Request::MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let got = {
            let mut data = [io::IoSliceMut::new(&mut packet)];
            retry_on_intr(|| recvmsg(&self.0, &mut data, &mut control, flags))
        };
        let got = match got {
            Ok(got) => got,
            Err(Errno::AGAIN) => return Asked::Later,
            Err(_) => return Asked::Gone,
        };
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                sockets.extend(fds);
            }
        }
        if got.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC) || sockets.len() > 1 {
            return Asked::Gone;
        }
        Request::decode(&packet[..got.bytes]).map_or(Asked::Gone, |request| Asked::Request(request, sockets.pop()))
    }

    /// Answers a request.
    pub fn answer(&self, done: bool) {
        self.say(if done { DONE } else { REFUSED });
    }

    /// Sends a packet. One who does not listen misses it.
    pub fn say(&self, packet: &[u8]) {
        let _ = retry_on_intr(|| rustix::net::send(&self.0, packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT));
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A socket that is joined to the process's streams.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    /// Whether what is read from it goes to standard input.
    pub input: bool,
    streams: [bool; 2],
    /// Bytes of the present output, its frame counted, that were written to it; none if all were, or none are for it.
    sent: Option<usize>,
}

impl Client {
    /// Joins a socket. It must not hold up the others, so it does not block.
    ///
    /// # Errors
    /// It is no open descriptor.
    pub fn new(socket: OwnedFd, stdin: bool, stdout: bool, stderr: bool) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&socket)?;
        rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK)?;
        Ok(Self { socket, input: stdin, streams: [stdout, stderr], sent: None })
    }

    /// Whether some of the present output is still to be written to it.
    pub const fn is_behind(&self) -> bool {
        self.sent.is_some()
    }

    /// Says that there is new output.
    pub fn begin(&mut self, stream: Stream) {
        self.sent = self.streams[usize::from(stream.number()) - 1].then_some(0);
    }

    /// Writes of the present output what it takes; false if it is gone.
    pub fn push(&mut self, head: &[u8], data: &[u8]) -> bool {
        while let Some(sent) = self.sent {
            let (head, data) = (&head[sent.min(head.len())..], &data[sent.saturating_sub(head.len())..]);
            if head.is_empty() && data.is_empty() {
                self.sent = None;
                break;
            }
            let parts = [IoSlice::new(head), IoSlice::new(data)];
            let mut control = SendAncillaryBuffer::default();
            match retry_on_intr(|| sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL)) {
                Ok(count) => self.sent = Some(sent + count),
                Err(Errno::AGAIN) => break,
                Err(_) => return false,
            }
        }
        true
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    #[test]
    fn output_arrives_whole_however_slowly_it_is_read() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = Client::new(ours.into(), false, true, false).unwrap();
        let data: Vec<u8> = (0..3_000_000).map(|n: u32| n as u8).collect();
        let head = *b"headhead";
        client.begin(Stream::Stderr);
        assert!(!client.is_behind(), "it did not ask for errors");
        client.begin(Stream::Stdout);
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; 3_000_008];
            theirs.read_exact(&mut all).unwrap();
            (all, theirs)
        });
        while client.is_behind() {
            assert!(client.push(&head, &data));
            std::thread::yield_now();
        }
        let (all, theirs) = reader.join().unwrap();
        assert!(all[..8] == head && all[8..] == data);
        drop(theirs);
        client.begin(Stream::Stdout);
        assert!(!client.push(&head, &data));
    }

    #[test]
    fn what_is_no_request_ends_a_connection() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let connection = Connection::new(ours.into());
        assert!(matches!(connection.receive(), Asked::Later));
        theirs.write_all(b"C").unwrap();
        assert!(matches!(connection.receive(), Asked::Request(Request::CloseStdin, None)));
        theirs.write_all(b"nonsense").unwrap();
        assert!(matches!(connection.receive(), Asked::Gone));
        drop(theirs);
        assert!(matches!(connection.receive(), Asked::Gone));
    }
}
