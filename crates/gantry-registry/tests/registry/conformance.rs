//! The conformance program of the Open Container Initiative, where somebody has built it: `go build` in the folder
//! `conformance` of its distribution-spec. `GANTRY_CONFORMANCE` is the path of the program. It runs with everything on,
//! also what the specification leaves open.

use std::io::Write as _;
use std::process::Command;

use crate::kit::{Directory, Server};

/// The fewest checks that have to pass: the program of this comment's day has 978, and 4 that it skips, about mounts
/// without a source and a range that runs backwards.
const LEAST: u64 = 860;

/// What is off unless it is asked for.
const ON: [&str; 4] = [
    "OCI_API_BLOBS_DIGEST_HEADER",
    "OCI_API_BLOBS_UPLOAD_CANCEL",
    "OCI_API_MANIFESTS_DIGEST_HEADER",
    "OCI_API_MANIFESTS_TAG_PARAM",
];

#[test]
fn the_conformance_program() {
    let Some(program) = std::env::var_os("GANTRY_CONFORMANCE") else {
        // The harness would hide what is printed by a test that passes.
        let why = "GANTRY_CONFORMANCE names no conformance program";
        let _ = writeln!(std::io::stderr(), "SKIPPED conformance::the_conformance_program: {why}");
        return;
    };
    let (server, results) = (Server::start(""), Directory::new());
    let mut command = Command::new(program);
    command.current_dir(results.path()).env("OCI_RESULTS_DIR", results.path()).env("OCI_VERSION", "dev");
    command.env("OCI_REGISTRY", server.address.to_string()).env("OCI_TLS", "disabled");
    command.envs(ON.map(|name| (name, "true")));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    // `  Pass..........................:        978`
    let count = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix('.'));
        let line = line.unwrap_or_else(|| panic!("no {name}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let (passed, failed, errors, skipped) = (count("Pass"), count("FAIL"), count("Error"), count("Skip"));
    let _ = writeln!(std::io::stderr(), "conformance: {passed} passed, {failed} failed, {skipped} skipped there");
    let wrong: Vec<&str> = text.lines().filter(|line| line.contains("FAIL") || line.contains("Error")).collect();
    assert!(output.status.success() && failed == 0 && errors == 0 && passed >= LEAST, "{}", wrong.join("\n"));
}
