//! `image prune`.

use gantry_images::PruneOptions;
use serde_json::json;

use super::list;
use crate::cli::image::Prune;
use crate::context::{self, Context, Need};
use crate::failure::{Failure, Outcome};
use crate::prompt;
use crate::render::removed;
use crate::terminal;

/// Removes images that are not used.
pub fn run(context: &Context, args: &Prune) -> Outcome {
    let mut filters = list::filters(&args.filter)?;
    if args.all {
        filters.insert("dangling".to_owned(), vec!["false".to_owned()]);
    }
    if !args.dry_run && !args.force {
        let which =
            if args.all { "images without at least one container associated to them" } else { "dangling images" };
        let question = format!("WARNING! This will remove all {which}.\nAre you sure you want to continue?");
        if !prompt::confirm(&question)? {
            return Err(Failure::new("image prune: nothing was removed, since nobody said yes").hint("give --force"));
        }
    }
    let images = context.images(Need::Store)?;
    let options = PruneOptions { filters, dry_run: args.dry_run, ..PruneOptions::default() };
    let pruned = context::run(async { Ok(images.prune(options).await?) })?;
    // This process ends before the store would get to it.
    images.store().empty_trash()?;
    if args.json {
        // The names are those of the API.
        let document = json!({"ImagesDeleted": pruned.removed, "SpaceReclaimed": pruned.bytes});
        return terminal::print(&format!("{document}\n"));
    }
    terminal::print(&removed::pruned(&pruned, args.dry_run))
}
