//! From settings to the configuration of the runtime (config.md), purely.
//!
//! Everything that depends on the machine comes in as [`Place`]; the same settings at the same place give the same
//! configuration.

mod defaults;
mod mounts;
mod security;

use gantry_model::oci::linux::{self, Linux};
use gantry_model::oci::seccomp::{RawSeccomp, Seccomp};
use gantry_model::oci::spec::{Capabilities, Process, Root, Spec};

use crate::profiles::{self, BadProfile, Machine};
use crate::settings::{Filter, Namespace, Settings};

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
    /// All devices of the host, for privileged containers.
    pub devices: Vec<linux::Device>,
    /// Directory of the sandbox's `/dev/shm`, if its containers share one.
    pub shm: Option<String>,
}

/// Why settings cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// There is nothing to run.
    #[error("no command specified: the image names none, so one must be given")]
    NoCommand,
    /// A capability that does not exist.
    #[error("invalid capability: {0:?}: the kernel knows none of that name")]
    Capability(String),
    /// A path that must be absolute and plain.
    #[error("invalid {0} {1:?}: it must be an absolute path without `..`")]
    Path(&'static str, String),
    /// Two mounts at one place.
    #[error("duplicate mount point: {0}")]
    Duplicate(String),
    /// A variable without a name.
    #[error("invalid environment variable: {0:?}")]
    Variable(String),
    /// A filter that is no profile.
    #[error("the seccomp profile is not valid: {0}")]
    Seccomp(BadProfile),
    /// Settings that exclude each other.
    #[error("conflicting options: {0}")]
    Conflict(&'static str),
}

/// Where the init process is in a container.
const INIT: &str = "/sbin/gantry-init";

/// The configuration of a container.
///
/// # Errors
/// The settings ask for what cannot be.
pub fn build(settings: &Settings, place: &Place) -> Result<Spec, Invalid> {
    let capabilities = security::capabilities(&settings.security, &settings.user, &place.capabilities)?;
    let linux = linux(settings, place, &capabilities.bounding)?;
    Ok(Spec {
        oci_version: "1.2.0".to_owned(),
        process: Some(process(settings, place, capabilities)?),
        root: Some(Root { path: place.root.clone(), readonly: settings.readonly_root }),
        hostname: if settings.namespaces.uts == Namespace::Own { settings.hostname.clone() } else { String::new() },
        domainname: if settings.namespaces.uts == Namespace::Own { settings.domainname.clone() } else { String::new() },
        mounts: mounts::all(settings, place)?,
        annotations: settings.annotations.clone(),
        linux: Some(linux),
        ..Spec::default()
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
    let apparmor = match &security.apparmor {
        Some(profile) => profile.clone(),
        None if security.privileged => String::new(),
        None => place.apparmor.clone().unwrap_or_default(),
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
        oom_score_adj: settings.oom_score_adj,
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
    let list = |given: &Option<Vec<String>>, default: &[&str]| match given {
        Some(given) => given.clone(),
        None if security.privileged => vec![],
        None => default.iter().map(|&path| path.to_owned()).collect(),
    };
    let mut resources = settings.resources.clone();
    resources.devices = security::device_rules(settings);
    let devices = if security.privileged { place.devices.clone() } else { settings.devices.clone() };
    Ok(Linux {
        sysctl: settings.sysctls.clone(),
        resources: Some(resources),
        cgroups_path: place.cgroup.clone(),
        namespaces: namespaces(settings),
        devices,
        seccomp: filter(settings, place, bounding)?,
        masked_paths: list(&security.masked_paths, &defaults::MASKED),
        readonly_paths: list(&security.readonly_paths, &defaults::READONLY),
        mount_label: security.mount_label.clone(),
        ..Linux::default()
    })
}

fn namespaces(settings: &Settings) -> Vec<linux::Namespace> {
    let ns = &settings.namespaces;
    let chosen =
        [("network", &ns.network), ("ipc", &ns.ipc), ("uts", &ns.uts), ("pid", &ns.pid), ("cgroup", &ns.cgroup)];
    let mount = linux::Namespace { kind: "mount".to_owned(), path: String::new() };
    let others = chosen.into_iter().filter_map(|(kind, namespace)| {
        let path = match namespace {
            Namespace::Own => String::new(),
            Namespace::Host => return None,
            Namespace::Path(path) => path.clone(),
        };
        Some(linux::Namespace { kind: kind.to_owned(), path })
    });
    std::iter::once(mount).chain(others).collect()
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
