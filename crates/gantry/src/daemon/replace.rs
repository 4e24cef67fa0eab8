//! One daemon takes the place of another in the same process: its sockets stay open, so nobody is refused, and whoever
//! started it sees no end.
//!
//! The daemon that runs says in a file of its run directory who it is, and keeps the file locked. Who wants to replace it
//! writes down by which program, and sends SIGUSR2. The program is asked first whether it can use the configuration; then
//! requests end, the engine and the store are closed, and the process executes it. Locks go with the old program, and the
//! new one finds the containers as after any start.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use super::sockets::{self, Bound};
use crate::failure::{Failure, Of, Outcome};
use crate::terminal;

/// How long the new daemon may take until it answers.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the lock of a daemon that has just ended may stay: a child that it was about to start has it too.
const HANDED: Duration = Duration::from_millis(500);
/// How long a program may take to look at the configuration.
const LOOK: Duration = Duration::from_secs(20);
/// The most that is read of a small file.
const MAX: u64 = 64 << 10;

/// What the daemon that runs says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub pid: u32,
    pub version: String,
    /// How many daemons there were before it in this process.
    pub generation: u64,
    /// Whether it answers.
    pub ready: bool,
    /// How often it was not replaced though it was to be.
    pub refusals: u64,
    /// Why, the last time.
    pub refused: String,
}

/// The file that says who runs, locked for as long as it does.
pub struct Card {
    path: PathBuf,
    file: File,
    said: Said,
}

impl Card {
    /// Says that this process is the daemon of a run directory.
    pub fn put(run: &Path, generation: u64) -> Outcome<Self> {
        let path = card(run);
        let what = || format!("write {}", path.display());
        std::fs::create_dir_all(run).of(what())?;
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o644).open(&path);
        let file = file.of(what())?;
        let until = Instant::now() + HANDED;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                Err(TryLockError::WouldBlock) => {
                    let text = format!("a daemon runs in {} already", run.display());
                    return Err(Failure::new(text).hint("give this one a run directory of its own with --run-dir"));
                }
                Err(TryLockError::Error(error)) => return Err(Failure::from(error).of(what())),
            }
        }
        let (pid, version) = (std::process::id(), env!("CARGO_PKG_VERSION").to_owned());
        let mut all = Self {
            path,
            file,
            said: Said { pid, version, generation, ready: false, refusals: 0, refused: String::new() },
        };
        all.write().of("say who the daemon is")?;
        Ok(all)
    }

    fn write(&mut self) -> std::io::Result<()> {
        let text = serde_json::to_string(&self.said)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())?;
        self.file.set_len(text.len() as u64)
    }

    /// Says that the daemon answers.
    pub fn ready(&mut self) {
        self.said.ready = true;
        self.say();
    }

    /// Says why it is not replaced.
    pub fn refuse(&mut self, why: String) {
        self.said.refusals += 1;
        self.said.refused = why;
        self.say();
    }

    /// Says nothing any more.
    pub fn remove(&self) {
        // Without it nobody answers, as with an unlocked one.
        let _ = std::fs::remove_file(&self.path);
    }

    fn say(&mut self) {
        if let Err(error) = self.write() {
            tracing::warn!("say how the daemon does: {error}");
        }
    }
}

fn card(run: &Path) -> PathBuf {
    run.join("daemon.json")
}

/// Where it is written down which program is to replace the daemon.
fn wish(run: &Path) -> PathBuf {
    run.join("replace-by")
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Has this program replace the daemon of a run directory, and waits until it answers.
pub fn ask(run: &Path) -> Outcome {
    let path = card(run);
    let nobody = || Failure::new(format!("no daemon runs in {}", run.display()));
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(nobody().hint("start one with gantry daemon"));
        }
        other => other.of(format!("read {}", path.display()))?,
    };
    if file.try_lock_shared().is_ok() {
        return Err(nobody().hint("start one with gantry daemon"));
    }
    drop(file);
    let before: Said = serde_json::from_str(&read(&path).of(path.display())?)?;
    let pid = i32::try_from(before.pid).ok().and_then(Pid::from_raw).ok_or_else(nobody)?;
    let what = "tell the daemon";
    let daemon = rustix::process::pidfd_open(pid, PidfdFlags::empty()).of(what)?;
    let program = std::env::current_exe().of("find this program")?;
    let wish = wish(run);
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&wish);
    file.and_then(|mut file| file.write_all(program.as_os_str().as_encoded_bytes())).of(what)?;
    rustix::process::pidfd_send_signal(&daemon, Signal::USR2).of(what)?;
    let until = Instant::now() + PATIENCE;
    loop {
        std::thread::sleep(Duration::from_millis(10));
        // It may be about to be written.
        let now = read(&path).ok().and_then(|text| serde_json::from_str::<Said>(&text).ok());
        match now {
            Some(now) if now.generation > before.generation && now.ready => {
                return terminal::print(&format!("replaced: version {} answers, process {}\n", now.version, now.pid));
            }
            Some(now) if now.refusals > before.refusals => return Err(Failure::new(now.refused)),
            _ => {}
        }
        if rustix::process::test_kill_process(pid).is_err() {
            return Err(Failure::new("the daemon ended instead of being replaced").hint("its log says why"));
        }
        if Instant::now() > until {
            return Err(Failure::new("the new daemon does not answer").hint("its log says why"));
        }
    }
}

/// Which program is to replace this one: the one that was named, or the one at the place that this one came from. It has to
/// take the configuration first.
pub async fn program(run: &Path, own: &Path) -> Outcome<PathBuf> {
    let wish = wish(run);
    let named = read(&wish).ok().filter(|name| name.starts_with('/')).map(PathBuf::from);
    // What was wished for is done or refused once.
    let _ = std::fs::remove_file(&wish);
    let program = named.unwrap_or_else(|| own.to_path_buf());
    let what = format!("the daemon is not replaced by {}", program.display());
    let mut command = tokio::process::Command::new(&program);
    command.args(std::env::args_os().skip(1)).arg("--validate").stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(LOOK, command.output()).await {
        Ok(output) => output.of(&what)?,
        Err(_) => return Err(Failure::new(format!("{what}: it takes too long to look at the configuration"))),
    };
    if output.status.success() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{what}: {}: {}", output.status, said.trim())))
}

/// Becomes the new daemon. It returns if that fails.
pub fn become_it<'a>(program: &Path, sockets: impl Iterator<Item = &'a Bound>, generation: u64) -> Failure {
    let handed = match sockets::hand_over(sockets, generation + 1) {
        Ok(handed) => handed,
        Err(failure) => return failure,
    };
    for signal in [Signal::HUP, Signal::USR2] {
        // What comes before the new daemon listens to signals must not end it.
        if let Err(error) = gantry_sys::signal::ignore(signal.as_raw()) {
            tracing::warn!("ignore a signal: {error}");
        }
    }
    let become_this = |program: &Path| {
        let mut command = Command::new(program);
        command.args(std::env::args_os().skip(1)).env(sockets::VARIABLE, &handed);
        command.env_remove("LISTEN_PID").env_remove("LISTEN_FDS").env_remove("LISTEN_FDNAMES").exec()
    };
    let error = become_this(program);
    tracing::error!("become {}: {error}; the same program goes on", program.display());
    let error = become_this(Path::new("/proc/self/exe"));
    Failure::from(error).of("become the daemon again")
}

/// Reaps the monitors that the daemon before started: they are children of this process, which knows nothing of them.
pub async fn reap(children: Vec<Pid>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut ended) = signal(SignalKind::child()) else { return };
    let mut left = children;
    loop {
        // An error means that it is none of ours any more.
        left.retain(|pid| {
            matches!(rustix::process::waitpid(Some(*pid), rustix::process::WaitOptions::NOHANG), Ok(None))
        });
        if left.is_empty() || ended.recv().await.is_none() {
            return;
        }
    }
}

/// The children of this process.
pub fn children() -> Vec<Pid> {
    let mut all = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let text = read(&thread.path().join("children")).unwrap_or_default();
        all.extend(text.split_whitespace().filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw)));
    }
    all
}
