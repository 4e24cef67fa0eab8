//! A container under test: its bundle, the runtime's commands on it, and the guard that takes all of it away again.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use gantry_model::oci::spec::{Mount, Process, Spec};
use serde_json::Value;

use crate::command::{Output, Running, run, wait_for};
use crate::host::{alive, mount_table};
use crate::json;
use crate::kit::Kit;
use crate::leak::{self, MARKER};
use crate::outcome::{Outcome, Stop, fail};
use crate::reaper;
use crate::spec::{Parts, default_spec};

/// Seconds that a command of the runtime may take.
const COMMAND_SECONDS: f64 = 20.0;

/// A container under test. Dropping it deletes the container and reports what stays.
pub struct Container<'k> {
    /// What the run shares.
    pub kit: &'k Kit,
    /// The container's identifier.
    pub id: String,
    /// The configuration; written into the bundle by each command that reads it.
    pub spec: Spec,
    /// Written in place of `spec`: for configurations that the types cannot say.
    pub raw: Option<String>,
    /// The runtime; the run's own unless a test puts another in its place.
    pub runtime: PathBuf,
    /// Options before the subcommand, besides `--root`.
    pub global: Vec<String>,
    /// Words before the runtime's own path, as `setpriv --reuid 1 ...`.
    pub prefix: Vec<String>,
    /// Environment of the runtime.
    pub env: Vec<(String, String)>,
    /// The cgroup that the default configuration asks for.
    pub cgroup: String,
    dir: PathBuf,
    mounts: Vec<PathBuf>,
    owner: Option<u32>,
    known_pids: Vec<i32>,
}

impl<'k> Container<'k> {
    /// Makes the bundle.
    pub(crate) fn new(kit: &'k Kit) -> io::Result<Self> {
        let id = kit.unique();
        let dir = kit.dir().join(&id);
        fs::create_dir_all(dir.join("bundle/rootfs"))?;
        fs::create_dir_all(dir.join("state"))?;
        fs::create_dir_all(dir.join("host"))?;
        fs::create_dir_all(dir.join("output"))?;
        kit.fill_root(&dir.join("bundle/rootfs"))?;
        let cgroup = format!("/{id}");
        let mut spec = default_spec(&cgroup);
        spec.process_mut().env.push(format!("{MARKER}={id}"));
        Ok(Self {
            kit,
            spec,
            cgroup,
            dir,
            id,
            raw: None,
            runtime: kit.runtime.clone(),
            global: Vec::new(),
            prefix: Vec::new(),
            env: Vec::new(),
            mounts: Vec::new(),
            owner: None,
            known_pids: Vec::new(),
        })
    }

    /// The bundle's directory.
    pub fn bundle(&self) -> PathBuf {
        self.dir.join("bundle")
    }

    /// A path in the container's root file system, as the host sees it.
    pub fn rootfs(&self, path: &str) -> PathBuf {
        self.bundle().join("rootfs").join(path.trim_start_matches('/'))
    }

    /// A path outside the container that goes with it: sources of mounts, sockets, pid files.
    pub fn host(&self, path: &str) -> PathBuf {
        self.dir.join("host").join(path)
    }

    /// The runtime's directory of state.
    pub fn state_root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Where the output of commands goes.
    pub fn output_dir(&self) -> PathBuf {
        self.dir.join("output")
    }

    /// Makes a directory outside the container, for a mount's source.
    pub fn host_dir(&self, path: &str) -> Outcome<PathBuf> {
        let dir = self.host(path);
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Adds a mount to the configuration.
    pub fn mount(&mut self, mount: Mount) -> &mut Self {
        self.spec.mounts.push(mount);
        self
    }

    /// Mounts something on the host for the test; it is unmounted with the container.
    pub fn host_mount(&mut self, kind: &str, source: &str, target: &Path, options: &str) -> Outcome {
        let target_text = target.display().to_string();
        let output = run(
            Command::new("mount").args(["-n", "-t", kind, "-o", options, source, &target_text]),
            &self.output_dir(),
            self.kit.time(COMMAND_SECONDS),
        )?;
        if !output.status.success() {
            return fail(format!("mount {kind} on {target_text} for the test: {}", output.text()));
        }
        self.mounts.push(target.to_owned());
        Ok(())
    }

    /// Gives bundle and state to an ordinary user and makes every command run as that user.
    pub fn run_as(&mut self, uid: u32) -> Outcome {
        let setpriv = crate::host::need_tool("setpriv")?;
        give(&self.dir, uid)?;
        self.owner = Some(uid);
        self.prefix = vec![
            setpriv.display().to_string(),
            format!("--reuid={uid}"),
            format!("--regid={uid}"),
            "--clear-groups".into(),
        ];
        Ok(())
    }

    /// Writes `config.json`.
    pub fn write_config(&self) -> Outcome {
        let text = match &self.raw {
            Some(text) => text.clone(),
            None => serde_json::to_string_pretty(&self.spec)?,
        };
        let path = self.bundle().join("config.json");
        fs::write(&path, text)?;
        if let Some(uid) = self.owner {
            chown(&path, Some(uid), Some(uid))?;
        }
        Ok(())
    }

    /// A command of the runtime: global options, then `words`.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut line: Vec<String> = self.prefix.clone();
        line.push(self.runtime.display().to_string());
        line.extend(["--root".to_owned(), self.state_root().display().to_string()]);
        line.extend(self.global.iter().cloned());
        line.extend(words.iter().map(|&word| word.to_owned()));
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).env(MARKER, &self.id).current_dir(self.bundle());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command of the runtime to its end.
    pub fn call(&self, words: &[&str]) -> Outcome<Output> {
        Ok(run(&mut self.command(words), &self.output_dir(), self.kit.time(COMMAND_SECONDS))?)
    }

    /// As [`Self::call`], and fails unless the command succeeds.
    pub fn ok(&self, words: &[&str]) -> Outcome<Output> {
        let output = self.call(words)?;
        if output.status.success() { Ok(output) } else { fail(format!("{}: {}", words.join(" "), output.text())) }
    }

    /// As [`Self::call`], and fails unless the command fails by itself and says why on standard error.
    pub fn refused(&self, words: &[&str]) -> Outcome<Output> {
        let output = self.call(words)?;
        match output.status.code() {
            Some(0) => fail(format!("{}: succeeded, should be refused: {}", words.join(" "), output.text())),
            Some(_) if !output.stderr.trim().is_empty() => Ok(output),
            Some(_) => fail(format!("{}: refused without a word", words.join(" "))),
            None => fail(format!("{}: killed: {}", words.join(" "), output.text())),
        }
    }

    /// Starts a command of the runtime without waiting.
    pub fn spawn(&self, words: &[&str]) -> Outcome<Running> {
        Ok(Running::start(self.command(words).stdin(std::process::Stdio::null()), &self.output_dir())?)
    }

    /// Runs the container to its end in the foreground.
    pub fn run(&self) -> Outcome<Output> {
        self.run_with(&[])
    }

    /// As [`Self::run`], with further options.
    pub fn run_with(&self, options: &[&str]) -> Outcome<Output> {
        self.write_config()?;
        self.call(&self.words("run", options))
    }

    /// Runs the container and fails unless it succeeds.
    pub fn run_ok(&self) -> Outcome<Output> {
        let output = self.run()?;
        if output.status.success() { Ok(output) } else { fail(format!("run: {}", output.text())) }
    }

    /// Runs the container and reads the JSON document that it prints.
    pub fn run_json(&self) -> Outcome<Value> {
        json::parse(&self.run_ok()?.stdout)
    }

    /// Runs the container and fails unless the runtime refuses it.
    pub fn run_refused(&self) -> Outcome<Output> {
        self.write_config()?;
        self.refused(&self.words("run", &[]))
    }

    /// Creates the container.
    pub fn create(&mut self) -> Outcome {
        self.create_with(&[])
    }

    /// As [`Self::create`], with further options.
    pub fn create_with(&mut self, options: &[&str]) -> Outcome {
        self.write_config()?;
        self.ok(&self.words("create", options))?;
        if let Ok(pid) = self.pid() {
            self.known_pids.push(pid);
        }
        Ok(())
    }

    /// Starts the created container.
    pub fn start(&self) -> Outcome {
        self.ok(&["start", &self.id]).map(drop)
    }

    /// Creates and starts a container whose program is `args`, and waits until the program has begun.
    pub fn start_with(&mut self, args: &[&str]) -> Outcome {
        self.spec.set_args(args);
        self.create()?;
        self.start()?;
        let pid = self.pid()?;
        let name = args[0].rsplit('/').next().unwrap_or_default();
        let begun = wait_for(self.kit.time(5.0), || {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let word = line.split(|&byte| byte == 0).next()?;
            (String::from_utf8_lossy(word).rsplit('/').next()? == name).then_some(())
        });
        if begun.is_none() { fail(format!("{args:?} did not begin: {}", leak::describe(pid))) } else { Ok(()) }
    }

    /// Creates and starts a container that waits until it is killed.
    pub fn start_waiting(&mut self) -> Outcome {
        self.start_with(&["/init", "sleep", "300"])
    }

    /// Executes a program in the container with further options.
    pub fn exec_with(&self, options: &[&str], args: &[&str]) -> Outcome<Output> {
        let marker = format!("{MARKER}={}", self.id);
        let mut words = vec!["exec", "--env", &marker];
        words.extend(options);
        words.push(&self.id);
        words.extend(args);
        self.call(&words)
    }

    /// Executes a program in the container and fails unless it succeeds.
    pub fn exec_ok(&self, options: &[&str], args: &[&str]) -> Outcome<Output> {
        let output = self.exec_with(options, args)?;
        if output.status.success() { Ok(output) } else { fail(format!("exec {options:?} {args:?}: {}", output.text())) }
    }

    /// Executes the probe in the container and reads its report.
    pub fn exec_report(&self, options: &[&str]) -> Outcome<Value> {
        json::parse(&self.exec_ok(options, &["/init", "report"])?.stdout)
    }

    /// Executes a process document in the container.
    pub fn exec_process(&self, process: &Process, options: &[&str], command: &str) -> Outcome<Output> {
        let path = self.host(&format!("process-{}.json", self.kit.unique()));
        fs::write(&path, serde_json::to_vec(process)?)?;
        let path = path.display().to_string();
        let mut words = vec![command, "--process", &path];
        words.extend(options);
        words.push(&self.id);
        self.call(&words)
    }

    /// What `state` prints.
    pub fn state(&self) -> Outcome<Value> {
        json::parse(&self.ok(&["state", &self.id])?.stdout)
    }

    /// The container's status.
    pub fn status(&self) -> Outcome<String> {
        Ok(json::at(&self.state()?, "/status").as_str().unwrap_or_default().to_owned())
    }

    /// The container's first process, as the host numbers it.
    pub fn pid(&self) -> Outcome<i32> {
        let state = self.state()?;
        match json::at(&state, "/pid").as_i64() {
            Some(pid) if pid > 0 => Ok(pid as i32),
            _ => fail(format!("the state has no pid: {state}")),
        }
    }

    /// Sends a signal.
    pub fn kill(&self, signal: &str) -> Outcome {
        self.ok(&["kill", &self.id, signal]).map(drop)
    }

    /// Waits for the end of the container's first process and gives how it ended. The harness makes this process the
    /// one that orphans come to, so that the end can be seen.
    pub fn wait(&mut self, pid: i32) -> Outcome<ExitStatus> {
        let ended = wait_for(self.kit.time(10.0), || reaper::ended(pid));
        self.known_pids.retain(|known| *known != pid);
        ended.map_or_else(|| fail(format!("process {pid} does not end: {}", leak::describe(pid))), Ok)
    }

    /// Waits until the container has this status.
    pub fn wait_status(&self, status: &str) -> Outcome {
        let limit = self.kit.time(10.0);
        let mut last = Ok(String::new());
        let reached = wait_for(limit, || {
            last = self.status();
            last.as_ref().is_ok_and(|now| now == status).then_some(())
        });
        reached.map_or_else(|| fail(format!("status is {last:?} after {limit:?}, expected {status:?}")), Ok)
    }

    /// Deletes the container.
    pub fn delete(&self) -> Outcome {
        self.ok(&["delete", &self.id]).map(drop)
    }

    /// Kills and deletes the container.
    pub fn delete_force(&self) -> Outcome {
        self.ok(&["delete", "--force", &self.id]).map(drop)
    }

    /// A file of the container's cgroup; see [`crate::cgroup::Cgroups::read`].
    pub fn limit(&self, controller: &str, v1: &str, v2: &str) -> Outcome<String> {
        self.kit.need_controller(controller)?;
        match self.kit.cgroups.read(controller, &self.cgroup, v1, v2) {
            Some(text) => Ok(text),
            None => fail(format!("cgroup {} has no {v1} ({v2}) of {controller}", self.cgroup)),
        }
    }

    /// What is left of the container now. Processes on their way out have a moment for it.
    pub fn leftovers(&self) -> Vec<String> {
        let quiet = wait_for(Duration::from_secs(2), || self.find_leftovers().is_empty().then_some(()));
        if quiet.is_some() { Vec::new() } else { self.find_leftovers() }
    }

    /// The subcommand with options, bundle and identifier.
    fn words<'a>(&'a self, command: &'a str, options: &[&'a str]) -> Vec<&'a str> {
        // The bundle is the current directory, as for the usual runtimes.
        let mut words = vec![command];
        words.extend(options);
        words.push(&self.id);
        words
    }

    fn find_leftovers(&self) -> Vec<String> {
        let mut found: Vec<String> = leak::marked(&self.id).into_iter().map(leak::describe).collect();
        found.extend(self.known_pids.iter().filter(|pid| alive(**pid)).map(|pid| leak::describe(*pid)));
        let ours = self.dir.display().to_string();
        let mounts = mount_table("self").into_iter().filter(|mounted| mounted.target.starts_with(&ours));
        let made_by_test = |target: &str| self.mounts.iter().any(|path| Path::new(target) == path);
        found.extend(mounts.filter(|one| !made_by_test(&one.target)).map(|one| format!("mount on {}", one.target)));
        let cgroups = self.kit.cgroups.find(&self.id);
        found.extend(cgroups.iter().filter(|dir| self.is_mine(dir)).map(|dir| format!("cgroup {}", dir.display())));
        let state = self.state_root().join(&self.id);
        if state.exists() {
            found.push(format!("state in {}", state.display()));
        }
        found
    }

    /// Whether a cgroup's name has this container's identifier, and not one that merely begins with it.
    fn is_mine(&self, dir: &Path) -> bool {
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.split_once(self.id.as_str()).is_some_and(|(_, rest)| !rest.starts_with(|c: char| c.is_ascii_digit()))
    }

    /// Deletes, looks for what is left, and takes that away too.
    fn clean(&mut self) {
        let deleted = self.call(&["delete", "--force", &self.id]);
        let left = self.leftovers();
        if !left.is_empty() {
            let said = match deleted {
                Ok(output) => output.text(),
                Err(Stop::Fail(text) | Stop::Skip(text)) => text,
            };
            leak::note(format!("left behind after delete --force ({said}): {}", left.join("; ")));
        }
        for pid in leak::marked(&self.id) {
            leak::end(pid);
        }
        for pid in self.kit.cgroups.processes(&self.cgroup) {
            leak::end(pid);
        }
        self.unmount_all();
        let mut cgroups = self.kit.cgroups.find(&self.id);
        cgroups.retain(|dir| self.is_mine(dir));
        for dir in cgroups {
            // Busy for as long as its last process has not been reaped; what stays has been reported above.
            let _ = wait_for(Duration::from_secs(1), || fs::remove_dir(&dir).ok());
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            leak::note(format!("{} cannot be removed: {error}", self.dir.display()));
        }
    }

    /// Unmounts everything below the container's directory, the last mount first.
    fn unmount_all(&self) {
        let ours = self.dir.display().to_string();
        let table = mount_table("self");
        for mounted in table.iter().rev().filter(|mounted| mounted.target.starts_with(&ours)) {
            let flags = rustix::mount::UnmountFlags::DETACH;
            if let Err(error) = rustix::mount::unmount(mounted.target.as_str(), flags) {
                leak::note(format!("{} cannot be unmounted: {error}", mounted.target));
            }
        }
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.clean();
    }
}

/// Gives a directory tree to a user. Files with several names, as the probe, stay root's.
fn give(path: &Path, uid: u32) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?;
    if kind.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(kind.permissions().mode() | 0o700))?;
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), uid)?;
        }
    }
    if kind.is_dir() || std::os::unix::fs::MetadataExt::nlink(&kind) == 1 {
        std::os::unix::fs::lchown(path, Some(uid), Some(uid))?;
    }
    Ok(())
}
