//! Scheduling, CPU affinity, I/O priority, resource limits, NUMA policy, execution domain.
//!
//! These are the calls for which libc and rustix have no wrapper, or one that is bounded to 1024 CPUs. A process id of 0
//! means the calling thread.

use std::io;

use gantry_model::names::scheduler::SchedAttr;

/// The most words of a CPU mask: 8192 CPUs, as many as Linux can be built for.
const MAX_WORDS: usize = 8192 / 64;

/// `struct sched_attr`, as of Linux 5.3; kernels from before take it as long as the last two fields are 0.
#[repr(C)]
struct KernelSchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the scheduling policy of a thread and its parameters (sched_setattr(2)).
pub fn set_scheduler(pid: i32, attr: &SchedAttr) -> io::Result<()> {
    let attr = KernelSchedAttr {
        size: size_of::<KernelSchedAttr>() as u32,
        policy: attr.policy,
        flags: attr.flags,
        nice: attr.nice,
        priority: attr.priority,
        runtime: attr.runtime,
        deadline: attr.deadline,
        period: attr.period,
        util_min: 0,
        util_max: 0,
    };
    // SAFETY: the structure is as long as its first field says, and only read.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attr, 0) })
}

/// Restricts the calling thread to the CPUs of a mask; bit n of word m is CPU 64 m + n (sched_setaffinity(2)).
pub fn set_affinity(mask: &[u64]) -> io::Result<()> {
    // SAFETY: the mask has the length given, in bytes, and is only read.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(mask), mask.as_ptr()) })
}

/// The CPUs the calling thread may run on, as a mask without zero words at its end (sched_getaffinity(2)).
pub fn affinity() -> io::Result<Vec<u64>> {
    let mut mask = vec![0_u64; MAX_WORDS];
    let size = size_of_val(mask.as_slice());
    // SAFETY: the mask has room for the length given, in bytes.
    check(unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size, mask.as_mut_ptr()) })?;
    while mask.last() == Some(&0) {
        mask.pop();
    }
    Ok(mask)
}

/// Sets the I/O class and priority of the calling thread, as [`gantry_model::names::ioprio::value`] makes it
/// (ioprio_set(2)). Its children inherit it; its process group, which may hold others' processes, is left alone.
pub fn set_io_priority(value: u16) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: no memory arguments.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, libc::c_int::from(value)) })
}

/// Sets a resource limit of a process, its soft and its hard value; all ones is unlimited (prlimit(2)).
pub fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    // `struct rlimit64`.
    let limit = [soft, hard];
    let old = std::ptr::null_mut::<[u64; 2]>();
    // SAFETY: the new limit is two 64-bit numbers and only read; the old one is not asked for.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, limit.as_ptr(), old) })
}

/// Sets the NUMA policy of the calling thread: mode with its flags, and the mask of its nodes (set_mempolicy(2)).
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // The kernel takes one bit less than it is told.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the mask, where there is one, has the number of bits given, less one, and is only read.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) })
}

/// Sets the execution domain of the calling process (personality(2)).
pub fn set_personality(persona: u32) -> io::Result<()> {
    // SAFETY: no memory arguments.
    check(unsafe { libc::syscall(libc::SYS_personality, libc::c_ulong::from(persona)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says that a test did not run, past the capture that would keep it from being seen.
    fn skipped(test: &str, why: impl std::fmt::Display) {
        let _ = io::Write::write_all(&mut io::stderr(), format!("\nSKIPPED {test}: {why}\n").as_bytes());
    }

    /// Runs in a thread of its own, so that what is set does not outlive the test.
    fn apart<T: Send>(test: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(test).join().unwrap())
    }

    fn field(file: &str, name: &str) -> String {
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {file}"));
        line.split(':').nth(1).unwrap().trim().to_owned()
    }

    #[test]
    fn scheduler() {
        let check = |attr: SchedAttr, expect: Result<(&str, &str), i32>| {
            apart(move || match (set_scheduler(0, &attr), expect) {
                (Ok(()), Ok((policy, priority))) => {
                    assert_eq!(field("/proc/thread-self/sched", "policy"), policy, "{attr:?}");
                    assert_eq!(field("/proc/thread-self/sched", "prio"), priority, "{attr:?}");
                }
                (Err(e), Ok(_)) if e.raw_os_error() == Some(libc::EPERM) => {
                    skipped("scheduler", format!("no right to set {attr:?}"));
                }
                (got, expect) => {
                    assert_eq!(got.map_err(|e| e.raw_os_error()).err(), expect.err().map(Some), "{attr:?}")
                }
            });
        };
        let zero = SchedAttr::default();
        check(SchedAttr { policy: 3, nice: 19, ..zero }, Ok(("3", "139")));
        check(SchedAttr { policy: 0, nice: 5, ..zero }, Ok(("0", "125")));
        check(SchedAttr { policy: 1, priority: 10, ..zero }, Ok(("1", "89")));
        check(SchedAttr { policy: 5, ..zero }, Ok(("5", "120")));
        check(SchedAttr { policy: 1, priority: 100, ..zero }, Err(libc::EINVAL));
        check(SchedAttr { policy: 77, ..zero }, Err(libc::EINVAL));
    }

    #[test]
    fn affinities() {
        apart(|| {
            let all = affinity().unwrap();
            let first = all.iter().position(|&word| word != 0).unwrap();
            let mut one = vec![0; MAX_WORDS];
            one[first] = all[first] & all[first].wrapping_neg();
            set_affinity(&one).unwrap();
            assert_eq!(affinity().unwrap(), one[..=first]);
            assert_eq!(set_affinity(&[]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        });
    }

    #[test]
    fn io_priorities() {
        let get = || {
            // SAFETY: no memory arguments.
            unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) }
        };
        apart(|| {
            set_io_priority(0x4006).unwrap();
            assert_eq!(get(), 0x4006);
            set_io_priority(0x6000).unwrap();
            assert_eq!(get() >> 13, 3);
            let error = set_io_priority(0xffff).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        });
    }

    #[test]
    fn rlimits() {
        // A process of its own: limits are the whole process's.
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        let results = [set_rlimit(pid, 7, 5, 9), set_rlimit(pid, 4, 9, 5), set_rlimit(pid, 99, 0, 0)];
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"));
        child.kill().unwrap();
        child.wait().unwrap();
        let errors = results.map(|result| result.err().and_then(|e| e.raw_os_error()));
        assert_eq!(errors, [None, Some(libc::EINVAL), Some(libc::EINVAL)]);
        let limits = limits.unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["Max", "open", "files", "5", "9", "files"]);
    }

    #[test]
    fn memory_policies() {
        apart(|| {
            match set_memory_policy(2, &[1]) {
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    skipped("memory_policies", format!("they are not there, or not allowed: {e}"));
                    return;
                }
                result => result.unwrap(),
            }
            let maps = std::fs::read_to_string("/proc/thread-self/numa_maps").unwrap();
            assert!(maps.lines().any(|line| line.contains(" bind:0 ")), "{maps}");
            set_memory_policy(0, &[]).unwrap();
            assert_eq!(set_memory_policy(2, &[]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
            assert_eq!(set_memory_policy(2, &[0, 0, 1]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        });
    }

    #[test]
    fn personalities() {
        let read = || std::fs::read_to_string("/proc/thread-self/personality").map(|text| text.trim().to_owned());
        apart(|| {
            let Ok(before) = read() else {
                skipped("personalities", "/proc/thread-self/personality cannot be read");
                return;
            };
            assert_eq!(before, "00000000");
            set_personality(8).unwrap();
            assert_eq!(read().unwrap(), "00000008");
        });
    }
}
