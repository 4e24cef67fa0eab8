//! Commands with an end: each has a time limit, and its output goes to files.
//!
//! Files and not pipes, since a detached container holds on to the standard streams of the runtime that made it: a
//! reader of a pipe would wait for the container and not for the command.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::reaper;

/// Numbers the output files of all commands.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Why a command gave no result.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command could not be started, waited for, or read.
    #[error("{command}: {source}")]
    Io {
        /// The command's line.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The command did not end in its time, and was killed.
    #[error("{command}: still running after {limit:?}, killed; stdout {stdout:?}, stderr {stderr:?}")]
    TimedOut {
        /// The command's line.
        command: String,
        /// The time it had.
        limit: Duration,
        /// What it had written.
        stdout: String,
        /// What it had written.
        stderr: String,
    },
}

/// What a finished command left.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// How long it took.
    pub elapsed: Duration,
}

impl Output {
    /// The exit code; 128 and the signal's number for a command that was killed, as shells have it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(127))
    }

    /// Both streams, for a message.
    pub fn text(&self) -> String {
        format!("exit {}; stdout {:?}; stderr {:?}", self.code(), self.stdout.trim_end(), self.stderr.trim_end())
    }
}

/// A started command whose output goes to files.
pub struct Running {
    child: Child,
    line: String,
    stdout: PathBuf,
    stderr: PathBuf,
    begun: Instant,
}

impl Running {
    /// Starts `command`; its output files are made in `dir`.
    pub fn start(command: &mut Command, dir: &Path) -> Result<Self, CommandError> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (stdout, stderr) = (dir.join(format!("{number}.stdout")), dir.join(format!("{number}.stderr")));
        let line = line(command);
        let named = |source| CommandError::Io { command: line.clone(), source };
        command.stdout(File::create(&stdout).map_err(named)?).stderr(File::create(&stderr).map_err(named)?);
        let child = reaper::spawn(command).map_err(named)?;
        Ok(Self { child, line, stdout, stderr, begun: Instant::now() })
    }

    /// Waits for the command's end, and kills it when `limit` has passed.
    pub fn finish(mut self, limit: Duration) -> Result<Output, CommandError> {
        let ended = wait_child(&self.child, limit);
        if !matches!(ended, Ok(true)) {
            // Without an end there is nothing to do about a kill that fails: the process is gone then.
            let _ = self.child.kill();
        }
        let waited = self.child.wait();
        reaper::waited(&self.child);
        let named = |source| CommandError::Io { command: self.line.clone(), source };
        let (ended, status) = (ended.map_err(named)?, waited.map_err(named)?);
        let (stdout, stderr) = self.written();
        if !ended {
            return Err(CommandError::TimedOut { command: self.line, limit, stdout, stderr });
        }
        Ok(Output { status, stdout, stderr, elapsed: self.begun.elapsed() })
    }

    /// Kills the command as a crash would; its end is still to be waited for.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
    }

    /// The command's process.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// What the command has written so far: standard output and standard error.
    pub fn written(&self) -> (String, String) {
        (text_of(&self.stdout), text_of(&self.stderr))
    }
}

/// Runs `command` to its end with nothing on its standard input; its output files are made in `dir`.
pub fn run(command: &mut Command, dir: &Path, limit: Duration) -> Result<Output, CommandError> {
    Running::start(command.stdin(Stdio::null()), dir)?.finish(limit)
}

/// Polls `ready` until it gives a value or `limit` has passed.
pub fn wait_for<T>(limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the child ended within `limit`.
fn wait_child(child: &Child, limit: Duration) -> io::Result<bool> {
    let fd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let time = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&time)) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A file's text; nothing when it cannot be read, as for a command that was never started.
fn text_of(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The command's line, for messages.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
