//! What is done to a container that runs: processes beside it, changes of its limits and mounts, what it tells.

use std::fs;

use gantry_model::oci::linux::{Memory, Personality};
use gantry_model::oci::spec::{Hooks, Process};
use gantry_testkit::json::{at, parse};
use gantry_testkit::spec::{Parts, default_process, hook};
use gantry_testkit::{Kit, Outcome, Test, ensure, outcome};

use crate::check::test;

pub fn tests() -> Vec<Test> {
    vec![test("manage::exec_beside_a_nested_init", nested), test("manage::warnings_go_to_the_log", warnings)]
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
