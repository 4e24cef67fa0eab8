//! The group `checkpoint`.

use serde_json::json;

use crate::cli::checkpoint::{Command, Create, List, Remove};
use crate::client::{Request, Target};
use crate::context::Context;
use crate::failure::Outcome;
use crate::render::listing::Listing;
use crate::template::Value;
use crate::terminal;

/// The listing of checkpoints.
const CHECKPOINTS: Listing = Listing { table: "{{.Name}}", titles: &[("Name", "CHECKPOINT NAME")] };

/// Carries a command of the group out.
pub fn run(context: &Context, command: &Command) -> Outcome {
    match command {
        Command::Create(args) => create(context, args),
        Command::Ls(args) => list(context, args),
        Command::Rm(args) => remove(context, args),
    }
}

fn create(context: &Context, args: &Create) -> Outcome {
    let body = json!({
        "CheckpointID": args.name,
        "CheckpointDir": args.checkpoint_dir.as_deref().unwrap_or_default(),
        "Exit": !args.leave_running,
    });
    context.ask(async |client| {
        let target = Target::new(&["containers", &args.container, "checkpoints"]);
        client.bytes(Request::post(target).json(&body)).await?;
        terminal::print(&format!("{}\n", args.name))
    })
}

fn list(context: &Context, args: &List) -> Outcome {
    let asked = args.output.form(args.quiet, "checkpointsFormat");
    let form = CHECKPOINTS.form(if args.quiet && asked.is_none() { Some("{{.Name}}") } else { asked.as_deref() })?;
    context.ask(async |client| {
        let target = Target::new(&["containers", &args.container, "checkpoints"]);
        let found = client.json(Request::get(target.maybe("dir", args.checkpoint_dir.as_deref()))).await?;
        let all: Vec<Value> = found.items().to_vec();
        if args.output.json {
            return terminal::print(&(serde_json::to_string(&all)? + "\n"));
        }
        let row = |one: &Value| Value::row(vec![("Name", Value::Text(one.text("Name").to_owned()))]);
        let rows: Vec<Value> = all.iter().map(row).collect();
        terminal::print(&CHECKPOINTS.render(&form, &rows, terminal::width())?)
    })
}

fn remove(context: &Context, args: &Remove) -> Outcome {
    context.ask(async |client| {
        let target = Target::new(&["containers", &args.container, "checkpoints", &args.name]);
        client.bytes(Request::delete(target.maybe("dir", args.checkpoint_dir.as_deref()))).await.map(drop)
    })
}
