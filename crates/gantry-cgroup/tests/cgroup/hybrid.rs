//! Real cgroups of this host, whatever its layout; v1 where it is hybrid.

use std::time::Duration;

use gantry_cgroup::{OomEvent, Program, Rules, Step, execute};
use gantry_model::oci::linux::DeviceRule;

use crate::host::{Container, root, wait_until};

/// Every device is allowed.
const OPEN: &str = r#"{"devices": [{"allow": true, "access": "rwm"}]}"#;

#[test]
fn life() {
    if !root("life") {
        return;
    }
    let mut c =
        Container::make("life", r#"{"pids": {"limit": 50}, "devices": [{"allow": true, "access": "rwm"}]}"#).unwrap();
    let first = c.start("sleep 1000 & wait");
    wait_until("both processes", || c.location().pids().unwrap().len() == 2);
    assert!(c.location().pids().unwrap().contains(&first));
    assert!(!c.location().frozen().unwrap());
    c.location().freeze().unwrap();
    assert!(c.location().frozen().unwrap());
    c.location().thaw().unwrap();
    assert!(!c.location().frozen().unwrap());
    assert_eq!(c.location().stats().unwrap().pids.current, 2);
    // Killed while it is frozen.
    c.location().freeze().unwrap();
    c.location().kill_all(9).unwrap();
    wait_until("no process", || c.location().pids().unwrap().is_empty());
    c.location().delete().unwrap();
    assert!(!c.location().exists());
    c.location().delete().unwrap();
    assert!(c.location().pids().unwrap().is_empty());
}

#[test]
fn signals_reach_everyone_and_leave_the_pause() {
    if !root("signals_reach_everyone_and_leave_the_pause") {
        return;
    }
    let mut c = Container::make("signals", OPEN).unwrap();
    c.start("trap '' USR1; sleep 1000 & sleep 1000 & wait; wait; wait");
    wait_until("three processes", || c.location().pids().unwrap().len() == 3);
    c.location().freeze().unwrap();
    c.location().kill_all(15).unwrap();
    assert!(c.location().frozen().unwrap());
    // What is frozen by version 2 dies of a fatal signal all the same; by version 1 it waits for the thaw.
    if !c.location().is_v2() {
        assert_eq!(c.location().pids().unwrap().len(), 3);
    }
    c.location().thaw().unwrap();
    wait_until("no process", || c.location().pids().unwrap().is_empty());
}

#[test]
fn in_use_is_refused() {
    if !root("in_use_is_refused") {
        return;
    }
    let mut c = Container::make("inuse", "{}").unwrap();
    // Left empty by somebody: taken over.
    Container::plan("inuse", "{}").1.prepare().unwrap();
    c.start("exec sleep 1000");
    let error = Container::plan("inuse", "{}").1.prepare().unwrap_err();
    assert!(error.is_in_use() && error.to_string().contains("it has 1 processes"), "{error}");
    assert_eq!(c.location().pids().unwrap().len(), 1);
    c.location().kill_all(9).unwrap();
    wait_until("no process", || c.location().pids().unwrap().is_empty());
    c.location().freeze().unwrap();
    let error = Container::plan("inuse", "{}").1.prepare().unwrap_err();
    assert!(error.is_in_use() && error.to_string().contains("frozen"), "{error}");
}

#[test]
fn failure_leaves_nothing() {
    if !root("failure_leaves_nothing") {
        return;
    }
    let (_, mut plan) =
        Container::plan("failure", r#"{"blockIO": {"leafWeight": 10}, "unified": {"nonsense.max": "1"}}"#);
    let error = plan.prepare().unwrap_err().to_string();
    assert!(error.contains("nonsense") || error.contains("leaf_weight"), "{error}");
    assert!(!plan.location.exists());
    for dir in plan.location.dirs() {
        let _ = std::fs::remove_dir(dir.parent().unwrap());
    }
}

#[test]
fn deep_trees_go() {
    if !root("deep_trees_go") {
        return;
    }
    let mut c = Container::make("deep", "{}").unwrap();
    for dir in c.location().dirs() {
        let deep = dir.join("d/".repeat(60));
        std::fs::create_dir_all(deep).unwrap();
        for n in 0..20 {
            std::fs::create_dir_all(dir.join(format!("w{n}/x/y"))).unwrap();
        }
    }
    // A process that nobody has killed, deep inside.
    let pid = c.start("exec sleep 1000");
    for dir in c.location().dirs() {
        std::fs::write(dir.join("d/d/d/cgroup.procs"), pid.to_string())
            .or_else(|_| std::fs::write(dir.join("w1/x/tasks"), pid.to_string()))
            .ok();
    }
    c.location().delete().unwrap();
    assert!(!c.location().exists());
}

#[test]
fn limits_of_v1() {
    if !root("limits_of_v1") {
        return;
    }
    let limits = r#"{"memory": {"limit": 67108864, "swap": 134217728, "reservation": 33554432, "swappiness": 10},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000, "burst": 10000, "cpus": "0"},
        "pids": {"limit": 20}}"#;
    let c = Container::make("limits", limits).unwrap();
    if c.location().v1_dir("memory").is_none() {
        eprintln!("SKIPPED limits_of_v1: this host has no v1 memory controller");
        return;
    }
    let check = |controller: &str, file: &str, expect: &str| assert_eq!(c.value(controller, file), expect, "{file}");
    check("memory", "memory.limit_in_bytes", "67108864");
    check("memory", "memory.memsw.limit_in_bytes", "134217728");
    check("memory", "memory.soft_limit_in_bytes", "33554432");
    check("memory", "memory.swappiness", "10");
    check("cpu", "cpu.shares", "512");
    check("cpu", "cpu.cfs_quota_us", "50000");
    check("cpu", "cpu.cfs_burst_us", "10000");
    check("cpuset", "cpuset.cpus", "0");
    check("cpuset", "cpuset.mems", "0");
    check("pids", "pids.max", "20");
    check("devices", "devices.list", "");
    // Both up beyond the old ones, then both down below them: each needs its own order.
    for (limit, swap) in [(268_435_456_u64, 268_435_456_u64), (33_554_432, 50_331_648), (134_217_728, 134_217_728)] {
        c.update(&format!(r#"{{"memory": {{"limit": {limit}, "swap": {swap}}}}}"#)).unwrap();
        check("memory", "memory.limit_in_bytes", &limit.to_string());
        check("memory", "memory.memsw.limit_in_bytes", &swap.to_string());
    }
    c.update(r#"{"memory": {"limit": -1}, "cpu": {"quota": 200000, "burst": 150000}, "pids": {"limit": -1}}"#).unwrap();
    check("memory", "memory.limit_in_bytes", "9223372036854771712");
    check("cpu", "cpu.cfs_burst_us", "150000");
    check("pids", "pids.max", "max");
    c.update(r#"{"cpu": {"quota": 20000, "burst": 1000, "period": 50000, "idle": 1}}"#).unwrap();
    check("cpu", "cpu.cfs_quota_us", "20000");
    check("cpu", "cpu.cfs_period_us", "50000");
    check("cpu", "cpu.idle", "1");
    let error = c.update(r#"{"cpu": {"cpus": "999"}}"#).unwrap_err().to_string();
    assert!(error.contains("cpuset.cpus") && error.contains("\"999\""), "{error}");
    assert!(c.location().stats().unwrap().memory.usage.limit > 1 << 60);
}

#[test]
fn pids_hold_and_memory_is_watched() {
    if !root("pids_hold_and_memory_is_watched") {
        return;
    }
    let limits = r#"{"memory": {"limit": 16777216, "swap": 16777216}, "pids": {"limit": 4},
        "devices": [{"allow": true, "access": "rwm"}]}"#;
    let c = match Container::make("oom", limits) {
        Ok(c) => c,
        Err(error) => {
            eprintln!("SKIPPED pids_hold_and_memory_is_watched: {error}");
            return;
        }
    };
    assert!(!c.succeeds("for i in 1 2 3 4 5 6; do sleep 1 & done 2>&1; wait"));
    let mut watch = c.location().watch_oom().unwrap();
    assert_eq!(watch.next(Duration::ZERO).unwrap(), OomEvent::None);
    assert_eq!(c.location().oom_kill_count().unwrap(), 0);
    assert!(!c.succeeds("exec dd if=/dev/zero of=/dev/null bs=64M count=1"));
    assert_eq!(watch.next(Duration::from_secs(5)).unwrap(), OomEvent::Oom);
    assert!(c.location().oom_kill_count().unwrap() >= 1);
    c.location().delete().unwrap();
    assert_eq!(watch.next(Duration::from_secs(5)).unwrap(), OomEvent::Gone);
}

#[test]
fn devices_of_v1() {
    if !root("devices_of_v1") {
        return;
    }
    let rule = r#"{"allow": true, "type": "c", "major": 1, "minor": 5, "access": "r"}"#;
    let c = Container::make("devices", &format!(r#"{{"devices": [{rule}]}}"#)).unwrap();
    assert!(c.succeeds("head -c 1 < /dev/zero > /tmp/gantry-test-zero; rm /tmp/gantry-test-zero"));
    assert!(!c.succeeds(": > /dev/zero"));
    assert!(!c.succeeds(": < /dev/full"));
    c.update(r#"{"devices": [{"allow": true, "type": "c", "major": 1, "minor": 7, "access": "r"}]}"#).unwrap();
    assert!(c.succeeds(": < /dev/full"));
    assert!(!c.succeeds(": < /dev/zero"));
    c.update(OPEN).unwrap();
    assert!(c.succeeds(": < /dev/zero; : < /dev/full; : > /dev/null"));
}

/// The filter of v2 works on the v2 hierarchy of a hybrid host as well.
#[test]
fn device_program() {
    if !root("device_program") {
        return;
    }
    let c = Container::make("program", OPEN).unwrap();
    let Some(dir) = c.location().unified_dir() else {
        eprintln!("SKIPPED device_program: this host has no cgroup v2");
        return;
    };
    let attach = |minors: &[i64], replace| {
        let rule = |minor: &i64| DeviceRule {
            allow: true,
            kind: Some("c".into()),
            major: Some(1),
            minor: Some(*minor),
            access: Some("r".into()),
        };
        let rules: Vec<DeviceRule> = minors.iter().map(rule).collect();
        let program = Program::new(&Rules::new(&rules).unwrap());
        execute(&Step::AttachDeviceProgram { dir: dir.into(), program, replace }, None).unwrap();
    };
    assert!(c.succeeds(": < /dev/zero; : < /dev/full"));
    attach(&[5], false);
    assert!(c.succeeds(": < /dev/zero"));
    assert!(!c.succeeds(": < /dev/full"));
    assert!(!c.succeeds(": > /dev/zero"));
    // In place of the one, then of two.
    attach(&[7], true);
    assert!(c.succeeds(": < /dev/full"));
    assert!(!c.succeeds(": < /dev/zero"));
    attach(&[5, 7], false);
    assert!(!c.succeeds(": < /dev/zero"));
    attach(&[5, 7], true);
    assert!(c.succeeds(": < /dev/zero"));
    assert!(c.succeeds(": < /dev/full"));
}

#[test]
fn sub_cgroups() {
    if !root("sub_cgroups") {
        return;
    }
    let mut c = Container::make("sub", "{}").unwrap();
    let location = c.location().clone();
    assert!(location.with_sub(&["foo"]).is_err());
    location.dirs().for_each(|dir| std::fs::create_dir(dir.join("foo")).unwrap());
    let sub = location.with_sub(&["foo"]).unwrap();
    assert!(sub.dirs().all(|dir| dir.ends_with("foo")));
    assert!(location.with_sub(&["../foo"]).is_err());
    assert!(location.with_sub(&["foo", "bar"]).is_err());
    assert_eq!(location.with_sub(&["/"]).unwrap().paths(), location.paths());
    if location.v1_dir("memory").is_some() {
        let sub = location.with_sub(&["memory,pids:foo"]).unwrap();
        assert!(sub.v1_dir("memory").unwrap().ends_with("foo") && !sub.v1_dir("freezer").unwrap().ends_with("foo"));
        assert!(location.with_sub(&["memory:foo", "memory:foo"]).is_err());
        assert!(location.with_sub(&["nonsense:foo"]).is_err());
    }
    let pid = c.start("exec sleep 1000");
    // A v1 cpuset takes nobody before it has processors and memory nodes.
    if let Some(dir) = sub.v1_dir("cpuset") {
        let error = sub.enter(pid).unwrap_err().to_string();
        assert!(error.contains("it has no processors or memory nodes"), "{error}");
        for file in ["cpuset.cpus", "cpuset.mems"] {
            std::fs::write(dir.join(file), crate::host::read(dir.parent().unwrap(), file)).unwrap();
        }
    }
    sub.enter(pid).unwrap();
    assert_eq!(c.location().pids().unwrap(), [pid]);
    assert!(c.location().init_dir(pid).is_some() || c.location().unified_dir().is_none());
}

/// Somebody to whom no cgroup is delegated gets none, and no limits either.
#[test]
fn without_delegation() {
    use std::os::unix::process::CommandExt;
    if !root("without_delegation") {
        return;
    }
    let status = std::process::Command::new("/proc/self/exe")
        .args(["--exact", "hybrid::as_nobody", "--ignored", "--nocapture"])
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&status.stdout).into_owned() + &String::from_utf8_lossy(&status.stderr);
    assert!(status.status.success() && output.contains("1 passed"), "{output}");
}

#[test]
#[ignore = "started by without_delegation, as another user"]
fn as_nobody() {
    let layout = gantry_cgroup::Layout::detect_with_own().unwrap();
    let limits = crate::host::resources(r#"{"pids": {"limit": 5}}"#);
    let request = gantry_cgroup::Request {
        id: "gantry-test-nobody",
        cgroups_path: "",
        systemd: false,
        rootless: true,
        resources: None,
        device_defaults: &[],
        owner: None,
        annotations: None,
        user_manager: None,
    };
    let mut plan = gantry_cgroup::plan_create(&layout, &request).unwrap();
    plan.prepare().unwrap();
    assert!(plan.location.is_none() && plan.join_files.is_empty());
    assert!(gantry_cgroup::plan_update(&layout, &plan.location, &limits, &[]).is_err());
    let mut plan =
        gantry_cgroup::plan_create(&layout, &gantry_cgroup::Request { resources: Some(&limits), ..request }).unwrap();
    let error = plan.prepare().unwrap_err().to_string();
    assert!(error.contains("limits need a cgroup that this user may change"), "{error}");
    let path = "/gantry-test-nobody";
    let mut plan =
        gantry_cgroup::plan_create(&layout, &gantry_cgroup::Request { cgroups_path: path, ..request }).unwrap();
    assert!(plan.prepare().unwrap_err().is_denied());
}
