//! What is used of the disk, as `docker system df` has it.

use gantry_store::Usage;

use crate::render::listing::Listing;
use crate::render::units;
use crate::template::Value;

/// The listing.
pub const LISTING: Listing = Listing {
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    titles: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
};

/// The rows: images with their content and layers, and what containers wrote.
pub fn rows(usage: &Usage) -> Vec<Value> {
    let images = usage.blobs.bytes + usage.layers.bytes + usage.partials.bytes;
    vec![
        row("Images", usage.images, usage.images - usage.unused_images.min(usage.images), images, usage.reclaimable),
        row("Containers", usage.snapshots.count, usage.snapshots.count, usage.snapshots.bytes, 0),
    ]
}

fn row(kind: &str, total: u64, active: u64, bytes: u64, reclaimable: u64) -> Value {
    let percent = (u128::from(reclaimable) * 100).checked_div(u128::from(bytes));
    let percent = percent.map_or_else(String::new, |percent| format!(" ({percent}%)"));
    let fields = [
        ("Type", kind.to_owned()),
        ("TotalCount", total.to_string()),
        ("Active", active.to_string()),
        ("Size", units::size(bytes)),
        ("Reclaimable", format!("{}{percent}", units::size(reclaimable))),
    ];
    Value::row(fields.map(|(name, text)| (name, Value::Text(text))))
}

/// What the images' bytes are.
pub fn details(usage: &Usage) -> String {
    format!(
        "Content: {} blobs, {}\nLayers: {}, {}\nBeginnings of downloads: {}, {}\nNeeded by no image: {}\n",
        usage.blobs.count,
        units::size(usage.blobs.bytes),
        usage.layers.count,
        units::size(usage.layers.bytes),
        usage.partials.count,
        units::size(usage.partials.bytes),
        units::size(usage.unreferenced),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_store::Tally;

    #[test]
    fn tables() {
        let usage = Usage {
            blobs: Tally { count: 5, bytes: 80_000_000 },
            layers: Tally { count: 3, bytes: 231_000_000 },
            snapshots: Tally { count: 1, bytes: 0 },
            partials: Tally { count: 1, bytes: 5_000_000 },
            images: 2,
            unused_images: 1,
            reclaimable: 155_500_000,
            unreferenced: 1000,
        };
        let form = LISTING.form(None).unwrap();
        insta::assert_snapshot!(LISTING.render(&form, &rows(&usage), None).unwrap(), @r"
        TYPE         TOTAL     ACTIVE    SIZE      RECLAIMABLE
        Images       2         1         316MB     156MB (49%)
        Containers   1         1         0B        0B
        ");
        insta::assert_snapshot!(details(&usage), @r"
        Content: 5 blobs, 80MB
        Layers: 3, 231MB
        Beginnings of downloads: 1, 5MB
        Needed by no image: 1kB
        ");
    }
}
