//! `inspect`, of whatever has a name.

use super::images::{platform_document, since};
use crate::cli::{Inspect, Kind, container, image, network, volume};
use crate::client::{Client, Request, Target};
use crate::commands::inspect::{json, json_compact};
use crate::context::Context;
use crate::failure::{Failure, Outcome, clean};
use crate::template::{Template, Value};
use crate::terminal;

/// What is asked for.
struct Asked<'a> {
    names: &'a [String],
    format: Option<&'a str>,
    /// What it may be, in the order in which it is looked for.
    kinds: &'a [Kind],
    size: bool,
    verbose: bool,
    /// The platform of an image, as a document.
    platform: Option<String>,
}

/// Shows all that is known about what has these names.
pub fn any(context: &Context, args: &Inspect) -> Outcome {
    let all = [Kind::Container, Kind::Image, Kind::Network, Kind::Volume];
    let one = args.kind.map(|kind| [kind]);
    let kinds = one.as_ref().map_or(&all[..], |one| &one[..]);
    let format = args.format.as_deref();
    show(context, &Asked { names: &args.names, format, kinds, size: args.size, verbose: false, platform: None })
}

/// Shows all that is known about containers.
pub fn containers(context: &Context, args: &container::Inspect) -> Outcome {
    let format = args.format.as_deref();
    show(
        context,
        &Asked {
            names: &args.names,
            format,
            kinds: &[Kind::Container],
            size: args.size,
            verbose: false,
            platform: None,
        },
    )
}

/// Shows all that is known about networks.
pub fn networks(context: &Context, args: &network::Inspect) -> Outcome {
    let format = args.format.as_deref();
    show(
        context,
        &Asked {
            names: &args.names,
            format,
            kinds: &[Kind::Network],
            size: false,
            verbose: args.verbose,
            platform: None,
        },
    )
}

/// Shows all that is known about volumes.
pub fn volumes(context: &Context, args: &volume::Inspect) -> Outcome {
    let format = args.format.as_deref();
    show(
        context,
        &Asked { names: &args.names, format, kinds: &[Kind::Volume], size: false, verbose: false, platform: None },
    )
}

/// Shows all that is known about images.
pub fn images(context: &Context, args: &image::Inspect) -> Outcome {
    let format = args.format.as_deref();
    let platform = args.platform.as_ref().map(|one| platform_document(&one.to_string()));
    let kinds = &[Kind::Image];
    show(context, &Asked { names: &args.images, format, kinds, size: false, verbose: false, platform })
}

fn show(context: &Context, asked: &Asked<'_>) -> Outcome {
    let template = match asked.format {
        None | Some("" | "json") => None,
        Some(format) => Some(Template::parse(format)?),
    };
    context.ask(async |client| {
        since(client, asked.platform.is_some(), (1, 49), "--platform")?;
        let (mut found, mut failed) = (Vec::new(), false);
        for name in asked.names {
            match find(client, asked, name).await {
                Ok(value) => found.push(value),
                Err(failure @ (Failure::Daemon { .. } | Failure::NotThere(_))) => {
                    failed = true;
                    terminal::tell(&clean(&format!("{}\n", failure.text())));
                }
                Err(failure) => return Err(failure),
            }
        }
        let text = match (&template, asked.format) {
            (Some(template), _) => found
                .iter()
                .try_fold(String::new(), |out, one| Ok::<_, Failure>(out + &template.render(one)? + "\n"))?,
            (None, Some("json")) => json_compact(&found)?,
            (None, _) => json(&found)?,
        };
        terminal::print(&text)?;
        if failed { Err(Failure::Said) } else { Ok(()) }
    })
}

fn target(kind: Kind, asked: &Asked<'_>, name: &str) -> Target {
    match kind {
        Kind::Container => Target::new(&["containers", name, "json"]).flag("size", asked.size),
        Kind::Image => Target::named("images", name, "json").maybe("platform", asked.platform.as_deref()),
        Kind::Network => Target::new(&["networks", name]).flag("verbose", asked.verbose),
        Kind::Volume => Target::new(&["volumes", name]),
    }
}

/// The first kind of thing that has this name.
async fn find(client: &Client, asked: &Asked<'_>, name: &str) -> Outcome<Value> {
    let one = asked.kinds.len() == 1;
    for kind in asked.kinds {
        match client.json(Request::get(target(*kind, asked, name))).await {
            Err(failure) if failure.not_found() && !one => {}
            // What is no name of one kind may be that of another.
            Err(Failure::Daemon { status: 400, .. }) if !one => {}
            found => return found,
        }
    }
    Err(Failure::NotThere(format!("Error: No such object: {name}")))
}
