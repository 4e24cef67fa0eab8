//! `cargo xtask bench engine`: containers by our daemon and command line, beside the Docker Engine and its client.
//!
//! All take turns in one run, in namespaces that end with the run, so that nothing of a container outlives it.

mod engines;
mod measure;
mod speak;

use super::images::report::{self, Bound, Budget, beside};
use crate::{dist, peers, sh};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask bench engine [--rounds N] [--quick] [--check] [--many N] [--only WORK]

Measures gantry and gantry-oci (or the programs that GANTRY and GANTRY_OCI name) beside the Docker Engine of the box: run,
exec, networks, memory, removal and many containers at once (--many, 500). The same works are also done by Docker's client
on our socket. --quick builds gantry with less optimisation and in less time; --only takes run, exec, network, fifty, idle
or many; with --check, a missed budget fails. Writes target/bench/engine.json and engine.svg. GANTRY_BENCH_DIR says where
in the box engines have their state (/var/tmp/gantry-bench); it is removed afterwards.
";

/// What is promised of the engine.
const BUDGETS: &[Budget] = &[
    beside(work::RUN, "docker", Bound::AtMost(0.08)),
    Budget { work: work::RUN, ours: who::MIXED, peer: Some("docker"), bound: Bound::AtMost(0.2) },
    // By our client: that of Docker takes more to start than this leaves.
    beside(work::EXEC, "docker", Bound::AtMost(0.2)),
    beside(work::MEMORY, "docker", Bound::AtMost(0.15)),
    beside(work::IDLE, "docker", Bound::AtMost(0.1)),
    Budget { work: work::REMOVE, ours: who::MIXED, peer: Some("docker"), bound: Bound::AtMost(0.2) },
    Budget { work: work::NTH, ours: who::CROWDED, peer: Some(who::ALONE), bound: Bound::AtMost(1.2) },
];

/// The names of works, as they are told.
mod work {
    pub const RUN: &str = "run --rm true, ms";
    pub const PUBLISHED: &str = "run --rm true with a published port, ms";
    pub const EXEC: &str = "exec true, ms";
    pub const VERSION: &str = "version (the client alone), ms";
    pub const CONNECT: &str = "network connect, ms";
    pub const MEMORY: &str = "memory of a running container, MB (PSS)";
    pub const IDLE: &str = "idle daemon after 100 containers, MB (PSS)";
    pub const REMOVE: &str = "rm -f of 50 running containers, s";
    pub const NTH: &str = "create and start of one more container, ms";
    pub const RATE: &str = "many containers started at once, per second";
    pub const MANY_MEMORY: &str = "memory of monitors and daemon with many containers, MB (PSS)";
}

/// The names of contestants.
mod who {
    pub const OURS: &str = "gantry";
    pub const MIXED: &str = "gantry by docker's CLI";
    pub const THEIRS: &str = "docker";
    pub const ALONE: &str = "gantry with few";
    pub const CROWDED: &str = "gantry with many";
}

/// `cargo xtask bench engine`.
pub fn main(args: &[String]) -> Result<ExitCode> {
    let (mut rounds, mut only, mut many) = ("10".to_owned(), "all".to_owned(), "500".to_owned());
    let (mut quick, mut check) = (false, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => rounds.clone_from(args.next().context("--rounds needs a number")?),
            "--many" => many.clone_from(args.next().context("--many needs a number")?),
            "--only" => only.clone_from(args.next().context("--only needs a work")?),
            "--quick" => quick = true,
            "--check" => check = true,
            other => bail!("unknown argument {other:?}\n{USAGE}"),
        }
    }
    let program = super::images::program(quick)?;
    let runtime = std::env::var_os("GANTRY_OCI").map_or_else(dist::runtime, |path| Ok(PathBuf::from(path)))?;
    let _box = peers::hold()?;
    let own = std::env::current_exe().context("find this program")?;
    let cgroup = format!("gantry-bench-{}", std::process::id());
    let dir = sh::dir_from_env("GANTRY_BENCH_DIR", "/var/tmp/gantry-bench").join(&cgroup);
    let words = [own.as_path(), &program, &runtime, &dir].map(|path| path.to_string_lossy().into_owned());
    let [own, program, runtime, dir] = &words;
    let words = [&**own, "bench", "measure-engine", &*rounds, &*many, &*only, &**program, &**runtime, &**dir, &*cgroup];
    let output = sh::output(&mut peers::command("sealed", &words)).context("measure in the box");
    // The namespaces are gone, and all processes and mounts with them; what is left is named by us alone.
    let removed = sh::run(&mut peers::command("run", &["rm", "-rf", "--one-file-system", dir]));
    remove_cgroups(&cgroup);
    let output = output?;
    removed.context("remove the engines' state")?;
    let rows = report::rows(output.lines().last().context("the measurement printed nothing")?)?;
    let verdicts = report::verdicts(&rows, BUDGETS);
    let directory = sh::target_dir().join("bench");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    fs::write(directory.join("engine.json"), report::json(&rows, &verdicts)?)?;
    fs::write(directory.join("engine.svg"), report::svg(&rows))?;
    print!("{}", report::table(&rows, &verdicts));
    println!("plot: {}", directory.join("engine.svg").display());
    let missed = verdicts.iter().any(|verdict| !verdict.met);
    Ok(if check && missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What this program does inside the box.
pub fn measure(args: &[String]) -> Result<ExitCode> {
    measure::main(args)
}

/// Removes the cgroups of a run, in every hierarchy. A process that has just been killed holds its own for a moment.
fn remove_cgroups(name: &str) {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([top.to_path_buf()]) {
        for _ in 0..50 {
            let there = hierarchy.join(name);
            if !there.is_dir() || remove_cgroup(&there).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

fn remove_cgroup(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
