//! The socket between the runtime and the container's process.
//!
//! A sequenced-packet socket: a message arrives whole or not at all. Each is bounded, and its length is checked before
//! anything of it is used: the far end may be a process that the container's author has begun to influence.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType, recvmsg,
    send, socketpair,
};

/// The longest message, in bytes.
const MAX_MESSAGE: usize = 4 * 1024;

/// What the two tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Init has come to the runtime's step of this number, and waits.
    Reached(u32),
    /// Init may go on.
    Go,
    /// The network namespace of the container, whose descriptor comes along.
    Network,
    /// The container is recorded with its process.
    Recorded,
    /// A step failed; the sender ends.
    Failed {
        /// What was being done; empty where the cause says it all.
        step: String,
        /// Why it failed.
        cause: String,
    },
    /// The notify descriptor of the filter, by its number in the sender.
    NotifyFd(i32),
    /// The container's process, made by an intermediate one.
    Pid(i32),
}

impl Message {
    fn encode(&self) -> Vec<u8> {
        let number = |kind: u8, n: u32| [&[kind][..], &n.to_le_bytes()].concat();
        match self {
            Self::Reached(step) => number(1, *step),
            Self::Go => vec![2],
            Self::Recorded => vec![6],
            Self::Network => vec![7],
            Self::Failed { step, cause } => {
                let cut = |text: &str| text.bytes().take(MAX_MESSAGE / 2 - 8).collect::<Vec<u8>>();
                let (step, cause) = (cut(step), cut(cause));
                [&number(3, step.len() as u32)[..], &step, &cause].concat()
            }
            Self::NotifyFd(fd) => number(4, *fd as u32),
            Self::Pid(pid) => number(5, *pid as u32),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let number = |bytes: &[u8]| Some(u32::from_le_bytes(bytes.try_into().ok()?));
        match kind {
            1 => Some(Self::Reached(number(rest)?)),
            2 if rest.is_empty() => Some(Self::Go),
            6 if rest.is_empty() => Some(Self::Recorded),
            7 if rest.is_empty() => Some(Self::Network),
            3 => {
                let (len, texts) = rest.split_at_checked(4)?;
                let (step, cause) = texts.split_at_checked(number(len)? as usize)?;
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                Some(Self::Failed { step: text(step), cause: text(cause) })
            }
            4 => Some(Self::NotifyFd(number(rest)? as i32)),
            5 => Some(Self::Pid(number(rest)? as i32)),
            _ => None,
        }
    }
}

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Makes a connected pair.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(a), Self(b)))
    }

    /// Takes a connected socket of that type.
    pub(crate) fn from_socket(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Waits for the far end without a limit from here on.
    pub(crate) fn wait_for_ever(&self) -> io::Result<()> {
        Ok(set_socket_timeout(&self.0, Timeout::Recv, None)?)
    }

    /// Sends a message.
    pub(crate) fn send(&self, message: &Message) -> io::Result<()> {
        send(&self.0, &message.encode(), SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Sends a message with a descriptor.
    pub(crate) fn send_with(&self, message: &Message, fd: BorrowedFd<'_>) -> io::Result<()> {
        crate::console::send_descriptor(self.0.as_fd(), fd, &message.encode())
    }

    /// Waits for a message; none means that the far end is closed.
    pub(crate) fn receive(&self) -> io::Result<Option<Message>> {
        Ok(self.receive_with()?.map(|(message, _)| message))
    }

    /// Waits for a message, and the descriptor that comes with it if one does.
    pub(crate) fn receive_with(&self) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut receive = || {
            rustix::io::retry_on_intr(|| {
                let mut parts = [IoSliceMut::new(&mut buffer)];
                recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC | RecvFlags::TRUNC)
            })
        };
        // A far end that went away with something unread is told of once, before what it said last: why it failed.
        let received = match receive() {
            Err(Errno::CONNRESET) => receive(),
            result => result,
        };
        let length = match received {
            Err(Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok(received) if received.bytes == 0 => return Ok(None),
            Ok(received) => received.bytes,
        };
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let message = buffer.get(..length).and_then(Message::decode);
        let message = message.ok_or_else(|| io::Error::other("malformed message from the container's process"))?;
        Ok(Some((message, fd)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_way() {
        let (a, b) = Channel::pair().unwrap();
        let long = "x".repeat(100_000);
        for message in [
            Message::Reached(7),
            Message::Go,
            Message::Recorded,
            Message::Network,
            Message::Failed { step: "mount proc".into(), cause: "permission denied".into() },
            Message::NotifyFd(-1),
            Message::Pid(4_194_304),
        ] {
            a.send(&message).unwrap();
            assert_eq!(b.receive().unwrap(), Some(message));
        }
        a.send(&Message::Failed { step: long.clone(), cause: long }).unwrap();
        assert!(matches!(b.receive().unwrap(), Some(Message::Failed { .. })), "cut, but whole");
        drop(a);
        assert_eq!(b.receive().unwrap(), None);
    }

    #[test]
    fn last_words_are_heard() {
        let (a, b) = Channel::pair().unwrap();
        let last = Message::Failed { step: "mount proc".into(), cause: "permission denied".into() };
        a.send(&Message::Recorded).unwrap();
        b.send(&last).unwrap();
        drop(b);
        assert_eq!(a.receive().unwrap(), Some(last));
        assert_eq!(a.receive().unwrap(), None);
    }

    #[test]
    fn malformed_messages_are_refused() {
        let check = |bytes: &[u8]| assert_eq!(Message::decode(bytes), None, "{bytes:?}");
        for bytes in [&[][..], &[0], &[1], &[1, 0, 0], &[1, 0, 0, 0, 0, 0], &[2, 0], &[3, 255, 255, 255, 255, 0], &[9]]
        {
            check(bytes);
        }
        let (a, b) = Channel::pair().unwrap();
        send(&a.0, &vec![1u8; MAX_MESSAGE + 1], SendFlags::NOSIGNAL).unwrap();
        assert!(b.receive().is_err(), "a message beyond the bound");
    }
}
