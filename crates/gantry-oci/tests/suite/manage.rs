//! What is done to a container that runs: processes beside it, changes of its limits and mounts, what it tells.

use std::fs;

use gantry_testkit::json::at;
use gantry_testkit::{Kit, Outcome, Test, ensure, outcome};

use crate::check::test;

pub fn tests() -> Vec<Test> {
    vec![test("manage::exec_beside_a_nested_init", nested)]
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
