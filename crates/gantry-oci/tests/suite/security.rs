//! Break-outs that other runtimes fell to, tried for real: each test fails where the defence is absent.
//!
//! Named after the first published case of each kind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gantry_testkit::command::wait_for;
use gantry_testkit::console::{ConsoleSocket, read_terminal};
use gantry_testkit::json::{at, has, mount_at, parse};
use gantry_testkit::spec::{Parts, caps, cgroup_mount, mapping, mount};
use gantry_testkit::{Container, Kit, Outcome, Test, ensure, ensure_eq, host, outcome};
use serde_json::Value;

use crate::check::{expect, nothing_left, test};
use crate::rootless::rootless;

/// The tests of this area.
pub fn tests() -> Vec<Test> {
    vec![
        test("security::cve_2019_5736_overwrite_during_exec", overwrite_exec),
        test("security::cve_2019_5736_overwrite_during_run", overwrite_run),
        test("security::cve_2024_21626_descriptors", leaked_descriptors),
        test("security::cve_2024_21626_working_directory", |kit| descriptor_cwd(kit, false)).seconds(60.0),
        test("security::cve_2024_21626_working_directory_of_exec", |kit| descriptor_cwd(kit, true)).seconds(60.0),
        test("security::cve_2024_21626_working_directory_by_link", cwd_by_link),
        test("security::cve_2025_31133_null_is_a_link", null_link),
        test("security::cve_2025_31133_null_is_a_file", null_file),
        test("security::cve_2025_31133_null_of_the_host_is_a_file", null_of_the_host),
        test("security::cve_2025_52565_console_is_a_link", console_link),
        test("security::cve_2025_52881_proc_is_a_link", |kit| special_link(kit, "proc")),
        test("security::cve_2025_52881_sys_is_a_link", |kit| special_link(kit, "sys")),
        test("security::cve_2019_16884_tmpfs_over_proc", |kit| over_proc(kit, "tmpfs")),
        test("security::cve_2019_16884_bind_over_proc", |kit| over_proc(kit, "bind")),
        test("security::cve_2019_19921_mount_below_proc", below_proc),
        test("security::cve_2025_52881_sysctl_into_a_false_proc", false_proc_sysctl),
        test("security::cve_2021_30465_symlink_swap", |kit| symlink_race(kit, false)).seconds(60.0),
        test("security::cve_2024_45310_symlink_swap_of_a_file", |kit| symlink_race(kit, true)).seconds(60.0),
        test("security::cve_2026_41579_dev_is_a_link", |kit| dev_link(kit, false)),
        test("security::cve_2026_47766_dev_is_a_link_without_a_mount", |kit| dev_link(kit, true)),
        test("security::cve_2022_29162_inheritable_capabilities", inheritable),
        test("security::cve_2026_30892_users_of_exec", exec_users),
        test("security::cve_2023_25809_cgroup_of_a_rootless_container", rootless_cgroup),
        test("security::cve_2016_9962_joining_process", joining_process),
        test("security::cve_2021_43784_long_messages", long_messages),
        test("security::missing_kernel_interfaces_fail_closed", missing_interfaces).seconds(90.0),
        test("security::fifo_of_start_is_not_reachable", start_channel),
        test("security::masked_paths_cannot_be_unmounted", unmount_masks),
        test("security::read_only_paths_cannot_be_remounted", remount),
        test("security::cve_2023_28642_apparmor_when_proc_is_a_link", apparmor_proc_link),
    ]
}

/// A copy of the runtime that an attack may destroy, and its contents.
fn own_runtime(container: &mut Container<'_>) -> Outcome<(std::path::PathBuf, Vec<u8>)> {
    let copy = container.host("runtime");
    fs::copy(&container.kit.runtime, &copy)?;
    let contents = fs::read(&copy)?;
    container.runtime.clone_from(&copy);
    Ok((copy, contents))
}

/// Fails when the attack's answers show a write that worked, or the file has changed.
fn check_unharmed(found: &Value, copy: &Path, contents: &[u8]) -> Outcome {
    ensure!(fs::read(copy)? == contents, "the runtime's executable was overwritten: {found}");
    for answer in at(found, "/answers").as_array().into_iter().flatten() {
        ensure!(*at(answer, "/write") != "ok", "an executable of the runtime could be written to: {found}");
    }
    Ok(())
}

/// The container replaces a program by a script whose interpreter is `/proc/self/exe`: what executes it is then the
/// runtime itself. A process inside waits for it, and tries to write to what it executes.
fn overwrite_exec(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let (copy, contents) = own_runtime(&mut container)?;
    fs::write(container.rootfs("bin/evil"), "#!/proc/self/exe\n")?;
    fs::set_permissions(container.rootfs("bin/evil"), fs::Permissions::from_mode(0o755))?;
    container.spec.process_mut().capabilities = Some(caps(&["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]));
    container.start_waiting()?;
    let mut watcher = container.spawn(&["exec", &container.id, "/init", "attack", "executables", "3", "/ready"])?;
    let ready = container.rootfs("ready");
    ensure!(
        wait_for(kit.time(5.0), || ready.exists().then_some(())).is_some(),
        "the watcher is not ready: {:?}",
        watcher.written()
    );
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        // What becomes of it does not matter: the script has no interpreter that could run it.
        container.call(&["exec", &container.id, "/bin/evil"])?;
        container.call(&["exec", &container.id, "/init", "exit", "0"])?;
    }
    let output = std::mem::replace(&mut watcher, container.spawn(&["--version"])?).finish(kit.time(20.0))?;
    watcher.finish(kit.time(10.0))?;
    let found = parse(&output.stdout)?;
    ensure!(at(&found, "/seen").as_u64().is_some_and(|seen| seen > 0), "the watcher saw no process: {found}");
    check_unharmed(&found, &copy, &contents)
}

/// The same from the container's first program: a second container shares its PID namespace and watches.
fn overwrite_run(kit: &Kit) -> Outcome {
    let mut watcher = kit.container()?;
    watcher.spec.process_mut().capabilities = Some(caps(&["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]));
    watcher.start_with(&["/init", "attack", "executables", "3", "/ready", "+", "sleep", "60"])?;
    let pid = watcher.pid()?;
    let ready = watcher.rootfs("ready");
    ensure!(wait_for(kit.time(5.0), || ready.exists().then_some(())).is_some(), "the watcher is not ready");
    let mut container = kit.container()?;
    let (copy, contents) = own_runtime(&mut container)?;
    fs::write(container.rootfs("bin/evil"), "#!/proc/self/exe\n")?;
    fs::set_permissions(container.rootfs("bin/evil"), fs::Permissions::from_mode(0o755))?;
    container.spec.join_namespace("pid", &format!("/proc/{pid}/ns/pid"));
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        container.spec.set_args(&["/bin/evil"]);
        container.run()?;
        container.spec.set_args(&["/init", "exit", "0"]);
        container.run()?;
    }
    drop(watcher);
    check_unharmed(&Value::Null, &copy, &contents)
}

/// No descriptor of the runtime, and no directory outside, is within reach of a program.
fn leaked_descriptors(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "attack", "escape", "+", "fds", "+", "sleep", "100"]);
    let output = container.run_with(&["--detach"])?;
    ensure!(output.status.success(), "run: {}", output.text());
    let said = |text: &str| text.lines().count() >= 2;
    let out = wait_for(kit.time(5.0), || Some(newest_output(&container)).filter(|text| said(text)));
    check_closed(&out.unwrap_or_default())?;
    let output = container.exec_ok(&[], &["/init", "attack", "escape", "+", "fds"])?;
    check_closed(&output.stdout)
}

/// What the commands of this container have written so far.
fn newest_output(container: &Container<'_>) -> String {
    let files = fs::read_dir(container.output_dir()).into_iter().flatten().flatten();
    let texts = files.filter(|file| file.path().extension().is_some_and(|kind| kind == "stdout"));
    texts.filter_map(|file| fs::read_to_string(file.path()).ok()).filter(|text| text.starts_with('[')).collect()
}

fn check_closed(text: &str) -> Outcome {
    let mut lines = text.lines();
    let ways = parse(lines.next().unwrap_or_default())?;
    ensure!(ways.as_array().is_some_and(Vec::is_empty), "ways out: {ways}");
    let fds = parse(lines.next().unwrap_or_default())?;
    ensure_eq!(fds.as_array().map(Vec::len), Some(3), "descriptors: {fds}");
    Ok(())
}

/// A working directory that is a descriptor of the runtime would be outside the root.
fn descriptor_cwd(kit: &Kit, exec: bool) -> Outcome {
    let mut container = kit.container()?;
    if exec {
        container.start_waiting()?;
    }
    for number in 3..24 {
        let cwd = format!("/proc/self/fd/{number}");
        let words = ["/init", "attack", "escape"];
        let output = if exec {
            container.exec_with(&["--cwd", &cwd], &words)?
        } else {
            container.spec.process_mut().cwd.clone_from(&cwd);
            container.spec.set_args(&words);
            container.run()?
        };
        ensure!(!output.status.success(), "{cwd} was taken as working directory: {}", output.text());
    }
    Ok(())
}

fn cwd_by_link(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    for number in 3..16 {
        symlink(format!("/proc/self/fd/{number}"), container.rootfs(&format!("link{number}")))?;
    }
    container.start_waiting()?;
    for number in 3..16 {
        let output = container.exec_with(&["--cwd", &format!("/link{number}")], &["/init", "attack", "escape"])?;
        ensure!(!output.status.success(), "a link to descriptor {number} was taken: {}", output.text());
    }
    Ok(())
}

/// A root that has `/dev` of its own, with no tmpfs above it, so that its `/dev/null` is what a mask could take.
fn own_dev(container: &mut Container<'_>) {
    container.spec.mounts.retain(|mount| !mount.destination.starts_with("/dev"));
}

/// A mask made from a `/dev/null` that is a link would mount what the link leads to, for writing.
fn null_link(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    own_dev(&mut container);
    fs::write(container.rootfs("secret"), "secret")?;
    fs::write(container.rootfs("bait"), "bait")?;
    symlink("/bait", container.rootfs("dev/null"))?;
    check_masked(&mut container)
}

fn null_file(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    own_dev(&mut container);
    fs::write(container.rootfs("secret"), "secret")?;
    fs::write(container.rootfs("dev/null"), "bait")?;
    check_masked(&mut container)
}

/// Either the container is refused, or what is masked is the real null device.
fn check_masked(container: &mut Container<'_>) -> Outcome {
    container.spec.linux_mut().masked_paths = vec!["/secret".into()];
    container.spec.set_args(&["/init", "stat", "/secret", "+", "cat", "/secret"]);
    let output = container.run()?;
    if output.status.success() {
        // A runtime that takes the false null device for the real one puts it in place of the standard streams.
        ensure!(!output.stdout.is_empty(), "the program's output went elsewhere: {}", output.text());
        let mut lines = output.stdout.lines();
        let found = parse(lines.next().unwrap_or_default())?;
        expect(&found, &[("/kind", "\"char\""), ("/major", "1"), ("/minor", "3")])?;
        ensure_eq!(lines.next(), None, "contents of the masked path");
    }
    ensure!(fs::read_to_string(container.rootfs("secret"))? == "secret", "the masked file was written to");
    Ok(())
}

/// `/dev/console` as a link would have the terminal mounted over what it leads to.
fn console_link(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    // The terminals are real, and the directory that they are mounted in is the root's own.
    container.spec.mounts.retain(|mount| !mount.destination.starts_with("/dev") || mount.destination == "/dev/pts");
    container.spec.process_mut().terminal = true;
    fs::write(container.rootfs("target"), "untouched")?;
    symlink("/target", container.rootfs("dev/console"))?;
    let path = container.host("console");
    let socket = ConsoleSocket::bind(&path)?;
    container.spec.set_args(&["/init", "stat", "/target", "+", "echo", "end"]);
    container.write_config()?;
    let created = container.call(&["create", "--console-socket", &path.display().to_string(), &container.id])?;
    if !created.status.success() {
        ensure!(created.stderr.contains("/dev/console"), "refused for another reason: {}", created.text());
        return nothing_left(&container);
    }
    let mut terminal = socket.terminal(kit.time(5.0))?;
    container.start()?;
    let text = read_terminal(&mut terminal, "end", kit.time(5.0))?;
    expect(&parse(text.lines().next().unwrap_or_default())?, &[("/kind", "\"file\"")])
}

/// A root whose `/proc` or `/sys` is a link: refused, with nothing mounted where the link leads.
fn special_link(kit: &Kit, name: &str) -> Outcome {
    let container = kit.container()?;
    fs::remove_dir(container.rootfs(name))?;
    fs::create_dir(container.rootfs("elsewhere"))?;
    symlink("/elsewhere", container.rootfs(name))?;
    container.run_refused()?;
    nothing_left(&container)
}

/// A false `/proc` would have labels and parameters written to where it likes.
fn over_proc(kit: &Kit, kind: &str) -> Outcome {
    let mut container = kit.container()?;
    let source = container.host_dir("false-proc")?.display().to_string();
    container.spec.mounts.retain(|mount| mount.destination != "/proc");
    let options: &[&str] = if kind == "bind" { &["bind"] } else { &[] };
    container.spec.mounts.insert(0, mount("/proc", kind, if kind == "bind" { &source } else { kind }, options));
    container.run_refused()?;
    nothing_left(&container)
}

fn below_proc(kit: &Kit) -> Outcome {
    for target in ["/proc/self/attr", "/proc/sys/kernel", "/tmp/../proc/self"] {
        let mut container = kit.container()?;
        container.mount(mount(target, "tmpfs", "tmpfs", &[]));
        container.spec.set_args(&["/init", "echo", "mounted on", target]);
        container.run_refused()?;
        nothing_left(&container)?;
    }
    // By a link, the same place has another name.
    let mut container = kit.container()?;
    symlink("/proc/self", container.rootfs("innocent"))?;
    container.mount(mount("/innocent/attr", "tmpfs", "tmpfs", &[]));
    container.spec.set_args(&["/init", "echo", "mounted by the link"]);
    container.run_refused()?;
    nothing_left(&container)
}

/// Files of the root that pretend to be kernel parameters get nothing: what is written goes to the real ones.
fn false_proc_sysctl(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    fs::create_dir_all(container.rootfs("proc/sys/net/ipv4"))?;
    fs::write(container.rootfs("proc/sys/net/ipv4/ip_forward"), "untouched")?;
    container.spec.mounts.retain(|mount| mount.destination != "/proc");
    container.spec.linux_mut().sysctl.insert("net.ipv4.ip_forward".into(), "1".into());
    container.spec.linux_mut().masked_paths.clear();
    container.spec.linux_mut().readonly_paths.clear();
    container.spec.set_args(&["/init", "echo", "ran"]);
    let output = container.run()?;
    ensure!(output.status.code().is_some(), "killed: {}", output.text());
    let found = fs::read_to_string(container.rootfs("proc/sys/net/ipv4/ip_forward"))?;
    ensure_eq!(found.as_str(), "untouched", "the false parameter");
    Ok(())
}

/// While containers start, another party swaps a directory in the root with a link to the outside, over and over. Nothing
/// may ever be made or mounted outside.
fn symlink_race(kit: &Kit, file: bool) -> Outcome {
    let mut container = kit.container()?;
    let outside = container.host_dir("outside")?;
    let shared = container.host_dir("shared")?;
    fs::create_dir_all(shared.join("swap"))?;
    symlink(&outside, shared.join("link"))?;
    fs::write(container.host("source"), "source")?;
    let source = container.host("source").display().to_string();
    container.mount(mount("/mnt", "bind", &shared.display().to_string(), &["bind"]));
    for number in 0..4 {
        let target = format!("/mnt/swap/t{number}");
        container.mount(if file {
            mount(&target, "bind", &source, &["bind"])
        } else {
            mount(&target, "tmpfs", "tmpfs", &["size=4k"])
        });
    }
    container.spec.set_args(&["/init", "exit", "0"]);
    let done = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let (a, b) = (shared.join("swap"), shared.join("link"));
                if rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, flags).is_err() {
                    break;
                }
            }
        });
        let end = Instant::now() + Duration::from_secs(6);
        let mut outcome: Outcome<u32> = Ok(0);
        while Instant::now() < end && outcome.is_ok() {
            let round = container.run().and_then(|output| {
                ensure!(output.status.code().is_some(), "killed: {}", output.text());
                ensure!(
                    fs::read_dir(&outside)?.count() == 0,
                    "something was made outside of the root: {}",
                    output.text()
                );
                Ok(())
            });
            outcome = outcome.and_then(|count| round.map(|()| count + 1));
        }
        done.store(true, Ordering::Relaxed);
        outcome
    });
    ensure!(found? > 3, "too few rounds to tell");
    Ok(())
}

/// `/dev` as a link to the outside: devices, links and terminals would be made there.
fn dev_link(kit: &Kit, without_mount: bool) -> Outcome {
    let mut container = kit.container()?;
    let outside = container.host_dir("outside")?;
    fs::remove_dir(container.rootfs("dev"))?;
    symlink(&outside, container.rootfs("dev"))?;
    if without_mount {
        own_dev(&mut container);
    }
    let output = container.run()?;
    ensure!(output.status.code().is_some(), "killed: {}", output.text());
    let made: Vec<_> = fs::read_dir(&outside)?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(made.is_empty(), "made outside of the root: {made:?}");
    nothing_left(&container)
}

/// Nothing is inheritable unless it was asked for: a file with inheritable capabilities would give them to a user.
fn inheritable(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.start_waiting()?;
    let none = [("/caps/inheritable", "[]"), ("/caps/ambient", "[]")];
    expect(&container.exec_report(&[])?, &none)?;
    expect(&container.exec_report(&["--user", "1000:1000"])?, &none)?;
    expect(&container.exec_report(&["--cap", "CAP_NET_RAW"])?, &none)?;
    let second = kit.container()?;
    expect(&second.run_json()?, &none)
}

fn exec_users(kit: &Kit) -> Outcome {
    let matrix = [
        ("0", 0, 0),
        ("1", 1, 0),
        ("1000", 1000, 0),
        ("0:0", 0, 0),
        ("0:1", 0, 1),
        ("1:0", 1, 0),
        ("1:1", 1, 1),
        ("1000:1000", 1000, 1000),
        ("65534:65534", 65_534, 65_534),
        ("4294967294:4294967294", 4_294_967_294_i64, 4_294_967_294_i64),
    ];
    let mut container = kit.container()?;
    container.start_waiting()?;
    for (user, uid, gid) in matrix {
        let report = container.exec_report(&["--user", user])?;
        let found = ["/uid", "/euid", "/gid", "/egid"].map(|name| at(&report, name).as_i64());
        ensure_eq!(found, [Some(uid), Some(uid), Some(gid), Some(gid)], "ids with --user {user}");
        let effective = at(&report, "/caps/effective").as_array().map_or(0, Vec::len);
        ensure_eq!(effective > 0, uid == 0, "whether there are capabilities with --user {user}");
    }
    Ok(())
}

/// Without a cgroup namespace, the mount shows the host's tree: it must not be for writing.
fn rootless_cgroup(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    container.spec.mounts.retain(|mount| mount.destination != "/sys");
    container.spec.drop_namespace("network");
    container.mount(mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]));
    let mut cgroup = cgroup_mount();
    cgroup.options.retain(|option| option != "ro");
    container.mount(cgroup);
    let output = container.run()?;
    ensure!(output.status.code().is_some(), "killed: {}", output.text());
    if !output.status.success() {
        return nothing_left(&container);
    }
    let report = parse(&output.stdout)?;
    let mounts = at(&report, "/mounts").as_array().map(Vec::as_slice).unwrap_or_default();
    let is_cgroup = |found: &&Value| at(found, "/type").as_str().is_some_and(|kind| kind.starts_with("cgroup"));
    // Those that came with the host's `/sys` lie below: what is in force is the last at a place.
    let targets = mounts.iter().filter(is_cgroup).filter_map(|found| at(found, "/target").as_str());
    for found in targets.filter_map(|target| mount_at(&report, target)) {
        ensure!(!has(found, "/options", "rw"), "cgroups of the host are mounted for writing: {found}");
    }
    Ok(())
}

/// What masks is the null device of the host, and is looked at before it is used.
fn null_of_the_host(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let unshare = host::need_tool("unshare")?.display().to_string();
    let bait = container.host("bait");
    fs::write(&bait, "bait")?;
    let swap = format!("mount --bind {} /dev/null && exec \"$@\"", bait.display());
    container.prefix =
        [&*unshare, "-m", "--propagation", "private", "sh", "-c", &*swap, "sh"].map(str::to_owned).into();
    fs::write(container.rootfs("secret"), "secret")?;
    container.spec.linux_mut().masked_paths = vec!["/secret".into()];
    container.spec.set_args(&["/init", "cat", "/secret"]);
    let output = container.run_refused()?;
    ensure!(output.stderr.contains("/dev/null"), "refused for another reason: {}", output.text());
    nothing_left(&container)
}

/// A process of the runtime that joins the container lets nobody there look into it before it executes its program.
fn joining_process(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    // The attacker may trace what has no more rights than itself: what the defence is about.
    container.spec.process_mut().capabilities = Some(caps(&["CAP_KILL", "CAP_AUDIT_WRITE", "CAP_NET_BIND_SERVICE"]));
    container.start_waiting()?;
    let watcher = container.spawn(&["exec", &container.id, "/init", "attack", "joiners", "3", "/ready"])?;
    let ready = container.rootfs("ready");
    ensure!(wait_for(kit.time(5.0), || ready.exists().then_some(())).is_some(), "the watcher is not ready");
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        container.exec_ok(&[], &["/init", "exit", "0"])?;
    }
    let output = watcher.finish(kit.time(20.0))?;
    let found = parse(&output.stdout)?;
    ensure!(at(&found, "/seen").as_u64().is_some_and(|seen| seen > 0), "the watcher saw no process: {found}");
    ensure!(at(&found, "/leaks").as_array().is_some_and(Vec::is_empty), "processes that could be looked into: {found}");
    Ok(())
}

/// The way by which `start` reaches a created container is not within reach of its programs.
fn start_channel(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "sleep", "100"]);
    container.create()?;
    let output = container.exec_ok(&[], &["/init", "attack", "escape", "+", "fds"])?;
    check_closed(&output.stdout)?;
    container.start()?;
    let pid = container.pid()?;
    let opened = || fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or_default();
    let quiet = wait_for(kit.time(5.0), || (opened() == 3).then_some(()));
    ensure!(quiet.is_some(), "descriptors of the program: {}", opened());
    Ok(())
}

fn unmount_masks(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.map_users(&[mapping(0, 100_000, 65_536)]);
    container.spec.set_args(&[
        "/init",
        "try",
        "umount",
        "/proc/keys",
        "+",
        "try",
        "umount",
        "/proc/sys",
        "+",
        "try",
        "mount",
        "proc",
        "/mnt",
    ]);
    let output = container.run_ok()?.stdout;
    ensure!(output.lines().all(|answer| answer == "EPERM"), "answers: {output}");
    Ok(())
}

fn remount(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&[
        "/init",
        "try",
        "remount-rw",
        "/proc/sys",
        "+",
        "try",
        "write",
        "/proc/sys/kernel/domainname",
        "x",
    ]);
    let output = container.run_ok()?.stdout;
    ensure_eq!(output.as_str(), "EPERM\nEROFS\n", "answers");
    Ok(())
}

/// How a configuration is changed, by way of a path outside.
type Change = fn(&mut Container<'_>, &str);

/// Parts of a configuration whose length does not fit 16 bits: what one process of the runtime tells another must not be
/// cut off or taken for something else.
fn long_messages(kit: &Kit) -> Outcome {
    let long = "x".repeat(70_000);
    let changes: [(&str, Change); 4] = [
        ("namespace path", |c, long| c.spec.join_namespace("network", &format!("/{long}"))),
        ("working directory", |c, long| c.spec.process_mut().cwd = format!("/{long}")),
        ("mount target", |c, long| c.spec.mounts.push(mount(&format!("/{long}"), "tmpfs", "tmpfs", &[]))),
        ("mappings", |c, _| {
            c.spec.map_users(&(0..5000).map(|id| mapping(id, 100_000 + 2 * id, 1)).collect::<Vec<_>>());
        }),
    ];
    for (what, change) in changes {
        let mut container = kit.container()?;
        change(&mut container, &long);
        let output = container.run()?;
        ensure!(
            output.status.code().is_some_and(|code| code != 0),
            "a {what} that is too long: exit {}",
            output.code()
        );
        nothing_left(&container)?;
    }
    let mut container = kit.container()?;
    container.spec.process_mut().env.push(format!("LONG={long}"));
    let report = container.run_json()?;
    ensure_eq!(at(&report, "/env/LONG").as_str().map(str::len), Some(long.len()), "length of a long variable");
    Ok(())
}

/// Without an interface of newer kernels the runtime does without it in full, or refuses; it never does less.
fn missing_interfaces(kit: &Kit) -> Outcome {
    let strace = host::need_tool("strace")?;
    let calls =
        ["openat2", "open_tree", "move_mount", "mount_setattr", "fsopen", "clone3", "close_range", "pidfd_open"];
    for call in calls {
        let mut container = kit.container()?;
        fs::write(container.rootfs("secret"), "secret")?;
        let source = container.host_dir("source")?;
        fs::create_dir(source.join("sub"))?;
        container.host_mount("tmpfs", "tmpfs", &source.join("sub"), "size=1m")?;
        container.mount(mount("/m", "bind", &source.display().to_string(), &["rbind", "rro"]));
        container.spec.linux_mut().masked_paths.push("/secret".into());
        container.spec.set_args(&[
            "/init",
            "cat",
            "/secret",
            "+",
            "try",
            "create",
            "/m/x",
            "+",
            "try",
            "create",
            "/m/sub/x",
            "+",
            "try",
            "write",
            "/proc/sys/kernel/domainname",
            "x",
            "+",
            "attack",
            "escape",
            "+",
            "fds",
        ]);
        container.write_config()?;
        container.prefix =
            vec![strace.display().to_string(), "-f".into(), "-qq".into(), "-o".into(), "/dev/null".into()];
        container.prefix.push(format!("--inject={call}:error=ENOSYS"));
        let output = container.call(&["run", &container.id])?;
        container.prefix.clear();
        if !output.status.success() {
            // What a killed runtime leaves is the matter of other tests; this one is not to be killed.
            ensure!(output.status.code().is_some(), "without {call}: {}", output.text());
            continue;
        }
        let (answers, rest) = output.stdout.split_once('[').unwrap_or_default();
        ensure_eq!(answers, "EROFS\nEROFS\nEROFS\n", "answers without {call}");
        check_closed(&format!("[{rest}"))?;
    }
    Ok(())
}

/// With `/proc` as a link, the label would be written to nowhere, and the program would run without it.
fn apparmor_proc_link(kit: &Kit) -> Outcome {
    if !host::security_modules().iter().any(|name| name == "apparmor") {
        return outcome::skip("this kernel has no AppArmor");
    }
    let mut container = kit.container()?;
    fs::remove_dir(container.rootfs("proc"))?;
    fs::create_dir_all(container.rootfs("false/self/attr"))?;
    fs::write(container.rootfs("false/self/attr/exec"), "")?;
    symlink("/false", container.rootfs("proc"))?;
    container.spec.process_mut().apparmor_profile = "unconfined".into();
    container.run_refused()?;
    nothing_left(&container)
}
