//! From a plan to the whole graph: which architecture, then a search tree over the numbers of its calls.
//!
//! The numbers of calls are cut into ranges with the same outcome, and a tree of comparisons finds the range. The kernel
//! runs a new filter on every number once (to skip it later for calls that are always allowed), so wide ranges lie near
//! the root. A number that differs from both its neighbours costs one comparison for equality instead of two for order.

use std::collections::HashMap;

use crate::arch::{self, ARM_PRIVATE, Arch, X32_BIT};
use crate::error::Error;
use crate::insn::{JEQ, JGE};
use crate::nodes::{ARCHITECTURE, Id, NUMBER, Node, Nodes};
use crate::profile::{CallRules, Plan, RET_KILL_THREAD};
use crate::rules::{self, Chain, Condition};
use crate::tables::{BY_NUMBER, ROWS};

/// Makes the graph of a plan: its nodes and the first of them.
pub(crate) fn build(plan: &Plan) -> Result<(Nodes, Id), Error> {
    let mut search = Search { plan, nodes: Nodes::default(), known: HashMap::new(), tried: 0 };
    let mut audits: Vec<u32> = plan.architectures.iter().map(|arch| arch.audit()).collect();
    audits.sort_by_key(|audit| plan.architectures.iter().position(|arch| arch.audit() == *audit));
    audits.dedup();
    let mut root = search.nodes.returns(RET_KILL_THREAD);
    for audit in audits.into_iter().rev() {
        let ranges = search.ranges(audit)?;
        let nodes = &mut search.nodes;
        let tree = tree(nodes, &clusters(&ranges));
        let load = match nodes.get(tree) {
            Node::Return(_) => tree,
            _ => nodes.add(Node::Load(NUMBER, tree)),
        };
        root = nodes.add(Node::Test(JEQ, audit, load, root));
    }
    let root = search.nodes.add(Node::Load(ARCHITECTURE, root));
    Ok((search.nodes, root))
}

/// The graph while it is made.
struct Search<'a> {
    plan: &'a Plan,
    nodes: Nodes,
    /// The nodes of the calls with conditions, by those: rules name many calls at once.
    known: HashMap<(bool, &'a CallRules), Id>,
    /// How many chains were built.
    tried: usize,
}

/// More chains than any program that the kernel takes can come from: a bound on the time that a profile costs.
const MAX_CHAINS: usize = 1 << 16;

/// Numbers from `start` to the next range's start, or the last number.
#[derive(Clone, Copy)]
struct Range {
    start: u32,
    outcome: Id,
}

/// Ranges with different outcomes, in order, from 0 on.
#[derive(Default)]
struct Ranges(Vec<Range>);

impl Ranges {
    /// Gives an outcome to all numbers from `start` on, which is no less than in the call before.
    fn set_from(&mut self, start: u32, outcome: Id) {
        if self.0.last().is_some_and(|last| last.start == start) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|last| last.outcome != outcome) {
            self.0.push(Range { start, outcome });
        }
    }
}

impl Search<'_> {
    /// The outcomes of all numbers under an `AUDIT_ARCH_` value, of which x86_64 and x32 have a part each.
    fn ranges(&mut self, audit: u32) -> Result<Vec<Range>, Error> {
        let architectures = &self.plan.architectures;
        let mut ranges = Ranges::default();
        let kill = self.nodes.returns(RET_KILL_THREAD);
        if audit == Arch::X86_64.audit() {
            if architectures.contains(&Arch::X86_64) {
                self.add_calls(Arch::X86_64, &mut ranges)?;
            } else {
                ranges.set_from(0, kill);
            }
            if architectures.contains(&Arch::X32) {
                self.add_calls(Arch::X32, &mut ranges)?;
            } else {
                ranges.set_from(X32_BIT, kill);
                // A tracer sets this number to skip a call, and the filter sees it then.
                let default = self.nodes.returns(self.plan.default);
                ranges.set_from(u32::MAX, default);
            }
        } else if let Some(arch) = Arch::ALL.into_iter().find(|arch| arch.audit() == audit) {
            self.add_calls(arch, &mut ranges)?;
        }
        Ok(ranges.0)
    }

    /// Adds the calls of one architecture, whose numbers follow those that are there.
    fn add_calls(&mut self, arch: Arch, ranges: &mut Ranges) -> Result<(), Error> {
        let default = self.nodes.returns(self.plan.default);
        let newer = self.nodes.returns(self.plan.newer);
        let bit = arch.bit();
        ranges.set_from(bit, default);
        let calls = BY_NUMBER[arch as usize];
        let private = match arch {
            Arch::Arm => calls.partition_point(|(number, _)| *number < ARM_PRIVATE),
            _ => calls.len(),
        };
        for (start, part) in [(0, &calls[..private]), (ARM_PRIVATE, &calls[private..])] {
            let named = |(_, row): &(u32, u16)| is_named(self.plan, arch, usize::from(*row));
            let Some(last) = part.iter().rposition(named) else { continue };
            if start > 0 {
                ranges.set_from(start, default);
            }
            for (number, row) in &part[..=last] {
                let outcome = self.outcome(arch, usize::from(*row), default)?;
                ranges.set_from(bit + number, outcome);
                ranges.set_from(bit + number + 1, default);
            }
            // Number 0 alone does not tell how new the profile is.
            if part[last].0 > 0 {
                ranges.set_from(bit + part[last].0 + 1, newer);
            }
        }
        Ok(())
    }

    /// What becomes of a call.
    fn outcome(&mut self, arch: Arch, row: usize, default: Id) -> Result<Id, Error> {
        let call = &self.plan.calls[row];
        let through = if arch == Arch::X86 { multiplexed(self.plan, row) } else { Vec::new() };
        if call.chains.is_empty() && through.is_empty() {
            return Ok(call.plain.map_or(default, |(action, _)| self.nodes.returns(action)));
        }
        let known = (arch.is_wide(), call);
        if let Some(id) = self.known.get(&known).filter(|_| through.is_empty()) {
            return Ok(*id);
        }
        self.tried += call.chains.len() + through.len();
        if self.tried > MAX_CHAINS {
            return Err(Error::TooLong);
        }
        let plain = call.plain.map(|(action, rule)| Chain { action, rule, conditions: Vec::new() });
        let chains = rules::ordered(chains_of(self.plan, call).chain(&plain).chain(&through), arch.is_wide());
        let id = self.nodes.chains(&chains, arch.is_wide(), default)?;
        if through.is_empty() {
            self.known.insert(known, id);
        }
        Ok(id)
    }
}

/// Whether the profile names a call, or on x86 one that is made through it.
fn is_named(plan: &Plan, arch: Arch, row: usize) -> bool {
    let named = |row: usize| plan.calls[row].named;
    let through = || members(row).iter().any(|(name, _)| arch::find(name).is_some_and(named));
    named(row) || arch == Arch::X86 && through()
}

fn chains_of<'a>(plan: &'a Plan, call: &'a CallRules) -> impl Iterator<Item = &'a Chain> {
    call.chains.iter().map(|chain| &plan.chains[*chain])
}

/// The calls that x86 programs also make through `socketcall`, by its first argument.
const SOCKETCALL: [(&str, u32); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// Those that they make through `ipc`, by the lower half of its first argument.
const IPC: [(&str, u32); 12] = [
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

/// The calls that are made through the call of a row.
fn members(row: usize) -> &'static [(&'static str, u32)] {
    match ROWS[row].name {
        "socketcall" => &SOCKETCALL,
        "ipc" => &IPC,
        _ => &[],
    }
}

/// The rules of calls that x86 programs also make through the call of a row: a first condition says which call it is, in
/// place of the condition on the first argument, which is elsewhere then. The other conditions stay, as in libseccomp,
/// though the arguments that they mean are behind a pointer.
fn multiplexed(plan: &Plan, row: usize) -> Vec<Chain> {
    let mask = if ROWS[row].name == "ipc" { 0xffff } else { u32::MAX };
    let mut chains = Vec::new();
    for (name, number) in members(row) {
        let Some(call) = arch::find(name).map(|row| &plan.calls[row]) else { continue };
        let which = Condition::first_is(*number, mask);
        if let Some((action, rule)) = call.plain {
            chains.push(Chain { action, rule, conditions: vec![which] });
            continue;
        }
        chains.extend(chains_of(plan, call).map(|chain| {
            let rest = chain.conditions.iter().copied().filter(|condition| condition.arg != 0);
            Chain { conditions: std::iter::once(which).chain(rest).collect(), ..*chain }
        }));
    }
    chains
}

/// A range, in which some single numbers have outcomes of their own.
struct Cluster {
    start: u32,
    outcome: Id,
    exceptions: Vec<(u32, Id)>,
    /// How much of the kernel's time at loading it stands for.
    weight: u32,
}

/// How many exceptions a cluster has at most: they are tried one after the other, and with two that takes no longer than
/// the tree that they replace.
const MAX_EXCEPTIONS: usize = 2;

/// Beyond this are numbers that no call has yet, and those of x32, which hardly any program uses.
const MAX_NUMBER: u32 = 512;

fn clusters(ranges: &[Range]) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    let mut at = 0;
    while let Some(first) = ranges.get(at) {
        let mut cluster = Cluster { start: first.start, outcome: first.outcome, exceptions: Vec::new(), weight: 0 };
        while cluster.exceptions.len() < MAX_EXCEPTIONS
            && let [single, after, ..] = ranges[at + 1..]
            && single.start + 1 == after.start
            && after.outcome == cluster.outcome
        {
            cluster.exceptions.push((single.start, single.outcome));
            at += 2;
        }
        at += 1;
        let end = ranges.get(at).map_or(u32::MAX, |next| next.start);
        cluster.weight = (end.min(MAX_NUMBER).saturating_sub(cluster.start)).max(1);
        clusters.push(cluster);
    }
    clusters
}

/// The tree that finds the cluster of a number and then its outcome.
fn tree(nodes: &mut Nodes, clusters: &[Cluster]) -> Id {
    if let [cluster] = clusters {
        return cluster.exceptions.iter().rev().fold(cluster.outcome, |otherwise, (number, outcome)| {
            nodes.add(Node::Test(JEQ, *number, *outcome, otherwise))
        });
    }
    let middle = middle(clusters);
    let (below, above) = clusters.split_at(middle);
    let Some(boundary) = above.first().map(|cluster| cluster.start) else { return nodes.returns(RET_KILL_THREAD) };
    let (below, above) = (tree(nodes, below), tree(nodes, above));
    nodes.add(Node::Test(JGE, boundary, above, below))
}

/// Where to cut a list of at least two clusters so that both parts weigh about the same.
fn middle(clusters: &[Cluster]) -> usize {
    let total: u32 = clusters.iter().map(|cluster| cluster.weight).sum();
    let mut below = 0;
    for (index, cluster) in clusters.iter().enumerate() {
        if 2 * below + cluster.weight >= total && index > 0 {
            return index.min(clusters.len() - 1);
        }
        below += cluster.weight;
    }
    clusters.len() - 1
}
