//! The group `system`: what the disk holds, and what can go.

use super::filters;
use crate::cli::system::{Df, Prune};
use crate::client::{Client, Request, Target};
use crate::context::{self, Context};
use crate::failure::{Failure, Outcome};
use crate::prompt;
use crate::render::{disk, units};
use crate::template::Value;
use crate::terminal;

/// Shows how much disk is used, and how much could be freed.
pub fn df(context: &Context, args: &Df) -> Outcome {
    let form = disk::LISTING.form(args.output.format.as_deref())?;
    context.ask(async |client| {
        let found = client.json(Request::get(Target::new(&["system", "df"]))).await?;
        if args.output.json {
            return terminal::print(&(serde_json::to_string(&found)? + "\n"));
        }
        let width = terminal::width();
        let text = if args.verbose {
            disk::details(&found, args.output.format.as_deref(), context::now(), width)?
        } else {
            disk::LISTING.render(&form, &disk::rows(&found), width)?
        };
        terminal::print(&text)
    })
}

/// Removes all that is not used.
pub fn prune(context: &Context, args: &Prune) -> Outcome {
    if args.volumes && args.filter.iter().any(|filter| filter.starts_with("until=")) {
        return Err(Failure::Usage("the \"until\" filter is not supported with \"--volumes\"".to_owned()));
    }
    filters::encode(&args.filter)?;
    if !args.force && !prompt::confirm(&warning(args))? {
        return Ok(());
    }
    context.ask(async |client| {
        let plain = filters::encode(&args.filter)?;
        let images = filters::with(&args.filter, &[("dangling", if args.all { "false" } else { "true" })])?;
        let mut bytes =
            step(client, "containers", plain.as_deref(), "Deleted Containers:", "ContainersDeleted").await?;
        bytes += step(client, "networks", plain.as_deref(), "Deleted Networks:", "NetworksDeleted").await?;
        if args.volumes {
            bytes += step(client, "volumes", plain.as_deref(), "Deleted Volumes:", "VolumesDeleted").await?;
        }
        let done = client.json(prune_of("images", images.as_deref())).await?;
        terminal::print(&disk::removed_images(&done))?;
        bytes += u64::try_from(done.int("SpaceReclaimed")).unwrap_or(0);
        // A daemon without a cache of builds has none to prune.
        let filter = plain.as_deref();
        match client.json(cache_of(args.all, filter)).await {
            Ok(done) => {
                let (text, freed) = filters::pruned(&done, "Deleted build cache objects:", "CachesDeleted");
                terminal::print(&text)?;
                bytes += freed;
            }
            Err(Failure::Daemon { status: 404 | 501, .. }) => {}
            Err(failure) => return Err(failure),
        }
        terminal::print(&format!("Total reclaimed space: {}\n", units::size_of_four(bytes)))
    })
}

fn prune_of(what: &str, filters: Option<&str>) -> Request {
    Request::post(Target::new(&[what, "prune"]).maybe("filters", filters))
}

fn cache_of(all: bool, filters: Option<&str>) -> Request {
    Request::post(Target::new(&["build", "prune"]).flag("all", all).maybe("filters", filters))
}

async fn step(client: &Client, what: &str, filters: Option<&str>, title: &str, field: &str) -> Outcome<u64> {
    let done: Value = client.json(prune_of(what, filters)).await?;
    let (text, bytes) = filters::pruned(&done, title, field);
    terminal::print(&text)?;
    Ok(bytes)
}

fn warning(args: &Prune) -> String {
    let mut what = vec!["all stopped containers", "all networks not used by at least one container"];
    if args.volumes {
        what.push("all anonymous volumes not used by at least one container");
    }
    what.push(if args.all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    what.push(if args.all { "all build cache" } else { "unused build cache" });
    let item = |out: String, line: &str| out + "  - " + line + "\n";
    let list = what.iter().fold(String::new(), |out, line| item(out, line));
    let filters = args.filter.iter().fold(String::new(), |out, filter| item(out, filter));
    let filters = if filters.is_empty() {
        String::new()
    } else {
        format!("\n  Items to be pruned will be filtered with:\n{filters}")
    };
    format!("WARNING! This will remove:\n{list}{filters}\nAre you sure you want to continue?")
}
