//! Command lines as data: what they mean, what help says, and what is refused.

use std::fmt::Write as _;

use clap::{CommandFactory, Parser};

use super::Cli;

/// All commands, with those of groups, by their names.
fn commands() -> Vec<(String, clap::Command)> {
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut all = Vec::new();
    for command in root.get_subcommands().filter(|c| c.get_name() != "help") {
        all.push((command.get_name().to_owned(), command.clone()));
        for inner in command.get_subcommands().filter(|c| c.get_name() != "help") {
            all.push((format!("{} {}", command.get_name(), inner.get_name()), inner.clone()));
        }
    }
    all
}

#[test]
fn help_texts() {
    let mut out = Cli::command().term_width(100).render_long_help().to_string();
    for (name, mut command) in commands() {
        let _ = write!(out, "\n=== {name}\n{}", command.render_help());
    }
    assert!(out.lines().all(|l| l.chars().count() <= 100), "lines of at most 100 columns");
    insta::assert_snapshot!("help", out);
}

#[test]
fn the_table_is_sound() {
    Cli::command().debug_assert();
}

/// What is wrong with a command line, without what clap adds about usage.
#[test]
fn errors() {
    let lines = [
        "",
        "frobnicate",
        "pul nginx",
        "pull",
        "pull Nginx",
        "pull nginx:",
        "pull nginx@sha256:00",
        "pull --platform linux/x/y/z nginx",
        "pull --platform linux/amd64 --all-platforms nginx",
        "pull --json --quiet nginx",
        "push",
        "push a b",
        "push --compression lz4 a",
        "push --compression-level x a",
        "images --format x --json",
        "images a b",
        "images --frob",
        "rmi",
        "tag a",
        "tag a B",
        "inspect --type service a",
        "run",
        "run --frob a",
        "run --pids-limit x a",
        "exec a",
        "rename a",
        "cp a",
        "network create",
        "network create --driver",
        "volume rm",
        "ps --format x --json",
        "system frob",
        "container",
        "history --human=x a",
        "save",
        "save --format zip a",
        "import",
        "import - Bad",
        "login --password x --password-stdin r",
        "login --password-stdin r",
        "registry",
        "registry tags",
        "registry serve --tls-cert /c",
        "image",
        "image frob",
        "image diff a",
        "system",
        "completion tcsh",
        "--log-level loud images",
        "images --root /x",
    ];
    let mut out = String::new();
    for line in lines {
        let error = Cli::try_parse_from(["gantry"].into_iter().chain(line.split_whitespace())).unwrap_err();
        let text = error.to_string();
        let text = if error.exit_code() == 0 || text.starts_with("Usage") || !text.starts_with("error") {
            format!("(help) {}\n", text.lines().next().unwrap_or_default())
        } else {
            text.split("\nUsage:").next().unwrap_or_default().trim_end().to_owned() + "\n"
        };
        let _ = write!(out, "$ gantry {line}\n[{}] {text}\n", error.exit_code());
    }
    insta::assert_snapshot!("errors", out);
}

/// Docker's own ways of writing flags.
#[test]
fn what_docker_takes() {
    let lines = [
        "pull -q --platform=linux/arm64 nginx",
        "pull -a localhost:5000/a/b",
        "push -q localhost:5000/x:1",
        "images -aq --no-trunc --digests -f dangling=true --filter label=a=b nginx:*",
        "images --format {{.ID}}",
        "image ls --format json",
        "image list",
        "rmi -f a b@sha256:abc 123456",
        "image rm a",
        "tag 123456 a/b:c",
        "inspect -f {{.Id}} --type=image a",
        "history -H=false --no-trunc -q a",
        "history --human a",
        "save -o /tmp/x a b",
        "load -qi /tmp/x",
        "import -c CMD -m text - a:b",
        "export -o x a",
        "login -u me --password-stdin r:5000",
        "logout",
        "image prune -af --filter until=24h",
        "system df -v",
        "version -f {{.Client.Version}}",
        "--root /x --debug images",
        "-D --log-level info images",
        "registry serve --listen 127.0.0.1:0 --root /r --config /c --htpasswd /h --tls-cert /c --tls-key /k",
    ];
    for line in lines {
        if let Err(error) = Cli::try_parse_from(["gantry"].into_iter().chain(line.split_whitespace())) {
            panic!("{line}: {error}");
        }
    }
}
