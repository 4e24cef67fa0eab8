//! The commands for containers: what the API is asked, and how its answers are shown.

mod attach;
mod copy;
mod exec;
mod export;
mod lifecycle;
mod list;
mod logs;
pub mod run;
mod session;
mod signals;
mod stats;
pub mod tree;
mod views;

pub use copy::Pieces;
pub use export::{export, write_files};
pub use list::list;

use crate::cli::container::{Group, Verb};
use crate::client::{Request, Target};
use crate::commands::daemon::{filters, inspect};
use crate::context::Context;
use crate::failure::Outcome;
use crate::prompt;
use crate::render::units;
use crate::terminal;

/// Carries a command of the group `container` out.
pub fn group(context: &Context, command: Group) -> Outcome {
    match command {
        Group::Verb(verb) => self::verb(context, verb),
        Group::Ls(args) => list(context, &args),
        Group::Inspect(args) => inspect::containers(context, &args),
        Group::Export(args) => export(context, &args.name, args.output.as_deref()),
        Group::Prune(args) => prune(context, &args),
    }
}

/// Carries a command out that stands at the top too.
pub fn verb(context: &Context, verb: Verb) -> Outcome {
    match verb {
        Verb::Run(args) => run::run(context, &args),
        Verb::Create(args) => run::create(context, &args),
        Verb::Start(args) => lifecycle::start(context, &args),
        Verb::Stop(args) => lifecycle::stop(context, &args, "stop"),
        Verb::Restart(args) => lifecycle::stop(context, &args, "restart"),
        Verb::Kill(args) => lifecycle::kill(context, &args),
        Verb::Pause(args) => lifecycle::simple(context, &args, "pause"),
        Verb::Unpause(args) => lifecycle::simple(context, &args, "unpause"),
        Verb::Rename(args) => lifecycle::rename(context, &args),
        Verb::Update(args) => lifecycle::update(context, &args),
        Verb::Wait(args) => lifecycle::wait(context, &args),
        Verb::Rm(args) => lifecycle::remove(context, &args),
        Verb::Logs(args) => logs::run(context, &args),
        Verb::Exec(args) => exec::run(context, &args),
        Verb::Attach(args) => attach::run(context, &args),
        Verb::Top(args) => views::top(context, &args),
        Verb::Stats(args) => stats::run(context, &args),
        Verb::Diff(args) => views::diff(context, &args),
        Verb::Cp(args) => copy::run(context, &args),
        Verb::Commit(args) => lifecycle::commit(context, &args),
        Verb::Port(args) => views::port(context, &args),
    }
}

/// `NAME[:TAG]`, where a colon before the last slash is of a registry's port.
pub fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    }
}

/// Removes containers that do not run.
fn prune(context: &Context, args: &crate::cli::container::Prune) -> Outcome {
    let filters = filters::encode(&args.filter)?;
    let warning = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?";
    if !args.force && !prompt::confirm(warning)? {
        return Ok(());
    }
    context.ask(async |client| {
        let target = Target::new(&["containers", "prune"]).maybe("filters", filters.as_deref());
        let done = client.json(Request::post(target)).await?;
        let (text, bytes) = filters::pruned(&done, "Deleted Containers:", "ContainersDeleted");
        terminal::print(&format!("{text}Total reclaimed space: {}\n", units::size_of_four(bytes)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        assert_eq!(split_tag("a/b:c"), ("a/b", Some("c")));
        assert_eq!(split_tag("h:5000/b"), ("h:5000/b", None));
        assert_eq!(split_tag("a"), ("a", None));
    }
}
