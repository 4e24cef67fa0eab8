//! Carrying steps out. No choice is made here.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::devices::{DeviceSet, Write as DeviceWrite};
use crate::ebpf::Program;
use crate::error::Error;
use crate::io;
use crate::step::{Freezer, Step, Write};
use crate::systemd;

/// Carries a step out. `pid` is the container's process, for the steps that need one.
pub fn execute(step: &Step, pid: Option<i32>) -> Result<(), Error> {
    match step {
        Step::MakeCgroup { mount, dir, freezer } => make_cgroup(mount, dir, *freezer),
        Step::EnsureCgroup { mount, dir } => make_dirs(mount, dir).map(drop),
        Step::Enable { mount, dir, wanted, needed } => enable(mount, dir, wanted, needed),
        Step::InheritCpuset { mount, dir, files } => inherit_cpuset(mount, dir, files),
        Step::Write { write, optional } => write_step(write, *optional),
        Step::WriteFirst(writes) => write_first(writes),
        Step::WritePair { first, second, first_optional, second_optional } => {
            write_pair((first, *first_optional), (second, *second_optional))
        }
        Step::CpuPeriod { path, period } => {
            let old = io::read_or(path)?;
            let quota = old.split_whitespace().next().unwrap_or("max");
            io::write_or(path, &format!("{quota} {period}"))
        }
        Step::RefuseBelowUse { usage, limit } => refuse_below_use(usage, *limit),
        Step::DeviceRules { dir, writes } => device_rules(dir, writes),
        Step::DeviceState { dir, target } => device_state(dir, target),
        Step::AttachDeviceProgram { dir, program, replace } => attach(dir, program, *replace),
        Step::Delegate { dir, uid, gid } => delegate(dir, *uid, *gid),
        Step::Join { path } => io::write_or(path, &process(step, pid)?.to_string()),
        Step::StartUnit { bus, unit, properties } => systemd::start_unit(*bus, unit, properties, process(step, pid)?),
        Step::SetUnit { bus, unit, properties } => systemd::set_unit(*bus, unit, properties),
        Step::Ignore { .. } => Ok(()),
    }
}

/// Carries steps out in their order, up to the first that fails.
pub fn execute_all(steps: &[Step], pid: Option<i32>) -> Result<(), Error> {
    steps.iter().try_for_each(|step| execute(step, pid))
}

fn process(step: &Step, pid: Option<i32>) -> Result<i32, Error> {
    pid.filter(|pid| *pid > 0).ok_or_else(|| Error::kernel(format!("{step}: there is no process yet"), Errno::SRCH))
}

fn make_cgroup(mount: &Path, dir: &Path, freezer: Freezer) -> Result<(), Error> {
    if make_dirs(mount, dir)? {
        return Ok(());
    }
    let busy = |why: String| Error::InUse { dir: dir.into(), why };
    let pids = crate::location::pids_of(dir)?;
    if let Some(first) = pids.first() {
        return Err(busy(format!("it has {} processes, among them {first}", pids.len())));
    }
    let frozen = match freezer {
        Freezer::None => false,
        Freezer::V1 => io::read_if_there(&dir.join("freezer.state"))?.is_some_and(|state| state.trim() != "THAWED"),
        Freezer::V2 => io::read_if_there(&dir.join("cgroup.freeze"))?.is_some_and(|state| state.trim() == "1"),
    };
    if frozen { Err(busy("it is frozen".into())) } else { Ok(()) }
}

/// Makes a cgroup and those above it, and says whether the cgroup itself is new.
fn make_dirs(mount: &Path, dir: &Path) -> Result<bool, Error> {
    match make_dir(dir) {
        Err(Errno::NOENT) => {}
        other => return other.map_err(|errno| make_error(dir, errno)),
    }
    let above: Vec<&Path> = dir.ancestors().skip(1).take_while(|path| *path != mount).collect();
    for path in above.into_iter().rev() {
        make_dir(path).map_err(|errno| make_error(path, errno))?;
    }
    make_dir(dir).map_err(|errno| make_error(dir, errno))
}

fn make_dir(path: &Path) -> Result<bool, Errno> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn make_error(path: &Path, errno: Errno) -> Error {
    let hint = match errno {
        Errno::ROFS => "the cgroup file system is mounted read-only",
        Errno::ACCESS | Errno::PERM => "the cgroup above it is not delegated to this user",
        Errno::AGAIN => "a limit on the number of cgroups (cgroup.max.descendants, cgroup.max.depth) is reached",
        Errno::BUSY | Errno::OPNOTSUPP => "the cgroup above it cannot have children",
        _ => "",
    };
    Error::Kernel { action: format!("make cgroup {}", path.display()), errno, hint }
}

/// The controllers of `wanted` that a list such as `cgroup.controllers` lacks.
fn lacking<'a>(wanted: &'a [String], list: &str) -> Vec<&'a String> {
    wanted.iter().filter(|name| !list.split_whitespace().any(|have| have == *name)).collect()
}

fn enable(mount: &Path, dir: &Path, wanted: &[String], needed: &[String]) -> Result<(), Error> {
    let list = dir.join("cgroup.controllers");
    // The usual case: an earlier container left everything above enabled.
    let missing = lacking(wanted, &io::read_or(&list)?);
    if missing.is_empty() {
        return Ok(());
    }
    make_threaded_if_must(dir, needed)?;
    let host = io::read_or(&mount.join("cgroup.controllers"))?;
    let possible: Vec<&String> =
        missing.into_iter().filter(|name| lacking(&[(*name).clone()], &host).is_empty()).collect();
    let mut refused = String::new();
    if !possible.is_empty() {
        let mut above: Vec<&Path> = dir.ancestors().skip(1).take_while(|path| *path != mount).collect();
        above.push(mount);
        for path in above.into_iter().rev() {
            enable_at(&path.join("cgroup.subtree_control"), &possible, &mut refused);
        }
    }
    let now = io::read_or(&list)?;
    match lacking(needed, &now).first() {
        None => Ok(()),
        Some(name) => {
            let why = match (lacking(&[(*name).clone()], &host).is_empty(), refused.is_empty()) {
                (false, _) => {
                    "the host has it not in cgroup v2: it may be bound to v1, or off in the kernel".to_owned()
                }
                (true, false) => format!("{refused}; a cgroup with processes of its own cannot limit those below it"),
                (true, true) => "it is not delegated to this user".to_owned(),
            };
            Err(Error::Controller { controller: (*name).clone(), place: dir.into(), why })
        }
    }
}

/// Enables all at once, and where that is refused each by itself; keeps the last refusal.
fn enable_at(path: &Path, controllers: &[&String], refused: &mut String) {
    let all: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    if io::write(path, &all.join(" ")).is_ok() {
        return;
    }
    for one in &all {
        if let Err(error) = io::write_or(path, one) {
            *refused = error.to_string();
        }
    }
}

/// A cgroup below a threaded one can hold processes only if it is threaded too, and has no domain controllers then.
fn make_threaded_if_must(dir: &Path, needed: &[String]) -> Result<(), Error> {
    let path = dir.join("cgroup.type");
    let Some(kind) = io::read_if_there(&path)? else { return Ok(()) };
    let kind = kind.trim();
    if kind == "domain" {
        return Ok(());
    }
    if let Some(name) = needed.iter().find(|name| !matches!(name.as_str(), "cpu" | "cpuset" | "pids" | "perf_event")) {
        let why = format!("the cgroup is {kind}, below a threaded one, where only cpu, cpuset and pids exist");
        return Err(Error::Controller { controller: name.clone(), place: dir.into(), why });
    }
    if kind == "domain invalid" { io::write_or(&path, "threaded") } else { Ok(()) }
}

fn inherit_cpuset(mount: &Path, dir: &Path, files: &[String; 2]) -> Result<(), Error> {
    for file in files {
        // Up to the first cgroup that has the value, then down again.
        let mut empty: Vec<PathBuf> = Vec::new();
        let mut value = String::new();
        for path in dir.ancestors() {
            let file = path.join(file);
            let text = io::read_or(&file)?;
            text.trim().clone_into(&mut value);
            if !value.is_empty() || path == mount {
                break;
            }
            empty.push(file);
        }
        for file in empty.iter().rev() {
            io::write_or(file, &value)?;
        }
    }
    Ok(())
}

fn write_step(write: &Write, optional: bool) -> Result<(), Error> {
    match io::write(&write.path, &write.value) {
        Err(Errno::NOENT) if optional => Ok(()),
        Err(Errno::NOENT | Errno::ACCESS | Errno::PERM) if !controller_is_there(&write.path) => {
            Err(no_controller(&write.path))
        }
        Err(errno) => Err(io::write_error(&write.path, &write.value, errno)),
        Ok(()) => Ok(()),
    }
}

/// The controller that a file belongs to, `memory` for `memory.max`, and the cgroup that it is in.
fn controller_of(path: &Path) -> Option<(&str, &Path)> {
    Some((path.file_name()?.to_str()?.split('.').next()?, path.parent()?))
}

/// Whether the controller of a v2 file is enabled for its cgroup; files of v1 and of the core always are.
fn controller_is_there(path: &Path) -> bool {
    let Some((controller, dir)) = controller_of(path) else { return true };
    let Ok(list) = io::read(&dir.join("cgroup.controllers")) else { return true };
    controller == "cgroup" || list.split_whitespace().any(|have| have == controller)
}

fn no_controller(path: &Path) -> Error {
    let (controller, dir) = controller_of(path).unwrap_or(("?", path));
    let why = format!("cgroup.controllers does not list it, so {} cannot be set", path.display());
    Error::Controller { controller: controller.into(), place: dir.into(), why }
}

fn write_first(writes: &[Write]) -> Result<(), Error> {
    let mut result = Ok(());
    for write in writes {
        result = match io::write(&write.path, &write.value) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT) if !controller_is_there(&write.path) => Err(no_controller(&write.path)),
            Err(Errno::NOENT) => Err(io::write_error(&write.path, &write.value, Errno::NOENT)),
            Err(errno) => return Err(io::write_error(&write.path, &write.value, errno)),
        };
    }
    result
}

fn write_pair(first: (&Write, bool), second: (&Write, bool)) -> Result<(), Error> {
    match io::write(&first.0.path, &first.0.value) {
        // The first is not within what the second still is: the other order is.
        Err(Errno::INVAL) => {
            write_step(second.0, second.1)?;
            write_step(first.0, first.1)
        }
        Ok(()) => write_step(second.0, second.1),
        Err(_) => {
            write_step(first.0, first.1)?;
            write_step(second.0, second.1)
        }
    }
}

fn refuse_below_use(usage: &Path, limit: u64) -> Result<(), Error> {
    // Without the file there is no use to compare with: the limit's own write tells what is wrong.
    let Some(text) = io::read_if_there(usage)? else { return Ok(()) };
    match text.trim().parse::<u64>() {
        Ok(used) if used >= limit => Err(Error::resource(
            "resources.memory",
            limit,
            format!("{used} bytes are in use ({}), and checkBeforeUpdate was asked for", usage.display()),
        )),
        _ => Ok(()),
    }
}

fn device_rules(dir: &Path, writes: &[DeviceWrite]) -> Result<(), Error> {
    match write_device_rules(dir, writes) {
        // As for the filter of v2: nothing can be done here, and no device file can be made.
        Err(error) if error.is_denied() && in_user_namespace() => Ok(()),
        other => other,
    }
}

fn write_device_rules(dir: &Path, writes: &[DeviceWrite]) -> Result<(), Error> {
    // Runs of rules for one file share its descriptor.
    let mut open: Option<(bool, PathBuf, OwnedFd)> = None;
    for write in writes {
        let (path, fd) = match open.take() {
            Some((allow, path, fd)) if allow == write.allow => (path, fd),
            _ => {
                let path = dir.join(if write.allow { "devices.allow" } else { "devices.deny" });
                let fd = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                    .map_err(|errno| io::write_error(&path, &write.line, errno))?;
                (path, fd)
            }
        };
        io::write_fd(&fd, &write.line).map_err(|errno| match errno {
            Errno::PERM => Error::Kernel {
                action: format!("write {:?} to {}", write.line, path.display()),
                errno,
                hint: "a cgroup above this one denies the device",
            },
            _ => io::write_error(&path, &write.line, errno),
        })?;
        open = Some((write.allow, path, fd));
    }
    Ok(())
}

fn device_state(dir: &Path, target: &DeviceSet) -> Result<(), Error> {
    let now = DeviceSet::parse(&io::read_or(&dir.join("devices.list"))?)?;
    device_rules(dir, &now.transition(target))
}

fn attach(dir: &Path, program: &Program, replace: bool) -> Result<(), Error> {
    let action = |what: &str| format!("{what} the device filter of {}", dir.display());
    let fail = |what: &str, error: &std::io::Error| {
        let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
        let hint = match errno {
            Errno::PERM | Errno::ACCESS => "CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, are needed",
            Errno::INVAL => "is CONFIG_CGROUP_BPF in the kernel?",
            _ => "",
        };
        Error::Kernel { action: action(what), errno, hint }
    };
    let cgroup = rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::kernel(action("attach"), errno))?;
    let new = match gantry_sys::bpf::load_device(program.insns()) {
        // Without the right over the first user namespace there is no filter, and no device file can be made there either.
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) && in_user_namespace() => return Ok(()),
        other => other.map_err(|error| fail("load", &error))?,
    };
    let old = if replace { attached(&cgroup).map_err(|error| fail("look up", &error))? } else { Vec::new() };
    // With one there the kernel swaps both at once, so that no access falls between them.
    let swapped = match old.as_slice() {
        [one] => gantry_sys::bpf::attach_device(cgroup.as_fd(), new.as_fd(), Some(one.as_fd())).is_ok(),
        _ => false,
    };
    if swapped {
        return Ok(());
    }
    gantry_sys::bpf::attach_device(cgroup.as_fd(), new.as_fd(), None).map_err(|error| fail("attach", &error))?;
    for one in &old {
        gantry_sys::bpf::detach_device(cgroup.as_fd(), one.as_fd()).map_err(|error| fail("detach", &error))?;
    }
    Ok(())
}

/// The filters attached to a cgroup that this process may open; one that a security module hides only restricts further.
fn attached(cgroup: &OwnedFd) -> std::io::Result<Vec<OwnedFd>> {
    let mut fds = Vec::new();
    for id in gantry_sys::bpf::query_device(cgroup.as_fd())? {
        match gantry_sys::bpf::program_by_id(id) {
            Ok(fd) => fds.push(fd),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(fds)
}

/// Whether this process is in a user namespace other than the first one.
fn in_user_namespace() -> bool {
    let map = io::read(Path::new("/proc/self/uid_map")).unwrap_or_default();
    !map.is_empty() && !map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn delegate(dir: &Path, uid: u32, gid: Option<u32>) -> Result<(), Error> {
    /// What cgroups(7) lists for kernels that do not.
    const FILES: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";
    let files = io::read_if_there(Path::new("/sys/kernel/cgroup/delegate"))?.unwrap_or_else(|| FILES.into());
    let (uid, gid) = (Uid::from_raw(uid), gid.map(Gid::from_raw));
    for path in std::iter::once(dir.to_path_buf()).chain(files.lines().map(|name| dir.join(name))) {
        match rustix::fs::chownat(CWD, &path, Some(uid), gid, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) => {}
            // The list names files of controllers that this cgroup has not.
            Err(Errno::NOENT) if path != dir => {}
            Err(errno) => return Err(Error::kernel(format!("change the owner of {}", path.display()), errno)),
        }
    }
    Ok(())
}
