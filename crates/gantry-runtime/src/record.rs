//! Containers on disk: a directory for each, under the state root.
//!
//! | file | holds |
//! |---|---|
//! | `config.json` | the configuration as it was when the container was made; whoever makes it holds a lock on it |
//! | `state.json` | what has been made: written before anything is, and again with the process; always whole |
//! | `checkpointed` | nothing: it is there once the container ended by a checkpoint |
//! | `restoring` | nothing: it is there while the container is being restored |
//! | `start.sock` | the socket on which the container's process waits to be started; gone once it is |

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use gantry_model::ContainerId;
use gantry_model::oci::spec::Spec;
use gantry_model::oci::state::{State, Status};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RawDir, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::interp::paths::open_host;

/// The most of a document that is read, in bytes.
pub const MAX_DOCUMENT: u64 = 32 << 20;
const CONFIG: &str = "config.json";
const STATE: &str = "state.json";
const CHECKPOINTED: &str = "checkpointed";
const RESTORING: &str = "restoring";

/// What is known of a container beyond its configuration.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The specification's version that the configuration follows.
    pub oci_version: String,
    /// Identifier.
    pub id: String,
    /// First process in the runtime's PID namespace; 0 before it is made.
    pub pid: i32,
    /// Its start, in clock ticks since the host's boot: tells it from a later process of the same id.
    pub start_time: u64,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// Absolute path of the root file system.
    pub rootfs: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Who made it, user id.
    pub owner: u32,
    /// The cgroup.
    pub cgroup: gantry_cgroup::Location,
    /// Directories under resctrl that were made for it, the innermost last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resctrl: Vec<String>,
    /// Whether its user namespace denies setgroups(2).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub groups_denied: bool,
}

/// The state root: a directory of containers.
#[derive(Clone, Debug)]
pub struct Store {
    root: String,
}

/// One container's directory, open.
#[derive(Debug)]
pub struct Directory {
    path: String,
    fd: OwnedFd,
}

impl Store {
    /// The store at a directory, which is made when the first container is.
    pub fn new(root: impl Into<String>) -> Self {
        Self { root: root.into() }
    }

    /// The directory's path.
    pub fn root(&self) -> &str {
        &self.root
    }

    fn path(&self, id: &ContainerId) -> String {
        format!("{}/{id}", self.root)
    }

    /// Makes the directory of a new container.
    pub fn make(&self, id: &ContainerId) -> Result<Directory> {
        let path = self.path(id);
        let mode = Mode::from_raw_mode(0o700);
        match mkdirat(CWD, &path, mode) {
            Err(Errno::NOENT) => {
                make_root(&self.root).context(|| format!("make state directory {}", self.root))?;
                match mkdirat(CWD, &path, mode) {
                    Err(Errno::EXIST) => return Err(Error::Exists(id.to_string())),
                    result => result.context(|| format!("make {path}"))?,
                }
            }
            Err(Errno::EXIST) => return Err(Error::Exists(id.to_string())),
            result => result.context(|| format!("make {path}"))?,
        }
        self.open(id)
    }

    /// Opens the directory of a container.
    pub fn open(&self, id: &ContainerId) -> Result<Directory> {
        let path = self.path(id);
        match open_host(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW) {
            Ok(fd) => Ok(Directory { path, fd }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::NotFound(id.to_string())),
            Err(cause) => Err(Error::Io { what: format!("open {path}"), cause }),
        }
    }

    /// The identifiers of all containers, sorted.
    pub fn list(&self) -> Result<Vec<ContainerId>> {
        let dir = match open_host(&self.root, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.context(|| format!("open state directory {}", self.root))?,
        };
        let mut ids = Vec::new();
        let mut buffer = Vec::with_capacity(8192);
        let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.context(|| format!("read {}", self.root))?;
            ids.extend(entry.file_name().to_str().ok().and_then(|name| ContainerId::new(name).ok()));
        }
        ids.sort();
        Ok(ids)
    }
}

/// Makes the state root and what is missing above it.
fn make_root(root: &str) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root)
}

impl Directory {
    /// Its path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The open directory.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A path in it that stays valid while it is open, however long its own is.
    pub fn at(&self, name: &str) -> String {
        format!("/proc/self/fd/{}/{name}", self.fd.as_raw_fd())
    }

    /// Keeps the configuration, and locks it until the returned file is closed: so others know that the container is
    /// being made by someone who lives.
    pub fn keep_config(&self, config: &[u8]) -> Result<File> {
        let file = self.new_file(CONFIG)?;
        lock(&file, FlockOperation::NonBlockingLockExclusive).context(|| format!("lock {}/{CONFIG}", self.path))?;
        (&file).write_all(config).context(|| format!("write {}/{CONFIG}", self.path))?;
        Ok(file)
    }

    fn new_file(&self, name: &str) -> Result<File> {
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))
            .context(|| format!("make {}/{name}", self.path))?;
        Ok(File::from(fd))
    }

    /// Whether someone is making the container.
    fn is_being_made(&self) -> bool {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(file) = openat(&self.fd, CONFIG, flags, Mode::empty()) else { return false };
        lock(&File::from(file), FlockOperation::NonBlockingLockExclusive).is_err()
    }

    /// The kept configuration.
    pub fn config(&self) -> Result<Spec> {
        let text = self.read(CONFIG)?;
        serde_json::from_slice(&text).map_err(|cause| Error::Parse { path: format!("{}/{CONFIG}", self.path), cause })
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = || format!("read {}/{name}", self.path);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(&self.fd, name, flags, Mode::empty()).context(path)?);
        let mut text = Vec::new();
        file.take(MAX_DOCUMENT).read_to_end(&mut text).context(path)?;
        Ok(text)
    }

    /// The record; none where making the container was cut off before anything else was made.
    pub fn record(&self) -> Result<Option<Record>> {
        match self.read(STATE) {
            Err(Error::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            text => match serde_json::from_slice(&text?) {
                Err(cut_off) if cut_off.is_eof() => Ok(None),
                record => {
                    record.map(Some).map_err(|cause| Error::Parse { path: format!("{}/{STATE}", self.path), cause })
                }
            },
        }
    }

    /// Writes the first record, while nothing else has been made: one that is cut off counts as none.
    pub fn write_first_record(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).map_err(|cause| Error::Parse { path: STATE.to_owned(), cause })?;
        self.new_file(STATE)?.write_all(&text).context(|| format!("write {}/{STATE}", self.path))
    }

    /// Writes the record: the old one or the new one is there at every moment.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        const NEW: &str = "state.json.new";
        let text = serde_json::to_vec(record).map_err(|cause| Error::Parse { path: STATE.to_owned(), cause })?;
        self.new_file(NEW)?.write_all(&text).context(|| format!("write {}/{NEW}", self.path))?;
        renameat(&self.fd, NEW, &self.fd, STATE).context(|| format!("write {}/{STATE}", self.path))
    }

    /// Whether the start socket is there.
    pub fn waits(&self) -> bool {
        self.has(crate::interp::START_SOCKET)
    }

    /// Removes the start socket: the container counts as started.
    pub fn remove_start_socket(&self) -> Result<()> {
        match unlinkat(&self.fd, crate::interp::START_SOCKET, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            result => result.context(|| format!("remove {}/{}", self.path, crate::interp::START_SOCKET)),
        }
    }

    /// Removes the directory with all that is in it, after everything that the record tells of: that goes first, and with
    /// it the container.
    pub fn remove(&self) -> Result<()> {
        let mut buffer = Vec::with_capacity(4096);
        let mut names = Vec::new();
        let listing = openat(&self.fd, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .context(|| format!("open {}", self.path))?;
        let mut entries = RawDir::new(listing, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.context(|| format!("read {}", self.path))?;
            names.push(entry.file_name().to_owned());
        }
        names.sort_by_key(|name| name.as_c_str() != c"state.json");
        for name in names.iter().filter(|name| !matches!(name.as_bytes(), b"." | b"..")) {
            match unlinkat(&self.fd, name.as_c_str(), AtFlags::empty()) {
                Err(Errno::NOENT) => {}
                // The one directory there is.
                Err(Errno::ISDIR) => crate::notify::remove(self.fd.as_fd())
                    .context(|| format!("remove {}/{}", self.path, name.to_string_lossy()))?,
                result => result.context(|| format!("remove {}/{}", self.path, name.to_string_lossy()))?,
            }
        }
        match unlinkat(CWD, &self.path, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => Ok(()),
            result => result.context(|| format!("remove {}", self.path)),
        }
    }

    /// Notes that the container ended by a checkpoint, so that a restoration may take its place.
    pub fn mark_checkpointed(&self) -> Result<()> {
        self.new_file(CHECKPOINTED).map(drop)
    }

    /// Takes the note back: the container goes on after all.
    pub fn unmark_checkpointed(&self) {
        // A note that stays is of no meaning while the container runs.
        let _ = unlinkat(&self.fd, CHECKPOINTED, AtFlags::empty());
    }

    /// Notes that the container is being restored: it has a process, and is not there yet.
    pub fn mark_restoring(&self) -> Result<()> {
        self.new_file(RESTORING).map(drop)
    }

    /// Notes that the container is restored.
    pub fn unmark_restoring(&self) -> Result<()> {
        unlinkat(&self.fd, RESTORING, AtFlags::empty()).context(|| format!("remove {}/{RESTORING}", self.path))
    }

    /// Whether it ended by a checkpoint.
    pub fn is_checkpointed(&self) -> bool {
        self.has(CHECKPOINTED)
    }

    /// Where the container is in its life, by what is on disk and in the kernel.
    pub fn status(&self, record: &Record) -> Status {
        if record.pid == 0 {
            return if self.is_being_made() { Status::Creating } else { Status::Stopped };
        }
        if !is_alive(record.pid, record.start_time) {
            return Status::Stopped;
        }
        if record.cgroup.frozen().unwrap_or(false) {
            return Status::Paused;
        }
        match self.waits() {
            true if self.is_being_made() => Status::Creating,
            true => Status::Created,
            false if self.has(RESTORING) && self.is_being_made() => Status::Creating,
            false => Status::Running,
        }
    }

    fn has(&self, name: &str) -> bool {
        statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }
}

/// A lock that belongs to this process alone: a child does not hold it, and it ends with the process.
fn lock(file: &File, operation: FlockOperation) -> Result<(), Errno> {
    rustix::fs::fcntl_lock(file, operation)
}

/// When a process started, in clock ticks since boot; none for one that is gone or a zombie (proc_pid_stat(5)).
pub fn start_time(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, so fields are counted from its end.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    match *fields.first()? {
        "Z" | "X" | "x" => None,
        _ => fields.get(19)?.parse().ok(),
    }
}

fn is_alive(pid: i32, started: u64) -> bool {
    start_time(pid) == Some(started)
}

impl Record {
    /// A descriptor of the container's first process, if it lives.
    pub fn process(&self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // The descriptor was opened before the start is compared, so it is of the process that is meant.
        is_alive(self.pid, self.start_time).then_some(pidfd)
    }

    /// The state document.
    pub fn state(&self, spec: &Spec, status: Status) -> State {
        State {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            status,
            pid: (self.pid != 0 && status != Status::Stopped).then_some(self.pid),
            bundle: self.bundle.clone(),
            annotations: spec.annotations.clone(),
        }
    }
}
