//! Developer commands: what a contributor runs that is more than one `cargo` call.
//!
//! Everything here drives other programs (cargo, qemu, mmdebstrap, the peers). Nothing of the product lives in this
//! crate, and it depends on no other crate of the workspace, so that it builds while they do not.

mod bench;
mod built;
mod counts;
mod debian;
mod demo;
mod dist;
mod fuzz;
mod peers;
mod s3;
mod sdk;
mod session;
mod sh;
mod test;
mod tidy;
mod vm;

use anyhow::{Result, bail};
use std::process::ExitCode;

/// A developer command: takes its arguments and says with which status to exit.
type Command = fn(&[String]) -> Result<ExitCode>;

/// Every command: its name, what it does in a line, and its function.
const COMMANDS: &[(&str, &str, Command)] = &[
    ("bench", "measure ours beside the peers", bench::main),
    (
        "demo",
        "nginx from Debian, from the image to the last trace; `demo runtime`: a container from both sides",
        demo::main,
    ),
    ("dist", "build what is installed, and print where it is", dist::main),
    ("fuzz", "damaged input for everything that reads what comes from outside", fuzz::main),
    ("peers", "a box with the real engines and runtimes: install it, run commands in it", peers::main),
    ("sdk", "docker-py beside the real engine, and testcontainers with real databases", sdk::main),
    ("session", "the docker client's script against the Docker Engine and against ours", session::main),
    ("test", "every lane of tests, with the counts of each at the end", test::main),
    ("tidy", "check the promises of ARCHITECTURE.md that no compiler checks", tidy::main),
    ("vm", "run a command, or the whole suite, in a virtual machine with cgroup v2 alone", vm::main),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<ExitCode> {
    let Some((name, rest)) = args.split_first() else {
        eprint!("{}", usage());
        return Ok(ExitCode::from(2));
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", usage());
        return Ok(ExitCode::SUCCESS);
    }
    match COMMANDS.iter().find(|(known, ..)| known == name) {
        Some((_, _, command)) => command(rest),
        None => bail!("unknown command {name:?}; `cargo xtask help` lists them"),
    }
}

fn usage() -> String {
    let lines = COMMANDS.iter().map(|(name, what, _)| format!("  {name:<8} {what}\n"));
    format!("usage: cargo xtask COMMAND ...\n\n{}", lines.collect::<String>())
}
