//! The second disk: the executables that we built, the project's files, and the command to run.

use super::boot::Request;
use crate::sh;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Stdio;

/// Writes the second disk of a boot at `disk`, by way of the directory `staging`, which it makes.
pub fn write(request: &Request, staging: &Path, disk: &Path) -> Result<()> {
    fs::create_dir_all(staging.join("bin"))?;
    for binary in &request.binaries {
        let to = staging.join("bin").join(&binary.name);
        fs::copy(&binary.path, &to).with_context(|| format!("copy {}", binary.path.display()))?;
    }
    copy_repository(&staging.join("repo"))?;
    let guest = sh::root().join("xtask/guest");
    for name in ["init", "supervise"] {
        fs::copy(guest.join(name), staging.join(name)).with_context(|| format!("copy the guest's {name}"))?;
    }
    fs::write(staging.join("environment"), environment(request))?;
    fs::write(staging.join("command"), &request.script)?;
    // Room for the files, and a little for the file system's own tables.
    let used = sh::output(sh::command("du", &["-sk"]).arg(staging))?;
    let kilobytes: u64 = used.split_whitespace().next().and_then(|n| n.parse().ok()).context("read du's output")?;
    let size = format!("{}k", kilobytes + kilobytes / 8 + 8192);
    sh::run(
        sh::command("mke2fs", &["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d"])
            .arg(staging)
            .arg(disk)
            .arg(size)
            .stdout(Stdio::null()),
    )
}

/// The environment of the guest's command, as a file for its shell. An emulated processor is slow: tests that limit
/// themselves in time get eight times as much.
fn environment(request: &Request) -> String {
    format!(
        "GANTRY_REPO='{0}'\nGANTRY_VM_BOOT={boot}\nGANTRY_LANE=vm-{boot}\nGANTRY_OCI=/gantry/bin/gantry-oci\nRUST_BACKTRACE=1\nGANTRY_TEST_SLOW=8\n\
         INSTA_WORKSPACE_ROOT='{0}'\nINSTA_UPDATE=no\n",
        sh::root().display(),
        boot = request.boot.name()
    )
}

/// Copies the files that git knows of, as they are in the work tree: tests read their data from there.
fn copy_repository(to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let list = "git ls-files -z --cached --others --exclude-standard | \
                while IFS= read -r -d '' f; do [[ -e $f ]] && printf '%s\\0' \"$f\"; done | \
                tar --null --no-recursion -T - -c | tar -x -C \"$1\" --no-same-owner";
    sh::run(sh::command("bash", &["-o", "pipefail", "-c", list, "copy"]).arg(to).stdin(Stdio::null()))
}
