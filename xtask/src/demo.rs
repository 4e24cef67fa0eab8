//! `cargo xtask demo`: nginx from Debian's packages, from the image to the last trace of it; `demo runtime` shows a container
//! of the runtime alone, seen from both sides.

use crate::{debian, sh};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const RUNTIME: &str = include_str!("../scripts/demo.sh");
const ENGINE: &str = include_str!("../scripts/demo-engine.sh");

/// Runs a demonstration with the runtime that `GANTRY_OCI` names, or with ours as it stands.
pub fn main(args: &[String]) -> Result<ExitCode> {
    let runtime = match std::env::var_os("GANTRY_OCI") {
        Some(path) => PathBuf::from(path),
        None => crate::dist::runtime()?,
    };
    let directory = sh::dir_from_env("GANTRY_DEMO_DIR", "/var/tmp/gantry-demo");
    let mut command = Command::new("bash");
    match args {
        [] => {
            image(&directory)?;
            command.args(["-c", ENGINE, "demo"]).arg(crate::dist::quick_program()?).arg(runtime).arg(directory)
        }
        [what] if what == "runtime" => {
            command.args(["-c", RUNTIME, "demo"]).arg(runtime).arg(directory);
            command.arg(sh::root().join("crates/gantry-seccomp/tests/seccomp/fixtures/docker-x86_64.json"))
        }
        _ => bail!("usage: cargo xtask demo [runtime]"),
    };
    Ok(sh::exit_code(sh::status(&mut command)?))
}

/// The archive of nginx's image, made once.
fn image(directory: &Path) -> Result<()> {
    let archive = directory.join("nginx.tar");
    if !archive.exists() {
        println!("making an image from Debian's packages in {} (about half a minute; it is kept)", directory.display());
    }
    debian::archive(&archive, &["nginx-light"], &[])
}
