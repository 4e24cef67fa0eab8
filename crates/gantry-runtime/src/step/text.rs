//! The words in which steps are shown, by `--dry-run` and in errors.

use std::fmt;

use gantry_model::names::namespace::NamespaceKind;
use gantry_model::oci::spec::IdMapping;

use super::{
    Action, Attributes, By, Clone_, Credentials, FsOption, Label, MountBind, MountFs, Placement, Resctrl, Source, Step,
};

/// Steps as text, a line each.
pub(crate) fn listing(steps: &[Step]) -> String {
    use fmt::Write;
    steps.iter().fold(String::new(), |mut text, step| {
        let _ = writeln!(text, "{step}");
        text
    })
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Runtime => "runtime",
            Self::Beside => "beside",
            Self::Init => "init",
        })
    }
}

/// What follows the name of a tree that leaves the peer group of what it copies.
fn propagated(flags: u32) -> String {
    if flags == 0 { String::new() } else { format!(", {}", Spread(flags)) }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {}", self.by, self.action)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(step) => write!(f, "{step}"),
            Self::Ignore { what } => write!(f, "ignore {what}"),
            Self::Resctrl(step) => write!(f, "{step}"),
            Self::OpenNamespace { path, .. } => write!(f, "open namespace {path}"),
            Self::OpenTree { path, recursive, propagation, slot, .. } => {
                let whole = if *recursive { "whole " } else { "" };
                write!(f, "open {whole}tree {path} as tree {}{}", slot.0, propagated(*propagation))
            }
            Self::MakeDeviceTree { path, node, slot } => write!(
                f,
                "make device for {path} (mode {:o}, owner {}:{}) as tree {}",
                node.mode & 0o7777,
                node.uid,
                node.gid,
                slot.0
            ),
            Self::BindSharedRoot { path, slot } => {
                write!(f, "bind root {path} in the shared namespace as tree {}", slot.0)
            }
            Self::NotifySocket { uid, gid, slot } => {
                write!(f, "make notify socket for {uid}:{gid} as tree {}", slot.0)
            }
            Self::MakeUserNamespace { uid, gid, slot } => {
                let (slot, uid, gid) = (slot.0, Ids(uid), Ids(gid));
                write!(f, "make user namespace {slot} for an idmapped mount (users {uid}, groups {gid})")
            }
            Self::OpenUserNamespace { path, slot } => write!(f, "open user namespace {path} as {}", slot.0),
            Self::IdmapTree { tree, recursive, user_namespace } => {
                write!(f, "map ids of tree {}{} by user namespace {}", tree.0, deep(*recursive), user_namespace.0)
            }
            Self::ConnectConsole { path, .. } => write!(f, "connect to console socket {path}"),
            Self::ConsolePair { .. } => write!(f, "make console socket"),
            Self::ListenStart { .. } => write!(f, "listen on start socket"),
            Self::Clone(clone) => write!(f, "{clone}"),
            Self::WriteIdMaps { uid, gid, deny_setgroups, helper } => {
                let by = if *helper { " by newuidmap and newgidmap" } else { "" };
                let deny = if *deny_setgroups { ", deny setgroups" } else { "" };
                write!(f, "map users {} and groups {}{by}{deny}", Ids(uid), Ids(gid))
            }
            Self::OomScoreAdj { value } => write!(f, "set OOM score adjustment to {value}"),
            Self::Rlimit { name, limit } => write!(f, "set limit {name} to {} of at most {}", limit.soft, limit.hard),
            Self::MakeNetwork => write!(f, "make network namespace with loopback up"),
            Self::Record => write!(f, "record container"),
            Self::MoveNetDevice { from, to } => write!(f, "move network device {from} to {to}"),
            Self::RunHooks { kind, hooks } => {
                let paths: Vec<&str> = hooks.iter().map(|hook| hook.path.as_str()).collect();
                write!(f, "run {} hooks {}", kind.as_str(), paths.join(", "))
            }
            Self::JoinCgroups { files } => write!(f, "enter cgroup by {}", files.join(", ")),
            Self::JoinNamespace { name, .. } => write!(f, "join {name} namespace"),
            Self::Unshare { namespaces } => write!(f, "make {} namespace", Kinds(*namespaces as u64)),
            Self::TimeOffsets { text } => write!(f, "make time namespace with offsets {:?}", text.trim()),
            Self::BecomeRoot { .. } => write!(f, "become root of the user namespace"),
            Self::NotDumpable => write!(f, "become non-dumpable"),
            Self::NewSession => write!(f, "make session"),
            Self::SessionKeyring { name } => write!(f, "join session keyring {name}"),
            Self::OpenProc { .. } => write!(f, "open private procfs"),
            Self::CpuAffinity { list } => write!(f, "set CPU affinity to {list}"),
            Self::Personality { persona } => write!(f, "set personality {persona:#x}"),
            Self::JoinNetwork => write!(f, "join network namespace that was made beside"),
            Self::LoopbackUp => write!(f, "bring loopback up"),
            _ => self.fmt_inside(f),
        }
    }
}

impl Action {
    /// The texts of steps inside the container's file system and up to its program.
    fn fmt_inside(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Propagation { path, flags } => write!(f, "make {path} {}", Spread(*flags)),
            Self::PrivateParent { path } => write!(f, "make mount above {path} private"),
            Self::BindRoot { path, source: Source::Path(_), .. } => write!(f, "bind root {path}"),
            Self::BindRoot { path, source: Source::Tree(slot), .. } => write!(f, "bind tree {} as root {path}", slot.0),
            Self::OpenRoot { path, .. } => write!(f, "open root {path}"),
            Self::OpenHere { .. } => write!(f, "open root of the container"),
            Self::OpenNull { .. } => write!(f, "open null device"),
            Self::MountFs(mount) => write!(f, "{mount}"),
            Self::MountBind(mount) => write!(f, "{mount}"),
            Self::SetAttributes { path, attributes, .. } => write!(f, "set attributes of {path}{attributes}"),
            Self::MakeDirectory { path, .. } => write!(f, "make directory {path}"),
            Self::MakeDevice { path, node, .. } => {
                write!(f, "make device {path} ({:o}, {:#x}, {}:{})", node.mode, node.rdev, node.uid, node.gid)
            }
            Self::BindDevice { path, made: Some(tree), .. } => write!(f, "bind device tree {} at {path}", tree.0),
            Self::BindDevice { path, source, .. } => write!(f, "bind device {source} at {path}"),
            Self::Symlink { path, target, .. } => write!(f, "link {path} to {target}"),
            Self::Console { mount, .. } => {
                write!(f, "make terminal{}", if *mount { " and mount it at /dev/console" } else { "" })
            }
            Self::PivotRoot { .. } => write!(f, "pivot root"),
            Self::MoveRoot { .. } => write!(f, "move root"),
            Self::Chroot { .. } => write!(f, "change root"),
            Self::ReadonlyPath { path, .. } => write!(f, "make {path} read-only"),
            Self::MaskPaths { paths, .. } => write!(f, "mask {}", paths.join(", ")),
            Self::ReadonlyRoot => write!(f, "make root read-only"),
            Self::Hostname { name } => write!(f, "set host name {name}"),
            Self::Domainname { name } => write!(f, "set domain name {name}"),
            Self::Sysctl { name, value, .. } => write!(f, "set {name} to {value:?}"),
            Self::Scheduler { policy, .. } => write!(f, "set scheduler {policy}"),
            Self::IoPriority { value } => write!(f, "set I/O priority {value:#x}"),
            Self::MemoryPolicy { mode, .. } => write!(f, "set memory policy {mode}"),
            Self::Umask { mask: Some(mask) } => write!(f, "set umask {mask:04o}"),
            Self::Umask { mask: None } => write!(f, "set umask as inherited"),
            Self::ExecLabel { label: Label::AppArmor(label), .. } => write!(f, "set AppArmor profile {label}"),
            Self::ExecLabel { label: Label::SeLinux(label), .. } => write!(f, "set SELinux label {label}"),
            Self::NoNewPrivileges => write!(f, "set no_new_privs"),
            Self::BoundingCapabilities { keep } => write!(f, "limit bounding capabilities to {keep:#x}"),
            Self::SetCredentials(to) => write!(f, "become user {} and group {}{}", to.uid, to.gid, Groups(to)),
            Self::Capabilities(sets) => write!(
                f,
                "set capabilities (effective {:#x}, permitted {:#x}, inheritable {:#x}, ambient {:#x})",
                sets.effective, sets.permitted, sets.inheritable, sets.ambient
            ),
            Self::WorkingDirectory { path } => write!(f, "chdir to cwd ({path:?})"),
            Self::WorkingDirectoryAsUser { path } => write!(f, "chdir to cwd ({path:?}) as the user"),
            Self::HomeFromPasswd { uid } => write!(f, "set HOME of user {uid}"),
            Self::FindProgram { name } => write!(f, "find program {name}"),
            Self::OwnStdio { uid, gid } => write!(f, "give standard streams to user {uid}, group {gid}"),
            Self::CloseOnExec { first } => write!(f, "close descriptors from {first} on exec"),
            Self::AwaitStart { .. } => write!(f, "wait for start"),
            Self::Seccomp => write!(f, "install system call filter"),
            Self::Unmount { path, .. } => write!(f, "unmount {path}"),
            Self::End => write!(f, "end"),
            Self::Exec { args, .. } => write!(f, "exec {args:?}"),
            _ => write!(f, "{self:?}"),
        }
    }
}

impl fmt::Display for Clone_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make container's process")?;
        if self.namespaces != 0 {
            write!(f, " in new {} namespaces", Kinds(self.namespaces))?;
        }
        if self.into_cgroup {
            write!(f, ", in its cgroup")?;
        }
        if let Some(stage) = &self.stage {
            let joined = stage.join.iter().fold(0, |all, (_, kind)| all | *kind as u64);
            let cgroups = stage.cgroups.join(", ");
            let enters = if cgroups.is_empty() { String::new() } else { format!("enters cgroup by {cgroups} and ") };
            write!(f, ", by a process that {enters}joins {} namespaces", Kinds(joined))?;
        }
        if self.join_pid.is_some() {
            write!(f, ", in the joined pid namespace")?;
        }
        if self.mounts_from.is_some() {
            write!(f, ", from the opened mount namespace")?;
        }
        Ok(())
    }
}

impl fmt::Display for MountFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mount {} at {}", self.kind, self.place.target)?;
        if !self.options.is_empty() {
            let text = |(key, value): &FsOption| value.as_ref().map_or(key.clone(), |value| format!("{key}={value}"));
            write!(f, " with {}", self.options.iter().map(text).collect::<Vec<_>>().join(","))?;
        }
        write!(f, "{}{}", self.place, if self.copy_up { ", copy up" } else { "" })
    }
}

impl fmt::Display for MountBind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Path(path) => write!(f, "bind {path}")?,
            Source::Tree(slot) => write!(f, "bind tree {}", slot.0)?,
        }
        write!(f, "{} at {}{}", deep(self.recursive), self.place.target, self.place)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.attributes)?;
        if self.recursive_attributes != Attributes::default() {
            write!(f, ", recursively{}", self.recursive_attributes)?;
        }
        self.propagation.iter().try_for_each(|flags| write!(f, ", {}", Spread(*flags)))
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(u64, &str, &str); 6] = [
            (1, "ro", "rw"),
            (2, "nosuid", "suid"),
            (4, "nodev", "dev"),
            (8, "noexec", "exec"),
            (0x80, "nodiratime", "diratime"),
            (0x20_0000, "nosymfollow", "symfollow"),
        ];
        for (bit, set, clear) in NAMES {
            if self.set & bit != 0 {
                write!(f, ", {set}")?;
            } else if self.clear & bit != 0 {
                write!(f, ", {clear}")?;
            }
        }
        match (self.set & 0x70, self.clear & 0x70) {
            (0x10, _) => write!(f, ", noatime"),
            (0x20, _) => write!(f, ", strictatime"),
            (0, 0) => Ok(()),
            _ => write!(f, ", relatime"),
        }
    }
}

impl fmt::Display for Resctrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeGroup { path } => write!(f, "make resctrl group {path}"),
            Self::Schemata { path, lines } => write!(f, "set schemata of {path} to {lines:?}"),
            Self::Join { path } => write!(f, "enter resctrl group {path}"),
        }
    }
}

fn deep(recursive: bool) -> &'static str {
    if recursive { " with all below" } else { "" }
}

/// Namespaces by their bits.
struct Kinds(u64);

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for kind in NamespaceKind::ALL.into_iter().filter(|kind| self.0 & kind.clone_flag() != 0) {
            write!(f, "{}{}", if first { "" } else { ", " }, kind.name())?;
            first = false;
        }
        Ok(())
    }
}

/// Propagation by its bits.
struct Spread(u32);

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 & !0x4000 {
            0x10_0000 => "shared",
            0x8_0000 => "slave",
            0x4_0000 => "private",
            0x2_0000 => "unbindable",
            _ => "of unknown propagation",
        };
        write!(f, "{}{kind}", if self.0 & 0x4000 != 0 { "r" } else { "" })
    }
}

/// Mappings of ids.
struct Ids<'a>(&'a [IdMapping]);

impl fmt::Display for Ids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |map: &IdMapping| format!("{}:{}:{}", map.container_id, map.host_id, map.size);
        f.write_str(&self.0.iter().map(text).collect::<Vec<_>>().join(","))
    }
}

/// Further groups.
struct Groups<'a>(&'a Credentials);

impl fmt::Display for Groups<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.groups {
            Some(groups) if !groups.is_empty() => write!(f, ", further groups {groups:?}"),
            _ => Ok(()),
        }
    }
}
