//! `cargo xtask demo`: a real Debian as a container with limits, seen from both sides.

use crate::sh;
use anyhow::Result;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const SCRIPT: &str = include_str!("../scripts/demo.sh");

/// Runs the demonstration with the runtime that `GANTRY_OCI` names, or with ours as it stands.
pub fn main(_: &[String]) -> Result<ExitCode> {
    let runtime = match std::env::var_os("GANTRY_OCI") {
        Some(path) => PathBuf::from(path),
        None => crate::dist::runtime()?,
    };
    let mut command = Command::new("bash");
    command.args(["-c", SCRIPT, "demo"]).arg(runtime);
    command.arg(sh::dir_from_env("GANTRY_DEMO_DIR", "/var/tmp/gantry-demo"));
    command.arg(sh::root().join("crates/gantry-seccomp/tests/seccomp/fixtures/docker-x86_64.json"));
    Ok(sh::exit_code(sh::status(&mut command)?))
}
