//! Reads a profile into a plan: every word of it checked, every name looked up once, rules gathered by call.

use gantry_model::oci::seccomp::{Seccomp, SyscallRule};

use crate::arch::{self, Arch, KNOWN_ARCHITECTURES};
use crate::error::Error;
use crate::filter::{Flags, MAX_LISTENER_TEXT};
use crate::insn::MAX_INSTRUCTIONS;
use crate::rules::{Chain, Condition};
use crate::tables::ROWS;

/// The actions of the specification (config-linux.md, Seccomp, `syscalls[].action`).
pub const KNOWN_ACTIONS: [&str; 9] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
];

/// The kernel's `SECCOMP_RET_` values. The lower half of `ERRNO` and `TRACE` holds a number.
pub(crate) const RET_KILL_THREAD: u32 = 0;
const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_NOTIFY: u32 = 0x7fc0_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// What a call gets that is newer than the profile.
pub(crate) const RET_ENOSYS: u32 = RET_ERRNO | ENOSYS;

/// What the profile says of one call, whatever its numbers are.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct CallRules {
    /// A rule names it, be it one that does nothing.
    pub(crate) named: bool,
    /// Action of the first rule without conditions, and the rule.
    pub(crate) plain: Option<(u32, usize)>,
    /// Indices into the plan's chains, in the order of the profile.
    pub(crate) chains: Vec<usize>,
    /// One more than the last rule that added chains, so that a rule that names a call twice adds them once.
    added_by: usize,
}

/// A profile, read.
pub(crate) struct Plan {
    /// What a call gets that no rule matches.
    pub(crate) default: u32,
    /// What a call gets that is newer than every call that the profile names.
    pub(crate) newer: u32,
    pub(crate) flags: Flags,
    pub(crate) notify: bool,
    /// The native one first, each once.
    pub(crate) architectures: Vec<Arch>,
    /// By index into the table of calls.
    pub(crate) calls: Vec<CallRules>,
    pub(crate) chains: Vec<Chain>,
}

pub(crate) fn read(profile: &Seccomp, native: Arch) -> Result<Plan, Error> {
    let default = action(&profile.default_action, profile.default_errno_ret, || "defaultAction".to_owned())?;
    if default == RET_NOTIFY {
        return Err(Error::NotifyByDefault);
    }
    let mut plan = Plan {
        default,
        newer: if lets_through(default) { default } else { RET_ENOSYS },
        flags: Flags::of_names(&profile.flags)?,
        notify: false,
        architectures: architectures(&profile.architectures, native)?,
        calls: vec![CallRules::default(); ROWS.len()],
        chains: Vec::new(),
    };
    for (index, rule) in profile.syscalls.iter().enumerate() {
        plan.add(index, rule)?;
    }
    check_listener(profile, plan.notify)?;
    Ok(plan)
}

impl Plan {
    fn add(&mut self, index: usize, rule: &SyscallRule) -> Result<(), Error> {
        let action = action(&rule.action, rule.errno_ret, || format!("syscalls[{index}]"))?;
        let conditions = conditions(index, rule)?;
        if action == RET_NOTIFY && !rule.names.is_empty() {
            self.notify = true;
            if rule.names.iter().any(|name| name == "write") {
                return Err(Error::NotifyOnWrite { rule: index });
            }
        }
        let first = self.chains.len();
        if action != self.default {
            self.chains.extend(chains(action, index, conditions));
        }
        for name in &rule.names {
            if name.is_empty() {
                return Err(Error::EmptyName { rule: index });
            }
            let Some(row) = arch::find(name) else { continue };
            let call = &mut self.calls[row];
            call.named = true;
            if action == self.default || call.plain.is_some() {
                continue;
            }
            if rule.args.is_empty() {
                call.plain = Some((action, index));
            } else if call.added_by <= index {
                call.added_by = index + 1;
                call.chains.extend(first..self.chains.len());
                if call.chains.len() > MAX_INSTRUCTIONS {
                    return Err(Error::TooManyConditions);
                }
            }
        }
        Ok(())
    }
}

/// Whether calls happen under this action. A tracer is counted as one that lets them: it can say `ENOSYS` itself.
fn lets_through(action: u32) -> bool {
    matches!(action & 0xffff_0000, RET_ALLOW | RET_LOG | RET_TRACE)
}

/// The value that the filter returns for an action.
fn action(name: &str, errno: Option<u32>, place: impl Fn() -> String) -> Result<u32, Error> {
    let (value, has_number) = match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => (RET_KILL_THREAD, false),
        "SCMP_ACT_KILL_PROCESS" => (RET_KILL_PROCESS, false),
        "SCMP_ACT_TRAP" => (RET_TRAP, false),
        "SCMP_ACT_ERRNO" => (RET_ERRNO, true),
        "SCMP_ACT_TRACE" => (RET_TRACE, true),
        "SCMP_ACT_ALLOW" => (RET_ALLOW, false),
        "SCMP_ACT_LOG" => (RET_LOG, false),
        "SCMP_ACT_NOTIFY" => (RET_NOTIFY, false),
        _ => return Err(Error::UnknownAction { place: place(), action: name.to_owned() }),
    };
    match errno {
        Some(_) if !has_number => Err(Error::ErrnoWithoutUse { place: place(), action: name.to_owned() }),
        Some(errno) if errno > 0xffff => Err(Error::ErrnoTooLarge { place: place(), errno }),
        Some(errno) => Ok(value | errno),
        None if has_number => Ok(value | EPERM),
        None => Ok(value),
    }
}

/// The architectures of the filter: the native one, then those of the profile.
fn architectures(names: &[String], native: Arch) -> Result<Vec<Arch>, Error> {
    let mut found = vec![native];
    for name in names {
        match Arch::from_oci_name(name) {
            Some(arch) if found.contains(&arch) => {}
            Some(arch) => found.push(arch),
            None if KNOWN_ARCHITECTURES.contains(&name.as_str()) => {}
            None => return Err(Error::UnknownArchitecture { name: name.clone() }),
        }
    }
    Ok(found)
}

/// The conditions of a rule, checked, in the order of the profile.
fn conditions(index: usize, rule: &SyscallRule) -> Result<Vec<Condition>, Error> {
    if rule.args.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooManyConditions);
    }
    rule.args
        .iter()
        .enumerate()
        .map(|(position, arg)| {
            if arg.index > 5 {
                return Err(Error::ArgumentIndex { rule: index, index: arg.index });
            }
            Condition::new(arg).ok_or_else(|| Error::UnknownOperator {
                place: format!("syscalls[{index}].args[{position}]"),
                op: arg.op.clone(),
            })
        })
        .collect()
}

/// The chains of a rule with conditions: one, or if any argument has two conditions, one for each condition.
fn chains(action: u32, rule: usize, mut conditions: Vec<Condition>) -> Vec<Chain> {
    let mut seen = [false; 6];
    let repeated = conditions.iter().any(|condition| std::mem::replace(&mut seen[usize::from(condition.arg)], true));
    if repeated {
        conditions.into_iter().map(|condition| Chain { action, rule, conditions: vec![condition] }).collect()
    } else if conditions.is_empty() {
        Vec::new()
    } else {
        conditions.sort_unstable_by_key(|condition| condition.arg);
        vec![Chain { action, rule, conditions }]
    }
}

fn check_listener(profile: &Seccomp, notify: bool) -> Result<(), Error> {
    if profile.listener_path.is_empty() {
        if notify {
            return Err(Error::NoListener);
        }
        if !profile.listener_metadata.is_empty() {
            return Err(Error::MetadataWithoutListener);
        }
    }
    if profile.listener_path.len() > MAX_LISTENER_TEXT || profile.listener_path.contains('\0') {
        return Err(Error::ListenerText { field: "listenerPath" });
    }
    if profile.listener_metadata.len() > MAX_LISTENER_TEXT {
        return Err(Error::ListenerText { field: "listenerMetadata" });
    }
    Ok(())
}
