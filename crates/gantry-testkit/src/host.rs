//! What this machine has: tools, kernel features, and its mount table. Asked by tests that need them, so that a test
//! that cannot run says what is missing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::outcome::{Outcome, skip};

/// A line of a process's mount table (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, Default)]
pub struct Mounted {
    /// The part of the file system that is mounted.
    pub root: String,
    /// Where.
    pub target: String,
    /// Options of this mount.
    pub options: Vec<String>,
    /// Propagation: `shared:N`, `master:N`, `unbindable`.
    pub propagation: Vec<String>,
    /// File system type.
    pub kind: String,
    /// Device or name.
    pub source: String,
    /// Options of the file system.
    pub super_options: Vec<String>,
}

/// The mount table of a process, by its id or `self`; empty when it cannot be read.
pub fn mount_table(process: &str) -> Vec<Mounted> {
    let text = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    text.lines().filter_map(mount_line).collect()
}

/// One line of a mount table.
fn mount_line(line: &str) -> Option<Mounted> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.splitn(3, ' ').collect();
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    Some(Mounted {
        root: unescape(left.get(3)?),
        target: unescape(left.get(4)?),
        options: list(left.get(5)?),
        propagation: left.get(6..)?.iter().map(|&word| word.to_owned()).collect(),
        kind: (*right.first()?).to_owned(),
        source: unescape(right.get(1)?),
        super_options: list(right.get(2)?),
    })
}

/// Undoes the octal escapes of the mount table.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Where a program is, by the usual places of a Debian system.
pub fn find_tool(name: &str) -> Option<PathBuf> {
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
}

/// Where a program is; skips the test when it is not installed.
pub fn need_tool(name: &str) -> Outcome<PathBuf> {
    find_tool(name).map_or_else(|| skip(format!("{name} is not installed")), Ok)
}

/// Skips the test unless `path` exists on this machine; `what` names what it stands for.
pub fn need_path(path: &str, what: &str) -> Outcome {
    if Path::new(path).exists() { Ok(()) } else { skip(format!("{what}: this kernel has no {path}")) }
}

/// The security modules that are active, by name.
pub fn security_modules() -> Vec<String> {
    let listed = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let mut modules: Vec<String> = listed.trim().split(',').map(str::to_owned).collect();
    if Path::new("/sys/fs/selinux/enforce").exists() {
        modules.push("selinux".into());
    }
    if fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y')) {
        modules.push("apparmor".into());
    }
    modules
}

/// Whether the process is there and is no zombie.
pub fn alive(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

/// The identity of a process's namespace, as `pid:[4026531836]`; empty when it cannot be read.
pub fn namespace_id(pid: &str, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).map(|link| link.display().to_string()).unwrap_or_default()
}
