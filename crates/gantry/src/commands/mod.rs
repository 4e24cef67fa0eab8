//! The commands: each turns its arguments into a request, has it carried out, and prints the result.

mod about;
mod archive;
mod containers;
mod daemon;
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
        Command::Inspect(args) if context.direct() => inspect::run(context, &inspect::of_image(args)?),
        Command::Inspect(args) => daemon::inspect::any(context, &args),
        Command::Events(args) | Command::System(SystemCommand::Events(args)) => daemon::events::run(context, &args),
        Command::Info(args) | Command::System(SystemCommand::Info(args)) => daemon::version::info(context, &args),
        Command::System(SystemCommand::Prune(args)) => daemon::system::prune(context, &args),
        Command::System(SystemCommand::Df(args)) if context.direct() => usage::run(context, &args),
        Command::System(SystemCommand::Df(args)) => daemon::system::df(context, &args),
        Command::Daemon(args) => crate::daemon::run(context, &args),
        Command::Version(args) => daemon::version::version(context, &args),
        Command::Pull(args) | Command::Image(ImageCommand::Pull(args)) => pull::run(context, &args),
        Command::Push(args) | Command::Image(ImageCommand::Push(args)) => push::run(context, &args),
        Command::Images(args) | Command::Image(ImageCommand::Ls(args)) => list::run(context, &args),
        Command::Rmi(args) | Command::Image(ImageCommand::Rm(args)) => remove::run(context, &args),
        Command::Tag(args) | Command::Image(ImageCommand::Tag(args)) => remove::tag(context, &args),
        Command::Image(ImageCommand::Inspect(args)) => inspect::run(context, &args),
        Command::History(args) | Command::Image(ImageCommand::History(args)) => inspect::history(context, &args),
        Command::Save(args) | Command::Image(ImageCommand::Save(args)) => archive::save(context, &args),
        Command::Load(args) | Command::Image(ImageCommand::Load(args)) => archive::load(context, &args),
        Command::Import(args) | Command::Image(ImageCommand::Import(args)) => archive::import(context, &args),
        Command::Export(args) => archive::export(context, &args),
        Command::Image(ImageCommand::Prune(args)) => prune::run(context, &args),
        Command::Image(ImageCommand::Diff(args)) => diff::run(context, &args),
        Command::Login(args) => login::login(context, args),
        Command::Logout(args) => login::logout(&args),
        Command::Registry(RegistryCommand::Ls(args)) => registry::ls(context, &args),
        Command::Registry(RegistryCommand::Tags(args)) => registry::tags(context, &args),
        Command::Registry(RegistryCommand::Serve(args)) => registry::serve(context, &args),
        Command::Completion(args) => about::completion(&args),
        Command::Man(args) => about::man(&args),
    }
}
