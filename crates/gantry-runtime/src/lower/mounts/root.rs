//! The container's root: how it is opened, filled, and taken as the root.

use gantry_model::names::mount::Propagation;
use gantry_model::names::namespace::NamespaceKind;

use super::clean;
use crate::error::{Error, Result};
use crate::lower::{Builder, Context, Opened, field};
use crate::step::{Action, By, HookKind, Slot, Source};

/// Propagation of mount(2).
mod ms {
    pub(super) const REC: u32 = 0x4000;
    pub(super) const UNBINDABLE: u32 = 1 << 17;
    pub(super) const PRIVATE: u32 = 1 << 18;
    pub(super) const SLAVE: u32 = 1 << 19;
    pub(super) const SHARED: u32 = 1 << 20;
}

impl Context<'_> {
    /// The root file system's path on the host.
    fn root_path(&self) -> Result<String> {
        let root = self.input.spec.root.as_ref().ok_or_else(|| Error::config("root", "it is missing"))?;
        if root.path.is_empty() || root.path.contains('\0') {
            return Err(Error::config("root.path", "it is empty or has a NUL"));
        }
        let path = self.host_path(&root.path);
        if clean(&path) == "/" {
            return Err(Error::config("root.path", "the host's root cannot be a container's"));
        }
        Ok(path)
    }

    /// How the container's root mount propagates in the end, `MS_*` bits; none if the configuration does not say.
    fn wanted_propagation(&self) -> Result<Option<u32>> {
        let wanted = self.linux.rootfs_propagation.as_str();
        if wanted.is_empty() {
            return Ok(None);
        }
        Ok(Some(field("linux.rootfsPropagation", Propagation::from_name(wanted))?.ms_flags() as u32))
    }

    /// How the host's mounts propagate in the container's namespace before anything is mounted there. Nothing leads back
    /// to the host unless the root is to be shared; what cannot be bound could not become the root either.
    fn first_propagation(&self) -> Result<u32> {
        Ok(match self.wanted_propagation()? {
            None => ms::SLAVE | ms::REC,
            Some(flags) if flags & ms::UNBINDABLE != 0 => ms::PRIVATE | ms::REC,
            Some(flags) => flags | ms::REC,
        })
    }

    /// The same for a tree that is opened outside of the container's namespace, and would be the host's peer in it.
    /// Mounts of a user namespace of its own never propagate to the host.
    pub(in crate::lower) fn tree_propagation(&self) -> Result<u32> {
        let first = self.first_propagation()?;
        Ok(match (first & ms::SHARED != 0, self.opens_for_init) {
            (true, true) => ms::SLAVE | ms::REC,
            (true, false) => 0,
            (false, _) => first,
        })
    }

    /// Opens the trees that the container's process has no right to open or to map itself.
    pub(in crate::lower) fn open_trees(&self, b: &mut Builder, opened: &mut Opened) -> Result<()> {
        let has_mounts = self.namespaces.has(NamespaceKind::Mount);
        if !has_mounts {
            return self.open_shared_root(b, opened);
        }
        if self.opens_for_init || self.elsewhere {
            let slot = b.slot();
            let propagation = self.tree_propagation()?;
            b.runtime(Action::OpenTree { path: self.root_path()?, recursive: true, follow: true, propagation, slot });
            opened.root = Some(slot);
        }
        self.open_binds(b, opened)
    }

    /// Binds the root of a container that has mounts and no mount namespace: they are made in the runtime's.
    fn open_shared_root(&self, b: &mut Builder, opened: &mut Opened) -> Result<()> {
        if self.input.spec.mounts.is_empty() {
            return Ok(());
        }
        if !self.input.host.privileged || self.namespaces.has(NamespaceKind::User) {
            let reason = "without a mount namespace in linux.namespaces they take root, and no user namespace";
            return Err(Error::config("mounts", reason));
        }
        let slot = b.slot();
        b.runtime(Action::BindSharedRoot { path: self.root_path()?, slot });
        opened.root = Some(slot);
        Ok(())
    }

    /// Makes the container's file system; what follows happens inside it.
    pub(in crate::lower) fn file_system(&self, b: &mut Builder, opened: &mut Opened) -> Result<Slot> {
        let root = b.slot();
        let path = self.root_path()?;
        if !self.namespaces.has(NamespaceKind::Mount) {
            return self.bare_root(b, root, path, opened);
        }
        let wanted = self.wanted_propagation()?;
        b.init(Action::Umask { mask: Some(0) });
        b.init(Action::Propagation { path: "/".to_owned(), flags: self.first_propagation()? });
        let source = opened.root.map_or_else(|| Source::Path(path.clone()), Source::Tree);
        // The way to it may be closed to the container's user. Over the host's root it can be taken as the root as well.
        let path = if self.opens_for_init && !self.input.flags.no_pivot { "/".to_owned() } else { path };
        if wanted.is_some() {
            b.init(Action::PrivateParent { path: path.clone() });
        }
        b.init(Action::BindRoot { source, path, slot: root });
        let masks = !self.linux.masked_paths.is_empty();
        let null = masks.then(|| b.slot());
        if let Some(slot) = null {
            b.init(Action::OpenNull { slot });
        }
        let mounts = self.parse_mounts()?;
        for (parsed, tree) in mounts.iter().zip(opened.binds.iter().copied().chain(std::iter::repeat(None))) {
            self.mount(b, root, parsed, tree)?;
        }
        b.join_network();
        self.bind_notify(b, root, opened);
        self.devices(b, root, &mounts, opened)?;
        if let Some(socket) = opened.console {
            let size = self.console_size();
            b.init(Action::Console { root, socket, size, mount: true });
        }
        self.before_root(b, root, opened);
        if self.input.flags.no_pivot {
            b.init(Action::MoveRoot { root });
        } else {
            let detach_slave = wanted.is_some_and(|flags| flags & ms::SHARED != 0);
            b.init(Action::PivotRoot { root, detach_slave });
        }
        if let Some(flags) = wanted {
            b.init(Action::Propagation { path: "/".to_owned(), flags });
        }
        for path in &self.linux.readonly_paths {
            b.init(Action::ReadonlyPath { root, path: clean(path) });
        }
        if let Some(null) = null {
            let paths = self.linux.masked_paths.iter().map(|path| clean(path)).collect();
            b.init(Action::MaskPaths { root, null, paths, label: self.linux.mount_label.clone() });
        }
        Ok(root)
    }

    /// What is done last before the root is changed, while the host's paths are still seen.
    fn before_root(&self, b: &mut Builder, root: Slot, opened: &mut Opened) {
        let cwd = clean(&self.process.cwd);
        if cwd != "/" {
            b.init(Action::MakeDirectory { root, path: cwd });
        }
        self.hooks(b, By::Runtime, HookKind::Prestart);
        self.hooks(b, By::Runtime, HookKind::CreateRuntime);
        self.hooks(b, By::Init, HookKind::CreateContainer);
        if self.needs_proc() {
            let slot = b.slot();
            b.init(Action::OpenProc { slot });
            opened.proc = Some(slot);
        }
    }

    /// A container without a mount namespace: its root is changed, and what is mounted there lies in the runtime's
    /// namespace. What hides parts of the host is refused, for it would hide them from everyone, or from no one.
    fn bare_root(&self, b: &mut Builder, root: Slot, path: String, opened: &mut Opened) -> Result<Slot> {
        let asks = [
            ("linux.maskedPaths", !self.linux.masked_paths.is_empty()),
            ("linux.readonlyPaths", !self.linux.readonly_paths.is_empty()),
            ("root.readonly", opened.root.is_none() && self.input.spec.root.as_ref().is_some_and(|root| root.readonly)),
            ("process.terminal", self.process.terminal),
        ];
        if let Some((name, _)) = asks.iter().find(|(_, asked)| *asked) {
            return Err(Error::config(*name, "it needs a mount namespace in linux.namespaces"));
        }
        b.init(Action::Umask { mask: Some(0) });
        let root = if let Some(bound) = opened.root {
            let mounts = self.parse_mounts()?;
            mounts.iter().try_for_each(|parsed| self.mount(b, bound, parsed, None))?;
            b.join_network();
            self.devices(b, bound, &mounts, opened)?;
            bound
        } else {
            b.join_network();
            b.init(Action::OpenRoot { path, slot: root });
            root
        };
        self.before_root(b, root, opened);
        b.init(Action::Chroot { root });
        Ok(root)
    }

    /// Whether something is written through the private procfs.
    fn needs_proc(&self) -> bool {
        !self.linux.sysctl.is_empty() || self.exec_labels().next().is_some()
    }

    /// The terminal's size in rows and columns.
    pub(in crate::lower) fn console_size(&self) -> Option<(u16, u16)> {
        let fit = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        self.process.console_size.as_ref().map(|size| (fit(size.height), fit(size.width)))
    }

    /// What is done last to the root mount.
    pub(in crate::lower) fn close_root(&self, b: &mut Builder) {
        if self.input.spec.root.as_ref().is_some_and(|root| root.readonly) {
            b.init(Action::ReadonlyRoot);
        }
    }
}
