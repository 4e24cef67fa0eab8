//! Finding out what a plan needs to know of container and host.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use gantry_cgroup::{Layout, Location};
use gantry_model::mountinfo;
use gantry_model::names::namespace::NamespaceKind;
use gantry_model::oci::spec::Spec;
use rustix::fs::{FileType, Mode, OFlags, fstat};

use super::plan::{External, Stream, cgroup_path};
use crate::error::{Context, Error, Result};
use crate::interp::paths::{open_host, open_in};

/// Names a file of options for CRIU in a configuration.
const CONFIG_ANNOTATION: &str = "org.criu.config";
/// Files of options for CRIU, the first that is there counts: those of the usual runtimes hold for this one too.
const CONFIG_FILES: [&str; 3] = ["/etc/criu/gantry.conf", "/etc/criu/crun.conf", "/etc/criu/runc.conf"];

/// The file of further options; an empty annotation wants none.
pub(crate) fn config_file(spec: &Spec) -> Option<String> {
    match spec.annotations.get(CONFIG_ANNOTATION) {
        Some(path) => (!path.is_empty()).then(|| path.clone()),
        None => CONFIG_FILES.iter().find(|path| Path::new(path).exists()).map(|path| (*path).to_owned()),
    }
}

/// Whether CRIU would not find the program by which it holds the network still.
pub(crate) fn no_iptables() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    !std::env::split_paths(&path).any(|dir| dir.join("iptables-restore").exists())
}

/// The points of all mounts that a process sees, and their ids, the octal escapes resolved.
pub(crate) fn mounts_of(process: &str) -> Result<Vec<(u64, String)>> {
    let path = format!("/proc/{process}/mountinfo");
    let text = std::fs::read_to_string(&path).context(|| format!("read {path}"))?;
    Ok(mountinfo::parse(&text).map(|mount| (mount.id, mount.point)).collect())
}

/// Where a path leads inside a root, and whether to a directory; itself where nothing is there.
pub(crate) fn resolve(root: BorrowedFd<'_>, path: &str) -> (String, bool) {
    let found = || -> std::io::Result<(String, bool)> {
        let top = link_of(root)?;
        let fd = open_in(root, path, OFlags::PATH, Mode::empty())?;
        let directory = FileType::from_raw_mode(fstat(&fd)?.st_mode).is_dir();
        let there = link_of(fd.as_fd())?;
        let inside = there.strip_prefix(top.trim_end_matches('/')).filter(|rest| rest.starts_with('/'));
        Ok((inside.map_or_else(|| path.to_owned(), str::to_owned), directory))
    };
    found().unwrap_or_else(|_| (path.to_owned(), false))
}

fn link_of(fd: BorrowedFd<'_>) -> std::io::Result<String> {
    let link = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), vec![])?;
    Ok(link.to_string_lossy().into_owned())
}

/// What the targets of external mounts lead to in a container's root.
pub(crate) fn resolve_all(root: &str, externals: Vec<External>) -> Result<Vec<(External, String, bool)>> {
    let root = open_host(root, OFlags::PATH | OFlags::DIRECTORY).context(|| format!("open {root}"))?;
    let resolved = |external: External| {
        let (point, directory) = resolve(root.as_fd(), &external.target);
        (external, point, directory)
    };
    Ok(externals.into_iter().map(resolved).collect())
}

/// The standard streams of a process. A file that is on none of its mounts is from outside; descriptors that it closed
/// are empty.
pub(crate) fn streams_of(pid: i32, mounts: &[(u64, String)]) -> Vec<Stream> {
    let stream = |number: i32| {
        let path = format!("/proc/{pid}/fd/{number}");
        let link = rustix::fs::readlink(&path, vec![]).ok()?.to_string_lossy().into_owned();
        let outside = link.starts_with('/').then(|| {
            let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
            let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())?;
            let known = mounts.iter().any(|(id, _)| *id == mount);
            let inode = rustix::fs::stat(&path).ok()?.st_ino;
            (!known).then_some((mount, inode))
        });
        Some(Stream { link, outside: outside.flatten() })
    };
    (0..3).map(|number| stream(number).unwrap_or_default()).collect()
}

/// The namespaces of a configuration that are joined, with their files.
pub(crate) fn joined(spec: &Spec) -> Vec<(NamespaceKind, String)> {
    let namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    let with_path = namespaces.filter(|namespace| !namespace.path.is_empty());
    with_path.filter_map(|ns| Some((NamespaceKind::from_name(&ns.kind).ok()?, ns.path.clone()))).collect()
}

/// Whether a namespace of that kind is made for the container.
pub(crate) fn makes(spec: &Spec, kind: NamespaceKind) -> bool {
    let mut namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    namespaces.any(|namespace| namespace.path.is_empty() && namespace.kind == kind.name())
}

/// The inode of a namespace's file.
pub(crate) fn inode(path: &str) -> Result<u64> {
    Ok(rustix::fs::stat(path).context(|| format!("look at {path}"))?.st_ino)
}

/// A container's cgroup in each hierarchy, as CRIU names it: a controller, and a path from the hierarchy's top.
pub(crate) fn cgroup_roots(location: &Location) -> Result<Vec<(String, String)>> {
    if location.is_none() {
        return Ok(Vec::new());
    }
    let layout = Layout::detect()?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let unseen = |dir: &Path| Error::Unsupported(format!("cgroup {} is in no mounted hierarchy", dir.display()));
    let mut roots = Vec::new();
    for hierarchy in &location.v1 {
        for controller in &hierarchy.subsystems {
            let mount = layout.v1_of(controller).ok_or_else(|| unseen(&hierarchy.dir))?;
            let path = cgroup_path(&text(&hierarchy.dir), &text(&mount.point), &mount.root);
            roots.push((controller.clone(), path.ok_or_else(|| unseen(&hierarchy.dir))?));
        }
    }
    if let (Some(dir), Some(mount)) = (location.unified_dir(), &layout.unified) {
        let path = cgroup_path(&text(dir), &text(&mount.point), &mount.root);
        roots.push((String::new(), path.ok_or_else(|| unseen(dir))?));
    }
    Ok(roots)
}

/// The directory of the freezer of a container's cgroup.
pub(crate) fn freezer(location: &Location) -> Option<String> {
    let dir = location.v1_dir("freezer").or_else(|| location.unified_dir());
    dir.map(|dir| dir.to_string_lossy().into_owned())
}

/// Whether two processes are in the same namespace of a kind, as far as that can be seen.
pub(crate) fn same_namespace(one: &str, other: &str, kind: NamespaceKind) -> bool {
    let link = |whose: &str| rustix::fs::readlink(format!("/proc/{whose}/ns/{}", kind.proc_name()), vec![]).ok();
    link(one) == link(other)
}
