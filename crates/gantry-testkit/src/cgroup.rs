//! The cgroup hierarchies of this machine, as mounted: where a container's directories are, and what their files say.

use std::fs;
use std::path::{Path, PathBuf};

use crate::host::{Mounted, mount_table};

/// How controllers are spread over hierarchies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only version 1.
    V1,
    /// Version 1, and a version 2 mount beside it.
    Hybrid,
    /// Only version 2.
    V2,
}

/// A mounted hierarchy.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub path: PathBuf,
    /// Its controllers; for version 2 those that it has available at its root.
    pub controllers: Vec<String>,
    /// Whether it is version 2.
    pub unified: bool,
}

/// All hierarchies.
#[derive(Clone, Debug)]
pub struct Cgroups {
    /// Version 1 alone, version 2 alone, or both.
    pub mode: Mode,
    /// The mounted hierarchies.
    pub hierarchies: Vec<Hierarchy>,
}

impl Cgroups {
    /// Reads what is mounted below `/sys/fs/cgroup`.
    pub fn detect() -> Self {
        let table = mount_table("self");
        let hierarchies: Vec<_> = table.iter().filter_map(hierarchy).collect();
        let (v1, v2) = (hierarchies.iter().any(|one| !one.unified), hierarchies.iter().any(|one| one.unified));
        let mode = match (v1, v2) {
            (true, true) => Mode::Hybrid,
            (false, true) => Mode::V2,
            _ => Mode::V1,
        };
        Self { mode, hierarchies }
    }

    /// The hierarchy that has `controller`.
    pub fn holding(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|one| one.controllers.iter().any(|name| name == controller))
    }

    /// The directory of the cgroup `path` in the hierarchy that has `controller`.
    pub fn dir(&self, controller: &str, path: &str) -> Option<PathBuf> {
        self.holding(controller).map(|one| one.path.join(path.trim_start_matches('/')))
    }

    /// A file of the cgroup `path`: `v1` where the controller is of version 1, `v2` where it is of version 2. Nothing
    /// when the controller or the file is missing.
    pub fn read(&self, controller: &str, path: &str, v1: &str, v2: &str) -> Option<String> {
        let hierarchy = self.holding(controller)?;
        let name = if hierarchy.unified { v2 } else { v1 };
        let file = hierarchy.path.join(path.trim_start_matches('/')).join(name);
        fs::read_to_string(file).ok().map(|text| text.trim_end().to_owned())
    }

    /// Every directory that `path` has, in any hierarchy.
    pub fn present(&self, path: &str) -> Vec<PathBuf> {
        let relative = path.trim_start_matches('/');
        self.hierarchies.iter().map(|one| one.path.join(relative)).filter(|dir| dir.is_dir()).collect()
    }

    /// Every directory whose name holds `word`, in the first levels of every hierarchy.
    pub fn find(&self, word: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for one in &self.hierarchies {
            search(&one.path, word, 3, &mut found);
        }
        found
    }

    /// Process ids in the cgroup `path` and below, over all hierarchies.
    pub fn processes(&self, path: &str) -> Vec<i32> {
        let mut pids = Vec::new();
        for dir in self.present(path) {
            collect_processes(&dir, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}

/// The hierarchy that a mount is, if it is one.
fn hierarchy(mounted: &Mounted) -> Option<Hierarchy> {
    let path = PathBuf::from(&mounted.target);
    if !path.starts_with("/sys/fs/cgroup") {
        return None;
    }
    match mounted.kind.as_str() {
        "cgroup" => {
            let controllers = mounted.super_options.iter().filter(|word| *word != "rw" && *word != "ro").cloned();
            Some(Hierarchy { path, controllers: controllers.collect(), unified: false })
        }
        "cgroup2" => {
            let text = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
            let mut controllers: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            controllers.push("unified".into());
            Some(Hierarchy { path, controllers, unified: true })
        }
        _ => None,
    }
}

/// Adds the directories below `dir` whose name holds `word`.
fn search(dir: &Path, word: &str, depth: u32, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if entry.file_name().to_string_lossy().contains(word) {
            found.push(entry.path());
        } else if depth > 1 {
            search(&entry.path(), word, depth - 1, found);
        }
    }
}

/// Adds the processes of `dir` and of the directories below it.
fn collect_processes(dir: &Path, pids: &mut Vec<i32>) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        collect_processes(&entry.path(), pids);
    }
}
