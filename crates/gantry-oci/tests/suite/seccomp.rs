//! System call filters in force: what a program meets, how a profile is compiled once, who hears of notified calls
//! (config-linux.md, Seccomp).

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use gantry_model::oci::spec::User;
use gantry_sys::seccomp::{answer_notification, receive_notification};
use gantry_testkit::console::{ConsoleSocket, readable};
use gantry_testkit::json::{at, parse};
use gantry_testkit::spec::{Parts, caps, strings};
use gantry_testkit::{Container, Kit, Outcome, Test, ensure, ensure_eq, outcome};
use serde_json::{Value, json};

use crate::check::{Refused, expect, nothing_left, refused_tests, test};

/// The tests of this area.
pub fn tests() -> Vec<Test> {
    let mut all: Vec<Test> = CASES.iter().flat_map(case_tests).collect();
    all.extend(KILLS.iter().map(|action| Test::new(format!("seccomp::{action}"), move |kit| kills(kit, action))));
    all.extend(refused_tests("seccomp", REFUSED));
    all.extend([
        test("seccomp::docker_profile_holds_for_a_privileged_program", privileged),
        test("seccomp::mode_is_filter", mode),
        test("seccomp::compiled_filter_is_kept_and_used", cache_used),
        test("seccomp::damaged_cache_is_replaced", |kit| cache_replaced(kit, damage)),
        test("seccomp::foreign_cache_is_replaced", |kit| cache_replaced(kit, |path| Ok(fs::write(path, "x")?))),
        test("seccomp::link_in_the_cache_is_replaced", |kit| cache_replaced(kit, link)),
        test("seccomp::notify_run", notify_run),
        test("seccomp::notify_without_new_privileges_off", notify_new_privileges),
        test("seccomp::notify_create_start", notify_create_start),
        test("seccomp::notify_exec", notify_exec),
        test("seccomp::notify_without_answer_gives_enosys", notify_closed),
        test("seccomp::notify_without_a_listener_fails", notify_nobody),
    ]);
    all
}

/// A profile, what is tried under it, and the answers.
struct Case {
    name: &'static str,
    /// The profile's text; empty for none.
    profile: fn() -> Outcome<String>,
    /// Attempts of the probe.
    tries: &'static [&'static [&'static str]],
    expect: &'static [&'static str],
}

/// A profile that allows all but what `rules` say.
fn all_but(rules: &Value) -> String {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules }).to_string()
}

/// Docker's default profile, as its engine writes it for a container without further capabilities.
fn docker() -> Outcome<String> {
    if !cfg!(target_arch = "x86_64") {
        return outcome::skip("the profile at hand is of x86_64");
    }
    Ok(include_str!("../../../gantry-seccomp/tests/seccomp/fixtures/docker-x86_64.json").to_owned())
}

const CASES: &[Case] = &[
    Case {
        // What the others deny works without them, so that they show the filter and nothing else.
        name: "absent",
        profile: || Ok(String::new()),
        tries: &[
            &["mkdir", "/tmp/made"],
            &["chmod", "/tmp/made", "700"],
            &["personality", "8"],
            &["personality", "0"],
            &["thread-name"],
            &["keyring"],
            &["unshare", "user"],
        ],
        expect: &["ok", "ok", "ok", "ok", "ok", "ok", "ok"],
    },
    Case {
        name: "errno",
        profile: || {
            Ok(all_but(&json!([
                { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 },
                { "names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO" },
            ])))
        },
        tries: &[&["mkdir", "/tmp/made"], &["create", "/tmp/file"], &["chmod", "/tmp/file", "700"], &["keyring"]],
        expect: &["ENOSPC", "ok", "EPERM", "ok"],
    },
    Case {
        name: "argument_equal",
        profile: || {
            Ok(all_but(&json!([
                { "names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18,
                  "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] },
                { "names": ["prctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 16,
                  "args": [{ "index": 0, "value": 15, "op": "SCMP_CMP_EQ" }] },
            ])))
        },
        tries: &[&["personality", "8"], &["personality", "0"], &["thread-name"], &["dumpable"]],
        expect: &["EXDEV", "ok", "EBUSY", "ok"],
    },
    Case {
        name: "argument_masked",
        profile: || {
            Ok(all_but(&json!([
                { "names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18,
                  "args": [{ "index": 0, "value": 8, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ" }] },
            ])))
        },
        tries: &[&["personality", "131080"], &["personality", "131072"]],
        expect: &["EXDEV", "ok"],
    },
    Case {
        name: "argument_greater",
        profile: || {
            Ok(all_but(&json!([
                { "names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18,
                  "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_GE" }] },
            ])))
        },
        tries: &[&["personality", "8"], &["personality", "131072"], &["personality", "0"]],
        expect: &["EXDEV", "EXDEV", "ok"],
    },
    Case {
        name: "log_allows",
        profile: || Ok(all_but(&json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_LOG" }]))),
        tries: &[&["mkdir", "/tmp/made"]],
        expect: &["ok"],
    },
    Case {
        name: "docker_profile",
        profile: docker,
        tries: &[
            &["mkdir", "/tmp/made"],
            &["personality", "8"],
            &["personality", "4"],
            &["keyring"],
            &["unshare", "user"],
            &["read", "/proc/self/status"],
        ],
        expect: &["ok", "ok", "EPERM", "EPERM", "EPERM", "ok"],
    },
];

/// Each case as root and as a user without capabilities, with and without `noNewPrivileges`, run and executed.
fn case_tests(case: &'static Case) -> Vec<Test> {
    let variants = [
        ("root", 0, true),
        ("root_with_new_privileges", 0, false),
        ("user", 1000, true),
        ("user_with_new_privileges", 1000, false),
    ];
    let one = |(name, uid, locked)| {
        Test::new(format!("seccomp::{}::{name}", case.name), move |kit| check(kit, case, uid, locked))
    };
    variants.map(one).into()
}

fn check(kit: &Kit, case: &Case, uid: u32, locked: bool) -> Outcome {
    let profile = (case.profile)()?;
    let words = words(case.tries);
    let wanted = case.expect.join("\n") + "\n";
    let prepare = |container: &mut Container<'_>| {
        identity(container, uid, locked);
        if profile.is_empty() { Ok(()) } else { filter(container, &profile) }
    };
    let mut container = kit.container()?;
    prepare(&mut container)?;
    container.spec.set_args(&words);
    ensure_eq!(container.run_ok()?.stdout, wanted, "answers to the first program, {words:?}");
    let mut container = kit.container()?;
    prepare(&mut container)?;
    container.start_waiting()?;
    ensure_eq!(container.exec_ok(&[], &words)?.stdout, wanted, "answers to one that joins, {words:?}");
    Ok(())
}

/// The probe's command line for some attempts.
fn words(tries: &[&[&'static str]]) -> Vec<&'static str> {
    let mut words = vec!["/init"];
    for (nth, one) in tries.iter().enumerate() {
        words.extend((nth > 0).then_some("+"));
        words.push("try");
        words.extend(*one);
    }
    words
}

fn identity(container: &mut Container<'_>, uid: u32, locked: bool) {
    let process = container.spec.process_mut();
    process.user = User { uid, gid: uid, ..User::default() };
    process.no_new_privileges = locked;
    if uid != 0 {
        process.capabilities = Some(caps(&[]));
    }
}

/// Sets the profile.
fn filter(container: &mut Container<'_>, profile: &str) -> Outcome {
    container.spec.linux_mut().seccomp = Some(serde_json::from_str(profile)?);
    Ok(())
}

/// Actions that end a program; of one with a single thread nothing is left. The signal is SIGSYS, number 31.
const KILLS: &[&str] = &["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"];

fn kills(kit: &Kit, action: &str) -> Outcome {
    const WORDS: &[&str] = &["/init", "echo", "before", "+", "try", "mkdir", "/tmp/made", "+", "echo", "after"];
    let profile = all_but(&json!([{ "names": ["mkdir", "mkdirat"], "action": action }]));
    let mut container = kit.container()?;
    filter(&mut container, &profile)?;
    container.spec.set_args(WORDS);
    let output = container.run()?;
    ensure_eq!((output.code(), output.stdout.as_str()), (159, "before\n"), "run ({})", output.stderr);
    let mut container = kit.container()?;
    filter(&mut container, &profile)?;
    container.start_waiting()?;
    let output = container.exec_with(&[], WORDS)?;
    ensure_eq!((output.code(), output.stdout.as_str()), (159, "before\n"), "exec ({})", output.stderr);
    ensure_eq!(container.status()?, "running", "status");
    Ok(())
}

/// Capabilities do not lead past the filter.
fn privileged(kit: &Kit) -> Outcome {
    const TRIES: &[&[&str]] = &[&["mount", "tmpfs", "/mnt"], &["unshare", "mount"], &["sethostname", "other"]];
    let check = |profile: &str, expected: &str| {
        for locked in [true, false] {
            let mut container = kit.container()?;
            container.spec.process_mut().capabilities = Some(caps(&["CAP_SYS_ADMIN"]));
            container.spec.process_mut().no_new_privileges = locked;
            if !profile.is_empty() {
                filter(&mut container, profile)?;
            }
            container.spec.set_args(&words(TRIES));
            ensure_eq!(container.run_ok()?.stdout, expected, "answers, noNewPrivileges {locked}");
        }
        Ok(())
    };
    check(&docker()?, "EPERM\nEPERM\nEPERM\n")?;
    check("", "ok\nok\nok\n")
}

fn mode(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    expect(&container.run_json()?, &[("/seccomp", "0"), ("/seccomp_filters", "0")])?;
    let mut container = kit.container()?;
    filter(&mut container, &all_but(&json!([{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" }])))?;
    container.start_waiting()?;
    expect(&container.exec_report(&[])?, &[("/seccomp", "2"), ("/seccomp_filters", "1"), ("/no_new_privs", "true")])
}

fn change(container: &mut Container<'_>, profile: &Value) -> Outcome {
    filter(container, &profile.to_string())
}

const REFUSED: &[Refused] = &[
    Refused {
        name: "unknown_action",
        change: |c| filter(c, &all_but(&json!([{ "names": ["mkdir"], "action": "SCMP_ACT_DENY" }]))),
        says: "scmp_act_deny",
    },
    Refused {
        name: "unknown_default_action",
        change: |c| change(c, &json!({ "defaultAction": "ALLOW" })),
        says: "defaultaction",
    },
    Refused {
        name: "unknown_flag",
        change: |c| change(c, &json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NEW"] })),
        says: "seccomp_filter_flag_new",
    },
    Refused {
        name: "unknown_architecture",
        change: |c| change(c, &json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"] })),
        says: "scmp_arch_pdp11",
    },
    Refused {
        name: "unknown_operator",
        change: |c| {
            let rule = json!({ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_LIKE" }] });
            filter(c, &all_but(&json!([rule])))
        },
        says: "scmp_cmp_like",
    },
    Refused {
        name: "argument_out_of_range",
        change: |c| {
            let rule = json!({ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                "args": [{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }] });
            filter(c, &all_but(&json!([rule])))
        },
        says: "argument 6",
    },
    Refused {
        name: "notify_without_listener_path",
        change: |c| filter(c, &all_but(&json!([{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }]))),
        says: "listenerpath",
    },
    Refused {
        name: "metadata_without_listener_path",
        change: |c| change(c, &json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x" })),
        says: "listenermetadata",
    },
    Refused { name: "no_profile", change: |c| change(c, &json!({ "syscalls": [] })), says: "seccomp" },
];

/// The one file of compiled filters in a container's directory of state.
fn cached(container: &Container<'_>) -> Outcome<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(container.state_root().join(".seccomp"))? {
        found.push(entry?.path());
    }
    ensure_eq!(found.len(), 1, "compiled filters: {found:?}");
    Ok(found.remove(0))
}

/// What mkdir gives in a container of its own kind, under a filter that denies it by `errno`.
fn mkdir(container: &mut Container<'_>, errno: u32) -> Outcome<String> {
    let rule = json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno }]);
    filter(container, &all_but(&rule))?;
    container.spec.set_args(&["/init", "try", "mkdir", "/tmp/made"]);
    Ok(container.run_ok()?.stdout.trim_end().to_owned())
}

/// A filter that was put in the place of another's holds: nothing was compiled.
fn cache_used(kit: &Kit) -> Outcome {
    let (mut one, mut other) = (kit.container()?, kit.container()?);
    ensure_eq!(mkdir(&mut one, 28)?, "ENOSPC", "first run");
    ensure_eq!(mkdir(&mut other, 18)?, "EXDEV", "another profile");
    let (path, foreign) = (cached(&one)?, cached(&other)?);
    ensure!(path.file_name() != foreign.file_name(), "two profiles, one name: {}", path.display());
    fs::copy(&foreign, &path)?;
    ensure_eq!(mkdir(&mut one, 28)?, "EXDEV", "second run");
    one.start_waiting()?;
    let output = one.exec_ok(&[], &["/init", "try", "mkdir", "/tmp/made"])?;
    ensure_eq!(output.stdout.as_str(), "EXDEV\n", "exec");
    Ok(())
}

/// What cannot be used is compiled again, and kept as the first time.
fn cache_replaced(kit: &Kit, spoil: fn(&std::path::Path) -> Outcome) -> Outcome {
    let mut container = kit.container()?;
    ensure_eq!(mkdir(&mut container, 28)?, "ENOSPC", "first run");
    let path = cached(&container)?;
    let good = fs::read(&path)?;
    spoil(&path)?;
    ensure_eq!(mkdir(&mut container, 28)?, "ENOSPC", "second run");
    ensure!(fs::symlink_metadata(&path)?.is_file(), "no file any more: {}", path.display());
    ensure!(fs::read(&path)? == good, "the file in the cache was not replaced");
    Ok(())
}

/// Changes one byte of the program: the error number that it returns.
fn damage(path: &std::path::Path) -> Outcome {
    let mut bytes = fs::read(path)?;
    let last = bytes.len() - 4;
    bytes[last] ^= 1;
    Ok(fs::write(path, bytes)?)
}

/// Puts a symbolic link to a good filter in the place of the file: what is elsewhere is not the runtime's.
fn link(path: &std::path::Path) -> Outcome {
    let elsewhere = path.with_extension("elsewhere");
    fs::rename(path, &elsewhere)?;
    Ok(std::os::unix::fs::symlink(elsewhere, path)?)
}

/// A container whose mkdir is told to a listener.
fn notified(kit: &Kit) -> Outcome<(Container<'_>, ConsoleSocket)> {
    let mut container = kit.container()?;
    let path = container.host("listener");
    let socket = ConsoleSocket::bind(&path)?;
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path.display().to_string(),
        "listenerMetadata": "of this test",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
    });
    filter(&mut container, &profile.to_string())?;
    Ok((container, socket))
}

/// Takes the descriptor and the document that come with it.
fn listener(kit: &Kit, container: &Container<'_>, socket: &ConsoleSocket) -> Outcome<(OwnedFd, Value)> {
    let (mut fds, text) = socket.receive(kit.time(5.0))?;
    ensure_eq!(fds.len(), 1, "descriptors");
    let told = parse(&String::from_utf8_lossy(&text))?;
    expect(&told, &[("/fds", "[\"seccompFd\"]"), ("/metadata", "\"of this test\"")])?;
    ensure_eq!(at(&told, "/state/id").as_str(), Some(container.id.as_str()), "container of {told}");
    let bundle = container.bundle().display().to_string();
    ensure_eq!(at(&told, "/state/bundle").as_str(), Some(bundle.as_str()), "bundle of {told}");
    ensure!(at(&told, "/ociVersion").as_str().is_some_and(|text| text.starts_with("1.")), "version of {told}");
    Ok((fds.remove(0), told))
}

/// Answers the next call, which is that of the process the document names.
fn answer(kit: &Kit, listener: &OwnedFd, told: &Value, with: Result<i64, i32>) -> Outcome {
    ensure!(readable(listener, kit.time(5.0))?, "no call was handed on");
    let call = receive_notification(listener.as_fd())?;
    ensure_eq!(at(told, "/pid").as_u64(), Some(u64::from(call.pid)), "caller");
    Ok(answer_notification(listener.as_fd(), call.id, with)?)
}

const MAKE_TWO: &[&str] = &["/init", "try", "mkdir", "/tmp/one", "+", "try", "mkdir", "/tmp/two"];

fn notify_run(kit: &Kit) -> Outcome {
    let (mut container, socket) = notified(kit)?;
    container.spec.set_args(MAKE_TWO);
    container.write_config()?;
    let running = container.spawn(&["run", &container.id])?;
    let (fd, told) = listener(kit, &container, &socket)?;
    ensure_eq!(*at(&told, "/pid"), *at(&told, "/state/pid"), "process of {told}");
    answer(kit, &fd, &told, Err(28))?;
    answer(kit, &fd, &told, Ok(0))?;
    let output = running.finish(kit.time(10.0))?;
    ensure_eq!((output.code(), output.stdout.as_str()), (0, "ENOSPC\nok\n"), "answers ({})", output.stderr);
    ensure!(!container.rootfs("tmp/two").exists(), "the call was made although the listener answered it");
    Ok(())
}

/// Without `noNewPrivileges` the filter is in force before the program's identity is, and is told of all the same.
fn notify_new_privileges(kit: &Kit) -> Outcome {
    let (mut container, socket) = notified(kit)?;
    identity(&mut container, 1000, false);
    container.spec.set_args(MAKE_TWO);
    container.write_config()?;
    let running = container.spawn(&["run", &container.id])?;
    let (fd, told) = listener(kit, &container, &socket)?;
    answer(kit, &fd, &told, Ok(0))?;
    answer(kit, &fd, &told, Err(18))?;
    let output = running.finish(kit.time(10.0))?;
    ensure_eq!((output.code(), output.stdout.as_str()), (0, "ok\nEXDEV\n"), "answers ({})", output.stderr);
    Ok(())
}

fn notify_create_start(kit: &Kit) -> Outcome {
    let (mut container, socket) = notified(kit)?;
    container.spec.process_mut().args = strings(&["/init", "try", "mkdir", "/tmp/one", "+", "append", "/done", "x"]);
    container.create()?;
    let pid = container.pid()?;
    container.start()?;
    let (fd, told) = listener(kit, &container, &socket)?;
    ensure_eq!(at(&told, "/pid").as_i64(), Some(i64::from(pid)), "process of {told}");
    ensure_eq!(at(&told, "/state/pid").as_i64(), Some(i64::from(pid)), "first process of {told}");
    let status = at(&told, "/state/status").as_str().unwrap_or_default();
    ensure!(["creating", "created"].contains(&status), "status of {told}");
    ensure!(!container.rootfs("done").exists(), "the call did not wait for its answer");
    answer(kit, &fd, &told, Ok(0))?;
    let status = container.wait(pid)?;
    ensure_eq!(status.code(), Some(0), "exit code");
    ensure!(container.rootfs("done").exists(), "the program did not go on");
    container.delete()?;
    nothing_left(&container)
}

fn notify_exec(kit: &Kit) -> Outcome {
    let (mut container, socket) = notified(kit)?;
    container.start_waiting()?;
    let pid = container.pid()?;
    let (_first, _) = listener(kit, &container, &socket)?;
    let mut words = vec!["exec", &container.id];
    words.extend(MAKE_TWO);
    let running = container.spawn(&words)?;
    let (fd, told) = listener(kit, &container, &socket)?;
    ensure!(at(&told, "/pid").as_i64().is_some_and(|own| own != i64::from(pid)), "process of {told}");
    ensure_eq!(at(&told, "/state/pid").as_i64(), Some(i64::from(pid)), "first process of {told}");
    ensure_eq!(at(&told, "/state/status").as_str(), Some("running"), "status of {told}");
    answer(kit, &fd, &told, Err(28))?;
    answer(kit, &fd, &told, Ok(0))?;
    let output = running.finish(kit.time(10.0))?;
    ensure_eq!((output.code(), output.stdout.as_str()), (0, "ENOSPC\nok\n"), "answers ({})", output.stderr);
    Ok(())
}

/// A call that is waiting when its listener goes away ends then, and later ones do not wait.
fn notify_closed(kit: &Kit) -> Outcome {
    let (mut container, socket) = notified(kit)?;
    container.spec.set_args(MAKE_TWO);
    container.write_config()?;
    let running = container.spawn(&["run", &container.id])?;
    let (fd, _) = listener(kit, &container, &socket)?;
    ensure!(readable(&fd, kit.time(5.0))?, "no call was handed on");
    ensure_eq!(running.written().0.as_str(), "", "answers before the listener is gone");
    drop(fd);
    let output = running.finish(kit.time(10.0))?;
    ensure_eq!((output.code(), output.stdout.as_str()), (0, "ENOSYS\nENOSYS\n"), "answers ({})", output.stderr);
    Ok(())
}

fn notify_nobody(kit: &Kit) -> Outcome {
    let (mut container, socket) = notified(kit)?;
    drop(socket);
    container.spec.set_args(MAKE_TWO);
    let output = container.run_refused()?;
    ensure!(output.stderr.contains("listener"), "the message does not name the listener: {}", output.stderr);
    ensure_eq!(output.stdout.as_str(), "", "what the program wrote");
    nothing_left(&container)
}
