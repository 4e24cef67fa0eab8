//! From a request and what is known of container and host to the options for CRIU. No system call is made here.
//!
//! What is mounted from outside of the container is no part of a checkpoint. It is named when it is saved, by the place
//! that the configuration has for it, and under that name it is put back from wherever the configuration says by then.

use gantry_model::names::namespace::NamespaceKind;

use super::option::{ManageCgroups, NetworkLock, Opt, Switch};
use super::{CheckpointRequest, Criu, RestoreRequest};
use crate::error::{Error, Result};
use crate::step::{Action, Slot, Source, Step};

/// The log of a checkpoint, in the work directory.
pub(crate) const DUMP_LOG: &str = "dump.log";
/// The log of a restoration.
pub(crate) const RESTORE_LOG: &str = "restore.log";
/// Beside the images: what the standard streams were, a JSON list of three texts as the usual runtimes write it.
pub(crate) const STREAMS: &str = "descriptors.json";

const NEW_NETWORK: u32 = 0x4000_0000;

/// Something of the host that is mounted in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct External {
    /// Where, by the configuration.
    pub(crate) target: String,
    /// From where on the host.
    pub(crate) source: String,
    /// Whether mounts below the source came along.
    pub(crate) recursive: bool,
    /// Whether it hides a file, and is not there where the path is a directory or missing.
    pub(crate) mask: bool,
}

/// What the steps that make a container bind from the host; of several at a place the last.
pub(crate) fn externals(steps: &[Step]) -> Vec<External> {
    let opened = |slot: Slot| {
        steps.iter().find_map(|step| match &step.action {
            Action::OpenTree { path, slot: opened, .. } if *opened == slot => Some(path.clone()),
            _ => None,
        })
    };
    let mut found: Vec<External> = Vec::new();
    let mut add = |external: External| {
        found.retain(|old| old.target != external.target);
        found.push(external);
    };
    for step in steps {
        match &step.action {
            Action::MountBind(bind) if !bind.copy_symlink => {
                let source = match &bind.source {
                    Source::Path(path) => Some(path.clone()),
                    Source::Tree(slot) => opened(*slot),
                };
                let target = bind.place.target.clone();
                if let Some(source) = source {
                    add(External { target, source, recursive: bind.recursive, mask: false });
                }
            }
            Action::BindDevice { path, source, .. } => {
                add(External { target: path.clone(), source: source.clone(), recursive: false, mask: false });
            }
            Action::MaskPaths { paths, .. } => paths.iter().for_each(|path| {
                let source = "/dev/null".to_owned();
                add(External { target: path.clone(), source, recursive: false, mask: true });
            }),
            _ => {}
        }
    }
    found
}

/// A place that must exist in the root file system before something can be mounted there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// The place.
    pub(crate) target: String,
    /// What will be bound there, and whether with the mounts below; absent for a new file system, which is a directory.
    pub(crate) source: Option<(String, bool)>,
}

/// The places for mounts that are in the root file system, or in what is bound there. What lies in a new file system
/// comes back with its contents.
pub(crate) fn points(steps: &[Step]) -> Vec<Point> {
    let mut inside: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    let bound = externals(steps);
    for step in steps {
        let (target, new) = match &step.action {
            Action::MountFs(mount) => (&mount.place.target, true),
            Action::MountBind(bind) if !bind.copy_symlink => (&bind.place.target, false),
            Action::BindDevice { path, .. } => (path, false),
            _ => continue,
        };
        if inside.iter().any(|above| below(above, target).is_some_and(|rest| !rest.is_empty())) {
            continue;
        }
        if new {
            inside.push(target);
            found.push(Point { target: target.clone(), source: None });
        } else if let Some(external) = bound.iter().find(|external| external.target == *target) {
            let source = Some((external.source.clone(), external.recursive));
            found.push(Point { target: target.clone(), source });
        }
    }
    found
}

/// The rest of `path` if it is `above` or below it.
fn below<'p>(above: &str, path: &'p str) -> Option<&'p str> {
    let rest = path.strip_prefix(above.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// What one of the standard streams is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stream {
    /// Its link in /proc: a path, or as `pipe:[5]`.
    pub(crate) link: String,
    /// For a file that no mount of the container shows: its mount and its inode.
    pub(crate) outside: Option<(u64, u64)>,
}

impl Stream {
    /// The name under which it is saved, and another takes its place.
    fn key(&self) -> String {
        match self.outside {
            Some((mount, inode)) => format!("file[{mount:x}:{inode:x}]"),
            None => self.link.clone(),
        }
    }
}

/// What is kept of the streams, for the restoration.
pub(crate) fn stream_names(streams: &[Stream]) -> Vec<String> {
    streams.iter().map(Stream::key).collect()
}

/// What is known of a container that is saved.
#[derive(Clone, Debug, Default)]
pub(crate) struct DumpFacts {
    /// Its first process.
    pub(crate) pid: i32,
    /// Its root file system on the host.
    pub(crate) rootfs: String,
    /// The points of all mounts in it.
    pub(crate) mounts: Vec<String>,
    /// What is bound from outside, with the mount point that the target leads to, and whether that is a directory.
    pub(crate) externals: Vec<(External, String, bool)>,
    /// Its standard streams.
    pub(crate) streams: Vec<Stream>,
    /// Namespaces that it joined, with their inodes.
    pub(crate) joined: Vec<(NamespaceKind, u64)>,
    /// Whether it has a network namespace of its own making.
    pub(crate) own_network: bool,
    /// The directory of its freezer.
    pub(crate) freezer: Option<String>,
    /// Whether it has a cgroup of its own.
    pub(crate) cgroup: bool,
    /// File of further options.
    pub(crate) config_file: Option<String>,
    /// Whether the network cannot be held still by iptables, because that is not installed.
    pub(crate) no_iptables: bool,
}

/// The options with which a container is saved.
pub(crate) fn dump(request: &CheckpointRequest<'_>, facts: &DumpFacts) -> Vec<Opt> {
    let mut options = vec![Opt::Pid(facts.pid), Opt::LogFile(DUMP_LOG), Opt::Root(facts.rootfs.clone())];
    let known = Common {
        cgroup: facts.cgroup,
        own_network: facts.own_network,
        config_file: facts.config_file.as_ref(),
        no_iptables: facts.no_iptables,
    };
    common(&mut options, &request.criu, &known);
    let switches = [
        (request.leave_running, Switch::LeaveRunning),
        (request.tcp_skip_in_flight, Switch::TcpSkipInFlight),
        (request.link_remap, Switch::LinkRemap),
        (request.pre_dump || request.parent_path.is_some(), Switch::TrackMem),
    ];
    options.extend(switches.into_iter().filter(|(on, _)| *on).map(|(_, switch)| Opt::On(switch)));
    options.extend(request.parent_path.iter().map(|path| Opt::ParentImages(path.clone())));
    if let Some((address, port)) = &request.page_server {
        options.push(Opt::PageServer { address: address.clone(), port: *port });
    }
    options.extend(facts.freezer.iter().map(|dir| Opt::FreezeCgroup(dir.clone())));
    for (kind, inode) in &facts.joined {
        if let Some(key) = inherited_namespace(*kind) {
            options.push(Opt::External(format!("{}[{inode}]:{key}", kind.proc_name())));
        }
    }
    if !request.pre_dump {
        options.extend(external_mounts(facts).map(|(point, name)| Opt::External(format!("mnt[{point}]:{name}"))));
        for stream in &facts.streams {
            let external = Opt::External(stream.key());
            if stream.outside.is_some() && !options.contains(&external) {
                options.push(external);
            }
        }
    }
    options
}

/// The mount points that come from outside, with their names; those below a recursive bind are named after it.
fn external_mounts(facts: &DumpFacts) -> impl Iterator<Item = (String, String)> {
    facts.mounts.iter().filter_map(|point| {
        // The nearest mount of the configuration at or above this one decides.
        let near = facts
            .externals
            .iter()
            .filter_map(|(external, at, directory)| Some((external, *directory, at.len(), below(at, point)?)))
            .max_by_key(|(_, _, length, _)| *length);
        let (external, directory, _, rest) = near?;
        let ours = if rest.is_empty() { !(external.mask && directory) } else { external.recursive };
        ours.then(|| (point.clone(), format!("{}{rest}", external.target)))
    })
}

/// The name of a joined namespace that is handed over as a descriptor; others are joined by their path.
fn inherited_namespace(kind: NamespaceKind) -> Option<&'static str> {
    match kind {
        NamespaceKind::Network => Some("extRootNetNS"),
        NamespaceKind::Pid => Some("extRootPidNS"),
        _ => None,
    }
}

/// What dump and restoration know alike.
struct Common<'a> {
    cgroup: bool,
    own_network: bool,
    config_file: Option<&'a String>,
    no_iptables: bool,
}

fn common(options: &mut Vec<Opt>, criu: &Criu, known: &Common<'_>) {
    let switches = [
        (true, Switch::NotifyScripts),
        (true, Switch::OrphanPtsMaster),
        (criu.tcp_established, Switch::TcpEstablished),
        (criu.ext_unix_sk, Switch::ExtUnixSk),
        (criu.shell_job, Switch::ShellJob),
        (criu.lazy_pages, Switch::LazyPages),
        (criu.file_locks, Switch::FileLocks),
        (criu.auto_dedup, Switch::AutoDedup),
    ];
    options.extend(switches.into_iter().filter(|(on, _)| *on).map(|(_, switch)| Opt::On(switch)));
    options.extend([Opt::On(Switch::ManageCgroups), Opt::CgroupMode(cgroup_mode(criu, known.cgroup))]);
    let lock = criu.network_lock.or(known.no_iptables.then_some(NetworkLock::Nftables));
    options.extend(lock.filter(|lock| *lock != NetworkLock::Iptables).map(Opt::NetworkLock));
    // The devices of a network namespace are made by whoever made them the first time: hooks, or an engine.
    if known.own_network || criu.empty_network {
        options.push(Opt::EmptyNamespaces(NEW_NETWORK));
    }
    options.extend(known.config_file.map(|path| Opt::ConfigFile(path.clone())));
}

/// How cgroups are treated; a container without one of its own stays where its creator is.
pub(crate) fn cgroup_mode(criu: &Criu, cgroup: bool) -> ManageCgroups {
    if cgroup { criu.manage_cgroups.unwrap_or(ManageCgroups::Soft) } else { ManageCgroups::Ignore }
}

/// What is known for a container that is brought back.
#[derive(Clone, Debug, Default)]
pub(crate) struct RestoreFacts {
    /// Its root file system, at a mount point.
    pub(crate) root: String,
    /// What is bound from outside, with the place that the target leads to in the root file system.
    pub(crate) externals: Vec<(External, String)>,
    /// The points of all mounts on the host.
    pub(crate) host_mounts: Vec<String>,
    /// What the standard streams were.
    pub(crate) streams: Vec<String>,
    /// Namespaces to join, with their files, and the descriptors of those that are handed over.
    pub(crate) joined: Vec<(NamespaceKind, String, Option<i32>)>,
    /// Whether it has a network namespace of its own making.
    pub(crate) own_network: bool,
    /// Its cgroup in each hierarchy: the controller, empty for v2, and the path.
    pub(crate) cgroups: Vec<(String, String)>,
    /// File of further options.
    pub(crate) config_file: Option<String>,
    /// Whether the network cannot be held still by iptables, because that is not installed.
    pub(crate) no_iptables: bool,
}

/// Whether a joined namespace is handed over as a descriptor.
pub(crate) fn is_inherited(kind: NamespaceKind) -> bool {
    inherited_namespace(kind).is_some()
}

/// The options with which a container is brought back.
///
/// # Errors
/// A namespace is to be joined for which CRIU has no way.
pub(crate) fn restore(request: &RestoreRequest<'_>, facts: &RestoreFacts) -> Result<Vec<Opt>> {
    let mut options = vec![Opt::LogFile(RESTORE_LOG), Opt::Root(facts.root.clone())];
    options.extend([Switch::RestoreAsSibling, Switch::EvasiveDevices].map(Opt::On));
    let known = Common {
        cgroup: !facts.cgroups.is_empty(),
        own_network: facts.own_network,
        config_file: facts.config_file.as_ref(),
        no_iptables: facts.no_iptables,
    };
    common(&mut options, &request.criu, &known);
    if request.tcp_close {
        options.push(Opt::On(Switch::TcpClose));
    }
    options.extend(request.lsm_profile.iter().map(|name| Opt::LsmProfile(name.clone())));
    options.extend(request.lsm_mount_context.iter().map(|name| Opt::LsmMountContext(name.clone())));
    options.extend(
        facts
            .cgroups
            .iter()
            .map(|(controller, path)| Opt::CgroupRoot { controller: controller.clone(), path: path.clone() }),
    );
    for (kind, path, fd) in &facts.joined {
        options.push(join(*kind, path, *fd)?);
    }
    let mut names: Vec<String> = Vec::new();
    for (external, resolved) in &facts.externals {
        for (name, source) in named_sources(external, resolved, &facts.host_mounts) {
            if !names.contains(&name) {
                options.push(Opt::External(format!("mnt[{name}]:{source}")));
                names.push(name);
            }
        }
    }
    let taken = |key: &&String| key.starts_with("pipe:") || key.starts_with("file[");
    let mut keys: Vec<&String> = Vec::new();
    for (fd, key) in (0..3).zip(&facts.streams).filter(|(_, key)| taken(key)) {
        if !keys.contains(&key) {
            options.push(Opt::InheritFd { key: key.clone(), fd });
            keys.push(key);
        }
    }
    Ok(options)
}

fn join(kind: NamespaceKind, path: &str, fd: Option<i32>) -> Result<Opt> {
    if let (Some(key), Some(fd)) = (inherited_namespace(kind), fd) {
        return Ok(Opt::InheritFd { key: key.to_owned(), fd });
    }
    if kind == NamespaceKind::Cgroup {
        return Err(Error::Unsupported(format!(
            "criu cannot restore into the cgroup namespace {path}; take its path out"
        )));
    }
    Ok(Opt::JoinNamespace { kind: kind.proc_name(), path: path.to_owned() })
}

/// The names under which a bind may have been saved, with what is put there: by its place in the configuration, by the
/// place that leads to, as other runtimes name it, and the mounts below it.
fn named_sources<'a>(
    external: &'a External,
    resolved: &'a str,
    host_mounts: &'a [String],
) -> impl Iterator<Item = (String, String)> + 'a {
    let rests = host_mounts
        .iter()
        .filter_map(|point| below(&external.source, point))
        .filter(|rest| external.recursive && !rest.is_empty());
    let rests = std::iter::once("").chain(rests);
    rests.flat_map(move |rest| {
        [external.target.as_str(), resolved].map(|at| (format!("{at}{rest}"), format!("{}{rest}", external.source)))
    })
}

/// The path of a cgroup in its hierarchy, by the directory where it is found, and the mount that shows it.
pub(crate) fn cgroup_path(dir: &str, mount_point: &str, mount_root: &str) -> Option<String> {
    let rest = below(mount_point, dir)?;
    let path = format!("{}{rest}", mount_root.trim_end_matches('/'));
    Some(if path.is_empty() { "/".to_owned() } else { path })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
