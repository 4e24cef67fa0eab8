//! Names of entries: to a form that has one name for each file, or refused.

use super::error::LayerError;
use super::{Limits, Result, WHITEOUT, WHITEOUT_META};

/// Longest name of a file, in bytes, for every file system there is.
const NAME_MAX: usize = 255;

/// Writes a name into `clean` without its leading slash, `.` and double slashes. One with `..` is refused.
///
/// Archives made with absolute names mean the root of the image.
pub fn normalise(name: &[u8], limits: &Limits, clean: &mut Vec<u8>) -> Result<()> {
    clean.clear();
    let mut depth = 0;
    for part in parts(name) {
        if part == b".." {
            return Err(LayerError::refused(name, "a name with .. may lead out of the layer"));
        }
        if part.len() > NAME_MAX {
            return Err(LayerError::limit(name, "the length in bytes of a part of the name", NAME_MAX as u64));
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(part);
        depth += 1;
    }
    if clean.len() > limits.path {
        return Err(LayerError::limit(name, "the length in bytes of the name", limits.path as u64));
    }
    if depth > limits.depth {
        return Err(LayerError::limit(name, "the number of directories above it", limits.depth as u64));
    }
    Ok(())
}

/// The parts of a name that mean something.
pub fn parts(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// The directory that holds a file, and its name there.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// A name in a directory.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// What the names of whiteouts among the directories of an entry mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// There are none.
    No,
    /// The entry is a private matter of AUFS, and left out as every engine leaves it out.
    Ignored,
    /// The entry cannot be.
    Refused,
}

/// Looks at the directories above an entry.
pub fn reserved(directory: &[u8]) -> Reserved {
    let mut found = Reserved::No;
    for part in parts(directory).filter(|part| part.starts_with(WHITEOUT)) {
        if part.starts_with(WHITEOUT_META) {
            return Reserved::Ignored;
        }
        found = Reserved::Refused;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let limits = Limits { path: 12, depth: 4, ..Limits::default() };
        let check = |name: &[u8], expect: Option<&[u8]>| {
            let mut clean = b"before".to_vec();
            let ok = normalise(name, &limits, &mut clean).is_ok();
            assert_eq!(ok.then_some(clean.as_slice()), expect, "{}", name.escape_ascii());
        };
        check(b"a", Some(b"a"));
        check(b"./a//b/./c/", Some(b"a/b/c"));
        check(b"/", Some(b""));
        check(b"./", Some(b""));
        check(b"///etc/passwd", Some(b"etc/passwd"));
        check(b"a..b/...", Some(b"a..b/..."));
        check(b"\xff/\xc3\x28", Some(b"\xff/\xc3\x28"));
        check(b"..", None);
        check(b"a/../b", None);
        check(b"/../b", None);
        check(b"a/..", None);
        check(b"a/b/c/d/e", None);
        check(b"thirteenbytes", None);
        check(&[b'n'; 256], None);
    }

    #[test]
    fn whiteouts_among_directories() {
        let check = |name: &[u8], expect| assert_eq!(reserved(name), expect);
        check(b"", Reserved::No);
        check(b"a/b.wh.", Reserved::No);
        check(b"a/.wh.b", Reserved::Refused);
        check(b".wh..wh.plnk", Reserved::Ignored);
        check(b"a/.wh.b/.wh..wh.aufs", Reserved::Ignored);
    }
}
