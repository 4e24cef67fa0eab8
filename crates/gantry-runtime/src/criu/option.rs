//! What CRIU is asked: requests and their options, as data that can be read, and as messages of its service protocol
//! (`images/rpc.proto` of CRIU).

use std::fmt;

use super::wire::{Message, Value, fields};

/// What is asked for (`criu_req_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Save a process tree.
    Dump = 1,
    /// Bring one back.
    Restore = 2,
    /// Save memory alone; the processes go on.
    PreDump = 4,
    /// A notification, or the answer to one.
    Notify = 6,
    /// Which features CRIU and the kernel have.
    FeatureCheck = 9,
}

/// How cgroups are treated (`criu_cg_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManageCgroups {
    /// Not at all: processes come back in the cgroup of CRIU.
    Ignore = 0,
    /// Properties of cgroups that CRIU makes are restored.
    Soft = 3,
    /// Properties of all are.
    Full = 4,
    /// All, and none of them may exist before.
    Strict = 5,
}

/// How the network is held still while sockets are saved (`criu_network_lock_method`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkLock {
    /// By iptables.
    Iptables = 1,
    /// By nftables.
    Nftables = 2,
    /// Not at all.
    Skip = 3,
}

/// Switches that are off unless they are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    LeaveRunning = 3,
    ExtUnixSk = 4,
    TcpEstablished = 5,
    EvasiveDevices = 6,
    ShellJob = 7,
    FileLocks = 8,
    NotifyScripts = 12,
    TrackMem = 15,
    AutoDedup = 16,
    LinkRemap = 18,
    ManageCgroups = 24,
    RestoreAsSibling = 26,
    TcpSkipInFlight = 46,
    LazyPages = 48,
    OrphanPtsMaster = 50,
    TcpClose = 52,
}

/// One option (`criu_opts`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opt {
    /// A switch that is turned on.
    On(Switch),
    /// The process whose tree is saved.
    Pid(i32),
    /// Name of the log file in the work directory.
    LogFile(&'static str),
    /// Where memory pages go instead of to the image directory.
    PageServer { address: String, port: u16 },
    /// Root of the container's file system.
    Root(String),
    /// Directory of the images that these build upon, relative to theirs.
    ParentImages(String),
    /// The path at which a cgroup of a controller comes back; the empty name is cgroup v2.
    CgroupRoot { controller: String, path: String },
    /// A descriptor of CRIU that takes the place of something named.
    InheritFd { key: String, fd: i32 },
    /// How cgroups are treated.
    CgroupMode(ManageCgroups),
    /// Something that is not saved, and comes from outside again.
    External(String),
    /// Namespaces that come back empty, `CLONE_NEW*` bits.
    EmptyNamespaces(u32),
    /// A namespace that is joined.
    JoinNamespace { kind: &'static str, path: String },
    /// Directory of the cgroup by which the processes are frozen.
    FreezeCgroup(String),
    /// A further file of options.
    ConfigFile(String),
    /// Label of the processes.
    LsmProfile(String),
    /// Label of the mounts.
    LsmMountContext(String),
    /// How the network is held still.
    NetworkLock(NetworkLock),
}

/// Warnings, and what is done.
const LOG_LEVEL: i32 = 4;

impl Opt {
    fn encode(&self, m: &mut Message) {
        match self {
            Self::On(switch) => m.number(*switch as u32, true),
            Self::Pid(pid) => m.number(2, *pid),
            Self::LogFile(name) => {
                m.number(9, LOG_LEVEL);
                m.text(10, name);
            }
            Self::PageServer { address, port } => m.message(11, pair((1, address), |m| m.number(2, *port))),
            Self::Root(path) => m.text(13, path),
            Self::ParentImages(path) => m.text(14, path),
            Self::CgroupRoot { controller, path } => m.message(25, pair((1, controller), |m| m.text(2, path))),
            Self::InheritFd { key, fd } => m.message(27, pair((1, key), |m| m.number(2, *fd))),
            Self::CgroupMode(mode) => m.number(34, *mode as i32),
            Self::External(name) => m.text(37, name),
            Self::EmptyNamespaces(bits) => m.number(38, *bits),
            Self::JoinNamespace { kind, path } => {
                m.message(39, pair((1, kind), |m| m.text(2, path)));
            }
            Self::FreezeCgroup(path) => m.text(44, path),
            Self::ConfigFile(path) => m.text(51, path),
            Self::LsmProfile(name) => m.text(53, name),
            Self::LsmMountContext(name) => m.text(63, name),
            Self::NetworkLock(method) => m.number(64, *method as i32),
        }
    }
}

fn pair(first: (u32, &str), rest: impl FnOnce(&mut Message)) -> Message {
    let mut message = Message::default();
    message.text(first.0, first.1);
    rest(&mut message);
    message
}

impl fmt::Display for Opt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On(switch) => write!(f, "{switch:?}"),
            Self::Pid(pid) => write!(f, "process {pid}"),
            Self::LogFile(name) => write!(f, "log to {name}"),
            Self::PageServer { address, port } => write!(f, "page server {address} port {port}"),
            Self::Root(path) => write!(f, "root {path}"),
            Self::ParentImages(path) => write!(f, "parent images {path}"),
            Self::CgroupRoot { controller, path } => write!(f, "cgroup {controller}:{path}"),
            Self::InheritFd { key, fd } => write!(f, "descriptor {fd} is {key}"),
            Self::CgroupMode(mode) => write!(f, "cgroups {mode:?}"),
            Self::External(name) => write!(f, "external {name}"),
            Self::EmptyNamespaces(bits) => write!(f, "empty namespaces {bits:#x}"),
            Self::JoinNamespace { kind, path } => write!(f, "join {kind} {path}"),
            Self::FreezeCgroup(path) => write!(f, "freeze {path}"),
            Self::ConfigFile(path) => write!(f, "options from {path}"),
            Self::LsmProfile(name) => write!(f, "label {name}"),
            Self::LsmMountContext(name) => write!(f, "label of mounts {name}"),
            Self::NetworkLock(method) => write!(f, "network lock {method:?}"),
        }
    }
}

/// Descriptors of CRIU's process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Directories {
    /// Where the images are.
    pub(crate) images: i32,
    /// Where the log goes, if not there.
    pub(crate) work: Option<i32>,
}

/// A request with options.
pub(super) fn request(kind: Kind, directories: Directories, options: &[Opt]) -> Vec<u8> {
    let mut inner = Message::default();
    inner.number(1, directories.images);
    if let Some(work) = directories.work {
        inner.number(17, work);
    }
    for option in options {
        option.encode(&mut inner);
    }
    let mut message = Message::default();
    message.number(1, kind as i32);
    message.message(2, inner);
    message.into_bytes()
}

/// Features that may be missing (`criu_features`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// The kernel tells which pages of memory were written to.
    MemTrack = 1,
    /// Pages can be brought back when they are first touched.
    LazyPages = 2,
}

/// The question whether there is a feature.
pub(super) fn feature_request(feature: Feature) -> Vec<u8> {
    let mut inner = Message::default();
    inner.number(feature as u32, true);
    let mut message = Message::default();
    message.number(1, Kind::FeatureCheck as i32);
    message.message(5, inner);
    message.into_bytes()
}

/// The answer to a notification: go on.
pub(super) fn go_on() -> Vec<u8> {
    let mut message = Message::default();
    message.number(1, Kind::Notify as i32);
    message.number(3, true);
    message.into_bytes()
}

/// What CRIU says (`criu_resp`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Response {
    /// To which kind of request.
    pub(crate) kind: u64,
    /// Whether it was done.
    pub(crate) success: bool,
    /// The restored process, or the one that a notification is about.
    pub(crate) pid: Option<i32>,
    /// The point that was reached.
    pub(crate) script: String,
    /// Number of the error.
    pub(crate) errno: i32,
    /// The error in words.
    pub(crate) message: String,
    /// Features that are there, by number.
    pub(crate) features: Vec<u64>,
}

impl Response {
    /// Reads it; none if it is damaged.
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        let mut response = Self::default();
        for (number, value) in fields(data)? {
            match number {
                1 => response.kind = value.as_number(),
                2 => response.success = value.as_number() != 0,
                4 => response.pid = inner(value, 1)?.first().map(|v| v.as_number() as i32),
                5 => {
                    response.script = inner(value, 1)?.first().map(|v| v.as_text()).unwrap_or_default();
                    response.pid = inner(value, 2)?.first().map(|v| v.as_number() as i32);
                }
                7 => response.errno = value.as_number() as i32,
                8 => {
                    let there = fields(value.as_bytes())?;
                    response.features = there.iter().filter(|(_, v)| v.as_number() != 0).map(|(n, _)| *n).collect();
                }
                9 => response.message = value.as_text(),
                _ => {}
            }
        }
        Some(response)
    }
}

/// The fields of that number in a message; none if it is damaged.
fn inner(value: Value<'_>, number: u64) -> Option<Vec<Value<'_>>> {
    Some(fields(value.as_bytes())?.into_iter().filter(|(n, _)| *n == number).map(|(_, value)| value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let check = |options: &[Opt], expect: &[u8]| {
            let message = request(Kind::Dump, Directories { images: 5, work: None }, options);
            let (head, rest) = message.split_at(6);
            assert_eq!(head, [8, 1, 0x12, expect.len() as u8 + 2, 8, 5], "{options:?}");
            assert_eq!(rest, expect, "{options:?}");
        };
        check(&[], &[]);
        check(&[Opt::Pid(7), Opt::On(Switch::LeaveRunning)], &[0x10, 7, 0x18, 1]);
        check(&[Opt::CgroupMode(ManageCgroups::Ignore)], &[0x90, 2, 0]);
        let fd = Opt::InheritFd { key: "k".to_owned(), fd: 4 };
        check(&[fd], &[0xda, 1, 5, 0x0a, 1, b'k', 0x10, 4]);
        let root = Opt::CgroupRoot { controller: String::new(), path: "/c".to_owned() };
        check(&[root], &[0xca, 1, 6, 0x0a, 0, 0x12, 2, b'/', b'c']);
    }

    #[test]
    fn responses() {
        let check = |data: &[u8], expect: Option<Response>| assert_eq!(Response::parse(data), expect, "{data:?}");
        let restored = Response { kind: 2, success: true, pid: Some(300), ..Response::default() };
        check(&[8, 2, 16, 1, 0x22, 3, 8, 0xac, 2], Some(restored));
        let notified =
            Response { kind: 6, success: true, script: "ab".to_owned(), pid: Some(9), ..Response::default() };
        check(&[8, 6, 16, 1, 0x2a, 6, 0x0a, 2, b'a', b'b', 0x10, 9], Some(notified));
        let failed = Response { kind: 1, errno: 3, message: "no".to_owned(), ..Response::default() };
        check(&[8, 1, 16, 0, 0x38, 3, 0x4a, 2, b'n', b'o'], Some(failed));
        let features = Response { kind: 9, success: true, features: vec![2], ..Response::default() };
        check(&[8, 9, 16, 1, 0x42, 4, 8, 0, 16, 1], Some(features));
        check(&[8], None);
        check(&[0x2a, 1, 8], None);
    }
}
