//! Attacks from inside: what known break-outs did, tried for real, and what came of it.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use serde_json::{Value, json};

use super::{attempt, number};

/// Runs an attack and says what it found.
pub fn attack(words: &[&str]) -> io::Result<Value> {
    match words {
        ["executables", seconds, ready] => executables(Duration::from_secs(number(seconds)?), Path::new(ready)),
        ["joiners", seconds, ready] => joiners(Duration::from_secs(number(seconds)?), Path::new(ready)),
        ["escape"] => Ok(escape()),
        _ => Err(io::Error::other("no such attack")),
    }
}

/// Watches for processes that come into this PID namespace, holds their executables open, and tries to write to each
/// executable that is not this program's own: the overwrite of the runtime's binary by way of `/proc/PID/exe`.
fn executables(watch: Duration, ready: &Path) -> io::Result<Value> {
    let own = fs::metadata("/proc/self/exe")?;
    let mut held: Vec<(String, fs::File)> = Vec::new();
    let mut seen = 0_u64;
    let end = Instant::now() + watch;
    fs::write(ready, "")?;
    while Instant::now() < end {
        for pid in other_processes() {
            seen += 1;
            let path = format!("/proc/{pid}/exe");
            let Ok(file) = fs::File::open(&path) else { continue };
            let Ok(found) = file.metadata() else { continue };
            if (found.dev(), found.ino()) != (own.dev(), own.ino()) && held.len() < 64 {
                held.push((fs::read_link(&path).map(|to| to.display().to_string()).unwrap_or_default(), file));
            }
        }
    }
    let mut answers: Vec<Value> = Vec::new();
    for (name, file) in &held {
        // A busy executable refuses to be written to only while it runs, so the runtime gets time to end.
        let reopened = format!("/proc/self/fd/{}", file.as_raw_fd());
        let until = Instant::now() + Duration::from_secs(2);
        let answer = loop {
            let written = OpenOptions::new()
                .append(true)
                .custom_flags(OFlags::NONBLOCK.bits() as i32)
                .open(&reopened)
                .and_then(|mut file| io::Write::write_all(&mut file, b"x"));
            match written {
                Ok(()) => break "ok".to_owned(),
                Err(error) if attempt::name(&error) == "ETXTBSY" && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => break attempt::name(&error),
            }
        };
        answers.push(json!({ "executable": name, "write": answer }));
    }
    Ok(json!({ "seen": seen, "answers": answers }))
}

/// Watches for processes that come into this PID namespace and looks into each before it executes its program: a
/// process of the runtime must not let its memory, its descriptors or its directory be seen.
fn joiners(watch: Duration, ready: &Path) -> io::Result<Value> {
    let own = fs::metadata("/proc/self/exe")?;
    let (mut seen, mut leaks) = (0_u64, Vec::new());
    let end = Instant::now() + watch;
    fs::write(ready, "")?;
    while Instant::now() < end {
        for pid in other_processes() {
            seen += 1;
            // What runs this program has executed already, and is the container's own.
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if line.starts_with(b"/init") || line.is_empty() {
                continue;
            }
            let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count);
            let executable = fs::metadata(format!("/proc/{pid}/exe"));
            let line_after = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let foreign = executable.is_ok_and(|found| (found.dev(), found.ino()) != (own.dev(), own.ino()));
            if line == line_after && foreign && leaks.len() < 16 {
                let count = descriptors.unwrap_or_default();
                leaks.push(format!("{}: {count} descriptors", String::from_utf8_lossy(&line).replace('\0', " ")));
            }
        }
    }
    Ok(json!({ "seen": seen, "leaks": leaks }))
}

/// Looks for a way out by descriptors and by the working directory: each that is a directory outside the root, or from
/// which `..` leads to one.
fn escape() -> Value {
    let root = fs::metadata("/").map(|found| (found.dev(), found.ino())).ok();
    let mut ways = Vec::new();
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<String> = entries.map(|entry| entry.path().display().to_string()).collect();
    for path in numbers.into_iter().chain(["/proc/self/cwd".to_owned()]) {
        if !fs::metadata(&path).is_ok_and(|found| found.is_dir()) {
            continue;
        }
        let target = fs::read_link(&path).map(|to| to.display().to_string()).unwrap_or_default();
        // A directory outside the root has, seen from inside, another end of its way up.
        let mut up = path.clone();
        for _ in 0..64 {
            up.push_str("/..");
        }
        let top = fs::metadata(&up).map(|found| (found.dev(), found.ino())).ok();
        if top != root && !target.starts_with("/proc/") {
            ways.push(json!({ "by": path, "target": target }));
        }
    }
    Value::Array(ways)
}

/// The processes of this PID namespace besides this one.
fn other_processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id()).collect()
}
