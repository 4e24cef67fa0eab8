//! The executables that people install: the runtime, small and linked against musl (see .cargo/musl.toml), and the
//! program, whole and static.

use crate::built::{self, Kind};
use crate::sh;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask dist [runtime | program] ...     build what is installed (both), and print where each is
       cargo xtask dist quick                       the program optimised, but not as a whole: to measure with
";

/// Builds the runtime as it is installed, and returns its path.
pub fn runtime() -> Result<PathBuf> {
    let target = sh::target_dir().join("musl");
    let target = target.to_string_lossy();
    let args = ["--config", ".cargo/musl.toml", "build", "--target-dir", &target, "--profile", "small"];
    build(&args, "gantry-oci").context("build gantry-oci (its linker is musl-gcc, of Debian's package musl-tools)")
}

/// Builds the program as it is installed, and returns its path. Takes minutes: it is optimised as a whole.
pub fn program() -> Result<PathBuf> {
    build(&["build", "--release"], "gantry")
}

/// Builds the program optimised crate by crate: nearly as fast as what is installed, in a part of the time.
pub fn quick_program() -> Result<PathBuf> {
    build(&["build", "--profile", "quick"], "gantry")
}

/// Builds the program as its tests have it, and returns its path.
pub fn test_program() -> Result<PathBuf> {
    let built = built::of(&["gantry"], Kind::Program)?;
    Ok(built.into_iter().next().context("cargo built no gantry")?.path)
}

/// Builds the fuzz targets, which are one program.
pub fn fuzzer() -> Result<PathBuf> {
    build(&["build"], "gantry-fuzz")
}

/// Builds what unpacks a layer and does nothing else, to measure it.
pub fn unpacker(quick: bool) -> Result<PathBuf> {
    let profile = if quick { "quick" } else { "release" };
    executable(&["build", "--profile", profile, "--package", "gantry-store", "--example", "unpack"], "unpack")
}

/// Runs a `cargo build` for one executable, named as its package, and returns its path.
fn build(args: &[&str], name: &str) -> Result<PathBuf> {
    executable(&[args, &["--package", name, "--bin", name]].concat(), name)
}

/// Runs a `cargo build` and returns the path of the executable that it made.
fn executable(args: &[&str], name: &str) -> Result<PathBuf> {
    let how = ["--quiet", "--message-format=json-render-diagnostics"];
    let messages = sh::output(sh::cargo(args).args(how)).with_context(|| format!("build {name}"))?;
    let executable = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    });
    executable.with_context(|| format!("cargo built no {name}"))
}

/// `cargo xtask dist`: builds and prints paths.
pub fn main(args: &[String]) -> Result<ExitCode> {
    let both = ["runtime".to_owned(), "program".to_owned()];
    for what in if args.is_empty() { &both } else { args } {
        let path = match what.as_str() {
            "runtime" => runtime()?,
            "program" => program()?,
            "quick" => quick_program()?,
            other => bail!("nothing is called {other:?}\n{USAGE}"),
        };
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}
