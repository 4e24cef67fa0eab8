//! Messages: where they go and in which form.
//!
//! Engines start the runtime with `--log FILE --log-format json` and, when it fails, look for the last line whose
//! level is `error`; its `msg` is what their users see. So an error is written there and, in any case, to stderr.
//! Logging never fails an operation: a message that cannot be written is dropped, once the log was opened.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use crate::time::rfc3339;

/// What a message is about; later ones are more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Why a command failed.
    Error,
    /// What it went on in spite of.
    #[default]
    Warning,
    /// What it does.
    Debug,
}

impl Level {
    /// The level of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Error, Self::Warning, Self::Debug].into_iter().find(|l| l.as_str() == name)
    }

    /// The name in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Debug => "debug",
        }
    }

    /// The severity of syslog(3), in the facility of daemons.
    const fn priority(self) -> u8 {
        const DAEMON: u8 = 3 << 3;
        DAEMON
            | match self {
                Self::Error => 3,
                Self::Warning => 4,
                Self::Debug => 7,
            }
    }
}

/// The form of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `time="..." level=error msg="..."`.
    #[default]
    Text,
    /// `{"level":"error","msg":"...","time":"..."}`.
    Json,
}

impl Format {
    /// The format of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Where messages go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Nowhere but stderr.
    #[default]
    Stderr,
    /// A file, at its end.
    File(PathBuf),
    /// The system's log, under this name; empty is the program's.
    Syslog(String),
    /// systemd's journal, under this name; empty is the program's.
    Journald(String),
}

impl Target {
    /// The target that `--log` names: a file, or `file:`, `syslog:` or `journald:` with a path or name.
    pub fn named(path: PathBuf) -> Self {
        let bytes = path.as_os_str().as_bytes();
        let name = |rest: &[u8]| String::from_utf8_lossy(rest).into_owned();
        if let Some(rest) = bytes.strip_prefix(b"syslog:") {
            Self::Syslog(name(rest))
        } else if let Some(rest) = bytes.strip_prefix(b"journald:") {
            Self::Journald(name(rest))
        } else if let Some(rest) = bytes.strip_prefix(b"file:") {
            Self::File(OsStr::from_bytes(rest).to_owned().into())
        } else {
            Self::File(path)
        }
    }
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    sink: Sink,
    format: Format,
    level: Level,
    clock: fn() -> SystemTime,
}

#[derive(Debug)]
enum Sink {
    Stderr,
    File(File),
    Socket { socket: UnixDatagram, name: String, journal: bool },
}

/// The most bytes of a message that are kept: more is cut, so that a line is written by one call.
const LONGEST: usize = 32 * 1024;

impl Log {
    /// Opens the log. The clock is read once for each message that goes to a file.
    ///
    /// # Errors
    /// The file cannot be opened or made, or no log daemon listens.
    pub fn open(target: &Target, format: Format, level: Level, clock: fn() -> SystemTime) -> io::Result<Self> {
        let sink = match target {
            Target::Stderr => Sink::Stderr,
            Target::File(path) => Sink::File(append(path)?),
            Target::Syslog(name) => Sink::connect("/dev/log", name, false)?,
            Target::Journald(name) => Sink::connect("/run/systemd/journal/socket", name, true)?,
        };
        Ok(Self { sink, format, level, clock })
    }

    /// A log to stderr alone.
    pub fn stderr(format: Format, level: Level, clock: fn() -> SystemTime) -> Self {
        Self { sink: Sink::Stderr, format, level, clock }
    }

    /// Whether messages of this level are written: so that costly ones need not be made.
    pub fn enabled(&self, level: Level) -> bool {
        level <= self.level
    }

    /// Writes why the command failed, to the log and to stderr.
    pub fn error(&self, message: impl fmt::Display) {
        self.write(Level::Error, &message.to_string());
    }

    /// Writes what the command goes on in spite of: to the log, or to stderr if there is none.
    pub fn warn(&self, message: impl fmt::Display) {
        if self.enabled(Level::Warning) {
            self.write(Level::Warning, &message.to_string());
        }
    }

    /// Writes what the command does: to the log, or to stderr if there is none.
    pub fn debug(&self, message: impl fmt::Display) {
        if self.enabled(Level::Debug) {
            self.write(Level::Debug, &message.to_string());
        }
    }

    fn write(&self, level: Level, message: &str) {
        let message = cut(message);
        match &self.sink {
            Sink::Stderr => {}
            Sink::File(file) => {
                let line = record(self.format, level, message, (self.clock)());
                // One call for a line: several runtimes append to the same file.
                let _ = (&*file).write_all(line.as_bytes());
            }
            Sink::Socket { socket, name, journal } => {
                let datagram =
                    if *journal { journal_entry(level, name, message) } else { syslog_line(level, name, message) };
                let _ = socket.send(&datagram);
            }
        }
        let alone = matches!(self.sink, Sink::Stderr);
        if level == Level::Error || alone {
            let line = match (alone, self.format) {
                (true, Format::Json) => record(Format::Json, level, message, (self.clock)()),
                _ => spoken(level, message),
            };
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }
}

impl Sink {
    fn connect(path: &str, name: &str, journal: bool) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // A daemon that does not read must not hold up a container.
        socket.set_nonblocking(true)?;
        let name = if name.is_empty() { crate::cli::table::PROGRAM } else { name };
        let name = name.chars().filter(|c| !c.is_control()).take(64).collect();
        Ok(Self::Socket { socket, name, journal })
    }
}

fn append(path: &Path) -> io::Result<File> {
    // The standard library always adds O_CLOEXEC.
    File::options().append(true).create(true).mode(0o644).open(path)
}

/// The message, at most [`LONGEST`] bytes of it.
fn cut(message: &str) -> &str {
    let mut end = message.len().min(LONGEST);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

/// A line of a log file.
fn record(format: Format, level: Level, message: &str, time: SystemTime) -> String {
    #[derive(Serialize)]
    struct Record<'a> {
        level: &'static str,
        msg: &'a str,
        time: String,
    }
    let time = rfc3339(time);
    let mut line = match format {
        Format::Text => format!("time=\"{time}\" level={} msg={}", level.as_str(), quoted(message)),
        Format::Json => {
            let record = Record { level: level.as_str(), msg: message, time };
            // Strings cannot fail to be written as JSON.
            serde_json::to_string(&record).unwrap_or_default()
        }
    };
    line.push('\n');
    line
}

/// A text in quotes, with backslashes before quotes, backslashes and line ends; JSON's escapes are Go's for these.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// A line for people.
fn spoken(level: Level, message: &str) -> String {
    let program = crate::cli::table::PROGRAM;
    match level {
        Level::Error => format!("{program}: {message}\n"),
        level => format!("{program}: {}: {message}\n", level.as_str()),
    }
}

/// A datagram for `/dev/log` (RFC 3164, whose time local daemons add).
fn syslog_line(level: Level, name: &str, message: &str) -> Vec<u8> {
    format!("<{}>{name}: {}", level.priority(), message.replace('\n', " ")).into_bytes()
}

/// A datagram in the journal's native protocol. A value with line ends is preceded by its length.
fn journal_entry(level: Level, name: &str, message: &str) -> Vec<u8> {
    let mut out = format!("PRIORITY={}\nSYSLOG_IDENTIFIER={name}\nMESSAGE\n", level.priority() & 7).into_bytes();
    out.extend((message.len() as u64).to_le_bytes());
    out.extend(message.as_bytes());
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn noon() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_320_000)
    }

    #[test]
    fn records() {
        let check = |format, message: &str, expect: &str| {
            assert_eq!(record(format, Level::Error, message, noon()), format!("{expect}\n"));
        };
        check(Format::Json, "no such file", r#"{"level":"error","msg":"no such file","time":"2026-11-22T04:00:00Z"}"#);
        check(
            Format::Json,
            "a \"b\"\n\u{1}",
            r#"{"level":"error","msg":"a \"b\"\n\u0001","time":"2026-11-22T04:00:00Z"}"#,
        );
        check(Format::Text, "a \"b\"", r#"time="2026-11-22T04:00:00Z" level=error msg="a \"b\"""#);
    }

    #[test]
    fn targets() {
        let check = |text: &str, expect: Target| assert_eq!(Target::named(text.into()), expect, "{text:?}");
        check("/run/log.json", Target::File("/run/log.json".into()));
        check("file:/run/log.json", Target::File("/run/log.json".into()));
        check("syslog:web", Target::Syslog("web".to_owned()));
        check("journald:", Target::Journald(String::new()));
        check("other:/x", Target::File("other:/x".into()));
    }

    #[test]
    fn datagrams() {
        assert_eq!(syslog_line(Level::Error, "web", "a\nb"), b"<27>web: a b");
        let entry = journal_entry(Level::Debug, "web", "a\nb");
        assert_eq!(entry, b"PRIORITY=7\nSYSLOG_IDENTIFIER=web\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n");
    }

    #[test]
    fn file_is_appended_to() -> io::Result<()> {
        let dir = std::env::temp_dir().join(format!("gantry-log-{}", std::process::id()));
        std::fs::create_dir(&dir)?;
        let path = dir.join("log.json");
        for message in ["first", "second"] {
            let log = Log::open(&Target::File(path.clone()), Format::Json, Level::Warning, noon)?;
            log.debug("not this");
            log.warn(message);
        }
        let text = std::fs::read_to_string(&path);
        std::fs::remove_dir_all(&dir)?;
        let expect = [
            r#"{"level":"warning","msg":"first","time":"2026-11-22T04:00:00Z"}"#,
            r#"{"level":"warning","msg":"second","time":"2026-11-22T04:00:00Z"}"#,
            "",
        ]
        .join("\n");
        assert_eq!(text?, expect);
        Ok(())
    }

    #[test]
    fn long_messages_are_cut() {
        let long = "é".repeat(LONGEST);
        assert_eq!(cut(&long).len(), LONGEST);
        assert_eq!(cut(&long[..10]).len(), 10);
    }
}
