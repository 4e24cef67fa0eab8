//! `ps`.

use crate::cli::container::List;
use crate::client::{Request, Target};
use crate::commands::daemon::filters;
use crate::context::{self, Context};
use crate::failure::Outcome;
use crate::render::containers::{LISTING, WITH_SIZES, rows, with_health};
use crate::render::listing::Form;
use crate::template::Value;
use crate::terminal;

/// Lists containers.
pub fn list(context: &Context, args: &List) -> Outcome {
    let asked = args.output.form(args.quiet, "psFormat");
    let asked = asked.as_deref();
    let listing = if args.size { WITH_SIZES } else { LISTING };
    // A wrong template is found before anything is asked.
    let form = listing.form(if args.quiet && asked.is_none() { Some("{{.ID}}") } else { asked })?;
    let filters = filters::encode(&args.filter)?;
    let last = if args.latest { Some(1) } else { args.last.filter(|last| *last > 0) };
    let sized = args.size
        || asked.is_some_and(|format| format.contains(".Size"))
        || asked.is_some_and(|format| matches!(form, Form::Json) && format != "json");
    let target = Target::new(&["containers", "json"])
        .flag("all", args.all)
        .flag("size", sized)
        .maybe("limit", last.map(|last| last.to_string()).as_deref())
        .maybe("filters", filters.as_deref());
    context.ask(async |client| {
        let found = client.json(Request::get(target)).await?;
        if args.output.json {
            let found = Value::List(with_health(found.items().to_vec()));
            return terminal::print(&(serde_json::to_string(&found)? + "\n"));
        }
        let rows = rows(found.items(), args.no_trunc, context::now());
        let width = terminal::width().filter(|_| !args.no_trunc);
        terminal::print(&listing.render(&form, &rows, width)?)
    })
}
