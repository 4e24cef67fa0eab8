//! The integration tests of the runtime: each makes real containers with the executable's own command line.
//!
//! The runtime under test is the one that Cargo built, or what `GANTRY_OCI` names: any runtime with the usual command
//! line can stand in, which shows whether a test asks for more than the specification does. `GANTRY_TEST_SLOW` stretches
//! every time limit by a factor. This executable is also the program inside the containers: called `init`, it is the
//! probe of the test kit.

mod check;
mod checkpoint;
mod console;
mod crash;
mod exec;
mod hooks;
mod input;
mod lifecycle;
mod limits;
mod manage;
mod monitor;
mod mounts;
mod namespaces;
mod process;
mod rootless;
mod seccomp;
mod security;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use gantry_testkit::harness::{self, Options};
use gantry_testkit::{Kit, Test, host, probe};

/// Set once the tests have a mount namespace of their own.
const ISOLATED: &str = "GANTRY_TEST_ISOLATED";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let called = args.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    if called == "init" || called == "gantry-probe" {
        return probe::main(&args);
    }
    let options = Options::parse(args.get(1..).unwrap_or_default());
    if let Some(error) = isolate(&args) {
        eprintln!("the tests run in this mount namespace, without one of their own: {error}");
    }
    match prepare() {
        Ok(kit) => harness::main(tests(), &Arc::new(kit), &options),
        Err(error) => {
            eprintln!("the tests cannot be prepared: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All tests.
fn tests() -> Vec<Test> {
    let areas = [
        process::tests,
        namespaces::tests,
        mounts::tests,
        lifecycle::tests,
        exec::tests,
        hooks::tests,
        console::tests,
        checkpoint::tests,
        limits::tests,
        manage::tests,
        monitor::tests,
        input::tests,
        rootless::tests,
        seccomp::tests,
        security::tests,
        crash::tests,
    ];
    areas.iter().flat_map(|area| area()).collect()
}

/// Runs this program again in a mount namespace of its own, so that nothing a test mounts is seen by the machine or
/// stays in it. Returns only when that cannot be done.
fn isolate(args: &[String]) -> Option<std::io::Error> {
    if std::env::var_os(ISOLATED).is_some() || args.iter().any(|word| word == "--list") {
        return None;
    }
    let own = std::env::current_exe().ok()?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(own).args(args.get(1..)?);
    Some(command.env(ISOLATED, "1").exec())
}

/// Finds the runtime, and makes what all tests share.
fn prepare() -> std::io::Result<Kit> {
    // Orphans come to this process, so that tests see how containers end.
    gantry_testkit::reaper::start()?;
    let runtime =
        std::env::var_os("GANTRY_OCI").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_gantry-oci")), PathBuf::from);
    if !runtime.is_file() {
        return Err(std::io::Error::other(format!("no runtime at {}: set GANTRY_OCI", runtime.display())));
    }
    let slow = std::env::var("GANTRY_TEST_SLOW").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let kit = Kit::new(&runtime, &std::env::current_exe()?, slow)?;
    eprintln!(
        "runtime {}; cgroups {:?}; security modules {:?}",
        runtime.display(),
        kit.cgroups.mode,
        host::security_modules()
    );
    Ok(kit)
}
