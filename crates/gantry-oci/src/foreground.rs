//! A process in the foreground: `run`, `exec` and `restore` wait for it, hand on the signals that they get, and wire
//! its terminal to theirs.
//!
//! Without a terminal this costs three system calls: block the signals, wait for one, reap. The signals are blocked
//! before the process is started, so that none is lost in between and none ends the runtime alone; the process itself
//! must get the mask back that was there before ([`Blocked::before`]).

mod relay;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use gantry_sys::signal::{self, SigSet};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};

use crate::log::Log;

/// Numbers of signals that are treated apart, as on all architectures that are built for.
mod number {
    pub(super) const ILL: i32 = 4;
    pub(super) const TRAP: i32 = 5;
    pub(super) const BUS: i32 = 7;
    pub(super) const FPE: i32 = 8;
    pub(super) const SEGV: i32 = 11;
    pub(super) const PIPE: i32 = 13;
    pub(super) const CHLD: i32 = 17;
    pub(super) const URG: i32 = 23;
    pub(super) const WINCH: i32 = 28;
    pub(super) const SYS: i32 = 31;
}

/// The signals that are handed on are blocked as long as this lives.
#[derive(Debug)]
pub struct Blocked {
    set: SigSet,
    before: SigSet,
}

/// All signals but those that a fault of the runtime itself raises, which blocking would make fatal without a trace,
/// and the one of its own broken pipes, which is not for the process.
fn forwardable() -> SigSet {
    use number::{BUS, FPE, ILL, PIPE, SEGV, SYS, TRAP};
    [ILL, TRAP, BUS, FPE, SEGV, SYS, PIPE].into_iter().fold(SigSet::all(), SigSet::without)
}

impl Blocked {
    /// Blocks the signals in this thread, which must be the only one.
    ///
    /// # Errors
    /// None that can be provoked.
    pub fn new() -> io::Result<Self> {
        let set = forwardable();
        let before = signal::block(&set)?;
        Ok(Self { set, before })
    }

    /// The signals.
    pub(crate) fn set(&self) -> &SigSet {
        &self.set
    }

    /// The mask of before, for the child to make its own before exec.
    pub fn before(&self) -> &SigSet {
        &self.before
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let _ = signal::set_mask(&self.before);
    }
}

/// A process to look after: a child of this one, or a descendant that this one adopts as subreaper.
#[derive(Clone, Copy, Debug)]
pub struct Process<'a> {
    /// Its process id here.
    pub pid: i32,
    /// The same, safe against reuse.
    pub pidfd: BorrowedFd<'a>,
}

/// What a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Reap,
    Resize,
    Nothing,
    Forward(i32),
}

fn meaning(signal: i32) -> Meaning {
    match signal {
        number::CHLD => Meaning::Reap,
        number::WINCH => Meaning::Resize,
        // Out-of-band data of a socket of this process: never meant for the container.
        number::URG => Meaning::Nothing,
        other => Meaning::Forward(other),
    }
}

/// Looks after a process until it ends: hands on signals, reaps whatever else ends, and relays between `console`, the
/// master end of its terminal, and this process's stdin and stdout. The terminal of this process is as before
/// afterwards, in any case.
///
/// # Errors
/// The process is no child of this one, or waiting fails. What is wrong with a signal that cannot be handed on is
/// logged.
pub fn supervise(
    blocked: &Blocked,
    process: Process<'_>,
    console: Option<OwnedFd>,
    log: &Log,
) -> io::Result<ExitStatus> {
    if let Some(master) = console {
        return relay::supervise(blocked, process, master.as_fd(), log);
    }
    loop {
        match meaning(signal::wait(&blocked.set)?) {
            Meaning::Reap => {
                if let Some(status) = reap(process)? {
                    return Ok(status);
                }
            }
            Meaning::Resize | Meaning::Nothing => {}
            Meaning::Forward(number) => forward(process, number, log),
        }
    }
}

/// The exit status of a command whose process ended so: its code, or 128 and the signal's number.
pub fn exit_code(status: ExitStatus) -> u8 {
    let signalled = || status.signal().map_or(u8::MAX, |signal| 128 | (signal & 0x7f) as u8);
    status.code().map_or_else(signalled, |code| code as u8)
}

fn forward(process: Process<'_>, number: i32, log: &Log) {
    match signal::send(process.pidfd, number) {
        Ok(()) => log.debug(format_args!("signal {number} handed on to process {}", process.pid)),
        // It has ended: its end is about to be seen.
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
        Err(error) => log.warn(format_args!("hand on signal {number} to process {}: {error}", process.pid)),
    }
}

/// Reaps what has ended, until the process is among it; `None` if it still runs.
pub(crate) fn reap(process: Process<'_>) -> io::Result<Option<ExitStatus>> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if Some(pid) == Pid::from_raw(process.pid) => {
                return Ok(Some(ExitStatus::from_raw(status.as_raw())));
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Ok(None),
            Err(Errno::CHILD) => {
                let message = format!("process {} is no child of this one, or was waited for elsewhere", process.pid);
                return Err(io::Error::new(io::ErrorKind::NotFound, message));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        let check = |raw: i32, code: u8| assert_eq!(exit_code(ExitStatus::from_raw(raw)), code, "{raw:#x}");
        check(0, 0);
        check(7 << 8, 7);
        check(255 << 8, 255);
        check(9, 137);
        check(15, 143);
        check(0x8b, 139);
    }

    #[test]
    fn signals_by_meaning() {
        let set = forwardable();
        let check = |number: i32, blocked: bool, expect: Meaning| {
            assert_eq!((set.contains(number), meaning(number)), (blocked, expect), "{number}");
        };
        check(1, true, Meaning::Forward(1));
        check(2, true, Meaning::Forward(2));
        check(15, true, Meaning::Forward(15));
        check(17, true, Meaning::Reap);
        check(20, true, Meaning::Forward(20));
        check(23, true, Meaning::Nothing);
        check(28, true, Meaning::Resize);
        check(44, true, Meaning::Forward(44));
        check(64, true, Meaning::Forward(64));
        check(11, false, Meaning::Forward(11));
        check(13, false, Meaning::Forward(13));
    }
}
