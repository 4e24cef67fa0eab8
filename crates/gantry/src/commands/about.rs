//! The program itself: its version, completions and manual pages.

use clap::CommandFactory;
use clap_complete::shells;
use gantry_model::platform::Platform;

use crate::cli::{Cli, Completion, Man, Shell, Version};
use crate::failure::{Of, Outcome};
use crate::template::{Template, Value};
use crate::terminal;

/// `version`.
pub fn version(args: &Version) -> Outcome {
    let document = document();
    let text = match args.format.as_deref() {
        None if !args.json => text(&document),
        None | Some("json") => serde_json::to_string(&document)? + "\n",
        Some(format) => Template::parse(format)?.render(&document)? + "\n",
    };
    terminal::print(&text)
}

/// What there is to say about a version, under the names that Docker has.
fn document() -> Value {
    let host = Platform::host();
    let text = |text: &str| Value::Text(text.to_owned());
    let client = Value::row([
        ("Version", text(env!("CARGO_PKG_VERSION"))),
        ("Os", text(&host.os)),
        ("Arch", text(&host.architecture)),
    ]);
    Value::row([("Client", client)])
}

fn text(document: &Value) -> String {
    let field = |name: &str| document.get("Client").and_then(|client| client.get(name)).cloned().unwrap_or_default();
    format!("gantry version {}\nplatform: {}/{}\n", field("Version"), field("Os"), field("Arch"))
}

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

    #[test]
    fn versions() {
        let document = document();
        assert!(text(&document).starts_with(concat!(
            "gantry version ",
            env!("CARGO_PKG_VERSION"),
            "\nplatform: linux/"
        )));
        let template = Template::parse("{{.Client.Version}}").unwrap();
        assert_eq!(template.render(&document).unwrap(), env!("CARGO_PKG_VERSION"));
    }

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
