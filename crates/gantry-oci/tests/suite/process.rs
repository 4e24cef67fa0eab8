//! The process: identity, capabilities, limits, scheduling, surroundings (config.md, Process).

use gantry_model::oci::linux::{Cpu, MemoryPolicy, Personality, TimeOffset};
use gantry_model::oci::spec::{IoPriority, Rlimit, Scheduler, User};
use gantry_testkit::json::at;
use gantry_testkit::spec::{Parts, caps, strings};
use gantry_testkit::{Container, Kit, Outcome, Test, ensure, ensure_eq};

use crate::check::{Case, Refused, expect, refused_tests, report_tests, test};

/// The tests of this area.
pub fn tests() -> Vec<Test> {
    let mut all = report_tests("process", CASES);
    all.extend(report_tests("sysctl", SYSCTLS));
    all.extend(refused_tests("process", REFUSED));
    all.extend([
        test("process::io_priority_best_effort", |kit| io_priority(kit, "IOPRIO_CLASS_BE", 6, "best-effort: prio 6")),
        test("process::io_priority_idle", |kit| io_priority(kit, "IOPRIO_CLASS_IDLE", 0, "idle")),
        test("process::io_priority_realtime", |kit| io_priority(kit, "IOPRIO_CLASS_RT", 2, "realtime: prio 2")),
        test("process::time_offsets", time_offsets),
        test("process::capability_unknown_is_ignored", capability_unknown),
        test("process::oom_score_absent_keeps", oom_score_absent),
        test("process::exit_codes", exit_codes),
        test("process::killed_by_signal", killed_by_signal),
        test("process::standard_input", standard_input),
        test("process::descriptors_are_closed", descriptors),
        test("process::session_is_new", session),
    ]);
    all
}

fn rlimit(kind: &str, soft: u64, hard: u64) -> Rlimit {
    Rlimit { kind: kind.into(), soft, hard }
}

fn scheduler(policy: &str) -> Scheduler {
    Scheduler { policy: policy.into(), ..Scheduler::default() }
}

fn policy(mode: &str, nodes: &str, flags: &[&str]) -> MemoryPolicy {
    MemoryPolicy { mode: mode.into(), nodes: nodes.into(), flags: strings(flags) }
}

fn user(container: &mut Container<'_>, uid: u32, gid: u32, groups: &[u32]) {
    container.spec.process_mut().user = User { uid, gid, umask: None, additional_gids: groups.to_vec() };
}

const CASES: &[Case] = &[
    Case {
        name: "user_is_root",
        change: |_| Ok(()),
        expect: &[("/uid", "0"), ("/gid", "0"), ("/groups", "[]"), ("/umask", "\"0022\""), ("/pid", "1")],
    },
    Case {
        name: "user_and_groups",
        change: |c| {
            user(c, 1000, 1001, &[50, 2000]);
            Ok(())
        },
        expect: &[("/uid", "1000"), ("/euid", "1000"), ("/gid", "1001"), ("/egid", "1001"), ("/groups", "[50,2000]")],
    },
    Case {
        name: "umask",
        change: |c| {
            c.spec.process_mut().user.umask = Some(0o27);
            Ok(())
        },
        expect: &[("/umask", "\"0027\"")],
    },
    Case {
        name: "working_directory",
        change: |c| {
            c.spec.process_mut().cwd = "/tmp".into();
            Ok(())
        },
        expect: &[("/cwd", "\"/tmp\"")],
    },
    Case {
        name: "working_directory_is_made",
        change: |c| {
            c.spec.process_mut().cwd = "/made/for/it".into();
            Ok(())
        },
        expect: &[("/cwd", "\"/made/for/it\"")],
    },
    Case {
        name: "environment",
        change: |c| {
            c.spec.process_mut().env.extend(strings(&["A=1", "B=x=y", "EMPTY="]));
            Ok(())
        },
        expect: &[("/env/A", "\"1\""), ("/env/B", "\"x=y\""), ("/env/EMPTY", "\"\""), ("/env/HOME", "\"/root\"")],
    },
    Case {
        name: "home_of_the_user",
        change: |c| {
            user(c, 1000, 1000, &[]);
            Ok(())
        },
        expect: &[("/env/HOME", "\"/home\"")],
    },
    Case {
        name: "home_that_is_given",
        change: |c| {
            c.spec.process_mut().env.push("HOME=/else".into());
            Ok(())
        },
        expect: &[("/env/HOME", "\"/else\"")],
    },
    Case {
        name: "environment_of_the_runtime_stays_outside",
        change: |c| {
            c.env.push(("GANTRY_SECRET".into(), "yes".into()));
            Ok(())
        },
        expect: &[("/env/GANTRY_SECRET", "null")],
    },
    Case {
        name: "program_by_path_variable",
        change: |c| {
            std::fs::hard_link(c.rootfs("init"), c.rootfs("usr/bin/init"))?;
            c.spec.set_args(&["init", "report"]);
            Ok(())
        },
        expect: &[("/exe", "\"/usr/bin/init\""), ("/args/0", "\"init\"")],
    },
    Case {
        name: "rlimits",
        change: |c| {
            c.spec.process_mut().rlimits = vec![
                rlimit("RLIMIT_NOFILE", 100, 200),
                rlimit("RLIMIT_CORE", 0, 0),
                rlimit("RLIMIT_STACK", 8 << 20, u64::MAX),
                rlimit("RLIMIT_NPROC", 5000, 6000),
                rlimit("RLIMIT_RTTIME", 7_000_000, 8_000_000),
                rlimit("RLIMIT_MEMLOCK", 65536, 65536),
            ];
            Ok(())
        },
        expect: &[
            ("/rlimits/RLIMIT_NOFILE", r#"{"soft":100,"hard":200}"#),
            ("/rlimits/RLIMIT_CORE", r#"{"soft":0,"hard":0}"#),
            ("/rlimits/RLIMIT_STACK", r#"{"soft":8388608,"hard":null}"#),
            ("/rlimits/RLIMIT_NPROC", r#"{"soft":5000,"hard":6000}"#),
            ("/rlimits/RLIMIT_RTTIME", r#"{"soft":7000000,"hard":8000000}"#),
            ("/rlimits/RLIMIT_MEMLOCK", r#"{"soft":65536,"hard":65536}"#),
        ],
    },
    Case {
        name: "capabilities_default",
        change: |_| Ok(()),
        expect: &[
            ("/caps/bounding", r#"["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE"]"#),
            ("/caps/permitted", r#"["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE"]"#),
            ("/caps/effective", r#"["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE"]"#),
            ("/caps/inheritable", "[]"),
            ("/caps/ambient", "[]"),
        ],
    },
    Case {
        name: "capabilities_none",
        change: |c| {
            c.spec.process_mut().capabilities = Some(caps(&[]));
            Ok(())
        },
        expect: &[
            ("/caps/bounding", "[]"),
            ("/caps/permitted", "[]"),
            ("/caps/effective", "[]"),
            ("/caps/ambient", "[]"),
        ],
    },
    Case {
        name: "capabilities_absent",
        change: |c| {
            c.spec.process_mut().capabilities = None;
            Ok(())
        },
        expect: &[
            ("/caps/permitted", "[]"),
            ("/caps/effective", "[]"),
            ("/caps/inheritable", "[]"),
            ("/caps/ambient", "[]"),
        ],
    },
    Case {
        name: "capabilities_of_a_user",
        change: |c| {
            user(c, 1000, 1000, &[]);
            Ok(())
        },
        expect: &[
            ("/caps/bounding", r#"["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE"]"#),
            ("/caps/permitted", "[]"),
            ("/caps/effective", "[]"),
            ("/caps/inheritable", "[]"),
        ],
    },
    Case {
        name: "capabilities_ambient",
        change: |c| {
            user(c, 1000, 1000, &[]);
            let mut sets = caps(&["CAP_NET_RAW", "CAP_CHOWN"]);
            sets.inheritable = strings(&["CAP_NET_RAW"]);
            sets.ambient = strings(&["CAP_NET_RAW"]);
            c.spec.process_mut().capabilities = Some(sets);
            Ok(())
        },
        expect: &[
            ("/caps/ambient", r#"["CAP_NET_RAW"]"#),
            ("/caps/effective", r#"["CAP_NET_RAW"]"#),
            ("/caps/permitted", r#"["CAP_NET_RAW"]"#),
            ("/caps/inheritable", r#"["CAP_NET_RAW"]"#),
            ("/caps/bounding", r#"["CAP_CHOWN","CAP_NET_RAW"]"#),
        ],
    },
    Case { name: "no_new_privileges", change: |_| Ok(()), expect: &[("/no_new_privs", "true")] },
    Case {
        name: "new_privileges",
        change: |c| {
            c.spec.process_mut().no_new_privileges = false;
            Ok(())
        },
        expect: &[("/no_new_privs", "false")],
    },
    Case {
        name: "oom_score",
        change: |c| {
            c.spec.process_mut().oom_score_adj = Some(321);
            Ok(())
        },
        expect: &[("/oom_score_adj", "321")],
    },
    Case {
        name: "oom_score_negative",
        change: |c| {
            // Below what the tests themselves have, this takes CAP_SYS_RESOURCE.
            if std::fs::write("/proc/self/oom_score_adj", "-1000").is_err() {
                return gantry_testkit::outcome::skip("the tests may not lower an OOM score (no CAP_SYS_RESOURCE)");
            }
            std::fs::write("/proc/self/oom_score_adj", "0")?;
            c.spec.process_mut().oom_score_adj = Some(-1000);
            Ok(())
        },
        expect: &[("/oom_score_adj", "-1000")],
    },
    Case {
        name: "personality_linux32",
        change: |c| {
            c.spec.linux_mut().personality = Some(Personality { domain: "LINUX32".into(), flags: Vec::new() });
            Ok(())
        },
        expect: &[("/machine", "\"i686\""), ("/personality", "\"00000008\"")],
    },
    Case {
        name: "personality_linux",
        change: |c| {
            c.spec.linux_mut().personality = Some(Personality { domain: "LINUX".into(), flags: Vec::new() });
            Ok(())
        },
        expect: &[("/machine", "\"x86_64\""), ("/personality", "\"00000000\"")],
    },
    Case {
        name: "scheduler_batch",
        change: |c| {
            c.spec.process_mut().scheduler = Some(Scheduler { nice: 5, ..scheduler("SCHED_BATCH") });
            Ok(())
        },
        expect: &[("/scheduler/policy", "3"), ("/scheduler/nice", "5")],
    },
    Case {
        name: "scheduler_other",
        change: |c| {
            c.spec.process_mut().scheduler = Some(Scheduler { nice: -7, ..scheduler("SCHED_OTHER") });
            Ok(())
        },
        expect: &[("/scheduler/policy", "0"), ("/scheduler/nice", "-7")],
    },
    Case {
        name: "scheduler_idle",
        change: |c| {
            c.spec.process_mut().scheduler = Some(scheduler("SCHED_IDLE"));
            Ok(())
        },
        expect: &[("/scheduler/policy", "5")],
    },
    Case {
        name: "scheduler_fifo",
        change: |c| {
            realtime(c);
            c.spec.process_mut().scheduler = Some(Scheduler { priority: 10, ..scheduler("SCHED_FIFO") });
            Ok(())
        },
        expect: &[("/scheduler/policy", "1"), ("/scheduler/priority", "10")],
    },
    Case {
        name: "scheduler_round_robin_reset_on_fork",
        change: |c| {
            realtime(c);
            let flags = strings(&["SCHED_FLAG_RESET_ON_FORK"]);
            c.spec.process_mut().scheduler = Some(Scheduler { priority: 3, flags, ..scheduler("SCHED_RR") });
            Ok(())
        },
        expect: &[("/scheduler/policy", "2"), ("/scheduler/priority", "3")],
    },
    Case {
        name: "scheduler_deadline",
        change: |c| {
            c.spec.process_mut().scheduler = Some(Scheduler {
                runtime: 10_000_000,
                deadline: 20_000_000,
                period: 30_000_000,
                ..scheduler("SCHED_DEADLINE")
            });
            Ok(())
        },
        expect: &[("/scheduler/policy", "6")],
    },
    Case {
        name: "memory_policy_bind",
        change: |c| {
            gantry_testkit::host::need_path("/proc/self/numa_maps", "memory policies")?;
            c.spec.linux_mut().memory_policy = Some(policy("MPOL_BIND", "0", &[]));
            Ok(())
        },
        expect: &[("/mempolicy", "\"bind:0\"")],
    },
    Case {
        name: "memory_policy_interleave_static",
        change: |c| {
            gantry_testkit::host::need_path("/proc/self/numa_maps", "memory policies")?;
            c.spec.linux_mut().memory_policy = Some(policy("MPOL_INTERLEAVE", "0", &["MPOL_F_STATIC_NODES"]));
            Ok(())
        },
        expect: &[("/mempolicy", "\"interleave=static:0\"")],
    },
    Case {
        name: "memory_policy_local",
        change: |c| {
            gantry_testkit::host::need_path("/proc/self/numa_maps", "memory policies")?;
            c.spec.linux_mut().memory_policy = Some(policy("MPOL_LOCAL", "", &[]));
            Ok(())
        },
        expect: &[("/mempolicy", "\"local\"")],
    },
    Case {
        name: "host_name",
        change: |c| {
            c.spec.hostname = "else.where".into();
            Ok(())
        },
        expect: &[("/hostname", "\"else.where\"")],
    },
    Case {
        name: "domain_name",
        change: |c| {
            c.spec.domainname = "example.org".into();
            Ok(())
        },
        expect: &[("/domainname", "\"example.org\""), ("/hostname", "\"gantry-test\"")],
    },
    Case {
        name: "no_terminal",
        change: |_| Ok(()),
        expect: &[("/tty/streams", "[false,false,false]"), ("/tty/controlling", "false")],
    },
    Case {
        name: "unknown_fields_are_ignored",
        change: |c| {
            let mut document = serde_json::to_value(&c.spec)?;
            document["unknown"] = "top".into();
            document["process"]["unknown"] = serde_json::json!({ "deep": [1, 2, 3] });
            document["linux"]["unknown"] = serde_json::Value::Null;
            document["linux"]["resources"]["unknown"] = 1.5.into();
            c.raw = Some(document.to_string());
            Ok(())
        },
        expect: &[("/pid", "1")],
    },
    Case {
        name: "nulls_are_absent",
        change: |c| {
            let mut document = serde_json::to_value(&c.spec)?;
            document["hooks"] = serde_json::Value::Null;
            document["annotations"] = serde_json::Value::Null;
            document["process"]["rlimits"] = serde_json::Value::Null;
            document["process"]["user"]["additionalGids"] = serde_json::Value::Null;
            document["linux"]["sysctl"] = serde_json::Value::Null;
            document["linux"]["seccomp"] = serde_json::Value::Null;
            document["linux"]["resources"]["memory"] = serde_json::Value::Null;
            c.raw = Some(document.to_string());
            Ok(())
        },
        expect: &[("/pid", "1")],
    },
];

/// Lets real-time policies in where version 1 shares real-time out by cgroup.
fn realtime(container: &mut Container<'_>) {
    let shared = container.kit.cgroups.holding("cpu").is_some_and(|one| one.path.join("cpu.rt_runtime_us").exists());
    if shared {
        let cpu = Cpu { realtime_period: Some(1_000_000), realtime_runtime: Some(10_000), ..Cpu::default() };
        container.spec.resources_mut().cpu = Some(cpu);
    }
}

/// Kernel parameters: each is set, and read back from inside.
const SYSCTLS: &[Case] = &[
    Case { name: "network", change: |c| sysctl(c, "net.ipv4.ip_forward", "1"), expect: &[] },
    Case { name: "network_deep_name", change: |c| sysctl(c, "net.ipv4.conf.lo.rp_filter", "2"), expect: &[] },
    Case { name: "network_slashes", change: |c| sysctl(c, "net/ipv4/conf/lo/forwarding", "1"), expect: &[] },
    Case { name: "ipc", change: |c| sysctl(c, "kernel.msgmax", "4242"), expect: &[] },
    Case { name: "message_queue", change: |c| sysctl(c, "fs.mqueue.msg_max", "17"), expect: &[] },
    Case { name: "domain_name", change: |c| sysctl(c, "kernel.domainname", "by.sysctl"), expect: &[] },
];

/// Sets a parameter, and makes the program fail unless it reads it back.
fn sysctl(container: &mut Container<'_>, name: &str, value: &str) -> Outcome {
    container.spec.linux_mut().sysctl.insert(name.into(), value.into());
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    container.spec.set_args(&["/init", "cat", &path]);
    let found = container.run_ok()?.stdout;
    ensure_eq!(found.trim(), value, "{path}");
    container.spec.set_args(&["/init", "report"]);
    Ok(())
}

const REFUSED: &[Refused] = &[
    Refused {
        name: "rlimit_unknown_is_refused",
        change: |c| {
            c.spec.process_mut().rlimits = vec![rlimit("RLIMIT_NONE", 1, 1)];
            Ok(())
        },
        says: "rlimit",
    },
    Refused {
        name: "rlimit_twice_is_refused",
        change: |c| {
            c.spec.process_mut().rlimits = vec![rlimit("RLIMIT_CORE", 0, 0), rlimit("RLIMIT_CORE", 1, 1)];
            Ok(())
        },
        says: "rlimit",
    },
    Refused {
        name: "relative_working_directory_is_refused",
        change: |c| {
            c.spec.process_mut().cwd = "tmp".into();
            Ok(())
        },
        says: "cwd",
    },
    Refused {
        name: "empty_working_directory_is_refused",
        change: |c| {
            c.spec.process_mut().cwd = String::new();
            Ok(())
        },
        says: "cwd",
    },
    Refused {
        name: "no_arguments_are_refused",
        change: |c| {
            c.spec.set_args(&[]);
            Ok(())
        },
        says: "args",
    },
    Refused {
        name: "scheduler_unknown_is_refused",
        change: |c| {
            c.spec.process_mut().scheduler = Some(scheduler("SCHED_NONE"));
            Ok(())
        },
        says: "sched",
    },
    Refused {
        name: "io_priority_unknown_is_refused",
        change: |c| {
            c.spec.process_mut().io_priority = Some(IoPriority { class: "IOPRIO_CLASS_NO".into(), priority: 1 });
            Ok(())
        },
        says: "ioprio",
    },
    Refused {
        name: "memory_policy_unknown_is_refused",
        change: |c| {
            c.spec.linux_mut().memory_policy = Some(policy("MPOL_NO", "0", &[]));
            Ok(())
        },
        says: "mpol",
    },
    Refused {
        name: "oom_score_out_of_range_is_refused",
        change: |c| {
            c.spec.process_mut().oom_score_adj = Some(1001);
            Ok(())
        },
        says: "oom",
    },
    Refused {
        name: "personality_unknown_is_refused",
        change: |c| {
            c.spec.linux_mut().personality = Some(Personality { domain: "HURD".into(), flags: Vec::new() });
            Ok(())
        },
        says: "",
    },
    Refused {
        name: "host_name_without_namespace_is_refused",
        change: |c| {
            c.spec.drop_namespace("uts");
            Ok(())
        },
        says: "hostname",
    },
    Refused {
        name: "time_offsets_without_namespace_are_refused",
        change: |c| {
            c.spec.linux_mut().time_offsets.insert("monotonic".into(), TimeOffset { secs: 1, nanosecs: 0 });
            Ok(())
        },
        says: "time",
    },
    Refused {
        name: "time_offset_of_an_unknown_clock_is_refused",
        change: |c| {
            c.spec.add_namespace("time");
            c.spec.linux_mut().time_offsets.insert("realtime".into(), TimeOffset { secs: 1, nanosecs: 0 });
            Ok(())
        },
        says: "realtime",
    },
    Refused {
        name: "sysctl_of_the_host_is_refused",
        change: |c| {
            c.spec.linux_mut().sysctl.insert("kernel.panic".into(), "0".into());
            Ok(())
        },
        says: "kernel.panic",
    },
    Refused {
        name: "sysctl_of_the_host_network_is_refused",
        change: |c| {
            c.spec.drop_namespace("network");
            c.spec.linux_mut().sysctl.insert("net.ipv4.ip_forward".into(), "0".into());
            Ok(())
        },
        says: "net.ipv4.ip_forward",
    },
    Refused {
        name: "sysctl_with_parent_directories_is_refused",
        change: |c| {
            c.spec.linux_mut().sysctl.insert("net/../kernel/panic".into(), "0".into());
            Ok(())
        },
        says: "kernel/panic",
    },
];

fn io_priority(kit: &Kit, class: &str, priority: i32, expect: &str) -> Outcome {
    kit.need_busybox()?;
    let mut container = kit.container()?;
    container.spec.process_mut().io_priority = Some(IoPriority { class: class.into(), priority });
    container.spec.set_args(&["/bin/ionice"]);
    let found = container.run_ok()?.stdout;
    ensure!(found.trim().starts_with(expect), "ionice says {found:?}, expected {expect:?}");
    Ok(())
}

fn time_offsets(kit: &Kit) -> Outcome {
    gantry_testkit::host::need_path("/proc/self/ns/time", "time namespaces")?;
    let mut container = kit.container()?;
    container.spec.add_namespace("time");
    let offsets = &mut container.spec.linux_mut().time_offsets;
    offsets.insert("monotonic".into(), TimeOffset { secs: 7_000_000, nanosecs: 0 });
    offsets.insert("boottime".into(), TimeOffset { secs: 9_000_000, nanosecs: 5 });
    let report = container.run_json()?;
    expect(&report, &[("/timens_offsets", r#"["monotonic 7000000 0","boottime 9000000 5"]"#)])?;
    let clock = |name: &str| at(&report, name).as_i64().unwrap_or_default();
    ensure!(clock("/clock/monotonic") >= 7_000_000, "monotonic clock {}", clock("/clock/monotonic"));
    ensure!(clock("/clock/boottime") >= 9_000_000, "boottime clock {}", clock("/clock/boottime"));
    Ok(())
}

fn capability_unknown(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.process_mut().capabilities = Some(caps(&["CAP_KILL", "CAP_FROM_THE_FUTURE"]));
    let report = container.run_json()?;
    expect(&report, &[("/caps/effective", r#"["CAP_KILL"]"#)])
}

fn oom_score_absent(kit: &Kit) -> Outcome {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj")?;
    let container = kit.container()?;
    let report = container.run_json()?;
    expect(&report, &[("/oom_score_adj", own.trim())])
}

fn exit_codes(kit: &Kit) -> Outcome {
    for code in [0, 1, 42, 125, 255] {
        let mut container = kit.container()?;
        container.spec.set_args(&["/init", "exit", &code.to_string()]);
        let output = container.run()?;
        ensure_eq!(output.status.code(), Some(code), "exit code ({})", output.text());
    }
    Ok(())
}

fn killed_by_signal(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    // The first process of a PID namespace cannot kill itself.
    container.spec.drop_namespace("pid");
    container.spec.set_args(&["/init", "signal", "9"]);
    let output = container.run()?;
    ensure_eq!(output.status.code(), Some(137), "exit code ({})", output.text());
    Ok(())
}

fn standard_input(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "stdin"]);
    container.write_config()?;
    std::fs::write(container.host("input"), "through and through")?;
    let mut command = container.command(&["run", &container.id]);
    command.stdin(std::fs::File::open(container.host("input"))?);
    let output =
        gantry_testkit::command::Running::start(&mut command, &container.output_dir())?.finish(kit.time(10.0))?;
    ensure_eq!(output.stdout.as_str(), "through and through", "output ({})", output.text());
    Ok(())
}

fn descriptors(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    let report = container.run_json()?;
    let fds = at(&report, "/fds").as_array().map(Vec::len);
    ensure_eq!(fds, Some(3), "open descriptors: {}", at(&report, "/fds"));
    Ok(())
}

fn session(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    let report = container.run_json()?;
    expect(&report, &[("/sid", "1"), ("/pgid", "1")])
}
