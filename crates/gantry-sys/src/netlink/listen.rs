//! What the kernel tells of by itself: changes that whoever made.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use super::channel::Subsystem;
use super::{message, receive};

/// Bytes received at once.
const BUFFER: usize = 32 * 1024;

/// A socket to which the kernel sends what changes, in the network namespace of the thread that made it.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Listener {
    /// Listens to a group of a part of the kernel, by its number, from 1 to 32 (`RTNLGRP_*`, `NFNLGRP_*`).
    pub fn new(subsystem: Subsystem, group: u32) -> io::Result<Self> {
        let bit = group.checked_sub(1).and_then(|bit| 1_u32.checked_shl(bit)).ok_or(Errno::INVAL)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, subsystem.protocol())?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, bit))?;
        Ok(Self { fd })
    }

    /// Takes what was sent until now: each message goes to `take`, type and payload. False if the kernel had to leave
    /// something out, since it was not taken in time. Never waits.
    pub fn take(&self, take: &mut dyn FnMut(u16, &[u8])) -> io::Result<bool> {
        let mut buffer = vec![0; BUFFER];
        let mut whole = true;
        loop {
            let length = match receive(self.as_fd(), &mut buffer, RecvFlags::DONTWAIT) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(whole),
                Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOBUFS | Errno::MSGSIZE)) => {
                    whole = false;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for message in message::messages(buffer.get(..length).unwrap_or_default()) {
                match message {
                    Some(message) => take(message.kind, message.payload),
                    None => whole = false,
                }
            }
        }
    }
}
