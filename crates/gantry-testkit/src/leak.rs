//! What a container left behind: processes, mounts, cgroups, files of state.
//!
//! Every process that a test starts has a marker in its environment, so that one which left all cgroups and namespaces
//! is still found. What a guard finds is handed to the harness by way of the thread that runs the test.

use std::cell::RefCell;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::host::alive;

/// The name of the environment variable that marks processes of a test.
pub const MARKER: &str = "GANTRY_TEST";

thread_local! {
    static FOUND: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes something that was left behind by the test of this thread.
pub fn note(text: String) {
    FOUND.with_borrow_mut(|found| found.push(text));
}

/// Takes what was noted on this thread.
pub fn take() -> Vec<String> {
    FOUND.take()
}

/// Processes that are there, no zombies, and have `marker` as the value of [`MARKER`] in their environment.
pub fn marked(marker: &str) -> Vec<i32> {
    let wanted = format!("{MARKER}={marker}");
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|word| word == wanted.as_bytes()) && alive(*pid)
    })
    .collect()
}

/// What a process is doing, for a message.
pub fn describe(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let name = stat.split(") ").next().unwrap_or_default().to_owned();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?');
    format!("process {pid} [{}] state {state}: {line}", name.split_once('(').map_or("", |(_, name)| name))
}

/// Kills a process that was left.
pub fn end(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended by itself meanwhile, which is as well.
        let _ = kill_process(pid, Signal::KILL);
    }
}
