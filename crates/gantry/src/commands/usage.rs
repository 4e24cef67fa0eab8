//! `system df`.

use serde_json::json;

use crate::cli::system::Df;
use crate::context::{self, Context, Need};
use crate::failure::Outcome;
use crate::render::images::{Rows, WITH_SHARES};
use crate::render::usage::{LISTING, details, rows};
use crate::terminal;

/// Shows how much disk is used, and how much could be freed.
pub fn run(context: &Context, args: &Df) -> Outcome {
    let form = LISTING.form(args.output.format.as_deref())?;
    let images = context.images(Need::Store)?;
    let usage = context::run(async { Ok(images.disk_usage(Vec::new()).await?) })?;
    let store = &usage.store;
    if args.output.json {
        let tally = |one: gantry_store::Tally| json!({"Count": one.count, "Bytes": one.bytes});
        let document = json!({
            "LayersSize": usage.layers_size,
            "Images": usage.images,
            "Blobs": tally(store.blobs),
            "Layers": tally(store.layers),
            "Snapshots": tally(store.snapshots),
            "Partials": tally(store.partials),
            "UnusedImages": store.unused_images,
            "Reclaimable": store.reclaimable,
            "Unreferenced": store.unreferenced,
        });
        return terminal::print(&format!("{document}\n"));
    }
    let width = terminal::width();
    let mut text = LISTING.render(&form, &rows(store), width)?;
    if args.verbose {
        let list = Rows { digests: false, whole: false, now: context::now() }.of(&usage.images);
        let list = WITH_SHARES.render(&WITH_SHARES.form(None)?, &list, width)?;
        text = format!("{text}\nImages space usage:\n\n{list}\n{}", details(store));
    }
    terminal::print(&text)
}
