//! Between a terminal's master end and stdin and stdout: one loop over poll, without threads.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitStatus;

use gantry_sys::signal::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::termios::{
    OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use super::{Blocked, Meaning, Process, forward, meaning, reap};
use crate::log::Log;

/// Bytes that are on their way in one direction. A pipe takes so many at once where it takes any.
const BUFFER: usize = 4096;

/// The most that is read after the process has ended: more than the kernel buffers for a terminal. What comes later is
/// of others that hold the terminal, who could write for ever.
const DRAIN: usize = 256 * 1024;

/// How long to wait before reading again from a terminal that nobody has open inside, but that may be opened again.
const RETRY: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// As `supervise` of the parent module, with a terminal.
pub(super) fn supervise(
    blocked: &Blocked,
    process: Process<'_>,
    master: BorrowedFd<'_>,
    log: &Log,
) -> io::Result<ExitStatus> {
    let signals = SignalFd::new(&blocked.set)?;
    let terminal = Terminal::set_up(master);
    let flags = rustix::fs::fcntl_getfl(master)?;
    rustix::fs::fcntl_setfl(master, flags | OFlags::NONBLOCK)?;
    let mut relay = Relay {
        master,
        stdin: Some(rustix::stdio::stdin()),
        stdout: Some(rustix::stdio::stdout()),
        input: Buffer::new(),
        output: Buffer::new(),
        hung_up: false,
    };
    loop {
        let ready = relay.wait(signals.as_fd())?;
        if ready.signals {
            while let Some(number) = signals.take()? {
                match meaning(number) {
                    Meaning::Reap => {
                        if let Some(status) = reap(process)? {
                            relay.drain(&signals)?;
                            return Ok(status);
                        }
                    }
                    Meaning::Resize => terminal.resize(master),
                    Meaning::Nothing => {}
                    Meaning::Forward(number) => forward(process, number, log),
                }
            }
        }
        relay.turn(&ready);
    }
}

/// This process's terminal, if it has one; the mode of before is restored when this is dropped.
struct Terminal {
    sized: Option<BorrowedFd<'static>>,
    saved: Option<Termios>,
}

impl Terminal {
    /// Makes stdin pass everything on as it is typed, if it is a terminal, and gives the process's terminal the size
    /// of this one.
    fn set_up(master: BorrowedFd<'_>) -> Self {
        let (stdin, stdout, stderr) = (rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr());
        let shown = isatty(stdout);
        let saved = tcgetattr(stdin).ok();
        if let Some(saved) = &saved {
            let mut raw = saved.clone();
            raw.make_raw();
            if !shown {
                // What is written to this terminal is not the process's.
                raw.output_modes |= saved.output_modes & OutputModes::OPOST;
            }
            let _ = tcsetattr(stdin, OptionalActions::Now, &raw);
        }
        if saved.is_none() || !shown {
            // Lines end once: by the terminal that shows them, or not at all in a file or pipe.
            if let Ok(mut inside) = tcgetattr(master) {
                inside.output_modes &= !OutputModes::ONLCR;
                let _ = tcsetattr(master, OptionalActions::Now, &inside);
            }
        }
        let sized = [stdin, stdout, stderr].into_iter().find(|fd| isatty(fd));
        let terminal = Self { sized, saved };
        terminal.resize(master);
        terminal
    }

    /// Gives the process's terminal the size of this one.
    fn resize(&self, master: BorrowedFd<'_>) {
        // A terminal that has gone has no size: nothing to do about it.
        if let Some(Ok(size)) = self.sized.map(tcgetwinsize) {
            let _ = tcsetwinsize(master, size);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, saved);
        }
    }
}

/// Bytes that were read and not all written yet.
struct Buffer {
    bytes: [u8; BUFFER],
    start: usize,
    end: usize,
}

/// How reading or writing went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    /// So many bytes.
    Some(usize),
    /// None at present.
    Later,
    /// Never again.
    End,
}

impl Buffer {
    const fn new() -> Self {
        Self { bytes: [0; BUFFER], start: 0, end: 0 }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads into the buffer, which is empty.
    fn fill(&mut self, from: BorrowedFd<'_>) -> Moved {
        match retry_on_intr(|| rustix::io::read(from, &mut self.bytes)) {
            Ok(0) => Moved::End,
            Ok(count) => {
                (self.start, self.end) = (0, count);
                Moved::Some(count)
            }
            Err(Errno::AGAIN) => Moved::Later,
            Err(_) => Moved::End,
        }
    }

    /// Writes what it holds, as far as it goes.
    fn flush(&mut self, to: BorrowedFd<'_>) -> Moved {
        match retry_on_intr(|| rustix::io::write(to, &self.bytes[self.start..self.end])) {
            Ok(count) => {
                self.start += count;
                Moved::Some(count)
            }
            Err(Errno::AGAIN) => Moved::Later,
            Err(_) => {
                self.discard();
                Moved::End
            }
        }
    }

    fn discard(&mut self) {
        self.start = self.end;
    }
}

/// What can be gone on with.
#[derive(Default)]
struct Ready {
    signals: bool,
    stdin: bool,
    stdout: bool,
    master_in: bool,
    master_out: bool,
}

struct Relay<'a> {
    master: BorrowedFd<'a>,
    /// Until its end.
    stdin: Option<BorrowedFd<'a>>,
    /// Until nobody reads it; then output is discarded, so that the process does not stand still.
    stdout: Option<BorrowedFd<'a>>,
    /// From stdin to the terminal.
    input: Buffer,
    /// From the terminal to stdout.
    output: Buffer,
    /// Nobody has the terminal open inside.
    hung_up: bool,
}

impl Relay<'_> {
    /// Waits until something can be done. Only what is of use now is asked for: a hang-up is always reported, and
    /// would wake this for nothing.
    fn wait(&self, signals: BorrowedFd<'_>) -> io::Result<Ready> {
        let mut master = PollFlags::empty();
        if self.output.is_empty() && !self.hung_up {
            master |= PollFlags::IN;
        }
        if !self.input.is_empty() && !self.hung_up {
            master |= PollFlags::OUT;
        }
        let stdin = self.stdin.filter(|_| self.input.is_empty());
        let stdout = self.stdout.filter(|_| !self.output.is_empty());
        let terminal = (!master.is_empty()).then_some(self.master);
        // A place in the list without a use asks nothing of the signals, which never hang up.
        let mut list =
            [(Some(signals), PollFlags::IN), (stdin, PollFlags::IN), (stdout, PollFlags::OUT), (terminal, master)].map(
                |(fd, flags)| match fd {
                    Some(fd) => PollFd::from_borrowed_fd(fd, flags),
                    None => PollFd::from_borrowed_fd(signals, PollFlags::empty()),
                },
            );
        let timeout = self.hung_up.then_some(&RETRY);
        let count = retry_on_intr(|| rustix::event::poll(&mut list, timeout))?;
        let [got_signals, got_stdin, got_stdout, got_master] = list.map(|fd| fd.revents());
        let failed = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        Ok(Ready {
            signals: got_signals.contains(PollFlags::IN),
            stdin: got_stdin.intersects(PollFlags::IN | failed),
            stdout: got_stdout.intersects(PollFlags::OUT | failed),
            master_in: (master.contains(PollFlags::IN) && got_master.intersects(PollFlags::IN | failed))
                || (self.hung_up && count == 0 && self.output.is_empty()),
            master_out: master.contains(PollFlags::OUT) && got_master.intersects(PollFlags::OUT | failed),
        })
    }

    /// Moves what can be moved, each direction once.
    fn turn(&mut self, ready: &Ready) {
        if ready.stdin
            && let Some(stdin) = self.stdin
            && self.input.fill(stdin) == Moved::End
        {
            self.stdin = None;
        }
        if ready.master_out {
            // A terminal that nobody has open inside takes nothing: what was typed is lost, as on any other.
            self.input.flush(self.master);
        }
        if ready.master_in {
            self.hung_up = self.output.fill(self.master) == Moved::End;
        }
        if ready.stdout {
            self.write_out();
        }
        if self.stdout.is_none() {
            self.output.discard();
        }
    }

    fn write_out(&mut self) {
        if let Some(stdout) = self.stdout
            && self.output.flush(stdout) == Moved::End
        {
            self.stdout = None;
        }
    }

    /// After the process has ended: writes what it left in the terminal.
    fn drain(&mut self, signals: &SignalFd) -> io::Result<()> {
        let mut left = DRAIN;
        loop {
            while !self.output.is_empty() {
                if !self.may_write(signals)? {
                    return Ok(());
                }
                self.write_out();
            }
            // Asking makes the kernel pass on what is still between the two ends.
            let mut list = [PollFd::from_borrowed_fd(self.master, PollFlags::IN)];
            retry_on_intr(|| rustix::event::poll(&mut list, Some(&Timespec::default())))?;
            if left == 0 || !list[0].revents().contains(PollFlags::IN) {
                return Ok(());
            }
            match self.output.fill(self.master) {
                Moved::Some(count) => left = left.saturating_sub(count),
                Moved::Later | Moved::End => return Ok(()),
            }
        }
    }

    /// Waits until stdout takes more; false if it never will, or if a signal asks to give up.
    fn may_write(&mut self, signals: &SignalFd) -> io::Result<bool> {
        loop {
            let Some(stdout) = self.stdout else { return Ok(false) };
            let mut list = [
                PollFd::from_borrowed_fd(stdout, PollFlags::OUT),
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            ];
            retry_on_intr(|| rustix::event::poll(&mut list, None))?;
            if !list[0].revents().is_empty() {
                return Ok(true);
            }
            while let Some(number) = signals.take()? {
                if matches!(meaning(number), Meaning::Forward(_)) {
                    return Ok(false);
                }
            }
        }
    }
}
