//! The executable that people install: small, and linked against musl (see .cargo/musl.toml).

use crate::sh;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// Builds the runtime as it is installed, and returns its path.
pub fn runtime() -> Result<PathBuf> {
    let target = sh::target_dir().join("musl");
    let target = target.to_string_lossy();
    let messages = sh::output(&mut sh::cargo(&[
        "--config",
        ".cargo/musl.toml",
        "build",
        "--quiet",
        "--profile",
        "small",
        "--package",
        "gantry-oci",
        "--bin",
        "gantry-oci",
        "--target-dir",
        &target,
        "--message-format=json-render-diagnostics",
    ]))
    .context("build gantry-oci (its linker is musl-gcc, of Debian's package musl-tools)")?;
    let executable = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    });
    executable.context("cargo built no gantry-oci")
}

/// `cargo xtask dist`: builds it and prints its path.
pub fn main(_: &[String]) -> Result<ExitCode> {
    println!("{}", runtime()?.display());
    Ok(ExitCode::SUCCESS)
}
