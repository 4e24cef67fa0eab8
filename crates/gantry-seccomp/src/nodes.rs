//! The program as a graph: nodes that lead on to nodes, each node only once, and the tests of a call's arguments.
//!
//! The graph is made from its ends, so a node is known by what it does and where it leads; two that are the same become
//! one. That, and what is known of an argument's upper half from the tests before, keeps programs short: five values
//! compared on x86_64 load the upper half once.

use std::collections::HashMap;

use crate::error::Error;
use crate::insn::{JEQ, JGE, JGT, JSET};
use crate::rules::{Chain, Condition, Op};

/// Index of a node.
pub(crate) type Id = u32;

/// What an instruction does, and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    /// Return a value.
    Return(u32),
    /// Load a word of the call's data, counted in words.
    Load(u8, Id),
    /// Mask what was loaded.
    Mask(u32, Id),
    /// Compare what was loaded (the instruction's code, its operand) and go to the first node if it holds.
    Test(u16, u32, Id, Id),
}

/// The word of the call's data that holds its number.
pub(crate) const NUMBER: u8 = 0;
/// The word that holds the architecture.
pub(crate) const ARCHITECTURE: u8 = 1;

/// More nodes than any program that the kernel takes can come from.
const MAX_NODES: usize = 1 << 18;

/// The nodes, each once.
#[derive(Default)]
pub(crate) struct Nodes {
    list: Vec<Node>,
    ids: HashMap<Node, Id>,
    /// The return that was asked for last: most calls of a profile have one and the same.
    last_return: Option<(u32, Id)>,
}

impl Nodes {
    pub(crate) fn get(&self, id: Id) -> Node {
        self.list[id as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn add(&mut self, node: Node) -> Id {
        if let Node::Test(_, _, yes, no) = node
            && yes == no
        {
            return yes;
        }
        let list = &mut self.list;
        *self.ids.entry(node).or_insert_with(|| {
            list.push(node);
            list.len() as Id - 1
        })
    }

    pub(crate) fn returns(&mut self, value: u32) -> Id {
        if let Some((last, id)) = self.last_return
            && last == value
        {
            return id;
        }
        let id = self.add(Node::Return(value));
        self.last_return = Some((value, id));
        id
    }

    /// The node that tries chains in their order, where the call's number is loaded. A call that matches none goes to
    /// `otherwise`.
    ///
    /// A chain is built once for each state in which the chains before it can fail, after the chains that it leads to, so
    /// a first pass, whose nodes are thrown away, finds those states.
    pub(crate) fn chains(&mut self, chains: &[Chain], wide: bool, otherwise: Id) -> Result<Id, Error> {
        let mut states = vec![vec![State::default()]; chains.len() + 1];
        states[0] = vec![State { loaded: Some(NUMBER), ..State::default() }];
        let mut scratch = Self::default();
        for (index, chain) in chains.iter().enumerate() {
            scratch.list.clear();
            scratch.ids.clear();
            scratch.last_return = None;
            for state in states[index].clone() {
                let nowhere = scratch.returns(!chain.action);
                let mut fail = |state: State| {
                    let state = state.for_chain(chains.get(index + 1));
                    let known = &mut states[index + 1];
                    if !known.contains(&state) && known.len() < MAX_STATES {
                        known.push(state);
                    }
                    nowhere
                };
                Builder::new(&mut scratch, chain, wide, &mut fail).condition(0, state);
            }
        }
        let mut entries = vec![(State::default(), otherwise)];
        for (index, chain) in chains.iter().enumerate().rev() {
            if self.list.len() > MAX_NODES {
                return Err(Error::TooLong);
            }
            let mut fail = |state: State| {
                let state = state.for_chain(chains.get(index + 1));
                let blank = entries[0].1;
                entries.iter().find(|(known, _)| *known == state).map_or(blank, |(_, id)| *id)
            };
            let build = |state: &State| (*state, Builder::new(self, chain, wide, &mut fail).condition(0, *state));
            entries = states[index].iter().map(build).collect();
        }
        Ok(entries[0].1)
    }
}

/// How many states of one chain are told apart; in others, nothing is taken to be known.
const MAX_STATES: usize = 8;

/// What is known where a test stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// The word that was loaded last and not masked since.
    loaded: Option<u8>,
    /// That the upper half of an argument is a value, or is not.
    upper: Option<Upper>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Upper {
    word: u8,
    value: u32,
    is: bool,
}

impl State {
    /// What of this is of use to a chain.
    fn for_chain(self, chain: Option<&Chain>) -> Self {
        let used = |word: u8| {
            chain.is_some_and(|chain| chain.conditions.iter().any(|c| lower(c.arg) == word || upper(c.arg) == word))
        };
        Self { loaded: self.loaded.filter(|word| used(*word)), upper: self.upper.filter(|known| used(known.word)) }
    }

    /// What a comparison comes to, if that is known. `mask` has all bits unless the comparison is for equality.
    fn decides(self, word: u8, mask: u32, code: u16, k: u32) -> Option<bool> {
        match code {
            JGE if k == 0 => return Some(true),
            JGT if k == u32::MAX => return Some(false),
            _ => {}
        }
        let known = self.upper.filter(|known| known.word == word)?;
        match (known.is, code) {
            (true, JEQ) => Some(known.value & mask == k),
            (true, JGT) => Some(known.value > k),
            (true, JGE) => Some(known.value >= k),
            (false, JEQ) if mask == u32::MAX && known.value == k => Some(false),
            (false, JGT) if known.value == 0 && k == 0 => Some(true),
            (false, JGE) if known.value == 0 && k == 1 => Some(true),
            _ => None,
        }
    }
}

/// The word of an argument's lower half.
const fn lower(arg: u8) -> u8 {
    4 + 2 * arg
}

/// The word of an argument's upper half.
const fn upper(arg: u8) -> u8 {
    lower(arg) + 1
}

/// Builds the tests of one chain.
struct Builder<'a> {
    nodes: &'a mut Nodes,
    conditions: &'a [Condition],
    wide: bool,
    action: Id,
    /// The node to go to if the chain does not hold.
    fail: &'a mut dyn FnMut(State) -> Id,
}

/// What to do after a comparison.
type Next<'n> = dyn Fn(&mut Builder<'_>, State) -> Id + 'n;

impl<'a> Builder<'a> {
    fn new(nodes: &'a mut Nodes, chain: &'a Chain, wide: bool, fail: &'a mut dyn FnMut(State) -> Id) -> Self {
        let action = nodes.returns(chain.action);
        Self { nodes, conditions: &chain.conditions, wide, action, fail }
    }

    /// The node that tests the conditions from one on.
    fn condition(&mut self, index: usize, state: State) -> Id {
        let Some(condition) = self.conditions.get(index).copied() else { return self.action };
        let Condition { arg, op, mask, value } = condition;
        let go_on = move |builder: &mut Builder<'_>, state: State| builder.condition(index + 1, state);
        // After an ordering, the next condition is reached in two ways; knowing nothing there makes them one.
        let go_on_blank = move |builder: &mut Builder<'_>, _: State| builder.condition(index + 1, State::default());
        let fail = |builder: &mut Builder<'_>, state: State| (builder.fail)(state);
        let (low, high) = (value as u32, (value >> 32) as u32);
        match op {
            Op::Eq => self.equal(arg, mask, value, state, &go_on, &fail),
            Op::Ne => self.equal(arg, mask, value, state, &fail, &go_on_blank),
            Op::Gt | Op::Le if self.wide && low == u32::MAX => {
                self.upper_only(arg, op, JGT, high, state, &go_on, &fail)
            }
            Op::Ge | Op::Lt if self.wide && low == 0 => self.upper_only(arg, op, JGE, high, state, &go_on, &fail),
            Op::Gt => self.above(arg, JGT, value, state, &go_on_blank, &fail),
            Op::Ge => self.above(arg, JGE, value, state, &go_on_blank, &fail),
            Op::Le => self.above(arg, JGT, value, state, &fail, &go_on_blank),
            Op::Lt => self.above(arg, JGE, value, state, &fail, &go_on_blank),
        }
    }

    /// Whether an argument is a value, under a mask.
    fn equal(&mut self, arg: u8, mask: u64, value: u64, state: State, yes: &Next<'_>, no: &Next<'_>) -> Id {
        let lower_half = |builder: &mut Builder<'_>, state: State| {
            if mask as u32 == 0 {
                return yes(builder, state);
            }
            builder.test(lower(arg), mask as u32, (JEQ, value as u32), state, yes, no)
        };
        let upper_mask = (mask >> 32) as u32;
        if self.wide && upper_mask != 0 {
            self.test(upper(arg), upper_mask, (JEQ, (value >> 32) as u32), state, &lower_half, no)
        } else {
            lower_half(self, state)
        }
    }

    /// An ordering that the upper half decides.
    #[allow(clippy::too_many_arguments, reason = "the parts of one comparison")]
    fn upper_only(
        &mut self,
        arg: u8,
        op: Op,
        code: u16,
        k: u32,
        state: State,
        holds: &Next<'_>,
        fails: &Next<'_>,
    ) -> Id {
        let (yes, no) = if matches!(op, Op::Gt | Op::Ge) { (holds, fails) } else { (fails, holds) };
        self.test(upper(arg), u32::MAX, (code, k), state, yes, no)
    }

    /// Whether an argument is above a value, or with `JGE`, the value or above.
    fn above(&mut self, arg: u8, code: u16, value: u64, state: State, yes: &Next<'_>, no: &Next<'_>) -> Id {
        let lower_half = |builder: &mut Builder<'_>, state: State| {
            builder.test(lower(arg), u32::MAX, (code, value as u32), state, yes, no)
        };
        if !self.wide {
            return lower_half(self, state);
        }
        let (word, high) = (upper(arg), (value >> 32) as u32);
        if high == 0 {
            return self.test(word, u32::MAX, (JEQ, 0), state, &lower_half, yes);
        }
        let not_above =
            |builder: &mut Builder<'_>, state: State| builder.test(word, u32::MAX, (JEQ, high), state, &lower_half, no);
        self.test(word, u32::MAX, (JGT, high), state, yes, &not_above)
    }

    /// One comparison of one word. Only one for equality has a mask.
    fn test(&mut self, word: u8, mask: u32, (code, k): (u16, u32), state: State, yes: &Next<'_>, no: &Next<'_>) -> Id {
        match state.decides(word, mask, code, k) {
            Some(true) => return yes(self, state),
            Some(false) => return no(self, state),
            None => {}
        }
        let loaded = State { loaded: Some(word), ..state };
        let test = if mask == u32::MAX {
            // Only upper halves are worth remembering: lower ones differ from value to value.
            let learned = |is: bool| match code {
                JEQ if word % 2 == 1 => State { upper: Some(Upper { word, value: k, is }), ..loaded },
                _ => loaded,
            };
            let (yes, no) = (yes(self, learned(true)), no(self, learned(false)));
            self.nodes.add(Node::Test(code, k, yes, no))
        } else if k == 0 {
            let (yes, no) = (yes(self, loaded), no(self, loaded));
            self.nodes.add(Node::Test(JSET, mask, no, yes))
        } else if k == mask && mask.is_power_of_two() {
            let (yes, no) = (yes(self, loaded), no(self, loaded));
            self.nodes.add(Node::Test(JSET, mask, yes, no))
        } else {
            let masked = State { loaded: None, ..state };
            let (yes, no) = (yes(self, masked), no(self, masked));
            if yes == no {
                return yes;
            }
            let test = self.nodes.add(Node::Test(code, k, yes, no));
            self.nodes.add(Node::Mask(mask, test))
        };
        self.reload(state, word, test)
    }

    /// The node behind a load of a word, unless it is loaded or there is no use for it.
    fn reload(&mut self, state: State, word: u8, node: Id) -> Id {
        if state.loaded == Some(word) || matches!(self.nodes.get(node), Node::Return(_)) {
            node
        } else {
            self.nodes.add(Node::Load(word, node))
        }
    }
}
