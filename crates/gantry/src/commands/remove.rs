//! `rmi` and `tag`.

use gantry_images::RemoveOptions;

use crate::cli::image::{Remove, Tag};
use crate::context::{self, Context, Need};
use crate::failure::{Failure, Of, Outcome};
use crate::render::removed;
use crate::terminal;

/// Removes images: each that can be, whatever happens to the others.
pub fn run(context: &Context, args: &Remove) -> Outcome {
    let images = context.images(Need::Store)?;
    context::run(async {
        let (mut all, mut failed) = (Vec::new(), false);
        for image in &args.images {
            let options = RemoveOptions { force: args.force, ..RemoveOptions::default() };
            match images.remove(image, options).await {
                Ok(removed) if args.json => all.extend(removed),
                Ok(removed) => terminal::print(&removed::lines(&removed))?,
                Err(error) if args.force && error.is_not_found() => {}
                Err(error) => {
                    failed = true;
                    let Failure::Error(report) = Failure::from(error).of(format!("remove {image}")) else { continue };
                    terminal::tell(&report.lines(terminal::colours()));
                }
            }
        }
        // This process ends before the store would get to it.
        images.store().empty_trash()?;
        if args.json {
            terminal::print(&(serde_json::to_string(&all)? + "\n"))?;
        }
        if failed { Err(Failure::Said) } else { Ok(()) }
    })
}

/// Gives an image one more name.
pub fn tag(context: &Context, args: &Tag) -> Outcome {
    let images = context.images(Need::Store)?;
    context::run(async { images.tag(&args.image, &args.name).await.of(format!("tag {}", args.image)) })
}
