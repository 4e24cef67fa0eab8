//! The mount of a container's cgroup.

use gantry_model::names::mount::attr;
use gantry_model::names::namespace::NamespaceKind;

use crate::error::{Error, Result};
use crate::lower::{Builder, Context};
use crate::step::{Action, Attributes, FsOption, MountBind, MountFs, Placement, Source};

impl Context<'_> {
    /// Mounts the container's cgroup: anew where it has a cgroup namespace, else bound from the host.
    pub(super) fn mount_cgroup(&self, b: &mut Builder, place: Placement, v2_asked: bool) -> Result<()> {
        let mounts = &self.input.host.cgroup_mounts;
        let own = self.namespaces.makes(NamespaceKind::Cgroup);
        let unprivileged = !self.input.host.privileged;
        let bind = |place: Placement, path: &str| {
            // Without a namespace of its own the container would see, and where rootless own, the host's tree.
            let mut place = place;
            place.attributes.set |= if unprivileged { attr::RDONLY } else { 0 };
            let source = Source::Path(path.to_owned());
            Action::MountBind(MountBind { place, source, recursive: false, follow_source: true, copy_symlink: false })
        };
        let fresh = |place: Placement, kind: &str, options: Vec<FsOption>| {
            let place = Placement { attributes: Attributes { clear: 0, ..place.attributes }, ..place };
            Action::MountFs(MountFs {
                place,
                kind: kind.to_owned(),
                source: "cgroup".to_owned(),
                options,
                ..MountFs::default()
            })
        };
        if mounts.v2 || v2_asked {
            let Some(unified) = mounts.hierarchies.iter().find(|h| h.v2) else {
                return Err(Error::config("mounts", "cgroup2 is asked for, and this host has none"));
            };
            b.init(if own { fresh(place, "cgroup2", vec![]) } else { bind(place, &unified.host_path) });
            return Ok(());
        }
        // Of version 1 each hierarchy is a directory of a tmpfs, which turns read-only once all are in it.
        let (set, clear) = (place.attributes.set, place.attributes.clear);
        let tmpfs = Placement { attributes: Attributes { set: set & !attr::RDONLY, clear }, ..place.clone() };
        let mode = vec![("mode".to_owned(), Some("755".to_owned()))];
        b.init(fresh(tmpfs, "tmpfs", mode));
        for hierarchy in &mounts.hierarchies {
            let target = format!("{}/{}", place.target, hierarchy.dir);
            let place = Placement { target, propagation: vec![], ..place.clone() };
            let kind = if hierarchy.v2 { "cgroup2" } else { "cgroup" };
            b.init(if own && self.namespaces.has(NamespaceKind::Mount) && !self.namespaces.has(NamespaceKind::User) {
                fresh(place, kind, hierarchy.options.clone())
            } else {
                bind(place, &hierarchy.host_path)
            });
        }
        for (name, to) in &mounts.links {
            let path = format!("{}/{name}", place.target);
            b.init(Action::Symlink { root: place.root, path, target: to.clone(), replace: false });
        }
        if set & attr::RDONLY != 0 {
            b.init(Action::SetAttributes {
                root: place.root,
                path: place.target,
                attributes: Attributes { set, clear: 0 },
            });
        }
        Ok(())
    }
}
