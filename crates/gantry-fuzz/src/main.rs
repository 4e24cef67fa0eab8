//! Damaged input for everything that reads what comes from outside.
//!
//! It is blind, without coverage, so that it needs nothing but a stable compiler; it makes up for that by damaging
//! documents as trees, not as bytes alone. Each input is on disk before it is tried: whatever ends this process, the
//! input that did it is kept. `cargo xtask fuzz` runs it, and gathers what it finds.

mod mutate;
mod random;
mod targets;

use anyhow::{Context, Result, bail};
use random::Random;
use std::fs;
use std::io::{Seek as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: gantry-fuzz list                                 name the targets
       gantry-fuzz run TARGET SECONDS SEED CURRENT      try inputs; CURRENT is the file of the input being tried
       gantry-fuzz replay TARGET FILE                   try one input
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gantry-fuzz: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(args: &[&str]) -> Result<ExitCode> {
    match args {
        ["list"] => {
            for target in targets::TARGETS {
                println!("{}", target.name);
            }
            Ok(ExitCode::SUCCESS)
        }
        ["run", target, seconds, seed, current] => {
            let seconds = seconds.parse().context("SECONDS is a number")?;
            fuzz(find(target)?, Duration::from_secs(seconds), seed.parse().context("SEED is a number")?, current)
        }
        ["replay", target, file] => {
            let input = fs::read(file).with_context(|| format!("read {file}"))?;
            (find(target)?.run)(&input);
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("{USAGE}"),
    }
}

fn find(name: &str) -> Result<&'static targets::Target> {
    targets::TARGETS.iter().find(|target| target.name == name).with_context(|| format!("no target is called {name:?}"))
}

/// Tries inputs until the time is over, or one of them panics. What does worse than a panic ends this process, and is
/// seen by the one that started it.
fn fuzz(target: &targets::Target, time: Duration, seed: u64, current: &str) -> Result<ExitCode> {
    let seeds = (target.seeds)();
    let mut random = Random::new(seed);
    let mut file = fs::File::create(current).with_context(|| format!("create {current}"))?;
    let end = Instant::now() + time;
    let mut tried = 0_u64;
    // The seeds themselves come first.
    let mut unchanged = seeds.iter();
    while Instant::now() < end {
        let input = unchanged.next().cloned().unwrap_or_else(|| mutate::mutate(&seeds, &mut random));
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&input)?;
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            println!("{}: panicked on input {tried} of seed {seed}", target.name);
            return Ok(ExitCode::FAILURE);
        }
        tried += 1;
    }
    println!("{}: {tried} inputs of seed {seed}", target.name);
    Ok(ExitCode::SUCCESS)
}
