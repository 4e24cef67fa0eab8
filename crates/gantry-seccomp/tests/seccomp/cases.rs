//! One case for each thing that a profile can say.

use gantry_model::oci::seccomp::{Seccomp, SyscallArg, SyscallRule};
use gantry_seccomp::{Arch, Error, Flags, SeccompData, compile as try_compile, simulate};

use crate::support::{
    ALLOW, DOCKER, DOCKER_ARM, ENOSYS, EPERM, KILL, PODMAN, arg, call, compile, parse, profile, rule, run,
};

#[test]
fn operators_compare_all_64_bits() {
    const BIG: u64 = 0x1234_5678_9abc_def0;
    let cases = [
        ("NE", 5, 0, vec![4, 6, 5 | 1 << 32], vec![5]),
        ("LT", 5, 0, vec![0, 4], vec![5, 6, 1 << 32, 4 | 1 << 63]),
        ("LE", 5, 0, vec![0, 5], vec![6, 5 | 1 << 32]),
        ("EQ", 5, 0, vec![5], vec![4, 5 | 1 << 32, 0]),
        ("GE", 5, 0, vec![5, 6, 1 << 32], vec![0, 4]),
        ("GT", 5, 0, vec![6, 1 << 32], vec![5, 0]),
        ("NE", BIG, 0, vec![BIG ^ 1, BIG ^ 1 << 40, 0], vec![BIG]),
        ("LT", BIG, 0, vec![BIG - 1, BIG - (1 << 32), 0, 0xffff_ffff], vec![BIG, BIG + 1, BIG + (1 << 32), u64::MAX]),
        ("LE", BIG, 0, vec![BIG, BIG - 1, BIG - (1 << 32)], vec![BIG + 1, BIG + (1 << 32)]),
        ("EQ", BIG, 0, vec![BIG], vec![BIG ^ 1, BIG ^ 1 << 40]),
        ("GE", BIG, 0, vec![BIG, BIG + 1, BIG + (1 << 32)], vec![BIG - 1, BIG - (1 << 32)]),
        ("GT", BIG, 0, vec![BIG + 1, BIG + (1 << 32)], vec![BIG, BIG - 1, 0xffff_ffff]),
        ("GE", 7 << 32, 0, vec![7 << 32, 8 << 32, 7 << 32 | 9], vec![0, 6 << 32 | 0xffff_ffff]),
        ("LT", 7 << 32, 0, vec![0, 6 << 32 | 0xffff_ffff], vec![7 << 32, 8 << 32]),
        ("GT", 7 << 32 | 0xffff_ffff, 0, vec![8 << 32], vec![7 << 32 | 0xffff_ffff, 0]),
        ("LE", 7 << 32 | 0xffff_ffff, 0, vec![7 << 32 | 0xffff_ffff, 0], vec![8 << 32]),
        ("GE", 0, 0, vec![0, u64::MAX], vec![]),
        ("LT", 0, 0, vec![], vec![0, u64::MAX]),
        ("GT", u64::MAX, 0, vec![], vec![0, u64::MAX]),
        ("LE", u64::MAX, 0, vec![0, u64::MAX], vec![]),
        ("MASKED_EQ", 0xf0, 0x50, vec![0x50, 0x5f, 0x50 | 1 << 40], vec![0x40, 0]),
        ("MASKED_EQ", 0xf0, 0x0, vec![0, 0xf, 1 << 40], vec![0x10, 0xf0]),
        ("MASKED_EQ", 0x40, 0x40, vec![0x40, 0xff], vec![0, 0xbf]),
        ("MASKED_EQ", 0xff << 32, 3 << 32, vec![3 << 32, 3 << 32 | 7], vec![2 << 32, 3]),
        ("MASKED_EQ", 1 << 50 | 1, 1 << 50 | 1, vec![1 << 50 | 1, u64::MAX], vec![1, 1 << 50]),
        ("MASKED_EQ", 0xf0, 0x5f, vec![0x50, 0x5f], vec![0x40]), // bits beyond the mask do not count
        ("MASKED_EQ", 0, 0, vec![0, u64::MAX], vec![]),
    ];
    for (op, value, value_two, holds, fails) in cases {
        for index in [0, 5] {
            let rules = vec![rule(&["read"], "ALLOW", vec![arg(index, op, value, value_two)])];
            let filter = compile(&profile("ERRNO", &[], rules), Arch::Aarch64);
            for (values, expect) in [(&holds, ALLOW), (&fails, EPERM)] {
                for actual in values {
                    let mut args = [0xdead_beef_dead_beef; 6];
                    args[index as usize] = *actual;
                    let got = run(&filter, Arch::Aarch64, 63, args);
                    assert_eq!(got, expect, "{op} {value:#x} {value_two:#x} of {actual:#x} in argument {index}");
                }
            }
        }
    }
}

#[test]
fn narrow_architectures_compare_32_bits() {
    for (arch, read) in [(Arch::X86, 3), (Arch::X32, 0x4000_0000), (Arch::Arm, 3)] {
        let rules = vec![
            rule(&["read"], "ALLOW", vec![arg(0, "EQ", u64::MAX, 0)]),
            rule(&["read"], "TRAP", vec![arg(1, "MASKED_EQ", 0xff << 32 | 1, 1)]),
        ];
        let filter = compile(&profile("ERRNO", &[], rules), arch);
        let cases = [(0xffff_ffff, 0, ALLOW), (u64::MAX, 0, ALLOW), (0xffff_fffe, 0, EPERM), (0, 1, 0x0003_0000)];
        for (first, second, expect) in cases {
            assert_eq!(
                run(&filter, arch, read, [first, second, 0, 0, 0, 0]),
                expect,
                "{arch:?} {first:#x} {second:#x}"
            );
        }
    }
}

#[test]
fn actions_become_the_kernels_values() {
    let cases = [
        ("KILL", None, 0),
        ("KILL_THREAD", None, 0),
        ("KILL_PROCESS", None, 0x8000_0000),
        ("TRAP", None, 0x0003_0000),
        ("ERRNO", None, EPERM),
        ("ERRNO", Some(0), 0x0005_0000),
        ("ERRNO", Some(38), ENOSYS),
        ("TRACE", None, 0x7ff0_0001),
        ("TRACE", Some(0xffff), 0x7ff0_ffff),
        ("ALLOW", None, ALLOW),
        ("LOG", None, 0x7ffc_0000),
        ("NOTIFY", None, 0x7fc0_0000),
    ];
    for (action, errno, expect) in cases {
        let with = |default: &str, default_errno| Seccomp {
            default_errno_ret: default_errno,
            listener_path: "/run/agent".to_owned(),
            syscalls: vec![SyscallRule { errno_ret: errno, ..rule(&["close"], action, vec![]) }],
            ..profile(default, &[], vec![])
        };
        let filter = compile(&with("ERRNO", Some(77)), Arch::X86_64);
        assert_eq!(run(&filter, Arch::X86_64, 3, [0; 6]), expect, "{action} in a rule");
        assert_eq!(filter.notify, action == "NOTIFY");
        if action != "NOTIFY" {
            let filter = compile(&Seccomp { syscalls: vec![], ..with(action, errno) }, Arch::X86_64);
            assert_eq!(run(&filter, Arch::X86_64, 3, [0; 6]), expect, "{action} as default");
        }
    }
}

#[test]
fn rules_of_one_call_are_alternatives() {
    let any = vec![
        rule(&["read"], "ALLOW", vec![arg(0, "EQ", 1, 0), arg(1, "EQ", 2, 0)]),
        rule(&["read"], "ALLOW", vec![arg(0, "EQ", 5, 0)]),
        // Two conditions on one argument are alternatives, and then all of the rule's are.
        rule(&["write"], "ALLOW", vec![arg(0, "EQ", 1, 0), arg(0, "EQ", 2, 0), arg(1, "EQ", 9, 0)]),
        rule(&["close", "unknown_call", "close"], "ALLOW", vec![]),
    ];
    let filter = compile(&profile("ERRNO", &[], any), Arch::X86_64);
    let cases = [
        (0, [1, 2], ALLOW),
        (0, [1, 3], EPERM),
        (0, [5, 3], ALLOW),
        (1, [1, 0], ALLOW),
        (1, [2, 0], ALLOW),
        (1, [0, 9], ALLOW),
        (1, [0, 0], EPERM),
        (3, [0, 0], ALLOW),
        (2, [0, 0], EPERM),
    ];
    for (nr, [first, second], expect) in cases {
        assert_eq!(run(&filter, Arch::X86_64, nr, [first, second, 0, 0, 0, 0]), expect, "{nr} {first} {second}");
    }
}

#[test]
fn overlapping_rules_have_an_order() {
    let trap = 0x0003_0000;
    let eq = |index, value| vec![arg(index, "EQ", value, 0)];
    let cases: [(&str, Vec<SyscallRule>, [u64; 2], u32); 8] = [
        (
            "the first plain rule",
            vec![rule(&["read"], "ALLOW", vec![]), rule(&["read"], "TRAP", vec![])],
            [0, 0],
            ALLOW,
        ),
        (
            "plain over conditions",
            vec![rule(&["read"], "TRAP", eq(0, 1)), rule(&["read"], "ALLOW", vec![])],
            [1, 0],
            ALLOW,
        ),
        (
            "first of the same",
            vec![rule(&["read"], "TRAP", eq(0, 1)), rule(&["read"], "ALLOW", eq(0, 1))],
            [1, 0],
            trap,
        ),
        ("higher argument", vec![rule(&["read"], "TRAP", eq(0, 1)), rule(&["read"], "ALLOW", eq(1, 1))], [1, 1], ALLOW),
        (
            "equality before order",
            vec![rule(&["read"], "TRAP", vec![arg(0, "GE", 1, 0)]), rule(&["read"], "ALLOW", eq(0, 7))],
            [7, 0],
            ALLOW,
        ),
        (
            "higher bound first",
            vec![rule(&["read"], "TRAP", vec![arg(0, "GT", 1, 0)]), rule(&["read"], "ALLOW", vec![arg(0, "GT", 5, 0)])],
            [7, 0],
            ALLOW,
        ),
        (
            "shorter before longer",
            vec![
                rule(&["read"], "TRAP", vec![arg(0, "EQ", 1, 0), arg(1, "EQ", 2, 0)]),
                rule(&["read"], "ALLOW", eq(0, 1)),
            ],
            [1, 2],
            ALLOW,
        ),
        (
            "the default's action does nothing",
            vec![rule(&["read"], "ERRNO", vec![]), rule(&["read"], "ALLOW", vec![])],
            [0, 0],
            ALLOW,
        ),
    ];
    for (what, rules, [first, second], expect) in cases {
        let filter = compile(&profile("ERRNO", &[], rules), Arch::X86_64);
        assert_eq!(run(&filter, Arch::X86_64, 0, [first, second, 0, 0, 0, 0]), expect, "{what}");
    }
}

#[test]
fn architectures_are_told_apart() {
    let allow_read = || vec![rule(&["read"], "ALLOW", vec![])];
    let x86 = compile(&profile("KILL_PROCESS", &[Arch::X86], allow_read()), Arch::X86_64);
    let all = compile(&profile("KILL_PROCESS", &Arch::ALL, allow_read()), Arch::X86_64);
    let x32 = compile(&profile("KILL_PROCESS", &[], allow_read()), Arch::X32);
    let foreign =
        Seccomp { architectures: vec!["SCMP_ARCH_S390X".to_owned()], ..profile("KILL_PROCESS", &[], allow_read()) };
    let foreign = compile(&foreign, Arch::X86_64);
    let default = 0x8000_0000;
    let cases = [
        (&x86, Arch::X86_64, 0, ALLOW),
        (&x86, Arch::X86, 3, ALLOW),
        (&x86, Arch::X86, 0, default),
        (&x86, Arch::X32, 0x4000_0000, KILL),
        (&x86, Arch::X86_64, 0xffff_ffff, default),
        (&x86, Arch::Aarch64, 63, KILL),
        (&all, Arch::X32, 0x4000_0000, ALLOW),
        (&all, Arch::X86_64, 0, ALLOW),
        (&all, Arch::Aarch64, 63, ALLOW),
        (&all, Arch::Aarch64, 62, default),
        (&all, Arch::Aarch64, 64, ENOSYS),
        (&all, Arch::Arm, 3, ALLOW),
        (&x32, Arch::X32, 0x4000_0000, ALLOW),
        (&x32, Arch::X86_64, 0, KILL),
        (&foreign, Arch::X86_64, 0, ALLOW),
        (&foreign, Arch::X86, 3, KILL),
    ];
    for (filter, arch, nr, expect) in cases {
        assert_eq!(run(filter, arch, nr, [0; 6]), expect, "{arch:?} {nr:#x}");
    }
    let s390x = SeccompData { arch: 0x8000_0016, ..call(Arch::X86_64, 3, [0; 6]) };
    assert_eq!(simulate(&foreign.program, &s390x), Ok(KILL));
}

#[test]
fn newer_calls_do_not_exist() {
    let rules = |action: &str| vec![rule(&["openat2", "read"], action, vec![])];
    let cases = [
        ("ERRNO", "ALLOW", None, 437, ALLOW),
        ("ERRNO", "ALLOW", None, 438, ENOSYS),
        ("ERRNO", "ALLOW", None, 436, EPERM),
        ("ERRNO", "ALLOW", Some(38), 436, ENOSYS),
        ("KILL", "ALLOW", None, 438, ENOSYS),
        ("TRAP", "ALLOW", None, 438, ENOSYS),
        ("ALLOW", "ERRNO", None, 438, ALLOW),
        ("LOG", "ERRNO", None, 438, 0x7ffc_0000),
        ("TRACE", "ERRNO", None, 438, 0x7ff0_0001),
        ("ERRNO", "ERRNO", None, 438, ENOSYS), // the rule does nothing, but tells how new the profile is
    ];
    for (default, action, default_errno_ret, nr, expect) in cases {
        let profile = Seccomp { default_errno_ret, ..profile(default, &[], rules(action)) };
        let filter = compile(&profile, Arch::X86_64);
        assert_eq!(run(&filter, Arch::X86_64, nr, [0; 6]), expect, "{default} {action} {nr}");
    }
    let none = compile(&profile("ERRNO", &[], vec![]), Arch::X86_64);
    assert_eq!(run(&none, Arch::X86_64, 400, [0; 6]), EPERM, "a profile that names nothing is not old");
    let zero = compile(&profile("ERRNO", &[], vec![rule(&["read"], "ALLOW", vec![])]), Arch::X86_64);
    assert_eq!(run(&zero, Arch::X86_64, 400, [0; 6]), EPERM, "number 0 alone tells nothing");
    let arm = compile(&profile("ERRNO", &[], vec![rule(&["set_tls", "openat2"], "ALLOW", vec![])]), Arch::Arm);
    let cases = [(437, ALLOW), (438, ENOSYS), (0xf_0005, ALLOW), (0xf_0004, EPERM), (0xf_0006, ENOSYS), (436, EPERM)];
    for (nr, expect) in cases {
        assert_eq!(run(&arm, Arch::Arm, nr, [0; 6]), expect, "arm {nr:#x}");
    }
}

#[test]
fn x86_calls_through_others() {
    let rules = vec![
        rule(&["socket"], "ALLOW", vec![arg(0, "EQ", 1, 0)]),
        rule(&["sendmsg"], "TRAP", vec![arg(0, "EQ", 77, 0), arg(2, "EQ", 3, 0)]),
        rule(&["shmget"], "ALLOW", vec![]),
    ];
    let filter = compile(&profile("ERRNO", &[], rules), Arch::X86);
    let cases = [
        (359, [1, 0, 0], ALLOW),
        (359, [2, 0, 0], EPERM),
        (102, [1, 0, 0], ALLOW),        // socket, wherever its own arguments are
        (102, [16, 0, 3], 0x0003_0000), // sendmsg
        (102, [16, 0, 4], EPERM),
        (102, [2, 0, 0], EPERM),
        (117, [23, 0, 0], ALLOW), // shmget
        (117, [0x1_0017, 0, 0], ALLOW),
        (117, [24, 0, 0], EPERM),
        (395, [0, 0, 0], ALLOW),
    ];
    for (nr, [a, b, c], expect) in cases {
        assert_eq!(run(&filter, Arch::X86, nr, [a, b, c, 0, 0, 0]), expect, "{nr} {a:#x} {c}");
    }
}

/// The call that others are made through has rules even if nothing else about the profile would lead there.
#[test]
fn x86_calls_only_through_others() {
    let filter = compile(&profile("ALLOW", &[], vec![rule(&["send"], "ERRNO", vec![])]), Arch::X86);
    for (number, expect) in [(9, EPERM), (10, ALLOW)] {
        assert_eq!(run(&filter, Arch::X86, 102, [number, 0, 0, 0, 0, 0]), expect, "{number}");
    }
}

#[test]
fn flags_and_listener_are_kept() {
    let base = || profile("ALLOW", &[], vec![]);
    let of = |names: &[&str]| {
        let flags = names.iter().map(|name| format!("SECCOMP_FILTER_FLAG_{name}")).collect();
        compile(&Seccomp { flags, ..base() }, Arch::X86_64)
    };
    let cases: [(&[&str], u32, u32); 6] = [
        (&[], 4, 4),
        (&["LOG"], 2, 2),
        (&["SPEC_ALLOW", "LOG"], 6, 6),
        (&["TSYNC"], 0, 0),
        (&["WAIT_KILLABLE_RECV"], 32, 0),
        (&["LOG", "WAIT_KILLABLE_RECV", "LOG"], 34, 2),
    ];
    for (names, bits, load) in cases {
        let filter = of(names);
        assert_eq!((filter.flags.bits(), filter.load_flags().bits()), (bits, load), "{names:?}");
    }
    let notify = Seccomp {
        flags: vec!["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".to_owned()],
        syscalls: vec![rule(&["mkdir"], "NOTIFY", vec![])],
        listener_path: "/run/agent.sock".to_owned(),
        listener_metadata: "meta".to_owned(),
        ..base()
    };
    let filter = compile(&notify, Arch::X86_64);
    assert!(filter.notify && filter.load_flags().contains(Flags::NEW_LISTENER.with(Flags::WAIT_KILLABLE_RECV)));
    assert_eq!((filter.listener_path.as_str(), filter.listener_metadata.as_str()), ("/run/agent.sock", "meta"));
    let unused = compile(&Seccomp { syscalls: vec![], ..notify }, Arch::X86_64);
    assert!(!unused.notify && unused.listener_path.is_empty() && unused.listener_metadata.is_empty());
}

#[test]
fn wrong_profiles_are_refused() {
    let base = || profile("ERRNO", &[], vec![]);
    let with = |rule: SyscallRule| Seccomp { syscalls: vec![rule], ..base() };
    let one = |arg: SyscallArg| with(rule(&["read"], "ALLOW", vec![arg]));
    let cases: Vec<(Seccomp, &str)> = vec![
        (Seccomp { default_action: String::new(), ..base() }, "seccomp defaultAction: unknown action \"\""),
        (profile("Allow", &[], vec![]), "seccomp defaultAction: unknown action \"SCMP_ACT_Allow\""),
        (with(rule(&["read"], "NOPE", vec![])), "seccomp syscalls[0]: unknown action"),
        (one(arg(0, "XX", 0, 0)), "seccomp syscalls[0].args[0]: unknown operator \"SCMP_CMP_XX\""),
        (one(arg(6, "EQ", 0, 0)), "seccomp syscalls[0].args: there is no argument 6"),
        (with(rule(&["read", ""], "ALLOW", vec![])), "seccomp syscalls[0].names: an empty string"),
        (Seccomp { architectures: vec!["SCMP_ARCH_VAX".to_owned()], ..base() }, "seccomp architectures: unknown"),
        (Seccomp { flags: vec!["SECCOMP_FILTER_FLAG_X".to_owned()], ..base() }, "seccomp flags: unknown flag"),
        (
            Seccomp { default_errno_ret: Some(1), ..profile("KILL", &[], vec![]) },
            "seccomp defaultAction: SCMP_ACT_KILL takes no",
        ),
        (
            with(SyscallRule { errno_ret: Some(1), ..rule(&["read"], "ALLOW", vec![]) }),
            "seccomp syscalls[0]: SCMP_ACT_ALLOW takes no",
        ),
        (Seccomp { default_errno_ret: Some(65536), ..base() }, "seccomp defaultAction: error number 65536"),
        (profile("NOTIFY", &[], vec![]), "seccomp defaultAction: SCMP_ACT_NOTIFY cannot be the default"),
        (
            with(rule(&["read", "write"], "NOTIFY", vec![])),
            "seccomp syscalls[0]: SCMP_ACT_NOTIFY cannot be used for the write",
        ),
        (with(rule(&["read"], "NOTIFY", vec![])), "seccomp listenerPath: SCMP_ACT_NOTIFY is used"),
        (Seccomp { listener_metadata: "x".to_owned(), ..base() }, "seccomp listenerMetadata: set without"),
        (Seccomp { listener_path: "/a\0b".to_owned(), ..base() }, "seccomp listenerPath: longer than"),
        (with(rule(&["read"], "ALLOW", vec![arg(0, "EQ", 1, 0); 5000])), "seccomp syscalls: more than 4096 conditions"),
        (
            with(rule(&["read"], "ALLOW", (0..4000).map(|n| arg((n % 6) as u32, "EQ", n << 32 | n, 0)).collect())),
            "seccomp: the profile needs more than 4096 instructions",
        ),
    ];
    for (profile, expect) in cases {
        let error = try_compile(&profile, Arch::X86_64).expect_err(expect).to_string();
        assert!(error.starts_with(expect), "{error}\nis not\n{expect}");
    }
    // Every call has thousands of conditions, no two calls the same: refused before that takes long.
    let names: Vec<&str> = Arch::X86_64.calls().map(|(_, name)| name).collect();
    let many = (0..4000).map(|n| arg((n % 2) as u32, "NE", n, 0)).collect();
    let mut each: Vec<_> =
        names.iter().map(|name| rule(&[name], "ALLOW", vec![arg(5, "EQ", name.len() as u64, 0)])).collect();
    each.insert(0, rule(&names, "ALLOW", many));
    assert_eq!(try_compile(&profile("ERRNO", &Arch::ALL, each), Arch::X86_64), Err(Error::TooLong));
    let long: Vec<_> = (0..5000).map(|n| rule(&["read"], "ALLOW", vec![arg(0, "EQ", n, 0)])).collect();
    assert_eq!(try_compile(&profile("ERRNO", &[], long), Arch::X86_64), Err(Error::TooManyConditions));
}

#[test]
fn programs_up_to_the_limit_are_made() {
    // 3,000 values of one argument: jumps longer than a conditional one reaches, and no deep recursion.
    let rules = vec![rule(&["read"], "ALLOW", (0..3000).map(|n| arg(2, "EQ", n * 3, 0)).collect())];
    let filter = compile(&profile("ERRNO", &[], rules), Arch::X86_64);
    assert!(filter.program.len() < 3100, "{}", filter.program.len());
    for value in [0, 1, 3, 4500, 8997, 8998, 9000, 3 << 32] {
        let expect = if value < 9000 && value % 3 == 0 { ALLOW } else { EPERM };
        assert_eq!(run(&filter, Arch::X86_64, 0, [1, 1, value, 1, 1, 1]), expect, "{value}");
    }
    // Every call with an outcome of its own.
    let names: Vec<_> = Arch::X86_64.calls().collect();
    let errnos =
        names.iter().map(|(nr, name)| SyscallRule { errno_ret: Some(1000 + nr), ..rule(&[name], "ERRNO", vec![]) });
    let filter = compile(&profile("ALLOW", &[], errnos.collect()), Arch::X86_64);
    for (nr, name) in names {
        assert_eq!(run(&filter, Arch::X86_64, nr, [0; 6]), 0x0005_0000 | (1000 + nr), "{name}");
    }
}

/// The sizes of filters that everyone loads. A change that makes one longer must be seen, and meant.
#[test]
fn usual_profiles_stay_small() {
    let cases = [
        ("docker", DOCKER, Arch::X86_64, 225),
        ("docker arm", DOCKER_ARM, Arch::Aarch64, 170),
        ("podman", PODMAN, Arch::X86_64, 252),
    ];
    for (name, text, native, most) in cases {
        let filter = compile(&parse(text), native);
        println!("{name}: {} instructions", filter.program.len());
        assert!(filter.program.len() <= most, "{name}: {} instructions", filter.program.len());
    }
}
