//! The program that runs inside a container under test, by itself.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    gantry_testkit::probe::main(&args)
}
