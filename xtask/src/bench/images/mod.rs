//! `cargo xtask bench images`: pulls, pushes and the registry, beside Docker, skopeo, containerd and docker-registry.
//!
//! All take turns in one run, in the peers' box, over loopback and on the same disk. What is pulled are files of the box
//! itself, so that they compress and unpack like any image.

mod data;
mod measure;
pub mod report;
pub mod servers;

use crate::{dist, peers, sh};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask bench images [--rounds N] [--quick] [--check] [--only WORK]

Measures gantry (or the program that GANTRY names) beside the peers of the box: pull and push of an image with one layer
of 231 MB and of one with twelve layers and 500 MB, unpacking, and the registry. --quick builds it with less optimisation
and in less time; --only takes pull, push, unpack or serve; with --check, a missed budget fails. Writes
target/bench/images.json and images.svg. The images are made once, and kept in the box in /var/tmp/gantry-bench.
";

/// `cargo xtask bench images`.
pub fn main(args: &[String]) -> Result<ExitCode> {
    let (mut rounds, mut only) = ("3".to_owned(), "all".to_owned());
    let (mut quick, mut check) = (false, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => rounds.clone_from(args.next().context("--rounds needs a number")?),
            "--only" => only.clone_from(args.next().context("--only needs a work")?),
            "--quick" => quick = true,
            "--check" => check = true,
            other => bail!("unknown argument {other:?}\n{USAGE}"),
        }
    }
    let ours = program(quick)?;
    let unpacker = dist::unpacker(quick)?;
    let _box = peers::hold()?;
    let own = std::env::current_exe().context("find this program")?;
    let script = sh::root().join("xtask/scripts/make-image.py");
    let [own, ours, unpacker, script] = [own, ours, unpacker, script].map(|path| path.to_string_lossy().into_owned());
    let words = [&*own, "bench", "measure-images", &*rounds, &*only, &*ours, &*unpacker, &*script];
    let output = sh::output(&mut peers::command("sealed", &words)).context("measure in the box")?;
    let line = output.lines().last().context("the measurement printed nothing")?;
    let rows = report::rows(line)?;
    let verdicts = report::verdicts(&rows, report::BUDGETS);
    let directory = sh::target_dir().join("bench");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    fs::write(directory.join("images.json"), report::json(&rows, &verdicts)?)?;
    fs::write(directory.join("images.svg"), report::svg(&rows))?;
    print!("{}", report::table(&rows, &verdicts));
    println!("plot: {}", directory.join("images.svg").display());
    let missed = verdicts.iter().any(|verdict| !verdict.met);
    Ok(if check && missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What this program does inside the box.
pub fn measure(args: &[String]) -> Result<ExitCode> {
    measure::main(args)
}

/// The executable to measure: the one named by the environment, or the one that is installed, or nearly that.
pub fn program(quick: bool) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("GANTRY") {
        return Ok(path.into());
    }
    eprintln!("bench: building gantry {}", if quick { "quickly" } else { "as it is installed (minutes)" });
    if quick { dist::quick_program() } else { dist::program() }
}
