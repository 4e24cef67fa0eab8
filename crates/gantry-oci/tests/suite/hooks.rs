//! Hooks: when each kind runs, where, what it is told, and what its failure does (config.md, POSIX-platform Hooks;
//! runtime.md, Lifecycle).

use std::fs;
use std::time::Duration;

use gantry_model::oci::spec::{Hook, Hooks, Spec};
use gantry_testkit::json::{at, parse};
use gantry_testkit::spec::{Parts, hook, strings};
use gantry_testkit::{Container, Kit, Outcome, Test, ensure, ensure_eq, host};
use serde_json::Value;

use crate::check::{nothing_left, test};

/// All kinds in the order in which they run.
const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// The tests of this area.
pub fn tests() -> Vec<Test> {
    let mut all = Vec::new();
    for kind in KINDS {
        all.push(Test::new(format!("hooks::{kind}_fails"), move |kit| failing(kit, kind, false)));
        all.push(Test::new(format!("hooks::{kind}_times_out"), move |kit| failing(kit, kind, true)));
        all.push(Test::new(format!("hooks::{kind}_is_missing"), move |kit| missing(kit, kind)));
    }
    all.extend([
        test("hooks::order_and_state", order),
        test("hooks::namespaces", namespaces),
        test("hooks::environment_and_arguments", environment),
        test("hooks::run_in_the_foreground", foreground),
        test("hooks::network_of_the_container_can_be_changed", network),
        test("hooks::timeout_that_is_not_reached", unhurried),
    ]);
    all
}

/// The list of one kind.
fn list<'a>(spec: &'a mut Spec, kind: &str) -> &'a mut Vec<Hook> {
    let hooks: &mut Hooks = spec.hooks.get_or_insert_default();
    match kind {
        "prestart" => &mut hooks.prestart,
        "createRuntime" => &mut hooks.create_runtime,
        "createContainer" => &mut hooks.create_container,
        "startContainer" => &mut hooks.start_container,
        "poststart" => &mut hooks.poststart,
        _ => &mut hooks.poststop,
    }
}

/// A hook of this kind that runs a command of the probe; the paths fit where the kind runs. In `words`, `@log` is the
/// log's path.
fn probe(container: &Container<'_>, kind: &str, words: &[&str]) -> Hook {
    let inside = kind == "startContainer";
    let path = if inside { "/init".to_owned() } else { container.kit.probe.display().to_string() };
    let log = if inside { "/hooks.log".to_owned() } else { container.rootfs("hooks.log").display().to_string() };
    let mut args = vec!["init"];
    args.extend(words.iter().map(|word| if *word == "@log" { log.as_str() } else { word }));
    hook(&path, &args)
}

/// Adds a hook that notes `tag` in the log.
fn noting(container: &mut Container<'_>, kind: &str, tag: &str) {
    let hook = probe(container, kind, &["hook", "@log", tag]);
    list(&mut container.spec, kind).push(hook);
}

/// What was noted.
fn log(container: &Container<'_>) -> Outcome<Vec<Value>> {
    let text = fs::read_to_string(container.rootfs("hooks.log")).unwrap_or_default();
    text.lines().map(parse).collect()
}

fn tags(container: &Container<'_>) -> Outcome<Vec<String>> {
    Ok(log(container)?.iter().map(|note| at(note, "/tag").as_str().unwrap_or_default().to_owned()).collect())
}

/// A container that has two hooks of each kind, and a program that notes itself.
fn noted(kit: &Kit) -> Outcome<Container<'_>> {
    let mut container = kit.container()?;
    for kind in KINDS {
        noting(&mut container, kind, kind);
        noting(&mut container, kind, &format!("{kind} again"));
    }
    container.spec.set_args(&["/init", "append", "/hooks.log", r#"{"tag":"program"}"#, "+", "sleep", "200"]);
    Ok(container)
}

fn order(kit: &Kit) -> Outcome {
    let mut container = noted(kit)?;
    container.spec.annotations.insert("a".into(), "b".into());
    container.create()?;
    let both = |kinds: &[&str]| {
        kinds.iter().flat_map(|kind| [(*kind).to_owned(), format!("{kind} again")]).collect::<Vec<_>>()
    };
    ensure_eq!(tags(&container)?, both(&KINDS[..3]), "hooks run by create");
    container.start()?;
    let ran =
        gantry_testkit::command::wait_for(kit.time(5.0), || tags(&container).ok().filter(|tags| tags.len() == 11));
    let ran = ran.unwrap_or(tags(&container)?);
    ensure_eq!(ran[6..8], both(&KINDS[3..4]), "hooks before the program");
    let mut rest = ran[8..].to_vec();
    // The program runs while the hooks after it do.
    rest.sort();
    ensure_eq!(rest, ["poststart", "poststart again", "program"], "hooks after the program");
    container.kill("KILL")?;
    container.wait_status("stopped")?;
    container.delete()?;
    ensure_eq!(tags(&container)?[11..], both(&KINDS[5..]), "hooks run by delete");
    let statuses = [
        ("prestart", "creat"),
        ("createRuntime", "creat"),
        ("createContainer", "creat"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    for (kind, status) in statuses {
        let notes = log(&container)?;
        let note = notes.iter().find(|note| at(note, "/tag") == kind).cloned().unwrap_or_default();
        let state = at(&note, "/state");
        ensure_eq!(*at(state, "/id"), container.id, "id told to {kind}");
        ensure!(
            at(state, "/status").as_str().is_some_and(|told| told.starts_with(status)),
            "state told to {kind}: {state}"
        );
        ensure_eq!(*at(state, "/annotations/a"), "b", "annotation told to {kind}");
        ensure_eq!(*at(state, "/bundle"), container.bundle().display().to_string(), "bundle told to {kind}");
        if kind != "poststop" {
            ensure!(at(state, "/pid").as_i64().is_some_and(|pid| pid > 0), "pid told to {kind}: {state}");
        }
    }
    Ok(())
}

/// Kinds that run in the runtime's namespaces, and those that run in the container's.
fn namespaces(kit: &Kit) -> Outcome {
    let mut container = noted(kit)?;
    container.create()?;
    container.start()?;
    let pid = container.pid()?.to_string();
    let came = gantry_testkit::command::wait_for(kit.time(5.0), || (tags(&container).ok()?.len() == 11).then_some(()));
    ensure!(came.is_some(), "hooks run: {:?}", tags(&container)?);
    let (inside, outside) = (host::namespace_id(&pid, "net"), host::namespace_id("self", "net"));
    container.delete_force()?;
    for note in log(&container)?.iter().filter(|note| at(note, "/tag") != "program") {
        let kind = at(note, "/tag").as_str().unwrap_or_default().trim_end_matches(" again");
        let expected = if ["createContainer", "startContainer"].contains(&kind) { &inside } else { &outside };
        ensure_eq!(*at(note, "/namespaces/net"), *expected, "network namespace of {kind}");
        ensure_eq!(*at(note, "/init"), kind == "startContainer", "whether {kind} sees the container's root");
        if kind == "createContainer" {
            // The container's mounts are made, and the root is not yet changed.
            let proc = format!("{}/proc", container.bundle().join("rootfs").display());
            let mounts = at(note, "/mounts").as_array().cloned().unwrap_or_default();
            ensure!(mounts.iter().any(|target| *target == proc), "createContainer sees no mount at {proc}");
        }
    }
    Ok(())
}

fn environment(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.env.push(("GANTRY_SECRET".into(), "yes".into()));
    for kind in ["createRuntime", "createContainer"] {
        let mut hook = probe(&container, kind, &["hook", "@log", kind]);
        hook.env = strings(&["A=1", "B=two words"]);
        list(&mut container.spec, kind).push(hook);
    }
    container.run_ok()?;
    for note in log(&container)? {
        ensure_eq!(
            *at(&note, "/env"),
            serde_json::json!(["A=1", "B=two words"]),
            "environment of {}",
            at(&note, "/tag")
        );
        ensure_eq!(*at(&note, "/args/0"), "init", "first argument");
    }
    ensure_eq!(log(&container)?.len(), 2, "notes");
    Ok(())
}

fn foreground(kit: &Kit) -> Outcome {
    let mut container = noted(kit)?;
    container.spec.set_args(&["/init", "exit", "9"]);
    let output = container.run()?;
    ensure_eq!(output.status.code(), Some(9), "exit code ({})", output.text());
    ensure_eq!(tags(&container)?.len(), 12, "hooks run: {:?}", tags(&container)?);
    nothing_left(&container)
}

/// What failure of each kind does: everything up to the start stops the container and goes on with deletion and the
/// hooks after it; a failure after that only gives a warning.
fn failing(kit: &Kit, kind: &str, slow: bool) -> Outcome {
    let mut container = kit.container()?;
    let mut bad = if slow {
        probe(&container, kind, &["sleep", "60"])
    } else {
        probe(&container, kind, &["hook-fail", "@log", "bad", "7"])
    };
    bad.timeout = slow.then_some(1);
    list(&mut container.spec, kind).push(bad);
    noting(&mut container, kind, "after");
    if kind != "poststop" {
        noting(&mut container, "poststop", "poststop");
    }
    container.spec.set_args(&["/init", "append", "/hooks.log", r#"{"tag":"program"}"#, "+", "sleep", "200"]);
    if ["prestart", "createRuntime", "createContainer"].contains(&kind) {
        container.write_config()?;
        container.refused(&["create", &container.id])?;
        ensure!(!tags(&container)?.contains(&"after".into()), "the next hook ran: {:?}", tags(&container)?);
        return nothing_left(&container);
    }
    container.create()?;
    let pid = container.pid()?;
    if kind == "poststop" {
        container.start()?;
        container.kill("KILL")?;
        container.wait_status("stopped")?;
        container.delete()?;
        ensure!(tags(&container)?.contains(&"after".into()), "the next hook did not run: {:?}", tags(&container)?);
        return nothing_left(&container);
    }
    container.refused(&["start", &container.id])?;
    let gone = gantry_testkit::command::wait_for(kit.time(3.0), || (!host::alive(pid)).then_some(()));
    ensure!(gone.is_some(), "the container goes on after its {kind} hook failed");
    let tags = tags(&container)?;
    ensure!(!tags.contains(&"after".into()), "the next hook ran: {tags:?}");
    if kind == "startContainer" {
        ensure!(!tags.contains(&"program".into()), "the program ran: {tags:?}");
    }
    container.delete_force()?;
    nothing_left(&container)
}

fn missing(kit: &Kit, kind: &str) -> Outcome {
    let mut container = kit.container()?;
    list(&mut container.spec, kind).push(hook("/nowhere/hook", &["hook"]));
    container.spec.set_args(&["/init", "exit", "0"]);
    let output = container.run()?;
    if kind != "poststop" {
        ensure!(!output.status.success(), "a missing hook is no error");
        ensure!(output.stderr.contains("hook"), "the message: {}", output.text());
    }
    drop(container.delete_force());
    nothing_left(&container)
}

/// What hooks are for: the container's network is made from outside, between create and start.
fn network(kit: &Kit) -> Outcome {
    let ip = host::need_tool("ip")?;
    let mut container = kit.container()?;
    // The pid is in the state on standard input; the shell takes it out of there.
    let script = format!(
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/;q' | tr -d '\\n'); exec nsenter -n -t \"$pid\" {} link add gt0 type veth peer name gt1",
        ip.display()
    );
    let sh = host::need_tool("sh")?;
    list(&mut container.spec, "createRuntime")
        .push(hook(&sh.display().to_string(), &["sh", "-c", &format!("tr -d '\\n' | {{ {script}; }}")]));
    list(&mut container.spec, "createRuntime")[0].env = strings(&["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
    let report = container.run_json()?;
    ensure!(gantry_testkit::json::has(&report, "/net", "gt0"), "devices inside: {}", at(&report, "/net"));
    Ok(())
}

fn unhurried(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let mut slow = probe(&container, "createRuntime", &["sleep", "1"]);
    slow.timeout = Some(20);
    list(&mut container.spec, "createRuntime").push(slow);
    let output = container.run_ok()?;
    ensure!(output.elapsed >= Duration::from_secs(1), "the hook was not waited for: {:?}", output.elapsed);
    Ok(())
}
