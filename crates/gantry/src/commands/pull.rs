//! `pull`.

use gantry_images::{Images, PullOptions, Pulled};
use gantry_model::reference::{DEFAULT_TAG, Reference};
use serde_json::json;

use crate::cli::image::Pull;
use crate::context::{self, Context, Need};
use crate::failure::{Failure, Of, Outcome};
use crate::progress::{Display, Mode};
use crate::terminal;

/// Downloads images, one after the other; the layers of each beside each other.
pub fn run(context: &Context, args: &Pull) -> Outcome {
    if let Some(name) =
        args.names.iter().find(|name| args.all_tags && (name.tag().is_some() || name.digest().is_some()))
    {
        return Err(Failure::Usage(format!("tag can't be used with --all-tags/-a: {}", name.familiar())));
    }
    let images = context.images(Need::Unpack)?;
    context::run(async {
        for name in &args.names {
            for name in tags(&images, name, args).await? {
                one(&images, &name, args).await?;
            }
        }
        Ok(())
    })
}

/// What is pulled for a name: it, or every tag of the repository.
async fn tags(images: &Images, name: &Reference, args: &Pull) -> Outcome<Vec<Reference>> {
    if !args.all_tags {
        let full = name.clone().with_default_tag();
        if full != *name && !args.quiet && !args.json {
            terminal::tell(&format!("Using default tag: {DEFAULT_TAG}\n"));
        }
        return Ok(vec![full]);
    }
    let tags = images.client().tags(name).await.of(format!("list the tags of {}", name.familiar()))?;
    let named = tags.iter().map(|tag| Ok(Reference::new(name.registry(), name.repository(), Some(tag), None)?));
    named.collect()
}

async fn one(images: &Images, name: &Reference, args: &Pull) -> Outcome {
    let mode = Mode::of(args.quiet, args.json);
    if mode == Mode::Lines {
        terminal::tell(&format!("{}: Pulling from {}\n", name.target(), name.repository()));
    }
    let display = Display::new(mode);
    let options = PullOptions { platform: args.platform.clone(), all_platforms: args.all_platforms };
    let pulled = images.pull(name, options, display.reporter()).await;
    drop(display);
    terminal::print(&result(name, &pulled.of(format!("pull {}", name.familiar()))?, mode))
}

/// What is printed at the end, as Docker does.
fn result(name: &Reference, pulled: &Pulled, mode: Mode) -> String {
    let status = if pulled.changed { "Downloaded newer image for" } else { "Image is up to date for" };
    match mode {
        Mode::Quiet => format!("{name}\n"),
        Mode::Json => {
            let document = json!({
                "status": status, "name": name.familiar(), "digest": pulled.target.digest, "id": pulled.id,
                "changed": pulled.changed,
            });
            format!("{document}\n")
        }
        Mode::Lines => {
            let familiar = name.familiar();
            format!("Digest: {}\nStatus: {status} {familiar}\n{name}\n", pulled.target.digest)
        }
    }
}
