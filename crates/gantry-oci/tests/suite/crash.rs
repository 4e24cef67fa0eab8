//! What a runtime leaves that is killed at any moment, or that finds no room for its state: nothing but what
//! `delete --force` removes.
//!
//! strace(1) kills the runtime as it enters one of its system calls. Which one goes over all of a command's calls, in
//! steps from a random offset. `GANTRY_TEST_POINTS` says how many moments of each command are tried; `GANTRY_TEST_SEED` repeats the
//! choice of a run that failed.

use std::os::unix::process::ExitStatusExt;
use std::time::{SystemTime, UNIX_EPOCH};

use gantry_testkit::command::{Output, run, wait_for};
use gantry_testkit::outcome::{Stop, fail};
use gantry_testkit::spec::{Parts, cgroup_mount, hook, mapping};
use gantry_testkit::{Container, Kit, Outcome, Test, ensure, ensure_eq, host};

use crate::check::{nothing_left, test};

/// Moments of each command that are tried unless `GANTRY_TEST_POINTS` says otherwise.
const POINTS: u64 = 20;
/// Seconds that the processes of a killed command have to end by themselves.
const GRACE: f64 = 5.0;

/// A command that is killed.
struct Crash {
    /// The test's name, within its area.
    name: &'static str,
    /// How the configuration differs from the default one.
    change: fn(&mut Container<'_>),
    /// Commands before it, and it; the identifier stands for `ID`.
    commands: &'static [&'static str],
}

const CREATE: &[&str] = &["create ID"];
const RUN: &[&str] = &["run --detach ID"];

const CRASHES: &[Crash] = &[
    Crash { name: "create", change: |_| {}, commands: CREATE },
    Crash { name: "create_with_user_namespace", change: with_users, commands: CREATE },
    Crash { name: "create_with_shared_mounts", change: with_shared_mounts, commands: CREATE },
    Crash { name: "create_with_hooks", change: with_hooks, commands: CREATE },
    Crash { name: "run", change: |_| {}, commands: RUN },
    Crash { name: "run_with_shared_pids", change: with_shared_pids, commands: RUN },
    Crash { name: "start", change: |_| {}, commands: &["create ID", "start ID"] },
    Crash { name: "exec", change: |_| {}, commands: &["run --detach ID", "exec --detach ID /init sleep 300"] },
    Crash {
        name: "exec_with_shared_pids",
        change: with_shared_pids,
        commands: &["run --detach ID", "exec --detach ID /init sleep 300"],
    },
    Crash { name: "delete", change: with_shared_pids, commands: &["run --detach ID", "delete --force ID"] },
    Crash { name: "delete_with_shared_mounts", change: with_shared_mounts, commands: &["create ID", "delete ID"] },
];

/// The tests of this area.
pub fn tests() -> Vec<Test> {
    let seconds = 30.0 + f64::from(u32::try_from(points()).unwrap_or(u32::MAX)) * 2.0;
    let crash = |crash: &'static Crash| {
        Test::new(format!("crash::{}", crash.name), move |kit| check(kit, crash)).seconds(seconds)
    };
    let mut all: Vec<Test> = CRASHES.iter().map(crash).collect();
    all.extend([
        test("crash::create_in_a_cgroup_of_another", foreign_cgroup).seconds(seconds),
        test("crash::run_in_the_foreground", foreground),
    ]);
    for (limit, name) in [("size", "bytes"), ("nr_inodes", "files")] {
        all.push(Test::new(format!("crash::state_has_no_room_for_{name}"), move |kit| no_room(kit, limit)));
    }
    all
}

fn with_users(container: &mut Container<'_>) {
    container.spec.map_users(&[mapping(0, 100_000, 65_536)]);
}

fn with_shared_mounts(container: &mut Container<'_>) {
    container.spec.drop_namespace("mount");
    let linux = container.spec.linux_mut();
    linux.masked_paths.clear();
    linux.readonly_paths.clear();
}

fn with_shared_pids(container: &mut Container<'_>) {
    container.spec.drop_namespace("pid");
    container.spec.set_args(&["/init", "spawn", "sleep", "300", "+", "sleep", "300"]);
}

fn with_hooks(container: &mut Container<'_>) {
    let hooks = container.spec.hooks.get_or_insert_default();
    // Programs of this machine before the root changes, of the container after.
    hooks.create_runtime.push(hook("/bin/true", &["true"]));
    hooks.create_container.push(hook("/bin/true", &["true"]));
    hooks.poststop.push(hook("/bin/true", &["true"]));
}

fn points() -> u64 {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    // A machine that is slow by a factor tries so many fewer.
    let usual = || (POINTS / number("GANTRY_TEST_SLOW").unwrap_or(1).max(1)).max(2);
    number("GANTRY_TEST_POINTS").unwrap_or_else(usual).max(1)
}

/// The seed of this run's choice.
fn seed() -> u64 {
    // Any number does; it is printed, so that it can be given again.
    #[allow(clippy::disallowed_methods)]
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::from(now.subsec_micros()));
    std::env::var("GANTRY_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(now)
}

/// A system call of a command: strace counts the calls of each name apart.
struct Call {
    name: String,
    nth: usize,
}

/// The moments to kill at, of all calls of a command.
fn moments(name: &str, calls: Vec<Call>) -> Vec<Call> {
    let (seed, stride) = (seed(), (calls.len() as u64).div_ceil(points()).max(1));
    let first = seed % stride;
    eprintln!(
        "crash::{name}: GANTRY_TEST_SEED={seed}: {} system calls, each {stride}th from the {first}th",
        calls.len()
    );
    let stride = usize::try_from(stride).unwrap_or(usize::MAX);
    calls.into_iter().skip(usize::try_from(first).unwrap_or(0)).step_by(stride).collect()
}

/// Runs a command of the runtime under strace with these options.
fn traced(container: &mut Container<'_>, options: &[&str], words: &[&str]) -> Outcome<Output> {
    let strace = host::need_tool("strace")?.display().to_string();
    container.prefix = std::iter::once(strace.as_str()).chain(options.iter().copied()).map(str::to_owned).collect();
    let mut command = container.command(words);
    container.prefix.clear();
    Ok(run(&mut command, &container.output_dir(), container.kit.time(20.0))?)
}

/// The system calls that a command makes.
fn calls_of(container: &mut Container<'_>, words: &[&str]) -> Outcome<Vec<Call>> {
    let path = container.host("calls").display().to_string();
    let output = traced(container, &["-qq", "-e", "signal=none", "-o", &path], words)?;
    let mut seen = std::collections::BTreeMap::new();
    let mut calls = Vec::new();
    for line in std::fs::read_to_string(&path)?.lines() {
        let Some((name, _)) = line.split_once('(') else { continue };
        let nth: &mut usize = seen.entry(name.to_owned()).or_default();
        *nth += 1;
        calls.push(Call { name: name.to_owned(), nth: *nth });
    }
    ensure!(calls.len() > 20, "{} system calls of {words:?}: {}", calls.len(), output.text());
    Ok(calls)
}

/// Runs a command and kills it as it enters a system call. Returns whether it was killed.
fn kill_at(container: &mut Container<'_>, call: &Call, words: &[&str]) -> Outcome<bool> {
    let inject = format!("inject={}:signal=KILL:when={}", call.name, call.nth);
    let output = traced(container, &["-qq", "-o", "/dev/null", "-e", &inject], words)?;
    Ok(output.status.signal() == Some(9) || output.status.code() == Some(137))
}

fn check(kit: &Kit, crash: &Crash) -> Outcome {
    host::need_tool("strace")?;
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "sleep", "300"]);
    container.spec.mounts.push(cgroup_mount());
    (crash.change)(&mut container);
    container.write_config()?;
    let id = container.id.clone();
    let commands: Vec<Vec<&str>> = crash
        .commands
        .iter()
        .map(|line| line.split(' ').map(|word| if word == "ID" { id.as_str() } else { word }).collect())
        .collect();
    let Some((last, before)) = commands.split_last() else { return fail("no command") };
    let prepare = |container: &Container<'_>| before.iter().try_for_each(|words| container.ok(words).map(drop));
    prepare(&container)?;
    let calls = calls_of(&mut container, last)?;
    removed(&container)?;
    let moments = moments(crash.name, calls);
    let mut killed = 0;
    for call in &moments {
        prepare(&container)?;
        let at = |stop| told(stop, call);
        killed += usize::from(kill_at(&mut container, call, last).map_err(at)?);
        sensible(&container).map_err(at)?;
        removed(&container).map_err(at)?;
        container.ok(&["create", &id]).map_err(at)?;
        removed(&container).map_err(at)?;
    }
    ensure!(killed * 2 >= moments.len(), "killed at {killed} of {} moments only", moments.len());
    Ok(())
}

/// A failure with the moment of the kill and how to have it again.
fn told(stop: Stop, Call { name, nth }: &Call) -> Stop {
    match stop {
        Stop::Fail(text) => Stop::Fail(format!("killed at {name} {nth} (GANTRY_TEST_SEED={}): {text}", seed())),
        skipped @ Stop::Skip(_) => skipped,
    }
}

/// Fails unless `state` and `list` have an answer for what a killed runtime left.
fn sensible(container: &Container<'_>) -> Outcome {
    container.ok(&["list"])?;
    let output = container.call(&["state", &container.id])?;
    if !output.status.success() {
        ensure!(output.stderr.contains("does not exist"), "state: {}", output.text());
        return Ok(());
    }
    let state = gantry_testkit::json::parse(&output.stdout)?;
    let status = gantry_testkit::json::at(&state, "/status").as_str().unwrap_or_default();
    // Nobody is making it any more.
    ensure!(["created", "running", "stopped"].contains(&status), "state: {state}");
    Ok(())
}

/// Deletes by force, and fails unless all is gone soon.
fn removed(container: &Container<'_>) -> Outcome {
    container.delete_force()?;
    let gone = wait_for(container.kit.time(GRACE), || container.leftovers().is_empty().then_some(()));
    if gone.is_some() { Ok(()) } else { nothing_left(container) }
}

/// A container whose cgroup turns out to be another's takes nothing of the other with it.
fn foreign_cgroup(kit: &Kit) -> Outcome {
    host::need_tool("strace")?;
    let mut other = kit.container()?;
    other.start_waiting()?;
    let pid = other.pid()?;
    let mut container = kit.container()?;
    container.spec.linux_mut().cgroups_path.clone_from(&other.cgroup);
    container.write_config()?;
    let id = container.id.clone();
    let calls = calls_of(&mut container, &["create", &id])?;
    let dirs = kit.cgroups.present(&other.cgroup);
    for call in moments("create_in_a_cgroup_of_another", calls) {
        let at = |stop| told(stop, &call);
        kill_at(&mut container, &call, &["create", &id]).map_err(at)?;
        sensible(&container).map_err(at)?;
        removed(&container).map_err(at)?;
        ensure!(host::alive(pid), "killed at {} {}: the other container was killed", call.name, call.nth);
        ensure_eq!(kit.cgroups.present(&other.cgroup), dirs, "the other's cgroups");
    }
    ensure_eq!(other.status()?, "running", "status of the other container");
    other.exec_ok(&[], &["/init", "exit", "0"]).map(drop)
}

/// A container whose `run` was killed runs on, and can be removed.
fn foreground(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "append", "/ready", "yes", "+", "sleep", "300"]);
    container.write_config()?;
    let id = container.id.clone();
    let mut running = container.spawn(&["run", &id])?;
    let ready = container.rootfs("ready");
    let came = wait_for(kit.time(10.0), || ready.exists().then_some(()));
    running.kill();
    running.finish(kit.time(5.0))?;
    ensure!(came.is_some(), "the program did not begin");
    ensure_eq!(container.status()?, "running", "status after run was killed");
    removed(&container)?;
    container.ok(&["create", &id])?;
    removed(&container)
}

/// The file system of the state root has room for less than a container: creation says so and leaves nothing. Room is
/// added until it succeeds.
fn no_room(kit: &Kit, limit: &str) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "sleep", "300"]);
    container.write_config()?;
    let root = container.state_root();
    let room = |steps: u64| if limit == "size" { format!("size={}", steps * 4096) } else { format!("{limit}={steps}") };
    container.host_mount("tmpfs", "tmpfs", &root, &room(1))?;
    let id = container.id.clone();
    for steps in 1..32 {
        let target = root.display().to_string();
        let options = format!("remount,{}", room(steps));
        let output = run(
            std::process::Command::new("mount").args(["-n", "-o", &options, &target]),
            &container.output_dir(),
            kit.time(10.0),
        )?;
        ensure!(output.status.success(), "remount with {options}: {}", output.text());
        let created = container.call(&["create", &id])?;
        if created.status.success() {
            ensure!(steps > 2, "{} were enough", room(steps));
            return removed(&container);
        }
        let said = created.stderr.to_lowercase();
        ensure!(said.contains("no space"), "with {}: {}", room(steps), created.text());
        nothing_left(&container)?;
    }
    fail("no room is enough")
}
