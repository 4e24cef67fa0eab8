//! `version` and `info`.

use gantry_model::platform::Platform;

use crate::cli::Version;
use crate::cli::system::Info;
use crate::client::{Client, Place, Request, Target};
use crate::context::Context;
use crate::failure::{Failure, Outcome, clean};
use crate::render::info;
use crate::template::{Template, Value};
use crate::terminal;

/// What is known of this program.
fn own(context: &Context, client: Option<&Client>) -> info::Client {
    let host = Platform::host();
    let place = Place::of(context.global()).map(|place| place.host.to_string()).unwrap_or_default();
    info::Client {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: client.map_or_else(Client::newest, Client::version),
        newest: Client::newest(),
        os: host.os,
        arch: host.architecture,
        host: place,
        debug: context.global().debug,
    }
}

/// Shows the version of this program, and of the daemon if one answers: none is started for it.
pub fn version(context: &Context, args: &Version) -> Outcome {
    let template = match args.format.as_deref() {
        None | Some("" | "json") => None,
        Some(format) => Some(Template::parse(format)?),
    };
    let asked = context.ask_if_there(async |client| {
        let server = client.json(Request::get(Target::new(&["version"]))).await?;
        Ok((own(context, Some(client)), server))
    });
    let (client, server, failure) = match asked {
        Ok((client, server)) => (client, Some(server), None),
        Err(failure) => (own(context, None), None, Some(failure)),
    };
    // What asks for this program alone is answered in any case.
    let alone = args.format.as_deref().is_some_and(|format| format.contains(".Client") && !format.contains(".Server"));
    let text = if let Some(template) = template {
        match &failure {
            Some(_) if !alone => return Err(failure.unwrap_or(Failure::Said)),
            _ => template.render(&info::versions(&client, server))? + "\n",
        }
    } else if args.json || args.format.as_deref() == Some("json") {
        serde_json::to_string(&info::versions(&client, server))? + "\n"
    } else {
        info::version(&client, server.as_ref())
    };
    terminal::print(&text)?;
    match failure {
        // Where there is no daemon, nothing is wrong with this program.
        Some(Failure::Error(report)) if !alone => {
            terminal::tell(&report.lines(terminal::colours()));
            Err(Failure::Said)
        }
        Some(failure) if !alone => Err(failure),
        _ => Ok(()),
    }
}

/// Shows what the daemon and its machine are.
pub fn info(context: &Context, args: &Info) -> Outcome {
    let template = match args.format.as_deref() {
        None | Some("") => None,
        Some("json") => Some(Template::parse("{{json .}}")?),
        Some(format) => Some(Template::parse(format)?),
    };
    context.ask(async |client| {
        let found = client.json(Request::get(Target::new(&["info"]))).await?;
        let own = own(context, Some(client));
        if let Some(template) = template {
            return terminal::print(&(template.render(&with_client(&own, found))? + "\n"));
        }
        let (text, warnings) = info::info(&own, &found);
        terminal::print(&text)?;
        for warning in warnings {
            terminal::tell(&clean(&format!("{warning}\n")));
        }
        Ok(())
    })
}

/// The daemon's document with one of this program in it.
fn with_client(own: &info::Client, found: Value) -> Value {
    let Value::Map(mut entries) = found else { return found };
    let client = Value::row([
        ("Version", Value::Text(own.version.clone())),
        ("Debug", Value::Bool(own.debug)),
        ("Context", Value::Text(own.host.clone())),
    ]);
    entries.push(("ClientInfo".to_owned(), client));
    Value::Map(entries)
}
