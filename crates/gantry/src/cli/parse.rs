//! From words to a command, with the liberties that Docker's command line takes.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, FromArgMatches, value_parser};

use super::Cli;
use crate::failure::USAGE;

/// Status of a command that was to run something, and could not be understood: what is run cannot have it.
const NOT_RUN: u8 = 125;

/// The table as words are read by it: an option takes the next word as its value, whatever that is.
fn table() -> clap::Command {
    lenient(Cli::command())
}

fn lenient(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        let valued = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
        let optional = arg.is_require_equals_set();
        if valued && !optional && !arg.is_positional() { arg.allow_hyphen_values(true) } else { arg }
    });
    command.mut_subcommands(lenient)
}

/// The table in which every switch takes a value too, as `--rm=false`.
fn with_switches(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            arg.action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value("false")
                .value_parser(value_parser!(bool))
        } else {
            arg
        }
    });
    command.mut_subcommands(with_switches)
}

/// Reads a command line; gives the status to end with, if it cannot be carried out.
pub fn parse(words: &[OsString]) -> Result<Cli, (clap::Error, u8)> {
    let error = match read(table(), words) {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    // A switch with a value is rare, and the second table serves it alone: help and errors are of the first.
    if error.kind() == ErrorKind::TooManyValues
        && let Ok(cli) = read(with_switches(table()), words)
    {
        return Ok(cli);
    }
    let status = match error.exit_code() {
        0 => 0,
        _ if runs(words) => NOT_RUN,
        code => u8::try_from(code).unwrap_or(USAGE),
    };
    Err((error, status))
}

fn read(table: clap::Command, words: &[OsString]) -> Result<Cli, clap::Error> {
    let mut matches = table.try_get_matches_from(words)?;
    Cli::from_arg_matches_mut(&mut matches)
}

/// Whether the command is one that runs something in a container.
fn runs(words: &[OsString]) -> bool {
    let mut words = words.iter().skip(1).filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        match word {
            "-H" | "--host" | "-l" | "--log-level" | "--root" | "--config" | "--tlscacert" | "--tlscert"
            | "--tlskey" => {
                words.next();
            }
            "container" => {}
            "run" | "create" | "exec" | "start" => return true,
            other if other.starts_with('-') => {}
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::{Command, container};
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        ["gantry"].into_iter().chain(line.split(' ')).map(OsString::from).collect()
    }

    fn run(line: &str) -> container::Run {
        match parse(&words(line)) {
            Ok(Cli { command: Command::Container(container::Verb::Run(run)), .. }) => *run,
            Ok(other) => panic!("{line}: {other:?}"),
            Err((error, _)) => panic!("{line}: {error}"),
        }
    }

    #[test]
    fn what_follows_the_image_is_not_ours() {
        let check = |line: &str, command: &str| assert_eq!(run(line).create.command.join("|"), command, "{line}");
        check("run -it --rm busybox sh -c x --rm -d", "busybox|sh|-c|x|--rm|-d");
        check("run busybox -it", "busybox|-it");
        check("run busybox --help", "busybox|--help");
        check("run busybox -- x", "busybox|--|x");
        check("run --rm -- busybox x", "busybox|x");
    }

    #[test]
    fn values() {
        let create =
            run("run --rm=false -t=true --memory-swap -1 --pids-limit -1 -e -x=1 -p80:80 -h=me busybox").create;
        assert!(!create.general.rm && create.general.tty);
        assert_eq!(create.resources.memory_swap.as_deref(), Some("-1"));
        assert_eq!(create.resources.pids_limit, Some(-1));
        assert_eq!(create.general.env, ["-x=1"]);
        assert_eq!(create.network.publish, ["80:80"]);
        assert_eq!(create.network.hostname.as_deref(), Some("me"));
        assert!(!run("run --sig-proxy=false busybox").sig_proxy);
    }

    #[test]
    fn statuses() {
        let check = |line: &str, status: u8| {
            assert_eq!(parse(&words(line)).map(drop).map_err(|(_, s)| s), Err(status), "{line}");
        };
        check("run", 125);
        check("run --frob x", 125);
        check("-H unix:///x container create --frob", 125);
        check("run --help", 0);
        check("ps --frob", 2);
        check("run --rm=perhaps busybox", 125);
    }
}
