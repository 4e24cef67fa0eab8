//! Checkpoints of containers: saved by the runtime in a process of its own, kept with the container or where the caller says,
//! gone on from by a start.
//!
//! A checkpoint is a directory. It is written under a name that begins with a dot, and gets its own while the container's
//! processes still wait, by the runtime and not by the engine: so at every moment there is either a container that runs or a
//! checkpoint that is whole, whoever is killed.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use gantry_model::monitor::Restore;
use tokio::io::AsyncReadExt as _;

use crate::container::Status;
use crate::engine::{Engine, blocking, make_dir};
use crate::error::{Context, Error, Result};
use crate::monitor;
use crate::names;
use crate::request::Sharing;
use crate::table::Container;

/// Where a container's checkpoints are, below what is kept of it.
const PLACE: &str = "checkpoints";
/// Where CRIU's logs are.
const WORK: &str = "criu";
/// How long further processes, such as health checks, may take to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long processes that were saved may take to end.
const DEATH: Duration = Duration::from_secs(30);
/// The longest name of a checkpoint in bytes.
const LONGEST_NAME: usize = 128;
/// The most that is read of what the runtime says.
const MAX_SAID: u64 = 64 << 10;

/// A checkpoint to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateCheckpoint {
    /// Its name.
    pub name: String,
    /// The directory that it is put in; none is the container's own.
    pub dir: Option<String>,
    /// Whether the container ends with it.
    pub exit: bool,
}

impl Engine {
    /// Saves what a container's processes are doing. Connections are saved as well, and come back closed.
    ///
    /// # Errors
    /// The container does not run, there is such a checkpoint, or it has what cannot be saved; it runs on then.
    pub async fn checkpoint(&self, asked: &str, request: CreateCheckpoint) -> Result<()> {
        let container = self.find(asked)?;
        let (engine, asked) = (self.clone(), asked.to_owned());
        // To its end, also if the caller goes away.
        tokio::spawn(async move { engine.save(&container, &asked, &request).await }).await.map_err(|_| Error::Closed)?
    }

    async fn save(&self, container: &Arc<Container>, asked: &str, request: &CreateCheckpoint) -> Result<()> {
        let place = self.place_of_checkpoints(container, request.dir.as_deref())?;
        let target = named(&place, &request.name)?;
        let life = container.life.lock().await;
        check(container, request)?;
        let images = place.join(format!(".{}.{}", request.name, container.id));
        let work = self.root_dir(&container.id).join(WORK);
        prepare(&place, &images, &target, &work, asked).await?;
        self.check_contents(container)?;
        // While it is saved nothing runs, as in a pause; nobody puts a further process in, or looks at its health.
        let before = container.state();
        container.change(|state| state.status = Status::Paused);
        let saved = self.dump(container, request, (&images, &work, &target)).await;
        container.change(|state| {
            if state.status == Status::Paused {
                state.status = before.status;
            }
        });
        if let Err(cause) = saved {
            if let Err(error) = blocking(move || remove_dir(&images)).await {
                tracing::warn!("{error}");
            }
            return Err(Error::Checkpoint { container: asked.to_owned(), cause });
        }
        self.tell_of(container, "checkpoint", &[]);
        let ended = Self::until_ended(container);
        drop(life);
        if request.exit && tokio::time::timeout(DEATH, ended).await.is_err() {
            let cause = format!("its processes have been saved, and have not ended within {} seconds", DEATH.as_secs());
            return Err(Error::Checkpoint { container: asked.to_owned(), cause });
        }
        Ok(())
    }

    /// Lets the runtime save; its words if it does not.
    async fn dump(
        &self,
        container: &Arc<Container>,
        request: &CreateCheckpoint,
        (images, work, target): (&Path, &Path, &Path),
    ) -> Result<(), String> {
        self.until_alone(container).await?;
        let text = |error: std::io::Error| error.to_string();
        let lock = lock(images).map_err(text)?;
        let mut command = tokio::process::Command::new(&self.0.options.runtime);
        command.arg("--root").arg(self.0.options.run.join("runtime")).arg("checkpoint");
        command.arg("--image-path").arg(images).arg("--work-path").arg(work).arg("--commit-to").arg(target);
        command.args(["--tcp-established", "--tcp-skip-in-flight", "--file-locks"]);
        if !request.exit {
            command.arg("--leave-running");
        }
        command.arg(&container.id).stdin(Stdio::from(lock)).stdout(Stdio::null()).stderr(Stdio::piped());
        let started = command.spawn();
        let mut child = started.map_err(|error| format!("start {}: {error}", self.0.options.runtime.display()))?;
        let mut said = Vec::new();
        if let Some(errors) = child.stderr.take() {
            errors.take(MAX_SAID).read_to_end(&mut said).await.map_err(text)?;
        }
        let status = child.wait().await.map_err(text)?;
        if status.success() { Ok(()) } else { Err(words(&String::from_utf8_lossy(&said), status)) }
    }

    /// Waits until no further process is in the container: it would be lost.
    async fn until_alone(&self, container: &Container) -> Result<(), String> {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let execs = self.execs_of(&container.id);
            let running = |id: &&String| self.exec(id).is_ok_and(|exec| exec.state.running);
            let Some(exec) = execs.iter().find(running) else { return Ok(()) };
            if tokio::time::Instant::now() > until {
                return Err(format!("the further process {exec} runs in it, and would be lost: end it first"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Fails where the container has something that is no part of a checkpoint and goes away with it.
    fn check_contents(&self, container: &Container) -> Result<()> {
        if container.record().host.ipc != Sharing::Shareable {
            return Ok(());
        }
        let shm = self.run_dir(&container.id).join("shm");
        let mut entries = std::fs::read_dir(&shm).context(|| format!("read {}", shm.display()))?;
        if entries.next().is_none() {
            return Ok(());
        }
        Err(Error::Checkpoint {
            container: container.record().name.clone(),
            cause:
                "there are files in its shared memory, which is no part of a checkpoint where others may join it: make \
                    the container with --ipc private"
                    .to_owned(),
        })
    }

    /// The names of a container's checkpoints, sorted.
    pub async fn checkpoints(&self, asked: &str, dir: Option<&str>) -> Result<Vec<String>> {
        let place = self.place_of_checkpoints(&*self.find(asked)?, dir)?;
        blocking(move || {
            let mut names: Vec<String> = entries(&place)?.into_iter().filter(|name| !name.starts_with('.')).collect();
            names.sort();
            Ok(names)
        })
        .await
    }

    /// Removes a checkpoint.
    pub async fn remove_checkpoint(&self, asked: &str, name: &str, dir: Option<&str>) -> Result<()> {
        let container = self.find(asked)?;
        let path = existing(&self.place_of_checkpoints(&container, dir)?, name)?;
        // It may be what the container is being started from.
        let _life = container.life.lock().await;
        let gone = path.with_file_name(format!(".{name}.{}", container.id));
        blocking(move || {
            // What is removed must not look whole half-way.
            remove_dir(&gone)?;
            std::fs::rename(&path, &gone).context(|| format!("remove {}", path.display()))?;
            remove_dir(&gone)
        })
        .await
    }

    /// Starts a container where a checkpoint left it, its own or that of one like it.
    ///
    /// # Errors
    /// There is no such checkpoint, the container runs, or it cannot be brought back; nothing is left of the try then.
    pub async fn start_from(&self, asked: &str, name: &str, dir: Option<&str>) -> Result<()> {
        let container = self.find(asked)?;
        let images = existing(&self.place_of_checkpoints(&container, dir)?, name)?;
        let work = self.root_dir(&container.id).join(WORK);
        let text = |path: &Path| path.display().to_string();
        self.start_with(&container.id, Some(Restore { images: text(&images), work: text(&work) })).await
    }

    fn place_of_checkpoints(&self, container: &Container, dir: Option<&str>) -> Result<PathBuf> {
        match dir.filter(|dir| !dir.is_empty()) {
            None => Ok(self.root_dir(&container.id).join(PLACE)),
            Some(dir) if dir.starts_with('/') => Ok(dir.into()),
            Some(dir) => Err(Error::Invalid(format!("the directory of checkpoints {dir:?} is no absolute path"))),
        }
    }

    /// Removes what a crash left of checkpoints that were being made or removed. One that the runtime is still at comes to
    /// its end first: until then its container seems frozen.
    pub(crate) async fn clear_checkpoints(&self, id: &str) {
        let place = self.root_dir(id).join(PLACE);
        let Ok(names) = entries(&place) else { return };
        for name in names.iter().filter(|name| name.starts_with('.')) {
            let _free = monitor::until_gone(&place.join(name)).await;
            if let Err(error) = remove_dir(&place.join(name)) {
                tracing::warn!("{error}");
            }
        }
    }
}

/// Fails unless a container can be saved as it is asked for.
fn check(container: &Container, request: &CreateCheckpoint) -> Result<()> {
    let record = container.record();
    if !container.state().status.is_running() {
        return Err(Error::Conflict(format!("container {} is not running", container.id)));
    }
    if record.host.auto_remove && request.exit && request.dir.is_none() {
        return Err(Error::Conflict(format!(
            "container {} is removed when it ends, and its checkpoints with it: leave it running, or name another \
             directory for the checkpoint",
            record.name
        )));
    }
    Ok(())
}

/// The path of a checkpoint.
fn named(place: &Path, name: &str) -> Result<PathBuf> {
    names::check("checkpoint", name)?;
    // A longer one would have no room for what is put around it while it is made.
    if name.len() > LONGEST_NAME {
        return Err(Error::Invalid(format!("the name of a checkpoint has {LONGEST_NAME} characters at most")));
    }
    Ok(place.join(name))
}

/// The path of a checkpoint that is there.
fn existing(place: &Path, name: &str) -> Result<PathBuf> {
    let path = named(place, name)?;
    if path.is_dir() { Ok(path) } else { Err(Error::NoSuch("checkpoint", name.to_owned())) }
}

/// Makes the directories for a new checkpoint.
async fn prepare(place: &Path, images: &Path, target: &Path, work: &Path, asked: &str) -> Result<()> {
    if target.exists() {
        let name = target.file_name().unwrap_or_default().display();
        return Err(Error::Conflict(format!(
            "cannot checkpoint container {asked}: checkpoint with name {name} already exists for container {asked}"
        )));
    }
    let (place, images, work) = (place.to_owned(), images.to_owned(), work.to_owned());
    blocking(move || {
        make_dir(&place)?;
        make_dir(&work)?;
        remove_dir(&images)?;
        std::fs::DirBuilder::new().mode(0o700).create(&images).context(|| format!("make {}", images.display()))
    })
    .await
}

/// The names in a directory; none if it is not there.
fn entries(dir: &Path) -> Result<Vec<String>> {
    let what = || format!("read {}", dir.display());
    let found = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.context(what)?,
    };
    let mut names = Vec::new();
    for entry in found {
        let entry = entry.context(what)?;
        if entry.file_type().context(what)?.is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

/// A lock that is there as long as somebody writes a checkpoint: the runtime, and CRIU after it, inherit it.
fn lock(images: &Path) -> std::io::Result<std::fs::File> {
    let lock = std::fs::File::open(images)?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

fn remove_dir(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
    .context(|| format!("remove {}", dir.display()))
}

/// What the runtime said last, without its name.
fn words(said: &str, status: std::process::ExitStatus) -> String {
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    let Some(line) = last else { return format!("the runtime ended with {status} and said nothing") };
    line.strip_prefix("gantry-oci: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    #[test]
    fn what_the_runtime_says() {
        let status = std::process::ExitStatus::from_raw(256);
        let check = |said: &str, expect: &str| assert_eq!(words(said, status), expect);
        check("", "the runtime ended with exit status: 1 and said nothing");
        check("gantry-oci: warning: x\ngantry-oci: criu is missing\n", "criu is missing");
        check("something else\n\n", "something else");
    }

    #[test]
    fn names_stay_in_their_place() {
        let check = |name: &str, good: bool| assert_eq!(named(Path::new("/p"), name).is_ok(), good, "{name}");
        check("one", true);
        check("a.b-c_1", true);
        for bad in ["", ".", "..", ".hidden", "a/b", "../a", "a\0"] {
            check(bad, false);
        }
    }
}
