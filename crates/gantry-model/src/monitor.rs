//! What an engine and the monitor of a process say to each other.
//!
//! A monitor is started with a [`Launch`] document. It answers with a line of JSON, a [`Ready`], on its standard output,
//! and listens from then on, at [`Launch::socket`], to whoever may connect to it: a socket of type `SOCK_SEQPACKET`,
//! each packet a [`Request`]. When the process has ended, an [`Exit`] lies at [`Launch::exit`], and every connection gets
//! it, as JSON, before it is closed.

use serde::{Deserialize, Serialize};

use crate::oci::spec::Process;

/// What a monitor is to run and to look after.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Launch {
    /// Where the runtime keeps its state.
    pub root: String,
    /// The container.
    pub id: String,
    /// Absolute path of its bundle; of no meaning for a further process.
    #[serde(default)]
    pub bundle: String,
    /// A further process to run in a container that runs; absent is the container's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Process>,
    /// Whether the process has a terminal.
    #[serde(default)]
    pub terminal: bool,
    /// Whether the process's standard input is open for clients that attach.
    #[serde(default)]
    pub stdin: bool,
    /// Whether standard input ends with that of the first client that attached it.
    #[serde(default)]
    pub stdin_once: bool,
    /// Whether the monitor's own standard input is the socket of a client that is attached from the beginning, and to
    /// which streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach: Option<Attach>,
    /// Whether systemd makes the cgroups.
    #[serde(default)]
    pub systemd: bool,
    /// Path of the mount namespace that the container's is copied from; none is the monitor's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounts_from: Option<String>,
    /// Path of the socket to listen at.
    pub socket: String,
    /// Path of the exit record.
    pub exit: String,
    /// Where the output goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogFile>,
    /// The checkpoint that the container goes on from; it runs then when the monitor says that it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
}

/// A checkpoint to go on from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// Absolute path of the directory that it is in.
    pub images: String,
    /// Absolute path of the directory for the log of the restoration.
    pub work: String,
}

/// Which streams of a process a client is attached to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attach {
    /// What is read from it goes to standard input.
    #[serde(default)]
    pub stdin: bool,
    /// Standard output is written to it.
    #[serde(default)]
    pub stdout: bool,
    /// Standard error is written to it.
    #[serde(default)]
    pub stderr: bool,
}

/// A log file that is rotated.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogFile {
    /// Path of the newest file; older ones have `.N` after it, or `.N.zst` if they are compressed. Greater is newer, and a
    /// file keeps its number.
    pub path: String,
    /// How it is written.
    pub format: LogFormat,
    /// The most bytes of a file; 0 is no bound.
    pub max_size: u64,
    /// The most files, the newest counted; 1 at least.
    pub max_files: u32,
}

/// How a log file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Records of [`crate::logrecord`].
    Local,
    /// A JSON object a line, as other engines write it.
    JsonFile,
}

/// The first word of a monitor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ready {
    /// The process is there, by its id; a container's own waits to be started, unless it goes on from a checkpoint.
    Pid(i32),
    /// There is none, and nothing is left of it: why.
    Error(String),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// Its exit status; 128 and the signal's number if a signal ended it.
    pub code: u8,
    /// Whether the kernel killed something in its cgroup for want of memory.
    #[serde(default)]
    pub oom: bool,
    /// Whether it ended by a checkpoint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub saved: bool,
    /// When it ended, in nanoseconds since 1970.
    pub finished: u64,
}

/// What can be asked of a monitor. A request is a packet of at most [`Request::MAX`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Joins the socket that comes along with it to the process's streams. Without a terminal what is written to it is
    /// in frames: stream, three zero bytes, length as four big-endian bytes, data.
    Attach {
        /// What is read from it goes to standard input.
        stdin: bool,
        /// Standard output is written to it.
        stdout: bool,
        /// Standard error is written to it.
        stderr: bool,
    },
    /// Gives the terminal a size.
    Resize {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
    /// Ends the process's standard input.
    CloseStdin,
}

impl Request {
    /// The longest packet in bytes.
    pub const MAX: usize = 8;

    /// The packet, and how many of its bytes are meant.
    pub fn encode(self) -> ([u8; Self::MAX], usize) {
        let mut packet = [0; Self::MAX];
        match self {
            Self::Attach { stdin, stdout, stderr } => {
                packet[0] = b'A';
                packet[1] = u8::from(stdin) | u8::from(stdout) << 1 | u8::from(stderr) << 2;
                (packet, 2)
            }
            Self::Resize { rows, columns } => {
                packet[0] = b'R';
                packet[1..3].copy_from_slice(&rows.to_le_bytes());
                packet[3..5].copy_from_slice(&columns.to_le_bytes());
                (packet, 5)
            }
            Self::CloseStdin => {
                packet[0] = b'C';
                (packet, 1)
            }
        }
    }

    /// Reads a packet; none if it is no request.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        match *packet {
            [b'A', flags] if flags < 8 => {
                Some(Self::Attach { stdin: flags & 1 != 0, stdout: flags & 2 != 0, stderr: flags & 4 != 0 })
            }
            [b'R', a, b, c, d] => {
                Some(Self::Resize { rows: u16::from_le_bytes([a, b]), columns: u16::from_le_bytes([c, d]) })
            }
            [b'C'] => Some(Self::CloseStdin),
            _ => None,
        }
    }
}

/// The answer to a request that was carried out.
pub const DONE: &[u8] = b"K";
/// The answer to a request that was not.
pub const REFUSED: &[u8] = b"F";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_back() {
        for request in [
            Request::Attach { stdin: true, stdout: false, stderr: true },
            Request::Resize { rows: 25, columns: 300 },
            Request::CloseStdin,
        ] {
            let (packet, length) = request.encode();
            assert_eq!(Request::decode(&packet[..length]), Some(request));
            assert_eq!(Request::decode(&packet[..length - 1]), None);
        }
        assert_eq!(Request::decode(b"A\xff"), None);
    }
}
