//! Help texts and the version, from the table.

use std::fmt::Write as _;

use super::table::{ABOUT, COMMANDS, CommandSpec, Flag, GLOBAL, HELP, PROGRAM, VERSION};

/// Columns of a help text.
const WIDTH: usize = 100;

/// Columns of the part that names flags.
const NAMES: usize = 34;

/// The version of the OCI runtime specification that is followed.
pub const SPEC_VERSION: &str = "1.3.0";

/// What the runtime can do beyond the specification's core, in the words by which engines and test suites look for it.
const ABILITIES: &str = "+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +CRIU";

/// The text of `--version`: the first line ends in the version, as engines look for it.
pub fn version() -> String {
    format!("{PROGRAM} version {}\nspec: {SPEC_VERSION}\n{ABILITIES}\n", env!("CARGO_PKG_VERSION"))
}

/// A command and its arguments, as usage lines show them.
pub(super) fn synopsis(spec: &CommandSpec) -> String {
    let mut out = spec.name.to_owned();
    if !spec.flags.is_empty() {
        out.push_str(" [OPTIONS]");
    }
    for argument in spec.arguments {
        let _ = write!(out, " {argument}");
    }
    out
}

/// The names of a flag with its value, as `-b, --bundle DIR`.
pub(super) fn names(flag: &Flag) -> String {
    let letter = flag.short.map_or("    ".to_owned(), |c| format!("-{c}, "));
    let value = flag.value.map(|v| format!(" {v}")).unwrap_or_default();
    format!("{letter}--{}{value}", flag.long)
}

/// The text of `--help`.
pub fn help() -> String {
    let mut out = format!("{ABOUT}\n\nUsage: {PROGRAM} [GLOBAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]\n\nCommands:\n");
    for command in COMMANDS {
        entry(&mut out, command.name, command.about, 14);
    }
    out.push_str("\nGlobal options, before or after the command:\n");
    flags(&mut out, GLOBAL.iter().chain([&HELP]));
    out.push_str("\nBefore the command only:\n");
    flags(&mut out, [&VERSION].into_iter());
    let _ = write!(out, "\n`{PROGRAM} COMMAND --help` tells of a command.\n");
    out
}

/// The text of `COMMAND --help`.
pub fn command_help(spec: &CommandSpec) -> String {
    let mut out = String::new();
    let about = spec.about;
    // The table's lines are parts of sentences; here one stands alone.
    let _ = writeln!(out, "{}{}", about[..1].to_uppercase(), &about[1..]);
    let _ = write!(out, "\nUsage: {PROGRAM} [GLOBAL OPTIONS] {}\n", synopsis(spec));
    if !spec.detail.is_empty() {
        out.push('\n');
        for line in wrap(spec.detail, WIDTH) {
            let _ = writeln!(out, "{line}");
        }
    }
    out.push_str("\nOptions:\n");
    flags(&mut out, spec.flags.iter().chain([&HELP]));
    let _ = write!(out, "\nGlobal options: see `{PROGRAM} --help`.\n");
    out
}

fn flags<'a>(out: &mut String, flags: impl Iterator<Item = &'a Flag>) {
    for flag in flags.filter(|f| !f.hidden) {
        let more = if flag.repeats { " (may be repeated)" } else { "" };
        entry(out, &names(flag), &format!("{}{more}", flag.help), NAMES);
    }
}

/// A name and its explanation in columns; a name that is too long has a line to itself.
fn entry(out: &mut String, name: &str, text: &str, width: usize) {
    let mut lines = wrap(text, WIDTH - width - 2).into_iter();
    if name.len() < width {
        let _ = writeln!(out, "  {name:<width$}{}", lines.next().unwrap_or_default());
    } else {
        let _ = writeln!(out, "  {name}");
    }
    for line in lines {
        let _ = writeln!(out, "  {:width$}{line}", "");
    }
}

/// Breaks a text into lines of at most `width` columns, at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
