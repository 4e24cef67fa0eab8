//! From the graph to the program.
//!
//! Instructions are put down from the last to the first, so that where a jump leads is known when it is put down. A jump
//! on a condition reaches 255 instructions; what lies further is reached by way of a copy (of a return, or of another
//! comparison) or a long jump, put down near.

use crate::error::Error;
use crate::insn::{AND, Insn, JUMP, LOAD, MAX_INSTRUCTIONS, RET, verify};
use crate::nodes::{Id, Node, Nodes};

/// The program that starts with a node.
pub(crate) fn emit(nodes: &Nodes, root: Id) -> Result<Vec<Insn>, Error> {
    let mut emitter = Emitter { nodes, reversed: Vec::with_capacity(512), places: vec![None; nodes.len()] };
    emitter.all(root)?;
    let mut program = emitter.reversed;
    program.reverse();
    verify(&program).map_err(|_| Error::TooLong)?;
    Ok(program)
}

struct Emitter<'a> {
    nodes: &'a Nodes,
    /// The program, from its last instruction on.
    reversed: Vec<Insn>,
    /// Where in it the nearest instruction is that does what a node does.
    places: Vec<Option<usize>>,
}

/// How far a conditional jump is let reach: less than 255, as a copy for its other outcome may still come between.
const REACH: usize = 250;

impl Emitter<'_> {
    /// Puts down everything that a node leads to, and the node last.
    fn all(&mut self, root: Id) -> Result<(), Error> {
        let mut work = vec![(root, false)];
        while let Some((id, ready)) = work.pop() {
            if self.places[id as usize].is_some() {
                continue;
            }
            if self.reversed.len() > MAX_INSTRUCTIONS {
                return Err(Error::TooLong);
            }
            let node = self.nodes.get(id);
            if ready {
                self.put(id, node)?;
                continue;
            }
            work.push((id, true));
            match node {
                // Returns are put down where they are needed, unless the program is nothing else.
                Node::Return(_) => {}
                Node::Load(_, next) | Node::Mask(_, next) => self.plan(next, &mut work),
                Node::Test(_, _, yes, no) => {
                    self.plan(no, &mut work);
                    self.plan(yes, &mut work);
                }
            }
        }
        Ok(())
    }

    fn plan(&self, id: Id, work: &mut Vec<(Id, bool)>) {
        if !matches!(self.nodes.get(id), Node::Return(_)) {
            work.push((id, false));
        }
    }

    /// Puts down a node of which everything that it leads to is there.
    fn put(&mut self, id: Id, node: Node) -> Result<(), Error> {
        let insn = match node {
            Node::Return(value) => Insn::plain(RET, value),
            Node::Load(word, next) => {
                self.follow(next)?;
                Insn::plain(LOAD, u32::from(word) * 4)
            }
            Node::Mask(mask, next) => {
                self.follow(next)?;
                Insn::plain(AND, mask)
            }
            Node::Test(code, k, yes, no) => {
                self.near(yes)?;
                self.near(no)?;
                self.test(code, k, yes, no).ok_or(Error::TooLong)?
            }
        };
        self.push(id, insn);
        Ok(())
    }

    fn push(&mut self, id: Id, insn: Insn) {
        self.places[id as usize] = Some(self.reversed.len());
        self.reversed.push(insn);
    }

    /// How many instructions lie between the next one to be put down and a node's.
    fn distance(&self, id: Id) -> Option<usize> {
        self.places[id as usize].map(|place| self.reversed.len() - place - 1)
    }

    /// A conditional jump to two nodes, if it reaches them.
    fn test(&self, code: u16, k: u32, yes: Id, no: Id) -> Option<Insn> {
        let skip = |id: Id| self.distance(id).and_then(|distance| u8::try_from(distance).ok());
        Some(Insn { code, jt: skip(yes)?, jf: skip(no)?, k })
    }

    /// Makes a node lie within a conditional jump's reach.
    fn near(&mut self, id: Id) -> Result<(), Error> {
        if self.distance(id).is_some_and(|distance| distance <= REACH) { Ok(()) } else { self.again(id) }
    }

    /// Makes a node the next one.
    fn follow(&mut self, id: Id) -> Result<(), Error> {
        if self.distance(id) == Some(0) { Ok(()) } else { self.again(id) }
    }

    /// Puts down one instruction that comes to the same as a node: a copy, or a jump to it.
    fn again(&mut self, id: Id) -> Result<(), Error> {
        let copy = match self.nodes.get(id) {
            Node::Return(value) => Some(Insn::plain(RET, value)),
            Node::Test(code, k, yes, no) => self.test(code, k, yes, no),
            Node::Load(..) | Node::Mask(..) => None,
        };
        let jump = || self.distance(id).map(|distance| Insn::plain(JUMP, distance as u32));
        let insn = copy.or_else(jump).ok_or(Error::TooLong)?;
        self.push(id, insn);
        Ok(())
    }
}
