//! The monitor of a process: it makes or restores a container, or makes a further process in one, holds its streams, writes
//! its log, reaps it and records its end. It depends on nothing but the kernel, so that containers outlive the engine that
//! made them.
//!
//! What is said between the two is in `gantry_model::monitor`. A monitor lives as long as its process, and there is one
//! for each, so it is one thread, and takes no memory that it does not give back.

mod clients;
mod logfile;
mod relay;

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use gantry_model::ContainerId;
use gantry_model::monitor::{Exit, Launch, Ready};
use gantry_runtime::{
    ConsoleTo, Container, CreateRequest, Created, Criu, ExecRequest, Flags, RestoreRequest, Runtime, Warn,
};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::foreground::{Blocked, Process, exit_code};
use crate::time::rfc3339_nano;

pub use logfile::Writer;
use relay::Relay;

/// The longest launch document in bytes.
const MAX_LAUNCH: u64 = 4 << 20;

/// Why a monitor could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The launch document is none.
    #[error("read {path}: {cause}")]
    Launch {
        /// Its path.
        path: String,
        /// What is wrong.
        cause: String,
    },
    /// A system call failed.
    #[error("{what}: {cause}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The kernel's answer.
        #[source]
        cause: io::Error,
    },
    /// The container's name is none.
    #[error(transparent)]
    Id(#[from] gantry_model::InvalidId),
    /// The runtime could not make the process.
    #[error(transparent)]
    Runtime(#[from] gantry_runtime::Error),
}

trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|cause| Error::Io { what: what(), cause: cause.into() })
    }
}

/// Nanoseconds since 1970, by the clock that the program was given.
fn nanoseconds(clock: fn() -> SystemTime) -> u64 {
    clock().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Runs what the document at `path` asks for, and looks after it until it has ended. What comes of the start is told on
/// the standard output, and nowhere else; `settle` is called when nothing big is going to be allocated any more.
///
/// # Errors
/// There is no process, and nothing is left of it.
pub fn main(path: &Path, clock: fn() -> SystemTime, settle: fn()) -> Result<(), Error> {
    let mut ready = File::from(
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)
            .context(|| "take the standard output".to_owned())?,
    );
    let started = begin(path, clock);
    let word = match &started {
        Ok(running) => Ready::Pid(running.created.pid),
        Err(error) => Ready::Error(error.to_string()),
    };
    let mut line = serde_json::to_vec(&word).unwrap_or_default();
    line.push(b'\n');
    let told = ready.write_all(&line);
    drop((ready, line, word));
    let running = started?;
    if told.is_err() && running.launch.exec.is_none() {
        // The engine is gone that wanted to start it: nobody ever will.
        running.give_up();
        return Ok(());
    }
    settle();
    running.look_after(clock)
}

/// A process and what there is to look after it.
struct Running {
    launch: Launch,
    /// The document, locked as long as this monitor is there: so an engine knows when it is gone.
    _lock: File,
    runtime: Runtime,
    blocked: Blocked,
    created: Created,
    relay: Relay,
}

fn begin(path: &Path, clock: fn() -> SystemTime) -> Result<Running, Error> {
    let (launch, lock) = read_launch(path)?;
    // Not the engine's session: what ends that one must not end this.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context(|| "adopt orphans".to_owned())?;
    // The last to be killed for want of memory: it is small, and its process would be lost sight of.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-998");
    let blocked = Blocked::new().context(|| "block signals".to_owned())?;
    let what = || "take the standard error".to_owned();
    let errors = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3).context(what)?;
    let warnings = File::from(errors.try_clone().context(what)?);
    let client = match launch.attach {
        Some(_) => {
            let what = || "take the standard input".to_owned();
            Some(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).context(what)?)
        }
        None => None,
    };
    let listener = listen(&launch.socket).context(|| format!("listen at {}", launch.socket))?;
    let made = prepare(&launch, listener, warnings).and_then(|(runtime, mut relay)| {
        relay.first = launch.attach.zip(client);
        let created = make(&launch, &runtime, &mut relay, &errors, clock)?;
        Ok((runtime, relay, created))
    });
    match made {
        Ok((runtime, relay, created)) => Ok(Running { launch, _lock: lock, runtime, blocked, created, relay }),
        Err(error) => {
            let _ = std::fs::remove_file(&launch.socket);
            Err(error)
        }
    }
}

/// The runtime, whose warnings must not go to the streams of the process, and the relay with its log.
fn prepare(launch: &Launch, listener: OwnedFd, warnings: File) -> Result<(Runtime, Relay), Error> {
    let log = launch.log.clone().map(|spec| {
        let path = spec.path.clone();
        Writer::open(spec).context(|| format!("open log {path}"))
    });
    let relay = Relay::new(listener, log.transpose()?, launch.stdin_once, launch.terminal);
    let runtime = Runtime {
        store: gantry_runtime::record::Store::new(launch.root.clone()),
        systemd: launch.systemd,
        no_cgroups: false,
        rootless: None,
        // Nobody may listen; a warning is not worth more.
        warn: Warn::to(move |what| drop(writeln!(&warnings, "gantry-oci: {what}"))),
    };
    Ok((runtime, relay))
}

/// Reads the document, and locks it.
fn read_launch(path: &Path) -> Result<(Launch, File), Error> {
    use io::Read as _;
    let failed = |cause: String| Error::Launch { path: path.display().to_string(), cause };
    let mut text = Vec::new();
    let mut file = File::open(path).map_err(|error| failed(error.to_string()))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|error| failed(format!("somebody else has it: {error}")))?;
    let links = rustix::fs::fstat(&file).map_err(|error| failed(error.to_string()))?.st_nlink;
    if links == 0 {
        return Err(failed("it was taken back".to_owned()));
    }
    let read = (&mut file).take(MAX_LAUNCH).read_to_end(&mut text);
    read.map_err(|error| failed(error.to_string()))?;
    let launch = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
    Ok((launch, file))
}

/// Listens at a path of any length, in place of whoever listened there before.
fn listen(path: &str) -> io::Result<OwnedFd> {
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
    let directory = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    match rustix::fs::unlinkat(&directory, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?;
    rustix::net::bind(&socket, &address)?;
    rustix::fs::chmodat(&directory, name, Mode::from_raw_mode(0o600), rustix::fs::AtFlags::empty())?;
    rustix::net::listen(&socket, 16)?;
    Ok(socket)
}

/// Makes the process with our ends of its streams in the relay. The process gets this one's standard streams, so for a
/// moment they are its own.
fn make(
    launch: &Launch,
    runtime: &Runtime,
    relay: &mut Relay,
    errors: &OwnedFd,
    clock: fn() -> SystemTime,
) -> Result<Created, Error> {
    let what = || "make the process's streams".to_owned();
    let null = rustix::fs::openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(what)?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).context(what);
    let mut theirs =
        [null.try_clone().context(what)?, null.try_clone().context(what)?, null.try_clone().context(what)?];
    if !launch.terminal {
        for (place, end) in theirs.iter_mut().skip(1).enumerate() {
            let (read, write) = pipe()?;
            relay.outputs[place] = Some(read);
            *end = write;
        }
        if launch.stdin {
            let (read, write) = pipe()?;
            theirs[0] = read;
            relay.input = Some(write);
        }
    }
    streams(&theirs[0], &theirs[1], &theirs[2]).context(what)?;
    drop(theirs);
    let made = create(launch, runtime, clock);
    let restored = streams(&null, &null, errors);
    let mut created = made?;
    let ready = restored.map_err(io::Error::from).and_then(|()| {
        created.console.take().map_or(Ok(()), |master| relay.set_terminal(master))?;
        Ok(relay.unblock()?)
    });
    ready
        .map(|()| created)
        .map_err(|cause| Error::Io { what: what(), cause })
        .inspect_err(|_| take_back(launch, runtime))
}

/// Ends a container that was made and cannot be looked after. A further process ends with its streams.
fn take_back(launch: &Launch, runtime: &Runtime) {
    if launch.exec.is_none()
        && let Ok(id) = ContainerId::new(&launch.id)
        && let Err(error) = runtime.delete(&id, true)
    {
        eprintln!("gantry-oci: delete container {id}: {error}");
    }
}

/// Makes these the standard streams.
fn streams(input: &OwnedFd, output: &OwnedFd, errors: &OwnedFd) -> rustix::io::Result<()> {
    rustix::stdio::dup2_stdin(input)?;
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(errors)
}

fn create(launch: &Launch, runtime: &Runtime, clock: fn() -> SystemTime) -> Result<Created, Error> {
    let id = ContainerId::new(&launch.id)?;
    let console = if launch.terminal { ConsoleTo::Runtime } else { ConsoleTo::Nobody };
    // CRIU makes its mount namespaces itself.
    let mounts_from = launch.mounts_from.clone().filter(|_| launch.restore.is_none());
    let flags = Flags { console, mounts_from, ..Flags::default() };
    let now = rfc3339_nano(clock());
    if let Some(process) = &launch.exec {
        let process = process.clone();
        let request = ExecRequest { id: &id, process, flags: &flags, cgroups: &[], ignore_paused: false, now: &now };
        return Ok(runtime.exec(&request)?);
    }
    let bundle = &launch.bundle;
    if let Some(restore) = &launch.restore {
        let criu = Criu {
            image_path: restore.images.clone(),
            work_path: Some(restore.work.clone()),
            file_locks: true,
            ..Criu::default()
        };
        // The other ends of connections have not waited.
        let request = RestoreRequest {
            id: &id,
            bundle,
            criu,
            flags: &flags,
            tcp_close: true,
            lsm_profile: None,
            lsm_mount_context: None,
            now: &now,
        };
        return Ok(runtime.restore(&request)?);
    }
    let request = CreateRequest { id: &id, bundle, config: None, flags: &flags, start: false, now: &now };
    Ok(runtime.create(&request)?)
}

impl Running {
    /// Ends what was made, and all that tells of it.
    fn give_up(self) {
        take_back(&self.launch, &self.runtime);
        let _ = std::fs::remove_file(&self.launch.socket);
    }

    fn look_after(mut self, clock: fn() -> SystemTime) -> Result<(), Error> {
        let process = Process { pid: self.created.pid, pidfd: self.created.pidfd.as_fd() };
        let status = self.relay.run(&self.blocked, process, clock).context(|| "look after the process".to_owned())?;
        let container = self.created.container.as_ref();
        let exit = Exit {
            code: exit_code(status),
            oom: container.is_some_and(|container| container.oom_kills() > 0),
            saved: container.is_some_and(Container::is_checkpointed),
            finished: nanoseconds(clock),
        };
        let text = serde_json::to_vec(&exit).unwrap_or_default();
        // Before anything of the container is taken away: whoever finds the rest knows how it ended.
        let recorded = write_whole(&self.launch.exit, &text).context(|| format!("write {}", self.launch.exit));
        let cleared = match &self.created.container {
            Some(container) => self.runtime.finish(container).map_err(Error::from),
            None => Ok(()),
        };
        self.relay.say_to_all(&text);
        let _ = std::fs::remove_file(&self.launch.socket);
        recorded.and(cleared)
    }
}

/// Writes a file, whole or not at all. A crash of the machine ends the process anyway, and nobody asks how.
fn write_whole(path: &str, bytes: &[u8]) -> io::Result<()> {
    let new = format!("{path}.new");
    std::fs::write(&new, bytes)?;
    std::fs::rename(&new, path)
}
