//! What profiles come to.

use std::collections::BTreeSet;

use super::*;

fn machine(arch: &str) -> Machine {
    Machine { arch: arch.to_owned(), kernel: (6, 1) }
}

fn names(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

const DEFAULT: &str = "CAP_AUDIT_WRITE CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_MKNOD \
    CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_CHROOT";

/// The rules after the first, one a line: names, error, argument.
fn lines(filter: &Seccomp) -> BTreeSet<String> {
    let line = |rule: &gantry_model::oci::seccomp::SyscallRule| {
        let errno = rule.errno_ret.map(|errno| format!(" errno {errno}")).unwrap_or_default();
        let args =
            rule.args.first().map(|arg| format!(" {} {} {:#x}", arg.index, arg.op, arg.value)).unwrap_or_default();
        format!("{}{errno}{args}", rule.names.join(" "))
    };
    filter.syscalls.iter().skip(1).map(line).collect()
}

#[test]
fn by_default_it_is_as_docker_has_it() {
    let check = |arch: &str, fixture: &str| {
        let expect: Seccomp = serde_json::from_str(fixture).unwrap();
        let found = seccomp(&names(DEFAULT), &machine(arch));
        assert_eq!(found, expect, "{arch}");
        // A profile of the runtime passes through.
        assert_eq!(resolve(fixture, &[], &machine(arch)), Ok(Some(expect)));
    };
    check("amd64", include_str!("../../../gantry-seccomp/tests/seccomp/fixtures/docker-x86_64.json"));
    check("arm64", include_str!("../../../gantry-seccomp/tests/seccomp/fixtures/docker-aarch64.json"));
}

#[test]
fn capabilities_open_and_close() {
    let none = lines(&seccomp(&[], &machine("amd64")));
    let check = |capabilities: &str, more: &[&str], less: &[&str]| {
        let found = lines(&seccomp(&names(capabilities), &machine("amd64")));
        let list =
            |set: &BTreeSet<String>, other: &BTreeSet<String>| set.difference(other).cloned().collect::<Vec<_>>();
        assert_eq!(list(&found, &none), more, "{capabilities} opens");
        assert_eq!(list(&none, &found), less, "{capabilities} closes");
    };
    check("CAP_CHOWN", &[], &[]);
    check(DEFAULT, &["chroot"], &[]);
    let admin = "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
        lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd \
        setdomainname sethostname setns syslog umount umount2 unshare";
    check("CAP_SYS_ADMIN", &[admin], &["clone 0 SCMP_CMP_MASKED_EQ 0x7e020000", "clone3 errno 38"]);
    check("CAP_DAC_READ_SEARCH CAP_SYS_BOOT", &["open_by_handle_at", "reboot"], &[]);
    check("CAP_SYS_MODULE", &["delete_module init_module finit_module"], &[]);
    check("CAP_SYS_PACCT CAP_SYS_TTY_CONFIG", &["acct", "vhangup"], &[]);
    let trace = "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace";
    check("CAP_SYS_PTRACE", &[trace], &[]);
    check("CAP_SYS_RAWIO CAP_SYSLOG", &["iopl ioperm", "syslog"], &[]);
    check("CAP_SYS_TIME", &["settimeofday stime clock_settime clock_settime64"], &[]);
    check("CAP_SYS_NICE", &["get_mempolicy mbind set_mempolicy set_mempolicy_home_node"], &[]);
    check("CAP_BPF CAP_PERFMON", &["bpf", "perf_event_open"], &[]);
}

#[test]
fn machines_differ() {
    let check = |arch: &str, kernel: (u32, u32), architectures: &str, has: &[&str], lacks: &[&str]| {
        let found = seccomp(&[], &Machine { arch: arch.to_owned(), kernel });
        let lines = lines(&found);
        assert_eq!(found.architectures, names(architectures), "{arch}");
        assert!(has.iter().all(|line| lines.contains(*line)), "{arch}: {has:?}");
        assert!(!lacks.iter().any(|line| lines.contains(*line)), "{arch}: {lacks:?}");
    };
    let trace = "process_vm_readv process_vm_writev ptrace";
    check("amd64", (4, 7), "SCMP_ARCH_X86_64 SCMP_ARCH_X86 SCMP_ARCH_X32", &["arch_prctl", "modify_ldt"], &[trace]);
    check("386", (4, 8), "", &["modify_ldt", trace], &["arch_prctl"]);
    check("riscv64", (6, 0), "SCMP_ARCH_RISCV64", &["riscv_flush_icache"], &["modify_ldt"]);
    let (first, second) = ("clone 0 SCMP_CMP_MASKED_EQ 0x7e020000", "clone 1 SCMP_CMP_MASKED_EQ 0x7e020000");
    check("s390x", (6, 0), "SCMP_ARCH_S390X SCMP_ARCH_S390", &[second], &[first]);
    check("ppc64le", (6, 0), "", &["sync_file_range2 swapcontext", first], &[second]);
    check("unheard", (6, 0), "", &[first], &["arch_prctl"]);
}

#[test]
fn equal_texts() {
    let text = |capabilities: &str| serde_json::to_string(&seccomp(&names(capabilities), &machine("amd64"))).unwrap();
    assert_eq!(text("CAP_CHOWN CAP_SYS_CHROOT"), text("CAP_SYS_CHROOT"));
}

#[test]
fn profiles_of_users() {
    let check = |text: &str, capabilities: &str, expect: &str| {
        let found = match resolve(text, &names(capabilities), &machine("amd64")) {
            Ok(None) => "none".to_owned(),
            Ok(Some(filter)) => {
                let calls: Vec<String> = filter.syscalls.iter().map(|rule| rule.names.join(" ")).collect();
                format!("{} [{}] {}", filter.default_action, filter.architectures.join(" "), calls.join("|"))
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expect, "{text}");
    };
    check("{}", "", "none");
    check(r#"{"syscalls":null}"#, "", "none");
    check(r#"{"defaultAction":"A"}"#, "", "A [] ");
    let arches = r#"{"defaultAction":"A","archMap":[{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]},
        {"architecture":"SCMP_ARCH_X86_64","subArchitectures":null}]"#;
    check(&format!("{arches}}}"), "", "A [SCMP_ARCH_X86_64] ");
    let both = format!(r#"{arches},"architectures":["SCMP_ARCH_X86"]}}"#);
    check(&both, "", r#"both "architectures" and "archMap" are specified, use either "architectures" or "archMap""#);
    let rule = |rest: &str| format!(r#"{{"defaultAction":"A","syscalls":[{{"names":["read"],"action":"B"{rest}}}]}}"#);
    let held = "A [] read";
    check(&rule(""), "", held);
    check(&rule(r#","includes":{},"excludes":null,"comment":"x""#), "", held);
    check(&rule(r#","includes":{"caps":["X","Y"]}"#), "X", "A [] ");
    check(&rule(r#","includes":{"caps":["X","Y"]}"#), "X Y", held);
    check(&rule(r#","excludes":{"caps":["X","Y"]}"#), "Y", "A [] ");
    check(&rule(r#","includes":{"arches":["amd64"]}"#), "", held);
    check(&rule(r#","includes":{"arches":["arm64"]}"#), "", "A [] ");
    check(&rule(r#","excludes":{"arches":["arm64"]}"#), "", held);
    check(&rule(r#","includes":{"minKernel":"6.1"}"#), "", held);
    check(&rule(r#","includes":{"minKernel":"6.2"}"#), "", "A [] ");
    check(&rule(r#","excludes":{"minKernel":"6.1"}"#), "", "A [] ");
    let wrong = |version: &str| format!("invalid kernel version: {version:?}, expected \"<kernel>.<major>\"");
    for version in ["6", "6.1.2", "a.b", "0.0", "6.", "300.1"] {
        check(&rule(&format!(r#","includes":{{"minKernel":"{version}"}}"#)), "", &wrong(version));
    }
    let both = r#"both "name" and "names" are specified, use either "name" or "names""#;
    check(&rule(r#","name":"write""#), "", both);
    check(r#"{"defaultAction":"A","syscalls":[{"name":"write","action":"B"}]}"#, "", "A [] write");
    check("{", "", "EOF while parsing an object at line 1 column 1");
    let long = " ".repeat(1 << 21);
    check(&long, "", "it has 2097152 bytes, and may have 1048576");
}

#[test]
fn releases() {
    let check = |text: &str, expect: Option<(u32, u32)>| assert_eq!(release(text), expect, "{text}");
    check("6.12.3-amd64", Some((6, 12)));
    check("3.12-1-amd64", Some((3, 12)));
    check("6.18", Some((6, 18)));
    check("6", None);
    check("x.y", None);
}
