//! Containers of an ordinary user: a single id mapped, and ranges by newuidmap.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use gantry_model::oci::linux::Pids;
use gantry_testkit::cgroup::Hierarchy;
use gantry_testkit::command::run;
use gantry_testkit::console::{ConsoleSocket, read_terminal};
use gantry_testkit::json::{at, mount_at, parse};
use gantry_testkit::spec::{Parts, mapping};
use gantry_testkit::{Container, Kit, Outcome, Test, ensure, ensure_eq, host, outcome};

use crate::check::{check_refused, expect, nothing_left, test};

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
        test("rootless::create_start_exec_with_ranges", ranges_life),
        test("rootless::written_configuration_runs", written),
        test("rootless::default_state_directory", default_state),
        test("rootless::sysfs_without_network_namespace_is_bound", sysfs),
        test("rootless::terminal", terminal),
        test("rootless::limit_without_delegation_is_refused", limit_refused),
        test("rootless::cgroup_of_others_is_refused", foreign_cgroup),
        test("rootless::option_false_needs_a_cgroup", option_false),
        test("rootless::option_true_goes_without", option_true),
        test("rootless::delegated_cgroup", delegated),
        test("rootless::delegated_limit", delegated_limit),
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
        chown(&file, Some(0), Some(0))?;
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

fn ranges_life(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    give_range(&mut container)?;
    container.spec.map_users(&[mapping(0, USER, 1), mapping(1, 1_200_000, 65_535)]);
    container.start_waiting()?;
    let report = container.exec_report(&["--user", "1000:1001"])?;
    expect(&report, &[("/uid", "1000"), ("/gid", "1001"), ("/setgroups", "\"allow\"")])?;
    expect(&container.exec_report(&[])?, &[("/uid", "0")])?;
    container.kill("KILL")?;
    container.wait_status("stopped")?;
    container.delete()?;
    nothing_left(&container)
}

/// What `spec --rootless` writes runs as it is, with another program.
fn written(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    container.ok(&["spec", "--rootless"])?;
    let mut document = parse(&fs::read_to_string(container.bundle().join("config.json"))?)?;
    document["process"]["args"] = serde_json::json!(["/init", "report"]);
    document["process"]["terminal"] = false.into();
    container.raw = Some(document.to_string());
    let report = container.run_json()?;
    expect(&report, &[("/uid", "0"), ("/uid_map", "[[0,65534,1]]")])?;
    ensure!(mount_at(&report, "/sys").is_some(), "no /sys among {}", at(&report, "/mounts"));
    // Where the container has no cgroup, its runtime's is all that is shown, and not to be written to.
    let Some(cgroup) = mount_at(&report, "/sys/fs/cgroup") else { return outcome::fail("no cgroup is mounted") };
    ensure!(at(cgroup, "/options").as_array().is_some_and(|all| all.contains(&"ro".into())), "writable: {cgroup}");
    nothing_left(&container)
}

/// Without `--root` the state is in the user's own directory of things that run.
fn default_state(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    container.spec.set_args(&["/init", "sleep", "100"]);
    container.write_config()?;
    let own = container.host_dir("runtime-dir")?;
    chown(&own, Some(USER), Some(USER))?;
    let call = |words: &[&str]| -> Outcome<String> {
        let mut command = std::process::Command::new(&container.prefix[0]);
        command.args(&container.prefix[1..]).arg(&container.runtime).args(words);
        command.env("XDG_RUNTIME_DIR", &own).env(gantry_testkit::leak::MARKER, &container.id);
        let output = run(command.current_dir(container.bundle()), &container.output_dir(), kit.time(10.0))?;
        if output.status.success() { Ok(output.stdout) } else { outcome::fail(format!("{words:?}: {}", output.text())) }
    };
    call(&["run", "--detach", &container.id])?;
    ensure_eq!(at(&parse(&call(&["state", &container.id])?)?, "/status").as_str(), Some("running"), "status");
    ensure!(fs::read_dir(&own)?.count() > 0, "nothing in {}", own.display());
    ensure!(!container.state_root().join(&container.id).exists(), "state elsewhere");
    call(&["delete", "--force", &container.id])?;
    ensure_eq!(call(&["list", "--quiet"])?.as_str(), "", "containers");
    nothing_left(&container)
}

/// The kernel mounts sysfs only for the owner of the network namespace; the host's is bound instead, read-only.
fn sysfs(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    container.spec.drop_namespace("network");
    let report = container.run_json()?;
    let Some(mounted) = mount_at(&report, "/sys") else { return outcome::fail("nothing is mounted on /sys") };
    ensure_eq!(at(mounted, "/type").as_str(), Some("sysfs"), "type of {mounted}");
    ensure!(at(mounted, "/options").as_array().is_some_and(|all| all.contains(&"ro".into())), "writable: {mounted}");
    ensure_eq!(
        at(&report, "/namespaces/net").as_str(),
        Some(host::namespace_id("self", "net").as_str()),
        "network namespace"
    );
    Ok(())
}

fn terminal(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    container.spec.process_mut().terminal = true;
    container.spec.set_args(&["/init", "tty", "+", "echo", "end"]);
    let path = container.host("console");
    let socket = ConsoleSocket::bind(&path)?;
    chown(&path, Some(USER), Some(USER))?;
    container.create_with(&["--console-socket", &path.display().to_string()])?;
    let mut terminal = socket.terminal(kit.time(5.0))?;
    container.start()?;
    let text = read_terminal(&mut terminal, "end", kit.time(5.0))?;
    let found = parse(text.lines().next().unwrap_or_default())?;
    expect(&found, &[("/streams", "[true,true,true]"), ("/controlling", "true")])
}

fn limit_refused(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    container.spec.resources_mut().pids = Some(Pids { limit: Some(20) });
    check_refused(&container, "limits need a cgroup that this user may change")
}

/// A path that is given is meant: without the rights to it there is no container.
fn foreign_cgroup(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    container.spec.linux_mut().cgroups_path.clone_from(&container.cgroup);
    check_refused(&container, "cgroup")
}

fn option_false(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    container.global = vec!["--rootless".into(), "false".into()];
    check_refused(&container, "cgroup")
}

fn option_true(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    rootless(&mut container)?;
    container.global = vec!["--rootless".into(), "true".into()];
    container.start_waiting()?;
    ensure!(kit.cgroups.find(&container.id).is_empty(), "a cgroup: {:?}", kit.cgroups.find(&container.id));
    expect(&container.exec_report(&[])?, &[("/uid", "0")])
}

/// A cgroup that belongs to the user, with one in it for the runtime. Goes with all that is in it.
struct Delegated {
    dir: PathBuf,
}

impl Delegated {
    /// In a hierarchy; the container's commands then run in it.
    fn make(container: &mut Container<'_>, hierarchy: &Hierarchy) -> Outcome<Self> {
        // Not named after the container, whose guard looks for its own name.
        let number = container.id.trim_start_matches("gantry-test-");
        let this = Self { dir: hierarchy.path.join(format!("delegated-{number}")) };
        let own = this.dir.join("own");
        fs::create_dir(&this.dir)?;
        fs::create_dir(&own)?;
        for dir in [&this.dir, &own] {
            chown(dir, Some(USER), Some(USER))?;
            for file in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks"] {
                if dir.join(file).exists() {
                    chown(dir.join(file), Some(USER), Some(USER))?;
                }
            }
        }
        let enter = format!("echo 0 > {}/cgroup.procs; exec \"$@\"", own.display());
        container.prefix.splice(0..0, ["/bin/sh".to_owned(), "-c".into(), enter, "sh".into()]);
        Ok(this)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for dir in [self.dir.join("own"), self.dir.clone()] {
            let gone = gantry_testkit::command::wait_for(std::time::Duration::from_secs(2), || {
                (!dir.exists() || fs::remove_dir(&dir).is_ok()).then_some(())
            });
            if gone.is_none() {
                gantry_testkit::leak::note(format!("cgroup {} cannot be removed", dir.display()));
            }
        }
    }
}

/// The container's cgroup is made beside that of the runtime, and all that joins is in it too.
fn delegated(kit: &Kit) -> Outcome {
    let Some(hierarchy) = kit.cgroups.holding("unified") else {
        return outcome::skip("cgroup v2 is not mounted");
    };
    let delegated: Delegated;
    let mut container = kit.container()?;
    rootless(&mut container)?;
    delegated = Delegated::make(&mut container, hierarchy)?;
    container.start_waiting()?;
    let dir = delegated.dir.join(&container.id);
    ensure!(dir.is_dir(), "no cgroup {}", dir.display());
    let line = format!("0::/{}", dir.strip_prefix(&hierarchy.path)?.display());
    let of = |pid: &str| {
        Ok::<_, std::io::Error>(fs::read_to_string(format!("/proc/{pid}/cgroup"))?.lines().any(|l| l == line))
    };
    ensure!(of(&container.pid()?.to_string())?, "the first process is not in {line}");
    let file = container.host("pid");
    container.exec_ok(&["--detach", "--pid-file", &file.display().to_string()], &["/init", "sleep", "100"])?;
    ensure!(of(fs::read_to_string(&file)?.trim())?, "a process that joined is not in {line}");
    container.ok(&["pause", &container.id])?;
    ensure_eq!(container.status()?, "paused", "status");
    container.ok(&["resume", &container.id])?;
    container.delete_force()?;
    ensure!(!dir.exists(), "left behind: {}", dir.display());
    nothing_left(&container)
}

/// A limit that the user may set is set.
fn delegated_limit(kit: &Kit) -> Outcome {
    kit.need_controller("pids")?;
    let Some(hierarchy) = kit.cgroups.holding("pids") else { return outcome::skip("no pids controller") };
    if hierarchy.unified {
        fs::write(hierarchy.path.join("cgroup.subtree_control"), "+pids")?;
    }
    let delegated: Delegated;
    let mut container = kit.container()?;
    rootless(&mut container)?;
    delegated = Delegated::make(&mut container, hierarchy)?;
    container.spec.resources_mut().pids = Some(Pids { limit: Some(20) });
    container.start_waiting()?;
    let dir = delegated.dir.join(&container.id);
    ensure_eq!(fs::read_to_string(dir.join("pids.max"))?.trim(), "20", "limit of {}", dir.display());
    container.ok(&["update", "--pids-limit", "30", &container.id])?;
    ensure_eq!(fs::read_to_string(dir.join("pids.max"))?.trim(), "30", "limit of {} after update", dir.display());
    container.delete_force()?;
    ensure!(!dir.exists(), "left behind: {}", dir.display());
    nothing_left(&container)
}
