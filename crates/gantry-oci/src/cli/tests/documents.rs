//! Help, man pages and completions, and whether their readers take them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::cli::table::COMMANDS;
use crate::cli::{self, Shell, command_help, command_page, completions, help, page, parse, version};

#[test]
fn help_texts() {
    let mut out = help();
    for spec in COMMANDS {
        let _ = write!(out, "\n=== {}\n{}", spec.name, command_help(spec));
    }
    assert!(out.lines().all(|l| l.len() <= 100), "lines of at most 100 columns");
    insta::assert_snapshot!("help", out);
}

/// What asks for a text gets it.
#[test]
fn texts() {
    let check = |line: &[&str], expect: &str| {
        let invocation = parse(line.iter().map(Into::into)).unwrap();
        assert_eq!(invocation.command, cli::Command::Print(expect.to_owned()), "{line:?}");
    };
    let run = command_help(cli::table::command("run").unwrap());
    check(&["--help"], &help());
    check(&["-h"], &help());
    check(&["help"], &help());
    check(&["run", "--help"], &run);
    check(&["run", "-h", "--bundle", "/b", "a", "b"], &run);
    check(&["help", "run"], &run);
    check(&["--version"], &version());
    check(&["-v"], &version());
    check(&["-V"], &version());
    check(&["man"], &page());
    check(&["man", "run"], &command_page(cli::table::command("run").unwrap()));
    check(&["completions", "zsh"], &completions(Shell::Zsh));
}

/// Engines take the name before the word and the version after it.
#[test]
fn version_is_found() {
    let text = version();
    let (name, number) = text.lines().next().unwrap().split_once(" version ").unwrap();
    assert_eq!((name, number), ("gantry-oci", env!("CARGO_PKG_VERSION")));
    assert!(text.contains("\nspec: 1.3.0\n"));
}

/// Feeds `text` to a program, which must take it without a word; says so if there is no such program.
fn taken_by(program: &[&str], text: &str) {
    let spawned = Command::new(program[0])
        .args(&program[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        return crate::skipped(&format!("{} is not installed, and did not read what is written for it", program[0]));
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{program:?}: {}\n{said}", output.status);
}

#[test]
fn shells_take_completions() {
    taken_by(&["bash", "-n"], &completions(Shell::Bash));
    taken_by(&["zsh", "-n"], &completions(Shell::Zsh));
    taken_by(&["fish", "-n"], &completions(Shell::Fish));
}

#[test]
fn groff_takes_pages() {
    for page in COMMANDS.iter().map(command_page).chain([page()]) {
        taken_by(&["groff", "-man", "-ww", "-z", "-Tutf8"], &page);
    }
}

#[test]
fn man_page() {
    insta::assert_snapshot!("man-kill", command_page(cli::table::command("kill").unwrap()));
}

/// Completes the last word by the script, in bash.
#[test]
fn bash_completes() {
    let script = completions(Shell::Bash);
    let check = |words: &[&str], expect: &str| {
        let quoted: Vec<String> = words.iter().map(|w| format!("'{w}'")).collect();
        let test = format!(
            "{script}\ngantry-oci() {{ echo \"ids $*\"; }}\nCOMP_WORDS=(gantry-oci {})\nCOMP_CWORD={}\n_gantry_oci\n\
             echo \"${{COMPREPLY[@]}}\"",
            quoted.join(" "),
            words.len()
        );
        let output = Command::new("bash").args(["--norc", "-c", &test]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), expect, "{words:?}");
    };
    if Command::new("bash").arg("--version").output().is_err() {
        return crate::skipped("bash is not installed, and did not complete");
    }
    check(&["re"], "resume restore");
    check(&["--log-format", ""], "text json");
    check(&["--log-format", "json", "fea"], "features");
    check(&["--sys"], "--systemd-cgroup");
    check(&["--root", "/r", "state", ""], "ids --root /r list -q");
    check(&["checkpoint", "--pre"], "--pre-dump");
    check(&["checkpoint", "--manage-cgroups-mode", "s"], "soft strict");
    check(&["list", "-f", "j"], "json");
    check(&["list", "--log-format", "j"], "json");
    check(&["--rootless", ""], "true false auto");
    check(&["spec", "--rootless", "--b"], "--bundle");
    check(&["mounts", "a"], "add");
    check(&["mounts", "add", "i"], "ids");
    check(&["completions", "f"], "fish");
    check(&["help", "chec"], "checkpoint");
    check(&["exec", "-u", "1", "web", "x"], "");
    check(&["start", "web", "x"], "");
}
