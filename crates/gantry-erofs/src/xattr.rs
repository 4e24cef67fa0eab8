//! Extended attributes, as they stand behind an inode.

use crate::error::{Error, Result};
use crate::tree::Directory;
use gantry_tar::{Xattr, show};

/// Bytes before the first attribute.
const HEADER: usize = 12;
/// Bytes that the attributes of one entry may take: their count is in words of four bytes, and has 16 bits.
const MOST: usize = HEADER + 4 * (u16::MAX as usize - 1);

/// The prefixes that the format has numbers for. The names of access control lists are nothing but their prefix.
const PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// Whether an image can hold an attribute of this name.
pub fn possible(name: &[u8]) -> bool {
    split(name).is_some_and(|(_, rest)| rest.len() <= 255)
}

/// The attributes of a directory; see [`encode`].
pub fn of_directory(directory: &Directory) -> Result<Vec<u8>> {
    if !directory.opaque {
        return encode(b"", &directory.attributes.xattrs);
    }
    let opaque = (b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
    encode(b"", &[&directory.attributes.xattrs[..], &[opaque]].concat())
}

/// The attributes of an entry in the order of their names; nothing if there are none. Of two of the same name the later
/// one counts.
pub fn encode(path: &[u8], xattrs: &[Xattr]) -> Result<Vec<u8>> {
    if xattrs.is_empty() {
        return Ok(Vec::new());
    }
    let mut sorted: Vec<&Xattr> = xattrs.iter().collect();
    sorted.sort_by(|left, right| left.0.cmp(&right.0));
    let mut bytes = vec![0; HEADER];
    for (index, (name, value)) in sorted.iter().enumerate() {
        if sorted.get(index + 1).is_some_and(|next| next.0 == *name) {
            continue;
        }
        let refuse = |why| Error::Xattr { path: show(path), name: show(name), why };
        let (number, rest) = split(name).ok_or_else(|| refuse("no kind of attribute that an image can hold"))?;
        let length = u8::try_from(rest.len()).map_err(|_| refuse("the name is longer than 255 bytes"))?;
        let size = u16::try_from(value.len()).map_err(|_| refuse("the value is longer than 65,535 bytes"))?;
        bytes.extend([length, number]);
        bytes.extend(size.to_le_bytes());
        bytes.extend(rest);
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        if bytes.len() > MOST {
            return Err(Error::limit(path, "the size in bytes of all attributes", MOST as u64));
        }
    }
    Ok(bytes)
}

/// What an inode says of attributes that take so many bytes.
pub fn count(bytes: usize) -> u16 {
    if bytes == 0 { 0 } else { ((bytes - HEADER) / 4 + 1) as u16 }
}

/// The number of a name's prefix, and the rest of the name.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    let (number, rest) = PREFIXES.iter().find_map(|(number, prefix)| Some((*number, name.strip_prefix(*prefix)?)))?;
    let whole = matches!(number, 2 | 3);
    (whole == rest.is_empty() && !rest.contains(&0)).then_some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let check = |name: &str, expect: Option<(u8, &str)>| {
            assert_eq!(split(name.as_bytes()), expect.map(|(number, rest)| (number, rest.as_bytes())), "{name}");
        };
        check("user.a", Some((1, "a")));
        check("user.", None);
        check("user", None);
        check("trusted.overlay.opaque", Some((4, "overlay.opaque")));
        check("security.capability", Some((6, "capability")));
        check("system.posix_acl_access", Some((2, "")));
        check("system.posix_acl_default", Some((3, "")));
        check("system.posix_acl_access2", None);
        check("system.nfs4_acl", None);
        check("user.a\0b", None);
    }

    #[test]
    fn bounds() {
        let check = |name: usize, values: &[usize], fits: bool| {
            let name = |index: usize| [b"user.".to_vec(), vec![b'a' + index as u8; name]].concat();
            let list: Vec<Xattr> = values.iter().enumerate().map(|(i, size)| (name(i), vec![7; *size])).collect();
            let encoded = encode(b"p", &list);
            assert_eq!(encoded.is_ok(), fits, "{encoded:?}");
            let Ok(bytes) = encoded else { return };
            assert_eq!(bytes.len(), if bytes.is_empty() { 0 } else { 12 + 4 * (usize::from(count(bytes.len())) - 1) });
        };
        check(1, &[], true);
        check(255, &[65_535], true);
        check(256, &[1], false);
        check(1, &[65_536], false);
        check(1, &[65_535, 65_535, 65_535, 65_000], true);
        check(1, &[65_535, 65_535, 65_535, 65_535], false);
    }

    #[test]
    fn later_ones_count() {
        let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let twice = encode(b"p", &[pair("user.b", "1"), pair("user.a", "2"), pair("user.b", "3")]).unwrap();
        assert_eq!(twice, encode(b"p", &[pair("user.a", "2"), pair("user.b", "3")]).unwrap());
    }
}
