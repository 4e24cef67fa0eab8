//! Against libseccomp and against the kernel: our program and libseccomp's, for the same profile, give the same answer for
//! every call; and the kernel takes ours and does what it says.
//!
//! libseccomp is asked through Python and its C interface (`GANTRY_LIBSECCOMP` names another copy of the library). Our
//! answers differ from its own in two ways, both meant, both asserted: calls newer than the profile, and the version in
//! the upper half of `ipc`'s first argument on x86.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use gantry_model::oci::seccomp::{Seccomp, SyscallRule};
use gantry_seccomp::{Arch, Filter, Insn, SeccompData, simulate, simulate_counted};
use serde_json::{Value, json};

use crate::properties::{arguments, condition, numbers};
use crate::reference::evaluate;
use crate::support::{
    ALLOW, DOCKER, DOCKER_ARM, ENOSYS, EPERM, PODMAN, Random, arg, call, compile, note, parse, profile, rule, skipped,
};

/// A process that answers from libseccomp.
struct Oracle {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Oracle {
    /// Nothing, and loudly, if there is no Python or no libseccomp.
    fn start(test: &str) -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seccomp/libseccomp.py");
        let library = std::env::var("GANTRY_LIBSECCOMP").unwrap_or_else(|_| "libseccomp.so.2".to_owned());
        let spawned = Command::new("/usr/bin/python3")
            .args([script, &library])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                skipped(test, &format!("no /usr/bin/python3: {error}"));
                return None;
            }
        };
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().unwrap());
        let mut oracle = Self { child, to, from };
        let Some(version) = oracle.try_ask(&json!({"version": true})) else {
            skipped(test, &format!("no {library} that Python can load; install libseccomp2"));
            return None;
        };
        note(&format!("{test}: beside libseccomp {}", version["version"].as_str().unwrap()));
        Some(oracle)
    }

    fn try_ask(&mut self, question: &Value) -> Option<Value> {
        writeln!(self.to.as_mut().unwrap(), "{question}").ok()?;
        let mut line = String::new();
        self.from.read_line(&mut line).ok().filter(|length| *length > 0)?;
        Some(serde_json::from_str(&line).unwrap())
    }

    fn ask(&mut self, question: &Value) -> Value {
        self.try_ask(question).expect("the oracle ended")
    }

    /// The program that libseccomp makes of a profile, or its error number.
    fn compile(&mut self, profile: &Seccomp, native: Arch, optimize: bool) -> Result<Vec<Insn>, u64> {
        let native = native.oci_name().trim_start_matches("SCMP_ARCH_");
        let answer = self.ask(&json!({"profile": profile, "native": native, "optimize": optimize}));
        let Some(program) = answer["program"].as_str() else { return Err(answer["error"].as_u64().unwrap()) };
        Ok(unhex(program).as_chunks::<8>().0.iter().copied().map(insn).collect())
    }

    /// Takes out of a profile the names that this libseccomp is too old for, on any architecture, and gives them. What
    /// numbers it knows are ours.
    fn without_unknown(&mut self, profile: &mut Seccomp) -> Vec<String> {
        let names: BTreeSet<&String> = profile.syscalls.iter().flat_map(|rule| &rule.names).collect();
        let mut unknown = Vec::new();
        for arch in Arch::ALL {
            let token = arch.oci_name().trim_start_matches("SCMP_ARCH_");
            let answer = self.ask(&json!({"names": names, "architecture": token}));
            for name in &names {
                let (theirs, ours) = (answer[name.as_str()].as_i64().unwrap(), arch.number(name));
                let through_another = arch == Arch::X86 && (-224..=-101).contains(&theirs);
                match ours {
                    _ if theirs >= 0 => assert_eq!(ours.map(i64::from), Some(theirs), "{arch:?} {name}"),
                    Some(_) if !through_another => unknown.push((*name).clone()),
                    _ => {}
                }
            }
        }
        for rule in &mut profile.syscalls {
            rule.names.retain(|name| !unknown.contains(name));
        }
        unknown.sort();
        unknown.dedup();
        unknown
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.to = None; // its input ends, and so does it
        let _ = self.child.wait();
    }
}

fn insn([c0, c1, jt, jf, k0, k1, k2, k3]: [u8; 8]) -> Insn {
    Insn { code: u16::from_le_bytes([c0, c1]), jt, jf, k: u32::from_le_bytes([k0, k1, k2, k3]) }
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn hex(program: &[Insn]) -> String {
    let bytes = program.iter().flat_map(|insn| {
        let [c0, c1] = insn.code.to_le_bytes();
        let [k0, k1, k2, k3] = insn.k.to_le_bytes();
        [c0, c1, insn.jt, insn.jf, k0, k1, k2, k3]
    });
    bytes.fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Whether the two may differ: we say that a call does not exist which is newer than the profile.
fn is_newer(profile: &Seccomp, arch: Arch, data: &SeccompData, ours: u32) -> bool {
    let arch = match arch {
        Arch::X86_64 | Arch::X32 if data.nr < 0x4000_0000 => Arch::X86_64,
        Arch::X86_64 => Arch::X32,
        other => other,
    };
    ours == ENOSYS && {
        let rules = profile.syscalls.iter().flat_map(|rule| &rule.names);
        let named: Vec<u32> = rules.filter_map(|name| arch.number(name)).collect();
        let highest = named.iter().copied().filter(|nr| arch != Arch::Arm || *nr < 0xf_0000).max();
        !named.contains(&data.nr) && highest.is_some_and(|highest| data.nr > highest)
    }
}

/// Runs both programs on every number of every architecture, with arguments that the profile mentions and others.
fn check(oracle: &mut Oracle, random: &mut Random, name: &str, mut profile: Seccomp, native: Arch) {
    let unknown = oracle.without_unknown(&mut profile);
    let theirs = oracle.compile(&profile, native, true).unwrap();
    let plain = oracle.compile(&profile, native, false).unwrap();
    let ours = compile(&profile, native);
    let (mut compared, mut newer) = (0, 0);
    let (mut steps, mut their_steps, mut runs) = (0, 0, 0);
    for arch in Arch::ALL {
        for nr in numbers(arch) {
            for attempt in 0..40 {
                let mut args = if attempt == 0 { [0; 6] } else { arguments(random, &profile) };
                if arch == Arch::X86 && nr == 117 {
                    args[0] &= 0xffff;
                }
                let data = call(arch, nr, args);
                let our = simulate_counted(&ours.program, &data).unwrap();
                let their = simulate_counted(&theirs, &data).unwrap();
                assert_eq!(
                    simulate(&plain, &data),
                    Ok(their.value),
                    "{name}: libseccomp differs from itself at {data:x?}"
                );
                if our.value == their.value {
                    compared += 1;
                } else {
                    assert!(
                        is_newer(&profile, arch, &data, our.value),
                        "{name}: {:#x}, libseccomp {:#x} at {data:x?}",
                        our.value,
                        their.value
                    );
                    newer += 1;
                }
                if arch == native && attempt == 0 && nr & 0x3fff_ffff < 472 {
                    (steps, their_steps, runs) = (steps + our.steps, their_steps + their.steps, runs + 1);
                }
            }
        }
    }
    assert!(compared > 50_000, "{name}: {compared} calls compared");
    note(&format!(
        "{name}: {} instructions, libseccomp {} (as a tree {}); {:.1} run for a native call, libseccomp's tree {:.1}; \
         {compared} calls alike, {newer} newer than the profile; names it is too old for: {}",
        ours.program.len(),
        plain.len(),
        theirs.len(),
        f64::from(steps as u32) / f64::from(runs.max(1)),
        f64::from(their_steps as u32) / f64::from(runs.max(1)),
        unknown.len(),
    ));
}

#[test]
fn usual_profiles_do_what_libseccomp_does() {
    let Some(mut oracle) = Oracle::start("usual_profiles_do_what_libseccomp_does") else { return };
    let mut random = Random::new("usual_profiles_do_what_libseccomp_does");
    let cases = [
        ("docker, x86_64", DOCKER, Arch::X86_64),
        ("docker, aarch64", DOCKER_ARM, Arch::Aarch64),
        ("podman, x86_64", PODMAN, Arch::X86_64),
    ];
    for (name, text, native) in cases {
        check(&mut oracle, &mut random, name, parse(text), native);
    }
    let deny = ["mount", "ptrace", "keyctl", "socketpair", "shmget", "accept4", "personality", "reboot"];
    let deny = profile("ALLOW", &[Arch::X86, Arch::X32], vec![rule(&deny, "ERRNO", vec![])]);
    check(&mut oracle, &mut random, "a list of denied calls", deny, Arch::X86_64);
    let alone = profile("KILL_PROCESS", &[], parse(DOCKER).syscalls);
    check(&mut oracle, &mut random, "docker for x86_64 alone", alone, Arch::X86_64);
    let everything =
        Seccomp { architectures: Arch::ALL.map(|arch| arch.oci_name().to_owned()).to_vec(), ..parse(DOCKER) };
    check(&mut oracle, &mut random, "docker for all architectures", everything, Arch::X86_64);
    let x32 = profile("ERRNO", &[], parse(DOCKER).syscalls);
    check(&mut oracle, &mut random, "docker for x32 alone", x32, Arch::X32);
}

/// Random conditions on one call of one architecture, all with one action: where rules overlap, libseccomp's order does not
/// matter, only what they mean.
///
/// These are the profiles that libseccomp, as of 2.6, gets right: one rule of several conditions, or several rules of one,
/// and then orderings against 32 bits only. Beyond, it merges the rules' trees in ways that lose some; there, the naive
/// reading is the measure, in the tests of properties.
fn is_order(op: &str) -> bool {
    ["_LT", "_LE", "_GT", "_GE"].iter().any(|end| op.ends_with(end))
}

#[test]
fn random_conditions_do_what_libseccomp_does() {
    let Some(mut oracle) = Oracle::start("random_conditions_do_what_libseccomp_does") else { return };
    let mut random = Random::new("random_conditions_do_what_libseccomp_does");
    let names = ["write", "openat", "personality", "socket", "accept4", "ipc", "socketcall", "shmget", "bind"];
    let mut refused = 0;
    for round in 0..1000 {
        let (default, action) = random.pick(&[("ERRNO", "ALLOW"), ("ALLOW", "ERRNO"), ("KILL", "LOG")]);
        let (name, arch) = (random.pick(&names), random.pick(&Arch::ALL));
        let (rules, conditions) = random.pick(&[(1, 0), (1, 3), (1, 2), (2, 1), (3, 1), (4, 1), (4, 1)]);
        let rules = (0..rules).map(|_| {
            let mut args: Vec<_> = (0..conditions).map(|_| condition(&mut random)).collect();
            let repeated = (0..6).any(|index| args.iter().filter(|arg| arg.index == index).count() > 1);
            for arg in args.iter_mut().filter(|arg| (rules > 1 || repeated) && is_order(&arg.op)) {
                arg.value &= 0xffff_ffff;
            }
            rule(&[name], action, args)
        });
        let profile = profile(default, &[], rules.collect());
        let Ok(theirs) = oracle.compile(&profile, arch, false) else {
            refused += 1;
            continue;
        };
        let ours = compile(&profile, arch);
        for nr in [arch.number(name), arch.number("socketcall"), arch.number("ipc")].into_iter().flatten() {
            for _ in 0..60 {
                let mut args = arguments(&mut random, &profile);
                if arch == Arch::X86 && nr == 117 {
                    args[0] &= 0xffff;
                }
                let data = call(arch, nr, args);
                let (our, their) = (simulate(&ours.program, &data).unwrap(), simulate(&theirs, &data).unwrap());
                let meant = evaluate(&profile, arch, &data);
                assert!(
                    our == their || is_newer(&profile, arch, &data, our),
                    "round {round}: {our:#x}, libseccomp {their:#x}, meant {meant:#x} at {data:x?}\n{}",
                    json!(profile),
                );
            }
        }
    }
    note(&format!("random_conditions_do_what_libseccomp_does: {refused} of 1000 profiles were refused by libseccomp"));
    assert!(refused < 100);
}

/// Two rules with different actions, so that where both hold, the order decides.
#[test]
fn overlapping_rules_have_libseccomps_order() {
    let Some(mut oracle) = Oracle::start("overlapping_rules_have_libseccomps_order") else { return };
    let mut random = Random::new("overlapping_rules_have_libseccomps_order");
    let (mut refused, mut overlaps) = (0, 0);
    for round in 0..1500 {
        let mut one = |action: &str| {
            let op = random.pick(&["EQ", "NE", "LT", "LE", "GT", "GE"]);
            rule(&["write"], action, vec![arg(random.pick(&[0, 0, 1]), op, random.below(6) as u64, 0)])
        };
        let rules = [one("ALLOW"), one("TRAP")];
        let arch = random.pick(&Arch::ALL);
        let profile = profile("ERRNO", &[], rules.to_vec());
        let Ok(theirs) = oracle.compile(&profile, arch, false) else {
            refused += 1; // two actions for the same condition
            continue;
        };
        let ours = compile(&profile, arch);
        let alone = rules.map(|rule| compile(&Seccomp { syscalls: vec![rule], ..profile.clone() }, arch));
        for args in (0..49).map(|n| [n / 7, n % 7, 0, 0, 0, 0]) {
            let data = call(arch, arch.number("write").unwrap(), args);
            let (our, their) = (simulate(&ours.program, &data).unwrap(), simulate(&theirs, &data).unwrap());
            overlaps += u32::from(alone.iter().all(|one| simulate(&one.program, &data) != Ok(EPERM)));
            assert_eq!(our, their, "round {round}: {args:?}\n{}", json!(profile));
        }
    }
    note(&format!(
        "overlapping_rules_have_libseccomps_order: {overlaps} overlaps, {refused} of 1500 profiles refused by it"
    ));
    assert!(overlaps > 1000);
}

/// The kernel takes the program and does what it says, on an x86_64 machine.
#[test]
fn the_kernel_takes_the_filter() {
    let test = "the_kernel_takes_the_filter";
    if Arch::of_this_program() != Some(Arch::X86_64) {
        return skipped(test, "its calls are x86_64's");
    }
    let Some(mut oracle) = Oracle::start(test) else { return };
    let mut profile = parse(DOCKER);
    let mut long = profile.clone();
    long.syscalls.push(rule(&["getpriority"], "LOG", vec![]));
    profile.syscalls.push(SyscallRule {
        errno_ret: Some(99),
        ..rule(&["reboot"], "ERRNO", vec![arg(0, "GE", 1 << 40, 0), arg(1, "EQ", 5, 0)])
    });
    long.syscalls.push(rule(&["reboot"], "ERRNO", (1..1500).map(|n| arg(3, "EQ", n, 0)).collect()));
    let calls = json!([
        [39],                   // getpid
        [135, 0x1234],          // personality, not one of the allowed
        [135, 0xffff_ffff_u32], // one that is
        [435, 0, 0],            // clone3
        [169, 1_u64 << 41, 5],  // reboot, our condition
        [169, 1_u64 << 41, 6],  // reboot, the default
        [9999],                 // newer
        [41, 40, 1, 0],         // socket, AF_VSOCK
    ]);
    for (profile, expect) in [(profile, json!([0, 1, 0, 38, 99, 1, 38, 1])), (long, json!([0, 1, 0, 38, 1, 1, 38, 1]))]
    {
        let filter: Filter = compile(&profile, Arch::X86_64);
        let answer = oracle.ask(&json!({"load": hex(&filter.program), "calls": calls}));
        assert_eq!(answer, json!({"results": expect}), "{} instructions", filter.program.len());
    }
    let allowed = compile(&parse(DOCKER), Arch::X86_64);
    assert_eq!(simulate(&allowed.program, &call(Arch::X86_64, 39, [0; 6])), Ok(ALLOW));
}
