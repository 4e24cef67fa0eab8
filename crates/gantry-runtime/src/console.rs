//! Descriptors over unix sockets: a terminal's master end on its way to whoever asked for it, listeners of filters, the
//! pidfd for `--pidfd-socket`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// The text that goes with a terminal: receivers take it for the file's name.
const TERMINAL_NAME: &[u8] = b"/dev/ptmx";

/// Connects to the unix stream socket at `path`, however long the path is.
///
/// # Errors
/// There is no socket, nobody listens, or it is not permitted.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    match SocketAddrUnix::new(path) {
        Ok(address) => retry_on_intr(|| rustix::net::connect(&socket, &address))?,
        // An address holds 108 bytes; the link of a descriptor is a short name of the same file.
        Err(rustix::io::Errno::NAMETOOLONG) => {
            let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
            retry_on_intr(|| rustix::net::connect(&socket, &address))?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(socket)
}

/// Sends a terminal's master end.
///
/// # Errors
/// As [`send_descriptor`].
pub fn send_terminal(socket: BorrowedFd<'_>, master: BorrowedFd<'_>) -> io::Result<()> {
    send_descriptor(socket, master, TERMINAL_NAME)
}

/// Sends a descriptor, with a text of at least a byte that goes along.
///
/// # Errors
/// The other end is closed, or its queue is full and the socket does not block.
pub fn send_descriptor(socket: BorrowedFd<'_>, descriptor: BorrowedFd<'_>, text: &[u8]) -> io::Result<()> {
    let descriptors = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if text.is_empty() || !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let data = [IoSlice::new(text)];
    let sent = retry_on_intr(|| rustix::net::sendmsg(socket, &data, &mut control, SendFlags::NOSIGNAL))?;
    // The descriptor went with the first byte; the text is shorter than any socket's buffer.
    if sent == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives one descriptor, close-on-exec.
///
/// # Errors
/// The other end is closed (`UnexpectedEof`), or what came is not exactly one descriptor (`InvalidData`).
pub fn receive_descriptor(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut text = [0; 4096];
    // Room for a second one, so that too many are noticed, and closed.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut data = [IoSliceMut::new(&mut text)];
    let got = retry_on_intr(|| rustix::net::recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let mut received = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            received.extend(descriptors);
        }
    }
    if got.flags.contains(ReturnFlags::CTRUNC) || received.len() > 1 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let closed = if got.bytes == 0 { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::InvalidData };
    received.pop().ok_or_else(|| closed.into())
}

/// Receives a terminal's master end.
///
/// # Errors
/// As [`receive_descriptor`], and `InvalidData` if it is no terminal.
pub fn receive_terminal(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let master = receive_descriptor(socket)?;
    if rustix::termios::isatty(master.as_fd()) { Ok(master) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
        result.err().map(|e| e.kind())
    }

    #[test]
    fn terminals_travel() {
        let (here, there) = UnixStream::pair().unwrap();
        let master = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
        send_terminal(here.as_fd(), master.as_fd()).unwrap();
        let got = receive_terminal(there.as_fd()).unwrap();
        let name = |fd: BorrowedFd<'_>| rustix::pty::ptsname(fd, Vec::new()).unwrap();
        assert_eq!(name(got.as_fd()), name(master.as_fd()));
        assert!(rustix::io::fcntl_getfd(&got).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn what_is_no_terminal_is_refused() {
        let (here, there) = UnixStream::pair().unwrap();
        let file = fs::File::open("/dev/null").unwrap();
        send_descriptor(here.as_fd(), file.as_fd(), b"x").unwrap();
        assert_eq!(kind(receive_terminal(there.as_fd())), Some(io::ErrorKind::InvalidData));
        rustix::net::send(&here, b"no descriptor", SendFlags::NOSIGNAL).unwrap();
        assert_eq!(kind(receive_descriptor(there.as_fd())), Some(io::ErrorKind::InvalidData));
        let two = [file.as_fd(), file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&two)));
        rustix::net::sendmsg(&here, &[IoSlice::new(b"x")], &mut control, SendFlags::NOSIGNAL).unwrap();
        assert_eq!(kind(receive_descriptor(there.as_fd())), Some(io::ErrorKind::InvalidData));
        drop(here);
        assert_eq!(kind(receive_descriptor(there.as_fd())), Some(io::ErrorKind::UnexpectedEof));
        assert_eq!(kind(send_descriptor(there.as_fd(), file.as_fd(), b"x")), Some(io::ErrorKind::BrokenPipe));
        assert_eq!(kind(send_descriptor(there.as_fd(), file.as_fd(), b"")), Some(io::ErrorKind::InvalidInput));
    }

    #[test]
    fn long_paths_are_reached() {
        let base = std::env::temp_dir().join(format!("gantry-console-{}", std::process::id()));
        let dir = base.join("d".repeat(120));
        fs::create_dir_all(&dir).unwrap();
        // Bound by a short name, as the listener has to be, and moved to where the name is long.
        let listener = UnixListener::bind(base.join("s")).unwrap();
        fs::rename(base.join("s"), dir.join("s")).unwrap();
        let connected = connect(&dir.join("s"));
        let missing = kind(connect(&dir.join("none")));
        fs::remove_dir_all(&base).unwrap();
        connected.unwrap();
        listener.accept().unwrap();
        assert_eq!(missing, Some(io::ErrorKind::NotFound));
    }
}
