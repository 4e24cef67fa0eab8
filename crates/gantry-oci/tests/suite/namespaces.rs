//! Namespaces: new, the runtime's own, and joined by path (config-linux.md, Namespaces).

use gantry_testkit::host::{namespace_id, need_path};
use gantry_testkit::json::at;
use gantry_testkit::spec::{Parts, mapping, namespace};
use gantry_testkit::{Container, Kit, Outcome, Test, ensure, ensure_eq};

use crate::check::{Refused, expect, nothing_left, refused_tests, test};

/// Names of the specification, and of the files in `/proc/PID/ns`.
const KINDS: [(&str, &str); 7] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

/// The tests of this area.
pub fn tests() -> Vec<Test> {
    let mut all = refused_tests("namespaces", REFUSED);
    for (kind, file) in KINDS {
        all.push(Test::new(format!("namespaces::{kind}_new"), move |kit| new(kit, kind, file)));
        if kind != "mount" {
            all.push(Test::new(format!("namespaces::{kind}_absent"), move |kit| absent(kit, kind, file)));
        }
        if kind != "time" {
            all.push(Test::new(format!("namespaces::{kind}_joined"), move |kit| joined(kit, kind, file)));
        }
    }
    all.extend([
        test("namespaces::sandbox", sandbox),
        test("namespaces::sandbox_with_pid", sandbox_with_pid),
        test("namespaces::mount_absent_leaves_nothing", mount_absent),
        test("namespaces::loopback_is_up", loopback),
        test("userns::one_range", |kit| user(kit, &[(0, 100_000, 65_536)])),
        test("userns::several_ranges", |kit| user(kit, &[(0, 100_000, 1000), (1000, 300_000, 1), (2000, 400_000, 9)])),
        test("userns::processes_and_groups", user_groups),
        test("userns::joined", user_joined),
        test("userns::devices_and_mounts", user_devices),
        test("userns::owner_of_other_namespaces", user_owner),
    ]);
    all
}

const REFUSED: &[Refused] = &[
    Refused {
        name: "twice_is_refused",
        change: |c| {
            c.spec.linux_mut().namespaces.push(namespace("pid"));
            Ok(())
        },
        says: "pid",
    },
    Refused {
        name: "unknown_is_refused",
        change: |c| {
            c.spec.add_namespace("dreams");
            Ok(())
        },
        says: "dreams",
    },
    Refused {
        name: "path_of_another_kind_is_refused",
        change: |c| {
            c.spec.join_namespace("network", "/proc/self/ns/ipc");
            Ok(())
        },
        says: "net",
    },
    Refused {
        name: "path_of_no_namespace_is_refused",
        change: |c| {
            c.spec.join_namespace("network", "/etc/passwd");
            Ok(())
        },
        says: "",
    },
    Refused {
        name: "missing_path_is_refused",
        change: |c| {
            c.spec.join_namespace("network", "/nowhere/net");
            Ok(())
        },
        says: "/nowhere/net",
    },
    Refused {
        name: "overlapping_mappings_are_refused",
        change: |c| {
            c.spec.map_users(&[mapping(0, 100_000, 100), mapping(50, 200_000, 100)]);
            Ok(())
        },
        says: "",
    },
];

fn need(kind: &str, file: &str) -> Outcome {
    need_path(&format!("/proc/self/ns/{file}"), &format!("{kind} namespaces"))
}

fn id_of<'a>(report: &'a serde_json::Value, file: &str) -> &'a str {
    at(report, &format!("/namespaces/{file}")).as_str().unwrap_or_default()
}

fn new(kit: &Kit, kind: &str, file: &str) -> Outcome {
    need(kind, file)?;
    let mut container = kit.container()?;
    container.spec.add_namespace(kind);
    let report = container.run_json()?;
    let (inside, outside) = (id_of(&report, file), namespace_id("self", file));
    ensure!(inside.starts_with(file) && inside != outside, "inside {inside:?}, outside {outside:?}");
    Ok(())
}

fn absent(kit: &Kit, kind: &str, file: &str) -> Outcome {
    need(kind, file)?;
    let mut container = kit.container()?;
    container.spec.drop_namespace(kind);
    match kind {
        "uts" => container.spec.hostname.clear(),
        // The file system of message queues belongs to its namespace, and the host's is not the container's to mount.
        "ipc" => container.spec.mounts.retain(|mount| mount.kind != "mqueue"),
        "network" => container.spec.mounts.retain(|mount| mount.kind != "sysfs"),
        _ => {}
    }
    let report = container.run_json()?;
    ensure_eq!(id_of(&report, file), namespace_id("self", file), "{kind} namespace");
    Ok(())
}

fn joined(kit: &Kit, kind: &str, file: &str) -> Outcome {
    need(kind, file)?;
    let mut holder = kit.container()?;
    holder.spec.add_namespace(kind);
    holder.start_waiting()?;
    let pid = holder.pid()?.to_string();
    let mut container = kit.container()?;
    if kind == "uts" {
        container.spec.hostname.clear();
    }
    container.spec.join_namespace(kind, &format!("/proc/{pid}/ns/{file}"));
    if kind == "mount" {
        // In the holder's mount namespace the paths are the holder's: whatever is made of it must come to an end that
        // leaves both alone.
        let output = container.run()?;
        ensure!(output.status.code().is_some(), "killed: {}", output.text());
        drop(container);
        return holder.exec_ok(&[], &["/init", "exit", "0"]).map(drop);
    }
    let report = container.run_json()?;
    ensure_eq!(id_of(&report, file), namespace_id(&pid, file), "{kind} namespace");
    Ok(())
}

/// A pause container, and one that joins it, as pods have them.
fn sandbox(kit: &Kit) -> Outcome {
    let mut holder = kit.container()?;
    holder.spec.hostname = "pod".into();
    holder.start_waiting()?;
    let pid = holder.pid()?.to_string();
    let mut member = join_sandbox(kit, &pid)?;
    member.spec.set_args(&["/init", "report"]);
    let report = member.run_json()?;
    for file in ["net", "ipc", "uts"] {
        ensure_eq!(id_of(&report, file), namespace_id(&pid, file), "{file} namespace");
    }
    expect(&report, &[("/hostname", "\"pod\""), ("/pid", "1")])?;
    ensure_eq!(holder.status()?, "running", "status of the holder after its member is gone");
    Ok(())
}

fn sandbox_with_pid(kit: &Kit) -> Outcome {
    let mut holder = kit.container()?;
    holder.start_waiting()?;
    let pid = holder.pid()?.to_string();
    let mut member = join_sandbox(kit, &pid)?;
    member.spec.join_namespace("pid", &format!("/proc/{pid}/ns/pid"));
    member.start_with(&["/init", "spawn", "sleep", "200", "+", "sleep", "200"])?;
    let report = member.exec_report(&[])?;
    ensure_eq!(id_of(&report, "pid"), namespace_id(&pid, "pid"), "pid namespace");
    member.delete_force()?;
    nothing_left(&member)?;
    ensure_eq!(holder.status()?, "running", "status of the holder after its member was killed");
    Ok(())
}

fn join_sandbox<'k>(kit: &'k Kit, pid: &str) -> Outcome<Container<'k>> {
    let mut member = kit.container()?;
    member.spec.hostname.clear();
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        member.spec.join_namespace(kind, &format!("/proc/{pid}/ns/{file}"));
    }
    Ok(member)
}

/// Without a mount namespace a runtime may refuse or go on, but must not leave its mounts in the machine's.
fn mount_absent(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.drop_namespace("mount");
    let output = container.run()?;
    ensure!(output.status.code().is_some(), "killed: {}", output.text());
    container.delete_force()?;
    nothing_left(&container)
}

fn loopback(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "try", "bind-port", "8080", "+", "report"]);
    let output = container.run_ok()?;
    ensure!(output.stdout.starts_with("ok\n"), "listening on loopback: {}", output.stdout);
    Ok(())
}

fn user(kit: &Kit, ranges: &[(u32, u32, u32)]) -> Outcome {
    let mappings: Vec<_> = ranges.iter().map(|&(inside, outside, size)| mapping(inside, outside, size)).collect();
    let mut container = kit.container()?;
    container.spec.map_users(&mappings);
    let report = container.run_json()?;
    let expected = serde_json::to_string(ranges)?;
    expect(&report, &[("/uid_map", &expected), ("/gid_map", &expected), ("/uid", "0"), ("/gid", "0")])?;
    ensure!(id_of(&report, "user") != namespace_id("self", "user"), "the user namespace is the host's");
    Ok(())
}

fn user_groups(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.map_users(&[mapping(0, 100_000, 5000)]);
    container.spec.process_mut().user.uid = 1000;
    container.spec.process_mut().user.gid = 1001;
    container.spec.process_mut().user.additional_gids = vec![7, 2000];
    let report = container.run_json()?;
    expect(&report, &[("/uid", "1000"), ("/gid", "1001"), ("/groups", "[7,2000]")])
}

fn user_joined(kit: &Kit) -> Outcome {
    let mut holder = kit.container()?;
    holder.spec.map_users(&[mapping(0, 100_000, 65_536)]);
    holder.start_waiting()?;
    let pid = holder.pid()?.to_string();
    let mut member = join_sandbox(kit, &pid)?;
    member.spec.join_namespace("user", &format!("/proc/{pid}/ns/user"));
    let report = member.run_json()?;
    for file in ["user", "net"] {
        ensure_eq!(id_of(&report, file), namespace_id(&pid, file), "{file} namespace");
    }
    expect(&report, &[("/uid", "0"), ("/uid_map", "[[0,100000,65536]]")])
}

fn user_devices(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.map_users(&[mapping(0, 100_000, 65_536)]);
    container.spec.set_args(&[
        "/init",
        "stat",
        "/dev/null",
        "+",
        "try",
        "open-rw",
        "/dev/null",
        "+",
        "try",
        "create",
        "/tmp/x",
    ]);
    let output = container.run_ok()?;
    let mut lines = output.stdout.lines();
    let null = gantry_testkit::json::parse(lines.next().unwrap_or_default())?;
    expect(&null, &[("/kind", "\"char\""), ("/major", "1"), ("/minor", "3")])?;
    ensure_eq!(lines.collect::<Vec<_>>(), ["ok", "ok"], "attempts");
    Ok(())
}

/// The namespaces that are made with a user namespace belong to it, so that its root may use them.
fn user_owner(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.map_users(&[mapping(0, 100_000, 65_536)]);
    container.spec.process_mut().capabilities = Some(gantry_testkit::spec::caps(&["CAP_SYS_ADMIN", "CAP_NET_RAW"]));
    container.spec.set_args(&["/init", "try", "sethostname", "mine", "+", "try", "socket", "raw"]);
    let output = container.run_ok()?;
    ensure_eq!(output.stdout.as_str(), "ok\nok\n", "attempts");
    Ok(())
}
