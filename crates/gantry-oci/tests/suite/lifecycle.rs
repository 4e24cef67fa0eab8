//! The life of a container: create, start, state, kill, pause, delete, and what is said when one of them cannot be
//! (runtime.md, Operations).

use std::fs;

use gantry_testkit::json::{at, parse};
use gantry_testkit::spec::Parts;
use gantry_testkit::{Container, Kit, Outcome, Test, ensure, ensure_eq, host};
use serde_json::Value;

use crate::check::{nothing_left, test};

/// The tests of this area.
pub fn tests() -> Vec<Test> {
    let mut all: Vec<Test> = [
        ("missing", "/nowhere"),
        ("not_executable", "/etc/passwd"),
        ("a_directory", "/etc"),
        ("not_in_the_path", "nowhere-at-all"),
    ]
    .map(|(name, program)| Test::new(format!("lifecycle::program_{name}"), move |kit| bad_program(kit, program)))
    .into();
    for command in ["start", "kill", "delete", "state", "pause", "resume", "ps", "exec", "update"] {
        all.push(Test::new(format!("lifecycle::{command}_of_unknown_is_refused"), move |kit| unknown(kit, command)));
    }
    for (name, signal) in [("name", "TERM"), ("full_name", "SIGTERM"), ("number", "15"), ("lower_case", "term")] {
        all.push(Test::new(format!("kill::by_{name}"), move |kit| kill(kit, signal)));
    }
    all.extend([
        test("lifecycle::whole", whole),
        test("lifecycle::state_document", state_document),
        test("lifecycle::configuration_is_read_once", configuration_is_read_once),
        test("lifecycle::id_in_use_is_refused", id_in_use),
        test("lifecycle::start_twice_is_refused", start_twice),
        test("lifecycle::delete_of_running_is_refused", delete_running),
        test("lifecycle::delete_force_of_running", delete_force_running),
        test("lifecycle::delete_of_created", delete_created),
        test("lifecycle::delete_force_of_unknown", delete_force_unknown),
        test("lifecycle::delete_force_takes_all_of_a_shared_pid_namespace", delete_force_shared_pid),
        test("lifecycle::delete_force_of_paused", delete_force_paused),
        test("lifecycle::init_killed_from_outside", init_killed),
        test("lifecycle::run_removes_itself", run_removes),
        test("lifecycle::run_detached", run_detached),
        test("lifecycle::pid_file", pid_file),
        test("lifecycle::bundle_option", bundle_option),
        test("lifecycle::bundle_without_configuration_is_refused", no_configuration),
        test("lifecycle::list", list),
        test("lifecycle::ps", ps),
        test("lifecycle::pause_and_resume", pause),
        test("lifecycle::events_stats", events),
        test("kill::unknown_signal_is_refused", kill_unknown_signal),
        test("kill::of_stopped_is_refused", kill_stopped),
        test("kill::exit_status", kill_status),
        test("kill::all", kill_all),
        test("lifecycle::spec_command", spec_command),
        test("lifecycle::features_command", features_command),
        test("lifecycle::version", version),
    ]);
    all
}

fn whole(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "append", "/ran", "yes", "+", "sleep", "300"]);
    container.create()?;
    ensure_eq!(container.status()?, "created", "status after create");
    ensure!(!container.rootfs("ran").exists(), "the program ran before start");
    let pid = container.pid()?;
    ensure!(host::alive(pid), "process {pid} is not there");
    container.start()?;
    ensure_eq!(container.status()?, "running", "status after start");
    ensure_eq!(container.pid()?, pid, "pid after start");
    container.kill("KILL")?;
    container.wait_status("stopped")?;
    container.delete()?;
    container.refused(&["state", &container.id])?;
    nothing_left(&container)
}

fn state_document(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.annotations.insert("org.example.key".into(), "value".into());
    container.start_waiting()?;
    let state = container.state()?;
    ensure_eq!(*at(&state, "/id"), container.id, "id");
    ensure_eq!(*at(&state, "/status"), "running", "status");
    ensure_eq!(*at(&state, "/bundle"), container.bundle().display().to_string(), "bundle");
    ensure_eq!(*at(&state, "/rootfs"), container.rootfs("").display().to_string().trim_end_matches('/'), "rootfs");
    ensure_eq!(*at(&state, "/annotations/org.example.key"), "value", "annotation");
    ensure!(at(&state, "/ociVersion").as_str().is_some_and(|text| text.starts_with("1.")), "version: {state}");
    ensure!(at(&state, "/created").as_str().is_some_and(|text| text.contains('T')), "creation time: {state}");
    let pid = container.pid()?;
    container.kill("KILL")?;
    container.wait(pid)?;
    container.wait_status("stopped")?;
    let state = container.state()?;
    ensure!(matches!(at(&state, "/pid").as_i64(), None | Some(0)), "a stopped container has a pid: {state}");
    Ok(())
}

/// What changes in the file after create has no effect (runtime.md, Lifecycle 2).
fn configuration_is_read_once(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "append", "/first", "yes"]);
    container.create()?;
    let pid = container.pid()?;
    container.spec.set_args(&["/init", "append", "/second", "yes"]);
    container.write_config()?;
    container.start()?;
    container.wait(pid)?;
    ensure!(container.rootfs("first").exists() && !container.rootfs("second").exists(), "the later configuration ran");
    Ok(())
}

fn id_in_use(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.start_waiting()?;
    container.refused(&["create", &container.id])?;
    container.refused(&["run", &container.id])?;
    ensure_eq!(container.status()?, "running", "status after a second create");
    container.exec_ok(&[], &["/init", "exit", "0"]).map(drop)
}

fn start_twice(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.start_waiting()?;
    container.refused(&["start", &container.id])?;
    ensure_eq!(container.status()?, "running", "status after a second start");
    container.kill("KILL")?;
    container.wait_status("stopped")?;
    container.refused(&["start", &container.id]).map(drop)
}

fn delete_running(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.start_waiting()?;
    container.refused(&["delete", &container.id])?;
    ensure_eq!(container.status()?, "running", "status after delete was refused");
    Ok(())
}

fn delete_force_running(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.start_with(&["/init", "spawn", "sleep", "200", "+", "sleep", "200"])?;
    container.delete_force()?;
    nothing_left(&container)
}

fn delete_created(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.create()?;
    container.delete_force()?;
    nothing_left(&container)
}

fn delete_force_unknown(kit: &Kit) -> Outcome {
    kit.container()?.delete_force()
}

fn delete_force_shared_pid(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.drop_namespace("pid");
    let family = ["/init", "spawn", "sleep", "200", "+", "spawn", "spawn", "sleep", "200", "+", "sleep", "200"];
    container.start_with(&family)?;
    container.delete_force()?;
    nothing_left(&container)
}

fn delete_force_paused(kit: &Kit) -> Outcome {
    need_freezer(kit)?;
    let mut container = kit.container()?;
    container.start_waiting()?;
    container.ok(&["pause", &container.id])?;
    container.delete_force()?;
    nothing_left(&container)
}

fn init_killed(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.start_waiting()?;
    let pid = container.pid()?;
    gantry_testkit::leak::end(pid);
    container.wait_status("stopped")?;
    container.delete()?;
    nothing_left(&container)
}

fn run_removes(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "exit", "3"]);
    container.run()?;
    container.refused(&["state", &container.id])?;
    nothing_left(&container)
}

fn run_detached(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "sleep", "300"]);
    let output = container.run_with(&["--detach"])?;
    ensure!(output.status.success(), "run --detach: {}", output.text());
    ensure_eq!(container.status()?, "running", "status");
    let pid = container.pid()?;
    container.kill("KILL")?;
    container.wait(pid)?;
    container.delete()
}

fn pid_file(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let path = container.host("pid");
    let text = path.display().to_string();
    container.spec.set_args(&["/init", "sleep", "300"]);
    container.create_with(&["--pid-file", &text])?;
    ensure_eq!(fs::read_to_string(&path)?, container.pid()?.to_string(), "contents of the pid file");
    Ok(())
}

fn bundle_option(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    container.write_config()?;
    let bundle = container.bundle().display().to_string();
    let mut command = container.command(&["run", "--bundle", &bundle, &container.id]);
    let output = gantry_testkit::command::run(command.current_dir("/"), &container.output_dir(), kit.time(10.0))?;
    ensure!(output.status.success(), "run --bundle: {}", output.text());
    Ok(())
}

fn no_configuration(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    let output = container.refused(&["create", &container.id])?;
    ensure!(output.stderr.contains("config.json"), "the message does not name the file: {}", output.text());
    nothing_left(&container)
}

/// A program that cannot be executed: an error at create or at start, and then nothing but what `delete` removes.
fn bad_program(kit: &Kit, program: &str) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&[program]);
    let output = container.run_refused()?;
    let name = program.trim_start_matches('/');
    ensure!(output.stderr.contains(name), "the message does not name the program: {}", output.text());
    nothing_left(&container)?;
    let created = container.call(&["create", &container.id])?;
    if created.status.success() {
        container.refused(&["start", &container.id])?;
        container.wait_status("stopped")?;
        container.delete()?;
    }
    nothing_left(&container)
}

fn unknown(kit: &Kit, command: &str) -> Outcome {
    let container = kit.container()?;
    let mut words = vec![command, container.id.as_str()];
    match command {
        "exec" => words.push("/init"),
        "update" => words = vec!["update", "--pids-limit", "5", &container.id],
        _ => {}
    }
    let output = container.refused(&words)?;
    let says = ["exist", "found", "No such"];
    ensure!(says.iter().any(|word| output.stderr.contains(word)), "the message: {}", output.text());
    nothing_left(&container)
}

fn list(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.start_waiting()?;
    let listed = parse(&container.ok(&["list", "--format", "json"])?.stdout)?;
    let one = at(&listed, "/0");
    ensure_eq!(*at(one, "/id"), container.id, "id");
    ensure_eq!(*at(one, "/pid"), container.pid()?, "pid");
    ensure_eq!(*at(one, "/status"), "running", "status");
    ensure_eq!(*at(one, "/bundle"), container.bundle().display().to_string(), "bundle");
    ensure_eq!(*at(one, "/owner"), "root", "owner");
    ensure_eq!(container.ok(&["list", "-q"])?.stdout.trim(), container.id, "list -q");
    let table = container.ok(&["list"])?.stdout;
    let (head, row) = table.split_once('\n').unwrap_or_default();
    ensure!(
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].iter().all(|word| head.contains(word)),
        "head: {head}"
    );
    ensure!(row.contains(&container.id) && row.contains("running"), "row: {row}");
    container.delete_force()?;
    let empty = parse(&container.ok(&["list", "--format", "json"])?.stdout)?;
    ensure!(empty.is_null() || empty.as_array().is_some_and(Vec::is_empty), "list of nothing: {empty}");
    Ok(())
}

fn ps(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.start_with(&["/init", "spawn", "sleep", "200", "+", "sleep", "200"])?;
    let both = || {
        let found = parse(&container.ok(&["ps", "--format", "json", &container.id]).ok()?.stdout).ok()?;
        found.as_array().filter(|list| list.len() == 2).cloned()
    };
    let Some(pids) = gantry_testkit::command::wait_for(kit.time(5.0), both) else {
        return gantry_testkit::outcome::fail("ps does not show two processes");
    };
    ensure!(pids.contains(&Value::from(container.pid()?)), "the first process is not among {pids:?}");
    if host::find_tool("ps").is_some() {
        let table = container.ok(&["ps", &container.id])?.stdout;
        ensure!(table.lines().count() == 3 && table.contains("PID"), "table: {table}");
        let table = container.ok(&["ps", &container.id, "-o", "pid,comm"])?.stdout;
        ensure!(table.lines().count() == 3 && table.contains("COMMAND"), "table with options: {table}");
    }
    Ok(())
}

/// Version 1 has a controller for it; in version 2 every cgroup has it.
fn need_freezer(kit: &Kit) -> Outcome {
    if kit.cgroups.mode == gantry_testkit::cgroup::Mode::V2 { Ok(()) } else { kit.need_controller("freezer") }
}

/// Processor time of a process, in clock ticks.
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect())
        .unwrap_or_default();
    fields.get(11).zip(fields.get(12)).map_or(0, |(user, system)| user + system)
}

fn pause(kit: &Kit) -> Outcome {
    need_freezer(kit)?;
    let mut container = kit.container()?;
    container.start_with(&["/init", "spin", "60"])?;
    container.ok(&["pause", &container.id])?;
    ensure_eq!(container.status()?, "paused", "status after pause");
    let pid = container.pid()?;
    let before = ticks(pid);
    std::thread::sleep(std::time::Duration::from_millis(300));
    ensure_eq!(ticks(pid), before, "processor time while paused");
    container.refused(&["exec", &container.id, "/init", "exit", "0"])?;
    container.ok(&["resume", &container.id])?;
    ensure_eq!(container.status()?, "running", "status after resume");
    let moved = gantry_testkit::command::wait_for(kit.time(5.0), || (ticks(pid) > before).then_some(()));
    ensure!(moved.is_some(), "no processor time after resume");
    container.refused(&["resume", &container.id])?;
    container.exec_ok(&[], &["/init", "exit", "0"]).map(drop)
}

fn events(kit: &Kit) -> Outcome {
    kit.need_controller("pids")?;
    let mut container = kit.container()?;
    container.start_waiting()?;
    let stats = parse(&container.ok(&["events", "--stats", &container.id])?.stdout)?;
    ensure_eq!(*at(&stats, "/type"), "stats", "type");
    ensure_eq!(*at(&stats, "/id"), container.id, "id");
    ensure_eq!(at(&stats, "/data/pids/current").as_u64(), Some(1), "tasks in {stats}");
    if kit.cgroups.holding("memory").is_some() {
        let used = at(&stats, "/data/memory/usage/usage").as_u64();
        ensure!(used.is_some_and(|bytes| bytes > 4096), "memory in use: {used:?}");
    }
    if kit.cgroups.holding("cpuacct").or(kit.cgroups.holding("cpu")).is_some() {
        let used = at(&stats, "/data/cpu/usage/total").as_u64();
        ensure!(used.is_some_and(|nanoseconds| nanoseconds > 0), "processor time: {used:?}");
    }
    Ok(())
}

/// A container whose program ends with 44 when it is told to terminate.
fn trapping(kit: &Kit) -> Outcome<Container<'_>> {
    kit.need_busybox()?;
    let mut container = kit.container()?;
    container.start_with(&["/bin/sh", "-c", "trap 'exit 44' TERM; touch /ready; while :; do sleep 0.05; done"])?;
    let ready = container.rootfs("ready");
    let came = gantry_testkit::command::wait_for(kit.time(5.0), || ready.exists().then_some(()));
    ensure!(came.is_some(), "the program does not get ready");
    Ok(container)
}

fn kill(kit: &Kit, signal: &str) -> Outcome {
    let mut container = trapping(kit)?;
    let pid = container.pid()?;
    container.kill(signal)?;
    ensure_eq!(container.wait(pid)?.code(), Some(44), "exit code of the program");
    Ok(())
}

fn kill_unknown_signal(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.start_waiting()?;
    for signal in ["NOSUCH", "0x9", "-1", "65536", "9 "] {
        container.refused(&["kill", &container.id, signal])?;
    }
    ensure_eq!(container.status()?, "running", "status");
    Ok(())
}

fn kill_stopped(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.start_waiting()?;
    container.kill("KILL")?;
    container.wait_status("stopped")?;
    let output = container.refused(&["kill", &container.id, "TERM"])?;
    ensure!(output.stderr.contains("running"), "the message: {}", output.text());
    Ok(())
}

fn kill_status(kit: &Kit) -> Outcome {
    use std::os::unix::process::ExitStatusExt;
    let mut container = kit.container()?;
    container.start_waiting()?;
    let pid = container.pid()?;
    container.kill("KILL")?;
    ensure_eq!(container.wait(pid)?.signal(), Some(9), "signal that ended the program");
    Ok(())
}

/// `kill --all` reaches every process, also where the PID namespace is shared.
fn kill_all(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.drop_namespace("pid");
    container.start_with(&["/init", "spawn", "sleep", "200", "+", "sleep", "200"])?;
    let count = || gantry_testkit::leak::marked(&container.id).len();
    ensure!(
        gantry_testkit::command::wait_for(kit.time(5.0), || (count() == 2).then_some(())).is_some(),
        "two processes"
    );
    container.ok(&["kill", "--all", &container.id, "KILL"])?;
    let gone = gantry_testkit::command::wait_for(kit.time(5.0), || (count() == 0).then_some(()));
    ensure!(gone.is_some(), "{} processes are left", count());
    Ok(())
}

fn spec_command(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    container.ok(&["spec"])?;
    let path = container.bundle().join("config.json");
    let text = fs::read_to_string(&path)?;
    let spec: gantry_model::oci::spec::Spec = serde_json::from_str(&text)?;
    ensure!(spec.process.is_some() && spec.linux.is_some() && spec.mounts.len() > 5, "the template: {text}");
    container.refused(&["spec"])?;
    let mut changed: Value = serde_json::from_str(&text)?;
    changed["process"]["terminal"] = false.into();
    changed["process"]["args"] = serde_json::json!(["/init", "report"]);
    changed["linux"]["cgroupsPath"] = container.cgroup.clone().into();
    fs::write(&path, changed.to_string())?;
    container.ok(&["run", &container.id]).map(drop)
}

fn features_command(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    let found = parse(&container.ok(&["features"])?.stdout)?;
    ensure_eq!(*at(&found, "/ociVersionMin"), "1.0.0", "oldest version");
    ensure!(gantry_testkit::json::has(&found, "/hooks", "createRuntime"), "hooks: {found}");
    ensure!(gantry_testkit::json::has(&found, "/mountOptions", "rro"), "mount options: {found}");
    ensure!(gantry_testkit::json::has(&found, "/linux/namespaces", "cgroup"), "namespaces: {found}");
    ensure!(at(&found, "/linux/cgroup/v2") == true, "cgroup: {found}");
    Ok(())
}

fn version(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    let found = container.ok(&["--version"])?.stdout;
    ensure!(found.contains("version") && found.contains("spec: 1."), "version: {found}");
    Ok(())
}
