//! Tables of mounts, as processes have them in `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).

/// A line of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// The mount's number.
    pub id: u64,
    /// What of its file system is seen, from that one's root.
    pub root: String,
    /// Where it is seen.
    pub point: String,
    /// Options of this mount, with commas between.
    pub options: &'a str,
    /// How it is handed on: `shared:N`, `master:N`, `propagate_from:N`, `unbindable`, with spaces between.
    pub propagation: &'a str,
    /// Kind of its file system.
    pub kind: &'a str,
    /// What is mounted, as a device.
    pub source: String,
    /// Options of the file system, with commas between.
    pub super_options: &'a str,
}

impl<'a> Mount<'a> {
    /// Reads a line; none if it is not whole.
    pub fn parse(line: &'a str) -> Option<Self> {
        // What is handed on may be nothing, and then there is one space.
        let (mount, system) = line.split_once(" - ")?;
        let mut fields = mount.splitn(7, ' ');
        let mut next = || fields.next();
        let id = next()?.parse().ok()?;
        let (_parent, _device) = (next()?, next()?);
        let (root, point, options) = (unescape(next()?), unescape(next()?), next()?);
        let propagation = next().unwrap_or_default();
        let mut fields = system.split(' ');
        let (kind, source, super_options) = (fields.next()?, unescape(fields.next()?), fields.next()?);
        Some(Self { id, root, point, options, propagation, kind, source, super_options })
    }

    /// Whether it is handed on in a way, as `shared:`.
    pub fn is_handed_on(&self, how: &str) -> bool {
        self.propagation.split(' ').any(|word| word.starts_with(how))
    }
}

/// All mounts of a table; lines that are none are left out.
pub fn parse(text: &str) -> impl Iterator<Item = Mount<'_>> {
    text.lines().filter_map(Mount::parse)
}

/// Undoes what the kernel does to spaces, tabs, line feeds and backslashes: `\040` is a space.
pub fn unescape(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|b| (b'0'..=b'7').contains(b)));
        let value = digits.map(|digits| digits.iter().fold(0_u32, |value, b| value * 8 + u32::from(b - b'0')));
        let byte = value.and_then(|value| u8::try_from(value).ok());
        out.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |line: &str, expect: Option<(u64, &str, &str, &str, &str)>| {
            let found = Mount::parse(line);
            let found = found.as_ref().map(|m| (m.id, m.point.as_str(), m.propagation, m.kind, m.super_options));
            assert_eq!(found, expect, "{line}");
        };
        check(
            "36 35 98:0 /a /b rw,noatime master:1 - ext3 /dev/root rw,x",
            Some((36, "/b", "master:1", "ext3", "rw,x")),
        );
        check("1 0 8:1 / /a\\040b rw - ext4 /dev/a rw", Some((1, "/a b", "", "ext4", "rw")));
        let both = "2 1 0:5 / /srv rw shared:5 master:3 - tmpfs none rw";
        check(both, Some((2, "/srv", "shared:5 master:3", "tmpfs", "rw")));
        let both = Mount::parse(both).unwrap();
        assert!(both.is_handed_on("shared:") && both.is_handed_on("master:") && !both.is_handed_on("unbindable"));
        // A file system may have its name from whoever mounted it.
        check("3 1 0:6 / /x rw - fuse.a a\\040-\\040b rw", Some((3, "/x", "", "fuse.a", "rw")));
        for bad in [
            "",
            "x",
            "1 0 8:1 / /a rw",
            "1 0 8:1 / - ext4 /dev/a rw",
            "x 0 8:1 / /a rw - ext4 a rw",
            "1 0 8:1 / /a rw - ext4",
        ] {
            check(bad, None);
        }
        assert_eq!(parse("1 0 8:1 / / rw - ext4 a rw\nbroken\n2 1 8:1 / /b rw - ext4 a rw\n").count(), 2);
    }

    #[test]
    fn escapes() {
        let check = |text: &str, expect: &str| assert_eq!(unescape(text), expect);
        check(r"/a\040b\134", r"/a b\");
        check(r"/a\134040", r"/a\040");
        check(r"/a\303\251", "/aé");
        check(r"/a\x", r"/a\x");
        check(r"/a\04", r"/a\04");
        check(r"/a\777", r"/a\777");
        check(r"/a\089", r"/a\089");
    }
}
