//! The device filter of a v2 cgroup, as an eBPF program.
//!
//! The program sees the kind and numbers of a device and the set of accesses that are asked for. It goes through the rules
//! from the last to the first and keeps the accesses that no rule has answered yet: a denying rule that matches one of
//! them ends it, an allowing rule takes its own out, and when none is left the answer is yes.

use std::fmt;

use gantry_sys::bpf::Insn;

use crate::devices::{ALL, Rules};

/// A device filter, ready to be loaded.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    insns: Vec<Insn>,
    rules: Rules,
}

const LOAD_WORD: u8 = 0x61;
const AND_IMM: u8 = 0x54;
const SHIFT_RIGHT_IMM: u8 = 0x74;
const MOVE_IMM: u8 = 0xb4;
const JUMP: u8 = 0x05;
const JUMP_IF_NOT_IMM: u8 = 0x55;
const JUMP_IF_ANY_IMM: u8 = 0x45;
const EXIT: u8 = 0x95;

const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const fn insn(code: u8, dst: u8, off: i16, imm: i32) -> Insn {
    Insn { code, regs: dst, off, imm }
}

const fn load(dst: u8, off: i16) -> Insn {
    Insn { code: LOAD_WORD, regs: dst | CONTEXT << 4, off, imm: 0 }
}

impl Program {
    /// Builds the filter for these rules.
    pub fn new(rules: &Rules) -> Self {
        // struct bpf_cgroup_dev_ctx: u32 access << 16 | kind, u32 major, u32 minor
        let mut insns = vec![
            load(KIND, 0),
            insn(AND_IMM, KIND, 0, 0xffff),
            load(ACCESS, 0),
            insn(SHIFT_RIGHT_IMM, ACCESS, 0, 16),
            load(MAJOR, 4),
            load(MINOR, 8),
        ];
        // Rules before the first that differs from the default change nothing.
        let first = rules.rules.iter().position(|rule| rule.allow != rules.default_allow);
        for rule in rules.rules[first.unwrap_or(rules.rules.len())..].iter().rev() {
            let mut tests = vec![(KIND, rule.devices.kind as i32)];
            for (register, number) in [(MAJOR, rule.devices.major), (MINOR, rule.devices.minor)] {
                if let Some(number) = number {
                    // A number beyond the kernel's 32 bit device numbers matches no device, and -1 is none of a word.
                    tests.push((register, i32::try_from(number).unwrap_or(-1)));
                }
            }
            let body = answer(rule.allow, rule.access);
            let mut left = tests.len() + body.len();
            for (register, value) in tests {
                left -= 1;
                insns.push(insn(JUMP_IF_NOT_IMM, register, left as i16, value));
            }
            insns.extend(body);
        }
        insns.extend([insn(MOVE_IMM, ANSWER, 0, i32::from(rules.default_allow)), insn(EXIT, 0, 0, 0)]);
        Self { insns, rules: rules.clone() }
    }

    /// The instructions.
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }
}

/// What a rule does once its device matches.
fn answer(allow: bool, access: u8) -> Vec<Insn> {
    let end = [insn(MOVE_IMM, ANSWER, 0, i32::from(allow)), insn(EXIT, 0, 0, 0)];
    let mut body = match (allow, access) {
        (_, ALL) => Vec::new(),
        (true, _) => {
            vec![insn(AND_IMM, ACCESS, 0, i32::from(ALL & !access)), insn(JUMP_IF_NOT_IMM, ACCESS, end.len() as i16, 0)]
        }
        (false, _) => vec![insn(JUMP_IF_ANY_IMM, ACCESS, 1, i32::from(access)), insn(JUMP, 0, end.len() as i16, 0)],
    };
    body.extend(end);
    body
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.rules.default_allow { "allow all" } else { "deny all" })?;
        for rule in &self.rules.rules {
            write!(f, ", {} {rule}", if rule.allow { "allow" } else { "deny" })?;
        }
        write!(f, " ({} instructions)", self.insns.len())
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::tests::rules;
    use crate::devices::{Kind, MKNOD, READ, Rules, WRITE};

    /// Runs the program as the kernel would; an unknown instruction or a jump out of the program fails the test.
    fn simulate(program: &Program, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let context = [u32::from(access) << 16 | kind as u32, major, minor];
        let (mut registers, mut at) = ([0_u64; 11], 0_usize);
        for _ in 0..10_000 {
            let insn = program.insns[at];
            let (dst, imm) = (usize::from(insn.regs & 15), i64::from(insn.imm) as u64);
            at += 1;
            let jump = match insn.code {
                LOAD_WORD => {
                    registers[dst] = u64::from(context[insn.off as usize / 4]);
                    false
                }
                AND_IMM => {
                    registers[dst] = u64::from(registers[dst] as u32 & insn.imm as u32);
                    false
                }
                SHIFT_RIGHT_IMM => {
                    registers[dst] = u64::from(registers[dst] as u32 >> insn.imm);
                    false
                }
                MOVE_IMM => {
                    registers[dst] = u64::from(insn.imm as u32);
                    false
                }
                JUMP => true,
                JUMP_IF_NOT_IMM => registers[dst] != imm,
                JUMP_IF_ANY_IMM => registers[dst] & imm != 0,
                EXIT => return registers[0] != 0,
                code => panic!("instruction {code:#x} is unknown"),
            };
            if jump {
                at += insn.off as usize;
            }
        }
        panic!("the program does not end");
    }

    /// The rules' meaning, said directly: for each access by itself, the last rule that matches answers.
    fn meaning(rules: &Rules, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        [MKNOD, READ, WRITE].iter().filter(|bit| access & **bit != 0).all(|bit| {
            let last = rules.rules.iter().rev().find(|rule| {
                rule.access & bit != 0
                    && rule.devices.kind == kind
                    && rule.devices.major.is_none_or(|n| n == major)
                    && rule.devices.minor.is_none_or(|n| n == minor)
            });
            last.map_or(rules.default_allow, |rule| rule.allow)
        })
    }

    fn check(text: &[&str], expect: &[(&str, bool)]) {
        let parsed = Rules::new(&rules(text)).unwrap();
        let program = Program::new(&parsed);
        for (request, allowed) in expect {
            let request = Rules::new(&rules(&[&format!("+{request}")])).unwrap().rules[0];
            let (major, minor) = (request.devices.major.unwrap(), request.devices.minor.unwrap());
            let got = simulate(&program, request.devices.kind, major, minor, request.access);
            assert_eq!(got, *allowed, "{text:?}: {request}");
        }
        for kind in [Kind::Char, Kind::Block] {
            for (major, minor) in [(1, 3), (1, 5), (8, 0), (5, 1), (4095, 1_048_575), (0, 0)] {
                for access in 1..=ALL {
                    assert_eq!(
                        simulate(&program, kind, major, minor, access),
                        meaning(&parsed, kind, major, minor, access),
                        "{text:?}: {kind:?} {major}:{minor} {access}"
                    );
                }
            }
        }
    }

    #[test]
    fn programs() {
        check(&[], &[("c 1:3 r", false)]);
        check(&["+a"], &[("c 1:3 rwm", true)]);
        check(&["-a", "+c 1:3 rw"], &[("c 1:3 rw", true), ("c 1:3 m", false), ("c 1:5 r", false), ("b 1:3 r", false)]);
        check(&["-a", "+c 1:3 r", "+c 1:* w"], &[("c 1:3 rw", true), ("c 1:5 rw", false), ("c 1:5 w", true)]);
        check(&["-a", "+c 1:* rwm", "-c 1:5 w"], &[("c 1:5 r", true), ("c 1:5 rw", false), ("c 1:3 w", true)]);
        check(&["+a", "-b 8:* wm", "+b 8:0 w"], &[("b 8:0 w", true), ("b 8:1 w", false), ("b 8:1 r", true)]);
        check(&["-a", "+c *:* m", "+b *:* m"], &[("b 8:0 m", true), ("b 8:0 r", false)]);
        check(&["+c 4294967295:1 rwm"], &[("c 4095:1 r", false)]);
        check(&["-c 1:3 rwm", "+c 1:3 r"], &[("c 1:3 r", true), ("c 1:3 w", false)]);
    }

    /// The same over rules made by a small generator, whose seed is in the message.
    #[test]
    fn random_programs() {
        for seed in 1..400_u64 {
            let mut state = seed;
            let mut next = |n: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % n
            };
            let text: Vec<String> = (0..next(8))
                .map(|_| {
                    let pick = |list: &[&str], n: u64| list[n as usize].to_owned();
                    let allow = pick(&["+", "-"], next(2));
                    let kind = pick(&["c", "b", "a"], next(3));
                    let major = pick(&["*", "1", "8"], next(3));
                    let minor = pick(&["*", "3", "0"], next(3));
                    let access = pick(&["r", "w", "m", "rw", "rm", "wm", "rwm"], next(7));
                    format!("{allow}{kind} {major}:{minor} {access}")
                })
                .collect();
            let text: Vec<&str> = text.iter().map(String::as_str).collect();
            eprintln!("seed {seed}");
            check(&text, &[]);
        }
    }
}
