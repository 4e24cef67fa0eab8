//! Checkpoint and restore: what a container was doing goes on.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use gantry_testkit::command::wait_for;
use gantry_testkit::console::{ConsoleSocket, read_terminal};
use gantry_testkit::host::{alive, namespace_id, need_tool};
use gantry_testkit::outcome::{fail, skip};
use gantry_testkit::spec::{Parts, hook, mount};
use gantry_testkit::{Container, Kit, Outcome, Test, ensure, ensure_eq, reaper};

use crate::check::{nothing_left, test};

/// Counts in a file, ten times a second.
/// The megabyte that it holds and never changes is what a second dump can spare.
const COUNT: &str = "big=$(head -c 1000000 /bin/busybox | tr -c a a); i=0; while true; do i=$((i+1)); echo $i > /tmp/count; sleep 0.1; done";

/// The tests of this area.
pub fn tests() -> Vec<Test> {
    vec![
        test("checkpoint::goes_on", |kit| goes_on(kit, |_| Ok(()), |_| Ok(()))),
        test("checkpoint::in_place_of_the_stopped", in_place),
        test("checkpoint::leave_running", leave_running),
        test("checkpoint::paused", paused),
        test("checkpoint::cgroup_mount", cgroup_mount),
        test("checkpoint::cgroup_namespace", cgroup_namespace),
        test("checkpoint::cgroups_left_to_the_runtime", cgroups_ignored),
        test("checkpoint::bind_mounts", bind_mounts),
        test("checkpoint::bind_mount_that_is_recursive", recursive_bind),
        test("checkpoint::read_only_root", read_only_root),
        test("checkpoint::joined_network_namespace", joined_network),
        test("checkpoint::terminal", terminal),
        test("checkpoint::tcp_listener", tcp_listener),
        test("checkpoint::foreground", foreground),
        test("checkpoint::pipe", pipe),
        test("checkpoint::failed_goes_on", failed),
        test("checkpoint::pre_dump", pre_dump),
        test("checkpoint::hooks", hooks),
        test("checkpoint::refused_before_the_start", refused_when_created),
        test("checkpoint::restore_without_images", without_images),
        test("checkpoint::restore_of_damaged_images", damaged),
        test("checkpoint::restore_over_a_running_container", over_running),
    ]
}

/// Skips the test where CRIU is missing, or says itself that it does not work here.
fn need_criu(kit: &Kit) -> Outcome {
    static USABLE: OnceLock<Result<(), String>> = OnceLock::new();
    let criu = need_tool("criu")?;
    kit.need_busybox()?;
    let check = || {
        let place = kit.container().map_err(|_| "there is no place for its output".to_owned())?;
        let mut check = Command::new(&criu);
        let output = gantry_testkit::command::run(check.arg("check"), &place.output_dir(), kit.time(20.0));
        let output = output.map_err(|error| error.to_string())?;
        let said = output.stderr.trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    };
    match USABLE.get_or_init(check) {
        Ok(()) => Ok(()),
        Err(said) => skip(format!("criu does not work here: criu check: {}", said.lines().last().unwrap_or_default())),
    }
}

fn images(container: &Container<'_>) -> String {
    container.host("images").display().to_string()
}

fn checkpoint(container: &Container<'_>, options: &[&str]) -> Outcome {
    let images = images(container);
    let words = [&["checkpoint", "--image-path", &images], options, &[&container.id]].concat();
    container.ok(&words).map(drop)
}

fn restore(container: &Container<'_>, options: &[&str]) -> Outcome {
    let images = images(container);
    let words = [&["restore", "--detach", "--image-path", &images], options, &[&container.id]].concat();
    container.ok(&words).map(drop)
}

fn count(container: &Container<'_>) -> Option<u64> {
    fs::read_to_string(container.rootfs("/tmp/count")).ok()?.trim().parse().ok()
}

/// The next number after at least `from`.
fn counts_on(container: &Container<'_>, from: u64) -> Outcome<u64> {
    let next = wait_for(container.kit.time(5.0), || count(container).filter(|now| *now > from));
    next.map_or_else(|| fail(format!("the count stays at {:?}, was {from}", count(container))), Ok)
}

/// A container that counts, and has come to 5.
fn counting<'k>(kit: &'k Kit, change: impl FnOnce(&mut Container<'k>) -> Outcome) -> Outcome<Container<'k>> {
    need_criu(kit)?;
    let mut container = kit.container()?;
    change(&mut container)?;
    container.start_with(&["/bin/sh", "-c", COUNT])?;
    counts_on(&container, 5)?;
    Ok(container)
}

/// Checkpoints a container that counts, removes it, restores it, and does to it what can be done to a container.
fn goes_on(kit: &Kit, change: fn(&mut Container<'_>) -> Outcome, then: fn(&mut Container<'_>) -> Outcome) -> Outcome {
    let mut container = counting(kit, |container| change(container))?;
    let before = container.pid()?;
    checkpoint(&container, &[])?;
    container.wait(before)?;
    ensure_eq!(container.status()?, "stopped", "status after the checkpoint");
    let at = count(&container).unwrap_or_default();
    container.delete()?;
    nothing_left(&container)?;
    restore(&container, &[])?;
    ensure_eq!(container.status()?, "running", "status after the restoration");
    let on = counts_on(&container, at)?;
    ensure!(on < at + 50, "the count went from {at} to {on}");
    let report = container.exec_report(&[])?;
    ensure!(report.is_object(), "no report: {report}");
    let pid = container.pid()?;
    in_cgroup(&container, pid)?;
    container.ok(&["pause", &container.id])?;
    ensure_eq!(container.status()?, "paused", "status when paused");
    container.ok(&["resume", &container.id])?;
    counts_on(&container, on)?;
    then(&mut container)?;
    container.kill("KILL")?;
    container.wait(pid)?;
    container.delete()
}

/// Fails unless a process is in the container's cgroup in every hierarchy that the container has.
fn in_cgroup(container: &Container<'_>, pid: i32) -> Outcome {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let dirs = container.kit.cgroups.find(&container.id);
    ensure!(!dirs.is_empty(), "the container has no cgroup");
    let inside = text.lines().filter(|line| line.ends_with(&format!("/{}", container.id))).count();
    ensure_eq!(inside, dirs.len(), "hierarchies in which it is in its cgroup: {text}");
    Ok(())
}

fn in_place(kit: &Kit) -> Outcome {
    let mut container = counting(kit, |_| Ok(()))?;
    let before = container.pid()?;
    checkpoint(&container, &["--work-path", &container.host("work").display().to_string()])?;
    container.wait(before)?;
    ensure!(container.host("work/dump.log").exists(), "no log in the directory of the work");
    let at = count(&container).unwrap_or_default();
    let file = container.host("pid").display().to_string();
    restore(&container, &["--pid-file", &file, "--bundle", &container.bundle().display().to_string()])?;
    counts_on(&container, at)?;
    ensure_eq!(fs::read_to_string(&file)?, container.pid()?.to_string(), "pid file");
    // And once more: what was restored can be saved.
    let before = container.pid()?;
    checkpoint(&container, &[])?;
    container.wait(before)?;
    let at = count(&container).unwrap_or_default();
    restore(&container, &[])?;
    counts_on(&container, at).map(drop)
}

fn leave_running(kit: &Kit) -> Outcome {
    let container = counting(kit, |_| Ok(()))?;
    let pid = container.pid()?;
    checkpoint(&container, &["--leave-running"])?;
    ensure_eq!(container.status()?, "running", "status after the checkpoint");
    ensure_eq!(container.pid()?, pid, "process after the checkpoint");
    counts_on(&container, count(&container).unwrap_or_default()).map(drop)
}

fn paused(kit: &Kit) -> Outcome {
    let mut container = counting(kit, |_| Ok(()))?;
    let before = container.pid()?;
    container.ok(&["pause", &container.id])?;
    checkpoint(&container, &["--leave-running"])?;
    ensure_eq!(container.status()?, "paused", "status after a checkpoint that leaves it running");
    checkpoint(&container, &[])?;
    container.wait(before)?;
    restore(&container, &[])?;
    counts_on(&container, count(&container).unwrap_or_default()).map(drop)
}

fn cgroup_mount(kit: &Kit) -> Outcome {
    let change = |container: &mut Container<'_>| {
        container.mount(gantry_testkit::spec::cgroup_mount());
        Ok(())
    };
    goes_on(kit, change, |container| {
        let listing = container.exec_ok(&[], &["/bin/ls", "/sys/fs/cgroup"])?.stdout;
        ensure!(!listing.trim().is_empty(), "the cgroup mount is empty");
        Ok(())
    })
}

fn cgroup_namespace(kit: &Kit) -> Outcome {
    let change = |container: &mut Container<'_>| {
        container.mount(gantry_testkit::spec::cgroup_mount());
        container.spec.add_namespace("cgroup");
        Ok(())
    };
    goes_on(kit, change, |container| {
        let text = container.exec_ok(&[], &["/bin/cat", "/proc/self/cgroup"])?.stdout;
        ensure!(text.lines().all(|line| line.ends_with(":/")), "the cgroup seen inside: {text}");
        Ok(())
    })
}

fn cgroups_ignored(kit: &Kit) -> Outcome {
    let mut container = counting(kit, |_| Ok(()))?;
    let before = container.pid()?;
    checkpoint(&container, &["--manage-cgroups-mode", "ignore"])?;
    container.wait(before)?;
    restore(&container, &["--manage-cgroups-mode", "ignore"])?;
    counts_on(&container, count(&container).unwrap_or_default())?;
    in_cgroup(&container, container.pid()?)
}

fn text_inside(container: &Container<'_>, path: &str, expect: &str) -> Outcome {
    let found = container.exec_ok(&[], &["/bin/cat", path])?.stdout;
    ensure_eq!(found.trim(), expect, "{path}");
    Ok(())
}

fn bind_mounts(kit: &Kit) -> Outcome {
    let change = |container: &mut Container<'_>| {
        let dir = container.host_dir("data")?;
        fs::write(dir.join("file"), "in a directory")?;
        fs::write(container.host("single"), "alone")?;
        symlink("/mnt", container.rootfs("/link"))?;
        let bind = |target: &str, source: &Path, options: &[&str]| {
            mount(target, "bind", &source.display().to_string(), &[&["bind"], options].concat())
        };
        let single = container.host("single");
        container.mount(bind("/link/data", &dir, &["rw"]));
        container.mount(bind("/etc/single", &single, &["ro"]));
        container.mount(bind("/dev/shm/below", &dir, &["ro"]));
        Ok(())
    };
    goes_on(kit, change, |container| {
        text_inside(container, "/mnt/data/file", "in a directory")?;
        text_inside(container, "/etc/single", "alone")?;
        text_inside(container, "/dev/shm/below/file", "in a directory")?;
        container.exec_ok(&[], &["/bin/sh", "-c", "echo more > /mnt/data/more"])?;
        ensure_eq!(fs::read_to_string(container.host("data/more"))?, "more\n", "written through the bind mount");
        let refused = container.exec_with(&[], &["/bin/sh", "-c", "echo x > /etc/single"])?;
        ensure!(!refused.status.success(), "the read-only bind mount was written to");
        Ok(())
    })
}

fn recursive_bind(kit: &Kit) -> Outcome {
    let change = |container: &mut Container<'_>| {
        let dir = container.host_dir("top")?;
        let below = container.host_dir("top/below")?;
        container.host_mount("tmpfs", "tmpfs", &below, "mode=755")?;
        fs::write(below.join("file"), "below")?;
        container.mount(mount("/mnt/top", "bind", &dir.display().to_string(), &["rbind"]));
        Ok(())
    };
    goes_on(kit, change, |container| text_inside(container, "/mnt/top/below/file", "below"))
}

fn read_only_root(kit: &Kit) -> Outcome {
    let change = |container: &mut Container<'_>| {
        let dir = container.rootfs("/tmp");
        container.mount(mount("/tmp", "bind", &dir.display().to_string(), &["bind"]));
        container.spec.root.get_or_insert_default().readonly = true;
        Ok(())
    };
    goes_on(kit, change, |container| {
        let refused = container.exec_with(&[], &["/bin/sh", "-c", "echo x > /etc/new"])?;
        ensure!(!refused.status.success(), "the read-only root was written to");
        Ok(())
    })
}

fn joined_network(kit: &Kit) -> Outcome {
    need_criu(kit)?;
    let mut holder = reaper::spawn(Command::new("unshare").args(["--net", "sleep", "300"]).stdin(Stdio::null()))?;
    let pid = holder.id().to_string();
    let made = wait_for(kit.time(5.0), || (namespace_id(&pid, "net") != namespace_id("self", "net")).then_some(()));
    let result = made.map_or_else(|| fail("no network namespace"), |()| in_network_of(kit, &pid));
    let _ = holder.kill();
    let _ = holder.wait();
    reaper::waited(&holder);
    result
}

fn in_network_of(kit: &Kit, pid: &str) -> Outcome {
    let path = format!("/proc/{pid}/ns/net");
    let mut container = counting(kit, |container| {
        container.spec.join_namespace("network", &path);
        Ok(())
    })?;
    let before = container.pid()?;
    checkpoint(&container, &[])?;
    container.wait(before)?;
    restore(&container, &[])?;
    counts_on(&container, count(&container).unwrap_or_default())?;
    let now = container.pid()?.to_string();
    ensure_eq!(namespace_id(&now, "net"), namespace_id(pid, "net"), "network namespace");
    Ok(())
}

fn terminal(kit: &Kit) -> Outcome {
    need_criu(kit)?;
    let mut container = kit.container()?;
    container.spec.process_mut().terminal = true;
    let loop_ = "while true; do read line; echo got $line; done";
    container.spec.set_args(&["/bin/sh", "-c", loop_]);
    let path = container.host("console");
    let text = path.display().to_string();
    let socket = ConsoleSocket::bind(&path)?;
    container.create_with(&["--console-socket", &text])?;
    let mut first = socket.terminal(kit.time(5.0))?;
    container.start()?;
    speak(kit, &mut first, "one")?;
    let before = container.pid()?;
    checkpoint(&container, &[])?;
    container.wait(before)?;
    drop(first);
    let images = images(&container);
    let without = container.refused(&["restore", "--detach", "--image-path", &images, &container.id])?;
    ensure!(without.stderr.contains("console"), "without a socket: {}", without.text());
    restore(&container, &["--console-socket", &text])?;
    let mut second = socket.terminal(kit.time(5.0))?;
    speak(kit, &mut second, "two")
}

fn speak(kit: &Kit, terminal: &mut fs::File, word: &str) -> Outcome {
    use std::io::Write;
    terminal.write_all(format!("{word}\n").as_bytes())?;
    let answer = format!("got {word}");
    let said = read_terminal(terminal, &answer, kit.time(5.0))?;
    ensure!(said.contains(&answer), "the terminal says {said:?}");
    Ok(())
}

fn tcp_listener(kit: &Kit) -> Outcome {
    need_criu(kit)?;
    let mut container = kit.container()?;
    container.start_with(&["/bin/busybox", "httpd", "-f", "-p", "127.0.0.1:8000", "-h", "/etc"])?;
    let ask = |container: &Container<'_>| {
        let line = ["/bin/busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8000/group"];
        let said = wait_for(kit.time(10.0), || {
            let output = container.exec_with(&[], &line).ok()?;
            output.stdout.contains("tester").then_some(())
        });
        said.map_or_else(|| fail("nobody answers on the port"), Ok)
    };
    ask(&container)?;
    let before = container.pid()?;
    let images = images(&container);
    let saved = container.call(&["checkpoint", "--tcp-established", "--image-path", &images, &container.id])?;
    if saved.stderr.contains("sockets: Can't get 1:16 opt: Operation not supported") {
        return skip("this criu reads SO_PASSCRED of every socket, which this kernel has for unix sockets alone");
    }
    ensure!(saved.status.success(), "checkpoint: {}", saved.text());
    container.wait(before)?;
    restore(&container, &["--tcp-established"])?;
    ask(&container)
}

/// A program that waits for a file, says a word and ends with 7.
const WAIT_AND_END: &str = "while [ ! -e /tmp/go ]; do sleep 0.05; done; echo said; exit 7";

fn foreground(kit: &Kit) -> Outcome {
    need_criu(kit)?;
    let mut container = kit.container()?;
    container.start_with(&["/bin/sh", "-c", WAIT_AND_END])?;
    let before = container.pid()?;
    checkpoint(&container, &[])?;
    container.wait(before)?;
    let images = images(&container);
    let running = container.spawn(&["restore", "--image-path", &images, &container.id])?;
    container.wait_status("running")?;
    fs::write(container.rootfs("/tmp/go"), "")?;
    let output = running.finish(kit.time(10.0))?;
    ensure_eq!(output.code(), 7, "exit code: {}", output.text());
    // The output was a file that is no part of the container: that of the restoration takes its place.
    ensure_eq!(output.stdout.trim(), "said", "output after the restoration");
    nothing_left(&container)
}

fn pipe(kit: &Kit) -> Outcome {
    need_criu(kit)?;
    let mut container = kit.container()?;
    container.spec.set_args(&["/bin/sh", "-c", WAIT_AND_END]);
    container.write_config()?;
    let mut command = container.command(&["run", &container.id]);
    let first = reaper::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()))?;
    container.wait_status("running")?;
    checkpoint(&container, &["--leave-running"])?;
    container.kill("KILL")?;
    output_of(first)?;
    let images = images(&container);
    let mut command = container.command(&["restore", "--image-path", &images, &container.id]);
    let second = reaper::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()))?;
    container.wait_status("running")?;
    fs::write(container.rootfs("/tmp/go"), "")?;
    ensure_eq!(output_of(second)?, (Some(7), "said".to_owned()), "code and output, restored with another pipe");
    Ok(())
}

/// What a command wrote to its pipe, and its exit code.
fn output_of(mut child: Child) -> Outcome<(Option<i32>, String)> {
    let mut said = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut said)?;
    }
    let status = child.wait();
    reaper::waited(&child);
    Ok((status?.code(), said.trim().to_owned()))
}

/// A file system that CRIU does not know, mounted later, cannot be saved; the container goes on.
fn failed(kit: &Kit) -> Outcome {
    let nsenter = need_tool("nsenter")?;
    let mut container = counting(kit, |_| Ok(()))?;
    let images = images(&container);
    let pid = container.pid()?.to_string();
    let inside = |words: &[&str]| -> Outcome {
        let mut command = Command::new(&nsenter);
        command.args(["-t", &pid, "-m", "/bin/busybox"]).args(words);
        let done = gantry_testkit::command::run(&mut command, &container.output_dir(), kit.time(10.0))?;
        ensure!(done.status.success(), "{words:?} in the container: {}", done.text());
        Ok(())
    };
    inside(&["mount", "-t", "ramfs", "none", "/mnt"])?;
    let refused = container.refused(&["checkpoint", "--image-path", &images, &container.id])?;
    ensure!(refused.stderr.contains(&format!("{images}/dump.log")), "the log is not named: {}", refused.text());
    ensure!(refused.stderr.contains("Error ("), "the cause is not told: {}", refused.text());
    ensure_eq!(container.status()?, "running", "status after a checkpoint that failed");
    counts_on(&container, count(&container).unwrap_or_default())?;
    inside(&["umount", "/mnt"])?;
    let before = container.pid()?;
    checkpoint(&container, &[])?;
    container.wait(before).map(drop)
}

fn pre_dump(kit: &Kit) -> Outcome {
    let mut container = counting(kit, |_| Ok(()))?;
    let first = container.host("first").display().to_string();
    let output = container.call(&["checkpoint", "--pre-dump", "--image-path", &first, &container.id])?;
    if output.stderr.contains("CONFIG_MEM_SOFT_DIRTY") {
        return skip("this kernel does not track which memory changes (CONFIG_MEM_SOFT_DIRTY)");
    }
    ensure!(output.status.success(), "--pre-dump: {}", output.text());
    ensure_eq!(container.status()?, "running", "status after --pre-dump");
    let wrong = container.refused(&[
        "checkpoint",
        "--parent-path",
        "../none",
        "--image-path",
        &images(&container),
        &container.id,
    ])?;
    ensure!(wrong.stderr.contains("--parent-path"), "{}", wrong.text());
    let before = container.pid()?;
    checkpoint(&container, &["--parent-path", "../first"])?;
    container.wait(before)?;
    let pages = |dir: &str| -> Outcome<u64> {
        let mut size = 0;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("pages-") {
                size += entry.metadata()?.len();
            }
        }
        Ok(size)
    };
    let (all, changed) = (pages(&first)?, pages(&images(&container))?);
    ensure!(changed < all, "{changed} bytes after {all} bytes that were saved before");
    restore(&container, &[])?;
    counts_on(&container, count(&container).unwrap_or_default()).map(drop)
}

fn hooks(kit: &Kit) -> Outcome {
    let mut container = counting(kit, |container| {
        let log = container.host("hooks").display().to_string();
        let tell = |tag: &str| {
            let line = format!("grep -o '\"status\":\"[a-z]*\"' | sed 's/^/{tag} /' >> {log}");
            vec![hook("/bin/sh", &["sh", "-c", &line])]
        };
        let hooks = container.spec.hooks.get_or_insert_default();
        hooks.prestart = tell("prestart");
        hooks.create_runtime = tell("createRuntime");
        hooks.poststart = tell("poststart");
        hooks.poststop = tell("poststop");
        for hook in [&mut hooks.prestart, &mut hooks.create_runtime, &mut hooks.poststart, &mut hooks.poststop] {
            hook[0].env = vec!["PATH=/usr/bin:/bin".to_owned()];
        }
        Ok(())
    })?;
    let before = container.pid()?;
    checkpoint(&container, &[])?;
    container.wait(before)?;
    container.delete()?;
    fs::write(container.host("hooks"), "")?;
    restore(&container, &[])?;
    let ran = fs::read_to_string(container.host("hooks"))?;
    let expect = "prestart \"status\":\"creating\"\ncreateRuntime \"status\":\"creating\"\n";
    ensure_eq!(ran, expect, "hooks of the restoration");
    Ok(())
}

fn refused_when_created(kit: &Kit) -> Outcome {
    need_criu(kit)?;
    let mut container = kit.container()?;
    container.create()?;
    let images = images(&container);
    let refused = container.refused(&["checkpoint", "--image-path", &images, &container.id])?;
    ensure!(refused.stderr.contains("created"), "{}", refused.text());
    Ok(())
}

fn without_images(kit: &Kit) -> Outcome {
    need_criu(kit)?;
    let container = kit.container()?;
    container.write_config()?;
    let images = images(&container);
    let refused = container.refused(&["restore", "--detach", "--image-path", &images, &container.id])?;
    ensure!(refused.stderr.contains(&images), "{}", refused.text());
    nothing_left(&container)
}

fn damaged(kit: &Kit) -> Outcome {
    let mut container = counting(kit, |_| Ok(()))?;
    let before = container.pid()?;
    checkpoint(&container, &[])?;
    container.wait(before)?;
    container.delete()?;
    let images = images(&container);
    for entry in fs::read_dir(&images)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core-")) {
            fs::write(path, "damaged")?;
        }
    }
    let refused = container.refused(&["restore", "--detach", "--image-path", &images, &container.id])?;
    ensure!(refused.stderr.contains("restore.log"), "the log is not named: {}", refused.text());
    nothing_left(&container)
}

fn over_running(kit: &Kit) -> Outcome {
    let container = counting(kit, |_| Ok(()))?;
    let pid = container.pid()?;
    checkpoint(&container, &["--leave-running"])?;
    let images = images(&container);
    let refused = container.refused(&["restore", "--detach", "--image-path", &images, &container.id])?;
    ensure!(refused.stderr.contains("exists"), "{}", refused.text());
    ensure!(alive(pid), "the running container was ended");
    ensure_eq!(container.status()?, "running", "status of the running container");
    counts_on(&container, count(&container).unwrap_or_default()).map(drop)
}
