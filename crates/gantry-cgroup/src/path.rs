//! Where a container's cgroup shall be: `linux.cgroupsPath` (config-linux.md, Cgroups Path).

use crate::error::Error;

/// A place in every hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Inner {
    /// Below the root of the hierarchy.
    Absolute(String),
    /// Below this process's own cgroup.
    Relative(String),
    /// Beside this process's own cgroup.
    Sibling(String),
}

/// Longest path, below a mount point.
const MAX_PATH: usize = 3072;

/// Reads a path for the file system driver. An empty one leads to a cgroup named after the container: at the top for who may
/// make one there, else beside the cgroup of this process.
pub(crate) fn inner(path: &str, id: &str, rootless: bool) -> Result<Inner, Error> {
    if path.is_empty() {
        let name = clean(id)?;
        return Ok(if rootless { Inner::Sibling(name) } else { Inner::Absolute(name) });
    }
    let clean = clean(path)?;
    Ok(if path.starts_with('/') { Inner::Absolute(clean) } else { Inner::Relative(clean) })
}

/// Components without empty ones and `.`, joined; `..` is refused, as is what names no cgroup.
pub(crate) fn clean(path: &str) -> Result<String, Error> {
    let wrong = |why| Err(Error::path(path, why));
    if path.len() > MAX_PATH {
        return wrong("longer than 3072 bytes");
    }
    if path.contains(['\0', '\n']) {
        return wrong("contains a NUL or a line break");
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return wrong("contains \"..\"");
    }
    if parts.iter().any(|part| part.len() > 255) {
        return wrong("a component is longer than 255 bytes");
    }
    if parts.is_empty() {
        return wrong("names the root of the hierarchy, which is everybody's");
    }
    Ok(parts.join("/"))
}

/// A unit of systemd and the slice it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Name, with `.scope` or `.slice`.
    pub(crate) name: String,
    /// Slice, with `.slice`.
    pub(crate) slice: String,
}

/// Reads a path for the systemd driver: `slice:prefix:name`, `slice:name`, or nothing.
pub(crate) fn unit(path: &str, id: &str, rootless: bool) -> Result<Unit, Error> {
    let default = if rootless { "user.slice" } else { "system.slice" };
    let parts: Vec<&str> = path.split(':').collect();
    let (slice, prefix, name) = match parts.as_slice() {
        [""] => (default, "gantry", id),
        [slice, name] => (*slice, "", *name),
        [slice, prefix, name] => (*slice, *prefix, *name),
        _ => return Err(Error::path(path, "the systemd driver takes slice:prefix:name")),
    };
    let slice = if slice.is_empty() { default } else { slice };
    expand_slice(slice)?;
    let name = if is_slice(name) {
        expand_slice(name)?;
        name.to_owned()
    } else if prefix.is_empty() {
        format!("{}.scope", name.strip_suffix(".scope").unwrap_or(name))
    } else {
        format!("{prefix}-{name}.scope")
    };
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    if name.len() > 255 || name.starts_with('.') || !name.chars().all(good) {
        return Err(Error::path(&name, "not the name of a systemd unit (systemd.unit(5))"));
    }
    Ok(Unit { name, slice: slice.to_owned() })
}

/// Whether a unit is a slice.
pub(crate) fn is_slice(unit: &str) -> bool {
    unit.strip_suffix(".slice").is_some()
}

/// The cgroup of a slice: `a-b.slice` is in `a.slice`, so it is `a.slice/a-b.slice`. The root slice is the empty path.
pub(crate) fn expand_slice(slice: &str) -> Result<String, Error> {
    let wrong = || Error::path(slice, "not the name of a systemd slice (systemd.slice(5))");
    let stem = slice.strip_suffix(".slice").ok_or_else(wrong)?;
    if stem == "-" {
        return Ok(String::new());
    }
    let (mut path, mut prefix) = (String::new(), String::new());
    for part in stem.split('-') {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '.' | '\\' | '@');
        if part.is_empty() || slice.len() > 255 || part.starts_with('.') || !part.chars().all(good) {
            return Err(wrong());
        }
        prefix.push_str(part);
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(&prefix);
        path.push_str(".slice");
        prefix.push('-');
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_paths() {
        let check = |path: &str, rootless, expect: Option<Inner>| {
            assert_eq!(inner(path, "box", rootless).ok(), expect, "{path:?}");
        };
        check("", false, Some(Inner::Absolute("box".into())));
        check("", true, Some(Inner::Sibling("box".into())));
        check("/a//b/./c/", false, Some(Inner::Absolute("a/b/c".into())));
        check("a/b", false, Some(Inner::Relative("a/b".into())));
        check("system.slice:x:y", false, Some(Inner::Relative("system.slice:x:y".into())));
        check("/", false, None);
        check("/a/../b", false, None);
        check("..", false, None);
        check("a\0b", false, None);
        check("a\nb", false, None);
        check(&"a/".repeat(2000), false, None);
        check(&"a".repeat(256), false, None);
    }

    #[test]
    fn units() {
        let check = |path: &str, rootless, expect: Option<(&str, &str)>| {
            let got = unit(path, "box", rootless).ok();
            assert_eq!(got.as_ref().map(|u| (u.slice.as_str(), u.name.as_str())), expect, "{path:?}");
        };
        check("", false, Some(("system.slice", "gantry-box.scope")));
        check("", true, Some(("user.slice", "gantry-box.scope")));
        check("machine.slice:libpod:1a", false, Some(("machine.slice", "libpod-1a.scope")));
        check(":docker:1a", false, Some(("system.slice", "docker-1a.scope")));
        check("a-b.slice::c", false, Some(("a-b.slice", "c.scope")));
        check("system.slice:x.scope", false, Some(("system.slice", "x.scope")));
        check("a.slice::a-pod.slice", false, Some(("a.slice", "a-pod.slice")));
        check("/a/b", false, None);
        check("a:b:c:d", false, None);
        check("a.slice:b:c/d", false, None);
        check("a:b:c", false, None);
    }

    #[test]
    fn slices() {
        let check =
            |slice: &str, expect: Option<&str>| assert_eq!(expand_slice(slice).ok().as_deref(), expect, "{slice}");
        check("a.slice", Some("a.slice"));
        check("a-b-c.slice", Some("a.slice/a-b.slice/a-b-c.slice"));
        check("-.slice", Some(""));
        check("a--b.slice", None);
        check("-a.slice", None);
        check("a/b.slice", None);
        check("..slice", None);
        check("a", None);
    }
}
