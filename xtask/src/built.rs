//! What the tests run: built once, for all lanes.

use crate::sh;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// An executable, under the name that it is told and, in a guest, called by.
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

/// What an executable is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Tests.
    Tests,
    /// A program, as its package's tests use it.
    Program,
}

/// Builds the tests of all packages, and gives the executables of some.
pub fn of(packages: &[&str], kind: Kind) -> Result<Vec<Binary>> {
    let mut cargo = crate::test::cargo_test();
    cargo.args(["--no-run", "--message-format=json-render-diagnostics"]);
    let messages = sh::output(&mut cargo).context("build the tests")?;
    let binaries: Vec<Binary> = messages.lines().filter_map(|line| artifact(line, packages, kind)).collect();
    if binaries.is_empty() {
        bail!("of {} no executable was built", packages.join(", "));
    }
    Ok(binaries)
}

/// The executable that a message of cargo tells of. Tests are named after their package and their file.
fn artifact(message: &str, packages: &[&str], kind: Kind) -> Option<Binary> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let path = PathBuf::from(message.get("executable")?.as_str()?);
    let tests = kind == Kind::Tests;
    if message.pointer("/profile/test")?.as_bool()? != tests {
        return None;
    }
    let target = message.pointer("/target/name")?.as_str()?;
    let package = Path::new(message.get("manifest_path")?.as_str()?).parent()?.file_name()?.to_str()?;
    if !packages.contains(&package) {
        return None;
    }
    let unit = target.replace('_', "-") == package;
    let name = match (tests, unit) {
        (false, _) => target.to_owned(),
        (true, true) => format!("{package}{UNIT}"),
        (true, false) => format!("{package}.{target}"),
    };
    Some(Binary { name, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_in_cargo_messages() {
        let check = |kind: Kind, message: &str, expect: Option<&str>| {
            let found = artifact(message, &["gantry-oci"], kind).map(|binary| binary.name);
            assert_eq!(found.as_deref(), expect, "{message}");
            assert_eq!(artifact(message, &["gantry"], kind), None, "{message}");
        };
        let message = |name: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/crates/gantry-oci/Cargo.toml",
                "target":{{"name":"{name}"}},"profile":{{"test":{test}}},"executable":"/t/x"}}"#
            )
            .replace('\n', "")
        };
        check(Kind::Program, &message("gantry-oci", false), Some("gantry-oci"));
        check(Kind::Tests, &message("gantry-oci", false), None);
        check(Kind::Tests, &message("gantry-oci", true), Some("gantry-oci.unit"));
        check(Kind::Tests, &message("integration", true), Some("gantry-oci.integration"));
        check(Kind::Tests, r#"{"reason":"build-finished","success":true}"#, None);
        check(Kind::Tests, "not json", None);
    }
}
