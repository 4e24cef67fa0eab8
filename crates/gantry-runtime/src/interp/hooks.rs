//! Running hooks (config.md, POSIX-platform Hooks).

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use gantry_model::oci::spec::Hook;
use gantry_model::oci::state::State;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Error, Result, cause_text};
use crate::step::HookKind;

/// Runs hooks in order, each with the state on its standard input; the first failure ends it.
pub(crate) fn run(kind: HookKind, hooks: &[Hook], state: &State) -> Result<()> {
    let document = serde_json::to_vec(state).map_err(|cause| Error::Parse { path: "state".to_owned(), cause })?;
    let output = Output::of(kind, state);
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, &document, &output).map_err(|cause| Error::Step {
            step: format!("run {} hook {index} ({})", kind.as_str(), hook.path),
            cause,
        })?;
    }
    Ok(())
}

/// Files of the host that hooks append their output to, where annotations name some.
struct Output<'a> {
    stdout: Option<&'a str>,
    stderr: Option<&'a str>,
}

impl<'a> Output<'a> {
    /// Hooks that run in the container's namespaces see no file of the host.
    fn of(kind: HookKind, state: &'a State) -> Self {
        let outside = !matches!(kind, HookKind::CreateContainer | HookKind::StartContainer);
        let named = |name: &str| state.annotations.get(name).map(String::as_str).filter(|_| outside);
        Self { stdout: named("run.oci.hooks.stdout"), stderr: named("run.oci.hooks.stderr") }
    }

    fn open(path: Option<&str>) -> Result<Stdio, String> {
        let Some(path) = path else { return Ok(Stdio::piped()) };
        let file = File::options().append(true).create(true).open(path);
        file.map(Stdio::from).map_err(|e| format!("open {path} for its output: {}", cause_text(&e)))
    }
}

fn run_one(hook: &Hook, state: &[u8], output: &Output<'_>) -> Result<(), String> {
    let mut command = Command::new(&hook.path);
    if let Some((name, args)) = hook.args.split_first() {
        command.arg0(name).args(args);
    }
    // A hook that is given no environment has the runtime's, in which engines leave it a PATH.
    if !hook.env.is_empty() {
        command.env_clear();
        command.envs(hook.env.iter().filter_map(|pair| pair.split_once('=')));
    }
    command.stdin(Stdio::piped()).stdout(Output::open(output.stdout)?).stderr(Output::open(output.stderr)?);
    let mut child = command.spawn().map_err(|e| cause_text(&e))?;
    let ended = feed_and_wait(&mut child, state, hook.timeout);
    let (status, output) = match ended {
        Ok(ended) => ended,
        Err(cause) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(cause);
        }
    };
    if status.success() {
        return Ok(());
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("killed by signal {signal}"),
        _ => "ended abnormally".to_owned(),
    };
    let output = String::from_utf8_lossy(&output);
    Err(if output.trim().is_empty() { how } else { format!("{how}: {}", output.trim()) })
}

/// How much of a hook's output is kept for a message, in bytes.
const KEPT_OUTPUT: usize = 4096;

/// Writes the state, collects output, and waits for the end or the time-out.
fn feed_and_wait(child: &mut Child, state: &[u8], timeout: Option<i64>) -> Result<(ExitStatus, Vec<u8>), String> {
    let text = |e: io::Error| cause_text(&e);
    let stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let pid = Pid::from_raw(child.id() as i32).ok_or("no process id")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| text(e.into()))?;
    // A hook that does not read its input is no failure; the state fits a pipe, so writing it does not block.
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(state);
    }
    let deadline = timeout.map(|s| std::time::Instant::now() + Duration::from_secs(s.max(0) as u64));
    let mut kept = Vec::new();
    let mut open: Vec<std::os::fd::OwnedFd> =
        [stdout.map(Into::into), stderr.map(Into::into)].into_iter().flatten().collect();
    loop {
        let left = match deadline.map(|d| d.saturating_duration_since(std::time::Instant::now())) {
            Some(Duration::ZERO) => return Err(format!("timed out after {} seconds", timeout.unwrap_or_default())),
            left => left.and_then(|left| Timespec::try_from(left).ok()),
        };
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(&pidfd, PollFlags::IN)];
        fds.extend(open.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        match poll(&mut fds, left.as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result.map_err(|e| text(e.into()))?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let mut index = 0;
        open.retain(|fd| {
            index += 1;
            !ready[index] || drain(fd, &mut kept)
        });
        if ready[0] {
            return Ok((child.wait().map_err(text)?, kept));
        }
    }
}

/// Reads what is there; false at the end.
fn drain(fd: &std::os::fd::OwnedFd, kept: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    match rustix::io::read(fd, &mut buffer) {
        Ok(0) | Err(_) => false,
        Ok(length) => {
            let room = KEPT_OUTPUT.saturating_sub(kept.len());
            kept.extend_from_slice(&buffer[..length.min(room)]);
            true
        }
    }
}
