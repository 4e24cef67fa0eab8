//! Man pages, in roff with the man macros, from the table.

use std::fmt::Write as _;

use super::help::synopsis;
use super::table::{ABOUT, COMMANDS, CommandSpec, Flag, GLOBAL, HELP, PROGRAM, VERSION};

/// The page of the program, with all commands.
pub fn page() -> String {
    let mut out = head(PROGRAM, ABOUT);
    let _ =
        writeln!(out, ".SH SYNOPSIS\n.B {}\n[\\fIGLOBAL OPTIONS\\fR] \\fICOMMAND\\fR [\\fIOPTIONS\\fR]", roff(PROGRAM));
    out.push_str("[\\fIARGUMENTS\\fR]\n.SH GLOBAL OPTIONS\nThey stand before or after the command.\n");
    options(&mut out, GLOBAL.iter().chain([&HELP, &VERSION]));
    out.push_str(".SH COMMANDS\n");
    for command in COMMANDS {
        let _ = writeln!(out, ".SS \"{}\"", roff(&synopsis(command)));
        body(&mut out, command);
    }
    out.push_str(".SH EXIT STATUS\n");
    paragraph(
        &mut out,
        "0 on success, 1 on an error, which stderr and the log tell of. `run`, `exec` and `restore` in the foreground \
         exit as the container's process did: with its code, or with 128 and the number of the signal that ended it. \
         A process that `exec` cannot start is 255.",
    );
    out
}

/// The page of a command.
pub fn command_page(spec: &CommandSpec) -> String {
    let mut out = head(&format!("{PROGRAM}-{}", spec.name), spec.about);
    let _ = writeln!(out, ".SH SYNOPSIS\n.B {}\n[\\fIGLOBAL OPTIONS\\fR] {}", roff(PROGRAM), roff(&synopsis(spec)));
    out.push_str(".SH DESCRIPTION\n");
    let about = spec.about;
    paragraph(&mut out, &format!("{}{}.", about[..1].to_uppercase(), &about[1..]));
    if !spec.detail.is_empty() {
        paragraph(&mut out, spec.detail);
    }
    if spec.flags.iter().any(|f| !f.hidden) {
        out.push_str(".SH OPTIONS\n");
        options(&mut out, spec.flags.iter());
    }
    let _ = writeln!(out, ".SH SEE ALSO\n.BR {} (8)", roff(PROGRAM));
    out
}

fn head(name: &str, about: &str) -> String {
    let title = name.to_uppercase();
    let version = env!("CARGO_PKG_VERSION");
    format!(
        ".TH \"{}\" 8 \"\" \"{} {version}\"\n.SH NAME\n{} \\- {}\n",
        roff(&title),
        roff(PROGRAM),
        roff(name),
        roff(about)
    )
}

fn body(out: &mut String, spec: &CommandSpec) {
    paragraph(out, if spec.detail.is_empty() { spec.about } else { spec.detail });
    options(out, spec.flags.iter());
}

fn options<'a>(out: &mut String, flags: impl Iterator<Item = &'a Flag>) {
    for flag in flags.filter(|f| !f.hidden) {
        out.push_str(".TP\n");
        if let Some(letter) = flag.short {
            let _ = write!(out, "\\fB\\-{letter}\\fR, ");
        }
        let _ = write!(out, "\\fB{}\\fR", roff(&format!("--{}", flag.long)));
        if let Some(value) = flag.value {
            let _ = write!(out, " \\fI{}\\fR", roff(value));
        }
        out.push('\n');
        paragraph(out, flag.help);
    }
}

fn paragraph(out: &mut String, text: &str) {
    // A line that begins with a dot or an apostrophe would be a request.
    let guard = if text.starts_with(['.', '\'']) { "\\&" } else { "" };
    let _ = writeln!(out, "{guard}{}", roff(text));
}

/// Text as roff takes it literally.
fn roff(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '"' => out.push_str("\\(dq"),
            '`' => out.push_str("\\(ga"),
            c => out.push(c),
        }
    }
    out
}
