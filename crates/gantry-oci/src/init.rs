//! The first process of a container that asked for one: it starts the container's program, hands on every signal, reaps
//! whatever loses its parent, and ends as the program ends. Without a program it only reaps, until it is asked to end:
//! so a sandbox keeps a process namespace for several containers.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use gantry_sys::signal;
use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper};

use crate::foreground::{Blocked, exit_code};

/// Under this name the executable is an init process.
pub const NAME: &str = "gantry-init";

const CHLD: i32 = 17;
const ENDING: [i32; 3] = [1, 2, 15];

/// Runs the words after a `--`, if there are any.
pub fn main(args: &[OsString]) -> ExitCode {
    let words = args.get(1..).unwrap_or_default();
    let words = if words.first().is_some_and(|word| word == "--") { &words[1..] } else { words };
    let ended = match words.split_first() {
        Some((program, rest)) => run(program, rest),
        None => pause(),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let program = words.first().map_or_else(|| "wait".into(), |word| word.to_string_lossy());
            eprintln!("{NAME}: {program}: {error}");
            ExitCode::from(match error.kind() {
                io::ErrorKind::NotFound => 127,
                io::ErrorKind::PermissionDenied => 126,
                _ => 1,
            })
        }
    }
}

fn run(program: &OsString, args: &[OsString]) -> io::Result<u8> {
    let blocked = begin()?;
    let mut command = Command::new(program);
    command.args(args);
    // In a process group of its own, and that in the foreground: what is typed is for the program alone.
    let terminal = rustix::stdio::stdin();
    let has_terminal = rustix::termios::tcgetpgrp(terminal).is_ok();
    if has_terminal {
        command.process_group(0);
    }
    let child = signal::spawn_with_mask(&mut command, *blocked.before())?;
    let pid = Pid::from_child(&child);
    if has_terminal {
        // Another may have taken it meanwhile.
        let _ = rustix::termios::tcsetpgrp(terminal, pid);
    }
    let mut ended = None;
    loop {
        let number = signal::wait(blocked.set())?;
        if number != CHLD {
            if let Some(signal) = rustix::process::Signal::from_named_raw(number) {
                // It may have ended.
                let _ = rustix::process::kill_process(pid, signal);
            }
            continue;
        }
        while let Ok(Some((who, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if who == pid {
                ended = Some(std::os::unix::process::ExitStatusExt::from_raw(status.as_raw()));
            }
        }
        if let Some(status) = ended {
            return Ok(exit_code(status));
        }
    }
}

/// Reaps until it is asked to end.
fn pause() -> io::Result<u8> {
    let blocked = begin()?;
    loop {
        let number = signal::wait(blocked.set())?;
        while matches!(rustix::process::wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        if ENDING.contains(&number) {
            return Ok(0);
        }
    }
}

fn begin() -> io::Result<Blocked> {
    if getpid() != Pid::INIT {
        set_child_subreaper(Some(getpid()))?;
    }
    Blocked::new()
}
