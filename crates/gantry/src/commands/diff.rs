//! `image diff`.

use crate::cli::image::Diff;
use crate::context::{self, Context, Need};
use crate::failure::{Of, Outcome};
use crate::render::changes;
use crate::terminal;

/// Shows which files differ between two images.
pub fn run(context: &Context, args: &Diff) -> Outcome {
    let images = context.images(Need::Unpack)?;
    let what = || format!("compare {} with {}", args.old, args.new);
    let changes = context::run(async { images.diff(&args.old, &args.new, args.platform.clone()).await.of(what()) })?;
    if args.json {
        return terminal::print(&(serde_json::to_string(&changes)? + "\n"));
    }
    terminal::print(&changes::lines(&changes))
}
