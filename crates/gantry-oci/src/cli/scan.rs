//! From arguments to flags and positional arguments, by the table.
//!
//! The rules are those of the Go programs whose command lines this one must understand: `--flag value`,
//! `--flag=value`, the same with a single dash, letters bundled after one dash, flags before and after the arguments,
//! `--` ends the flags. Where a command hands its arguments on, flags end at the first of them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::error::{UsageError, nearest};
use super::table::{CommandSpec, Flag, GLOBAL, HELP, VERSION, VERSION_CAPITAL};

/// What stood on a command line, not yet interpreted.
#[derive(Debug, Default)]
pub(super) struct Matches {
    /// The command, for messages; empty before one.
    pub(super) command: &'static str,
    /// Flags of the table by their long name, with the values of those that take one, in order.
    found: Vec<(&'static Flag, Option<OsString>)>,
    /// The rest.
    pub(super) arguments: Vec<OsString>,
}

/// Which flags are known at a place of the command line.
#[derive(Clone, Copy)]
pub(super) enum Scope {
    /// Before the command: its name ends the scan.
    Global,
    /// After the command.
    Command(&'static CommandSpec),
}

impl Scope {
    fn flags(self) -> impl Iterator<Item = &'static Flag> {
        let (own, rest): (&'static [Flag], [Option<&'static Flag>; 3]) = match self {
            Self::Global => (&[], [Some(&HELP), Some(&VERSION), Some(&VERSION_CAPITAL)]),
            Self::Command(spec) => (spec.flags, [Some(&HELP), None, None]),
        };
        // A command's own flag hides the global one of the same name.
        own.iter().chain(GLOBAL).chain(rest.into_iter().flatten())
    }

    fn long(self, name: &[u8]) -> Option<&'static Flag> {
        self.flags().find(|f| f.long.as_bytes() == name)
    }

    fn short(self, letter: char) -> Option<&'static Flag> {
        self.flags().find(|f| f.short == Some(letter))
    }

    /// How many arguments end the flags.
    fn stop(self) -> Option<usize> {
        match self {
            Self::Global => Some(1),
            Self::Command(spec) => spec.raw.then_some(1),
        }
    }
}

/// Reads `args` into `out`, which keeps what was read when an error ends it.
pub(super) fn scan(scope: Scope, args: Vec<OsString>, out: &mut Matches) -> Result<(), UsageError> {
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        if Some(out.arguments.len()) == scope.stop() {
            // A separator between the container and its command is none of the command's arguments.
            if bytes != b"--" || matches!(scope, Scope::Global) {
                out.arguments.push(arg);
            }
            out.arguments.extend(args);
            return Ok(());
        }
        match bytes {
            b"--" => {
                out.arguments.extend(args);
                return Ok(());
            }
            [b'-', _, ..] => flag(scope, &arg, &mut args, out)?,
            _ => out.arguments.push(arg),
        }
    }
    Ok(())
}

fn flag(
    scope: Scope,
    arg: &OsStr,
    rest: &mut impl Iterator<Item = OsString>,
    out: &mut Matches,
) -> Result<(), UsageError> {
    let bytes = arg.as_bytes();
    let dashes = if bytes.starts_with(b"--") { 2 } else { 1 };
    let body = &bytes[dashes..];
    let (name, inline) = match body.iter().position(|&b| b == b'=') {
        Some(at) => (&body[..at], Some(OsString::from_vec(body[at + 1..].to_vec()))),
        None => (body, None),
    };
    if let Some(flag) = scope.long(name) {
        let value = match (flag.value, inline) {
            (Some(what), None) => Some(next_value(flag, what, rest, out)?),
            (_, inline) => inline,
        };
        out.found.push((flag, value));
        return Ok(());
    }
    if dashes == 1 {
        return letters(scope, arg, rest, out);
    }
    let text = String::from_utf8_lossy(name);
    let known = scope.flags().filter(|f| !f.hidden).map(|f| f.long);
    Err(UsageError::UnknownFlag {
        command: out.command,
        flag: format!("--{text}"),
        nearest: nearest(&text, known).map(|n| format!("--{n}")),
    })
}

/// Letters after one dash: switches, then at most one flag with a value, which is the rest or the next argument.
fn letters(
    scope: Scope,
    arg: &OsStr,
    rest: &mut impl Iterator<Item = OsString>,
    out: &mut Matches,
) -> Result<(), UsageError> {
    let unknown = |flag: String, out: &Matches| {
        let word = flag.trim_start_matches('-');
        let known = scope.flags().filter(|f| !f.hidden && word.len() > 1).map(|f| f.long);
        let nearest = nearest(word, known).map(|n| format!("--{n}"));
        UsageError::UnknownFlag { command: out.command, flag, nearest }
    };
    let Some(text) = arg.to_str() else {
        return letters_with_bytes(scope, arg, out).ok_or_else(|| unknown(arg.to_string_lossy().into_owned(), out));
    };
    let body = &text[1..];
    let mut found = Vec::new();
    for (at, letter) in body.char_indices() {
        let after = &body[at + letter.len_utf8()..];
        let Some(flag) = scope.short(letter) else {
            // Nothing of a word that is no bundle is taken: it names the flag that was meant.
            let whole = text.split('=').next().unwrap_or(text);
            return Err(unknown(if at == 0 { whole.to_owned() } else { format!("-{letter}") }, out));
        };
        if let Some(what) = flag.value {
            let value = match after {
                "" => next_value(flag, what, rest, out)?,
                _ => after.strip_prefix('=').unwrap_or(after).into(),
            };
            found.push((flag, Some(value)));
            break;
        }
        if let Some(value) = after.strip_prefix('=') {
            found.push((flag, Some(value.into())));
            break;
        }
        found.push((flag, None));
    }
    out.found.append(&mut found);
    Ok(())
}

/// One letter and a value that is no text, as in `-bDIR`.
fn letters_with_bytes(scope: Scope, arg: &OsStr, out: &mut Matches) -> Option<()> {
    let bytes = arg.as_bytes();
    let flag = scope.short(char::from(*bytes.get(1)?)).filter(|f| f.value.is_some())?;
    let value = bytes.get(2..)?;
    let value = value.strip_prefix(b"=").unwrap_or(value);
    out.found.push((flag, Some(OsString::from_vec(value.to_vec()))));
    Some(())
}

fn next_value(
    flag: &'static Flag,
    value: &'static str,
    rest: &mut impl Iterator<Item = OsString>,
    out: &Matches,
) -> Result<OsString, UsageError> {
    rest.next().ok_or_else(|| UsageError::MissingValue {
        command: out.command,
        flag: format!("--{}", flag.long),
        value,
    })
}

impl Matches {
    /// Nothing yet, of this command.
    pub(super) fn of(command: &'static str) -> Self {
        Self { command, ..Self::default() }
    }

    /// Whether the flag was given, whatever its value.
    pub(super) fn has(&self, long: &str) -> bool {
        self.found.iter().any(|(f, _)| f.long == long)
    }

    /// Takes out the flags of these names, so that they can be read apart from the others.
    pub(super) fn split_off(&mut self, flags: &[Flag]) -> Self {
        let (theirs, ours) =
            std::mem::take(&mut self.found).into_iter().partition(|(f, _)| flags.iter().any(|g| std::ptr::eq(*f, g)));
        self.found = ours;
        Self { command: "", found: theirs, arguments: Vec::new() }
    }

    /// Adds the flags of another part of the command line, which then count as the later ones.
    pub(super) fn append(&mut self, mut other: Self) {
        self.found.append(&mut other.found);
    }

    /// What was found and not taken: nothing, once every flag of the table has a meaning.
    pub(super) fn untaken(&self) -> Vec<&'static str> {
        self.found.iter().map(|(f, _)| f.long).collect()
    }

    fn take_all(&mut self, long: &str) -> Vec<Option<OsString>> {
        let (taken, left) = std::mem::take(&mut self.found).into_iter().partition(|(f, _)| f.long == long);
        self.found = left;
        let taken: Vec<(&Flag, _)> = taken;
        taken.into_iter().map(|(_, v)| v).collect()
    }

    pub(super) fn bad(&self, name: impl Into<String>, value: &str, expected: impl Into<String>) -> UsageError {
        UsageError::BadValue {
            command: self.command,
            name: name.into(),
            value: value.chars().take(200).collect(),
            expected: expected.into(),
        }
    }

    pub(super) fn utf8(&self, name: &str, value: OsString) -> Result<String, UsageError> {
        value.into_string().map_err(|v| UsageError::NotUtf8 {
            command: self.command,
            name: name.to_owned(),
            value: v.to_string_lossy().into_owned(),
        })
    }

    /// A switch; absent if it was not given.
    pub(super) fn maybe_switch(&mut self, long: &str) -> Result<Option<bool>, UsageError> {
        match self.take_all(long).pop() {
            None => Ok(None),
            Some(None) => Ok(Some(true)),
            Some(Some(value)) => {
                let value = self.utf8(&format!("--{long}"), value)?;
                super::value::boolean(&value)
                    .map(Some)
                    .ok_or_else(|| self.bad(format!("--{long}"), &value, "true or false"))
            }
        }
    }

    /// A switch.
    pub(super) fn switch(&mut self, long: &str) -> Result<bool, UsageError> {
        Ok(self.maybe_switch(long)?.unwrap_or(false))
    }

    /// A path; an empty one counts as not given, as callers pass it.
    pub(super) fn path(&mut self, long: &str) -> Option<PathBuf> {
        self.take_all(long).pop().flatten().filter(|v| !v.is_empty()).map(PathBuf::from)
    }

    /// A text; an empty one counts as not given, as callers pass it.
    pub(super) fn text(&mut self, long: &str) -> Result<Option<String>, UsageError> {
        match self.take_all(long).pop().flatten() {
            Some(value) if !value.is_empty() => self.utf8(&format!("--{long}"), value).map(Some),
            _ => Ok(None),
        }
    }

    /// Every occurrence of a text.
    pub(super) fn texts(&mut self, long: &str) -> Result<Vec<String>, UsageError> {
        let values = self.take_all(long).into_iter().flatten();
        let name = format!("--{long}");
        values.map(|v| self.utf8(&name, v)).collect()
    }

    /// A text that `read` turns into a value; `expected` says what it takes.
    pub(super) fn parsed<T>(
        &mut self,
        long: &str,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, UsageError> {
        let Some(text) = self.text(long)? else { return Ok(None) };
        read(&text).map(Some).ok_or_else(|| self.bad(format!("--{long}"), &text, expected))
    }
}
