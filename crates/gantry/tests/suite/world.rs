//! A place for one test: a directory, the executable's calls in it, a registry, archives.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where its place cannot be made")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that goes away, and what is started in it.
pub struct World {
    pub dir: PathBuf,
}

/// What a call gave.
#[derive(Debug)]
pub struct Said {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl World {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("gantry-cli-{}-{next}", std::process::id()));
        std::fs::create_dir_all(dir.join("docker")).unwrap();
        Self { dir }
    }

    /// The same if layers can be unpacked here; none, and said so, if not.
    pub fn of_root(test: &str) -> Option<Self> {
        if rustix::process::geteuid().is_root() {
            return Some(Self::new());
        }
        eprintln!("SKIPPED: {test}: unpacking layers needs root");
        None
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// A call, with the store of this world. Words are parted by spaces.
    pub fn command(&self, line: &str) -> Command {
        let mut command = bare();
        command
            .arg("--root")
            .arg(self.dir.join("store"))
            .args(line.split(' '))
            .env("DOCKER_CONFIG", self.dir.join("docker"));
        command
    }

    pub fn run(&self, line: &str) -> Said {
        said(self.command(line).output().unwrap())
    }

    /// The output of a call that must succeed.
    pub fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!(said.status, 0, "{line}: {said:?}");
        said.out
    }

    /// What a call that must fail said, with its status before it.
    pub fn fails(&self, line: &str) -> String {
        let said = self.run(line);
        format!("[{}] {}", said.status, said.err.trim_end())
    }

    /// The same call with something on standard input.
    pub fn feed(&self, line: &str, input: &[u8]) -> Said {
        let mut command = self.command(line);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // One that refuses does not read.
        let _ = child.stdin.take().unwrap().write_all(input);
        said(child.wait_with_output().unwrap())
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The executable, with nothing from the environment that could change what it does.
pub fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
    for name in [
        "GANTRY_ROOT",
        "GANTRY_HOST",
        "DOCKER_HOST",
        "GANTRY_CONFIG",
        "DOCKER_CONFIG",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.stdin(Stdio::null());
    command
}

pub fn said(output: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// A registry on a free port of loopback.
pub struct Registry {
    child: Child,
    pub host: String,
}

impl Registry {
    pub fn serve(root: &Path, more: &[&str]) -> Self {
        let mut command = bare();
        command.args(["registry", "serve", "--listen", "127.0.0.1:0", "--root"]).arg(root).args(more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let host = line.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, host }
    }

    /// Asks it to end, and gives its exit status.
    pub fn stop(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A tar archive of files and directories (names that end in a slash), made at 2026-01-02 03:04:05.
pub fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in entries {
        let directory = name.ends_with('/');
        let mut header = [0u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, if directory { "0000755" } else { "0000644" });
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", content.len()));
        put(136, &format!("{:011o}", 1_767_323_045));
        put(148, "        ");
        put(156, if directory { "5" } else { "0" });
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}
