//! Random profiles: compiled and run, they do what the naive reading says; and whatever is thrown at the compiler, it
//! answers.

use gantry_model::oci::seccomp::{Seccomp, SyscallArg, SyscallRule};
use gantry_seccomp::{Arch, KNOWN_ACTIONS, KNOWN_ARCHITECTURES, KNOWN_FLAGS, KNOWN_OPERATORS, simulate, verify};

use crate::reference::evaluate;
use crate::support::{Random, call, compile};

/// Few, so that rules meet: numbers at the ends of tables, next to each other, through other calls, private ones.
const NAMES: [&str; 24] = [
    "read",
    "write",
    "open",
    "close",
    "stat",
    "fstat",
    "clone",
    "socket",
    "bind",
    "accept",
    "accept4",
    "send",
    "socketcall",
    "ipc",
    "semop",
    "shmget",
    "msgctl",
    "set_tls",
    "cacheflush",
    "openat2",
    "clone3",
    "mseal",
    "rt_sigaction",
    "personality",
];

/// Values whose neighbours, halves and signs matter.
const VALUES: [u64; 16] = [
    0,
    1,
    2,
    7,
    8,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x1_ffff_ffff,
    0x7_0000_0007,
    0xffff_ffff_0000_0000,
    u64::MAX - 1,
    u64::MAX,
];

pub fn condition(random: &mut Random) -> SyscallArg {
    let value_two = random.pick(&VALUES);
    SyscallArg {
        index: random.pick(&[0, 0, 0, 1, 2, 5]),
        value: random.pick(&VALUES),
        value_two,
        op: random.pick(&KNOWN_OPERATORS).to_owned(),
    }
}

pub fn random_rule(random: &mut Random, action: &str) -> SyscallRule {
    let conditions = random.pick(&[0, 1, 1, 1, 2, 2, 3]);
    SyscallRule {
        names: (0..=random.below(3)).map(|_| random.pick(&NAMES).to_owned()).collect(),
        action: action.to_owned(),
        errno_ret: (action == "SCMP_ACT_ERRNO" && random.one_in(2)).then(|| random.below(3) as u32),
        args: (0..conditions).map(|_| condition(random)).collect(),
    }
}

fn random_profile(random: &mut Random) -> Seccomp {
    let actions =
        ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_TRAP", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"];
    let rules = random.below(20);
    Seccomp {
        default_action: random.pick(&actions).to_owned(),
        architectures: (0..random.below(4)).map(|_| random.pick(&Arch::ALL).oci_name().to_owned()).collect(),
        syscalls: (0..rules)
            .map(|_| {
                let action = random.pick(&actions);
                random_rule(random, action)
            })
            .collect(),
        ..Seccomp::default()
    }
}

/// Numbers around everything that a filter may tell apart.
pub fn numbers(arch: Arch) -> Vec<u32> {
    let bit = if arch == Arch::X32 { 0x4000_0000 } else { 0 };
    let special = [u32::MAX, 0x7fff_ffff, 0x8000_0000, 0x3fff_ffff, 0x4000_0000, 0xe_ffff, 0xf_0000];
    (0..600)
        .map(|number| number + bit)
        .chain(special)
        .chain((0xf_0000..0xf_0010).filter(|_| arch == Arch::Arm))
        .collect()
}

pub fn arguments(random: &mut Random, profile: &Seccomp) -> [u64; 6] {
    let mentioned: Vec<u64> =
        profile.syscalls.iter().flat_map(|rule| &rule.args).flat_map(|a| [a.value, a.value_two]).collect();
    std::array::from_fn(|_| {
        let base =
            if mentioned.is_empty() || random.one_in(4) { random.pick(&VALUES) } else { random.pick(&mentioned) };
        match random.below(6) {
            0 => base.wrapping_add(1),
            1 => base.wrapping_sub(1),
            2 => base ^ 1 << random.below(64),
            3 => random.below(25) as u64,
            _ => base,
        }
    })
}

#[test]
fn random_profiles_do_what_they_say() {
    let mut random = Random::new("random_profiles_do_what_they_say");
    for round in 0..600 {
        let profile = random_profile(&mut random);
        let native = random.pick(&Arch::ALL);
        let filter = compile(&profile, native);
        for arch in Arch::ALL {
            let named: Vec<u32> = NAMES.iter().filter_map(|name| arch.number(name)).collect();
            let all = numbers(arch);
            for try_ in 0..120 {
                let nr = if try_ % 4 == 0 { random.pick(&all) } else { random.pick(&named) };
                let data = call(arch, nr, arguments(&mut random, &profile));
                let got = simulate(&filter.program, &data);
                assert_eq!(got, Ok(evaluate(&profile, native, &data)), "round {round}: {data:x?} of {profile:#?}");
            }
        }
    }
}

#[test]
fn every_number_does_what_it_should() {
    let mut random = Random::new("every_number_does_what_it_should");
    for round in 0..12 {
        let mut profile = random_profile(&mut random);
        for (_, name) in Arch::X86_64.calls().chain(Arch::Arm.calls()) {
            if random.one_in(3) {
                let action = random.pick(&["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRAP"]);
                profile.syscalls.push(SyscallRule { names: vec![name.to_owned()], ..random_rule(&mut random, action) });
            }
        }
        let native = random.pick(&Arch::ALL);
        let filter = match gantry_seccomp::compile(&profile, native) {
            Ok(filter) => filter,
            Err(gantry_seccomp::Error::TooLong) => continue,
            Err(error) => panic!("round {round}: {error}"),
        };
        verify(&filter.program).unwrap();
        for arch in Arch::ALL {
            for nr in numbers(arch) {
                let data = call(arch, nr, arguments(&mut random, &profile));
                let got = simulate(&filter.program, &data);
                assert_eq!(got, Ok(evaluate(&profile, native, &data)), "round {round}: {data:x?}");
            }
        }
    }
}

#[test]
fn no_profile_makes_the_compiler_fall_over() {
    let mut random = Random::new("no_profile_makes_the_compiler_fall_over");
    let strings = ["", "SCMP_ACT_", "write", "\0", "SCMP_ARCH_NATIVE", "ÄÖ", "_llseek", "writev", "zzz", "SCMP_CMP_EQ"];
    let mut compiled = 0;
    for round in 0..4000 {
        // Most words are right, or nothing would get past the first check.
        let wrong = random.pick(&[10, 100, 100_000]);
        let word = |random: &mut Random, right: &[&str]| {
            if random.one_in(wrong) { random.pick(&strings).to_owned() } else { random.pick(right).to_owned() }
        };
        let mut profile = Seccomp {
            default_action: word(&mut random, &KNOWN_ACTIONS),
            default_errno_ret: random.one_in(20).then(|| random.next() as u32),
            architectures: (0..random.below(6)).map(|_| word(&mut random, &KNOWN_ARCHITECTURES)).collect(),
            flags: (0..random.below(3)).map(|_| word(&mut random, &KNOWN_FLAGS)).collect(),
            listener_path: if random.one_in(2) { "/run/agent".to_owned() } else { String::new() },
            listener_metadata: if random.one_in(8) { "m".repeat(random.below(70_000)) } else { String::new() },
            syscalls: Vec::new(),
        };
        let most = random.pick(&[3, 30, 300]);
        for _ in 0..random.below(most) {
            let args = if random.one_in(40) { random.below(200) } else { random.below(4) };
            profile.syscalls.push(SyscallRule {
                names: (0..random.below(5)).map(|_| word(&mut random, &NAMES)).collect(),
                action: word(&mut random, &KNOWN_ACTIONS),
                errno_ret: random.one_in(50 * most).then(|| random.next() as u32),
                args: (0..args)
                    .map(|_| SyscallArg {
                        index: if random.one_in(wrong) { random.next() as u32 } else { random.below(6) as u32 },
                        value: if random.one_in(2) { random.next() } else { random.pick(&VALUES) },
                        value_two: random.next(),
                        op: word(&mut random, &KNOWN_OPERATORS),
                    })
                    .collect(),
            });
        }
        if let Ok(filter) = gantry_seccomp::compile(&profile, random.pick(&Arch::ALL)) {
            compiled += 1;
            assert_eq!(verify(&filter.program), Ok(()), "round {round}");
            let data = call(random.pick(&Arch::ALL), random.next() as u32 % 600, [random.next(); 6]);
            assert!(simulate(&filter.program, &data).is_ok(), "round {round}");
        }
    }
    assert!(compiled > 100, "only {compiled} profiles were right: the test tests nothing");
}
