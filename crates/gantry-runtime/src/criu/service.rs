//! Runs CRIU as a service for one request, and carries the conversation with it.

use std::ffi::OsStr;
use std::io::{IoSlice, IoSliceMut, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use gantry_sys::clone::{ForkOptions, Forked, exit_now, fork};
use rustix::fs::OFlags;
use rustix::io::{FdFlags, fcntl_setfd, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, SocketFlags,
    SocketType, recvmsg, send, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::option::{Directories, Feature, Kind, Opt, Response, feature_request, go_on, request};
use crate::error::{Context, Error, Result, cause_text};
use crate::interp::paths::open_host;

/// The longest message that is taken, in bytes; CRIU's own are far shorter.
const MAX_MESSAGE: usize = 64 << 10;
/// The most of a log that is searched for errors, in bytes from its end.
const LOG_TAIL: u64 = 256 << 10;
/// The most lines of the log in a message.
const LOG_LINES: usize = 6;
/// Where it is looked for besides the search path, which callers often leave without the administrator's directories.
const PLACES: [&str; 3] = ["criu", "/usr/sbin/criu", "/usr/local/sbin/criu"];

/// A point that CRIU has reached and waits at.
pub(crate) struct Event<'a> {
    /// Its name.
    pub(crate) script: &'a str,
    /// The process that it is about.
    pub(crate) pid: Option<i32>,
    /// What came along: the master of a terminal.
    pub(crate) descriptor: Option<OwnedFd>,
}

/// Paths of the directories that CRIU works with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    /// Where the images are.
    pub(crate) images: &'a str,
    /// Where the log goes, if not there.
    pub(crate) work: Option<&'a str>,
}

/// A running CRIU. Dropped, its end is waited for: without the other end of the conversation it gives up.
pub(crate) struct Service {
    socket: Option<OwnedFd>,
    directories: Directories,
    pid: i32,
    pidfd: OwnedFd,
}

impl Service {
    /// Starts it. `prepare` runs in its process before, and `inherited` descriptors stay open in it.
    pub(crate) fn start(
        places: Option<Places<'_>>,
        inherited: &[BorrowedFd<'_>],
        prepare: impl FnOnce() -> Result<(), String>,
    ) -> Result<Self> {
        let what = || "start criu";
        let pair = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair().context(what)?;
        let (told, tell) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
        match fork(&ForkOptions::default()).context(what)? {
            Forked::Child => {
                let error = match prepare().and_then(|()| hand_out(places, theirs.as_fd()).map_err(|e| e.to_string())) {
                    Ok(handed) => become_criu(&handed, inherited),
                    Err(error) => error,
                };
                let _ = rustix::io::write(&tell, error.as_bytes());
                exit_now(1)
            }
            Forked::Parent { pid, pidfd } => {
                drop((theirs, tell));
                let mut service = Self { socket: None, directories: Directories::default(), pid, pidfd };
                let mut error = String::new();
                std::fs::File::from(told).take(MAX_MESSAGE as u64).read_to_string(&mut error).context(what)?;
                if !error.is_empty() {
                    return Err(Error::Unsupported(error));
                }
                (service.socket, service.directories) = take_over(ours.as_fd())?;
                Ok(service)
            }
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks for something, and answers at every point that is reached on the way there.
    pub(crate) fn ask(
        &self,
        kind: Kind,
        options: &[Opt],
        reached: &mut dyn FnMut(Event<'_>) -> Result<()>,
    ) -> Result<Response> {
        self.send(&request(kind, self.directories, options))?;
        loop {
            let (response, descriptor) = self.receive()?;
            if response.kind != Kind::Notify as u64 {
                return Ok(response);
            }
            reached(Event { script: &response.script, pid: response.pid, descriptor })?;
            self.send(&go_on())?;
        }
    }

    fn send(&self, message: &[u8]) -> Result<()> {
        let socket = self.socket.as_ref().ok_or_else(ended)?;
        let sent = retry_on_intr(|| send(socket, message, SendFlags::NOSIGNAL)).map_err(|_| ended())?;
        if sent == message.len() { Ok(()) } else { Err(ended()) }
    }

    fn receive(&self) -> Result<(Response, Option<OwnedFd>)> {
        let (data, descriptor) = receive(self.socket.as_ref().ok_or_else(ended)?.as_fd())?;
        let response = Response::parse(&data);
        let response =
            response.ok_or_else(|| Error::Unsupported("criu sent a message that cannot be read".to_owned()))?;
        Ok((response, descriptor))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.socket = None;
        let _ = retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED));
    }
}

fn ended() -> Error {
    Error::Unsupported("criu ended before it was done".to_owned())
}

/// What CRIU's process has open for CRIU.
struct Handed {
    socket: OwnedFd,
    directories: Vec<OwnedFd>,
}

/// Opens what CRIU needs, and hands the other end of the conversation out. CRIU opens directories by their numbers in the
/// process that made the conversation's socket: that is its own here, so that they lie in its own mount namespace.
fn hand_out(places: Option<Places<'_>>, to: BorrowedFd<'_>) -> Result<Handed> {
    let paths = places.iter().flat_map(|places| [Some(places.images), places.work]).flatten();
    let open = |path: &str| {
        open_host(path, OFlags::RDONLY | OFlags::DIRECTORY).context(|| format!("open directory {path} for criu"))
    };
    let directories = paths.map(open).collect::<Result<Vec<OwnedFd>>>()?;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .context(|| "make a socket for criu")?;
    let mut numbers = Vec::new();
    for fd in &directories {
        numbers.extend(fd.as_raw_fd().to_ne_bytes());
    }
    numbers.push(0);
    crate::console::send_descriptor(to, theirs.as_fd(), &numbers).context(|| "hand out a socket of criu")?;
    Ok(Handed { socket: ours, directories })
}

/// Takes the runtime's end of the conversation, with the numbers of the directories.
fn take_over(from: BorrowedFd<'_>) -> Result<(Option<OwnedFd>, Directories)> {
    let (data, descriptor) = receive(from)?;
    let mut numbers = data.chunks_exact(4).filter_map(|chunk| chunk.try_into().ok().map(i32::from_ne_bytes));
    let directories = Directories { images: numbers.next().unwrap_or(-1), work: numbers.next() };
    Ok((descriptor, directories))
}

/// Receives a message, with a descriptor if one came along.
fn receive(socket: BorrowedFd<'_>) -> Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut data = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got =
        retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(&mut data)], &mut control, RecvFlags::CMSG_CLOEXEC))
            .context(|| "listen to criu")?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    if got.bytes == 0 || got.flags.contains(ReturnFlags::TRUNC) {
        return Err(ended());
    }
    data.truncate(got.bytes);
    Ok((data, descriptor))
}

/// Makes this process CRIU; returns only what went wrong.
fn become_criu(handed: &Handed, inherited: &[BorrowedFd<'_>]) -> String {
    let own = handed.directories.iter().chain([&handed.socket]).map(AsFd::as_fd);
    for fd in inherited.iter().copied().chain(own) {
        if let Err(error) = fcntl_setfd(fd, FdFlags::empty()) {
            return format!("start criu: {}", cause_text(&error.into()));
        }
    }
    for place in PLACES {
        let error = Command::new(OsStr::new(place)).args(["swrk", &handed.socket.as_raw_fd().to_string()]).exec();
        if error.kind() != std::io::ErrorKind::NotFound {
            return format!("start criu: {}", cause_text(&error));
        }
    }
    "checkpoint and restore are done by criu, which is not installed: install the package criu".to_owned()
}

/// Fails unless CRIU and the kernel have a feature, which is named as the user knows it.
pub(crate) fn need(feature: Feature, name: &str) -> Result<()> {
    let service = Service::start(None, &[], || Ok(()))?;
    service.send(&feature_request(feature))?;
    let (response, _) = service.receive()?;
    if response.success && response.features.contains(&(feature as u64)) {
        return Ok(());
    }
    let lacking = match feature {
        Feature::MemTrack => "the kernel does not track which memory changes (CONFIG_MEM_SOFT_DIRTY)",
        Feature::LazyPages => "the kernel does not hand over page faults (userfaultfd(2))",
    };
    Err(Error::Unsupported(format!("{name} is impossible here: criu says that {lacking}")))
}

/// Removes the log of an earlier attempt, which would be taken for that of the next.
pub(crate) fn forget_log(directory: &str, name: &str) {
    // One that cannot be removed is written over by CRIU, or is what its error is about.
    let _ = std::fs::remove_file(format!("{directory}/{name}"));
}

/// A response without success, or none, as an error with what the log says.
pub(crate) fn failure(action: &'static str, answer: Result<Response>, directory: &str, name: &str) -> Error {
    let log = format!("{directory}/{name}");
    let said = std::fs::File::open(Path::new(&log)).ok().map(error_lines).unwrap_or_default();
    let cause = match answer {
        // The first message of CRIU is often of something harmless; the log has all of them.
        Ok(response) => {
            cause_of(&Response { message: if said.is_empty() { response.message } else { String::new() }, ..response })
        }
        Err(error) => error.to_string(),
    };
    let said = if said.is_empty() { String::new() } else { format!("; {}", said.join("; ")) };
    Error::Criu { action, cause, log, said }
}

/// What a response without success comes to.
fn cause_of(response: &Response) -> String {
    match (response.errno, response.message.trim()) {
        (0, "") => "it failed".to_owned(),
        (0, message) => message.to_owned(),
        (errno, "") => gantry_sys::misc::error_text(errno),
        (errno, message) => format!("{message}: {}", gantry_sys::misc::error_text(errno)),
    }
}

/// The last errors of a log.
fn error_lines(mut log: std::fs::File) -> Vec<String> {
    let length = log.seek(SeekFrom::End(0)).unwrap_or(0);
    let _ = log.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)));
    let mut text = Vec::new();
    let _ = log.take(LOG_TAIL).read_to_end(&mut text);
    last_errors(&String::from_utf8_lossy(&text))
}

fn last_errors(log: &str) -> Vec<String> {
    let plain = |line: &str| {
        let at = line.find("Error (").unwrap_or(0);
        line.get(at..).unwrap_or(line).chars().take(300).collect::<String>()
    };
    let mut lines: Vec<String> =
        log.lines().rev().filter(|line| line.contains("Error (")).take(LOG_LINES).map(plain).collect();
    lines.reverse();
    lines
}

/// Sends a NUL byte to a descriptor of the caller's that waits for lazy pages.
pub(crate) fn signal_ready(descriptor: BorrowedFd<'_>) -> Result<()> {
    let written = retry_on_intr(|| rustix::io::writev(descriptor, &[IoSlice::new(&[0])]));
    written.map(drop).context(|| "write to the descriptor of --status-fd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_logs() {
        let check = |log: &str, expect: &[&str]| assert_eq!(last_errors(log), expect);
        check("", &[]);
        check("(00.1) all is well\n", &[]);
        check(
            "(00.1) x\n(00.2) Error (a.c:1): one\n(00.3) y\n(00.4) Error (b.c:2): two\n",
            &["Error (a.c:1): one", "Error (b.c:2): two"],
        );
        let many = (0..9).map(|n| format!("(0) Error (a.c:{n}): e")).collect::<Vec<_>>().join("\n");
        assert_eq!(last_errors(&many).first().map(String::as_str), Some("Error (a.c:3): e"));
    }

    #[test]
    fn causes() {
        let check = |errno: i32, message: &str, expect: &str| {
            let response = Response { errno, message: message.to_owned(), ..Response::default() };
            assert_eq!(cause_of(&response), expect);
        };
        check(0, "", "it failed");
        check(0, "no", "no");
        check(17, "", &gantry_sys::misc::error_text(17));
        check(17, "no", &format!("no: {}", gantry_sys::misc::error_text(17)));
    }
}
