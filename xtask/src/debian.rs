//! File systems of Debian's packages as archives, for images that people know.

use crate::sh;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

/// The release that the packages are of.
const RELEASE: &str = "bookworm";

/// What no container reads.
const LEFT_OUT: &[&str] = &["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"];

/// Makes an archive of packages and what they need, unless it is there. `programs` are files of the work tree that go
/// to `/usr/local/bin`.
///
/// It is made beside its place and moved there when it is whole.
pub fn archive(path: &Path, packages: &[&str], programs: &[&str]) -> Result<()> {
    if fs::metadata(path).is_ok_and(|found| found.len() > 0) {
        return Ok(());
    }
    ensure!(sh::has("mmdebstrap"), "mmdebstrap is missing: run 'make setup'");
    let directory = path.parent().context("an archive lies in a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    // It compresses by the end of the name, so that end stays.
    let new = path.with_extension("new.tar");
    let mut command = sh::command("mmdebstrap", &["--quiet", "--variant=minbase"]);
    command.arg("--keyring=/usr/share/keyrings/debian-archive-keyring.gpg");
    command.args(["--aptopt=APT::Sandbox::User \"root\"", &format!("--include={}", packages.join(","))]);
    command.args(LEFT_OUT.iter().map(|glob| format!("--dpkgopt=path-exclude={glob}")));
    if !programs.is_empty() {
        command.arg(format!("--customize-hook=copy-in {} /usr/local/bin", programs.join(" ")));
    }
    sh::run(command.arg(RELEASE).arg(&new))?;
    fs::rename(&new, path).with_context(|| format!("move {} to its place", new.display()))
}
