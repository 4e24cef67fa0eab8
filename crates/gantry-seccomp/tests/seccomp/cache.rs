//! The cached form: read back as it was, and refused if anything about it is wrong; programs that would not run.

use gantry_model::oci::seccomp::Seccomp;
use gantry_seccomp::{Arch, CacheError, Filter, Insn, ProgramError, verify};

use crate::support::{DOCKER, Random, compile, parse, profile, rule};

fn filter() -> Filter {
    let notify = Seccomp {
        listener_path: "/run/agent.sock".to_owned(),
        listener_metadata: "größe".to_owned(),
        ..profile("ERRNO", &[Arch::X86], vec![rule(&["mkdir"], "NOTIFY", vec![])])
    };
    compile(&notify, Arch::X86_64)
}

#[test]
fn a_cached_filter_comes_back() {
    for filter in [filter(), compile(&parse(DOCKER), Arch::X86_64)] {
        assert_eq!(Filter::from_bytes(&filter.to_bytes()), Ok(filter));
    }
    assert_ne!(Filter::cache_salt(Arch::X86_64), Filter::cache_salt(Arch::Arm));
}

#[test]
fn a_damaged_or_foreign_file_is_refused() {
    let bytes = filter().to_bytes();
    for length in 0..bytes.len() {
        assert!(Filter::from_bytes(&bytes[..length]).is_err(), "{length} bytes of {}", bytes.len());
    }
    let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
    assert_eq!(Filter::from_bytes(&longer), Err(CacheError::Damaged));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert!(Filter::from_bytes(&changed).is_err(), "bit {bit} of byte {at}");
        }
    }
    let mut random = Random::new("a_damaged_or_foreign_file_is_refused");
    for _ in 0..2000 {
        let mut noise: Vec<u8> = (0..random.below(300)).map(|_| random.next() as u8).collect();
        if let Some(start) = noise.get_mut(..8) {
            start.copy_from_slice(&bytes[..8]);
        }
        assert!(Filter::from_bytes(&noise).is_err());
    }
    assert_eq!(Filter::from_bytes(b"\x7fELF and so on, and on, and on, and on, and on"), Err(CacheError::Foreign));
    let unsound = Filter { program: vec![Insn { code: 0x05, jt: 0, jf: 0, k: 9 }], ..filter() };
    assert_eq!(Filter::from_bytes(&unsound.to_bytes()), Err(CacheError::Program(ProgramError::End { at: 0 })));
}

#[test]
fn unsound_programs_are_found() {
    let insn = |code, jt, jf, k| Insn { code, jt, jf, k };
    let ret = insn(0x06, 0, 0, 0);
    let cases: [(Vec<Insn>, Result<(), ProgramError>); 12] = [
        (vec![ret], Ok(())),
        (vec![insn(0x20, 0, 0, 60), ret], Ok(())),
        (vec![insn(0x15, 0, 1, 0), ret, ret], Ok(())),
        (vec![], Err(ProgramError::Length(0))),
        (vec![ret; 4097], Err(ProgramError::Length(4097))),
        (vec![insn(0x20, 0, 0, 0)], Err(ProgramError::End { at: 0 })),
        (vec![insn(0x20, 0, 0, 64), ret], Err(ProgramError::Offset { at: 0, offset: 64 })),
        (vec![insn(0x20, 0, 0, 2), ret], Err(ProgramError::Offset { at: 0, offset: 2 })),
        (vec![insn(0x15, 1, 0, 0), ret], Err(ProgramError::End { at: 0 })),
        (vec![insn(0x15, 0, 1, 0), ret], Err(ProgramError::End { at: 0 })),
        (vec![insn(0x05, 0, 0, u32::MAX), ret], Err(ProgramError::End { at: 0 })),
        (vec![ret, insn(0x16, 0, 0, 0), ret], Err(ProgramError::Code { at: 1, code: 0x16 })),
    ];
    for (program, expect) in cases {
        assert_eq!(verify(&program), expect);
    }
}
