//! Between the process, its log and the clients: one loop over poll.
//!
//! One piece of output is on its way at a time. It goes to the log at once, and to each client as fast as that reads;
//! until all have it, nothing further is read from the process, so that nobody misses anything.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

use gantry_model::logrecord::Stream;
use gantry_model::monitor::{Attach, Request};
use gantry_sys::signal::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SocketFlags, accept_with};
use rustix::termios::Winsize;

use super::clients::{Asked, Client, Connection, MAX};
use super::logfile::Writer;
use super::nanoseconds;
use crate::foreground::{Blocked, Process, reap};

/// The most that is read of a stream at once.
const PIECE: usize = 32 << 10;
/// The most that is read of a client at once: what a pipe takes where it takes anything.
const TYPED: usize = 4 << 10;
/// How long clients have, after the process has ended, to read what it wrote; and as long again has the log, for what
/// others still write.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest wait before a terminal that nobody has open inside is read again.
const RETRY: Duration = Duration::from_millis(100);

/// The streams of a process and all that is joined to them.
#[derive(Debug)]
pub(super) struct Relay {
    listener: OwnedFd,
    log: Option<Writer>,
    stdin_once: bool,
    framed: bool,
    connections: Vec<Connection>,
    clients: Vec<Client>,
    /// Our end of standard input.
    pub(super) input: Option<OwnedFd>,
    /// Our ends of standard output, which is also a terminal's, and standard error.
    pub(super) outputs: [Option<OwnedFd>; 2],
    terminal: Option<OwnedFd>,
    /// A client that is attached from the beginning.
    pub(super) first: Option<(Attach, OwnedFd)>,
    piece: Piece,
    typed: Typed,
    /// Standard input is to end when what was typed is written.
    closing: bool,
    /// How long to wait before a terminal that nobody has open inside is read again.
    pause: Duration,
}

/// Output on its way.
#[derive(Debug)]
struct Piece {
    bytes: Box<[u8]>,
    length: usize,
    head: [u8; 8],
    head_length: usize,
}

/// Input on its way.
#[derive(Debug)]
struct Typed {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

/// What a poll found, by the places in its list.
struct Ready {
    signals: bool,
    listener: bool,
    outputs: [bool; 2],
    input: bool,
    connections: u64,
    /// Clients with something to read.
    readable: u64,
    gone: u64,
}

impl Relay {
    pub(super) fn new(listener: OwnedFd, log: Option<Writer>, stdin_once: bool, terminal: bool) -> Self {
        Self {
            listener,
            log,
            stdin_once,
            framed: !terminal,
            connections: Vec::with_capacity(MAX),
            clients: Vec::with_capacity(MAX),
            input: None,
            outputs: [None, None],
            terminal: None,
            first: None,
            piece: Piece { bytes: vec![0; PIECE].into(), length: 0, head: [0; 8], head_length: 0 },
            typed: Typed { bytes: vec![0; TYPED].into(), start: 0, end: 0 },
            closing: false,
            pause: Duration::from_millis(1),
        }
    }

    /// Takes the master end of the process's terminal for all of its streams.
    pub(super) fn set_terminal(&mut self, master: OwnedFd) -> io::Result<()> {
        self.input = Some(master.try_clone()?);
        self.outputs[0] = Some(master.try_clone()?);
        self.terminal = Some(master);
        Ok(())
    }

    /// Lets no stream hold this process up.
    pub(super) fn unblock(&self) -> rustix::io::Result<()> {
        for fd in self.outputs.iter().flatten().chain(&self.input) {
            let flags = rustix::fs::fcntl_getfl(fd)?;
            rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?;
        }
        Ok(())
    }

    /// Relays until the process has ended and all that it wrote has been read.
    pub(super) fn run(
        &mut self,
        blocked: &Blocked,
        process: Process<'_>,
        clock: fn() -> SystemTime,
    ) -> io::Result<ExitStatus> {
        if let Some((Attach { stdin, stdout, stderr }, socket)) = self.first.take() {
            self.clients.push(Client::new(socket, stdin && self.input.is_some(), stdout, stderr)?);
        }
        let signals = SignalFd::new(blocked.set())?;
        let mut ended: Option<(ExitStatus, SystemTime)> = None;
        loop {
            // Only a look at the outputs that began after the end of the process tells that it wrote no more; and while
            // a client is behind, nobody looks at them.
            let last = ended.is_some() && !self.is_behind();
            let ready = self.wait(signals.as_fd(), ended.is_some())?;
            if ready.signals {
                // Whatever else is sent to a monitor is not for its process, and must not end it.
                while signals.take()?.is_some() {}
                if ended.is_none() {
                    ended = reap(process)?.map(|status| (status, clock()));
                }
            }
            let read = self.turn(&ready, clock);
            if let Some((status, since)) = &ended {
                let waited = clock().duration_since(*since).unwrap_or_default();
                if (last && !read) || waited > 2 * PATIENCE {
                    self.finish(clock);
                    return Ok(*status);
                }
                if waited > PATIENCE {
                    // The log is to have all, whoever does not read.
                    self.clients.retain(|client| !client.is_behind());
                }
            }
        }
    }

    fn is_behind(&self) -> bool {
        self.clients.iter().any(Client::is_behind)
    }

    /// Waits until something can be done; once the process has ended, only as long as clients have to read.
    fn wait(&self, signals: BorrowedFd<'_>, ended: bool) -> io::Result<Ready> {
        let behind = self.is_behind();
        let idle = self.typed.start == self.typed.end;
        let mut wanted: Vec<(Option<BorrowedFd<'_>>, PollFlags)> = Vec::with_capacity(5 + 2 * MAX);
        wanted.push((Some(signals), PollFlags::IN));
        wanted.push(((self.connections.len() < MAX).then(|| self.listener.as_fd()), PollFlags::IN));
        for output in &self.outputs {
            wanted.push((output.as_ref().filter(|_| !behind).map(AsFd::as_fd), PollFlags::IN));
        }
        wanted.push((self.input.as_ref().filter(|_| !idle).map(AsFd::as_fd), PollFlags::OUT));
        wanted.extend(self.connections.iter().map(|connection| (Some(connection.as_fd()), PollFlags::IN)));
        for client in &self.clients {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, client.input && idle);
            flags.set(PollFlags::OUT, client.is_behind());
            // One that has hung up with input unread is left alone until there is room for that.
            let stuck = client.input && !idle && !client.is_behind();
            wanted.push(((!stuck).then(|| client.as_fd()), flags));
        }
        // A place without a use asks nothing of the signals, which never hang up.
        let mut list: Vec<PollFd<'_>> = Vec::with_capacity(wanted.len());
        for (fd, flags) in wanted {
            list.push(match fd {
                Some(fd) => PollFd::from_borrowed_fd(fd, flags),
                None => PollFd::from_borrowed_fd(signals, PollFlags::empty()),
            });
        }
        let timeout = Timespec { tv_sec: i64::from(behind), tv_nsec: 0 };
        retry_on_intr(|| rustix::event::poll(&mut list, ended.then_some(&timeout)))?;
        Ok(self.ready(&list))
    }

    fn ready(&self, list: &[PollFd<'_>]) -> Ready {
        let failed = PollFlags::HUP | PollFlags::ERR;
        let at = |place: usize| list.get(place).map_or(PollFlags::empty(), PollFd::revents);
        let input = |place: usize| at(place).intersects(PollFlags::IN | failed);
        let first = 5 + self.connections.len();
        let bits = |base: usize, count: usize, flags: PollFlags| {
            (0..count).filter(|n| at(base + n).intersects(flags)).fold(0_u64, |bits, n| bits | 1 << n)
        };
        Ready {
            signals: at(0).contains(PollFlags::IN),
            listener: at(1).contains(PollFlags::IN),
            outputs: [input(2), input(3)],
            input: at(4).intersects(PollFlags::OUT | failed),
            connections: bits(5, self.connections.len(), PollFlags::IN | failed),
            readable: bits(first, self.clients.len(), PollFlags::IN),
            gone: bits(first, self.clients.len(), failed),
        }
    }

    /// Does what can be done; whether any output was read.
    fn turn(&mut self, ready: &Ready, clock: fn() -> SystemTime) -> bool {
        self.serve(ready);
        self.read_clients(ready);
        if ready.input || self.typed.start < self.typed.end {
            self.write_input();
        }
        if self.is_behind() {
            self.push();
        }
        let mut read = false;
        for (place, stream) in [(0, Stream::Stdout), (1, Stream::Stderr)] {
            if ready.outputs[place] && !self.is_behind() {
                read |= self.read_output(place, stream, clock);
            }
        }
        read
    }

    /// Reads a piece of output; whether there was one.
    fn read_output(&mut self, place: usize, stream: Stream, clock: fn() -> SystemTime) -> bool {
        let Some(output) = &self.outputs[place] else { return false };
        match retry_on_intr(|| rustix::io::read(output, &mut self.piece.bytes[..])) {
            Ok(0) => {
                self.outputs[place] = None;
                false
            }
            Ok(length) => {
                self.pause = Duration::from_millis(1);
                self.piece.length = length;
                self.piece.head_length = 0;
                if self.framed {
                    self.piece.head = [stream.number(), 0, 0, 0, 0, 0, 0, 0];
                    self.piece.head[4..].copy_from_slice(&(length as u32).to_be_bytes());
                    self.piece.head_length = 8;
                }
                if let Some(log) = &mut self.log {
                    log.take(stream, &self.piece.bytes[..length], nanoseconds(clock));
                }
                self.clients.iter_mut().for_each(|client| client.begin(stream));
                self.push();
                true
            }
            Err(Errno::AGAIN) => false,
            // Nobody has the terminal open inside; it may be opened again while the process is there.
            Err(Errno::IO) if self.terminal.is_some() => {
                std::thread::sleep(self.pause);
                self.pause = (self.pause * 2).min(RETRY);
                false
            }
            Err(_) => {
                self.outputs[place] = None;
                false
            }
        }
    }

    /// Writes the present piece to all who have not all of it.
    fn push(&mut self) {
        let (head, data) = (&self.piece.head[..self.piece.head_length], &self.piece.bytes[..self.piece.length]);
        self.clients.retain_mut(|client| client.push(head, data));
    }

    /// Reads what is typed by the first client that has something, and lets go of those that are gone.
    fn read_clients(&mut self, ready: &Ready) {
        let mut place = 0;
        let mut ends = false;
        let (typed, stdin_once) = (&mut self.typed, self.stdin_once);
        self.clients.retain_mut(|client| {
            let bit = 1_u64 << place;
            place += 1;
            let gone = ready.gone & bit != 0;
            if !client.input {
                return !gone;
            }
            if (ready.readable & bit == 0 && !gone) || typed.start < typed.end {
                return true;
            }
            match retry_on_intr(|| rustix::io::read(&*client, &mut typed.bytes[..])) {
                Ok(0) => {}
                Ok(length) => {
                    (typed.start, typed.end) = (0, length);
                    return true;
                }
                Err(Errno::AGAIN) => return true,
                Err(_) => {}
            }
            client.input = false;
            ends |= stdin_once;
            !gone
        });
        if ends {
            self.close_input();
        }
    }

    /// Standard input ends, once what was typed has been written. A terminal has no end but by what is typed.
    fn close_input(&mut self) {
        self.closing = self.terminal.is_none();
        if self.closing && self.typed.start == self.typed.end {
            self.input = None;
        }
    }

    fn write_input(&mut self) {
        let Some(input) = &self.input else {
            // Nobody reads it.
            self.typed.start = self.typed.end;
            return;
        };
        match retry_on_intr(|| rustix::io::write(input, &self.typed.bytes[self.typed.start..self.typed.end])) {
            Ok(count) => self.typed.start += count,
            Err(Errno::AGAIN) => {}
            Err(_) => {
                self.typed.start = self.typed.end;
                self.input = None;
            }
        }
        if self.closing && self.typed.start == self.typed.end {
            self.input = None;
        }
    }

    /// Takes new connections, and does what the present ones ask for.
    fn serve(&mut self, ready: &Ready) {
        for place in (0..self.connections.len()).rev().filter(|place| ready.connections & 1 << place != 0) {
            loop {
                match self.connections[place].receive() {
                    Asked::Request(request, socket) => {
                        let done = self.carry_out(request, socket);
                        self.connections[place].answer(done);
                    }
                    Asked::Later => break,
                    Asked::Gone => {
                        self.connections.remove(place);
                        break;
                    }
                }
            }
        }
        if ready.listener {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            if let Ok(socket) = retry_on_intr(|| accept_with(&self.listener, flags)) {
                self.connections.push(Connection::new(socket));
            }
        }
    }

    fn carry_out(&mut self, request: Request, socket: Option<OwnedFd>) -> bool {
        match (request, socket) {
            (Request::Attach { stdin, stdout, stderr }, Some(socket)) if self.clients.len() < MAX => {
                let stdin = stdin && self.input.is_some();
                Client::new(socket, stdin, stdout, stderr).map(|client| self.clients.push(client)).is_ok()
            }
            (Request::Resize { rows, columns }, None) => {
                let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                self.terminal.as_ref().is_some_and(|terminal| rustix::termios::tcsetwinsize(terminal, size).is_ok())
            }
            (Request::CloseStdin, None) => {
                self.close_input();
                true
            }
            _ => false,
        }
    }

    fn finish(&mut self, clock: fn() -> SystemTime) {
        self.outputs = [None, None];
        self.input = None;
        if let Some(log) = &mut self.log {
            log.finish(nanoseconds(clock));
        }
        // Their sockets close: that is how they learn of the end.
        self.clients.clear();
    }

    /// Sends a packet to every connection.
    pub(super) fn say_to_all(&mut self, packet: &[u8]) {
        // Those that wait to be taken would miss it.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = retry_on_intr(|| accept_with(&self.listener, flags)) {
            Connection::new(socket).say(packet);
        }
        self.connections.iter().for_each(|connection| connection.say(packet));
    }
}
