//! Scheduling, CPU affinity, I/O priority, NUMA policy, execution domain.
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

/// Whose I/O priority is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoPriorityOf {
    /// A thread's.
    Process(i32),
    /// Every process's of a process group.
    Group(i32),
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

/// Restricts a thread to the CPUs of a mask; bit n of word m is CPU 64 m + n (sched_setaffinity(2)).
pub fn set_affinity(pid: i32, mask: &[u64]) -> io::Result<()> {
    // SAFETY: the mask has the length given, in bytes, and is only read.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid, size_of_val(mask), mask.as_ptr()) })
}

/// The CPUs a thread may run on, as a mask without zero words at its end (sched_getaffinity(2)).
pub fn affinity(pid: i32) -> io::Result<Vec<u64>> {
    let mut mask = vec![0_u64; MAX_WORDS];
    let size = size_of_val(mask.as_slice());
    // SAFETY: the mask has room for the length given, in bytes.
    let written = unsafe { libc::syscall(libc::SYS_sched_getaffinity, pid, size, mask.as_mut_ptr()) };
    check(written)?;
    while mask.last() == Some(&0) {
        mask.pop();
    }
    Ok(mask)
}

/// Sets an I/O class and priority, as [`gantry_model::names::ioprio::value`] makes it (ioprio_set(2)).
pub fn set_io_priority(of: IoPriorityOf, value: u16) -> io::Result<()> {
    let (which, who) = match of {
        IoPriorityOf::Process(pid) => (1, pid),
        IoPriorityOf::Group(pid) => (2, pid),
    };
    // SAFETY: no memory arguments.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, which, who, libc::c_int::from(value)) })
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
            let all = affinity(0).unwrap();
            let first = all.iter().position(|&word| word != 0).unwrap();
            let mut one = vec![0; MAX_WORDS];
            one[first] = all[first] & all[first].wrapping_neg();
            set_affinity(0, &one).unwrap();
            assert_eq!(affinity(0).unwrap(), one[..=first]);
            assert_eq!(set_affinity(0, &[]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
            assert_eq!(affinity(i32::MAX).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        });
    }

    #[test]
    fn io_priorities() {
        let get = || {
            // SAFETY: no memory arguments.
            unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) }
        };
        apart(|| {
            set_io_priority(IoPriorityOf::Process(0), 0x4006).unwrap();
            assert_eq!(get(), 0x4006);
            set_io_priority(IoPriorityOf::Process(0), 0x6000).unwrap();
            assert_eq!(get() >> 13, 3);
            let error = set_io_priority(IoPriorityOf::Process(0), 0xffff).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        });
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
