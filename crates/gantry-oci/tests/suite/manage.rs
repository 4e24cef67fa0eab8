//! What is done to a container that runs: processes beside it, changes of its limits and mounts, what it tells.

use std::fs;

use gantry_model::oci::linux::{Memory, Personality};
use gantry_model::oci::spec::{Hooks, Mount, Process};
use gantry_testkit::command::{Running, wait_for};
use gantry_testkit::json::{at, parse};
use gantry_testkit::spec::{Parts, default_process, hook, mapping, mount};
use gantry_testkit::{Container, Kit, Outcome, Test, ensure, outcome};

use crate::check::test;

pub fn tests() -> Vec<Test> {
    vec![
        test("manage::exec_beside_a_nested_init", nested),
        test("manage::warnings_go_to_the_log", warnings),
        test("manage::kill_ends_what_shares_the_pids_of_the_host", kill_shared),
        test("manage::kill_all_of_a_stopped_container", kill_stopped),
        test("manage::roots_that_are_refused", roots),
        test("manage::update_documents_are_bounded", bounded_update),
        test("manage::mounts_come_and_go", |kit| change_mounts(kit, false)),
        test("manage::mounts_come_and_go_in_a_user_namespace", |kit| change_mounts(kit, true)),
        test("manage::mounts_with_mapped_ids", add_idmapped),
        test("manage::mounts_that_are_refused", refused_mounts),
        test("manage::events_stream", events_stream),
        test("manage::events_without_a_reader", events_unread),
    ]
}

/// In version 2 a cgroup that limits those below it takes no process: one that joins goes where init went.
fn nested(kit: &Kit) -> Outcome {
    let Some(unified) = kit.cgroups.hierarchies.iter().find(|one| one.unified) else {
        return outcome::skip("this machine has no cgroup of version 2");
    };
    let mut container = kit.container()?;
    container.start_waiting()?;
    let own = unified.path.join(container.cgroup.trim_start_matches('/'));
    let list = fs::read_to_string(own.join("cgroup.controllers"))?;
    let Some(controller) = list.split_whitespace().next() else {
        return outcome::skip("version 2 has no controller here");
    };
    fs::create_dir(own.join("inner"))?;
    fs::write(own.join("inner/cgroup.procs"), container.pid()?.to_string())?;
    fs::write(own.join("cgroup.subtree_control"), format!("+{controller}"))?;
    let report = container.exec_report(&[])?;
    let lines = at(&report, "/cgroup").as_array().cloned().unwrap_or_default();
    let inner = lines.iter().filter_map(|line| line.as_str()).any(|line| line.ends_with("/inner"));
    ensure!(inner, "cgroups of the process: {lines:?}");
    // A cgroup that is asked for is not replaced by another.
    if kit.cgroups.mode == gantry_testkit::cgroup::Mode::V2 {
        container.refused(&["exec", "--cgroup", "/", &container.id, "/init", "report"])?;
    }
    container.delete_force()
}

/// What the log says at the level of warnings.
fn warned(log: &std::path::Path) -> Outcome<Vec<String>> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut messages = Vec::new();
    for line in text.lines() {
        let line = parse(line)?;
        if at(&line, "/level") == "warning" {
            messages.push(at(&line, "/msg").as_str().unwrap_or_default().to_owned());
        }
    }
    Ok(messages)
}

/// What is asked for and not done, and what fails and changes nothing, is a line of the log, and no failure.
fn warnings(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let log = container.host("log.json");
    container.global = ["--log", &log.display().to_string(), "--log-format", "json"].map(str::to_owned).into();
    let add = |process: &mut Process| {
        if let Some(caps) = &mut process.capabilities {
            caps.bounding.push("CAP_TIME_TRAVEL".into());
            caps.permitted.push("CAP_TIME_TRAVEL".into());
        }
    };
    add(container.spec.process_mut());
    let linux = container.spec.linux_mut();
    linux.personality = Some(Personality { domain: "LINUX".into(), flags: vec!["ADDR_NO_RANDOMIZE".into()] });
    if let Some(resources) = &mut linux.resources {
        resources.memory = Some(Memory { kernel: Some(1 << 20), ..Memory::default() });
    }
    container.spec.hooks = Some(Hooks { poststop: vec![hook("/bin/false", &["false"])], ..Hooks::default() });
    container.start_waiting()?;
    let found = warned(&log)?;
    let check = |found: &[String], words: &[&str]| -> Outcome {
        ensure!(found.len() == words.len(), "{words:?} should be warned of: {found:?}");
        for word in words {
            ensure!(found.iter().any(|message| message.contains(word)), "{word} is not warned of: {found:?}");
        }
        Ok(())
    };
    check(&found, &["CAP_TIME_TRAVEL", "ADDR_NO_RANDOMIZE", "resources.memory.kernel"])?;
    fs::remove_file(&log)?;
    let mut process = default_process();
    add(&mut process);
    let output = container.exec_process(&process, &[], "exec")?;
    ensure!(output.status.success(), "exec: {}", output.text());
    check(&warned(&log)?, &["CAP_TIME_TRAVEL"])?;
    fs::remove_file(&log)?;
    container.delete_force()?;
    check(&warned(&log)?, &["poststop hook 0 (/bin/false): exit status 1"])
}

/// Without a PID namespace of its own a container's first process takes nothing with it; the runtime has to.
fn kill_shared(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.linux_mut().namespaces.retain(|one| one.kind != "pid");
    container.start_with(&["/init", "spawn", "sleep", "300", "+", "sleep", "300"])?;
    let has = |count: usize| {
        let list = container.ok(&["ps", "--format", "json", &container.id]).ok()?.stdout;
        let pids = parse(&list).ok()?.as_array()?.len();
        (pids == count).then_some(())
    };
    ensure!(wait_for(kit.time(5.0), || has(2)).is_some(), "the container has not two processes");
    container.kill("KILL")?;
    ensure!(wait_for(kit.time(5.0), || has(0)).is_some(), "processes stay");
    container.delete()
}

fn kill_stopped(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "exit", "0"]);
    container.create()?;
    container.start()?;
    container.wait_status("stopped")?;
    container.refused(&["kill", &container.id, "TERM"])?;
    container.ok(&["kill", "--all", &container.id, "TERM"])?;
    container.ok(&["kill", "--all", &container.id, "KILL"])?;
    container.delete()
}

fn roots(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let link = container.host("link");
    std::os::unix::fs::symlink("/", &link)?;
    let missing = container.host("missing");
    for (root, says) in [("/", "not /"), ("/tmp/..", "root of this host"), ("/.", "root of this host")] {
        container.global = vec!["--root".into(), root.into()];
        let output = container.refused(&["list"])?;
        ensure!(output.stderr.contains(says), "--root {root}: {}", output.text());
    }
    for (root, says) in [(&link, "root of this host"), (&missing, "no directory")] {
        container.global = vec!["--root".into(), root.display().to_string()];
        let output = container.refused(&["list"])?;
        ensure!(output.stderr.contains(says), "--root {}: {}", root.display(), output.text());
    }
    container.global.clear();
    Ok(())
}

fn bounded_update(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.start_waiting()?;
    let path = container.host("long").display().to_string();
    fs::write(&path, vec![b' '; (32 << 20) + 1])?;
    let output = container.refused(&["update", "--resources", &path, &container.id])?;
    ensure!(output.stderr.contains("longer than"), "{}", output.text());
    let mut command = container.command(&["update", "--resources", "-", &container.id]);
    command.stdin(fs::File::open(&path)?);
    let output = Running::start(&mut command, &container.output_dir())?.finish(kit.time(10.0))?;
    ensure!(output.stderr.contains("longer than"), "{}", output.text());
    container.delete_force()
}

/// Statistics at intervals, a line when memory ran out, and the end with the container.
fn events_stream(kit: &Kit) -> Outcome {
    kit.need_controller("memory")?;
    let mut container = kit.container()?;
    let limits = Memory { limit: Some(32 << 20), swap: Some(32 << 20), ..Memory::default() };
    container.spec.resources_mut().memory = Some(limits);
    container.start_waiting()?;
    let watching = container.spawn(&["events", "--interval", "100ms", &container.id])?;
    let kinds = || -> Vec<String> {
        let lines = watching.written().0;
        let kind = |line: &str| at(&parse(line).ok()?, "/type").as_str().map(str::to_owned);
        lines.lines().filter_map(kind).collect()
    };
    let count = |wanted: &str| kinds().iter().filter(|kind| *kind == wanted).count();
    let seen = |kind: &str, times: usize| wait_for(kit.time(5.0), || (count(kind) >= times).then_some(()));
    ensure!(seen("stats", 2).is_some(), "no statistics: {:?}", watching.written());
    ensure!(count("oom") == 0, "memory ran out before it did");
    container.exec_with(&[], &["/init", "hog", "100"])?;
    ensure!(seen("oom", 1).is_some(), "no line when memory ran out: {:?}", watching.written());
    container.delete_force()?;
    let output = watching.finish(kit.time(5.0))?;
    ensure!(output.status.success(), "events: {}", output.text());
    let first = output.stdout.lines().next().unwrap_or_default();
    let first = parse(first)?;
    ensure!(at(&first, "/id") == container.id.as_str(), "id: {first}");
    for place in ["/data/memory/usage/limit", "/data/pids/current", "/data/cpu/usage/total", "/data/intel_rdt"] {
        ensure!(!at(&first, place).is_null(), "no {place}: {first}");
    }
    container.refused(&["events", &container.id]).map(drop)
}

/// A reader that goes away ends the stream, without a failure.
fn events_unread(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.start_waiting()?;
    let inner = container.command(&["events", "--interval", "20ms", &container.id]);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "\"$0\" \"$@\" | head -n 2"]).arg(inner.get_program()).args(inner.get_args());
    let output = gantry_testkit::command::run(&mut command, &container.output_dir(), kit.time(10.0))?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{}", output.text());
    ensure!(output.stdout.lines().count() == 2, "{}", output.stdout);
    container.delete_force()
}

/// Writes a list of mounts, and gives its path.
fn list_of(container: &Container<'_>, mounts: &[Mount]) -> Outcome<String> {
    let path = container.host("mounts.json");
    fs::write(&path, serde_json::to_vec(mounts)?)?;
    Ok(path.display().to_string())
}

/// Whether the container sees a file.
fn sees(container: &Container<'_>, path: &str) -> Outcome<bool> {
    Ok(container.exec_with(&[], &["/init", "cat", path])?.status.success())
}

fn change_mounts(kit: &Kit, user_namespace: bool) -> Outcome {
    let mut container = kit.container()?;
    if user_namespace {
        container.spec.map_users(&[mapping(0, 100_000, 65_536)]);
        // Its root makes the places of mounts.
        std::os::unix::fs::chown(container.rootfs("/"), Some(100_000), Some(100_000))?;
    }
    // Inside the container this leads to its own root, never to the host's.
    let outside = container.host("outside");
    std::os::unix::fs::symlink(&outside, container.rootfs("link"))?;
    container.start_waiting()?;
    let source = container.host_dir("source")?;
    fs::write(source.join("file"), "x")?;
    let bind = |to: &str| mount(to, "bind", &source.display().to_string(), &["bind", "ro"]);
    let scratch = mount("/scratch/deep", "tmpfs", "tmpfs", &["nosuid", "size=1m"]);
    let list = list_of(&container, &[bind("/bound"), scratch, bind("/link/below")])?;
    container.ok(&["mounts", "add", &container.id, &list])?;
    ensure!(sees(&container, "/bound/file")?, "the bind is not there");
    ensure!(sees(&container, "/link/below/file")?, "the bind behind a link is not there");
    ensure!(!outside.exists(), "something was made outside of the container");
    let tried =
        container.exec_ok(&[], &["/init", "try", "create", "/bound/y", "+", "try", "create", "/scratch/deep/y"])?;
    ensure!(tried.stdout == "EROFS\nok\n", "attempts to write: {}", tried.stdout);
    container.ok(&["mounts", "remove", &container.id, &list])?;
    for path in ["/bound/file", "/scratch/deep/y", "/link/below/file"] {
        ensure!(!sees(&container, path)?, "{path} is still there");
    }
    container.refused(&["mounts", "remove", &container.id, &list])?;
    ensure!(source.join("file").exists(), "the source lost its file");
    container.delete_force()
}

fn add_idmapped(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.start_waiting()?;
    let source = container.host_dir("source")?;
    fs::write(source.join("file"), "x")?;
    let mut mapped = mount("/m", "bind", &source.display().to_string(), &["bind"]);
    (mapped.uid_mappings, mapped.gid_mappings) = (vec![mapping(0, 5000, 10)], vec![mapping(0, 6000, 10)]);
    let list = list_of(&container, &[mapped])?;
    container.ok(&["mounts", "add", &container.id, &list])?;
    let found = parse(&container.exec_ok(&[], &["/init", "stat", "/m/file"])?.stdout)?;
    let ids = (at(&found, "/uid").as_u64(), at(&found, "/gid").as_u64());
    ensure!(ids == (Some(5000), Some(6000)), "owner inside: {found}");
    container.delete_force()
}

fn refused_mounts(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.start_waiting()?;
    let check = |change: &str, one: Mount, says: &str| -> Outcome {
        let list = list_of(&container, std::slice::from_ref(&one))?;
        let said = container.refused(&["mounts", change, &container.id, &list])?.stderr;
        ensure!(said.contains(says), "{change} {one:?}: {said}");
        Ok(())
    };
    check("add", mount("/", "tmpfs", "tmpfs", &[]), "the root of a running container")?;
    check("add", mount("/x/..", "tmpfs", "tmpfs", &[]), "the root of a running container")?;
    check("add", mount("/c", "cgroup", "cgroup", &[]), "cgroups are mounted only while")?;
    check("add", mount("/proc", "tmpfs", "tmpfs", &[]), "only proc itself")?;
    check("add", mount("/x", "bind", "/no/such/place", &["bind"]), "no such file or directory")?;
    check("add", mount("/x", "nonsense", "x", &[]), "mount nonsense at /x")?;
    check("remove", mount("/", "", "", &[]), "no place of a mount")?;
    check("remove", mount("/nowhere", "", "", &[]), "unmount /nowhere: ")?;
    let mut shared = kit.container()?;
    shared.spec.linux_mut().namespaces.retain(|one| one.kind != "mount");
    shared.spec.mounts.clear();
    let linux = shared.spec.linux_mut();
    (linux.masked_paths, linux.readonly_paths) = (vec![], vec![]);
    shared.start_waiting()?;
    let list = list_of(&shared, &[mount("/x", "tmpfs", "tmpfs", &[])])?;
    let said = shared.refused(&["mounts", "add", &shared.id, &list])?.stderr;
    ensure!(said.contains("no mount namespace"), "{said}");
    container.delete_force()
}
