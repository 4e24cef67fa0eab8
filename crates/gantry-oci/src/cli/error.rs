//! What can be wrong with a command line.

use gantry_model::InvalidId;

use super::table::PROGRAM;

/// Why a command line is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// There is no command.
    #[error("no command given; see `{PROGRAM} --help`")]
    NoCommand,
    /// The command is not in the table.
    #[error("unknown command {name:?}{}; see `{PROGRAM} --help`", did_you_mean(.nearest.as_deref()))]
    UnknownCommand {
        /// What was given.
        name: String,
        /// A command that is spelled almost so.
        nearest: Option<String>,
    },
    /// The flag is not in the table.
    #[error("{}unknown flag {flag:?}{}; see `{PROGRAM}{} --help`", at(.command), did_you_mean(.nearest.as_deref()), after(.command))]
    UnknownFlag {
        /// The command, empty before one.
        command: &'static str,
        /// What was given, with its dashes.
        flag: String,
        /// A flag that is spelled almost so, with its dashes.
        nearest: Option<String>,
    },
    /// The flag stands last, and takes a value.
    #[error("{}flag {flag:?} needs a value: {value}", at(.command))]
    MissingValue {
        /// The command, empty before one.
        command: &'static str,
        /// The flag, with its dashes.
        flag: String,
        /// What the value is called.
        value: &'static str,
    },
    /// The value of a flag or argument cannot be used.
    #[error("{}{name} is {value:?}, but must be {expected}", at(.command))]
    BadValue {
        /// The command, empty before one.
        command: &'static str,
        /// The flag with its dashes, or the argument.
        name: String,
        /// What was given.
        value: String,
        /// What it can be.
        expected: String,
    },
    /// Arguments are missing.
    #[error("{command}: {missing} is missing; usage: {PROGRAM} {usage}")]
    TooFew {
        /// The command.
        command: &'static str,
        /// The first argument that is missing.
        missing: &'static str,
        /// The command and its arguments.
        usage: String,
    },
    /// There are more arguments than the command takes.
    #[error("{command}: unexpected argument {extra:?}; usage: {PROGRAM} {usage}")]
    TooMany {
        /// The command.
        command: &'static str,
        /// The first that is too much.
        extra: String,
        /// The command and its arguments.
        usage: String,
    },
    /// `exec` has neither a command nor `--process`.
    #[error("exec: no command to run in {0}; give one after the container, or a file by --process")]
    NothingToExec(String),
    /// The container's name is none.
    #[error("{command}: {source}")]
    Id {
        /// The command.
        command: &'static str,
        /// What is wrong with it.
        source: InvalidId,
    },
    /// A text is not UTF-8, where documents that must be are made of it.
    #[error("{}{name} is not UTF-8: {value}", at(.command))]
    NotUtf8 {
        /// The command, empty before one.
        command: &'static str,
        /// The flag with its dashes, or the argument.
        name: String,
        /// What was given, with the replacement character where it is broken.
        value: String,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|n| format!(" (did you mean {n:?}?)")).unwrap_or_default()
}

fn at(command: &str) -> String {
    if command.is_empty() { String::new() } else { format!("{command}: ") }
}

fn after(command: &str) -> String {
    if command.is_empty() { String::new() } else { format!(" {command}") }
}

/// The candidate that `given` is most likely a misspelling of, if any is near enough.
pub(super) fn nearest<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A name longer than any of ours is not worth the quadratic comparison.
    if given.len() > 40 {
        return None;
    }
    let limit = 1 + given.len() / 4;
    candidates.map(|c| (distance(given, c), c)).filter(|&(d, _)| d <= limit).min_by_key(|&(d, _)| d).map(|(_, c)| c)
}

/// Levenshtein's distance: insertions, removals and replacements from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings() {
        let check = |given: &str, expect: Option<&str>| {
            let known = ["bundle", "pid-file", "detach", "console-socket", "run", "resume"];
            assert_eq!(nearest(given, known.into_iter()), expect, "{given:?}");
        };
        check("bundel", Some("bundle"));
        check("pidfile", Some("pid-file"));
        check("console-sock", Some("console-socket"));
        check("rum", Some("run"));
        check("resum", Some("resume"));
        check("xyzzy", None);
        check(&"x".repeat(100), None);
    }
}
