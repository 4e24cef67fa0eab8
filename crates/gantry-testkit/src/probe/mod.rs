//! The program inside a container under test: says what it finds, and tries what it should not be able to do.
//!
//! It is one static executable with many commands, so that a root file system needs nothing else. Commands are chained
//! by `+`. Each prints to standard output: a JSON document, or a line per finding; `ok` is something that worked, a name
//! such as `EPERM` something that did not.

mod attack;
mod attempt;
mod load;
mod report;

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, waitpid};
use serde_json::{Value, json};

pub use report::report;

/// Runs the commands of a command line, `args[0]` being the program's name. The first that fails ends it.
pub fn main(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    for command in words.split(|word| *word == "+") {
        match run(command) {
            Ok(0) => {}
            Ok(code) => return ExitCode::from(code),
            Err(error) => {
                eprintln!("probe {}: {error}", command.join(" "));
                return ExitCode::from(90);
            }
        }
        // The reader may be gone, as when a terminal was closed; the next command says so by itself.
        let _ = io::stdout().flush();
    }
    ExitCode::SUCCESS
}

/// Runs one command and gives the exit code.
fn run(command: &[&str]) -> io::Result<u8> {
    match command {
        ["report"] => println!("{}", report()),
        ["report-to", path] => fs::write(path, report().to_string())?,
        ["exit", code] => return number(code),
        ["signal", number] => signal_self(self::number(number)?),
        ["echo", words @ ..] => println!("{}", words.join(" ")),
        ["sleep", seconds] => sleep(number(seconds)?),
        ["cat", path] => print!("{}", String::from_utf8_lossy(&fs::read(path)?)),
        ["stdin"] => io::copy(&mut io::stdin(), &mut io::stdout()).map(drop)?,
        ["ls", path] => list(path)?,
        ["stat", path] => println!("{}", stat(path)),
        ["fds"] => println!("{}", report::fds()),
        ["tty"] => println!("{}", report::terminal()),
        ["append", path, words @ ..] => append(path, &words.join(" "))?,
        ["hook", path, tag] => hook(path, tag)?,
        ["hook-fail", path, tag, code] => {
            hook(path, tag)?;
            return number(code);
        }
        ["reap", seconds] => reap(number(seconds)?),
        ["spawn", words @ ..] => spawn(words)?,
        ["wait-file", path] => wait_file(path)?,
        ["try", rest @ ..] => println!("{}", attempt::attempt(rest)),
        ["spin", seconds] => println!("{}", load::spin(Duration::from_secs(number(seconds)?))),
        ["hog", mebibytes] => load::hog(number(mebibytes)?),
        ["forks", count] => println!("{}", load::forks(number(count)?)),
        ["attack", rest @ ..] => println!("{}", attack::attack(rest)?),
        _ => return Err(io::Error::other("no such command")),
    }
    Ok(0)
}

/// A number of the command line.
fn number<T: std::str::FromStr>(word: &str) -> io::Result<T> {
    word.parse().map_err(|_| io::Error::other(format!("{word:?} is no number")))
}

/// Sleeps, and reaps what comes as an orphan meanwhile.
fn sleep(seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200).min(end.saturating_duration_since(Instant::now())));
        reap_now();
    }
}

/// Reaps for some seconds, then ends.
fn reap(seconds: u64) {
    sleep(seconds);
}

/// Reaps all children that have ended.
fn reap_now() {
    while let Ok(Some(_)) = waitpid(None, rustix::process::WaitOptions::NOHANG) {}
}

/// Sends a signal to this process itself.
fn signal_self(number: i32) {
    if let (Some(pid), Some(signal)) = (Pid::from_raw(rustix::process::getpid().as_raw_pid()), signal_named(number)) {
        // What comes after is what a process that survived its signal does.
        let _ = kill_process(pid, signal);
    }
}

/// The signals that tests use, by number.
fn signal_named(number: i32) -> Option<Signal> {
    [Signal::TERM, Signal::KILL, Signal::USR1, Signal::ABORT, Signal::SEGV, Signal::INT]
        .into_iter()
        .find(|signal| signal.as_raw() == number)
}

/// The names in a directory, sorted, one a line.
fn list(path: &str) -> io::Result<()> {
    let mut names: Vec<String> =
        fs::read_dir(path)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names {
        println!("{name}");
    }
    Ok(())
}

/// What a path is, without following a symbolic link at its end.
fn stat(path: &str) -> Value {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) => return json!({ "path": path, "error": attempt::name(&error) }),
    };
    let kind = found.file_type();
    let kinds = [
        (kind.is_file(), "file"),
        (kind.is_dir(), "directory"),
        (kind.is_symlink(), "link"),
        (kind.is_char_device(), "char"),
        (kind.is_block_device(), "block"),
        (kind.is_fifo(), "fifo"),
        (kind.is_socket(), "socket"),
    ];
    json!({
        "path": path,
        "kind": kinds.iter().find(|(is, _)| *is).map_or("unknown", |(_, name)| name),
        "mode": format!("{:04o}", found.mode() & 0o7777),
        "uid": found.uid(),
        "gid": found.gid(),
        "size": found.size(),
        "major": rustix::fs::major(found.rdev()),
        "minor": rustix::fs::minor(found.rdev()),
        "link": fs::read_link(path).map(|link| link.display().to_string()).unwrap_or_default(),
    })
}

/// Appends a line to a file.
fn append(path: &str, line: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path)?;
    // One write, so that lines of several processes do not mix.
    file.write_all(format!("{line}\n").as_bytes())
}

/// What a hook does: notes where it ran and what it was told.
fn hook(path: &str, tag: &str) -> io::Result<()> {
    let mut told = String::new();
    io::stdin().read_to_string(&mut told)?;
    let state: Value = serde_json::from_str(&told).unwrap_or(Value::String(told));
    let env: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    let note = json!({
        "tag": tag,
        "state": state,
        "env": env,
        "namespaces": report::namespaces(),
        "init": fs::metadata("/init").is_ok(),
        "cwd": std::env::current_dir().map(|dir| dir.display().to_string()).unwrap_or_default(),
        "mounts": report::mount_targets(),
        "args": std::env::args().collect::<Vec<_>>(),
    });
    append(path, &note.to_string())
}

/// Starts another command of this program and leaves it running.
fn spawn(words: &[&str]) -> io::Result<()> {
    let program = std::env::current_exe()?;
    std::process::Command::new(program).args(words).stdin(std::process::Stdio::null()).spawn().map(drop)
}

/// Waits until a file is there, at most a minute.
fn wait_file(path: &str) -> io::Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    while fs::symlink_metadata(path).is_err() {
        if Instant::now() > end {
            return Err(io::Error::other("the file does not come"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
