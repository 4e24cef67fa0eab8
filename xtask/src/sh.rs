//! Running other programs, and where the work tree is: the plumbing that every command shares.

use anyhow::{Context, Result, bail};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

/// The top of the work tree.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Where cargo puts what it builds; our own logs, images and plots are kept there too.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A directory named by an environment variable, or a default.
pub fn dir_from_env(variable: &str, default: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| PathBuf::from(default), PathBuf::from)
}

/// A command to run at the top of the work tree.
pub fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// The `cargo` that runs us.
pub fn cargo(args: &[&str]) -> Command {
    command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()), args)
}

/// Runs a command to its end; anything but success is an error that names it.
pub fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("{}: {status}", name(command));
    }
    Ok(())
}

/// Runs a command to its end and gives its status.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("start {}", name(command)))
}

/// Runs a command to its end and gives what it wrote on its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("start {}", name(command)))?;
    if !output.status.success() {
        bail!("{}: {}", name(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{}: its output is not UTF-8", name(command)))
}

/// Runs a command to its end. Each line of its output, standard error included, is passed on as it comes.
pub fn stream(command: &mut Command, each_line: &mut dyn FnMut(&str)) -> Result<ExitStatus> {
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().context("copy the end of a pipe")?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("start {}", name(command)))?;
    // The command keeps ends of the pipe to write to: without these, reading would not come to an end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for line in BufReader::new(reader).split(b'\n') {
        each_line(&String::from_utf8_lossy(&line.context("read a command's output")?));
    }
    child.wait().with_context(|| format!("wait for {}", name(command)))
}

/// Whether a program is on the search path.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).any(|dir| dir.join(program).is_file())
}

/// The status of a program that ran, as ours: its code, or 128 and the signal that ended it, as shells say it.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// The program and its first argument: enough to know which call failed.
fn name(command: &Command) -> String {
    let first = command.get_args().next().map(|arg| format!(" {}", arg.to_string_lossy()));
    format!("{}{}", command.get_program().to_string_lossy(), first.unwrap_or_default())
}
