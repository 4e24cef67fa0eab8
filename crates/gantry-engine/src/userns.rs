//! User namespaces of containers: ranges of ids that no other container on this host has, and namespaces to map mounts by.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use gantry_sys::clone::{ForkOptions, Forked, exit_now, fork};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::settings::Mapping;

/// How many ids a container has.
pub const SIZE: u32 = 65_536;
/// Ids that are given to containers: a part that neither users nor the usual ranges of subordinate ids reach.
const FIRST: u32 = 0x7000_0000;
/// How many ranges there are.
const COUNT: u32 = 4096;

/// The id on disks that stands for the host's root where mounts are mapped. An overlay makes its own files as root, which
/// must have some id there; nothing else has this one, and inside it is nobody's.
const HOST_ROOT: u32 = 0xfff0_0000;

/// `CLONE_NEWUSER`.
const NEW_USER: u64 = 0x1000_0000;

/// Why a container cannot have a user namespace.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// All ranges are taken.
    #[error("all {COUNT} ranges of user ids for containers are in use")]
    None,
    /// The kernel refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The ranges that are being given out. Those of processes that run are seen in the kernel, of this engine's and of others
/// on the host; one that has none yet is kept here.
#[derive(Clone, Debug, Default)]
pub struct Ranges(Arc<Mutex<BTreeSet<u32>>>);

/// A range that is kept until this is dropped, which may be as soon as a process has it.
#[derive(Debug)]
pub struct Range {
    ranges: Ranges,
    first: u32,
}

impl Ranges {
    /// Takes a range that nobody has.
    ///
    /// # Errors
    /// There is none.
    pub fn take(&self) -> Result<Range, Error> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let used: BTreeSet<u32> = in_use().into_iter().chain(kept.iter().copied()).collect();
        let first = free(&used).ok_or(Error::None)?;
        kept.insert(first);
        Ok(Range { ranges: self.clone(), first })
    }
}

impl Range {
    /// The ids of a container that has it.
    pub fn mapping(&self) -> Mapping {
        Mapping { host_id: self.first, size: SIZE, join: None }
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        self.ranges.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.first);
    }
}

/// The first range that is not used. Pure.
fn free(used: &BTreeSet<u32>) -> Option<u32> {
    (0..COUNT).map(|number| FIRST + number * SIZE).find(|first| {
        // A range of somebody else may lie across ours.
        used.range(first.saturating_sub(SIZE - 1)..=first.saturating_add(SIZE - 1)).next().is_none()
    })
}

/// Where the ranges begin that processes on this host have.
fn in_use() -> BTreeSet<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeSet::new() };
    let processes = entries.flatten().filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit());
    processes
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("uid_map")).ok())
        .flat_map(|map| begins(&map))
        .collect()
}

/// Where the ranges of a map begin outside (user_namespaces(7)), as far as they are ours to give.
fn begins(map: &str) -> Vec<u32> {
    let outside = |line: &str| line.split_ascii_whitespace().nth(1)?.parse::<u32>().ok();
    map.lines().filter_map(outside).filter(|first| (FIRST - SIZE..=FIRST + COUNT * SIZE).contains(first)).collect()
}

/// Makes a user namespace to map mounts by, before the container is there: with its ids, and the host's root.
///
/// # Errors
/// The kernel refuses.
pub fn make(mapping: &Mapping) -> Result<OwnedFd, Error> {
    let fail = |what: &str, source: io::Error| Error::Io { what: format!("make a user namespace: {what}"), source };
    let (hold, held) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| fail("pipe", e.into()))?;
    let options = ForkOptions { namespaces: NEW_USER, ..ForkOptions::default() };
    match fork(&options).map_err(|error| fail("fork", error))? {
        // Other threads are not copied, so nothing may be done that takes a lock: it waits, and ends.
        Forked::Child => {
            drop(held);
            let _ = rustix::io::read(&hold, &mut [0]);
            exit_now(0)
        }
        Forked::Parent { pid, pidfd } => {
            let text = format!("0 {} {}\n{HOST_ROOT} 0 1\n", mapping.host_id, mapping.size);
            let write = |name: &str| {
                let path = format!("/proc/{pid}/{name}");
                std::fs::write(&path, &text).map_err(|error| fail(&format!("write {path}"), error))
            };
            let path = format!("/proc/{pid}/ns/user");
            let made = write("gid_map")
                .and_then(|()| write("uid_map"))
                .and_then(|()| std::fs::File::open(&path).map_err(|error| fail(&format!("open {path}"), error)));
            drop(held);
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            made.map(OwnedFd::from)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |used: &[u32], expect: Option<u32>| {
            assert_eq!(free(&used.iter().copied().collect()), expect.map(|number| FIRST + number * SIZE), "{used:?}");
        };
        check(&[], Some(0));
        check(&[FIRST, FIRST + SIZE], Some(2));
        check(&[FIRST + SIZE], Some(0));
        // One that lies across two.
        check(&[FIRST + 1], Some(2));
        check(&[FIRST - 1], Some(1));
        check(&[FIRST - SIZE], Some(0));
        check(&(0..COUNT).map(|number| FIRST + number * SIZE).collect::<Vec<_>>(), None);
        let found = begins(&format!("         0 {FIRST}      65536\n 1 {} 5\n2 0 4294967295\nx y z\n", FIRST + 7));
        assert_eq!(found, [FIRST, FIRST + 7]);
    }

    #[test]
    fn kept_until_dropped() {
        let ranges = Ranges::default();
        let (one, two) = (ranges.take().unwrap(), ranges.take().unwrap());
        assert_ne!(one.first, two.first);
        let kept = || ranges.0.lock().unwrap().iter().copied().collect::<Vec<_>>();
        assert_eq!(kept().len(), 2);
        drop(one);
        assert_eq!(kept(), [two.first]);
    }

    #[test]
    fn made() {
        const ID: u32 = FIRST + COUNT * SIZE - SIZE;
        let namespace = make(&Mapping { host_id: ID, size: SIZE, join: None }).unwrap();
        assert_eq!(gantry_sys::ns::kind(namespace.as_fd()).unwrap(), NEW_USER as i32);
        let refused = make(&Mapping { host_id: ID, size: 0, join: None }).unwrap_err().to_string();
        assert!(refused.starts_with("make a user namespace: write /proc/"), "{refused}");
    }
}
