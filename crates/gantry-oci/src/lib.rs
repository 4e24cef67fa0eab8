//! The command line front of the OCI runtime: what was asked, where it is logged, how a process in the foreground is
//! looked after, and how results are written. What a container is, and how it is made, is in `gantry-runtime`.
//!
//! It is a library so that tests and developer commands read the same table of commands as the executable.

pub mod cli;
pub mod features;
pub mod foreground;
pub mod init;
pub mod log;
pub mod monitor;
pub mod output;
pub mod template;
pub mod time;

/// Says on stderr, past the capture of a test's output, that a test did not run, and why.
#[cfg(test)]
fn skipped(why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
