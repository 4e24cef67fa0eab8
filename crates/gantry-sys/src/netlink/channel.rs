//! Netlink for those who have much to say: batches, and lists of everything.
//!
//! The kernel carries out what it is sent before the send returns, and has answered by then. So nothing is waited for:
//! answers are read until there are none, and where nothing failed there is none to read.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::batch::Batch;
use super::message::{self, Attributes, Request};
use super::{DUMP_ATTEMPTS, MAX_MESSAGES, in_thread, receive, with_options};

/// Bytes received at once: a part of a dump is 32 KiB at most.
const BUFFER: usize = 32 * 1024;
/// Bytes that a socket of default size takes at once, with room for the kernel's own bookkeeping.
const SMALL: usize = 64 * 1024;
/// The most bytes of a batch.
const LARGEST: usize = 64 << 20;

/// Which part of the kernel a channel leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsystem {
    /// Devices, addresses, routes.
    Route,
    /// Packet filters and connections.
    Netfilter,
}

impl Subsystem {
    /// How sockets name it.
    pub(super) fn protocol(self) -> Option<rustix::net::Protocol> {
        match self {
            // Its number is 0, which is the default.
            Self::Route => None,
            Self::Netfilter => Some(rustix::net::netlink::NETFILTER),
        }
    }
}

/// A socket to a part of the kernel, in one network namespace.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
    sequence: u32,
    /// Bytes that the socket takes at once.
    room: usize,
}

/// A message of a batch that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which one, counted from 0.
    pub index: usize,
    /// Why.
    pub errno: Errno,
    /// The kernel's explanation, where it gives one.
    pub detail: Option<String>,
}

impl Channel {
    /// A channel in the calling thread's network namespace.
    pub fn new(subsystem: Subsystem) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, subsystem.protocol())?;
        Ok(Self { fd: with_options(fd), sequence: 0, room: SMALL })
    }

    /// A channel in the network namespace that `namespace` is open on, made by a thread that lives no longer.
    pub fn in_namespace(namespace: BorrowedFd<'_>, subsystem: Subsystem) -> io::Result<Self> {
        in_thread(namespace, || Self::new(subsystem))
    }

    /// Sends a batch, and returns what the kernel refused of it. Route netlink carries out all the rest; netfilter, whose
    /// batch has a begin and an end, carries out all or nothing.
    pub fn submit(&mut self, batch: &mut Batch) -> io::Result<Vec<Refused>> {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(batch.len() as u32);
        let count = batch.len();
        let bytes = batch.numbered(first).ok_or(Errno::MSGSIZE)?;
        self.make_room(bytes.len())?;
        rustix::io::retry_on_intr(|| rustix::net::send(self.fd.as_fd(), bytes, SendFlags::empty()))?;
        let mut refused = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = match receive(self.fd.as_fd(), &mut buffer, RecvFlags::DONTWAIT) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(refused),
                Err(error) => return Err(error),
            };
            for message in message::messages(buffer.get(..length).unwrap_or_default()) {
                let message = message.ok_or(Errno::BADMSG)?;
                let index = message.sequence.wrapping_sub(first) as usize;
                // Whatever answers to an earlier batch is no business of this one.
                let verdict = message.verdict().filter(|verdict| verdict.errno != 0 && index < count);
                if let Some(verdict) = verdict {
                    let errno = Errno::from_raw_os_error(verdict.errno);
                    refused.push(Refused { index, errno, detail: verdict.detail });
                }
            }
        }
    }

    /// Lists what there is: each message goes to `take`, type and payload. `attributes` may narrow the list. `begin` is
    /// called before the list begins, which may be several times, since it is begun anew if it changes meanwhile.
    pub fn list(
        &mut self,
        kind: u16,
        fixed: &[u8],
        attributes: &[(u16, &[u8])],
        begin: &mut dyn FnMut(),
        take: &mut dyn FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        for _ in 0..DUMP_ATTEMPTS {
            begin();
            const NLM_F_DUMP: u16 = 0x300;
            let mut request = Request::new(kind, fixed).flags(NLM_F_DUMP);
            for (kind, value) in attributes {
                request = request.attribute(*kind, value);
            }
            if self.dump(&request, &mut buffer, take)? {
                return Ok(());
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// One pass over a list; false if it changed meanwhile.
    fn dump(&mut self, request: &Request, buffer: &mut [u8], take: &mut dyn FnMut(u16, &[u8])) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(self.sequence).ok_or(Errno::MSGSIZE)?;
        rustix::io::retry_on_intr(|| rustix::net::send(self.fd.as_fd(), &bytes, SendFlags::empty()))?;
        let mut whole = true;
        let mut seen = 0;
        loop {
            let length = receive(self.fd.as_fd(), buffer, RecvFlags::empty())?;
            for message in message::messages(buffer.get(..length).unwrap_or_default()) {
                let message = message.ok_or(Errno::BADMSG)?;
                seen += 1;
                if seen > MAX_MESSAGES {
                    return Err(Errno::TOOBIG.into());
                }
                if message.sequence != self.sequence {
                    continue;
                }
                whole &= !message.is_interrupted();
                match message.verdict() {
                    None => take(message.kind, message.payload),
                    Some(message::Verdict { errno: 0, .. }) => return Ok(whole),
                    Some(message::Verdict { errno, .. }) => return Err(io::Error::from_raw_os_error(errno)),
                }
            }
        }
    }

    /// Lets the socket take that many bytes at once.
    fn make_room(&mut self, length: usize) -> io::Result<()> {
        if length <= self.room {
            return Ok(());
        }
        if length > LARGEST {
            return Err(Errno::MSGSIZE.into());
        }
        let size = (length * 2) as libc::c_int;
        // SAFETY: the value has the size given, and is only read.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDBUFFORCE,
                (&raw const size).cast::<libc::c_void>(),
                size_of_val(&size) as libc::socklen_t,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        self.room = length;
        Ok(())
    }
}

/// The attributes of a message or of an attribute, type and value.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    Attributes(bytes)
}
