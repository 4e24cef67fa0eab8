//! What the tests of this module share.

use std::path::Path;

use clap::Parser;

use super::pairs::Outside;
use crate::cli::create::Create;

#[derive(Parser)]
#[command(disable_help_flag = true)]
struct Line {
    #[command(flatten)]
    create: Create,
}

/// The options of a line, with an image after them.
pub fn create(line: &str) -> Create {
    let words = ["create"].into_iter().chain(line.split(' ').filter(|word| !word.is_empty())).chain(["image"]);
    let table = <Line as clap::CommandFactory>::command().mut_args(|arg| {
        if arg.is_positional() || !arg.get_action().takes_values() { arg } else { arg.allow_hyphen_values(true) }
    });
    let mut matches = table.try_get_matches_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
    <Line as clap::FromArgMatches>::from_arg_matches_mut(&mut matches).unwrap().create
}

/// An outside with one file and one variable.
pub fn outside<'a>() -> Outside<'a> {
    let read = |file: &Path| match file.to_str() {
        Some("profile.json") => Ok("{\"a b\": [1,\n \"\\\" \"]}\n".to_owned()),
        Some("env") => Ok("A=1\n".to_owned()),
        _ => Err("open none: no such file or directory".to_owned()),
    };
    let variable = |name: &str| (name == "HOME").then(|| "/root".to_owned());
    Outside { variable: Box::leak(Box::new(variable)), read: Box::leak(Box::new(read)), here: Path::new("/here") }
}
