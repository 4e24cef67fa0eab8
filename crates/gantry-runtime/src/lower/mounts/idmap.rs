//! Sources of bind mounts that are opened before, and whose ids are mapped.

use gantry_model::names::namespace::NamespaceKind;
use gantry_model::oci::spec::IdMapping;

use super::Parsed;
use crate::error::{Error, Result};
use crate::lower::{Builder, Context, Opened, field};
use crate::step::{Action, Slot};

impl Context<'_> {
    /// Opens the sources of bind mounts.
    pub(in crate::lower) fn open_binds(&self, b: &mut Builder, opened: &mut Opened) -> Result<()> {
        let mut made: Vec<(Vec<IdMapping>, Vec<IdMapping>, Slot)> = Vec::new();
        for parsed in self.parse_mounts()? {
            let idmapped = parsed.idmapped();
            let needed = parsed.is_bind()
                && (self.opens_for_init || self.elsewhere || idmapped.is_some())
                && !parsed.options.copy_symlink;
            if !needed {
                opened.binds.push(None);
                continue;
            }
            let slot = b.slot();
            let path = self.host_path(&parsed.mount.source);
            let recursive = parsed.options.recursive_bind;
            let (follow, propagation) = (!parsed.options.src_nofollow, self.tree_propagation()?);
            b.runtime(Action::OpenTree { path, recursive, follow, propagation, slot });
            if let Some(deep) = idmapped {
                let user_namespace = self.mapping_namespace(b, &parsed, &mut made)?;
                b.runtime(Action::IdmapTree { tree: slot, user_namespace, recursive: deep });
            }
            opened.binds.push(Some(slot));
        }
        Ok(())
    }

    /// The user namespace whose mappings an idmapped mount takes: one made for its mappings, or for the container's,
    /// or the one that the container joins.
    fn mapping_namespace(
        &self,
        b: &mut Builder,
        parsed: &Parsed<'_>,
        made: &mut Vec<(Vec<IdMapping>, Vec<IdMapping>, Slot)>,
    ) -> Result<Slot> {
        let (uid, gid) = self.mappings_of(parsed)?;
        if uid.is_empty() {
            let joined = self.namespaces.join.iter().find(|(kind, _)| *kind == NamespaceKind::User);
            let Some((_, path)) = joined else {
                let reason = "idmap needs mappings: on the mount, or a user namespace in linux.namespaces";
                return Err(Error::config(format!("mounts: {}", parsed.target), reason));
            };
            let slot = b.slot();
            b.runtime(Action::OpenUserNamespace { path: path.clone(), slot });
            return Ok(slot);
        }
        if let Some((.., slot)) = made.iter().find(|(u, g, _)| *u == uid && *g == gid) {
            return Ok(*slot);
        }
        field(&format!("mounts: {}", parsed.target), gantry_model::names::idmap::validate(&uid))?;
        field(&format!("mounts: {}", parsed.target), gantry_model::names::idmap::validate(&gid))?;
        let slot = b.slot();
        b.runtime(Action::MakeUserNamespace { uid: uid.clone(), gid: gid.clone(), slot });
        made.push((uid, gid, slot));
        Ok(slot)
    }

    /// The mappings of an idmapped mount; empty where they are a joined namespace's.
    fn mappings_of(&self, parsed: &Parsed<'_>) -> Result<(Vec<IdMapping>, Vec<IdMapping>)> {
        let container = (&self.linux.uid_mappings, &self.linux.gid_mappings);
        if let Some(idmap) = parsed.options.idmap.as_ref().filter(|idmap| !idmap.uids.is_empty()) {
            let absolute = |ranges: &[gantry_model::names::mount::OptionRange], map: &[IdMapping]| {
                let range = |range: &gantry_model::names::mount::OptionRange| {
                    let outside = if range.relative {
                        gantry_model::names::idmap::host_id(map, range.to)
                    } else {
                        Some(range.to)
                    };
                    outside.map(|host_id| IdMapping { container_id: range.from, host_id, size: range.size })
                };
                ranges.iter().map(range).collect::<Option<Vec<_>>>()
            };
            let uid = absolute(&idmap.uids, container.0);
            let gid = absolute(&idmap.gids, container.1);
            return uid.zip(gid).ok_or_else(|| {
                Error::config(format!("mounts: {}", parsed.target), "a relative id is not mapped in the container")
            });
        }
        if !parsed.mount.uid_mappings.is_empty() {
            return Ok((parsed.mount.uid_mappings.clone(), parsed.mount.gid_mappings.clone()));
        }
        Ok((container.0.clone(), container.1.clone()))
    }
}
