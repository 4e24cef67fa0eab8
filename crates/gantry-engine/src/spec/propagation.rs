//! How mounts are handed on between the host and a container.

use gantry_model::mountinfo::{self, Mount};

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
/// `table` is /proc/self/mountinfo (proc_pid_mountinfo(5)). Pure.
///
/// # Errors
/// One cannot.
pub fn check_propagation(settings: &Settings, table: &str) -> Result<(), Invalid> {
    for (path, _, root) in handed_on(settings) {
        let mount = mount_of(path, table);
        let (wanted, kind): (&[&str], _) = match root {
            "shared" => (&["shared:"], "shared"),
            _ => (&["shared:", "master:"], "shared or slave"),
        };
        if !mount.iter().any(|mount| wanted.iter().any(|wanted| mount.is_handed_on(wanted))) {
            let mount = mount.map_or_else(|| "/".to_owned(), |mount| mount.point);
            return Err(Invalid::Propagation { path: path.to_owned(), mount, kind });
        }
    }
    Ok(())
}

/// The mount that a path lies in: the longest, and the last of those at one place.
fn mount_of<'a>(path: &str, table: &'a str) -> Option<Mount<'a>> {
    let is_above = |mount: &Mount<'_>| {
        let rest = path.strip_prefix(&mount.point);
        mount.point == "/" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    mountinfo::parse(table).filter(is_above).max_by_key(|mount| mount.point.len())
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
}
