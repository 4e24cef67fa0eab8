//! Scheduling policies and their parameters (sched(7), sched_setattr(2); config.md, Linux Process).

use super::{NameError, lookup};
use crate::oci::spec::Scheduler;

const OTHER: u32 = 0;
const FIFO: u32 = 1;
const RR: u32 = 2;
const BATCH: u32 = 3;
const DEADLINE: u32 = 6;

/// Policies by name.
const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", OTHER),
    ("SCHED_FIFO", FIFO),
    ("SCHED_RR", RR),
    ("SCHED_BATCH", BATCH),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", DEADLINE),
];

/// Flags by name.
const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// What sched_setattr(2) is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedAttr {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value, -20 to 19.
    pub nice: i32,
    /// Static priority, 1 to 99 for the real-time policies, 0 for the others.
    pub priority: u32,
    /// Nanoseconds of CPU time a period, for the deadline policy.
    pub runtime: u64,
    /// Nanoseconds after which that time must have been given.
    pub deadline: u64,
    /// Length of a period in nanoseconds; 0 is the deadline's.
    pub period: u64,
}

/// Translates a scheduler, and refuses combinations that the kernel would refuse or silently drop. A nice value beside
/// a policy that has none is let pass, since configurations in use have it; it is not handed on.
pub fn attributes(scheduler: &Scheduler) -> Result<SchedAttr, NameError> {
    let name = scheduler.policy.as_str();
    let policy = lookup(&POLICIES, name)
        .ok_or_else(|| NameError::unknown("scheduler policy", name, "a policy of sched(7) is meant, as SCHED_BATCH"))?;
    let mut flags = 0;
    for flag in &scheduler.flags {
        flags |= lookup(&FLAGS, flag).ok_or_else(|| {
            NameError::unknown("scheduler flag", flag, "a flag of sched_setattr(2) is meant, as SCHED_FLAG_RECLAIM")
        })?;
    }
    let invalid = |why: String| Err(NameError::invalid("scheduler", name, why));
    let has_nice = matches!(policy, OTHER | BATCH);
    if has_nice && !(-20..=19).contains(&scheduler.nice) {
        return invalid(format!("nice {} is outside -20 to 19", scheduler.nice));
    }
    let real_time = matches!(policy, FIFO | RR);
    if real_time && !(1..=99).contains(&scheduler.priority) {
        return invalid(format!("priority {} is outside 1 to 99", scheduler.priority));
    }
    if !real_time && scheduler.priority != 0 {
        return invalid("a priority goes with SCHED_FIFO and SCHED_RR only".to_owned());
    }
    check_deadline(policy, scheduler)?;
    Ok(SchedAttr {
        policy,
        flags,
        nice: if has_nice { scheduler.nice } else { 0 },
        priority: u32::try_from(scheduler.priority).unwrap_or(0),
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
    })
}

fn check_deadline(policy: u32, scheduler: &Scheduler) -> Result<(), NameError> {
    let Scheduler { runtime, deadline, period, .. } = *scheduler;
    let invalid = |why: &str| Err(NameError::invalid("scheduler", &scheduler.policy, why));
    if policy != DEADLINE {
        if runtime != 0 || deadline != 0 || period != 0 {
            return invalid("runtime, deadline and period go with SCHED_DEADLINE only");
        }
        return Ok(());
    }
    // What the kernel checks (sched_setattr(2)): it measures in units of 1024 ns, and keeps the sign bit to itself.
    if runtime < 1024 {
        return invalid("runtime is under 1024 nanoseconds");
    }
    if runtime > deadline {
        return invalid("runtime is longer than deadline");
    }
    if period != 0 && deadline > period {
        return invalid("deadline is longer than period");
    }
    if deadline >= 1 << 63 || period >= 1 << 63 {
        return invalid("deadline and period stay under 2^63 nanoseconds");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(policy: &str, nice: i32, priority: i32, deadline: (u64, u64, u64), flags: &[&str]) -> Scheduler {
        Scheduler {
            policy: policy.to_owned(),
            nice,
            priority,
            flags: flags.iter().map(|&f| f.to_owned()).collect(),
            runtime: deadline.0,
            deadline: deadline.1,
            period: deadline.2,
        }
    }

    #[test]
    fn good() {
        let check = |given: &Scheduler, expect: SchedAttr| assert_eq!(attributes(given), Ok(expect), "{given:?}");
        let none = (0, 0, 0);
        let zero = SchedAttr::default();
        check(&given("SCHED_OTHER", -20, 0, none, &[]), SchedAttr { nice: -20, ..zero });
        check(&given("SCHED_BATCH", 19, 0, none, &[]), SchedAttr { policy: 3, nice: 19, ..zero });
        check(&given("SCHED_FIFO", 0, 99, none, &[]), SchedAttr { policy: 1, priority: 99, ..zero });
        check(&given("SCHED_RR", 5, 1, none, &[]), SchedAttr { policy: 2, priority: 1, ..zero });
        check(&given("SCHED_ISO", 0, 0, none, &[]), SchedAttr { policy: 4, ..zero });
        check(&given("SCHED_IDLE", 0, 0, none, &[]), SchedAttr { policy: 5, ..zero });
        check(
            &given("SCHED_DEADLINE", 19, 0, (42_000, 100_000, 1_000_000), &["SCHED_FLAG_RESET_ON_FORK"]),
            SchedAttr { policy: 6, flags: 1, runtime: 42_000, deadline: 100_000, period: 1_000_000, ..zero },
        );
        check(
            &given("SCHED_DEADLINE", 0, 0, (1024, 1024, 0), &["SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"]),
            SchedAttr { policy: 6, flags: 6, runtime: 1024, deadline: 1024, ..zero },
        );
        check(
            &given("SCHED_OTHER", 0, 0, none, &["SCHED_FLAG_UTIL_CLAMP_MAX", "SCHED_FLAG_KEEP_PARAMS"]),
            SchedAttr { flags: 0x50, ..zero },
        );
    }

    #[test]
    fn refused() {
        let none = (0, 0, 0);
        for bad in [
            given("", 0, 0, none, &[]),
            given("SCHED_NORMAL", 0, 0, none, &[]),
            given("sched_other", 0, 0, none, &[]),
            given("SCHED_OTHER\0", 0, 0, none, &[]),
            given("SCHED_OTHER", -21, 0, none, &[]),
            given("SCHED_BATCH", 20, 0, none, &[]),
            given("SCHED_OTHER", 0, 1, none, &[]),
            given("SCHED_OTHER", i32::MIN, 0, none, &[]),
            given("SCHED_DEADLINE", 0, 1, (2000, 2000, 2000), &[]),
            given("SCHED_FIFO", 0, 0, none, &[]),
            given("SCHED_FIFO", 0, 100, none, &[]),
            given("SCHED_RR", 0, i32::MIN, none, &[]),
            given("SCHED_RR", 0, i32::MAX, none, &[]),
            given("SCHED_OTHER", 0, 0, (1, 0, 0), &[]),
            given("SCHED_OTHER", 0, 0, (0, 1, 0), &[]),
            given("SCHED_IDLE", 0, 0, (0, 0, 1), &[]),
            given("SCHED_DEADLINE", 0, 0, none, &[]),
            given("SCHED_DEADLINE", 0, 0, (1023, 2000, 2000), &[]),
            given("SCHED_DEADLINE", 0, 0, (3000, 2000, 2000), &[]),
            given("SCHED_DEADLINE", 0, 0, (2000, 3000, 2500), &[]),
            given("SCHED_DEADLINE", 0, 0, (2000, 1 << 63, 0), &[]),
            given("SCHED_DEADLINE", 0, 0, (2000, 3000, u64::MAX), &[]),
            given("SCHED_OTHER", 0, 0, none, &["SCHED_RESET_ON_FORK"]),
            given("SCHED_OTHER", 0, 0, none, &[""]),
        ] {
            assert!(attributes(&bad).is_err(), "{bad:?}");
        }
    }
}
