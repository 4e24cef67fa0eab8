//! Further processes in containers.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_model::monitor::Launch;
use gantry_model::oci::spec::{ConsoleSize, Process};
use tokio::sync::watch;

use crate::attach::{Attached, pair, resize};
use crate::container::Status;
use crate::engine::{Engine, blocking};
use crate::error::{Error, Result};
use crate::monitor::{self, Connection};
use crate::names;
use crate::request::{CreateExec, Streams};
use crate::spec;
use crate::table::{Container, lock};

/// How long one that has ended is remembered.
const KEEP: Duration = Duration::from_secs(300);
/// The exit status of one that could not be started, for whatever reason: that of Docker.
const NOT_EXECUTED: i32 = 126;

/// Where a further process is in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecState {
    /// Whether it was started.
    pub started: bool,
    /// Whether it runs.
    pub running: bool,
    /// Its process; 0 if there is none.
    pub pid: i32,
    /// How it ended.
    pub exit_code: Option<i32>,
}

/// A further process as it is at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecView {
    /// Its id.
    pub id: String,
    /// The container's id.
    pub container: String,
    /// What was asked for.
    pub request: Arc<CreateExec>,
    /// Where it is in its life.
    pub state: ExecState,
}

/// A further process.
#[derive(Debug)]
pub(crate) struct Exec {
    id: String,
    container: Arc<Container>,
    request: Arc<CreateExec>,
    state: watch::Sender<ExecState>,
}

/// All of them, by id.
pub(crate) type Execs = Mutex<HashMap<String, Arc<Exec>>>;

impl Exec {
    fn view(&self) -> ExecView {
        ExecView {
            id: self.id.clone(),
            container: self.container.id.clone(),
            request: Arc::clone(&self.request),
            state: self.state.borrow().clone(),
        }
    }
}

impl Engine {
    /// Says what a further process is to be; it is not started yet. Returns its id.
    pub fn create_exec(&self, asked: &str, request: CreateExec) -> Result<String> {
        let container = self.find(asked)?;
        check_running(&container, asked)?;
        if request.args.first().is_none_or(String::is_empty) {
            return Err(Error::Invalid("No exec command specified".to_owned()));
        }
        let id = names::id()?;
        let action = format!("exec_create: {}", request.args.join(" "));
        let exec = Exec {
            id: id.clone(),
            container: Arc::clone(&container),
            request: Arc::new(request),
            state: watch::Sender::default(),
        };
        lock(&self.0.execs).insert(id.clone(), Arc::new(exec));
        self.tell_of(&container, &action, &[("execID", id.clone())]);
        Ok(id)
    }

    /// A further process as it is now.
    pub fn exec(&self, id: &str) -> Result<ExecView> {
        Ok(self.find_exec(id)?.view())
    }

    /// The ids of the further processes of a container that have not ended.
    pub fn execs_of(&self, container: &str) -> Vec<String> {
        let execs = lock(&self.0.execs);
        let of =
            execs.values().filter(|exec| exec.container.id == container && exec.state.borrow().exit_code.is_none());
        of.map(|exec| exec.id.clone()).collect()
    }

    fn find_exec(&self, id: &str) -> Result<Arc<Exec>> {
        let found = lock(&self.0.execs).get(id).cloned();
        found.ok_or_else(|| Error::NoSuch("exec instance", id.to_owned()))
    }

    /// Starts a further process, with a client at the streams that it was to have unless `detached`. `size` is rows and
    /// columns of its terminal.
    pub async fn start_exec(&self, id: &str, detached: bool, size: Option<(u16, u16)>) -> Result<Option<Attached>> {
        let exec = self.find_exec(id)?;
        let container = &exec.container;
        check_running(container, &container.id)?;
        let first = exec.state.send_if_modified(|state| !std::mem::replace(&mut state.started, true));
        if !first {
            return Err(Error::Conflict(format!("exec {id} has already run")));
        }
        let (client, theirs) =
            if detached { (None, None) } else { pair().map(|(ours, theirs)| (Some(ours), Some(theirs)))? };
        let action = format!("exec_start: {}", exec.request.args.join(" "));
        self.tell_of(container, &action, &[("execID", exec.id.clone())]);
        if let Err(error) = self.run_exec(&exec, theirs, size).await {
            exec.state.send_modify(|state| state.exit_code = Some(NOT_EXECUTED));
            self.forget(&exec);
            return Err(match error {
                Error::Start { cause, .. } => Error::Start { cause: refused(&cause), code: NOT_EXECUTED },
                other => other,
            });
        }
        Ok(client.map(|socket| Attached { socket, terminal: exec.request.terminal }))
    }

    async fn run_exec(&self, exec: &Arc<Exec>, client: Option<OwnedFd>, size: Option<(u16, u16)>) -> Result<()> {
        let process = self.process_of(exec, size).await?;
        let at = |suffix: &str| self.run_dir(&exec.container.id).join(format!("exec-{}.{suffix}", exec.id));
        let request = &exec.request;
        let streams = Streams { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr };
        let launch = Launch {
            root: self.0.options.run.join("runtime").display().to_string(),
            id: exec.container.id.clone(),
            bundle: String::new(),
            exec: Some(process),
            terminal: request.terminal,
            stdin: request.stdin,
            // There is one client, and what it types ends with it.
            stdin_once: true,
            attach: client.as_ref().map(|_| streams.into()),
            systemd: self.0.options.systemd,
            mounts_from: None,
            socket: at("monitor").display().to_string(),
            exit: at("exit").display().to_string(),
            log: None,
            restore: None,
        };
        let pid = monitor::spawn(&self.0.options.runtime, &at("launch"), &launch, client).await?;
        exec.state.send_modify(|state| (state.running, state.pid) = (true, pid));
        let connection = Connection::open(&at("monitor"));
        let (engine, exec, files) = (self.clone(), Arc::clone(exec), [at("launch"), at("exit"), at("monitor")]);
        self.spawn(async move { engine.watch_exec(&exec, connection.ok(), files).await });
        Ok(())
    }

    /// Waits for its end.
    async fn watch_exec(&self, exec: &Arc<Exec>, connection: Option<Connection>, files: [PathBuf; 3]) {
        let told = match connection {
            Some(connection) => connection.exit().await,
            None => None,
        };
        let exit = told.or_else(|| monitor::read_exit(&files[1]));
        let code = exit.map_or(255, |exit| i32::from(exit.code));
        for file in files {
            // They go with the container, if not now.
            let _ = std::fs::remove_file(file);
        }
        exec.state.send_modify(|state| (state.running, state.pid, state.exit_code) = (false, 0, Some(code)));
        self.tell_of(&exec.container, "exec_die", &[("execID", exec.id.clone()), ("exitCode", code.to_string())]);
        self.forget(exec);
    }

    /// Forgets one that has ended, after a while.
    fn forget(&self, exec: &Arc<Exec>) {
        let (engine, id) = (self.clone(), exec.id.clone());
        self.spawn(async move {
            tokio::time::sleep(KEEP).await;
            lock(&engine.0.execs).remove(&id);
        });
    }

    /// What is executed: the container's own process, with what was asked for.
    async fn process_of(&self, exec: &Arc<Exec>, size: Option<(u16, u16)>) -> Result<Process> {
        let (record, request) = (exec.container.record(), Arc::clone(&exec.request));
        let rootfs = self.run_dir(&record.id).join("rootfs");
        let place = self.place(&record);
        blocking(move || {
            let user = if request.user.is_empty() { &record.config.user } else { &request.user };
            let found = crate::life::found_user(&rootfs, user, &record.host.groups)?;
            let mut settings = crate::bundle::settings(&record, &found)?;
            settings.args.clone_from(&request.args);
            settings.env.extend(request.env.iter().cloned());
            if !request.working_dir.is_empty() {
                settings.working_dir.clone_from(&request.working_dir);
            }
            (settings.terminal, settings.init) = (request.terminal, false);
            settings.security.privileged |= request.privileged;
            let mut process = spec::build(&settings, &place)?.process.unwrap_or_default();
            if let Some((rows, columns)) = size.filter(|_| request.terminal) {
                process.console_size = Some(ConsoleSize { height: rows.into(), width: columns.into() });
            }
            Ok(process)
        })
        .await
    }

    /// Gives the terminal of a further process a size.
    pub async fn resize_exec(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let exec = self.find_exec(id)?;
        if !exec.state.borrow().running {
            return Err(Error::Conflict(format!("exec {id} is not running")));
        }
        resize(&self.run_dir(&exec.container.id).join(format!("exec-{id}.monitor")), rows, columns).await
    }

    /// Waits for the end of a further process; gives its exit status.
    pub async fn wait_exec(&self, id: &str) -> Result<i32> {
        let exec = self.find_exec(id)?;
        let mut watch = exec.state.subscribe();
        let found = watch.wait_for(|state| state.exit_code.is_some()).await;
        Ok(found.map_err(|_| Error::Closed)?.exit_code.unwrap_or_default())
    }
}

/// What is said of a process that could not be started. Clients and scripts look for these words: the program's cause
/// between those that Docker has around it.
fn refused(cause: &str) -> String {
    let directory = ["\") as the user: ", "\"): "].iter().find_map(|end| {
        let (step, why) = cause.strip_prefix("chdir to cwd (\"")?.split_once(end)?;
        Some(format!("chdir to cwd (\"{step}\") set in config.json failed: {why}"))
    });
    let cause = match (directory, cause.split_once(": ")) {
        (Some(words), _) => words,
        // The step is told by the cause itself.
        (None, Some((step, rest))) if step.starts_with("find program ") || step.starts_with("exec [") => {
            rest.to_owned()
        }
        (None, _) => cause.to_owned(),
    };
    format!("OCI runtime exec failed: exec failed: unable to start container process: {cause}: unknown")
}

/// Refuses what does not run. `asked` is what it was asked for by.
fn check_running(container: &Container, asked: &str) -> Result<()> {
    match container.state().status {
        Status::Running => Ok(()),
        Status::Paused => {
            Err(Error::Conflict(format!("Container {asked} is paused, unpause the container before exec")))
        }
        Status::Restarting => {
            let id = &container.id;
            Err(Error::Conflict(format!("Container {id} is restarting, wait until the container is running")))
        }
        _ => Err(Error::Conflict(format!("container {} is not running", container.id))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_what_cannot_be_started() {
        let check = |cause: &str, expect: &str| {
            let whole = "OCI runtime exec failed: exec failed: unable to start container process: ";
            assert_eq!(refused(cause), format!("{whole}{expect}: unknown"), "{cause}");
        };
        let missing = "exec: \"x\": executable file not found in $PATH";
        check(&format!("find program x: {missing}"), missing);
        check("find program a: b: exec: \"a: b\": permission denied", "b: exec: \"a: b\": permission denied");
        let directory = "chdir to cwd (\"/none\") set in config.json failed: no such file or directory";
        check("chdir to cwd (\"/none\"): no such file or directory", directory);
        check("chdir to cwd (\"/none\") as the user: no such file or directory", directory);
        check("chdir to cwd: no such file or directory", "chdir to cwd: no such file or directory");
    }
}
