//! Containers of an ordinary user: a single id mapped, and ranges by newuidmap.

use std::fs;
use std::path::Path;

use gantry_testkit::spec::{Parts, mapping};
use gantry_testkit::{Container, Kit, Outcome, Test, ensure, ensure_eq, host, outcome};

use crate::check::{expect, nothing_left, test};

/// The user that has nothing: on every Debian, and in its password file, which newuidmap asks.
const USER: u32 = 65_534;

/// The tests of this area.
pub fn tests() -> Vec<Test> {
    vec![
        test("rootless::single_id", single),
        test("rootless::life", life),
        test("rootless::exec", exec),
        test("rootless::kill_and_delete", kill),
        test("rootless::ranges", ranges),
        test("rootless::mapping_of_others_is_refused", foreign_mapping),
        test("rootless::device_nodes_are_bound", devices),
        test("rootless::without_user_namespace_is_refused", no_user_namespace),
    ]
}

/// Makes a container that an ordinary user can run: its own id as root, nothing that takes more.
pub fn rootless(container: &mut Container<'_>) -> Outcome {
    if fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|text| text.trim() == "0") {
        return outcome::skip("this machine allows no user namespaces");
    }
    for path in ["/proc/sys/kernel/unprivileged_userns_clone", "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"]
    {
        let text = fs::read_to_string(path).unwrap_or_default();
        let denied = if path.ends_with("clone") { "0" } else { "1" };
        if text.trim() == denied {
            return outcome::skip(format!("ordinary users may not make user namespaces ({path} is {denied})"));
        }
    }
    container.run_as(USER)?;
    container.spec.map_users(&[mapping(0, USER, 1)]);
    container.spec.linux_mut().cgroups_path.clear();
    container.spec.linux_mut().resources = None;
    for mount in &mut container.spec.mounts {
        // No group but one is mapped.
        mount.options.retain(|option| !option.starts_with("gid="));
    }
    Ok(())
}

fn single(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    let report = container.run_json()?;
    expect(
        &report,
        &[("/uid", "0"), ("/gid", "0"), ("/uid_map", "[[0,65534,1]]"), ("/setgroups", "\"deny\""), ("/pid", "1")],
    )
}

fn life(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    container.spec.set_args(&["/init", "sleep", "100"]);
    container.create()?;
    ensure_eq!(container.status()?, "created", "status after create");
    container.start()?;
    ensure_eq!(container.status()?, "running", "status after start");
    let pid = container.pid()?;
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let uid = text.lines().find(|line| line.starts_with("Uid:")).and_then(|line| line.split_whitespace().nth(1));
    ensure_eq!(uid, Some("65534"), "user of the process outside");
    container.kill("KILL")?;
    container.wait_status("stopped")?;
    container.delete()?;
    nothing_left(&container)
}

fn exec(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    container.start_waiting()?;
    expect(&container.exec_report(&[])?, &[("/uid", "0"), ("/hostname", "\"gantry-test\"")])
}

fn kill(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    container.start_with(&["/init", "spawn", "sleep", "100", "+", "sleep", "100"])?;
    container.delete_force()?;
    nothing_left(&container)
}

/// Gives the user a range in files of the tests' own mount namespace.
fn give_range(container: &mut Container<'_>) -> Outcome {
    host::need_tool("newuidmap")?;
    host::need_tool("newgidmap")?;
    for name in ["subuid", "subgid"] {
        let target = format!("/etc/{name}");
        let own = fs::read_to_string(&target).unwrap_or_default();
        if own.lines().any(|line| line == "nobody:1200000:65536") {
            continue;
        }
        if !Path::new(&target).exists() {
            return outcome::skip(format!("there is no {target} to mount over"));
        }
        let file = container.kit.dir().join(name);
        fs::write(&file, format!("{own}nobody:1200000:65536\n"))?;
        std::os::unix::fs::chown(&file, Some(0), Some(0))?;
        rustix::mount::mount_bind(&file, target.as_str())?;
    }
    Ok(())
}

fn ranges(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    give_range(&mut container)?;
    container.spec.map_users(&[mapping(0, USER, 1), mapping(1, 1_200_000, 65_535)]);
    container.spec.process_mut().user.uid = 1000;
    container.spec.process_mut().user.gid = 1001;
    container.spec.process_mut().user.additional_gids = vec![50];
    let report = container.run_json()?;
    expect(
        &report,
        &[("/uid", "1000"), ("/gid", "1001"), ("/groups", "[50]"), ("/uid_map", "[[0,65534,1],[1,1200000,65535]]")],
    )
}

/// Ids that are not the user's are not mapped, whatever the configuration says.
fn foreign_mapping(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    container.spec.map_users(&[mapping(0, 0, 1)]);
    container.run_refused()?;
    nothing_left(&container)
}

fn devices(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    container.spec.set_args(&[
        "/init",
        "try",
        "open-rw",
        "/dev/null",
        "+",
        "try",
        "read",
        "/dev/zero",
        "+",
        "try",
        "read",
        "/dev/urandom",
    ]);
    let output = container.run_ok()?.stdout;
    ensure_eq!(output.as_str(), "ok\nok\nok\n", "answers");
    Ok(())
}

fn no_user_namespace(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    container.spec.drop_namespace("user");
    container.spec.linux_mut().uid_mappings.clear();
    container.spec.linux_mut().gid_mappings.clear();
    let output = container.run_refused()?;
    ensure!(output.status.code().is_some(), "killed: {}", output.text());
    nothing_left(&container)
}
