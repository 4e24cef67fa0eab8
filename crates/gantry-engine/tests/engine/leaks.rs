//! What an engine has of the machine, counted.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use gantry_sys::netlink::{Channel, Subsystem, attributes};

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
    ports(&mut found);
    // The process that is killed says in one what went wrong. The store keeps some space, lets the leases of a crash expire,
    // and removes in its own time what is in the trash; the runtime keeps compiled filters.
    let kept = ["errors", "root/reserve", "root/leases", "root/trash"].map(|name| place.path.join(name));
    let stays = |path: &Path| kept.iter().any(|kept| path == kept);
    let filters = format!("{below}/run/runtime/.");
    let counts = |path: &Path| !stays(path) && !path.display().to_string().starts_with(&filters);
    files(&place.path, &counts, &mut found);
    found.extend(rules());
    found
}

/// Everything below a directory.
fn files(dir: &Path, counts: &dyn Fn(&Path) -> bool, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if counts(&path) {
            found.insert(format!("file {}", path.display()));
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                files(&path, counts, found);
            }
        }
    }
}

/// Ports of this network namespace that somebody holds.
fn ports(found: &mut BTreeSet<String>) {
    for (protocol, states) in [("tcp", &["0A", "07"][..]), ("tcp6", &["0A", "07"]), ("udp", &["07"]), ("udp6", &["07"])]
    {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{protocol}")).unwrap_or_default();
        let sockets = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        let held = sockets.filter(|fields| states.contains(&fields[3]));
        found.extend(held.map(|fields| format!("port {protocol} {}", fields[1])));
    }
}

/// Namespaces that this process keeps by a descriptor. Those of processes go with them, and others are mounts.
#[allow(dead_code, reason = "tests that run beside others in one process cannot tell whose they are")]
pub fn namespaces() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let to = std::fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        if ["net:[", "mnt:[", "user:["].iter().any(|kind| to.starts_with(kind)) {
            found.insert(format!("namespace {to}"));
        }
    }
    found
}

/// Rules in this network namespace, and elements of their sets: table by table, as the kernel lists them.
fn rules() -> Vec<String> {
    /// Messages of linux/netfilter/nf_tables.h, and their first attributes.
    const RULES: u16 = 0x0a07;
    const SETS: u16 = 0x0a0a;
    const ELEMENTS: u16 = 0x0a0d;
    let mut channel = Channel::new(Subsystem::Netfilter).unwrap();
    let mut list = |kind: u16, family: u8, narrow: &[(u16, &[u8])]| {
        let found = std::cell::RefCell::new(Vec::new());
        let begin = &mut || found.borrow_mut().clear();
        let take = &mut |_: u16, message: &[u8]| found.borrow_mut().push(message.to_vec());
        channel.list(kind, &[family, 0, 0, 0], narrow, begin, take).unwrap();
        found.into_inner()
    };
    let of = |message: &[u8], kind: u16| {
        let mut all = attributes(message.get(4..).unwrap_or_default());
        all.find(|(found, _)| found & 0x3fff == kind).map(|(_, value)| value.to_vec()).unwrap_or_default()
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
    let mut lines = Vec::new();
    for family in [2, 10] {
        for (number, rule) in list(RULES, family, &[]).iter().enumerate() {
            lines.push(format!("rule {number} of {} {}", text(&of(rule, 1)), text(&of(rule, 2))));
        }
        for set in list(SETS, family, &[]) {
            let (table, name) = (of(&set, 1), of(&set, 2));
            for message in list(ELEMENTS, family, &[(1, &table), (2, &name)]) {
                let elements = of(&message, 3);
                let line = |element: &[u8]| format!("element of {} {}: {element:x?}", text(&table), text(&name));
                lines.extend(attributes(&elements).map(|(_, element)| line(element)));
            }
        }
    }
    lines
}

/// Directories of cgroups below the one of this name.
fn cgroups(at: &Path, depth: u32, name: &str, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy() == name {
            found.insert(format!("cgroup {}", entry.path().display()));
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
