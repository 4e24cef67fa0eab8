//! The commands: each turns its arguments into a request, has it carried out, and prints the result.

mod about;
mod archive;
mod containers;
mod daemon;
mod debug;
mod diff;
mod inspect;
mod list;
mod login;
mod prune;
mod pull;
mod push;
mod registry;
mod remove;
mod stream;
mod usage;

use crate::cli::{Command, ImageCommand, registry::Command as RegistryCommand, system::Command as SystemCommand};
use crate::context::Context;
use crate::failure::Outcome;

/// Carries a command out.
pub fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Container(verb) => containers::verb(context, verb),
        Command::Containers(command) => containers::group(context, command),
        Command::Ps(args) => containers::list(context, &args),
        Command::Network(command) => daemon::networks::run(context, &command),
        Command::Volume(command) => daemon::volumes::run(context, &command),
        Command::Checkpoint(command) => daemon::checkpoints::run(context, &command),
        Command::Inspect(args) if context.direct() => inspect::run(context, &inspect::of_image(args)?),
        Command::Inspect(args) => daemon::inspect::any(context, &args),
        Command::Events(args) | Command::System(SystemCommand::Events(args)) => daemon::events::run(context, &args),
        Command::Info(args) | Command::System(SystemCommand::Info(args)) => daemon::version::info(context, &args),
        Command::System(SystemCommand::Prune(args)) => daemon::system::prune(context, &args),
        Command::System(SystemCommand::Df(args)) if context.direct() => usage::run(context, &args),
        Command::System(SystemCommand::Df(args)) => daemon::system::df(context, &args),
        Command::Debug(crate::cli::debug::Command::Bundle(args)) => debug::bundle(context, &args),
        Command::Daemon(args) => crate::daemon::run(context, &args),
        Command::Version(args) => daemon::version::version(context, &args),
        Command::Pull(args) => image(context, ImageCommand::Pull(args)),
        Command::Push(args) => image(context, ImageCommand::Push(args)),
        Command::Images(args) => image(context, ImageCommand::Ls(args)),
        Command::Rmi(args) => image(context, ImageCommand::Rm(args)),
        Command::Tag(args) => image(context, ImageCommand::Tag(args)),
        Command::History(args) => image(context, ImageCommand::History(args)),
        Command::Save(args) => image(context, ImageCommand::Save(args)),
        Command::Load(args) => image(context, ImageCommand::Load(args)),
        Command::Import(args) => image(context, ImageCommand::Import(args)),
        Command::Image(command) => image(context, command),
        Command::Export(args) if context.direct() => archive::export(context, &args),
        Command::Export(args) => daemon::files::export(context, &args),
        Command::Login(args) => login::login(context, args),
        Command::Logout(args) => login::logout(&args),
        Command::Registry(RegistryCommand::Ls(args)) => registry::ls(context, &args),
        Command::Registry(RegistryCommand::Tags(args)) => registry::tags(context, &args),
        Command::Registry(RegistryCommand::Serve(args)) => registry::serve(context, &args),
        Command::Completion(args) => about::completion(&args),
        Command::Man(args) => about::man(&args),
    }
}

/// Carries a command for images out: by the daemon, or on the store that was named.
fn image(context: &Context, command: ImageCommand) -> Outcome {
    if context.direct() {
        return match command {
            ImageCommand::Pull(args) => pull::run(context, &args),
            ImageCommand::Push(args) => push::run(context, &args),
            ImageCommand::Ls(args) => list::run(context, &args),
            ImageCommand::Rm(args) => remove::run(context, &args),
            ImageCommand::Tag(args) => remove::tag(context, &args),
            ImageCommand::Inspect(args) => inspect::run(context, &args),
            ImageCommand::History(args) => inspect::history(context, &args),
            ImageCommand::Save(args) => archive::save(context, &args),
            ImageCommand::Load(args) => archive::load(context, &args),
            ImageCommand::Import(args) => archive::import(context, &args),
            ImageCommand::Prune(args) => prune::run(context, &args),
            ImageCommand::Diff(args) => diff::run(context, &args),
        };
    }
    match command {
        ImageCommand::Pull(args) => daemon::images::pull(context, &args),
        ImageCommand::Push(args) => daemon::images::push(context, &args),
        ImageCommand::Ls(args) => daemon::images::list(context, &args),
        ImageCommand::Rm(args) => daemon::images::remove(context, &args),
        ImageCommand::Tag(args) => daemon::images::tag(context, &args),
        ImageCommand::Inspect(args) => daemon::inspect::images(context, &args),
        ImageCommand::History(args) => daemon::images::history(context, &args),
        ImageCommand::Save(args) => daemon::images::save(context, &args),
        ImageCommand::Load(args) => daemon::images::load(context, &args),
        ImageCommand::Import(args) => daemon::images::import(context, &args),
        ImageCommand::Prune(args) => daemon::images::prune(context, &args),
        ImageCommand::Diff(args) => daemon::files::diff(context, &args),
    }
}
