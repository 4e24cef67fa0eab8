//! `cargo xtask bench`: ours beside the peers, in one run, as ratios.
//!
//! Machines are noisy and differ, so no number of milliseconds is a budget. The contestants take turns, A B C A B C, and
//! what counts is the ratio of the medians.

mod engine;
mod images;
mod measure;
mod report;

use crate::{peers, sh};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask bench runtime [--rounds N] [--check]
       cargo xtask bench images [--rounds N] [--quick] [--check] [--only pull|push|unpack|serve]
       cargo xtask bench engine [--rounds N] [--quick] [--check] [--many N] [--only WORK]

Measures gantry-oci (or the runtime that GANTRY_OCI names) beside runc and crun, of the peers' box, on this host's
cgroups and on cgroup v2 alone. Writes target/bench/runtime.json and runtime.svg. With --check, a missed budget fails.
";

/// `cargo xtask bench`.
pub fn main(args: &[String]) -> Result<ExitCode> {
    match args.first().map(String::as_str) {
        Some("runtime") => runtime(&args[1..]),
        Some("images") => images::main(&args[1..]),
        Some("engine") => engine::main(&args[1..]),
        // How this program calls itself inside the box.
        Some("measure") => measure::main(&args[1..]),
        Some("measure-images") => images::measure(&args[1..]),
        Some("measure-engine") => engine::measure(&args[1..]),
        _ => {
            eprint!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}

fn runtime(args: &[String]) -> Result<ExitCode> {
    let (mut rounds, mut check) = ("40".to_owned(), false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => rounds.clone_from(args.next().context("--rounds needs a number")?),
            "--check" => check = true,
            other => bail!("unknown argument {other:?}\n{USAGE}"),
        }
    }
    let ours = our_runtime()?;
    let _box = peers::hold()?;
    let mut scenes = Vec::new();
    // The host's own cgroups, then cgroup v2 alone. Where the host has v2 alone, the first says nothing new.
    let hybrid = std::path::Path::new("/sys/fs/cgroup/memory").is_dir();
    for (verb, name) in [("run", "host's cgroups (v1 or hybrid)"), ("v2", "cgroup v2 alone")] {
        if verb == "run" && !hybrid {
            continue;
        }
        eprintln!("bench: {name}");
        scenes.push(scene(verb, name, &ours, &rounds)?);
    }
    let verdicts = report::verdicts(&scenes);
    let directory = sh::target_dir().join("bench");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    fs::write(directory.join("runtime.json"), report::json(&scenes, &verdicts)?)?;
    fs::write(directory.join("runtime.svg"), report::svg(&scenes))?;
    print!("{}", report::table(&scenes, &verdicts));
    println!("plot: {}", directory.join("runtime.svg").display());
    let missed = verdicts.iter().any(|verdict| !verdict.met);
    Ok(if check && missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The executable to measure: the one named by the environment, or the one that is installed.
fn our_runtime() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("GANTRY_OCI") {
        return Ok(path.into());
    }
    eprintln!("bench: building gantry-oci as it is installed");
    crate::dist::runtime()
}

/// Has this very program measure inside the box, so that all contestants find the same libraries and mounts.
fn scene(verb: &str, name: &str, ours: &std::path::Path, rounds: &str) -> Result<report::Scene> {
    let own = std::env::current_exe().context("find this program")?;
    let (own, ours) = (own.to_string_lossy(), ours.to_string_lossy());
    let seccomp = sh::root().join("crates/gantry-seccomp/tests/seccomp/fixtures/docker-x86_64.json");
    let seccomp = seccomp.to_string_lossy();
    let args = [&*own, "bench", "measure", rounds, &*seccomp, &*format!("gantry-oci={ours}"), "runc=runc", "crun=crun"];
    let output = sh::output(&mut peers::command(verb, &args)).with_context(|| format!("measure on {name}"))?;
    let line = output.lines().last().context("the measurement printed nothing")?;
    report::Scene::from_json(name, line)
}
