//! What of this machine is gathered: files of the kernel, what its tools say, and what the daemon's process does.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use crate::failure::{Failure, Of, Outcome};

/// The most bytes of one part.
const PART: usize = 4 << 20;
/// The most bytes of all.
const ALL: usize = 64 << 20;
/// How long a tool may take.
const TOOL: Duration = Duration::from_secs(10);
/// The most names of a directory that are listed.
const NAMES: usize = 2000;

/// Files of the kernel and of the system.
const FILES: [&str; 19] = [
    "/proc/version",
    "/proc/mounts",
    "/proc/self/mountinfo",
    "/proc/cgroups",
    "/proc/self/cgroup",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/uptime",
    "/proc/filesystems",
    "/proc/modules",
    "/proc/net/dev",
    "/proc/net/netstat",
    "/proc/pressure/cpu",
    "/proc/pressure/memory",
    "/proc/pressure/io",
    "/sys/fs/cgroup/cgroup.controllers",
    "/sys/fs/cgroup/cgroup.subtree_control",
    "/proc/sys/net/ipv4/ip_forward",
    "/etc/os-release",
];

/// What tools are asked.
const TOOLS: [(&str, &[&str]); 9] = [
    ("nft", &["list", "ruleset"]),
    ("iptables-save", &[]),
    ("ip", &["-details", "address"]),
    ("ip", &["route", "show", "table", "all"]),
    ("ip", &["rule"]),
    ("ss", &["-lntup"]),
    ("df", &["-h"]),
    ("systemctl", &["status", "--no-pager", "--full", "gantry.service", "gantry.socket"]),
    ("journalctl", &["--no-pager", "-u", "gantry.service", "-n", "3000"]),
];

/// The parts of an archive so far.
#[derive(Default)]
pub struct Parts {
    /// Names and contents.
    pub all: Vec<(String, Vec<u8>)>,
    failed: Vec<(String, String)>,
    bytes: usize,
}

impl Parts {
    /// Adds a part, or why there is none. What is too long loses its beginning.
    pub fn add(&mut self, name: &str, content: Outcome<Vec<u8>>) {
        let mut bytes = match content {
            Ok(bytes) => bytes,
            Err(failure) => {
                let text = failure.text().replace('\n', " ");
                return self.failed.push((name.to_owned(), text));
            }
        };
        if self.bytes >= ALL {
            return self.failed.push((name.to_owned(), "there is no room left for it".to_owned()));
        }
        let most = PART.min(ALL - self.bytes);
        if bytes.len() > most {
            self.failed.push((name.to_owned(), format!("only the last {most} bytes of {} are here", bytes.len())));
            bytes.drain(..bytes.len() - most);
        }
        self.bytes += bytes.len();
        self.all.push((name.to_owned(), bytes));
    }

    /// What is not there, and why, one a line.
    pub fn failures(&self) -> String {
        self.failed.iter().fold(String::new(), |mut out, (name, why)| {
            let _ = writeln!(out, "{name}: {why}");
            out
        })
    }
}

/// Gathers what is known of the machine, and of the daemon's process.
pub async fn of_machine(parts: &mut Parts, run: &Path, root: &Path) {
    for file in FILES {
        parts.add(&format!("host{file}"), tail(Path::new(file)));
    }
    for (tool, args) in TOOLS {
        let name = std::iter::once(tool).chain(args.iter().copied()).collect::<Vec<_>>().join("-");
        let name = name.replace(['/', '.'], "_").replace("--", "-");
        parts.add(&format!("host/{name}.txt"), told(tool, args).await);
    }
    parts.add("daemon/log.txt", tail(&run.join("daemon.log")));
    parts.add("daemon/run.txt", listed(run, 2));
    parts.add("daemon/root.txt", listed(root, 1));
    let card = tail(&run.join("daemon.json"));
    let pid = card.as_ref().ok().and_then(|bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok());
    let pid = pid.and_then(|said| said["pid"].as_u64());
    parts.add("daemon/daemon.json", card);
    let Some(pid) = pid else { return };
    let process = Path::new("/proc").join(pid.to_string());
    for name in ["status", "limits", "cgroup", "sched", "io", "smaps_rollup"] {
        parts.add(&format!("daemon/process/{name}"), tail(&process.join(name)));
    }
    parts.add("daemon/process/threads.txt", threads(&process));
    parts.add("daemon/process/descriptors.txt", descriptors(&process));
}

/// The end of a file.
fn tail(path: &Path) -> Outcome<Vec<u8>> {
    let what = || format!("read {}", path.display());
    let mut file = File::open(path).of(what())?;
    // Files of the kernel have no length, and cannot be looked at from the end.
    let length = file.metadata().of(what())?.len();
    if let Some(skip) = length.checked_sub(PART as u64) {
        file.seek(SeekFrom::Start(skip)).of(what())?;
    }
    let mut bytes = Vec::new();
    file.take(PART as u64).read_to_end(&mut bytes).of(what())?;
    Ok(bytes)
}

/// What a tool says, for as long as it may take.
async fn told(tool: &str, args: &[&str]) -> Outcome<Vec<u8>> {
    let mut command = tokio::process::Command::new(tool);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().of(tool)?;
    let (out, errors) = (child.stdout.take(), child.stderr.take());
    let read = async {
        let (mut said, mut wrong) = (Vec::new(), Vec::new());
        if let (Some(out), Some(errors)) = (out, errors) {
            let (mut out, mut errors) = (out.take(PART as u64), errors.take(64 << 10));
            tokio::try_join!(out.read_to_end(&mut said), errors.read_to_end(&mut wrong))?;
        }
        said.extend(wrong);
        Ok::<_, std::io::Error>(said)
    };
    match tokio::time::timeout(TOOL, read).await {
        Ok(said) => said.of(tool),
        Err(_) => Err(Failure::new(format!("{tool} takes more than {} seconds", TOOL.as_secs()))),
    }
}

/// The names in a directory and, to a depth, below it, with kinds and sizes.
fn listed(directory: &Path, depth: usize) -> Outcome<Vec<u8>> {
    let mut out = String::new();
    let mut left = vec![(directory.to_path_buf(), 0)];
    let mut count = 0;
    while let Some((at, level)) = left.pop() {
        let entries = match std::fs::read_dir(&at) {
            Ok(entries) => entries,
            Err(error) if level == 0 => return Err(Failure::from(error).of(format!("list {}", at.display()))),
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            count += 1;
            if count > NAMES {
                let _ = writeln!(out, "and more");
                return Ok(out.into_bytes());
            }
            // It may be gone already.
            let Ok(found) = entry.path().symlink_metadata() else { continue };
            let kind = if found.is_dir() { 'd' } else { '-' };
            let _ = writeln!(out, "{kind} {:>12} {}", found.len(), entry.path().display());
            if found.is_dir() && level < depth {
                left.push((entry.path(), level + 1));
            }
        }
    }
    Ok(out.into_bytes())
}

/// What each thread of a process does: its name, its state, what it waits for in the kernel, and how it came there.
fn threads(process: &Path) -> Outcome<Vec<u8>> {
    let mut out = String::new();
    let all = std::fs::read_dir(process.join("task")).of("list threads")?;
    for thread in all.flatten().take(NAMES) {
        let read = |name: &str| std::fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        let (name, waits) = (read("comm"), read("wchan"));
        let status = read("status");
        let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or_default().trim();
        let _ = writeln!(out, "{} {} {state}, in {waits}", thread.file_name().to_string_lossy(), name.trim());
        for line in read("stack").lines() {
            let _ = writeln!(out, "    {line}");
        }
    }
    Ok(out.into_bytes())
}

/// What a process has open.
fn descriptors(process: &Path) -> Outcome<Vec<u8>> {
    let mut out = String::new();
    for one in std::fs::read_dir(process.join("fd")).of("list descriptors")?.flatten().take(NAMES) {
        let target = std::fs::read_link(one.path()).unwrap_or_default();
        let _ = writeln!(out, "{} {}", one.file_name().to_string_lossy(), target.display());
    }
    Ok(out.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_bounded_and_failures_told() {
        let mut parts = Parts::default();
        parts.add("small", Ok(b"x".to_vec()));
        parts.add("none", Err(Failure::new("it is\nnot there")));
        let mut long = vec![b'a'; PART];
        long.push(b'z');
        parts.add("long", Ok(long));
        assert_eq!((parts.all.len(), parts.all[1].1.len(), parts.all[1].1.last()), (2, PART, Some(&b'z')));
        for _ in 0..ALL / PART {
            parts.add("more", Ok(vec![0; PART]));
        }
        parts.add("over", Ok(vec![1]));
        assert!(parts.bytes <= ALL);
        let failures = parts.failures();
        for expect in ["none: it is not there\n", "long: only the last", "over: there is no room"] {
            assert!(failures.contains(expect), "{failures}");
        }
    }

    #[tokio::test]
    async fn tools_are_told_off() {
        assert_eq!(told("echo", &["hi"]).await.unwrap(), b"hi\n");
        assert!(told("no-such-tool", &[]).await.is_err());
    }
}
