//! Reaps the orphans that come to the tests' process.
//!
//! The tests' process makes itself the one that orphans come to, so that it sees how containers end. It then has to reap
//! them: the first process of a PID namespace cannot end before all others there have been reaped, so a zombie of a
//! detached process would keep its container alive. Children that were started as commands are left to whoever waits
//! for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, waitpid};

/// What is known of children.
struct Known {
    /// Commands that somebody waits for.
    commands: BTreeSet<i32>,
    /// How orphans ended.
    ended: BTreeMap<i32, ExitStatus>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { commands: BTreeSet::new(), ended: BTreeMap::new() });

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a command, and leaves its end to the caller.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut known = known();
    let child = command.spawn()?;
    known.commands.insert(child.id() as i32);
    Ok(child)
}

/// Says that the caller has waited for a command.
pub fn waited(child: &Child) {
    known().commands.remove(&(child.id() as i32));
}

/// How an orphan ended, once it has.
pub fn ended(pid: i32) -> Option<ExitStatus> {
    known().ended.remove(&pid)
}

/// Makes this process the one that orphans come to, and reaps them on a thread of its own.
pub fn start() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    std::thread::Builder::new().name("reaper".into()).spawn(|| {
        loop {
            reap();
            std::thread::sleep(Duration::from_millis(5));
        }
    })?;
    Ok(())
}

/// Reaps every child that has ended and is nobody's command.
fn reap() {
    let mut known = known();
    for pid in children() {
        if known.commands.contains(&pid) {
            continue;
        }
        let Some(raw) = Pid::from_raw(pid) else { continue };
        if let Ok(Some((_, status))) = waitpid(Some(raw), WaitOptions::NOHANG) {
            known.ended.insert(pid, ExitStatus::from_raw(status.as_raw()));
        }
    }
}

/// The children of every thread of this process.
fn children() -> Vec<i32> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>()).collect()
}
