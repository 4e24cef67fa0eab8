//! `cargo xtask fuzz`: runs every fuzz target for a while, and keeps the inputs that did harm.

use crate::{counts::Counts, dist, sh};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

const USAGE: &str = "\
usage: cargo xtask fuzz [--seconds N] [--seed N] [TARGET ...]     N seconds for all targets together (60)
       cargo xtask fuzz replay TARGET FILE                        try one input again
";

/// Address space of a fuzz target: what asks for more has no bound.
const MEMORY: &str = "--as=4294967296";

#[derive(Debug, PartialEq, Eq)]
struct Options {
    seconds: u64,
    seed: Option<u64>,
    targets: Vec<String>,
}

/// `cargo xtask fuzz`.
pub fn main(args: &[String]) -> Result<ExitCode> {
    let program = &dist::fuzzer()?;
    if let [verb, target, file] = args
        && verb == "replay"
    {
        return Ok(sh::exit_code(sh::status(Command::new(program).args(["replay", target, file]))?));
    }
    let options = parse(args)?;
    let seed = options.seed.map_or_else(seed_of_now, Ok)?;
    let list = sh::output(Command::new(program).arg("list"))?;
    let wanted = |name: &&str| options.targets.is_empty() || options.targets.iter().any(|target| target == name);
    let targets: Vec<&str> = list.lines().filter(wanted).collect();
    if targets.is_empty() {
        bail!("no such target; there are {}", list.lines().collect::<Vec<_>>().join(", "));
    }
    let seconds = (options.seconds / targets.len() as u64).max(1);
    let directory = sh::target_dir().join("fuzz");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let mut counts = Counts::default();
    for target in targets {
        if let Some(kept) = run(program, target, seconds, seed, &directory)? {
            counts.failed += 1;
            println!("FAIL  {target}: its input is kept: cargo xtask fuzz replay {target} {}", kept.display());
        } else {
            counts.passed += 1;
        }
    }
    println!("{counts}");
    Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one target. If it failed, the input that made it fail is kept, and the answer says where.
fn run(program: &Path, target: &str, seconds: u64, seed: u64, directory: &Path) -> Result<Option<PathBuf>> {
    let current = directory.join(format!("{target}.current"));
    let (seconds_word, seed_word) = (seconds.to_string(), seed.to_string());
    // One input that takes half a minute counts as one that never ends.
    let limit = (seconds + 30).to_string();
    let mut command = sh::command("timeout", &["--signal", "KILL", &limit, "prlimit", MEMORY]);
    command.arg(program).args(["run", target, &seconds_word, &seed_word]).arg(&current);
    let status = sh::status(&mut command)?;
    if status.success() {
        fs::remove_file(&current).with_context(|| format!("remove {}", current.display()))?;
        return Ok(None);
    }
    let kept = directory.join(format!("{target}-{seed}.input"));
    fs::rename(&current, &kept).with_context(|| format!("keep {}", current.display()))?;
    Ok(Some(kept))
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options { seconds: 60, seed: None, targets: Vec::new() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64> {
            args.next().and_then(|word| word.parse().ok()).with_context(|| format!("{arg} needs a number"))
        };
        match arg.as_str() {
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = Some(number()?),
            option if option.starts_with('-') => bail!("unknown argument {option:?}\n{USAGE}"),
            target => options.targets.push(target.to_owned()),
        }
    }
    Ok(options)
}

/// A seed that is new each time. It is printed, and can be given again.
fn seed_of_now() -> Result<u64> {
    #[allow(clippy::disallowed_methods, reason = "this is the edge at which the clock is read")]
    let now = SystemTime::now();
    Ok(now.duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_read() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let expect = Options { seconds: 5, seed: Some(7), targets: vec!["spec".into()] };
        assert_eq!(parse(&words("--seconds 5 spec --seed 7")).unwrap(), expect);
        assert_eq!(parse(&[]).unwrap(), Options { seconds: 60, seed: None, targets: Vec::new() });
        assert!(parse(&words("--seconds")).is_err() && parse(&words("--fast")).is_err());
    }
}
