//! What a profile says, read word by word for one call: slow, and so plain that one can see that it is right.

use std::cmp::Ordering;

use gantry_model::oci::seccomp::{Seccomp, SyscallArg, SyscallRule};
use gantry_seccomp::{Arch, SeccompData};

use crate::support::{ALLOW, ENOSYS, KILL};

const X32_BIT: u32 = 0x4000_0000;

const SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// What the kernel is to be told for a call.
pub fn evaluate(profile: &Seccomp, native: Arch, data: &SeccompData) -> u32 {
    let default = action(&profile.default_action, profile.default_errno_ret);
    let mut architectures: Vec<Arch> =
        profile.architectures.iter().filter_map(|name| Arch::from_oci_name(name)).collect();
    architectures.push(native);
    let Some(arch) = architecture(&architectures, data) else {
        let skips = data.arch == Arch::X86_64.audit() && data.nr == u32::MAX && architectures.contains(&Arch::X86_64);
        return if skips { default } else { KILL };
    };
    if !matches!(default & 0xffff_0000, 0x7ff0_0000 | 0x7ffc_0000 | ALLOW) && is_newer(profile, arch, data.nr) {
        return ENOSYS;
    }
    let mut best: Option<Vec<SyscallArg>> = None;
    let mut result = default;
    for rule in &profile.syscalls {
        let value = action(&rule.action, rule.errno_ret);
        if value == default {
            continue;
        }
        for name in &rule.names {
            // Through another call, too, a rule without conditions stands for the whole call.
            let whole = |other: &SyscallRule| {
                other.args.is_empty() && other.names.contains(name) && action(&other.action, other.errno_ret) != default
            };
            let first = profile.syscalls.iter().find(|other| whole(other));
            if arch.number(name) != Some(data.nr) && first.is_some_and(|first| !std::ptr::eq(first, rule)) {
                continue;
            }
            for conditions in chains(rule).into_iter().filter_map(|chain| applies(name, arch, data, chain)) {
                let conditions = on(arch, conditions);
                let holds = conditions.iter().all(|condition| holds(condition, data.args, arch));
                if holds && best.as_ref().is_none_or(|best| precedes(&conditions, best)) {
                    best = Some(conditions);
                    result = value;
                }
            }
        }
    }
    result
}

fn action(name: &str, errno: Option<u32>) -> u32 {
    match name.strip_prefix("SCMP_ACT_").unwrap() {
        "KILL" | "KILL_THREAD" => 0,
        "KILL_PROCESS" => 0x8000_0000,
        "TRAP" => 0x0003_0000,
        "ERRNO" => 0x0005_0000 | errno.unwrap_or(1),
        "NOTIFY" => 0x7fc0_0000,
        "TRACE" => 0x7ff0_0000 | errno.unwrap_or(1),
        "LOG" => 0x7ffc_0000,
        "ALLOW" => ALLOW,
        other => panic!("no action {other}"),
    }
}

fn architecture(architectures: &[Arch], data: &SeccompData) -> Option<Arch> {
    let arch = Arch::ALL.into_iter().find(|arch| {
        arch.audit() == data.arch
            && match arch {
                Arch::X86_64 => data.nr < X32_BIT,
                Arch::X32 => data.nr >= X32_BIT,
                _ => true,
            }
    })?;
    architectures.contains(&arch).then_some(arch)
}

/// Whether a number lies beyond those that the profile names; of arm's private ones, beyond the private ones.
fn is_newer(profile: &Seccomp, arch: Arch, nr: u32) -> bool {
    let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
    let private = |nr: u32| arch == Arch::Arm && nr >= 0xf_0000;
    let names = || profile.syscalls.iter().flat_map(|rule| &rule.names);
    let mut named: Vec<u32> = names().filter_map(|name| arch.number(name)).map(|nr| nr - bit).collect();
    let through = |name: &String| {
        let socket = SOCKETCALL.contains(&name.as_str()).then_some(102);
        socket.or(IPC.iter().any(|(member, _)| member == name).then_some(117)).filter(|_| arch == Arch::X86)
    };
    named.extend(names().filter_map(through));
    let ordinary = named.iter().copied().filter(|nr| !private(*nr)).max().filter(|nr| *nr > 0);
    let highest_private = named.into_iter().filter(|nr| private(*nr)).max();
    match (private(nr), ordinary, highest_private) {
        (true, _, Some(highest)) => nr > highest,
        (_, Some(highest), _) => nr > highest + bit,
        (_, None, _) => false,
    }
}

fn chains(rule: &SyscallRule) -> Vec<Vec<SyscallArg>> {
    let repeated = (0..6).any(|index| rule.args.iter().filter(|arg| arg.index == index).count() > 1);
    if repeated { rule.args.iter().map(|arg| vec![arg.clone()]).collect() } else { vec![rule.args.clone()] }
}

/// The conditions under which a rule for a name is one for this call, if it is.
fn applies(name: &str, arch: Arch, data: &SeccompData, mut chain: Vec<SyscallArg>) -> Option<Vec<SyscallArg>> {
    if arch.number(name) == Some(data.nr) {
        return Some(chain);
    }
    if arch != Arch::X86 {
        return None;
    }
    let mut through = |value: u64, mask: u64| {
        chain.retain(|arg| arg.index != 0);
        chain.push(SyscallArg { index: 0, value: mask, value_two: value, op: "SCMP_CMP_MASKED_EQ".to_owned() });
        Some(std::mem::take(&mut chain))
    };
    if data.nr == 102 {
        let position = SOCKETCALL.iter().position(|member| *member == name)?;
        return through(position as u64 + 1, 0xffff_ffff);
    }
    let (_, number) = IPC.into_iter().find(|(member, _)| *member == name && data.nr == 117)?;
    through(number, 0xffff)
}

/// Conditions on an architecture, those left out that always hold, in the order of their arguments.
fn on(arch: Arch, mut conditions: Vec<SyscallArg>) -> Vec<SyscallArg> {
    let bits = if matches!(arch, Arch::X86_64 | Arch::Aarch64) { u64::MAX } else { u64::from(u32::MAX) };
    for condition in &mut conditions {
        condition.value &= bits;
        condition.value_two &= condition.value;
    }
    conditions.retain(|condition| condition.op != "SCMP_CMP_MASKED_EQ" || condition.value != 0);
    conditions.sort_by_key(|condition| condition.index);
    conditions
}

fn holds(condition: &SyscallArg, args: [u64; 6], arch: Arch) -> bool {
    let whole = args[condition.index as usize];
    let actual = if matches!(arch, Arch::X86_64 | Arch::Aarch64) { whole } else { whole & u64::from(u32::MAX) };
    match condition.op.as_str() {
        "SCMP_CMP_NE" => actual != condition.value,
        "SCMP_CMP_LT" => actual < condition.value,
        "SCMP_CMP_LE" => actual <= condition.value,
        "SCMP_CMP_EQ" => actual == condition.value,
        "SCMP_CMP_GE" => actual >= condition.value,
        "SCMP_CMP_GT" => actual > condition.value,
        "SCMP_CMP_MASKED_EQ" => actual & condition.value == condition.value_two,
        other => panic!("no operator {other}"),
    }
}

/// Whether a rule is tried before another that comes earlier in the profile.
fn precedes(later: &[SyscallArg], earlier: &[SyscallArg]) -> bool {
    for (a, b) in later.iter().zip(earlier) {
        let class = |op: &str| match op {
            "SCMP_CMP_LT" | "SCMP_CMP_LE" => 2,
            "SCMP_CMP_GT" | "SCMP_CMP_GE" => 1,
            _ => 3,
        };
        let operand = |arg: &SyscallArg| if arg.op == "SCMP_CMP_MASKED_EQ" { arg.value_two } else { arg.value };
        let by_operand = match class(&a.op) {
            2 => operand(b).cmp(&operand(a)),
            _ => operand(a).cmp(&operand(b)),
        };
        match a.index.cmp(&b.index).then(class(&a.op).cmp(&class(&b.op))).then(by_operand) {
            Ordering::Greater => return true,
            Ordering::Less => return false,
            Ordering::Equal => {}
        }
    }
    later.len() < earlier.len()
}
