//! Out-of-memory events of a container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags, inotify};
use rustix::io::Errno;

use crate::error::Error;
use crate::io;
use crate::location::Location;

/// What a watch saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomEvent {
    /// A process was killed for lack of memory, or with the killer off, one waits for some.
    Oom,
    /// The cgroup is gone, or has no process left; nothing more will come.
    Gone,
    /// Nothing, within the time given.
    None,
}

/// A watch over a container's memory. Its descriptor becomes readable when [`OomWatch::next`] is worth a call.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// An eventfd that `cgroup.event_control` is told of. The file tells by its absence that the cgroup is gone.
    V1 { control: PathBuf },
    /// An inotify of `memory.events` and `cgroup.events`.
    V2 { dir: PathBuf, kills: u64 },
}

impl Location {
    /// How many processes of the container the kernel has killed for lack of memory; 0 without a memory controller.
    pub fn oom_kill_count(&self) -> Result<u64, Error> {
        let (dir, file) = match (self.v1_dir("memory"), self.unified_dir()) {
            (Some(dir), _) => (dir, "memory.oom_control"),
            (None, Some(dir)) => (dir, "memory.events"),
            (None, None) => return Ok(0),
        };
        kills(dir, file)
    }

    /// Watches for lack of memory.
    pub fn watch_oom(&self) -> Result<OomWatch, Error> {
        match (self.v1_dir("memory"), self.unified_dir()) {
            (Some(dir), _) => watch_v1(dir),
            (None, Some(dir)) => watch_v2(dir),
            (None, None) => {
                let why = "the container has no cgroup that counts its memory".to_owned();
                Err(Error::Controller { controller: "memory".into(), place: self.describe(), why })
            }
        }
    }
}

fn kills(dir: &Path, file: &str) -> Result<u64, Error> {
    Ok(io::read_if_there(&dir.join(file))?.and_then(|text| io::value_of(&text, "oom_kill")).unwrap_or(0))
}

fn watch_v1(dir: &Path) -> Result<OomWatch, Error> {
    use std::os::fd::AsRawFd;
    let fail = |errno| Error::kernel(format!("watch the memory of {}", dir.display()), errno);
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(fail)?;
    let oom = rustix::fs::open(dir.join("memory.oom_control"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let oom = oom.map_err(fail)?;
    let control = dir.join("cgroup.event_control");
    io::write_or(&control, &format!("{} {}", event.as_raw_fd(), oom.as_raw_fd()))?;
    Ok(OomWatch { fd: event, source: Source::V1 { control } })
}

fn watch_v2(dir: &Path) -> Result<OomWatch, Error> {
    let fail = |errno| Error::kernel(format!("watch the memory of {}", dir.display()), errno);
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map_err(fail)?;
    for file in ["memory.events", "cgroup.events"] {
        match inotify::add_watch(&fd, dir.join(file), inotify::WatchFlags::MODIFY) {
            // A host that does not count memory has none to tell of; the end of the cgroup is told all the same.
            Err(Errno::NOENT) if file == "memory.events" => {}
            result => drop(result.map_err(fail)?),
        }
    }
    // Counted from here on: what happened earlier is no event.
    let kills = kills(dir, "memory.events")?;
    Ok(OomWatch { fd, source: Source::V2 { dir: dir.into(), kills } })
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl OomWatch {
    /// Waits for the next event, at most so long.
    pub fn next(&mut self, timeout: Duration) -> Result<OomEvent, Error> {
        let fail = |errno| Error::kernel("wait for a memory event", errno);
        if let Source::V2 { .. } = self.source
            && let Some(event) = self.look()?
        {
            return Ok(event);
        }
        let wait =
            Timespec { tv_sec: timeout.as_secs().min(1 << 31) as _, tv_nsec: i64::from(timeout.subsec_nanos()) as _ };
        match rustix::event::poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&wait)) {
            Ok(0) | Err(Errno::INTR) => return Ok(OomEvent::None),
            other => other.map(drop).map_err(fail)?,
        }
        // What it says does not matter; that it says something does.
        let mut buffer = [0_u8; 4096];
        match rustix::io::read(&self.fd, &mut buffer) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(fail(errno)),
        }
        Ok(self.look()?.unwrap_or(OomEvent::None))
    }

    fn look(&mut self) -> Result<Option<OomEvent>, Error> {
        match &mut self.source {
            // Removing the cgroup signals the eventfd too.
            Source::V1 { control } => {
                let there = rustix::fs::access(&*control, rustix::fs::Access::EXISTS).is_ok();
                Ok(Some(if there { OomEvent::Oom } else { OomEvent::Gone }))
            }
            Source::V2 { dir, kills: seen } => {
                let now = kills(dir, "memory.events")?;
                if now > *seen {
                    *seen = now;
                    return Ok(Some(OomEvent::Oom));
                }
                let events = io::read_if_there(&dir.join("cgroup.events"))?;
                let empty = events.is_none_or(|text| io::value_of(&text, "populated") == Some(0));
                Ok(empty.then_some(OomEvent::Gone))
            }
        }
    }
}
