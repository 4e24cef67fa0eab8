//! From settings to the configuration of the runtime (config.md), purely.
//!
//! Everything that depends on the machine comes in as [`Place`]; the same settings at the same place give the same
//! configuration.

pub mod host;
pub mod options;

mod defaults;
mod error;
mod mounts;
mod propagation;
mod security;

pub use error::Invalid;
pub use propagation::{check_propagation, needs_propagation};

use std::collections::BTreeMap;

use gantry_model::oci::linux::{self, Linux};
use gantry_model::oci::seccomp::{RawSeccomp, Seccomp};
use gantry_model::oci::spec::{Capabilities, Hooks, Process, Root, Spec};

use crate::profiles::{self, BadProfile, Machine};
use crate::settings::{Filter, Mapping, Namespace, Settings};

/// Where a container is made, and what it gets there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// Absolute path of its root file system.
    pub root: String,
    /// Path of its cgroup, from the cgroup root.
    pub cgroup: String,
    /// Files that are mounted over those of the image: path on the host, path in the container.
    pub files: Vec<(String, String)>,
    /// Absolute path of the init process, on the host.
    pub init: String,
    /// What of the machine the system call filter depends on.
    pub machine: Machine,
    /// The default system call filter, a profile in Docker's format; none is [`profiles::seccomp`].
    pub seccomp: Option<String>,
    /// The default AppArmor profile, where the kernel has AppArmor.
    pub apparmor: Option<String>,
    /// All capabilities that the kernel knows.
    pub capabilities: Vec<String>,
    /// All devices of the host, for privileged containers ([`host::devices`]).
    pub devices: Vec<linux::Device>,
    /// Paths of this host that tell too much, beside those of every host ([`host::telling`]).
    pub masked: Vec<String>,
    /// Kernel parameters of a network that is the container's alone, or its sandbox's ([`host::sysctls`]).
    pub sysctls: BTreeMap<String, String>,
    /// How this process's score for want of memory is adjusted, which containers do not inherit ([`host::oom_score_adj`]).
    pub oom_score_adj: i32,
    /// Directory of the sandbox's `/dev/shm`, if its containers share one.
    pub shm: Option<String>,
    /// Whether the host has its message queues mounted at `/dev/mqueue`.
    pub message_queues: bool,
}

/// The name that AppArmor has for no profile.
const UNCONFINED: &str = "unconfined";

/// Where the init process is in a container.
const INIT: &str = "/sbin/gantry-init";

/// The configuration of a container.
///
/// # Errors
/// The settings ask for what cannot be.
pub fn build(settings: &Settings, place: &Place) -> Result<Spec, Invalid> {
    check(settings)?;
    let capabilities = security::capabilities(&settings.security, &settings.user, &place.capabilities)?;
    let linux = linux(settings, place, &capabilities.bounding)?;
    Ok(Spec {
        oci_version: "1.2.0".to_owned(),
        process: Some(process(settings, place, capabilities)?),
        root: Some(Root { path: place.root.clone(), readonly: settings.readonly_root }),
        hostname: if settings.namespaces.uts == Namespace::Own { settings.hostname.clone() } else { String::new() },
        domainname: if settings.namespaces.uts == Namespace::Own { settings.domainname.clone() } else { String::new() },
        mounts: mounts::all(settings, place)?,
        hooks: (settings.hooks != Hooks::default()).then(|| settings.hooks.clone()),
        annotations: settings.annotations.clone(),
        linux: Some(linux),
    })
}

fn process(settings: &Settings, place: &Place, capabilities: Capabilities) -> Result<Process, Invalid> {
    if settings.args.first().is_none_or(String::is_empty) {
        return Err(Invalid::NoCommand);
    }
    let mut args = settings.args.clone();
    if settings.init {
        if settings.namespaces.pid == Namespace::Host {
            return Err(Invalid::Conflict("an init process and the PID namespace of the host"));
        }
        args.splice(0..0, [INIT.to_owned(), "--".to_owned()]);
    }
    let cwd = if settings.working_dir.is_empty() { "/".to_owned() } else { settings.working_dir.clone() };
    let security = &settings.security;
    let apparmor = match (&security.apparmor, &place.apparmor) {
        // Without AppArmor everything is unconfined.
        (Some(profile), None) if profile == UNCONFINED => String::new(),
        (Some(profile), _) => profile.clone(),
        (None, Some(_)) if security.privileged => UNCONFINED.to_owned(),
        (None, default) => default.clone().unwrap_or_default(),
    };
    Ok(Process {
        terminal: settings.terminal,
        user: settings.user.clone(),
        args,
        env: environment(settings)?,
        cwd: absolute("working directory", &cwd)?.to_owned(),
        capabilities: Some(capabilities),
        rlimits: settings.rlimits.clone(),
        no_new_privileges: security.no_new_privileges,
        apparmor_profile: apparmor,
        selinux_label: security.selinux_label.clone(),
        oom_score_adj: settings.oom_score_adj.or((place.oom_score_adj != 0).then_some(0)),
        ..Process::default()
    })
}

/// The environment: what is always there, then what was given, the last of each name.
fn environment(settings: &Settings) -> Result<Vec<String>, Invalid> {
    let hostname = format!("HOSTNAME={}", settings.hostname);
    let mut always = vec![defaults::PATH];
    if !settings.hostname.is_empty() {
        always.push(&hostname);
    }
    if settings.terminal {
        always.push("TERM=xterm");
    }
    let mut list: Vec<String> = always.into_iter().map(str::to_owned).collect();
    for variable in &settings.env {
        let name = variable.split_once('=').map(|(name, _)| name).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Invalid::Variable(variable.clone()))?;
        match list.iter_mut().find(|known| known.split_once('=').is_some_and(|(known, _)| known == name)) {
            Some(known) => known.clone_from(variable),
            None => list.push(variable.clone()),
        }
    }
    Ok(list)
}

fn linux(settings: &Settings, place: &Place, bounding: &[String]) -> Result<Linux, Invalid> {
    let security = &settings.security;
    let list = |given: &Option<Vec<String>>, default: &[&str], more: &[String]| match given {
        Some(given) => given.clone(),
        None if security.privileged => vec![],
        None => default.iter().map(|&path| path.to_owned()).chain(more.iter().cloned()).collect(),
    };
    let mut resources = settings.resources.clone();
    resources.devices = security::device_rules(settings);
    let made = settings.user_namespace.as_ref().filter(|mapping| mapping.join.is_none());
    let ids: Vec<_> = made.map(Mapping::ids).into_iter().collect();
    Ok(Linux {
        uid_mappings: ids.clone(),
        gid_mappings: ids,
        sysctl: sysctls(settings, place),
        resources: Some(resources),
        cgroups_path: place.cgroup.clone(),
        namespaces: namespaces(settings),
        devices: security::devices(settings, &place.devices),
        net_devices: settings.net_devices.clone(),
        seccomp: filter(settings, place, bounding)?,
        rootfs_propagation: propagation::of_root(settings).to_owned(),
        masked_paths: list(&security.masked_paths, &defaults::MASKED, &place.masked),
        readonly_paths: list(&security.readonly_paths, &defaults::READONLY, &[]),
        mount_label: security.mount_label.clone(),
        intel_rdt: settings.intel_rdt.clone(),
        ..Linux::default()
    })
}

/// Kernel parameters: those of the place, then those that were asked for.
fn sysctls(settings: &Settings, place: &Place) -> BTreeMap<String, String> {
    let mut all = match (&settings.namespaces.network, &settings.user_namespace) {
        // Only who made a network can set its parameters.
        (Namespace::Host, _) | (Namespace::Path(_), Some(_)) => BTreeMap::new(),
        _ => place.sysctls.clone(),
    };
    if settings.user_namespace.is_some() {
        // It names groups of the host that are not in the namespace.
        all.remove(host::PING_GROUPS);
    }
    all.extend(settings.sysctls.clone());
    all
}

fn namespaces(settings: &Settings) -> Vec<linux::Namespace> {
    let ns = &settings.namespaces;
    let chosen =
        [("network", &ns.network), ("ipc", &ns.ipc), ("uts", &ns.uts), ("pid", &ns.pid), ("cgroup", &ns.cgroup)];
    let namespace = |kind: &str, path: String| linux::Namespace { kind: kind.to_owned(), path };
    let user = settings.user_namespace.as_ref();
    let user = user.map(|mapping| namespace("user", mapping.join.clone().unwrap_or_default()));
    let others = chosen.into_iter().filter_map(|(kind, of)| match of {
        Namespace::Own => Some(namespace(kind, String::new())),
        Namespace::Host => None,
        Namespace::Path(path) => Some(namespace(kind, path.clone())),
    });
    std::iter::once(namespace("mount", String::new())).chain(user).chain(others).collect()
}

/// Checks what excludes each other.
fn check(settings: &Settings) -> Result<(), Invalid> {
    let Some(mapping) = &settings.user_namespace else { return Ok(()) };
    let ns = &settings.namespaces;
    let conflicts = [
        (
            settings.security.privileged,
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace \
             when running privileged mode",
        ),
        (ns.network == Namespace::Host, "cannot share the host's network namespace when user namespaces are enabled"),
        (ns.pid == Namespace::Host, "cannot share the host PID namespace when user namespaces are enabled"),
        (
            settings.security.writable_cgroups.is_some(),
            "option WritableCgroups conflicts with user namespaces and rootless mode",
        ),
    ];
    if let Some((_, why)) = conflicts.into_iter().find(|(conflict, _)| *conflict) {
        return Err(Invalid::UserNamespace(why));
    }
    let user = &settings.user;
    let ids = [user.uid, user.gid].into_iter().chain(user.additional_gids.iter().copied());
    match ids.max() {
        Some(id) if id >= mapping.size => Err(Invalid::NotMapped(id, mapping.size)),
        _ => Ok(()),
    }
}

/// The system call filter, which depends on the capabilities that programs may gain.
fn filter(settings: &Settings, place: &Place, bounding: &[String]) -> Result<Option<RawSeccomp>, Invalid> {
    let resolve = |profile| profiles::resolve(profile, bounding, &place.machine).map_err(Invalid::Seccomp);
    let filter = match (&settings.security.seccomp, &place.seccomp) {
        (Filter::Unconfined, _) => None,
        (Filter::Default, _) if settings.security.privileged => None,
        (Filter::Default, None) | (Filter::Builtin, _) => Some(profiles::seccomp(bounding, &place.machine)),
        (Filter::Default, Some(profile)) | (Filter::Profile(profile), _) => resolve(profile)?,
    };
    let text = |filter: Seccomp| RawSeccomp::from_profile(&filter);
    filter.map(text).transpose().map_err(|error| Invalid::Seccomp(BadProfile::Json(error.to_string())))
}

/// A path that is absolute and has no `..`.
fn absolute<'a>(what: &'static str, path: &'a str) -> Result<&'a str, Invalid> {
    if path.starts_with('/') && !path.split('/').any(|part| part == "..") && !path.contains('\0') {
        return Ok(path);
    }
    Err(Invalid::Path(what, path.to_owned()))
}

#[cfg(test)]
mod tests;
