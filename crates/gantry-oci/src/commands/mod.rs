//! The commands: each maps what was asked to the runtime, and what comes back to the terminal.

mod criu;
mod events;
mod inspect;
mod process;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use gantry_model::ContainerId;
use gantry_oci::cli::{self, CgroupManager, Command, Global, Invocation, Target};
use gantry_oci::log::Log;
use gantry_runtime::record::{MAX_DOCUMENT, Store};
use gantry_runtime::{Runtime, Warn};

/// Why a command failed, as it is told.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure in words of its own.
    pub(crate) fn of(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// A failure in words of its own.
pub(crate) fn failure<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure(text.into()))
}

/// Carries out a command, and returns the status to end with.
pub(crate) fn run(invocation: Invocation, log: &Rc<Log>) -> Result<u8, Failure> {
    let runtime = runtime(&invocation.global, log)?;
    let rooted = invocation.global.root.is_some();
    match invocation.command {
        Command::Create(create) => process::create(&runtime, &create),
        Command::Run(run) => process::run(&runtime, &run, log),
        Command::Exec(exec) => process::exec(&runtime, &exec, log),
        Command::Start(id) => done(runtime.start(&id, process::notify_socket().as_deref())),
        Command::Kill(kill) => each(&runtime, &kill.target, |id| runtime.kill(id, kill.signal, kill.all)),
        Command::Delete(delete) => each(&runtime, &delete.target, |id| runtime.delete(id, delete.force)),
        Command::Pause(id) => done(runtime.pause(&id)),
        Command::Resume(id) => done(runtime.resume(&id)),
        Command::State(id) => inspect::state(&runtime, &id),
        Command::List(list) => inspect::list(&runtime, list, rooted, log),
        Command::Ps(ps) => inspect::ps(&runtime, &ps),
        Command::Update(update) => inspect::update(&runtime, update),
        Command::Events(events) => events::events(&runtime, &events, log),
        Command::Features => inspect::features(),
        Command::Spec(spec) => inspect::spec(&spec),
        Command::Checkpoint(checkpoint) => criu::checkpoint(&runtime, &checkpoint),
        Command::Restore(restore) => criu::restore(&runtime, &restore, log),
        Command::Mounts(mounts) => inspect::mounts(&runtime, &mounts),
        Command::Print(text) => print(&text),
    }
}

fn runtime(global: &Global, log: &Rc<Log>) -> Result<Runtime, Failure> {
    let privileged = rustix::process::geteuid().is_root();
    let directory = std::env::var_os("XDG_RUNTIME_DIR");
    let root = global.root.clone().unwrap_or_else(|| cli::default_root(privileged, directory.as_deref()));
    let log = Rc::clone(log);
    if is_host_root(&root) {
        return failure(format!(
            "--root {} is the root of this host: name a directory for the containers",
            root.display()
        ));
    }
    Ok(Runtime {
        store: Store::new(text(&std::path::absolute(&root)?)?),
        systemd: global.cgroups == CgroupManager::Systemd,
        no_cgroups: global.cgroups == CgroupManager::Disabled,
        rootless: global.rootless,
        warn: Warn::to(move |what| log.warn(what)),
    })
}

/// Whether a path, by whatever links and dots, leads to `/`: whose directories would be taken for containers.
fn is_host_root(path: &Path) -> bool {
    let place = |path: &Path| rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino));
    matches!((place(path), place(Path::new("/"))), (Ok(given), Ok(root)) if given == root)
}

/// Reads a document that somebody wrote, up to the bound of all documents.
pub(crate) fn read_document(from: impl Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let read = from.take(MAX_DOCUMENT + 1).read_to_end(&mut text);
    read.map_err(|cause| Failure::of(format!("read {name}: {cause}")))?;
    if text.len() as u64 > MAX_DOCUMENT {
        return failure(format!("read {name}: it is longer than {MAX_DOCUMENT} bytes"));
    }
    Ok(text)
}

/// As [`read_document`], of a file.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|cause| Failure::of(format!("open {name}: {cause}")))?;
    read_document(file, &name)
}

/// A path as text: state and configuration are JSON, which has no other strings.
pub(crate) fn text(path: &Path) -> Result<String, Failure> {
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => failure(format!("path {} is not UTF-8", path.display())),
    }
}

fn done(result: gantry_runtime::Result<()>) -> Result<u8, Failure> {
    Ok(result.map(|()| 0)?)
}

/// Does something to the containers that are meant; the first failure is told after all were tried.
fn each(
    runtime: &Runtime,
    target: &Target,
    mut act: impl FnMut(&ContainerId) -> gantry_runtime::Result<()>,
) -> Result<u8, Failure> {
    match target {
        Target::Id(id) => done(act(id)),
        Target::Matching(pattern) => {
            let ids = runtime.store.list()?;
            let mut failed = ids.iter().filter(|id| pattern.matches(id)).filter_map(|id| act(id).err());
            failed.next().map_or(Ok(0), |error| {
                failed.for_each(drop);
                Err(error.into())
            })
        }
    }
}

/// Writes to the standard output; a reader that has gone is no failure.
pub(crate) fn print(text: &str) -> Result<u8, Failure> {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
        result => Ok(result.map(|()| 0)?),
    }
}
