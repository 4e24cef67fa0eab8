//! What an engine has of the machine, counted.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::kit::Place;

/// Everything that is there of a place, each with its kind.
pub fn count(place: &Place) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    cgroups(Path::new("/sys/fs/cgroup"), 3, &place.name, &mut found);
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let is_ours = |text: &[u8]| String::from_utf8_lossy(text).contains(&place.name);
        let pid = entry.file_name().to_string_lossy().into_owned();
        // Those of a container by their cgroup, monitors by their arguments.
        if pid.bytes().all(|byte| byte.is_ascii_digit()) && (is_ours(&read("cgroup")) || is_ours(&read("cmdline"))) {
            found.insert(format!("process {pid}: {}", String::from_utf8_lossy(&read("cmdline"))));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = place.path.display().to_string();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|at| at.starts_with(&below));
    found.extend(points.map(|at| format!("mount {at}")));
    let devices = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    found.extend(devices.lines().skip(2).filter_map(|line| Some(format!("device {}", line.split_once(':')?.0.trim()))));
    for dir in ["run/containers", "run/netns", "run/runtime", "root/containers", "root/snapshots", "root/volumes"] {
        for entry in std::fs::read_dir(place.path.join(dir)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // The runtime keeps compiled filters.
            if !name.starts_with('.') || dir == "root/volumes" {
                found.insert(format!("file {dir}/{name}"));
            }
        }
    }
    for table in rules() {
        found.insert(table);
    }
    found
}

/// The lines of the rules in this network namespace that lead to somebody, if there is a program that shows them.
fn rules() -> Vec<String> {
    let Ok(out) = std::process::Command::new("nft").args(["list", "ruleset"]).output() else { return Vec::new() };
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().filter(|line| line.contains(" : ")).map(|line| format!("rule {}", line.trim())).collect()
}

/// Directories of cgroups below the one of this name.
fn cgroups(at: &Path, depth: u32, name: &str, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy() == name {
            for inner in std::fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
                    found.insert(format!("cgroup {}", inner.path().display()));
                }
            }
        } else if depth > 0 {
            cgroups(&entry.path(), depth - 1, name, found);
        }
    }
}

/// Waits until nothing is left but what was there before: monitors end a moment after their processes.
pub async fn settled(place: &Place, before: &BTreeSet<String>) {
    let mut left = Vec::new();
    for _ in 0..100 {
        left = count(place).difference(before).cloned().collect();
        if left.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("left behind: {left:#?}");
}
