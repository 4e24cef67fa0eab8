//! The file system of the container: its root, mounts, devices, links, and what is hidden of it.

use gantry_model::names::device::{self, DeviceKind};
use gantry_model::names::mount::{MountOptions, Propagation, attr};
use gantry_model::names::namespace::NamespaceKind;
use gantry_model::oci::linux::Device;
use gantry_model::oci::spec::{IdMapping, Mount};

use super::{Builder, Context, Opened, field};
use crate::error::{Error, Result};
use crate::step::{
    Action, Attributes, By, FsOption, HookKind, MountBind, MountFs, Placement, Slot, Source,
};

/// Propagation of mount(2).
mod ms {
    pub(super) const REC: u32 = 0x4000;
    pub(super) const UNBINDABLE: u32 = 1 << 17;
    pub(super) const PRIVATE: u32 = 1 << 18;
    pub(super) const SLAVE: u32 = 1 << 19;
    pub(super) const SHARED: u32 = 1 << 20;
}

/// Devices that every container has (config-linux.md, Default Devices).
const DEFAULT_DEVICES: [(&str, i64, i64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links that every container has (config-linux.md, Dev symbolic links).
const DEFAULT_LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Places under procfs that may be covered by a mount: each shows a fact of the host that tools such as lxcfs present
/// anew. Anything else would let a configuration replace what the container's own tools trust.
const PROC_MAY_COVER: [&str; 12] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
    "/proc/pressure",
];

/// File systems whose superblock is shared or has no notion of being read-only: only the mount is.
const ATTRIBUTES_ONLY: [&str; 7] = ["proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "tmpfs"];

/// A mount of the configuration with its options sorted.
pub(super) struct Parsed<'a> {
    pub(super) mount: &'a Mount,
    pub(super) options: MountOptions,
    pub(super) target: String,
}

impl Parsed<'_> {
    fn is_bind(&self) -> bool {
        self.options.bind || self.mount.kind == "bind"
    }

    /// Whether ids are mapped, and for mounts below as well.
    fn idmapped(&self) -> Option<bool> {
        match &self.options.idmap {
            Some(idmap) => Some(idmap.recursive),
            None => (!self.mount.uid_mappings.is_empty() || !self.mount.gid_mappings.is_empty()).then_some(false),
        }
    }
}

/// A path without doubled slashes, `.` and `..`, absolute.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn attributes(change: gantry_model::names::mount::AttrChange) -> Attributes {
    Attributes { set: change.set, clear: change.clear }
}

impl Context<'_> {
    pub(super) fn parse_mounts(&self) -> Result<Vec<Parsed<'_>>> {
        let parse = |(index, mount)| self.parse_mount(index, mount);
        self.input.spec.mounts.iter().enumerate().map(parse).collect()
    }

    fn parse_mount<'s>(&self, index: usize, mount: &'s Mount) -> Result<Parsed<'s>> {
        let at = format!("mounts[{index}]");
        let options = field(&at, MountOptions::parse(&mount.options))?;
        for (name, value) in [("destination", &mount.destination), ("source", &mount.source), ("type", &mount.kind)] {
            if value.contains('\0') {
                return Err(Error::config(format!("{at}.{name}"), "it has a NUL character"));
            }
        }
        let target = clean(&mount.destination);
        let parsed = Parsed { mount, options, target };
        if mount.destination.is_empty() {
            return Err(Error::config(at, "the destination is missing"));
        }
        if parsed.is_bind() && mount.source.is_empty() {
            return Err(Error::config(at, "a bind mount needs a source"));
        }
        if !parsed.is_bind() && mount.kind.is_empty() {
            return Err(Error::config(at, "the type is missing"));
        }
        self.check_proc(&at, &parsed)?;
        if parsed.idmapped().is_some() {
            if !parsed.is_bind() {
                return Err(Error::config(at, "ids can be mapped for bind mounts only"));
            }
            let own = !mount.uid_mappings.is_empty() && !mount.gid_mappings.is_empty();
            if !own && mount.uid_mappings.len() + mount.gid_mappings.len() > 0 {
                return Err(Error::config(at, "uidMappings and gidMappings go together"));
            }
            if !self.input.host.privileged {
                return Err(Error::config(at, "mapping the ids of a mount needs root"));
            }
        }
        Ok(parsed)
    }

    /// Holds mounts at and under `/proc` to what is safe.
    fn check_proc(&self, at: &str, parsed: &Parsed<'_>) -> Result<()> {
        let target = parsed.target.as_str();
        if target == "/proc" {
            let genuine = parsed.mount.kind == "proc" || (parsed.is_bind() && parsed.mount.source == "/proc");
            if !genuine {
                return Err(Error::config(at, "only proc itself may be mounted at /proc"));
            }
        }
        let under = target.starts_with("/proc/");
        let allowed = PROC_MAY_COVER.iter().any(|place| {
            target == *place || target.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'))
        });
        if under && parsed.is_bind() && !allowed {
            return Err(Error::config(at, format!("{target} is inside proc, where a mount would hide facts from the container's tools")));
        }
        if under && !parsed.is_bind() && parsed.mount.kind != "tmpfs" && !allowed && parsed.mount.kind != "binfmt_misc" {
            return Err(Error::config(at, format!("{target} is inside proc, where {} cannot be mounted", parsed.mount.kind)));
        }
        Ok(())
    }

    /// A source relative to the bundle, made absolute.
    fn host_path(&self, path: &str) -> String {
        if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.input.bundle) }
    }

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
    fn tree_propagation(&self) -> Result<u32> {
        let first = self.first_propagation()?;
        Ok(match (first & ms::SHARED != 0, self.opens_for_init) {
            (true, true) => ms::SLAVE | ms::REC,
            (true, false) => 0,
            (false, _) => first,
        })
    }

    /// Opens the trees that the container's process has no right to open or to map itself.
    pub(super) fn open_trees(&self, b: &mut Builder, opened: &mut Opened) -> Result<()> {
        let has_mounts = self.namespaces.has(NamespaceKind::Mount);
        if !has_mounts {
            return Ok(());
        }
        if self.opens_for_init {
            let slot = b.slot();
            let propagation = self.tree_propagation()?;
            b.runtime(Action::OpenTree { path: self.root_path()?, recursive: true, follow: true, propagation, slot });
            opened.root = Some(slot);
        }
        self.open_binds(b, opened)
    }

    /// Opens the sources of bind mounts.
    pub(super) fn open_binds(&self, b: &mut Builder, opened: &mut Opened) -> Result<()> {
        let mut made: Vec<(Vec<IdMapping>, Vec<IdMapping>, Slot)> = Vec::new();
        for parsed in self.parse_mounts()? {
            let idmapped = parsed.idmapped();
            let needed = parsed.is_bind() && (self.opens_for_init || idmapped.is_some()) && !parsed.options.copy_symlink;
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

    /// Makes the container's file system; what follows happens inside it.
    pub(super) fn file_system(&self, b: &mut Builder, opened: &mut Opened) -> Result<Slot> {
        let root = b.slot();
        let path = self.root_path()?;
        if !self.namespaces.has(NamespaceKind::Mount) {
            return self.bare_root(b, root, path, opened);
        }
        let wanted = self.wanted_propagation()?;
        b.init(Action::Umask { mask: Some(0) });
        b.init(Action::Propagation { path: "/".to_owned(), flags: self.first_propagation()? });
        if wanted.is_some() {
            b.init(Action::PrivateParent { path: path.clone() });
        }
        let source = opened.root.map_or_else(|| Source::Path(path.clone()), Source::Tree);
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

    /// A container without a mount namespace: its root is changed, and nothing can be mounted.
    fn bare_root(&self, b: &mut Builder, root: Slot, path: String, opened: &mut Opened) -> Result<Slot> {
        let asks = [
            ("mounts", !self.input.spec.mounts.is_empty()),
            ("linux.maskedPaths", !self.linux.masked_paths.is_empty()),
            ("linux.readonlyPaths", !self.linux.readonly_paths.is_empty()),
            ("root.readonly", self.input.spec.root.as_ref().is_some_and(|root| root.readonly)),
            ("process.terminal", self.process.terminal),
        ];
        if let Some((name, _)) = asks.iter().find(|(_, asked)| *asked) {
            return Err(Error::config(*name, "it needs a mount namespace in linux.namespaces"));
        }
        b.init(Action::Umask { mask: Some(0) });
        b.join_network();
        b.init(Action::OpenRoot { path, slot: root });
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
        b.init(Action::Chroot { root });
        Ok(root)
    }

    /// Whether something is written through the private procfs.
    fn needs_proc(&self) -> bool {
        !self.linux.sysctl.is_empty() || self.exec_labels().next().is_some()
    }

    /// The terminal's size in rows and columns.
    pub(super) fn console_size(&self) -> Option<(u16, u16)> {
        let fit = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        self.process.console_size.as_ref().map(|size| (fit(size.height), fit(size.width)))
    }

    /// What is done last to the root mount.
    pub(super) fn close_root(&self, b: &mut Builder) {
        if self.input.spec.root.as_ref().is_some_and(|root| root.readonly) {
            b.init(Action::ReadonlyRoot);
        }
    }

    pub(super) fn mount(&self, b: &mut Builder, root: Slot, parsed: &Parsed<'_>, tree: Option<Slot>) -> Result<()> {
        let Parsed { mount, options, target } = parsed;
        let kind = mount.kind.as_str();
        let place = Placement {
            root,
            target: target.clone(),
            attributes: attributes(options.attributes()),
            recursive_attributes: attributes(options.recursive),
            propagation: options.propagation.iter().map(|p| p.ms_flags() as u32).collect(),
            plain_target: matches!(kind, "proc" | "sysfs"),
            on_link: options.dest_nofollow,
        };
        if parsed.is_bind() {
            let source = tree.map_or_else(|| Source::Path(self.host_path(&mount.source)), Source::Tree);
            b.init(Action::MountBind(MountBind {
                place,
                source,
                recursive: options.recursive_bind,
                follow_source: !options.src_nofollow,
                copy_symlink: options.copy_symlink,
            }));
            return Ok(());
        }
        if kind == "sysfs" {
            b.join_network();
        }
        if kind == "cgroup" || kind == "cgroup2" {
            return self.mount_cgroup(b, place, kind == "cgroup2");
        }
        // A sysfs shows the network namespace; one that the container's user namespace does not own cannot be mounted.
        let own_user = self.namespaces.has(NamespaceKind::User) || !self.input.host.privileged;
        if kind == "sysfs" && own_user && !self.namespaces.makes(NamespaceKind::Network) {
            // What is mounted below the host's, cgroups first of all, comes along and is not for the container to write.
            let Attributes { set, clear } = place.attributes;
            let attributes = Attributes { set: set | attr::RDONLY, clear: clear & !attr::RDONLY };
            let place = Placement { plain_target: true, recursive_attributes: attributes, ..place };
            let source = Source::Path("/sys".to_owned());
            let bind = MountBind { place, source, recursive: true, follow_source: false, copy_symlink: false };
            b.init(Action::MountBind(bind));
            return Ok(());
        }
        let mut fs_options = self.fs_options(kind, options);
        if !self.linux.mount_label.is_empty() && !matches!(kind, "proc" | "sysfs" | "mqueue") {
            fs_options.push(("context".to_owned(), Some(self.linux.mount_label.clone())));
        }
        let inherit_mode = kind == "tmpfs" && !fs_options.iter().any(|(key, _)| key == "mode");
        b.init(Action::MountFs(MountFs {
            place: Placement { attributes: Attributes { clear: 0, ..place.attributes }, ..place },
            kind: kind.to_owned(),
            source: if mount.source.is_empty() { kind.to_owned() } else { mount.source.clone() },
            options: fs_options,
            inherit_mode,
            copy_up: options.tmpcopyup,
        }));
        Ok(())
    }

    /// The keys of fsconfig(2) that a mount's options come to.
    fn fs_options(&self, kind: &str, options: &MountOptions) -> Vec<FsOption> {
        let mut keys: Vec<FsOption> = Vec::new();
        if options.is_read_only() && !ATTRIBUTES_ONLY.contains(&kind) {
            keys.push(("ro".to_owned(), None));
        }
        keys.extend(options.fsconfig_flags().into_iter().map(|flag| (flag.to_owned(), None)));
        let own_user = self.namespaces.makes(NamespaceKind::User);
        for option in options.data_options(kind) {
            let option = (option.key, option.value);
            // The terminal's group of a devpts is left out where the container has no such group.
            let unmapped = |id: &str| {
                id.parse().is_ok_and(|gid| gantry_model::names::idmap::host_id(&self.linux.gid_mappings, gid).is_none())
            };
            if kind == "devpts" && own_user && option.0 == "gid" && option.1.as_deref().is_some_and(unmapped) {
                continue;
            }
            keys.push(option);
        }
        keys
    }

    /// Mounts the container's cgroup: anew where it has a cgroup namespace, else bound from the host.
    fn mount_cgroup(&self, b: &mut Builder, place: Placement, v2_asked: bool) -> Result<()> {
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
            Action::MountFs(MountFs { place, kind: kind.to_owned(), source: "cgroup".to_owned(), options, ..MountFs::default() })
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
            b.init(Action::SetAttributes { root: place.root, path: place.target, attributes: Attributes { set, clear: 0 } });
        }
        Ok(())
    }

    /// Makes the socket by which the program says that it is ready, where a service manager wants to hear of it.
    pub(super) fn open_notify(&self, b: &mut Builder, opened: &mut Opened) {
        if self.input.flags.notify_socket.is_none() || !self.namespaces.has(NamespaceKind::Mount) {
            return;
        }
        let root = |map: &[IdMapping]| gantry_model::names::idmap::host_id(map, 0).unwrap_or(0);
        let (uid, gid) = match self.input.host.privileged {
            true => (root(&self.linux.uid_mappings), root(&self.linux.gid_mappings)),
            false => (self.input.host.euid, self.input.host.egid),
        };
        let slot = b.slot();
        b.runtime(Action::NotifySocket { uid, gid, slot });
        opened.notify = Some(slot);
    }

    /// Binds that socket's directory at the path that the service manager's socket has on the host.
    fn bind_notify(&self, b: &mut Builder, root: Slot, opened: &Opened) {
        if let Some((slot, path)) = opened.notify.zip(self.input.flags.notify_socket.as_ref()) {
            let set = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
            let attributes = Attributes { set, clear: 0 };
            let place = Placement { root, target: clean(path), attributes, ..Placement::default() };
            let source = Source::Tree(slot);
            let bind = MountBind { place, source, recursive: false, follow_source: false, copy_symlink: false };
            b.init(Action::MountBind(bind));
        }
    }

    /// Whether `/dev` is another's, in which nothing is made.
    fn has_foreign_devices(&self) -> bool {
        let bound = |mount: &Mount| mount.kind == "bind" || mount.options.iter().any(|o| o == "bind" || o == "rbind");
        self.input.spec.mounts.iter().any(|mount| clean(&mount.destination) == "/dev" && bound(mount))
    }

    /// Makes the listed devices for a user namespace of the container's own, in which none can be made; so they have the
    /// mode and owner that the configuration gives them, and need not be the host's under the same name.
    pub(super) fn make_devices(&self, b: &mut Builder, opened: &mut Opened) -> Result<()> {
        let able = self.namespaces.makes(NamespaceKind::User) && self.input.host.privileged;
        if !able || !self.namespaces.has(NamespaceKind::Mount) || self.has_foreign_devices() {
            return Ok(());
        }
        for device in self.linux.devices.iter().filter(|device| kind_of(device) != DeviceKind::Fifo) {
            let path = clean(&device.path);
            let at = format!("linux.devices: {path}");
            let node = field(&at, device::node(device))?;
            let outside = |map: &[IdMapping], id: u32| {
                let unmapped = || Error::config(&at, format!("its owner {id} is not mapped in the container"));
                gantry_model::names::idmap::host_id(map, id).ok_or_else(unmapped)
            };
            let uid = outside(&self.linux.uid_mappings, node.uid)?;
            let gid = outside(&self.linux.gid_mappings, node.gid)?;
            let slot = b.slot();
            b.runtime(Action::MakeDeviceTree { path: path.clone(), node: device::Node { uid, gid, ..node }, slot });
            opened.devices.push((path, slot));
        }
        Ok(())
    }

    /// Device files and links, where `/dev` is the container's own.
    fn devices(&self, b: &mut Builder, root: Slot, mounts: &[Parsed<'_>], opened: &Opened) -> Result<()> {
        if self.has_foreign_devices() {
            return Ok(());
        }
        let bind = self.namespaces.has(NamespaceKind::User) || self.input.host.in_user_namespace || !self.input.host.privileged;
        let listed: Vec<String> = self.linux.devices.iter().map(|device| clean(&device.path)).collect();
        let defaults = DEFAULT_DEVICES
            .iter()
            .filter(|(path, ..)| !listed.iter().any(|listed| listed == path))
            .map(|&(path, major, minor)| Device {
                path: path.to_owned(),
                kind: "c".to_owned(),
                major,
                minor,
                file_mode: Some(0o666),
                uid: None,
                gid: None,
            });
        for device in defaults.chain(self.linux.devices.iter().cloned()) {
            let path = clean(&device.path);
            let node = field(&format!("linux.devices: {path}"), device::node(&device))?;
            if path == "/" || path.contains('\0') {
                return Err(Error::config("linux.devices", format!("{:?} is no path of a device", device.path)));
            }
            // The terminal multiplexer is the container's own, by the link below.
            if path == "/dev/ptmx" {
                continue;
            }
            b.init(if bind && DeviceKind::Fifo != kind_of(&device) {
                let made = opened.devices.iter().find(|(of, _)| *of == path).map(|&(_, slot)| slot);
                Action::BindDevice { root, source: path.clone(), path, made }
            } else {
                Action::MakeDevice { root, path, node }
            });
        }
        for (path, target) in DEFAULT_LINKS {
            b.init(Action::Symlink { root, path: path.to_owned(), target: target.to_owned(), replace: false });
        }
        if mounts.iter().any(|m| m.target == "/dev/pts" && m.mount.kind == "devpts") {
            let (path, target) = ("/dev/ptmx".to_owned(), "pts/ptmx".to_owned());
            b.init(Action::Symlink { root, path, target, replace: true });
        }
        Ok(())
    }
}

fn kind_of(device: &Device) -> DeviceKind {
    DeviceKind::from_letter(&device.kind).unwrap_or(DeviceKind::Character)
}
