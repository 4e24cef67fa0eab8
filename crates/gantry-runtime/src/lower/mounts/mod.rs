//! The file system of the container: its root, mounts, devices, links, and what is hidden of it.

mod cgroup;
mod devices;
mod idmap;
mod root;

use gantry_model::names::mount::{MountOptions, attr};
use gantry_model::names::namespace::NamespaceKind;
use gantry_model::oci::spec::{IdMapping, Mount};

use super::{Builder, Context, Opened, field};
use crate::error::{Error, Result};
use crate::step::{Action, Attributes, FsOption, MountBind, MountFs, Placement, Slot, Source};

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
pub(in crate::lower) struct Parsed<'a> {
    pub(in crate::lower) mount: &'a Mount,
    pub(in crate::lower) options: MountOptions,
    pub(in crate::lower) target: String,
}

impl Parsed<'_> {
    pub(super) fn is_bind(&self) -> bool {
        self.options.bind || self.mount.kind == "bind"
    }

    /// Whether ids are mapped, and for mounts below as well.
    pub(super) fn idmapped(&self) -> Option<bool> {
        match &self.options.idmap {
            Some(idmap) => Some(idmap.recursive),
            None => (!self.mount.uid_mappings.is_empty() || !self.mount.gid_mappings.is_empty()).then_some(false),
        }
    }
}

/// A path without doubled slashes, `.` and `..`, absolute.
pub(in crate::lower) fn clean(path: &str) -> String {
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
    pub(in crate::lower) fn parse_mounts(&self) -> Result<Vec<Parsed<'_>>> {
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
        check_proc(&at, &parsed)?;
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

    /// A source relative to the bundle, made absolute.
    pub(super) fn host_path(&self, path: &str) -> String {
        if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.input.bundle) }
    }

    pub(in crate::lower) fn mount(
        &self,
        b: &mut Builder,
        root: Slot,
        parsed: &Parsed<'_>,
        tree: Option<Slot>,
    ) -> Result<()> {
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
            covers_proc: target == "/proc" || may_cover(target) || kind == "binfmt_misc",
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

    /// Makes the socket by which the program says that it is ready, where a service manager wants to hear of it.
    pub(in crate::lower) fn open_notify(&self, b: &mut Builder, opened: &mut Opened) {
        if self.input.flags.notify_socket.is_none() || !self.namespaces.has(NamespaceKind::Mount) {
            return;
        }
        let root = |map: &[IdMapping]| gantry_model::names::idmap::host_id(map, 0).unwrap_or(0);
        let (uid, gid) = if self.input.host.privileged {
            (root(&self.linux.uid_mappings), root(&self.linux.gid_mappings))
        } else {
            (self.input.host.euid, self.input.host.egid)
        };
        let slot = b.slot();
        b.runtime(Action::NotifySocket { uid, gid, slot });
        opened.notify = Some(slot);
    }

    /// Binds that socket's directory at the path that the service manager's socket has on the host.
    pub(super) fn bind_notify(&self, b: &mut Builder, root: Slot, opened: &Opened) {
        if let Some((slot, path)) = opened.notify.zip(self.input.flags.notify_socket.as_ref()) {
            let set = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
            let attributes = Attributes { set, clear: 0 };
            let place = Placement { root, target: clean(path), attributes, ..Placement::default() };
            let source = Source::Tree(slot);
            let bind = MountBind { place, source, recursive: false, follow_source: false, copy_symlink: false };
            b.init(Action::MountBind(bind));
        }
    }
}

/// Whether a path under procfs is one of those that a mount may cover.
fn may_cover(target: &str) -> bool {
    let below = |place: &&str| target.strip_prefix(*place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    PROC_MAY_COVER.iter().any(below)
}

/// Holds mounts at and under `/proc` to what is safe.
fn check_proc(at: &str, parsed: &Parsed<'_>) -> Result<()> {
    let target = parsed.target.as_str();
    if target == "/proc" {
        let genuine = parsed.mount.kind == "proc" || (parsed.is_bind() && parsed.mount.source == "/proc");
        if !genuine {
            return Err(Error::config(at, "only proc itself may be mounted at /proc"));
        }
    }
    let under = target.starts_with("/proc/");
    let allowed = may_cover(target);
    if under && parsed.is_bind() && !allowed {
        return Err(Error::config(
            at,
            format!("{target} is inside proc, where a mount would hide facts from the container's tools"),
        ));
    }
    if under && !parsed.is_bind() && !allowed && parsed.mount.kind != "binfmt_misc" {
        return Err(Error::config(
            at,
            format!("{target} is inside proc, where {} cannot be mounted", parsed.mount.kind),
        ));
    }
    Ok(())
}
