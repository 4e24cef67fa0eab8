//! What is mounted in a container, of all that was asked for in several ways. Pure.

use std::collections::BTreeMap;

use crate::container::Mount;
use crate::error::{Error, Result};
use crate::request::{Host, MountKind, MountRequest};

/// Something to mount, and what becomes of its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Planned {
    /// What is mounted; a volume without a name is still to be made.
    pub(crate) mount: Mount,
    /// Whether a missing directory of the host is made.
    pub(crate) create_source: bool,
    /// Labels of a new volume.
    pub(crate) labels: BTreeMap<String, String>,
    /// Driver of a new volume.
    pub(crate) driver: String,
    /// Options of a new volume.
    pub(crate) options: BTreeMap<String, String>,
}

const PROPAGATIONS: [&str; 6] = ["shared", "rshared", "slave", "rslave", "private", "rprivate"];

/// All mounts: those of other containers, then what was asked for, then the volumes that the image wants. `others` are the
/// mounts of other containers, each with whether they are to be read-only.
pub(crate) fn all<'a>(
    host: &Host,
    volumes: impl IntoIterator<Item = &'a String>,
    others: &[(Vec<Mount>, bool)],
) -> Result<Vec<Planned>> {
    let mut list: Vec<Planned> = Vec::new();
    for (mounts, readonly) in others {
        for mount in mounts.iter().filter(|mount| mount.kind != MountKind::Tmpfs) {
            let mount = Mount { writable: mount.writable && !readonly, anonymous: false, ..mount.clone() };
            replace(&mut list, Planned { mount, ..Planned::default() });
        }
    }
    let mut asked: Vec<Planned> = Vec::new();
    let binds = host.binds.iter().map(|text| bind(text));
    let mounts = host.mounts.iter().map(request);
    for planned in binds.chain(mounts) {
        let planned = planned?;
        let target = &planned.mount.target;
        if asked.iter().any(|other| other.mount.target == *target) || host.tmpfs.keys().any(|one| clean(one) == *target)
        {
            return Err(Error::Invalid(format!("Duplicate mount point: {target}")));
        }
        asked.push(planned);
    }
    for (target, options) in &host.tmpfs {
        let target = target_of(target)?;
        let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        let mount = Mount { kind: MountKind::Tmpfs, target, options, writable: true, ..Mount::default() };
        asked.push(Planned { mount, ..Planned::default() });
    }
    for planned in asked {
        replace(&mut list, planned);
    }
    for target in volumes {
        let target = target_of(target)?;
        if !list.iter().any(|other| other.mount.target == target) {
            let mount = Mount { kind: MountKind::Volume, target, writable: true, anonymous: true, ..Mount::default() };
            list.push(Planned { mount, ..Planned::default() });
        }
    }
    Ok(list)
}

fn replace(list: &mut Vec<Planned>, planned: Planned) {
    list.retain(|other| other.mount.target != planned.mount.target);
    list.push(planned);
}

/// A path without doubled slashes and single dots.
fn clean(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}

fn target_of(path: &str) -> Result<String> {
    if !path.starts_with('/') {
        return Err(Error::Invalid(format!("invalid mount path: '{path}' mount path must be absolute")));
    }
    let mut parts = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        // By the words alone: what links the image has is seen when it is mounted.
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    let cleaned = format!("/{}", parts.join("/"));
    if cleaned == "/" {
        return Err(Error::Invalid("invalid specification: destination can't be '/'".to_owned()));
    }
    Ok(cleaned)
}

/// Reads `SOURCE:TARGET[:OPTIONS]`, or a target alone.
fn bind(text: &str) -> Result<Planned> {
    let invalid = |why: &str| Error::Invalid(format!("invalid volume specification: '{text}'{why}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err(invalid("")),
    };
    if target.is_empty() {
        return Err(invalid(""));
    }
    let kind = if source.starts_with('/') { "bind" } else { "volume" };
    let target = target_of(target).map_err(|error| match error {
        Error::Invalid(why) => invalid(&format!(": invalid mount config for type {kind:?}: {why}")),
        other => other,
    })?;
    let mut mount = Mount { target, mode: options.to_owned(), writable: true, ..Mount::default() };
    if source.starts_with('/') {
        (mount.kind, mount.source) = (MountKind::Bind, clean(source));
        "rprivate".clone_into(&mut mount.propagation);
    } else {
        mount.kind = MountKind::Volume;
        if source.is_empty() {
            mount.anonymous = true;
        } else {
            super::check_name(source)?;
            source.clone_into(&mut mount.name);
        }
    }
    if mount.kind == MountKind::Volume && mount.mode.is_empty() {
        "z".clone_into(&mut mount.mode);
    }
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => mount.writable = false,
            "rw" | "z" | "Z" | "rbind" | "cached" | "delegated" | "consistent" => {}
            "bind" => mount.non_recursive = true,
            "nocopy" if mount.kind == MountKind::Volume => mount.no_copy = true,
            option if PROPAGATIONS.contains(&option) && mount.kind == MountKind::Bind => {
                option.clone_into(&mut mount.propagation);
            }
            _ => return Err(Error::Invalid(format!("invalid mode: {options}"))),
        }
    }
    Ok(Planned { create_source: mount.kind == MountKind::Bind, mount, ..Planned::default() })
}

/// A mount that was asked for in full.
fn request(asked: &MountRequest) -> Result<Planned> {
    let kind = match asked.kind {
        MountKind::Bind => "bind",
        MountKind::Volume => "volume",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Image => "image",
    };
    let invalid = |why: String| Error::Invalid(format!("invalid mount config for type {kind:?}: {why}"));
    if asked.target.is_empty() {
        return Err(invalid("field Target must not be empty".to_owned()));
    }
    let mut mount = Mount {
        kind: asked.kind,
        target: target_of(&asked.target)?,
        writable: !asked.readonly,
        no_copy: asked.no_copy,
        subpath: asked.subpath.clone(),
        non_recursive: asked.non_recursive,
        ..Mount::default()
    };
    match asked.kind {
        MountKind::Bind => {
            if !asked.source.starts_with('/') {
                return Err(invalid(format!("invalid mount path: '{}' mount path must be absolute", asked.source)));
            }
            mount.source = clean(&asked.source);
            mount.propagation =
                if asked.propagation.is_empty() { "rprivate".to_owned() } else { asked.propagation.clone() };
            if !PROPAGATIONS.contains(&mount.propagation.as_str()) {
                return Err(invalid(format!("invalid propagation mode: {}", asked.propagation)));
            }
        }
        MountKind::Volume => {
            if asked.source.is_empty() {
                mount.anonymous = true;
            } else {
                super::check_name(&asked.source)?;
                mount.name.clone_from(&asked.source);
            }
            check_subpath(&asked.subpath).map_err(invalid)?;
            "z".clone_into(&mut mount.mode);
        }
        MountKind::Tmpfs => {
            if !asked.source.is_empty() {
                return Err(invalid("field Source must not be specified".to_owned()));
            }
            mount.options = tmpfs_options(asked);
        }
        MountKind::Image => {
            if asked.source.is_empty() {
                return Err(invalid("field Source must not be empty".to_owned()));
            }
            mount.name.clone_from(&asked.source);
            mount.writable = false;
            check_subpath(&asked.subpath).map_err(invalid)?;
        }
    }
    Ok(Planned {
        mount,
        create_source: asked.create_source,
        labels: asked.labels.clone(),
        driver: asked.driver.clone(),
        options: asked.driver_options.clone(),
    })
}

/// Options of a memory file system, as mount(8) has them.
fn tmpfs_options(asked: &MountRequest) -> Vec<String> {
    let size = (asked.tmpfs_size != 0).then(|| format!("size={}", asked.tmpfs_size));
    let mode = (asked.tmpfs_mode != 0).then(|| format!("mode={:o}", asked.tmpfs_mode));
    size.into_iter().chain(mode).chain(asked.tmpfs_options.iter().cloned()).collect()
}

fn check_subpath(path: &str) -> Result<(), String> {
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!("subpath must be a relative path within the volume: {path}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(planned: &Planned) -> String {
        let mount = &planned.mount;
        let access = if mount.writable { "rw" } else { "ro" };
        let name = if mount.kind == MountKind::Bind { &mount.source } else { &mount.name };
        format!("{:?} {name} {} {access} {}", mount.kind, mount.target, mount.propagation).trim_end().to_owned()
    }

    #[test]
    fn binds() {
        let check = |text: &str, expect: &str| {
            let found = bind(text).map_or_else(|error| error.to_string(), |planned| shown(&planned));
            assert_eq!(found, expect, "{text}");
        };
        check("/a:/b", "Bind /a /b rw rprivate");
        check("/a//x/.:/b/:ro,rshared", "Bind /a/x /b ro rshared");
        check("vv:/b:nocopy", "Volume vv /b rw");
        check("/b", "Volume  /b rw");
        check("/a:/b:what", "invalid mode: what");
        check("vv:/b:rshared", "invalid mode: rshared");
        let root = "invalid specification: destination can't be '/'";
        let of = |text: &str, kind: &str| {
            format!("invalid volume specification: '{text}': invalid mount config for type \"{kind}\": {root}")
        };
        check("/a:/", &of("/a:/", "bind"));
        check("v:/b/../..", &of("v:/b/../..", "volume"));
        check("/a:/x/..//b/", "Bind /a /b rw rprivate");
        let relative = "invalid mount path: 'b' mount path must be absolute";
        check(
            "/a:b",
            &format!("invalid volume specification: '/a:b': invalid mount config for type \"bind\": {relative}"),
        );
        check("a:b:c:d", "invalid volume specification: 'a:b:c:d'");
        check("/a:", "invalid volume specification: '/a:'");
        let expect = "create ../x: \"../x\" includes invalid characters for a local volume name, only \
                      \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path";
        check("../x:/b", expect);
    }

    #[test]
    fn together() {
        let check = |binds: &[&str], tmpfs: &[&str], image: &[&str], expect: &[&str]| {
            let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
            let host = Host {
                binds: list(binds),
                tmpfs: tmpfs.iter().map(|&target| (target.to_owned(), "size=1m".to_owned())).collect(),
                ..Host::default()
            };
            let other = Mount {
                kind: MountKind::Volume,
                name: "o".to_owned(),
                target: "/o".to_owned(),
                writable: true,
                ..Mount::default()
            };
            let found = match all(&host, &list(image), &[(vec![other], true)]) {
                Ok(found) => found.iter().map(shown).collect(),
                Err(error) => vec![error.to_string()],
            };
            assert_eq!(found, expect, "{binds:?}");
        };
        check(
            &["/a:/b"],
            &["/t"],
            &["/b", "/v"],
            &["Volume o /o ro", "Bind /a /b rw rprivate", "Tmpfs  /t rw", "Volume  /v rw"],
        );
        check(&["xx:/o"], &[], &[], &["Volume xx /o rw"]);
        check(&["/a:/b", "/c:/b/"], &[], &[], &["Duplicate mount point: /b"]);
        check(&["/a:/b"], &["/b/"], &[], &["Duplicate mount point: /b"]);
    }
}
