//! Command lines as data: what real callers pass, and what errors say.

mod documents;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt;

use super::table::{COMMANDS, Flag, GLOBAL};
use super::{Command, parse};

fn split(line: &str) -> Vec<OsString> {
    line.split(' ').map(|word| if word == "''" { OsString::new() } else { word.into() }).collect()
}

/// The request as text, without the fields that say nothing.
fn compact(request: &impl std::fmt::Debug) -> String {
    let mut out = format!("{request:?}");
    for (from, to) in [("ContainerId(", "("), ("Some(", "("), ("Pattern(Regex(", "Pattern((")] {
        out = out.replace(from, to);
    }
    let empty = ["None", "false", "[]", "{}", "Stderr", "Text", "Warning", "Cgroupfs", "Table", "0", "\"\""];
    loop {
        let before = out.len();
        for value in empty {
            // A field with its comma, then one that stands last, then one that stands alone.
            for (start, end) in [("", ", "), (", ", " }"), (" ", " }")] {
                out = strip(&out, start, value, end);
            }
        }
        if out.len() == before {
            return out;
        }
    }
}

/// Takes `name: value` out, with `start` before it and `end` after it; a brace at the end stays.
fn strip(text: &str, start: &str, value: &str, end: &str) -> String {
    let needle = format!(": {value}{end}");
    let mut out = text.to_owned();
    let mut from = 0;
    while let Some(at) = out[from..].find(&needle).map(|at| at + from) {
        let name = out[..at].rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |i| i + 1);
        if name < at && out[..name].ends_with(start) {
            let rest = out[at + needle.len()..].to_owned();
            out.truncate(name - start.len());
            out.push_str(if end == " }" { " }" } else { "" });
            out.push_str(&rest);
            from = name - start.len();
        } else {
            from = at + 1;
        }
    }
    out
}

fn check(line: &str, expect: &str) {
    let got = match parse(split(line)) {
        Ok(invocation) => compact(&invocation),
        Err(refused) => format!("{refused}"),
    };
    let expect = format!("Invocation {{ {expect} }}");
    assert_eq!(got, expect, "\n{line}");
}

/// What containerd's shim passes, for itself and under dockerd.
#[test]
fn containerd() {
    let g = "global: Global { root: (\"/run/c/k8s\"), log: File(\"/b/log.json\"), log_format: Json";
    let global = "--root /run/c/k8s --log /b/log.json --log-format json";
    check(
        &format!(
            "{global} --systemd-cgroup create --bundle /b --pid-file /b/init.pid --no-pivot --no-new-keyring --console-socket /tmp/pty.sock web"
        ),
        &format!(
            "{g}, cgroups: Systemd }}, command: Create(Create {{ id: (\"web\"), bundle: (\"/b\"), \
             console_socket: (\"/tmp/pty.sock\"), pid_file: (\"/b/init.pid\"), no_pivot: true, no_new_keyring: true }})"
        ),
    );
    check(&format!("{global} start web"), &format!("{g} }}, command: Start((\"web\"))"));
    check(
        &format!("{global} exec --process /tmp/p.json --console-socket /s --detach --pid-file /b/1.pid web"),
        &format!(
            "{g} }}, command: Exec(Exec {{ id: (\"web\"), process: File(\"/tmp/p.json\"), console_socket: (\"/s\"), \
             pid_file: (\"/b/1.pid\"), detach: true }})"
        ),
    );
    check(
        &format!("{global} kill --all web 9"),
        &format!("{g} }}, command: Kill(Kill {{ target: Id((\"web\")), signal: 9, all: true }})"),
    );
    check(
        &format!("{global} delete --force web"),
        &format!("{g} }}, command: Delete(Delete {{ target: Id((\"web\")), force: true }})"),
    );
    check(
        &format!("{global} events --stats web"),
        &format!("{g} }}, command: Events(Events {{ id: (\"web\"), interval: 5s, stats: true }})"),
    );
    check(
        &format!("{global} events --interval=10s web"),
        &format!("{g} }}, command: Events(Events {{ id: (\"web\"), interval: 10s }})"),
    );
    check(
        &format!("{global} ps --format json web"),
        &format!("{g} }}, command: Ps(Ps {{ id: (\"web\"), format: Json }})"),
    );
    check(
        &format!("{global} ps --format table web -aux"),
        &format!("{g} }}, command: Ps(Ps {{ id: (\"web\"), args: [\"-aux\"] }})"),
    );
    check(&format!("{global} list --format=json"), &format!("{g} }}, command: List(List {{ format: Json }})"));
    check(
        &format!("{global} update --resources=- web"),
        &format!("{g} }}, command: Update(Update {{ id: (\"web\"), limits: Stdin }})"),
    );
    check(&format!("{global} pause web"), &format!("{g} }}, command: Pause((\"web\"))"));
    check(&format!("{global} state web"), &format!("{g} }}, command: State((\"web\"))"));
    check(
        "--root /r --rootless=true run --bundle /b --detach --preserve-fds 2 --pidfd-socket /p --keep web",
        "global: Global { root: (\"/r\"), rootless: (true) }, command: Run(Run { create: Create { id: (\"web\"), \
         bundle: (\"/b\"), pidfd_socket: (\"/p\"), preserve_fds: 2 }, detach: true, keep: true })",
    );
}

#[test]
fn criu() {
    check(
        "checkpoint --image-path /i --work-path /w --parent-path ../p --tcp-established --ext-unix-sk --shell-job \
         --page-server 10.0.0.1:27 --file-locks --manage-cgroups-mode soft --empty-ns network --lazy-pages --status-fd 3 \
         --leave-running --commit-to /j --pre-dump web",
        "global: Global { }, command: Checkpoint(Checkpoint { id: (\"web\"), criu: Criu { image_path: (\"/i\"), \
         work_path: (\"/w\"), tcp_established: true, ext_unix_sk: true, shell_job: true, lazy_pages: true, \
         file_locks: true, manage_cgroups: (Soft), empty_network: true }, parent_path: (\"../p\"), \
         commit_to: (\"/j\"), leave_running: true, status_fd: (3), page_server: ((\"10.0.0.1\", 27)), pre_dump: true })",
    );
    check(
        "restore --image-path /i --detach --pid-file /p --no-pivot -no-subreaper --bundle /b web",
        "global: Global { }, command: Restore(Restore { id: (\"web\"), criu: Criu { image_path: (\"/i\") }, \
         bundle: (\"/b\"), pid_file: (\"/p\"), detach: true, no_subreaper: true, no_pivot: true })",
    );
    check(
        "restore --tcp-close --network-lock nftables --lsm-profile selinux:a:b --lsm-mount-context c web",
        "global: Global { }, command: Restore(Restore { id: (\"web\"), criu: Criu { network_lock: (Nftables) }, \
         tcp_close: true, lsm_profile: (\"selinux:a:b\"), lsm_mount_context: (\"c\") })",
    );
    check(
        "checkpoint --page-server [::1]:27 --status-fd -1 web",
        "global: Global { }, command: Checkpoint(Checkpoint { id: (\"web\"), criu: Criu { }, page_server: ((\"::1\", 27)) })",
    );
}

/// What Podman's and CRI-O's monitor passes.
#[test]
fn conmon() {
    let g = "global: Global { log: File(\"/u/oci-log\"), log_format: Json";
    check(
        "--systemd-cgroup --log-format=json --log /u/oci-log create --bundle /u --pid-file /p --no-pivot --preserve-fds 1 --console-socket /s 0123",
        &format!(
            "{g}, cgroups: Systemd }}, command: Create(Create {{ id: (\"0123\"), bundle: (\"/u\"), \
             console_socket: (\"/s\"), pid_file: (\"/p\"), no_pivot: true, preserve_fds: 1 }})"
        ),
    );
    check(
        "--cgroup-manager disabled --log-format=json --log=/u/oci-log create --bundle /u --pid-file /p 0123",
        &format!(
            "{g}, cgroups: Disabled }}, command: Create(Create {{ id: (\"0123\"), bundle: (\"/u\"), pid_file: (\"/p\") }})"
        ),
    );
    check(
        "--log-format=json --log /u/oci-log exec --pid-file /p --process /f --detach --preserve-fds 3 0123",
        &format!(
            "{g} }}, command: Exec(Exec {{ id: (\"0123\"), process: File(\"/f\"), pid_file: (\"/p\"), detach: true, \
             preserve_fds: 3 }})"
        ),
    );
    check(
        "--log-format=json --log /u/oci-log restore --bundle /u --pid-file /p --detach --image-path /c --work-path /u --tcp-established 0123",
        &format!(
            "{g} }}, command: Restore(Restore {{ id: (\"0123\"), criu: Criu {{ image_path: (\"/c\"), work_path: (\"/u\"), \
             tcp_established: true }}, bundle: (\"/u\"), pid_file: (\"/p\"), detach: true }})"
        ),
    );
}

/// Where flags may stand and how they are spelled.
#[test]
fn spelling() {
    let delete = "global: Global { root: (\"/r\") }, command: Delete(Delete { target: Id((\"web\")), force: true })";
    for line in [
        "--root /r delete --force web",
        "--root=/r delete -f web",
        "-root /r delete -force web",
        "delete --root /r web --force",
        "delete --force=true --root=/x --root=/r -- web",
        "delete --force=0 web -f --root /r",
    ] {
        check(line, delete);
    }
    let run =
        "global: Global { }, command: Run(Run { create: Create { id: (\"web\"), bundle: (\"/b\") }, detach: true })";
    for line in [
        "run -d -b /b web",
        "run -db /b web",
        "run -db/b web",
        "run -db=/b web",
        "run -b=/b -d web",
        "run web -d -b /b",
    ] {
        check(line, run);
    }
    check(
        "run -f /c.json --dry-run -- -x",
        "global: Global { }, command: Run(Run { create: Create { id: (\"-x\"), config: (\"/c.json\") }, dry_run: true })",
    );
    check(
        "run --pid-file '' --bundle= web",
        "global: Global { }, command: Run(Run { create: Create { id: (\"web\") } })",
    );
}

#[test]
fn exec() {
    let changed = |rest: &str| {
        format!(
            "global: Global {{ }}, command: Exec(Exec {{ id: (\"web\"), process: Changed(ProcessChanges {{ {rest} }}) }})"
        )
    };
    check("exec web ls -l --root /x -- a", &changed(r#"args: ["ls", "-l", "--root", "/x", "--", "a"]"#));
    check("exec web -- ls --", &changed(r#"args: ["ls", "--"]"#));
    check("exec -- web ls", &changed(r#"args: ["ls"]"#));
    check(
        "exec -te A=1 --env B=2=3 -u 5:6 --cwd /w -g 7 -g 8 -c CAP_KILL --cap=CAP_CHOWN --no-new-privs web sh",
        &changed(
            r#"args: ["sh"], cwd: ("/w"), env: ["A=1", "B=2=3"], terminal: true, user: ((5, (6))), additional_gids: [7, 8], no_new_privs: (true), caps: ["CAP_KILL", "CAP_CHOWN"]"#,
        ),
    );
    check(
        "exec --user 1 --tty=false --no-new-privs=false web sh",
        &changed(r#"args: ["sh"], user: ((1, None)), no_new_privs: (false)"#),
    );
    check(
        "exec --process-label a:b --apparmor p web ''",
        &changed(r#"args: [""], process_label: ("a:b"), apparmor: ("p")"#),
    );
    check(
        "exec --cgroup cpu,memory:/a --cgroup pids:/b --ignore-paused -p /f web",
        r#"global: Global { }, command: Exec(Exec { id: ("web"), process: File("/f"), cgroups: {"cpu": "/a", "memory": "/a", "pids": "/b"}, ignore_paused: true })"#,
    );
    check(
        "exec --cgroup=foo -p /f web",
        r#"global: Global { }, command: Exec(Exec { id: ("web"), process: File("/f"), cgroups: {"": "foo"} })"#,
    );
}

#[test]
fn others() {
    let plain = |command: &str| format!("global: Global {{ }}, command: {command}");
    check("kill web", &plain(r#"Kill(Kill { target: Id(("web")), signal: 15 })"#));
    check("kill web rtmin+3", &plain(r#"Kill(Kill { target: Id(("web")), signal: 37 })"#));
    check("kill web 0", &plain(r#"Kill(Kill { target: Id(("web")) })"#));
    check(
        "kill -a -r ^web- KILL",
        &plain(r#"Kill(Kill { target: Matching(Pattern(("^web-"))), signal: 9, all: true })"#),
    );
    check("delete --regex ^(a|b)+$", &plain(r#"Delete(Delete { target: Matching(Pattern(("^(a|b)+$"))) })"#));
    check("list -q", &plain("List(List { quiet: true })"));
    check("spec --rootless -b /b", &plain(r#"Spec(SpecFile { bundle: ("/b"), rootless: true })"#));
    check("spec -f /c", &plain(r#"Spec(SpecFile { file: ("/c") })"#));
    check("features", &plain("Features"));
    check("mounts add web /m", &plain(r#"Mounts(Mounts { id: ("web"), add: true, file: "/m" })"#));
    check(
        "update --memory 512m --memory-swap -1 --cpu-quota 50000 --cpu-period=100000 --cpu-share 512 --cpuset-cpus 0-1 --pids-limit 100 --blkio-weight 0 web",
        &plain(
            r#"Update(Update { id: ("web"), limits: Given(Resources { memory: (Memory { limit: (536870912), swap: (-1) }), cpu: (Cpu { shares: (512), quota: (50000), period: (100000), cpus: "0-1" }), pids: (Pids { limit: (100) }) }) })"#,
        ),
    );
    check(
        "update -r /f --l3-cache-schema L3:0=f web",
        &plain(r#"Update(Update { id: ("web"), limits: File("/f"), l3_cache_schema: ("L3:0=f") })"#),
    );
    check(
        "--debug --log syslog:x --rootless AUTO features",
        "global: Global { log: Syslog(\"x\"), log_level: Debug }, command: Features",
    );
    check(
        "--log-level error --systemd-cgroup --cgroup-manager cgroupfs --criu /c features",
        "global: Global { log_level: Error }, command: Features",
    );
}

/// A value that the flag takes.
fn sample(flag: &Flag) -> &'static str {
    match (flag.value, flag.choices) {
        (_, [first, ..]) => first,
        (Some("UID[:GID]"), _) => "1:2",
        (Some("DURATION"), _) => "1s",
        (Some("ADDRESS:PORT"), _) => "a:1",
        (Some("BOOL"), _) => "true",
        (Some("N"), _) if flag.long == "cpu-idle" => "1",
        (Some("DIR"), _) if flag.long != "parent-path" => "/d",
        (Some("TYPE:NAME"), _) => "a:b",
        (Some("N" | "USEC" | "SIZE" | "GID" | "FD"), _) => "100",
        _ => "text",
    }
}

/// Every flag of the table is read by its command: the parser asserts that it left none.
#[test]
fn every_flag_is_read() {
    for spec in COMMANDS {
        let mut args: Vec<OsString> = vec![spec.name.into()];
        // A command's own flag hides the global one.
        let global = GLOBAL.iter().filter(|g| spec.flags.iter().all(|f| f.long != g.long));
        for flag in spec.flags.iter().chain(global) {
            args.push(format!("--{}", flag.long).into());
            args.extend(flag.value.map(|_| sample(flag).into()));
        }
        for argument in spec.arguments {
            args.push(argument.split('|').next().unwrap_or_default().trim_matches(['[', ']', '.']).into());
        }
        // What is in brackets is a name, but no value.
        match spec.name {
            "man" | "help" => drop(args.pop()),
            "kill" => drop(args.pop().map(|_| args.push("TERM".into()))),
            _ => {}
        }
        let parsed = parse(args.clone());
        assert!(parsed.is_ok(), "{args:?}: {}", parsed.err().unwrap());
    }
}

/// Names of flags are not ambiguous, and what help says of them is a line without a full stop.
#[test]
fn table_is_sound() {
    for spec in COMMANDS {
        let flags = || spec.flags.iter();
        for flag in flags() {
            let same = flags().filter(|f| f.long == flag.long || (f.short.is_some() && f.short == flag.short)).count();
            assert_eq!(same, 1, "{}: {}", spec.name, flag.long);
            assert!(flag.short != Some('h') && flag.short != Some('v'), "{}: {}", spec.name, flag.long);
        }
        for flag in flags().chain(GLOBAL) {
            assert!(!flag.help.is_empty() && !flag.help.ends_with('.'), "{}: {}", spec.name, flag.long);
            assert!(!flag.choices.iter().any(|c| c.contains([' ', '\''])), "{}: {}", spec.name, flag.long);
        }
    }
}

#[test]
fn errors() {
    let lines = [
        "",
        "--root",
        "--root / list",
        "--root '' list",
        "--root // list",
        "--log-format xml list",
        "--rootless maybe list",
        "--cgroup-manager systemdd list",
        "--verbose list",
        "--rooot /r list",
        "-x list",
        "rn web",
        "frobnicate",
        "run",
        "run a b",
        "run ../a",
        "run --bundel /b web",
        "run -xd web",
        "run -dx web",
        "run -Bundle /b web",
        "run --detach=maybe web",
        "run --bundle",
        "run -db",
        "run --preserve-fds -1 web",
        "run --preserve-fds 9999999 web",
        "exec",
        "exec web",
        "exec -u root web ls",
        "exec -u 1: web ls",
        "exec -u +1 web ls",
        "exec -u 4294967295 web ls",
        "exec -g x web ls",
        "exec --cgroup a --cgroup b web ls",
        "exec --cgroup :a web ls",
        "exec --cgroup cpu:a --cgroup cpu:b web ls",
        "kill web TERM 9",
        "kill web -9",
        "kill web SIGFOO",
        "kill web 65",
        "delete --regex (",
        "list web",
        "list -f yaml",
        "update --memory 1x web",
        "update --cpu-quota lots web",
        "update --blkio-weight 5 web",
        "update --cpu-idle 2 web",
        "events --interval 0s web",
        "events --interval 5 web",
        "checkpoint --parent-path /abs web",
        "checkpoint --page-server nowhere web",
        "checkpoint --empty-ns pid web",
        "checkpoint --manage-cgroups-mode hard web",
        "restore --lsm-profile x web",
        "mounts ad web /f",
        "completions tcsh",
        "help frob",
    ];
    let mut out = String::new();
    for line in lines {
        let args = if line.is_empty() { Vec::new() } else { split(line) };
        let error = parse(args).expect_err(line);
        let _ = write!(out, "$ gantry-oci {line}\n{error}\n");
    }
    insta::assert_snapshot!("errors", out);
}

/// What is no text is refused where a document is made of it, and taken where it names a file.
#[test]
fn bytes() {
    let raw = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let error = |args: &[&[u8]]| parse(args.iter().map(|a| raw(a))).unwrap_err().to_string();
    assert_eq!(error(&[b"exec", b"web", b"\xff"]), "exec: an argument of the command is not UTF-8: \u{fffd}");
    assert_eq!(error(&[b"exec", b"--env=\xff", b"web", b"ls"]), "exec: --env is not UTF-8: \u{fffd}");
    assert_eq!(error(&[b"state", b"\xff"]), "state: the container id is not UTF-8: \u{fffd}");
    assert!(error(&[b"-\xff"]).starts_with("unknown flag"));
    assert!(error(&[b"\xff"]).starts_with("unknown command"));
    for bundle in [[b"run".as_slice(), b"--bundle", b"/\xff", b"web"].as_slice(), &[b"run", b"-b/\xff", b"web"]] {
        let Command::Run(run) = parse(bundle.iter().map(|a| raw(a))).unwrap().command else { panic!("no run") };
        assert_eq!(run.create.bundle, Some(raw(b"/\xff").into()));
    }
}

/// The log that the command line names is known even where the rest is wrong.
#[test]
fn refused_with_log() {
    let refused = parse(split("--log /l --log-format json create --frob web")).unwrap_err();
    assert_eq!(compact(&refused.global), "Global { log: File(\"/l\"), log_format: Json }");
    let refused = parse(split("create --log /l --rootless x web")).unwrap_err();
    assert_eq!(compact(&refused.global), "Global { log: File(\"/l\") }");
    assert_eq!(refused.to_string(), "--rootless is \"x\", but must be true, false or auto");
}

/// No input makes the parser panic: words are drawn from the table and from what is near it.
#[test]
fn random_lines() {
    let mut words: Vec<String> =
        ["", "-", "--", "=", "-=", "--=", "é", "-é", "web", "1", "-1", "a=b", ":"].map(String::from).into();
    for spec in COMMANDS {
        words.push(spec.name.to_owned());
        for flag in spec.flags.iter().chain(GLOBAL) {
            words.push(format!("--{}", flag.long));
            words.push(format!("-{}=", flag.long));
            words.extend(flag.short.map(|c| format!("-{c}x")));
        }
    }
    let seed = u64::from(std::process::id()) | 1;
    println!("seed {seed}");
    let mut state = seed;
    for _ in 0..20_000 {
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        let count = next() % 8;
        let line: Vec<OsString> = (0..count).map(|_| words[next() % words.len()].clone().into()).collect();
        let _ = parse(line);
    }
}
