//! Cgroup v2 alone, in a mount namespace where it takes the place of what this host has. Only controllers that v1 leaves are
//! there; the rest is for a machine that has v2 alone.

use std::process::Command;

use gantry_cgroup::Layout;

use crate::host::{Container, root, wait_until};

/// Runs the ignored tests of this module with nothing but cgroup2 mounted.
#[test]
fn alone() {
    if !root("alone") {
        return;
    }
    let script = "umount -l /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && \
        exec \"$0\" unified::inside --ignored --nocapture";
    let exe = std::env::current_exe().unwrap();
    let output =
        Command::new("unshare").args(["-m", "--propagation", "private", "sh", "-c", script]).arg(exe).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if text.contains("mount:") {
        eprintln!("SKIPPED alone: cgroup2 cannot be mounted here: {text}");
        return;
    }
    assert!(output.status.success() && text.contains("5 passed"), "{text}");
}

#[test]
#[ignore = "started by alone"]
fn inside_layout() {
    let layout = Layout::detect().unwrap();
    assert!(layout.is_v2());
    assert_eq!(layout.unified.unwrap().own, None);
    assert!(Layout::detect_with_own().unwrap().unified.unwrap().own.is_some());
}

#[test]
#[ignore = "started by alone"]
fn inside_life() {
    let mut c =
        Container::make("v2", r#"{"devices": [{"allow": true, "type": "c", "major": 1, "minor": 5, "access": "r"}]}"#)
            .unwrap();
    assert!(c.plan.join_files.is_empty() && c.location().clone_dir().is_some());
    assert!(!c.succeeds(": < /dev/full"));
    assert!(c.succeeds(": < /dev/zero"));
    c.update(r#"{"devices": [{"allow": true, "access": "rwm"}]}"#).unwrap();
    let first = c.start("sleep 1000 < /dev/null & wait");
    wait_until("both processes", || c.location().pids().unwrap().len() == 2);
    let dir = c.location().unified_dir().unwrap().to_owned();
    std::fs::create_dir(dir.join("deeper")).unwrap();
    c.location().with_sub(&["deeper"]).unwrap().enter(first).unwrap();
    assert_eq!(c.location().pids().unwrap().len(), 2);
    c.location().freeze().unwrap();
    assert!(c.location().frozen().unwrap());
    let stats = c.location().stats().unwrap();
    assert_eq!(stats.pids.current, 2);
    assert!(stats.cpu.usage.total > 0, "{stats:?}");
    let error = Container::plan("v2", "{}").1.prepare().unwrap_err();
    assert!(error.is_in_use(), "{error}");
    c.location().kill_all(9).unwrap();
    wait_until("no process", || c.location().pids().unwrap().is_empty());
}

#[test]
#[ignore = "started by alone"]
fn inside_controllers() {
    let list = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    let has = |name: &str| list.split_whitespace().any(|c| c == name);
    if has("hugetlb") {
        let c = Container::make("huge", r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#).unwrap();
        assert_eq!(c.value("hugetlb", "hugetlb.2MB.max"), "4194304");
        assert_eq!(c.location().stats().unwrap().hugetlb["2MB"].usage, 0);
    } else {
        eprintln!("SKIPPED hugetlb of inside_controllers: the host has it not in v2");
    }
    let refused = |limits: &str| Container::make("refused", limits).err().map(|e| e.to_string()).unwrap_or_default();
    let error = refused(r#"{"unified": {"foo.bar": "x"}}"#);
    assert!(error.contains("controller `foo` is not available under"), "{error}");
    if !has("memory") {
        let error = refused(r#"{"memory": {"limit": 4096}}"#);
        assert!(error.contains("controller `memory` is not available under"), "{error}");
    }
    let error = refused(r#"{"unified": {"cgroup.nonsense": "x"}}"#);
    assert!(error.contains("no such file or directory") && error.contains("cgroup.nonsense"), "{error}");
    let c = Container::make("core", r#"{"unified": {"cgroup.max.depth": "3"}}"#).unwrap();
    assert_eq!(c.value("cgroup", "cgroup.max.depth"), "3");
}

/// Below a cgroup with processes of its own no controller can be enabled, and the message says so.
#[test]
#[ignore = "started by alone"]
fn inside_internal_processes() {
    let mut c = Container::make("outer", r#"{"devices": [{"allow": true, "access": "rwm"}]}"#).unwrap();
    c.start("exec sleep 1000 < /dev/null");
    let layout = Layout::detect().unwrap();
    let limits = crate::host::resources(r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#);
    let dir = c.location().unified_dir().unwrap();
    let path = format!("/{}/inner", dir.strip_prefix("/sys/fs/cgroup").unwrap().display());
    let request = gantry_cgroup::Request {
        id: "inner",
        cgroups_path: &path,
        systemd: false,
        rootless: false,
        resources: Some(&limits),
        device_defaults: &[],
        owner: None,
        annotations: None,
        user_manager: None,
    };
    let mut plan = gantry_cgroup::plan_create(&layout, &request).unwrap();
    let error = plan.prepare().unwrap_err().to_string();
    assert!(
        error.contains("hugetlb") && (error.contains("processes of its own") || error.contains("host has it not")),
        "{error}"
    );
    assert!(!plan.location.exists());
    // A parent that is threaded takes children only if they are too.
    c.location().kill_all(9).unwrap();
    wait_until("no process", || c.location().pids().unwrap().is_empty());
    std::fs::create_dir(dir.join("first")).unwrap();
    std::fs::write(dir.join("first/cgroup.type"), "threaded").unwrap();
    let mut plan = gantry_cgroup::plan_create(&layout, &gantry_cgroup::Request { resources: None, ..request }).unwrap();
    plan.prepare().unwrap();
    assert_eq!(crate::host::read(plan.location.unified_dir().unwrap(), "cgroup.type").trim(), "threaded");
    plan.location.delete().unwrap();
}

/// A cgroup that was handed to a user is one in which that user can make another.
#[test]
#[ignore = "started by alone"]
fn inside_delegation() {
    use std::os::unix::fs::MetadataExt;
    let c = Container::make("delegated", "{}").unwrap();
    let dir = c.location().unified_dir().unwrap();
    let step = gantry_cgroup::Step::Delegate { dir: dir.into(), uid: 65534, gid: Some(65534) };
    gantry_cgroup::execute(&step, None).unwrap();
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        assert_eq!(std::fs::metadata(dir.join(file)).unwrap().uid(), 65534, "{file}");
    }
    assert_eq!(std::fs::metadata(dir.join("cgroup.type")).unwrap().uid(), 0);
}
