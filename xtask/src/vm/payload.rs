//! The second disk: the executables that we built, the project's files, and the command to run.

use super::boot::Request;
use crate::sh;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// An executable for the guest, under the name that it has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    pub name: String,
    pub path: PathBuf,
}

impl Binary {
    /// A file under its own name.
    pub fn of_file(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { name, path: path.to_path_buf() }
    }

    /// Whether it holds the tests inside a crate, rather than those beside it.
    pub fn is_unit(&self) -> bool {
        self.name.strip_suffix(UNIT).is_some()
    }
}

const UNIT: &str = ".unit";

/// Builds the executables of packages.
pub fn build(packages: &[&str]) -> Result<Vec<Binary>> {
    const RUNTIME: &str = "gantry-oci";
    let mut binaries = Vec::new();
    if packages.contains(&RUNTIME) {
        // What is tested is what is installed.
        binaries.push(Binary { name: RUNTIME.to_owned(), path: crate::dist::runtime()? });
    }
    let others: Vec<&str> = packages.iter().copied().filter(|package| *package != RUNTIME).collect();
    if !others.is_empty() {
        binaries.extend(cargo_artifacts("build", &others)?);
    }
    Ok(binaries)
}

/// Builds the test executables of packages.
pub fn build_tests(packages: &[&str]) -> Result<Vec<Binary>> {
    cargo_artifacts("test", packages)
}

fn cargo_artifacts(subcommand: &str, packages: &[&str]) -> Result<Vec<Binary>> {
    let mut cargo = sh::cargo(&[subcommand, "--message-format=json-render-diagnostics"]);
    if subcommand == "test" {
        cargo.arg("--no-run");
    }
    for package in packages {
        cargo.args(["--package", package]);
    }
    let messages = sh::output(&mut cargo).with_context(|| format!("build {}", packages.join(", ")))?;
    let binaries: Vec<Binary> = messages.lines().filter_map(|line| artifact(line, subcommand == "test")).collect();
    if binaries.is_empty() {
        bail!("{} built no executable", packages.join(", "));
    }
    Ok(binaries)
}

/// The executable that a message of cargo tells of. Tests are named after their package and their file.
fn artifact(message: &str, tests: bool) -> Option<Binary> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let path = PathBuf::from(message.get("executable")?.as_str()?);
    if message.pointer("/profile/test")?.as_bool()? != tests {
        return None;
    }
    let target = message.pointer("/target/name")?.as_str()?;
    let package = Path::new(message.get("manifest_path")?.as_str()?).parent()?.file_name()?.to_str()?;
    let unit = target.replace('_', "-") == package;
    let name = match (tests, unit) {
        (false, _) => target.to_owned(),
        (true, true) => format!("{package}{UNIT}"),
        (true, false) => format!("{package}.{target}"),
    };
    Some(Binary { name, path })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_in_cargo_messages() {
        let check = |tests: bool, message: &str, expect: Option<&str>| {
            assert_eq!(artifact(message, tests).map(|binary| binary.name).as_deref(), expect, "{message}");
        };
        let message = |name: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/crates/gantry-oci/Cargo.toml",
                "target":{{"name":"{name}"}},"profile":{{"test":{test}}},"executable":"/t/x"}}"#
            )
            .replace('\n', "")
        };
        check(false, &message("gantry-oci", false), Some("gantry-oci"));
        check(true, &message("gantry-oci", false), None);
        check(true, &message("gantry-oci", true), Some("gantry-oci.unit"));
        check(true, &message("integration", true), Some("gantry-oci.integration"));
        check(true, r#"{"reason":"build-finished","success":true}"#, None);
        check(true, "not json", None);
    }
}
