//! Deciding what is done to make, and to change, a container's cgroup.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use gantry_model::oci::linux::{DeviceRule, Resources};

use crate::devices::{DeviceSet, Rules};
use crate::ebpf::Program;
use crate::error::Error;
use crate::execute::execute;
use crate::layout::{Layout, Mount};
use crate::limits;
use crate::location::{Hierarchy, Location, UnitRef};
use crate::path::{self, Inner};
use crate::remove;
use crate::step::{Bus, Freezer, Step};
use crate::systemd;
use crate::v1;

/// Controllers of v2 that every container gets as far as the host has them: those that its statistics come from, and those
/// that a service manager in it would hand on.
const USUAL: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Name of the container, already checked.
    pub id: &'a str,
    /// `linux.cgroupsPath`; empty if there is none.
    pub cgroups_path: &'a str,
    /// Whether systemd shall make it.
    pub systemd: bool,
    /// Whether the runtime lacks root's rights over the host's cgroups. Devices are left alone then.
    pub rootless: bool,
    /// `linux.resources`.
    pub resources: Option<&'a Resources>,
    /// Device rules that apply after those of `resources`: usually [`crate::default_device_rules`].
    pub device_defaults: &'a [DeviceRule],
    /// User, and group, that a v2 cgroup is handed to: the root of a container that may write to its own.
    pub owner: Option<(u32, Option<u32>)>,
    /// Annotations; those that begin with `org.systemd.property.` become properties of the unit.
    pub annotations: Option<&'a BTreeMap<String, String>>,
    /// Cgroup of the user's service manager, for `rootless` with `systemd`: [`crate::user_manager`] finds it out.
    pub user_manager: Option<&'a str>,
}

impl Request<'_> {
    /// Whether the plan depends on this process's own cgroup, so that [`Layout::detect_with_own`] is called for.
    pub fn needs_own(&self) -> bool {
        !self.systemd && if self.cgroups_path.is_empty() { self.rootless } else { !self.cgroups_path.starts_with('/') }
    }

    /// Whether a refusal to make the cgroup leads to a container without one.
    fn may_go_without(&self) -> bool {
        self.rootless && !self.systemd && self.cgroups_path.is_empty()
    }
}

/// Everything that is done to make a cgroup.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatePlan {
    /// Where it will be.
    pub location: Location,
    /// Steps before the container's process exists.
    pub before_clone: Vec<Step>,
    /// Files into which that process writes `0` when it has been cloned into [`Location::clone_dir`]; none with systemd.
    pub join_files: Vec<PathBuf>,
    /// Steps after it exists, which take its id. It must not go on before they are done.
    pub after_clone: Vec<Step>,
    /// Whether the container goes on without a cgroup if the user may not make one.
    pub may_go_without: bool,
}

impl fmt::Display for CreatePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.before_clone.iter().try_for_each(|step| writeln!(f, "{step}"))?;
        self.join_files.iter().try_for_each(|path| writeln!(f, "init: write \"0\" to {}", path.display()))?;
        self.after_clone.iter().try_for_each(|step| writeln!(f, "with init: {step}"))
    }
}

impl CreatePlan {
    /// A plan for no cgroup.
    pub fn none() -> Self {
        let (location, may_go_without) = (Location::none(), false);
        Self { location, before_clone: Vec::new(), join_files: Vec::new(), after_clone: Vec::new(), may_go_without }
    }

    /// Carries out the steps before the clone. If that fails the cgroups that they made are removed again, but not empty ones
    /// above them, which others may be about to use. Where the plan allows it,
    /// hierarchies that refuse the user are taken out of the plan instead, unless a limit would be lost with them.
    pub fn prepare(&mut self) -> Result<(), Error> {
        let mut refused: Vec<PathBuf> = Vec::new();
        for step in &self.before_clone {
            let result = match step.place() {
                Some(place) => match refused.iter().find(|dir| place.starts_with(dir)) {
                    Some(dir) if step.is_limit() => Err(Error::Rootless {
                        action: format!("make cgroup {}", dir.display()),
                        errno: rustix::io::Errno::ACCESS,
                    }),
                    Some(_) => Ok(()),
                    None => execute(step, None),
                },
                None => execute(step, None),
            };
            match (result, step) {
                (Ok(()), _) => {}
                (Err(error), Step::MakeCgroup { dir, .. }) if self.may_go_without && error.is_denied() => {
                    refused.push(dir.clone());
                }
                (Err(error), _) => {
                    self.location.dirs().for_each(|dir| _ = remove::try_remove(dir));
                    return Err(error);
                }
            }
        }
        if !refused.is_empty() {
            self.location.v1.retain(|h| !refused.contains(&h.dir));
            self.location.unified = self.location.unified.take().filter(|dir| !refused.contains(dir));
            self.join_files = self.location.join_files();
        }
        Ok(())
    }

    /// Carries out the steps after the clone.
    pub fn finish(&self, pid: i32) -> Result<(), Error> {
        self.after_clone.iter().try_for_each(|step| execute(step, Some(pid)))
    }
}

/// Plans a container's cgroup.
pub fn plan_create(layout: &Layout, request: &Request<'_>) -> Result<CreatePlan, Error> {
    let none = Resources::default();
    let resources = request.resources.unwrap_or(&none);
    if layout.is_none() {
        if request.rootless && !limits::any(resources) {
            return Ok(CreatePlan::none());
        }
        let why = "no cgroup file system is mounted, and limits and the device filter need one: mount cgroup2 on /sys/fs/cgroup";
        return Err(Error::Layout(why.to_owned()));
    }
    if request.systemd { with_systemd(layout, request, resources) } else { with_files(layout, request, resources) }
}

fn with_files(layout: &Layout, request: &Request<'_>, resources: &Resources) -> Result<CreatePlan, Error> {
    let inner = path::inner(request.cgroups_path, request.id, request.rootless)?;
    let location = locate(layout, |mount, v2| place(mount, &inner, v2))?;
    let mut steps = Vec::new();
    for (mount, dir) in places(layout, &location) {
        let freezer = match mount {
            _ if mount.has("freezer") => Freezer::V1,
            _ if layout.is_v2() => Freezer::V2,
            _ => Freezer::None,
        };
        steps.push(Step::MakeCgroup { mount: mount.point.clone(), dir: dir.into(), freezer });
    }
    steps.extend(settle(layout, &location, request, resources)?);
    Ok(CreatePlan {
        join_files: location.join_files(),
        location,
        before_clone: steps,
        after_clone: Vec::new(),
        may_go_without: request.may_go_without(),
    })
}

fn with_systemd(layout: &Layout, request: &Request<'_>, resources: &Resources) -> Result<CreatePlan, Error> {
    if request.rootless && !layout.is_v2() {
        let why =
            "a user's systemd has no rights over cgroup v1; use the cgroupfs driver, or boot with cgroup v2 alone";
        return Err(Error::Layout(why.to_owned()));
    }
    let unit = path::unit(request.cgroups_path, request.id, request.rootless)?;
    let bus = if request.rootless { Bus::User } else { Bus::System };
    let mut inner = path::expand_slice(&unit.slice)?;
    if path::is_slice(&unit.name) {
        inner = path::expand_slice(&unit.name)?;
    } else {
        inner = if inner.is_empty() { unit.name.clone() } else { format!("{inner}/{}", unit.name) };
    }
    if request.rootless {
        let manager = request.user_manager.ok_or_else(|| {
            Error::Layout("the cgroup of the user's systemd is not known; is its service manager running?".to_owned())
        })?;
        inner = path::clean(&format!("{manager}/{inner}"))?;
    }
    let mut location = locate(layout, |mount, _| Ok(mount.point.join(&inner)))?;
    location.unit = Some(UnitRef { name: unit.name.clone(), bus });
    let properties = systemd::unit_properties(&unit, layout.is_v2(), resources, request)?;
    let mut steps = vec![Step::StartUnit { bus, unit: unit.name, properties }];
    for (mount, dir) in places(layout, &location) {
        // systemd has made it where it manages the hierarchy.
        steps.push(Step::EnsureCgroup { mount: mount.point.clone(), dir: dir.into() });
    }
    steps.extend(settle(layout, &location, request, resources)?);
    if !layout.is_v2() {
        let theirs = |h: &Hierarchy| h.subsystems.iter().any(|s| s == "name=systemd");
        let join = |dir: &Path| Step::Join { path: dir.join("cgroup.procs") };
        steps.extend(location.v1.iter().filter(|h| !theirs(h)).map(|h| join(&h.dir)));
        steps.extend(location.unified_dir().map(join));
    }
    Ok(CreatePlan {
        location,
        before_clone: Vec::new(),
        join_files: Vec::new(),
        after_clone: steps,
        may_go_without: false,
    })
}

/// The location with a directory for each mount.
fn locate(layout: &Layout, dir: impl Fn(&Mount, bool) -> Result<PathBuf, Error>) -> Result<Location, Error> {
    let mut location = Location::none();
    for mount in &layout.v1 {
        let subsystems = match &mount.name {
            Some(name) => vec![format!("name={name}")],
            None => mount.controllers.clone(),
        };
        location.v1.push(Hierarchy { subsystems, dir: dir(mount, false)? });
    }
    if let Some(mount) = &layout.unified {
        location.unified = Some(dir(mount, true)?);
    }
    Ok(location)
}

fn place(mount: &Mount, inner: &Inner, v2: bool) -> Result<PathBuf, Error> {
    let own = || {
        let own = mount.own.as_deref().ok_or_else(|| {
            let point = mount.point.display();
            Error::Layout(format!("this process's own cgroup is not below {point}; give an absolute cgroupsPath"))
        })?;
        Ok::<_, Error>(mount.point.join(own.trim_start_matches('/')))
    };
    let beside = || {
        let own = own()?;
        Ok(if own == mount.point { own } else { own.parent().unwrap_or(&mount.point).to_path_buf() })
    };
    Ok(match inner {
        Inner::Absolute(path) => mount.point.join(path),
        // In v2 a cgroup with processes, such as one's own, cannot limit its children.
        Inner::Relative(path) | Inner::Sibling(path) if v2 => beside()?.join(path),
        Inner::Relative(path) => own()?.join(path),
        Inner::Sibling(path) => beside()?.join(path),
    })
}

/// Each mount with the directory below it.
fn places<'a>(layout: &'a Layout, location: &'a Location) -> impl Iterator<Item = (&'a Mount, &'a Path)> {
    layout.v1.iter().chain(&layout.unified).zip(location.dirs())
}

/// What a cgroup needs once it is there, before anything runs in it.
fn settle(
    layout: &Layout,
    location: &Location,
    request: &Request<'_>,
    resources: &Resources,
) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    if let (Some(mount), Some(dir)) = (layout.v1_of("cpuset"), location.v1_dir("cpuset")) {
        let files = v1::cpuset_files(mount.noprefix);
        steps.push(Step::InheritCpuset { mount: mount.point.clone(), dir: dir.into(), files });
    }
    let limits = limits::plan(layout, location, resources, true)?;
    let usual: &[&str] = if layout.is_v2() { &USUAL } else { &[] };
    steps.extend(enable(layout, location, usual, limits.needed));
    steps.extend(limits.steps);
    if !request.rootless {
        steps.extend(devices(location, &resources.devices, request.device_defaults, request.systemd)?);
    }
    if let (Some((uid, gid)), Some(dir)) = (request.owner, location.unified_dir().filter(|_| layout.is_v2())) {
        steps.push(Step::Delegate { dir: dir.into(), uid, gid });
    }
    Ok(steps)
}

fn enable(layout: &Layout, location: &Location, usual: &[&str], needed: Vec<String>) -> Option<Step> {
    let (mount, dir) = (layout.unified.as_ref()?, location.unified_dir()?);
    let mut wanted: Vec<String> = usual.iter().map(|&name| name.to_owned()).collect();
    wanted.extend(needed.iter().filter(|name| !usual.contains(&name.as_str())).cloned());
    (!wanted.is_empty()).then(|| Step::Enable { mount: mount.point.clone(), dir: dir.into(), wanted, needed })
}

/// The device rules of a new cgroup. `shared` says that somebody else, systemd, may have set some already.
fn devices(
    location: &Location,
    rules: &[DeviceRule],
    defaults: &[DeviceRule],
    shared: bool,
) -> Result<Option<Step>, Error> {
    let rules = Rules::new(rules.iter().chain(defaults))?;
    if let Some(dir) = location.v1_dir("devices") {
        let target = DeviceSet::new(&rules)?;
        let dir = dir.to_path_buf();
        return Ok(match shared {
            true => Some(Step::DeviceState { dir, target }),
            // A new cgroup has what its parent has, and never more.
            false if target.allows_everything() => None,
            false => Some(Step::DeviceRules { dir, writes: target.from_scratch() }),
        });
    }
    let Some(dir) = location.unified_dir() else {
        let why = "no hierarchy can hold the device filter".to_owned();
        return Err(Error::Controller { controller: "devices".into(), place: location.describe(), why });
    };
    let program = || Program::new(&rules);
    Ok((shared || !rules.allows_everything()).then(|| Step::AttachDeviceProgram {
        dir: dir.into(),
        program: program(),
        replace: shared,
    }))
}

/// Plans a change of limits. Only what `resources` names changes; devices only if it has rules, and then these are all, with
/// `device_defaults` after them.
pub fn plan_update(
    layout: &Layout,
    location: &Location,
    resources: &Resources,
    device_defaults: &[DeviceRule],
) -> Result<Vec<Step>, Error> {
    if location.is_none() {
        return if limits::any(resources) {
            let why = "the container has no cgroup: it was made by a user to whom none is delegated".to_owned();
            Err(Error::Controller { controller: "any".into(), place: location.describe(), why })
        } else {
            Ok(Vec::new())
        };
    }
    let limits = limits::plan(layout, location, resources, false)?;
    // A limit that is below the present use must be refused before systemd sets it.
    let (mut steps, rest): (Vec<Step>, Vec<Step>) =
        limits.steps.into_iter().partition(|step| matches!(step, Step::RefuseBelowUse { .. }));
    if let Some(unit) = &location.unit {
        let properties = systemd::resource_properties(location.is_v2(), resources)?;
        if !properties.is_empty() {
            steps.push(Step::SetUnit { bus: unit.bus, unit: unit.name.clone(), properties });
        }
    }
    if !limits.needed.is_empty() {
        steps.extend(enable(layout, location, &[], limits.needed));
    }
    steps.extend(rest);
    if !resources.devices.is_empty() {
        steps.extend(devices(location, &resources.devices, device_defaults, true)?);
    }
    Ok(steps)
}
