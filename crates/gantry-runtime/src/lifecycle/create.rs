//! Making a container, with or without starting it.

mod restore;

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use gantry_cgroup::{CreatePlan, Layout, Request, plan_create};
use gantry_model::names::idmap;
use gantry_model::oci::spec::Spec;
use gantry_model::oci::state::Status;

use super::manage::release_mounts;
use super::{Container, CreateRequest, Created, Runtime};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::{Context, Error, Errors, Result};
use crate::filter::filter_of;
use crate::host;
use crate::interp::hooks;
use crate::interp::{self, Outcome, Run};
use crate::lower::{self, CgroupInput, CgroupMounts, ConsoleTo, Flags, Host, Input};
use crate::record::{Directory, MAX_DOCUMENT, Record, start_time};
use crate::step::{Action, HookKind, Resctrl, Step};

/// A configuration with everything that was decided about it; nothing has been touched.
struct Decided {
    spec: Spec,
    text: Vec<u8>,
    host: Host,
    cgroup: CreatePlan,
    steps: Vec<Step>,
}

impl Runtime {
    /// The steps that making a container would take, a line each.
    pub fn dry_run(&self, request: &CreateRequest<'_>) -> Result<String> {
        let decided = self.decide(request)?;
        Ok(crate::step::listing(&decided.steps))
    }

    /// Makes a container. Whatever fails, nothing is left of it.
    pub fn create(&self, request: &CreateRequest<'_>) -> Result<Created> {
        let mut decided = self.decide(request)?;
        let seccomp = decided.spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        let filter = seccomp.map(|profile| filter_of(profile, self.store.root())).transpose()?;
        let directory = self.store.make(request.id)?;
        match self.make(request, &mut decided, filter, &directory) {
            Ok((made, record)) => {
                let container = Some(Container { directory, record, spec: decided.spec, notify: made.notify });
                Ok(Created { pid: made.child.pid, pidfd: made.child.pidfd, console: made.console, container })
            }
            Err(error) => Err(undo(error, &decided, &directory)),
        }
    }

    fn decide(&self, request: &CreateRequest<'_>) -> Result<Decided> {
        check_preserved(request.flags)?;
        let path = request.config.map_or_else(|| format!("{}/config.json", request.bundle), str::to_owned);
        let text = read_document(&path)?;
        let mut spec: Spec = serde_json::from_slice(&text).map_err(|cause| Error::Parse { path, cause })?;
        let mut host = host::detect(&spec);
        lower::complete(&mut spec, &host);
        let cgroup = self.plan_cgroup(request, &spec, &mut host)?;
        let steps = lower_with(request, &spec, &host, &cgroup)?;
        Ok(Decided { spec, text, host, cgroup, steps })
    }

    fn plan_cgroup(&self, request: &CreateRequest<'_>, spec: &Spec, host: &mut Host) -> Result<CreatePlan> {
        if self.no_cgroups {
            return Ok(CreatePlan::none());
        }
        let rootless = self.rootless.unwrap_or(!host.privileged);
        let path = spec.linux.as_ref().map_or("", |linux| linux.cgroups_path.as_str());
        // Where the container lies relative to the runtime matters for a relative path, and for an unprivileged user.
        let relative = !path.starts_with('/') || rootless;
        let layout =
            if relative && !path.is_empty() || rootless { Layout::detect_with_own()? } else { Layout::detect()? };
        let defaults = gantry_cgroup::default_device_rules();
        let user_manager = if rootless && self.systemd { gantry_cgroup::user_manager().ok() } else { None };
        let plan = plan_create(
            &layout,
            &Request {
                id: request.id.as_str(),
                cgroups_path: path,
                systemd: self.systemd,
                rootless,
                resources: lower::resources(spec),
                device_defaults: &defaults,
                owner: owner(spec),
                annotations: Some(&spec.annotations),
                user_manager: user_manager.as_deref(),
            },
        )?;
        let mounts_cgroup = spec.mounts.iter().any(|mount| mount.kind == "cgroup" || mount.kind == "cgroup2");
        if mounts_cgroup {
            host.cgroup_mounts = host::cgroup_mounts(&layout, &plan.location);
        }
        Ok(plan)
    }

    fn make(
        &self,
        request: &CreateRequest<'_>,
        decided: &mut Decided,
        filter: Option<gantry_seccomp::Filter>,
        directory: &Directory,
    ) -> Result<(Outcome, Record)> {
        let lock = directory.keep_config(&decided.text)?;
        if decided.cgroup.may_go_without {
            // Hierarchies that refuse this user are left out, and with them the steps that would enter them.
            decided.cgroup.prepare()?;
            if !decided.host.cgroup_mounts.hierarchies.is_empty() {
                // A mount shows what was made, and the runtime's own cgroup where nothing was.
                let layout = Layout::detect_with_own()?;
                decided.host.cgroup_mounts = host::cgroup_mounts(&layout, &decided.cgroup.location);
            }
            decided.steps = lower_with(request, &decided.spec, &decided.host, &decided.cgroup)?;
            decided.steps.retain(|step| !is_early_cgroup(step, &decided.cgroup));
        }
        let mut record = new_record(request, decided);
        directory.write_first_record(&record)?;
        let state = record.state(&decided.spec, Status::Creating);
        let mut note = |pid: i32| {
            record.start_time = start_time(pid).ok_or_else(|| Error::InitDied("it was killed".to_owned()))?;
            record.pid = pid;
            directory.write_record(&record)
        };
        let location = &decided.cgroup.location;
        let run = Run {
            steps: &decided.steps,
            cgroups: &|nth| (nth == 0).then(|| location.clone_dir()).flatten(),
            filter,
            state: state.clone(),
            directory: Some(directory.as_fd()),
            held: vec![],
            warn: &self.warn,
            record: &mut note,
        };
        let outcome = interp::run(run)?;
        let child = &outcome.child;
        if let Some(path) = &request.flags.pid_file {
            write_pid_file(path, child.pid)?;
        }
        let poststart = decided.spec.hooks.as_ref().map_or(&[][..], |hooks| &hooks.poststart);
        if request.start && !poststart.is_empty() {
            let state = gantry_model::oci::state::State { status: Status::Running, pid: Some(child.pid), ..state };
            hooks::run(HookKind::Poststart, poststart, &state).inspect_err(|_| {
                let _ = gantry_sys::misc::pidfd_send_signal(child.pidfd.as_fd(), 9);
            })?;
        }
        drop(lock);
        Ok((outcome, record))
    }
}

/// Whether a step was carried out already when the cgroup was prepared.
fn is_early_cgroup(step: &Step, plan: &CreatePlan) -> bool {
    matches!(&step.action, Action::Cgroup(cgroup) if plan.before_clone.contains(cgroup))
}

fn lower_with(request: &CreateRequest<'_>, spec: &Spec, host: &Host, cgroup: &CreatePlan) -> Result<Vec<Step>> {
    let unit = cgroup.location.unit.is_some();
    let input = CgroupInput {
        before: cgroup.before_clone.clone(),
        after: cgroup.after_clone.clone(),
        clone_into: !unit && cgroup.location.unified_dir().is_some(),
        join: cgroup.join_files.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
    };
    lower::lower(&Input {
        id: request.id,
        bundle: request.bundle,
        spec,
        host,
        flags: request.flags,
        cgroup: &input,
        start_now: request.start,
    })
}

/// The user that the container's cgroup is handed to: its root, where it may write to a cgroup of its own.
fn owner(spec: &Spec) -> Option<(u32, Option<u32>)> {
    let linux = spec.linux.as_ref()?;
    let makes = |kind: &str| linux.namespaces.iter().any(|namespace| namespace.kind == kind);
    let writable = |mount: &gantry_model::oci::spec::Mount| {
        matches!(mount.kind.as_str(), "cgroup" | "cgroup2") && !mount.options.iter().any(|option| option == "ro")
    };
    if !makes("user") || !makes("cgroup") || !spec.mounts.iter().any(writable) {
        return None;
    }
    Some((idmap::host_id(&linux.uid_mappings, 0)?, idmap::host_id(&linux.gid_mappings, 0)))
}

fn new_record(request: &CreateRequest<'_>, decided: &Decided) -> Record {
    let spec = &decided.spec;
    let root = spec.root.as_ref().map_or("", |root| root.path.as_str());
    let rootfs = if root.starts_with('/') { root.to_owned() } else { format!("{}/{root}", request.bundle) };
    let resctrl = decided.steps.iter().filter_map(|step| match &step.action {
        Action::Resctrl(Resctrl::MakeGroup { path }) if !std::path::Path::new(path).exists() => Some(path.clone()),
        _ => None,
    });
    let denied = |step: &Step| matches!(&step.action, Action::WriteIdMaps { deny_setgroups: true, .. });
    Record {
        oci_version: spec.oci_version.clone(),
        id: request.id.to_string(),
        pid: 0,
        start_time: 0,
        bundle: request.bundle.to_owned(),
        rootfs,
        created: request.now.to_owned(),
        owner: rustix::process::getuid().as_raw(),
        cgroup: decided.cgroup.location.clone(),
        resctrl: resctrl.collect(),
        groups_denied: decided.steps.iter().any(denied),
    }
}

/// Takes away what a failed creation made. The process is dead by now, or was never made.
fn undo(error: Error, decided: &Decided, directory: &Directory) -> Error {
    let mut errors = Errors::default();
    // A cgroup that was in use is another's.
    let foreign = matches!(&error, Error::Cgroup(cause) if cause.is_in_use());
    if !foreign {
        errors.note(decided.cgroup.location.delete().map_err(Error::from));
    }
    if let Ok(Some(record)) = directory.record() {
        errors.note(release_mounts(directory, &record, Some(&decided.spec)));
    }
    for step in decided.steps.iter().rev() {
        if let Action::Resctrl(Resctrl::MakeGroup { path }) = &step.action {
            let _ = rustix::fs::rmdir(path);
        }
    }
    errors.note(directory.remove());
    match errors.finish() {
        Ok(()) => error,
        Err(more) => Error::Several(vec![error, more]),
    }
}

/// Fails unless every descriptor that the program is to inherit is open: another would take its number.
pub(super) fn check_preserved(flags: &Flags) -> Result<()> {
    // Those of socket activation are as whoever set the environment says.
    let first = 3_u32.saturating_add(flags.listen_fds);
    let last = first.saturating_add(flags.preserve_fds);
    // One of the runtime's own, which is closed on exec, is not the one that is meant.
    let inherited = |number: &u32| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        flags.is_some_and(|flags| {
            u32::from_str_radix(flags.trim(), 8).is_ok_and(|bits| bits & OFlags::CLOEXEC.bits() == 0)
        })
    };
    let missing = (first..last).find(|number| !inherited(number));
    missing.map_or(Ok(()), |number| {
        Err(Error::Unsupported(format!("descriptor {number} is to be preserved and is not open; see --preserve-fds")))
    })
}

/// Reads a document whole, up to a bound.
pub(super) fn read_document(path: &str) -> Result<Vec<u8>> {
    // A pipe or device in its place must not hold the runtime up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, path, flags, Mode::empty()).context(|| format!("open {path}"))?);
    if !file.metadata().context(|| format!("read {path}"))?.is_file() {
        return Err(Error::Unsupported(format!("read {path}: it is no regular file")));
    }
    let mut text = Vec::with_capacity(32 << 10);
    file.take(MAX_DOCUMENT + 1).read_to_end(&mut text).context(|| format!("read {path}"))?;
    if text.len() as u64 > MAX_DOCUMENT {
        return Err(Error::Unsupported(format!("read {path}: it is longer than {MAX_DOCUMENT} bytes")));
    }
    Ok(text)
}

/// Writes a process id to a file, whole or not at all.
pub(super) fn write_pid_file(path: &str, pid: i32) -> Result<()> {
    let new = match path.rsplit_once('/') {
        Some((parent, name)) => format!("{parent}/.{name}"),
        None => format!(".{path}"),
    };
    std::fs::write(&new, pid.to_string()).context(|| format!("write {new}"))?;
    std::fs::rename(&new, path).context(|| format!("write {path}"))
}

/// Lowers a configuration for a host that is given as data.
pub(crate) fn lower_text(config: &[u8], host: &Host) -> Result<String> {
    let spec: Spec =
        serde_json::from_slice(config).map_err(|cause| Error::Parse { path: "config.json".to_owned(), cause })?;
    let id = gantry_model::ContainerId::new("test")?;
    let flags = Flags { console: ConsoleTo::Runtime, ..Flags::default() };
    let host = Host { cgroup_mounts: CgroupMounts { v2: true, ..host.cgroup_mounts.clone() }, ..host.clone() };
    let steps = lower::lower(&Input {
        id: &id,
        bundle: "/bundle",
        spec: &spec,
        host: &host,
        flags: &flags,
        cgroup: &CgroupInput::default(),
        start_now: true,
    })?;
    Ok(crate::step::listing(&steps))
}
