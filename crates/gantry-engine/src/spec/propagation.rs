//! How mounts are handed on between the host and a container.

use super::Invalid;
use crate::settings::{MountSetting, MountSource, Settings};

/// The ways, and what the root mount must be so that they work.
const MODES: [(&str, &str); 6] = [
    ("private", ""),
    ("rprivate", ""),
    ("slave", "rslave"),
    ("rslave", "rslave"),
    ("shared", "shared"),
    ("rshared", "shared"),
];

/// A way by its name; empty is none.
pub(super) fn mode(name: &str) -> Result<&str, Invalid> {
    match name {
        "" => Ok("rprivate"),
        _ if MODES.iter().any(|(mode, _)| *mode == name) => Ok(name),
        _ => Err(Invalid::PropagationMode(name.to_owned())),
    }
}

/// What the root mount of a container is: what its mounts need at most; empty leaves it to the runtime.
pub(super) fn of_root(settings: &Settings) -> &'static str {
    let needs: Vec<&str> = handed_on(settings).map(|(_, _, root)| root).collect();
    ["shared", "rslave"].into_iter().find(|root| needs.contains(root)).unwrap_or("")
}

/// Whether [`check_propagation`] has anything to check.
pub fn needs_propagation(settings: &Settings) -> bool {
    handed_on(settings).next().is_some()
}

/// Sources that are handed on: their paths, how, and what the root must be.
fn handed_on(settings: &Settings) -> impl Iterator<Item = (&str, &str, &'static str)> {
    settings.mounts.iter().filter_map(|MountSetting { source, .. }| {
        let MountSource::Bind { path, propagation, .. } = source else { return None };
        let (_, root) = MODES.iter().find(|(mode, root)| mode == propagation && !root.is_empty())?;
        Some((path.as_str(), propagation.as_str(), *root))
    })
}

/// Checks that mounts of the host can be handed on as asked: a source must lie in a mount that is shared, or receives.
/// `mountinfo` is /proc/self/mountinfo (proc_pid_mountinfo(5)). Pure.
///
/// # Errors
/// One cannot.
pub fn check_propagation(settings: &Settings, mountinfo: &str) -> Result<(), Invalid> {
    for (path, _, root) in handed_on(settings) {
        let (mount, fields) = mount_of(path, mountinfo).unwrap_or_else(|| ("/".to_owned(), vec![]));
        let (wanted, kind): (&[&str], _) = match root {
            "shared" => (&["shared:"], "shared"),
            _ => (&["shared:", "master:"], "shared or slave"),
        };
        if !fields.iter().any(|field| wanted.iter().any(|wanted| field.starts_with(wanted))) {
            return Err(Invalid::Propagation { path: path.to_owned(), mount, kind });
        }
    }
    Ok(())
}

/// The mount that a path lies in, the last of those at one place, and its optional fields.
fn mount_of<'a>(path: &str, mountinfo: &'a str) -> Option<(String, Vec<&'a str>)> {
    let mut best: Option<(String, Vec<&str>)> = None;
    for line in mountinfo.lines() {
        let mut words = line.split(' ').skip(4);
        let Some(point) = words.next().map(unescape) else { continue };
        let below =
            point == "/" || path.strip_prefix(&point).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if below && best.as_ref().is_none_or(|(known, _)| point.len() >= known.len()) {
            best = Some((point, words.skip(1).take_while(|word| *word != "-").collect()));
        }
    }
    best
}

/// A path as the kernel writes it: space, tab, newline and backslash are octal numbers.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let number = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(char::from(number.unwrap_or(b'\\')));
        rest = if number.is_some() { &after[3..] } else { after };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(path: &str, propagation: &str) -> Settings {
        let source = MountSource::Bind {
            path: path.to_owned(),
            propagation: propagation.to_owned(),
            non_recursive: false,
            reach: crate::settings::Reach::Deep,
        };
        let mount = MountSetting { target: "/x".to_owned(), readonly: false, source };
        Settings { mounts: vec![mount], ..Settings::default() }
    }

    #[test]
    fn what_the_host_must_be() {
        let table = "1 0 8:1 / / rw - ext4 /dev/a rw
2 1 8:2 / /srv rw shared:5 - ext4 /dev/b rw
3 2 8:3 / /srv/a\\040b rw,nosuid master:5 - ext4 /dev/c rw
4 2 8:4 / /srv/over rw shared:7 - tmpfs none rw
5 2 8:4 / /srv/over rw - tmpfs none rw
";
        let check = |path: &str, propagation: &str, expect: &str| {
            let settings = settings(path, propagation);
            let found = check_propagation(&settings, table).map_or_else(|error| error.to_string(), |()| String::new());
            assert_eq!(found, expect, "{path} {propagation}");
        };
        check("/srv/data", "rshared", "");
        check("/srv", "shared", "");
        check("/srvx", "shared", "path /srvx is mounted on / but it is not a shared mount");
        check("/srvx", "rprivate", "");
        check("/srvx", "", "");
        check("/srv/a b/c", "rslave", "");
        check("/srv/a b/c", "rshared", "path /srv/a b/c is mounted on /srv/a b but it is not a shared mount");
        check("/etc", "slave", "path /etc is mounted on / but it is not a shared or slave mount");
        check("/srv/over", "shared", "path /srv/over is mounted on /srv/over but it is not a shared mount");
    }

    #[test]
    fn what_the_root_must_be() {
        let check = |modes: &[&str], expect: &str| {
            let mounts = modes.iter().flat_map(|mode| settings("/a", mode).mounts).collect();
            let settings = Settings { mounts, ..Settings::default() };
            assert_eq!(of_root(&settings), expect, "{modes:?}");
            assert_eq!(needs_propagation(&settings), !expect.is_empty());
        };
        check(&[], "");
        check(&["", "rprivate", "private"], "");
        check(&["rslave"], "rslave");
        check(&["slave", "shared"], "shared");
        check(&["rshared", "rslave"], "shared");
    }

    #[test]
    fn paths() {
        let check = |text: &str, expect: &str| assert_eq!(unescape(text), expect);
        check(r"/a\040b\134", r"/a b\");
        check(r"/a\x", r"/a\x");
        check(r"/a\04", r"/a\04");
    }
}
