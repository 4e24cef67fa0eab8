//! The group `volume`.

use serde_json::json;

use super::networks::natural;
use super::{filters, inspect};
use crate::cli::volume::{Command, Create, List, Prune, Remove};
use crate::client::{Request, Target};
use crate::context::Context;
use crate::create::pairs::map;
use crate::failure::{Failure, Outcome, clean};
use crate::prompt;
use crate::render::networks::{VOLUMES, volumes};
use crate::render::units;
use crate::template::Value;
use crate::terminal;

/// Carries a command of the group out.
pub fn run(context: &Context, command: &Command) -> Outcome {
    match command {
        Command::Create(args) => create(context, args),
        Command::Inspect(args) => inspect::volumes(context, args),
        Command::Ls(args) => list(context, args),
        Command::Prune(args) => prune(context, args),
        Command::Rm(args) => remove(context, args),
        Command::Update(_) => Err(Failure::Usage(
            "volume update changes volumes of a cluster, and there are none here: make the volume anew".to_owned(),
        )),
    }
}

fn create(context: &Context, args: &Create) -> Outcome {
    let name = args.volume.as_ref().or(args.name.as_ref());
    let mut body = json!({"Driver": args.driver});
    for (key, all) in [("DriverOpts", &args.opt), ("Labels", &args.label)] {
        if !all.is_empty() {
            body[key] = json!(map(all));
        }
    }
    if let Some(name) = name {
        body["Name"] = json!(name);
    }
    context.ask(async |client| {
        let made = client.json(Request::post(Target::new(&["volumes", "create"])).json(&body)).await?;
        terminal::print(&format!("{}\n", made.text("Name")))
    })
}

fn list(context: &Context, args: &List) -> Outcome {
    let asked = args.output.form(args.quiet, "volumesFormat");
    let asked = asked.as_deref();
    let form = VOLUMES.form(if args.quiet && asked.is_none() { Some("{{.Name}}") } else { asked })?;
    let target = Target::new(&["volumes"]).maybe("filters", filters::encode(&args.filter)?.as_deref());
    context.ask(async |client| {
        let found = client.json(Request::get(target)).await?;
        let mut all: Vec<Value> = found.list("Volumes").to_vec();
        all.sort_by(|a, b| natural(a.text("Name"), b.text("Name")));
        if args.output.json {
            return terminal::print(&(serde_json::to_string(&all)? + "\n"));
        }
        terminal::print(&VOLUMES.render(&form, &volumes(&all), terminal::width())?)
    })
}

fn remove(context: &Context, args: &Remove) -> Outcome {
    context.ask(async |client| {
        let mut failed = false;
        for name in &args.names {
            match client.bytes(Request::delete(Target::new(&["volumes", name]).flag("force", args.force))).await {
                Ok(_) => terminal::print(&format!("{name}\n"))?,
                Err(failure @ Failure::Daemon { .. }) => {
                    failed = true;
                    terminal::tell(&clean(&format!("{}\n", failure.text())));
                }
                Err(failure) => return Err(failure),
            }
        }
        if failed { Err(Failure::Said) } else { Ok(()) }
    })
}

fn prune(context: &Context, args: &Prune) -> Outcome {
    let more: &[(&str, &str)] = if args.all { &[("all", "true")] } else { &[] };
    let filters = filters::with(&args.filter, more)?;
    let what = if args.all {
        "all local volumes not used by at least one container"
    } else {
        "anonymous local volumes not used by at least one container"
    };
    let warning = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
    if !args.force && !prompt::confirm(&warning)? {
        return Ok(());
    }
    context.ask(async |client| {
        let target = Target::new(&["volumes", "prune"]).maybe("filters", filters.as_deref());
        let done = client.json(Request::post(target)).await?;
        let (text, bytes) = filters::pruned(&done, "Deleted Volumes:", "VolumesDeleted");
        terminal::print(&format!("{text}Total reclaimed space: {}\n", units::size_of_four(bytes)))
    })
}
