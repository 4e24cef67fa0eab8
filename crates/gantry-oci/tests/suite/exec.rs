//! Processes that join a running container.

use std::fs;

use gantry_model::oci::spec::{CpuAffinity, Process, Rlimit, User};
use gantry_testkit::console::{ConsoleSocket, read_terminal};
use gantry_testkit::json::{at, parse};
use gantry_testkit::spec::{Parts, caps, default_process, mapping, strings};
use gantry_testkit::{Container, Kit, Outcome, Test, ensure, ensure_eq, host, outcome};
use serde_json::Value;

use crate::check::{expect, test};

/// Options of exec, and what the probe reports then. The container runs as root.
struct Case {
    name: &'static str,
    options: &'static [&'static str],
    expect: &'static [(&'static str, &'static str)],
}

const CASES: &[Case] = &[
    Case {
        name: "plain",
        options: &[],
        expect: &[
            ("/uid", "0"),
            ("/gid", "0"),
            ("/cwd", "\"/\""),
            ("/no_new_privs", "true"),
            ("/hostname", "\"gantry-test\""),
            ("/caps/effective", r#"["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE"]"#),
            ("/caps/bounding", r#"["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE"]"#),
            ("/caps/inheritable", "[]"),
            ("/caps/ambient", "[]"),
            ("/rlimits/RLIMIT_NOFILE", r#"{"soft":1024,"hard":1024}"#),
            ("/env/TERM", "\"xterm\""),
            ("/tty/streams", "[false,false,false]"),
        ],
    },
    Case { name: "cwd", options: &["--cwd", "/tmp"], expect: &[("/cwd", "\"/tmp\"")] },
    Case {
        name: "env",
        options: &["--env", "A=1", "--env", "TERM=dumb"],
        expect: &[("/env/A", "\"1\""), ("/env/TERM", "\"dumb\""), ("/env/HOME", "\"/root\"")],
    },
    Case { name: "user", options: &["--user", "1"], expect: &[("/uid", "1"), ("/gid", "0"), ("/groups", "[]")] },
    Case { name: "user_in_passwd", options: &["-u", "1000"], expect: &[("/uid", "1000"), ("/gid", "0")] },
    Case {
        name: "user_and_group",
        options: &["--user", "1:2"],
        expect: &[("/uid", "1"), ("/euid", "1"), ("/gid", "2"), ("/egid", "2"), ("/groups", "[]")],
    },
    Case { name: "root_and_group", options: &["--user", "0:7"], expect: &[("/uid", "0"), ("/gid", "7")] },
    Case {
        name: "additional_groups",
        options: &["--user", "1000:1000", "--additional-gids", "50", "--additional-gids", "2000"],
        expect: &[("/uid", "1000"), ("/groups", "[50,2000]")],
    },
    Case {
        name: "user_loses_capabilities",
        options: &["--user", "1000"],
        expect: &[("/caps/effective", "[]"), ("/caps/permitted", "[]"), ("/caps/inheritable", "[]")],
    },
    Case {
        name: "capability",
        options: &["--cap", "CAP_NET_RAW"],
        expect: &[
            ("/caps/effective", r#"["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE","CAP_NET_RAW"]"#),
            ("/caps/permitted", r#"["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE","CAP_NET_RAW"]"#),
        ],
    },
    Case { name: "no_new_privileges", options: &["--no-new-privs"], expect: &[("/no_new_privs", "true")] },
];

/// The tests of this area.
pub fn tests() -> Vec<Test> {
    let mut all: Vec<Test> = CASES
        .iter()
        .map(|case| {
            Test::new(format!("exec::{}", case.name), move |kit| {
                let mut container = kit.container()?;
                container.start_waiting()?;
                expect(&container.exec_report(case.options)?, case.expect)
            })
        })
        .collect();
    for (name, user) in
        [("word", "root"), ("empty_group", "1:"), ("negative", "-1"), ("too_large", "4294967296"), ("three", "1:2:3")]
    {
        all.push(Test::new(format!("exec::user_{name}_is_refused"), move |kit| bad_user(kit, user)));
    }
    all.extend([
        test("exec::exit_codes", exit_codes),
        test("exec::namespaces_and_cgroup", surroundings),
        test("exec::in_a_user_namespace", in_user_namespace),
        test("exec::process_file", process_file),
        test("exec::process_file_with_terminal_option", process_file_missing),
        test("exec::detached_with_pid_file", detached),
        test("exec::program_missing", program_missing),
        test("exec::standard_input", standard_input),
        test("exec::in_created", in_created),
        test("exec::in_stopped_is_refused", in_stopped),
        test("exec::in_paused_ignored", in_paused),
        test("exec::terminal", terminal),
        test("exec::preserved_descriptors", preserved),
        test("exec::session_is_new", session),
        test("exec::many_at_once", many),
        test("exec::affinity", affinity),
        test("exec::survives_the_runtime", survives),
        test("exec::home_of_the_user", home),
    ]);
    all
}

fn running(kit: &Kit) -> Outcome<Container<'_>> {
    let mut container = kit.container()?;
    container.start_waiting()?;
    Ok(container)
}

fn bad_user(kit: &Kit, user: &str) -> Outcome {
    let container = running(kit)?;
    container.refused(&["exec", &format!("--user={user}"), &container.id, "/init", "report"]).map(drop)
}

fn exit_codes(kit: &Kit) -> Outcome {
    let container = running(kit)?;
    for code in [0, 1, 42, 255] {
        let output = container.exec_with(&[], &["/init", "exit", &code.to_string()])?;
        ensure_eq!(output.status.code(), Some(code), "exit code ({})", output.text());
    }
    let output = container.exec_with(&[], &["/init", "signal", "9"])?;
    ensure_eq!(output.status.code(), Some(137), "exit code of a killed process ({})", output.text());
    Ok(())
}

fn surroundings(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.add_namespace("cgroup");
    container.start_waiting()?;
    let report = container.exec_report(&[])?;
    let pid = container.pid()?.to_string();
    for file in ["pid", "net", "ipc", "uts", "mnt", "cgroup", "user"] {
        let inside = at(&report, &format!("/namespaces/{file}")).as_str().unwrap_or_default();
        ensure_eq!(inside, host::namespace_id(&pid, file), "{file} namespace");
    }
    for line in at(&report, "/cgroup").as_array().into_iter().flatten().filter_map(Value::as_str) {
        // Seen from the container's own cgroup namespace, its cgroup is the root; a hierarchy that the runtime does
        // not use shows a path of the host.
        ensure!(!line.ends_with("/.."), "outside of the container's cgroup: {line}");
    }
    if kit.cgroups.holding("pids").is_some() {
        let lines = at(&report, "/cgroup").as_array().cloned().unwrap_or_default();
        let own =
            lines.iter().filter_map(Value::as_str).find(|line| line.contains(":pids:") || line.starts_with("0::"));
        ensure!(own.is_some_and(|line| line.ends_with(":/")), "cgroup: {own:?}");
    }
    Ok(())
}

fn in_user_namespace(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.map_users(&[mapping(0, 100_000, 65_536)]);
    container.start_waiting()?;
    let report = container.exec_report(&["--user", "1000:1001"])?;
    expect(&report, &[("/uid", "1000"), ("/gid", "1001"), ("/uid_map", "[[0,100000,65536]]")])
}

fn process_file(kit: &Kit) -> Outcome {
    let container = running(kit)?;
    let process = Process {
        user: User { uid: 5, gid: 6, umask: Some(0o77), additional_gids: vec![7] },
        env: strings(&["ONLY=this"]),
        cwd: "/tmp".into(),
        capabilities: Some(caps(&["CAP_CHOWN"])),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 64, hard: 64 }],
        no_new_privileges: false,
        oom_score_adj: Some(500),
        ..default_process()
    };
    let output = container.exec_process(&process, &[], "exec")?;
    ensure!(output.status.success(), "exec --process: {}", output.text());
    let report = parse(&output.stdout)?;
    expect(
        &report,
        &[
            ("/uid", "5"),
            ("/gid", "6"),
            ("/groups", "[7]"),
            ("/umask", "\"0077\""),
            ("/cwd", "\"/tmp\""),
            ("/env/ONLY", "\"this\""),
            ("/env/TERM", "null"),
            ("/caps/bounding", r#"["CAP_CHOWN"]"#),
            ("/rlimits/RLIMIT_NOFILE", r#"{"soft":64,"hard":64}"#),
            ("/no_new_privs", "false"),
            ("/oom_score_adj", "500"),
        ],
    )
}

fn process_file_missing(kit: &Kit) -> Outcome {
    let container = running(kit)?;
    let output = container.refused(&["exec", "--process", "/nowhere.json", &container.id])?;
    ensure!(output.stderr.contains("/nowhere.json"), "the message: {}", output.text());
    fs::write(container.host("bad.json"), "{\"args\": 7")?;
    container
        .refused(&["exec", "--process", &container.host("bad.json").display().to_string(), &container.id])
        .map(drop)
}

fn detached(kit: &Kit) -> Outcome {
    let container = running(kit)?;
    let path = container.host("exec-pid");
    let text = path.display().to_string();
    container.exec_ok(&["--detach", "--pid-file", &text], &["/init", "sleep", "200"])?;
    let pid: i32 = fs::read_to_string(&path)?.trim().parse()?;
    ensure!(host::alive(pid), "process {pid} of the pid file is not there");
    let (own, first) =
        (host::namespace_id(&pid.to_string(), "pid"), host::namespace_id(&container.pid()?.to_string(), "pid"));
    ensure_eq!(own, first, "pid namespace of process {pid}");
    Ok(())
}

fn program_missing(kit: &Kit) -> Outcome {
    let container = running(kit)?;
    let output = container.refused(&["exec", &container.id, "/nowhere"])?;
    ensure!(output.stderr.contains("nowhere"), "the message: {}", output.text());
    container.refused(&["exec", "--cwd", "/nowhere", &container.id, "/etc/passwd"])?;
    ensure_eq!(container.status()?, "running", "status");
    Ok(())
}

fn standard_input(kit: &Kit) -> Outcome {
    let container = running(kit)?;
    fs::write(container.host("input"), "through and through")?;
    let mut command = container.command(&["exec", &container.id, "/init", "stdin"]);
    command.stdin(fs::File::open(container.host("input"))?);
    let output =
        gantry_testkit::command::Running::start(&mut command, &container.output_dir())?.finish(kit.time(10.0))?;
    ensure_eq!(output.stdout.as_str(), "through and through", "output ({})", output.text());
    Ok(())
}

fn in_created(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "sleep", "200"]);
    container.create()?;
    expect(&container.exec_report(&[])?, &[("/uid", "0"), ("/hostname", "\"gantry-test\"")])?;
    container.start()
}

fn in_stopped(kit: &Kit) -> Outcome {
    let container = running(kit)?;
    container.kill("KILL")?;
    container.wait_status("stopped")?;
    container.refused(&["exec", &container.id, "/init", "report"]).map(drop)
}

/// A process that joins a paused container is frozen with it, and goes on when it is resumed.
fn in_paused(kit: &Kit) -> Outcome {
    if kit.cgroups.mode != gantry_testkit::cgroup::Mode::V2 {
        kit.need_controller("freezer")?;
    }
    let container = running(kit)?;
    container.ok(&["pause", &container.id])?;
    let joining = container.spawn(&["exec", "--ignore-paused", &container.id, "/init", "append", "/ran", "yes"])?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    let early = container.rootfs("ran").exists();
    container.ok(&["resume", &container.id])?;
    let output = joining.finish(kit.time(10.0))?;
    ensure!(output.status.success(), "exec --ignore-paused: {}", output.text());
    ensure!(!early && container.rootfs("ran").exists(), "ran while paused: {early}");
    Ok(())
}

fn terminal(kit: &Kit) -> Outcome {
    let container = running(kit)?;
    let socket = ConsoleSocket::bind(&container.host("console"))?;
    let path = container.host("console").display().to_string();
    let joining = container.spawn(&[
        "exec",
        "--tty",
        "--detach",
        "--console-socket",
        &path,
        &container.id,
        "/init",
        "tty",
        "+",
        "echo",
        "end",
    ])?;
    let mut terminal = socket.terminal(kit.time(5.0))?;
    let text = read_terminal(&mut terminal, "end", kit.time(5.0))?;
    let output = joining.finish(kit.time(5.0))?;
    ensure!(output.status.success(), "exec --tty: {}", output.text());
    let found = parse(text.lines().next().unwrap_or_default())?;
    expect(&found, &[("/streams", "[true,true,true]"), ("/controlling", "true")])?;
    ensure!(at(&found, "/name").as_str().is_some_and(|name| name.starts_with("/dev/pts/")), "name: {found}");
    Ok(())
}

/// Runs `words` of the runtime with descriptors 3, 4 and 5 open, by way of a shell.
pub fn with_descriptors(container: &Container<'_>, words: &[&str]) -> Outcome<gantry_testkit::command::Output> {
    let file = container.host("kept");
    fs::write(&file, "kept")?;
    let inner = container.command(words);
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "exec 3<\"$0\" 4<\"$0\" 5<\"$0\"; ${LISTEN_FDS:+export LISTEN_PID=$$}; exec \"$@\""])
        .arg(&file)
        .arg(inner.get_program())
        .args(inner.get_args());
    command.current_dir(container.bundle()).env(gantry_testkit::leak::MARKER, &container.id);
    command.envs(container.env.iter().map(|(name, value)| (name, value)));
    Ok(gantry_testkit::command::run(&mut command, &container.output_dir(), container.kit.time(10.0))?)
}

/// The numbers of the open descriptors of a report.
pub fn descriptor_numbers(report: &Value) -> Vec<u64> {
    at(report, "/fds").as_array().into_iter().flatten().filter_map(|one| at(one, "/fd").as_u64()).collect()
}

fn preserved(kit: &Kit) -> Outcome {
    let container = running(kit)?;
    let output = with_descriptors(&container, &["exec", "--preserve-fds", "2", &container.id, "/init", "report"])?;
    ensure!(output.status.success(), "exec --preserve-fds: {}", output.text());
    ensure_eq!(descriptor_numbers(&parse(&output.stdout)?), [0, 1, 2, 3, 4], "descriptors");
    let output = with_descriptors(&container, &["exec", &container.id, "/init", "report"])?;
    ensure_eq!(descriptor_numbers(&parse(&output.stdout)?), [0, 1, 2], "descriptors without the option");
    Ok(())
}

fn session(kit: &Kit) -> Outcome {
    let container = running(kit)?;
    let report = container.exec_report(&[])?;
    ensure_eq!(at(&report, "/sid"), at(&report, "/pid"), "session");
    Ok(())
}

fn many(kit: &Kit) -> Outcome {
    let container = running(kit)?;
    let started: Vec<_> =
        (0..12).map(|_| container.spawn(&["exec", &container.id, "/init", "exit", "7"])).collect::<Outcome<_>>()?;
    for one in started {
        let output = one.finish(kit.time(15.0))?;
        ensure_eq!(output.status.code(), Some(7), "exit code ({})", output.text());
    }
    Ok(())
}

fn affinity(kit: &Kit) -> Outcome {
    if std::thread::available_parallelism()?.get() < 2 {
        return outcome::skip("this machine has one processor");
    }
    let container = running(kit)?;
    let affinity = CpuAffinity { initial: "0-1".into(), final_: "1".into() };
    let mut process = Process { exec_cpu_affinity: Some(affinity), ..default_process() };
    process.args = strings(&["/init", "report"]);
    let output = container.exec_process(&process, &[], "exec")?;
    ensure!(output.status.success(), "exec: {}", output.text());
    expect(&parse(&output.stdout)?, &[("/affinity", "\"1\"")])?;
    process.exec_cpu_affinity = Some(CpuAffinity { initial: "x".into(), final_: String::new() });
    let output = container.exec_process(&process, &[], "exec")?;
    ensure!(!output.status.success(), "an affinity of x was taken");
    Ok(())
}

/// The container goes on when the runtime that joined it is killed.
fn survives(kit: &Kit) -> Outcome {
    let container = running(kit)?;
    let mut joining =
        container.spawn(&["exec", &container.id, "/init", "append", "/ready", "x", "+", "sleep", "100"])?;
    let ready = container.rootfs("ready");
    let came = gantry_testkit::command::wait_for(kit.time(5.0), || ready.exists().then_some(()));
    joining.kill();
    joining.finish(kit.time(5.0))?;
    ensure!(came.is_some(), "the process did not begin");
    ensure_eq!(container.status()?, "running", "status");
    container.exec_ok(&[], &["/init", "exit", "0"]).map(drop)
}

fn home(kit: &Kit) -> Outcome {
    let container = running(kit)?;
    let process = Process {
        user: User { uid: 1000, gid: 1000, ..User::default() },
        env: strings(&["PATH=/bin"]),
        ..default_process()
    };
    let output = container.exec_process(&process, &[], "exec")?;
    ensure!(output.status.success(), "exec: {}", output.text());
    expect(&parse(&output.stdout)?, &[("/env/HOME", "\"/home\"")])
}
