//! Where a container's cgroup is, and what can be done with it there.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::step::Bus;
use crate::{io, remove, systemd};

/// The cgroup in one v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// Controllers of the hierarchy, or `name=NAME`.
    pub subsystems: Vec<String>,
    /// Directory of the cgroup.
    pub dir: PathBuf,
}

/// The unit of systemd that the cgroup belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRef {
    /// Name.
    pub name: String,
    /// Which manager has it.
    pub bus: Bus,
}

/// Where a container's cgroup is in each hierarchy. It is part of a container's state on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Directory in the v2 hierarchy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unified: Option<PathBuf>,
    /// Directories in v1 hierarchies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub v1: Vec<Hierarchy>,
    /// Unit, with the systemd driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitRef>,
}

/// How long a freeze may take.
const FREEZE_SECONDS: u64 = 10;

impl Location {
    /// No cgroup at all: the container stays in that of its creator.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether the container has no cgroup of its own.
    pub fn is_none(&self) -> bool {
        self.unified.is_none() && self.v1.is_empty()
    }

    /// Whether it has one in v2 alone.
    pub fn is_v2(&self) -> bool {
        self.v1.is_empty() && self.unified.is_some()
    }

    pub(crate) fn unified_at(dir: &str) -> Self {
        Self { unified: Some(dir.into()), ..Self::default() }
    }

    /// The directory in the v2 hierarchy.
    pub fn unified_dir(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// The directory in the v1 hierarchy of a controller.
    pub fn v1_dir(&self, controller: &str) -> Option<&Path> {
        self.v1.iter().find(|h| h.subsystems.iter().any(|s| s == controller)).map(|h| h.dir.as_path())
    }

    /// The directory by which the whole is named in messages.
    pub(crate) fn describe(&self) -> PathBuf {
        self.unified
            .clone()
            .or_else(|| self.v1.first().map(|h| h.dir.clone()))
            .unwrap_or_else(|| "/sys/fs/cgroup".into())
    }

    /// Every directory.
    pub fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.v1.iter().map(|h| h.dir.as_path()).chain(self.unified.as_deref())
    }

    /// Directories by controller; that of v2 by the empty name. State files and hooks know them in this form.
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        let v1 = self.v1.iter().flat_map(|h| h.subsystems.iter().map(|s| (s.clone(), h.dir.clone())));
        v1.chain(self.unified.iter().map(|dir| (String::new(), dir.clone()))).collect()
    }

    /// Whether the cgroup is there, in any hierarchy.
    pub fn exists(&self) -> bool {
        self.dirs().any(|dir| rustix::fs::access(dir, rustix::fs::Access::EXISTS).is_ok())
    }

    /// The v2 directory, for `CLONE_INTO_CGROUP`: hybrid hosts have one too. Absent if there is none yet, as before systemd
    /// has made the unit.
    pub fn clone_dir(&self) -> Option<OwnedFd> {
        open_dir(self.unified.as_deref()?).ok()
    }

    /// The files into which a new process with a single thread writes `0` to be in the v1 hierarchies. They are the `tasks`
    /// files: moving the calling thread needs no lock over all the threads of the host, where `cgroup.procs` waits for an
    /// RCU grace period, 5 ms on an idle host of two processors, against 0.06 ms.
    pub fn join_files(&self) -> Vec<PathBuf> {
        self.v1.iter().map(|h| h.dir.join("tasks")).collect()
    }

    /// Moves a process, by its id, into the cgroup in every hierarchy.
    pub fn enter(&self, pid: i32) -> Result<(), Error> {
        self.dirs().try_for_each(|dir| enter_dir(dir, pid))
    }

    /// The directory in v2 that a process is in, for `CLONE_INTO_CGROUP`: a container's init may have moved itself deeper,
    /// and then its first cgroup, with limits for its children, takes no processes (`EBUSY`). Only one below the
    /// container's own cgroup is returned.
    pub fn init_dir(&self, init: i32) -> Option<OwnedFd> {
        let own = self.unified.as_deref()?;
        let text = io::read(Path::new(&format!("/proc/{init}/cgroup"))).ok()?;
        let entries = crate::layout::parse_cgroup_file(&text).ok()?;
        let path = &entries.iter().find(|entry| entry.is_unified())?.path;
        // The same cgroup seen from the mount point: the path in /proc ends as the directory does.
        let mount = own.ancestors().find(|top| own.strip_prefix(top).is_ok_and(|rest| is_under(path, rest)))?;
        open_dir(&mount.join(path.trim_start_matches('/'))).ok()
    }

    /// Sub-cgroups that exist, for `exec --cgroup`: each argument is `PATH`, or with v1 `CONTROLLER[,CONTROLLER]:PATH`.
    pub fn with_sub(&self, args: &[&str]) -> Result<Self, Error> {
        let mut out = Self { unit: None, ..self.clone() };
        let mut seen: Vec<&str> = Vec::new();
        for arg in args {
            let (controllers, path) = match arg.split_once(':') {
                Some((list, path)) => (list.split(',').collect(), path),
                None if args.len() > 1 => {
                    return Err(Error::path(arg, "with several, each needs its controller before a colon"));
                }
                None => (Vec::new(), *arg),
            };
            let sub = sub_path(path)?;
            if arg.contains(':') && self.is_v2() {
                return Err(Error::path(
                    arg,
                    "cgroup v2 has no hierarchies by controller; leave out what is before the colon",
                ));
            }
            if controllers.is_empty() {
                out.v1.iter_mut().for_each(|h| h.dir.push(&sub));
                out.unified.iter_mut().for_each(|dir| dir.push(&sub));
            }
            for controller in controllers {
                if controller.is_empty() || seen.contains(&controller) {
                    return Err(Error::path(arg, "a controller is empty or named twice"));
                }
                seen.push(controller);
                let base =
                    self.v1_dir(controller).ok_or_else(|| Error::path(arg, "no hierarchy has this controller"))?;
                let dir = base.join(&sub);
                out.v1.iter_mut().filter(|h| h.dir == base).for_each(|h| h.dir.clone_from(&dir));
            }
        }
        for dir in out.dirs() {
            open_dir(dir).map_err(|errno| Error::kernel(format!("open cgroup {}", dir.display()), errno))?;
        }
        Ok(out)
    }

    /// The processes in the cgroup and below it.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        self.members().map_or_else(|| Ok(Vec::new()), pids_of)
    }

    /// The hierarchy in which the members are counted.
    fn members(&self) -> Option<&Path> {
        let v1 = ["pids", "memory", "devices"].iter().find_map(|name| self.v1_dir(name));
        self.unified_dir().or(v1).or_else(|| self.dirs().next())
    }

    /// Freezes every process, and returns when they are. If that fails they are thawed again.
    pub fn freeze(&self) -> Result<(), Error> {
        let result = match (self.v1_dir("freezer"), self.unified_dir()) {
            (Some(dir), _) => freeze_v1(dir),
            (None, Some(dir)) => freeze_v2(dir),
            (None, None) => {
                let why = "the container has no cgroup that could freeze it".to_owned();
                return Err(Error::Controller { controller: "freezer".into(), place: self.describe(), why });
            }
        };
        if result.is_err() {
            let _ = self.thaw();
        }
        result
    }

    /// Lets every process run again.
    pub fn thaw(&self) -> Result<(), Error> {
        match (self.v1_dir("freezer"), self.unified_dir()) {
            (Some(dir), _) => io::write_or(&dir.join("freezer.state"), "THAWED"),
            (None, Some(dir)) => io::write_or(&dir.join("cgroup.freeze"), "0"),
            (None, None) => Ok(()),
        }
    }

    /// Whether the cgroup itself was asked to freeze.
    pub fn frozen(&self) -> Result<bool, Error> {
        let says = |dir: &Path, file: &str| Ok(io::read_if_there(&dir.join(file))?.is_some_and(|t| t.trim() == "1"));
        match (self.v1_dir("freezer"), self.unified_dir()) {
            (Some(dir), _) => says(dir, "freezer.self_freezing"),
            (None, Some(dir)) => says(dir, "cgroup.freeze"),
            (None, None) => Ok(false),
        }
    }

    /// Sends a signal, by its number, to every process in the cgroup and below it. None can escape by forking: v2 kills in
    /// the kernel, and otherwise the cgroup is frozen meanwhile.
    pub fn kill_all(&self, signal: i32) -> Result<(), Error> {
        let kill = signal == Signal::KILL.as_raw();
        if let Some(dir) = self.unified_dir().filter(|_| kill) {
            match io::write(&dir.join("cgroup.kill"), "1") {
                Ok(()) => return self.thaw_after_kill(),
                Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(io::write_error(&dir.join("cgroup.kill"), "1", errno)),
            }
        }
        if !self.exists() {
            return Ok(());
        }
        // A container that is paused stays so, unless it is killed.
        let was_frozen = self.frozen().unwrap_or(false);
        let frozen = was_frozen || self.freeze().is_ok();
        let result = self.signal_each(signal, if frozen { 1 } else { 10 });
        if frozen && (kill || !was_frozen) {
            self.thaw()?;
        }
        result
    }

    /// Signals what is found, as often as there may be something new.
    fn signal_each(&self, signal: i32, rounds: usize) -> Result<(), Error> {
        let mut done: Vec<i32> = Vec::new();
        for _ in 0..rounds {
            let new: Vec<i32> = self.pids()?.into_iter().filter(|pid| !done.contains(pid)).collect();
            if new.is_empty() {
                break;
            }
            for pid in new {
                send(pid, signal)?;
                done.push(pid);
            }
        }
        Ok(())
    }

    /// What is frozen in v1 dies only when it is thawed.
    fn thaw_after_kill(&self) -> Result<(), Error> {
        match self.v1_dir("freezer") {
            Some(dir) => match io::write(&dir.join("freezer.state"), "THAWED") {
                Ok(()) => self.take_back(dir),
                Err(Errno::NOENT | Errno::NODEV) => Ok(()),
                Err(errno) => Err(io::write_error(&dir.join("freezer.state"), "THAWED", errno)),
            },
            None => Ok(()),
        }
    }

    /// Moves what somebody put into another freezer cgroup, which may be frozen, back into the thawed one.
    fn take_back(&self, freezer: &Path) -> Result<(), Error> {
        let here = pids_of(freezer)?;
        for pid in self.pids()?.into_iter().filter(|pid| !here.contains(pid)) {
            // One that has ended meanwhile needs nothing.
            let _ = io::write(&freezer.join("cgroup.procs"), &pid.to_string());
        }
        Ok(())
    }

    /// Removes the cgroup with everything below it, in every hierarchy, and stops the unit. Processes that are still in it
    /// are killed. What is missing already is fine; every failure is collected.
    pub fn delete(&self) -> Result<(), Error> {
        let mut errors = Vec::new();
        if let Some(unit) = &self.unit {
            errors.extend(systemd::stop_unit(unit.bus, &unit.name).err());
        }
        let busy: Vec<&Path> = self.dirs().filter(|dir| !remove::try_remove(dir)).collect();
        if !busy.is_empty() {
            let _ = self.kill_all(Signal::KILL.as_raw());
            let end = Instant::now() + remove::PATIENCE;
            errors.extend(busy.into_iter().filter_map(|dir| remove::remove_tree(dir, end).err()));
        }
        Error::collect(errors)
    }
}

/// Whether `path`, with a leading slash, is `rest` or below it.
fn is_under(path: &str, rest: &Path) -> bool {
    rest.components().next().is_some() && Path::new(path.trim_start_matches('/')).starts_with(rest)
}

/// A path below the container's cgroup; empty is the cgroup itself.
fn sub_path(path: &str) -> Result<String, Error> {
    if path.trim_matches('/').is_empty() { Ok(String::new()) } else { crate::path::clean(path) }
}

fn open_dir(dir: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty())
}

fn enter_dir(dir: &Path, pid: i32) -> Result<(), Error> {
    let path = dir.join("cgroup.procs");
    for _ in 0..5 {
        match io::write(&path, &pid.to_string()) {
            // A process that is only just being made cannot be moved yet.
            Err(Errno::INVAL) => std::thread::sleep(Duration::from_millis(10)),
            other => return other.map_err(|errno| io::write_error(&path, &pid.to_string(), errno)),
        }
    }
    io::write_or(&path, &pid.to_string())
}

fn send(pid: i32, signal: i32) -> Result<(), Error> {
    let fail = |errno| Error::kernel(format!("send signal {signal} to process {pid}"), errno);
    let fd = match Pid::from_raw(pid).map(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()))
    {
        None | Some(Err(Errno::SRCH)) => return Ok(()),
        Some(fd) => fd.map_err(fail)?,
    };
    match gantry_sys::misc::pidfd_send_signal(std::os::fd::AsFd::as_fd(&fd), signal) {
        Ok(()) => Ok(()),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::SRCH) => Ok(()),
            errno => Err(fail(errno.unwrap_or(Errno::IO))),
        },
    }
}

/// The processes of a cgroup and of all below it.
pub(crate) fn pids_of(dir: &Path) -> Result<Vec<i32>, Error> {
    let mut pids = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        let text = match io::read(&dir.join("cgroup.procs")) {
            // Of a threaded cgroup only threads can be listed.
            Err(Errno::OPNOTSUPP) => io::read_if_there(&dir.join("cgroup.threads"))?.unwrap_or_default(),
            Err(Errno::NOENT | Errno::NODEV) => continue,
            other => {
                other.map_err(|errno| Error::kernel(format!("read {}", dir.join("cgroup.procs").display()), errno))?
            }
        };
        // Zero stands for a process outside of this process's namespace.
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
        todo.extend(remove::children(&dir));
    }
    Ok(pids)
}

fn freeze_v2(dir: &Path) -> Result<(), Error> {
    io::write_or(&dir.join("cgroup.freeze"), "1")?;
    let path = dir.join("cgroup.events");
    let fail = |errno| Error::kernel(format!("read {}", path.display()), errno);
    let end = Instant::now() + Duration::from_secs(FREEZE_SECONDS);
    loop {
        let fd = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
        if io::value_of(&io::read_fd(&fd).map_err(fail)?, "frozen") == Some(1) {
            return Ok(());
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Timeout { what: format!("freezing {}", dir.display()), seconds: FREEZE_SECONDS });
        }
        // The file says by POLLPRI that it changed since it was read.
        let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::PRI)];
        let wait = rustix::event::Timespec {
            tv_sec: left.as_secs().min(1) as _,
            tv_nsec: i64::from(left.subsec_nanos()) as _,
        };
        match rustix::event::poll(&mut fds, Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
}

/// Processes that fork while they are frozen can keep v1's freezer from ever getting there: it is told again and again, and
/// now and then they may run, so that the forks end.
fn freeze_v1(dir: &Path) -> Result<(), Error> {
    let path = dir.join("freezer.state");
    let end = Instant::now() + Duration::from_secs(FREEZE_SECONDS);
    for round in 1_u32.. {
        io::write_or(&path, "FROZEN")?;
        if io::read_or(&path)?.trim() == "FROZEN" {
            return Ok(());
        }
        if Instant::now() >= end {
            break;
        }
        if round % 64 == 0 {
            io::write_or(&path, "THAWED")?;
            std::thread::sleep(Duration::from_millis(10));
        } else if round % 8 == 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    Err(Error::Timeout { what: format!("freezing {}", dir.display()), seconds: FREEZE_SECONDS })
}
