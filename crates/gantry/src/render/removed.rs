//! What was removed, as `docker rmi` and `docker image prune` tell it.

use gantry_images::{Pruned, Removed};

use crate::render::units;

/// A line for each name, image and layer.
pub fn lines(removed: &[Removed]) -> String {
    removed.iter().fold(String::new(), |out, one| {
        out + &match one {
            Removed::Untagged(name) => format!("Untagged: {name}\n"),
            Removed::Deleted(id) => format!("Deleted: {id}\n"),
        }
    })
}

/// What was pruned, or would be.
pub fn pruned(pruned: &Pruned, dry_run: bool) -> String {
    let mut out = String::new();
    if !pruned.removed.is_empty() {
        out.push_str(if dry_run { "Images that would be deleted:\n" } else { "Deleted Images:\n" });
        for one in &pruned.removed {
            let (what, name) = match one {
                Removed::Untagged(name) => ("untagged: ", name),
                Removed::Deleted(id) => ("deleted: ", id),
            };
            out.extend([what, name, "\n"]);
        }
        out.push('\n');
    }
    let what = if dry_run { "Space that would be reclaimed" } else { "Total reclaimed space" };
    out + &format!("{what}: {}\n", units::size(pruned.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let removed = vec![Removed::Untagged("a:1".into()), Removed::Deleted("sha256:ab".into())];
        assert_eq!(lines(&removed), "Untagged: a:1\nDeleted: sha256:ab\n");
        let some = Pruned { removed, bytes: 1500 };
        let expect = "Deleted Images:\nuntagged: a:1\ndeleted: sha256:ab\n\nTotal reclaimed space: 1.5kB\n";
        assert_eq!(pruned(&some, false), expect);
        assert!(pruned(&some, true).starts_with("Images that would be deleted:\n"));
        assert_eq!(pruned(&Pruned::default(), false), "Total reclaimed space: 0B\n");
    }
}
