//! What differs between two images, as `docker diff` tells of a container.

use gantry_images::{Change, ChangeKind};

use crate::render::units;

/// A line for each file: `A` added, `C` changed, `D` deleted; with sizes, where they differ.
pub fn lines(changes: &[Change]) -> String {
    changes.iter().fold(String::new(), |out, one| {
        let letter = match one.kind {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Removed => 'D',
        };
        let path = one.path.replace(char::is_control, "?");
        let size = match (one.kind, one.before, one.after) {
            (ChangeKind::Changed, before, after) if before != after => {
                format!("  {} -> {}", units::size(before), units::size(after))
            }
            _ => String::new(),
        };
        out + &format!("{letter} {path}{size}\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        let change = |kind, path: &str, before, after| Change { kind, path: path.to_owned(), before, after };
        let list = [
            change(ChangeKind::Added, "/a\nb", 0, 5),
            change(ChangeKind::Changed, "/etc/file", 6, 1200),
            change(ChangeKind::Changed, "/etc", 0, 0),
            change(ChangeKind::Removed, "/gone", 2, 0),
        ];
        assert_eq!(lines(&list), "A /a?b\nC /etc/file  6B -> 1.2kB\nC /etc\nD /gone\n");
        assert_eq!(lines(&[]), "");
    }
}
