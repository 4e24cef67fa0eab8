//! Starts the daemon where none answers, and waits until it does.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::host::SOCKET;
use super::http::{Client, ConnectError};
use crate::cli::Global;
use crate::failure::{Failure, Of, Outcome};

/// How long the daemon may take until it answers.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(5);
/// How much of its log is shown when it fails, in bytes.
const TAIL: usize = 2000;

/// Starts a daemon on the default socket. It has no terminal, and its log is a file.
pub async fn daemon(global: &Global, client: &mut Client) -> Outcome {
    if !rustix::process::geteuid().is_root() {
        let failure = Failure::new(format!("no daemon answers at {SOCKET}, and only root can start one"));
        return Err(failure.hint("run the command as root, as with sudo, or say with --host where a daemon is"));
    }
    let log = log_file();
    let mut child = command(global, &log)?.spawn().of("start the daemon")?;
    let began = tokio::time::Instant::now();
    loop {
        match client.greet().await {
            Ok(()) => return Ok(()),
            Err(ConnectError::Nobody(_)) => {}
            Err(error) => return Err(error.into_failure(client.host())),
        }
        // Two commands may start one at once: the later one ends, and the other answers.
        let ended = child.try_wait().of("start the daemon")?;
        let late = began.elapsed() > PATIENCE;
        if late || ended.is_some_and(|status| !status.success()) {
            let one_more = client.greet().await;
            return one_more.map_err(|_| {
                let how = ended.map_or_else(|| "does not answer".to_owned(), |status| format!("ended: {status}"));
                Failure::new(format!("the daemon {how}{}", tail(&log))).hint(format!("its log is {}", log.display()))
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Where the log of a daemon that was started so is.
fn log_file() -> PathBuf {
    Path::new(SOCKET).with_file_name("daemon.log")
}

fn command(global: &Global, log: &Path) -> Outcome<Command> {
    let what = || format!("open the log {}", log.display());
    if let Some(directory) = log.parent() {
        std::fs::create_dir_all(directory).of(what())?;
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o640).open(log).of(what())?;
    let errors = file.try_clone().of(what())?;
    let mut command = Command::new(std::env::current_exe().of("find this program")?);
    if let Some(root) = &global.root {
        command.arg("--root").arg(root);
    }
    if let Some(config) = &global.config {
        command.arg("--config").arg(config);
    }
    // A process group of its own: what is typed at this terminal is not for it.
    command.arg("daemon").stdin(Stdio::null()).stdout(file).stderr(errors).process_group(0).current_dir("/");
    Ok(command)
}

/// The end of a log, to be shown.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL)..]).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(5)..];
    if last.is_empty() { String::new() } else { format!("; it said:\n{}", last.join("\n")) }
}
