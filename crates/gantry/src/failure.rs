//! How a command ends that did not succeed: what is said, and the exit status.

use std::error::Error;
use std::fmt;

/// Result of a command.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Exit status of a command that failed.
pub const FAILED: u8 = 1;
/// Exit status of a command that could not be understood.
pub const USAGE: u8 = 2;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// Whoever read the output has enough of it.
    Closed,
    /// A signal asked for the end; the exit status that tells so.
    Interrupted(u8),
    /// Everything is said already.
    Said,
    /// What was run ended with this status, and that is all.
    Status(u8),
    /// The daemon says that it cannot be done.
    Daemon {
        /// Status of the answer.
        status: u16,
        /// Its words.
        message: String,
    },
    /// Nothing has the name that was given, in the words for it.
    NotThere(String),
    /// Something went wrong.
    Error(Report),
    /// What was asked for cannot be understood, or contradicts itself.
    Usage(String),
}

/// What is said about an error.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// What went wrong, and with what.
    pub text: String,
    /// What to do about it, if the text does not say it.
    pub hint: Option<String>,
}

impl Failure {
    /// Whether the daemon knows no such thing.
    pub const fn not_found(&self) -> bool {
        matches!(self, Self::Daemon { status: 404, .. })
    }

    /// What is said about it, without what to do.
    pub fn text(&self) -> String {
        match self {
            Self::Closed | Self::Interrupted(_) | Self::Said | Self::Status(_) => String::new(),
            Self::Daemon { message, .. } => format!("Error response from daemon: {message}"),
            Self::Error(report) => report.text.clone(),
            Self::Usage(text) | Self::NotThere(text) => text.clone(),
        }
    }

    /// A failure with these words.
    pub fn new(text: impl Into<String>) -> Self {
        Self::Error(Report { text: text.into(), hint: None })
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Error(report) = &mut self {
            report.hint = Some(hint.into());
        }
        self
    }

    /// The same with what was asked for before it.
    #[must_use]
    pub fn of(mut self, what: impl fmt::Display) -> Self {
        if let Self::Error(report) = &mut self {
            report.text = format!("{what}: {}", report.text);
        }
        self
    }
}

/// Errors tell their causes themselves; a cause that the text does not hold yet is added.
impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let said = cause.to_string();
            let core = said.split(" (os error").next().unwrap_or_default().to_lowercase();
            if !text.to_lowercase().contains(&core) {
                text = format!("{text}: {said}");
            }
            source = cause.source();
        }
        Self::Error(Report { text, hint: hint(&error).map(str::to_owned) })
    }
}

/// What to do, where an error of a library leaves that to whoever knows the commands.
fn hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    use {gantry_distribution as distribution, gantry_images as images, gantry_store as store};
    if let Some(error) = error.downcast_ref::<images::Error>() {
        return match error {
            images::Error::Registry(inner) => hint(inner),
            images::Error::Store(inner) => hint(inner),
            images::Error::NoSuchImage(_) | images::Error::NotLocal(_) => {
                Some("gantry images lists those that are here; gantry pull gets others")
            }
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<distribution::Error>() {
        return match error {
            distribution::Error::Unreachable { .. } | distribution::Error::Timeout { .. } => Some(
                "check the name of the registry, and that it runs; a mirror or a proxy is set in the configuration",
            ),
            distribution::Error::Status { status: 404, code, .. } if code == "NAME_UNKNOWN" => {
                Some("gantry registry ls lists the repositories of a registry")
            }
            distribution::Error::Status { status: 404, .. } => Some("gantry registry tags lists what a repository has"),
            _ => None,
        };
    }
    match error.downcast_ref::<store::Error>() {
        Some(store::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            Some("run the command as root, as with sudo, or give another --root")
        }
        _ => None,
    }
}

/// Says what was asked for before what went wrong.
pub trait Of<T> {
    /// Puts it before the text of the error.
    fn of(self, what: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: Into<Failure>> Of<T> for Result<T, E> {
    fn of(self, what: impl fmt::Display) -> Outcome<T> {
        self.map_err(|error| error.into().of(what))
    }
}

/// What comes from outside, such as the word of a registry, must not command the terminal.
pub fn clean(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n' && c != '\t', "?")
}

/// Errors of the system by their words alone: ` (os error 2)` says nothing more.
fn without_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        let end = after.trim_start_matches(|c: char| c.is_ascii_digit());
        let Some(end) = end.strip_prefix(')') else { break };
        out.push_str(before);
        rest = end;
    }
    out + rest
}

impl Report {
    /// The lines for standard error.
    pub fn lines(&self, colour: bool) -> String {
        let (red, cyan, off) = if colour { ("\u{1b}[1;31m", "\u{1b}[1;36m", "\u{1b}[0m") } else { ("", "", "") };
        let hint = self.hint.as_ref().map(|hint| format!("{cyan}hint{off}: {}\n", clean(hint)));
        let text = without_numbers(self.text.trim_end());
        format!("{red}error{off}: {}\n{}", clean(&text), hint.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("read the file")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("it is gone")]
    struct Inner;

    #[derive(Debug, thiserror::Error)]
    #[error("read the file: IT is gone")]
    struct Whole(#[source] Inner);

    #[test]
    fn causes_are_told_once() {
        let check = |failure: Failure, expect: &str| match failure {
            Failure::Error(report) => assert_eq!(report.lines(false), expect),
            other => panic!("{other:?}"),
        };
        check(Outer(Inner).into(), "error: read the file: it is gone\n");
        check(Whole(Inner).into(), "error: read the file: IT is gone\n");
        check(Failure::from(Inner).of("pull x").hint("look\u{7}"), "error: pull x: it is gone\nhint: look?\n");
        check(Failure::new("a\u{1b}[31mb\n"), "error: a?[31mb\n");
        check(Failure::new("x: no (os error 2), y (os error 13) (os error"), "error: x: no, y (os error\n");
    }

    #[test]
    fn colours() {
        let report = Report { text: "x".into(), hint: Some("y".into()) };
        assert_eq!(report.lines(true), "\u{1b}[1;31merror\u{1b}[0m: x\n\u{1b}[1;36mhint\u{1b}[0m: y\n");
    }
}
