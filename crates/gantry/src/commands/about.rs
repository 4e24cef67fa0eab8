//! The program itself: its version, completions and manual pages.

use clap::CommandFactory;
use clap_complete::shells;

use crate::cli::{Cli, Completion, Man, Shell};
use crate::failure::{Of, Outcome};
use crate::terminal;

/// `completion`.
pub fn completion(args: &Completion) -> Outcome {
    terminal::print(&String::from_utf8_lossy(&script(args.shell)))
}

fn script(shell: Shell) -> Vec<u8> {
    let (mut command, mut out) = (Cli::command(), Vec::new());
    match shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut command, "gantry", &mut out),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, "gantry", &mut out),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut command, "gantry", &mut out),
    }
    out
}

/// `man`.
pub fn man(args: &Man) -> Outcome {
    let what = || format!("write manual pages into {}", args.dir.display());
    std::fs::create_dir_all(&args.dir).of(what())?;
    clap_mangen::generate_to(Cli::command(), &args.dir).of(what())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// Feeds `text` to a program, which must take it without a word; says so if there is no such program.
    fn taken_by(program: &[&str], text: &[u8]) {
        let spawned = Command::new(program[0])
            .args(&program[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = spawned else {
            return eprintln!("SKIPPED: {} is not installed, and did not read what is written for it", program[0]);
        };
        child.stdin.take().unwrap().write_all(text).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{program:?}: {}\n{said}", output.status);
    }

    #[test]
    fn shells_take_completions() {
        taken_by(&["bash", "-n"], &script(Shell::Bash));
        taken_by(&["zsh", "-n"], &script(Shell::Zsh));
        taken_by(&["fish", "-n"], &script(Shell::Fish));
    }
}
