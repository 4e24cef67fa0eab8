//! Profiles, calls and random numbers for the tests.

use std::io::Write;

use gantry_model::oci::seccomp::{Seccomp, SyscallArg, SyscallRule};
use gantry_seccomp::{Arch, Filter, SeccompData, simulate, verify};

pub const DOCKER: &str = include_str!("fixtures/docker-x86_64.json");
pub const DOCKER_ARM: &str = include_str!("fixtures/docker-aarch64.json");
pub const PODMAN: &str = include_str!("fixtures/podman-x86_64.json");

pub const ALLOW: u32 = 0x7fff_0000;
pub const KILL: u32 = 0;
pub const EPERM: u32 = 0x0005_0001;
pub const ENOSYS: u32 = 0x0005_0026;

pub fn parse(text: &str) -> Seccomp {
    serde_json::from_str(text).unwrap()
}

/// A profile whose default is `SCMP_ACT_` and `default`, for the architectures given.
pub fn profile(default: &str, architectures: &[Arch], syscalls: Vec<SyscallRule>) -> Seccomp {
    Seccomp {
        default_action: format!("SCMP_ACT_{default}"),
        architectures: architectures.iter().map(|arch| arch.oci_name().to_owned()).collect(),
        syscalls,
        ..Seccomp::default()
    }
}

pub fn rule(names: &[&str], action: &str, args: Vec<SyscallArg>) -> SyscallRule {
    SyscallRule {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        action: format!("SCMP_ACT_{action}"),
        errno_ret: None,
        args,
    }
}

pub fn arg(index: u32, op: &str, value: u64, value_two: u64) -> SyscallArg {
    SyscallArg { index, value, value_two, op: format!("SCMP_CMP_{op}") }
}

pub fn compile(profile: &Seccomp, native: Arch) -> Filter {
    let filter = gantry_seccomp::compile(profile, native).unwrap();
    verify(&filter.program).unwrap();
    filter
}

pub fn call(arch: Arch, nr: u32, args: [u64; 6]) -> SeccompData {
    SeccompData { nr, arch: arch.audit(), instruction_pointer: 0x5555_0000_1234, args }
}

pub fn run(filter: &Filter, arch: Arch, nr: u32, args: [u64; 6]) -> u32 {
    simulate(&filter.program, &call(arch, nr, args)).unwrap()
}

/// Says on the real standard error, which the test harness does not hold back, that a test did not run.
pub fn skipped(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Says something that is worth reading in a log of passing tests.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A small generator (SplitMix64), seeded so that a failure can be had again.
pub struct Random(u64);

impl Random {
    /// A generator whose seed is from `GANTRY_SEED`, or else fixed; it is printed for when the test fails.
    pub fn new(test: &str) -> Self {
        let seed = std::env::var("GANTRY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122);
        println!("{test}: GANTRY_SEED={seed}");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
