//! Control groups: limits as asked, changed by `update`, held by the kernel; resources that need a kernel feature.

use std::fs;
use std::time::Duration;

use gantry_model::oci::linux::{Cpu, Memory, NetDevice, Pids};
use gantry_testkit::cgroup::Mode;
use gantry_testkit::json::{at, has, parse};
use gantry_testkit::spec::Parts;
use gantry_testkit::{Container, Kit, Outcome, Test, ensure, ensure_eq, host, outcome};

use crate::check::{nothing_left, test};

/// A limit in the configuration or by an option of update, and the file that says so. Where version 2 has another
/// scale, its value is the second.
struct Limit {
    name: &'static str,
    controller: &'static str,
    /// Sets it in the configuration.
    change: fn(&mut Container<'_>),
    /// Options of update that set it, and the file's contents before and after, in version 1 and in version 2.
    update: &'static [&'static str],
    files: (&'static str, &'static str),
    before: (&'static str, &'static str),
    after: (&'static str, &'static str),
}

fn memory<'a>(c: &'a mut Container<'_>) -> &'a mut Memory {
    c.spec.resources_mut().memory.get_or_insert_default()
}

fn cpu<'a>(c: &'a mut Container<'_>) -> &'a mut Cpu {
    c.spec.resources_mut().cpu.get_or_insert_default()
}

const LIMITS: &[Limit] = &[
    Limit {
        name: "memory",
        controller: "memory",
        change: |c| memory(c).limit = Some(64 << 20),
        update: &["--memory", "100663296"],
        files: ("memory.limit_in_bytes", "memory.max"),
        before: ("67108864", "67108864"),
        after: ("100663296", "100663296"),
    },
    Limit {
        name: "memory_with_unit",
        controller: "memory",
        change: |c| memory(c).limit = Some(64 << 20),
        update: &["--memory", "96M"],
        files: ("memory.limit_in_bytes", "memory.max"),
        before: ("67108864", "67108864"),
        after: ("100663296", "100663296"),
    },
    Limit {
        name: "memory_reservation",
        controller: "memory",
        change: |c| memory(c).reservation = Some(32 << 20),
        update: &["--memory-reservation", "50331648"],
        files: ("memory.soft_limit_in_bytes", "memory.low"),
        before: ("33554432", "33554432"),
        after: ("50331648", "50331648"),
    },
    Limit {
        name: "cpu_quota",
        controller: "cpu",
        change: |c| (cpu(c).quota, cpu(c).period) = (Some(20_000), Some(100_000)),
        update: &["--cpu-quota", "30000"],
        files: ("cpu.cfs_quota_us", "cpu.max"),
        before: ("20000", "20000 100000"),
        after: ("30000", "30000 100000"),
    },
    Limit {
        name: "cpu_period",
        controller: "cpu",
        change: |c| (cpu(c).quota, cpu(c).period) = (Some(20_000), Some(100_000)),
        update: &["--cpu-period", "50000", "--cpu-quota", "20000"],
        files: ("cpu.cfs_period_us", "cpu.max"),
        before: ("100000", "20000 100000"),
        after: ("50000", "20000 50000"),
    },
    Limit {
        name: "cpu_share",
        controller: "cpu",
        change: |c| cpu(c).shares = Some(2),
        update: &["--cpu-share", "262144"],
        files: ("cpu.shares", "cpu.weight"),
        before: ("2", "1"),
        after: ("262144", "10000"),
    },
    Limit {
        name: "cpuset_cpus",
        controller: "cpuset",
        change: |c| cpu(c).cpus = "0".into(),
        update: &["--cpuset-cpus", "0-1"],
        files: ("cpuset.cpus", "cpuset.cpus"),
        before: ("0", "0"),
        after: ("0-1", "0-1"),
    },
    Limit {
        name: "cpuset_mems",
        controller: "cpuset",
        change: |c| cpu(c).mems = "0".into(),
        update: &["--cpuset-mems", "0"],
        files: ("cpuset.mems", "cpuset.mems"),
        before: ("0", "0"),
        after: ("0", "0"),
    },
    Limit {
        name: "pids",
        controller: "pids",
        change: |c| c.spec.resources_mut().pids = Some(Pids { limit: Some(30) }),
        update: &["--pids-limit", "40"],
        files: ("pids.max", "pids.max"),
        before: ("30", "30"),
        after: ("40", "40"),
    },
    Limit {
        name: "pids_unlimited",
        controller: "pids",
        change: |c| c.spec.resources_mut().pids = Some(Pids { limit: Some(30) }),
        update: &["--pids-limit", "-1"],
        files: ("pids.max", "pids.max"),
        before: ("30", "30"),
        after: ("max", "max"),
    },
];

/// The tests of this area.
pub fn tests() -> Vec<Test> {
    let mut all = Vec::new();
    for limit in LIMITS {
        all.push(Test::new(format!("update::{}", limit.name), move |kit| update(kit, limit)));
    }
    all.extend([
        test("update::resources_from_a_file", update_file),
        test("update::resources_from_standard_input", update_stdin),
        test("update::unknown_resource_value_is_refused", update_bad),
        test("update::survives_in_a_stopped_container", update_stopped),
        test("limits::memory_hog_dies_alone", memory_hog).seconds(60.0),
        test("limits::processes", processes),
        test("limits::cpu_quota", cpu_quota).alone().seconds(60.0),
        test("limits::cpuset", cpuset),
        test("limits::unified", unified),
        test("limits::unified_with_parents_is_refused", unified_escape),
        test("limits::huge_pages", huge_pages),
        test("limits::cgroup_path_absent", path_absent),
        test("limits::cgroup_path_with_parents_is_refused_or_kept", path_with_parents),
        test("limits::nested_cgroup_path", path_nested),
        test("limits::cgroups_below_are_removed", below_are_removed),
        test("limits::exec_in_a_cgroup_below", exec_below),
        test("labels::apparmor", apparmor),
        test("labels::apparmor_unknown_profile_is_refused", apparmor_unknown),
        test("labels::selinux", selinux),
        test("network::device_moves_in", net_device),
        test("network::device_missing_is_refused", net_device_missing),
    ]);
    all
}

fn is_v2(kit: &Kit, controller: &str) -> bool {
    kit.cgroups.holding(controller).is_some_and(|one| one.unified)
}

fn update(kit: &Kit, limit: &Limit) -> Outcome {
    kit.need_controller(limit.controller)?;
    let mut container = kit.container()?;
    (limit.change)(&mut container);
    container.start_waiting()?;
    let pick = |pair: (&'static str, &'static str)| if is_v2(kit, limit.controller) { pair.1 } else { pair.0 };
    let (v1, v2) = limit.files;
    ensure_eq!(container.limit(limit.controller, v1, v2)?, pick(limit.before), "{} before", limit.name);
    let mut words = vec!["update"];
    words.extend(limit.update);
    words.push(&container.id);
    container.ok(&words)?;
    let found = container.limit(limit.controller, v1, v2)?;
    // Newer kernels round the way from shares to weights in another place.
    ensure_eq!(found, pick(limit.after), "{} after", limit.name);
    container.exec_ok(&[], &["/init", "exit", "0"]).map(drop)
}

fn update_file(kit: &Kit) -> Outcome {
    kit.need_controller("pids")?;
    let mut container = kit.container()?;
    container.start_waiting()?;
    let path = container.host("resources.json");
    fs::write(&path, r#"{"pids":{"limit":77},"memory":{"limit":88080384}}"#)?;
    container.ok(&["update", "--resources", &path.display().to_string(), &container.id])?;
    ensure_eq!(container.limit("pids", "pids.max", "pids.max")?, "77", "limit of processes");
    if kit.cgroups.holding("memory").is_some() {
        ensure_eq!(container.limit("memory", "memory.limit_in_bytes", "memory.max")?, "88080384", "memory");
    }
    Ok(())
}

fn update_stdin(kit: &Kit) -> Outcome {
    kit.need_controller("pids")?;
    let mut container = kit.container()?;
    container.start_waiting()?;
    fs::write(container.host("resources.json"), r#"{"pids":{"limit":78}}"#)?;
    let mut command = container.command(&["update", "--resources", "-", &container.id]);
    command.stdin(fs::File::open(container.host("resources.json"))?);
    let output =
        gantry_testkit::command::Running::start(&mut command, &container.output_dir())?.finish(kit.time(10.0))?;
    ensure!(output.status.success(), "update --resources -: {}", output.text());
    ensure_eq!(container.limit("pids", "pids.max", "pids.max")?, "78", "limit of processes");
    Ok(())
}

fn update_bad(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.start_waiting()?;
    container.refused(&["update", "--memory", "lots", &container.id])?;
    container.refused(&["update", "--resources", "/nowhere.json", &container.id])?;
    ensure_eq!(container.status()?, "running", "status");
    Ok(())
}

/// There is nothing to change in a container that has stopped: an error, and no harm to its deletion.
fn update_stopped(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.start_waiting()?;
    container.kill("KILL")?;
    container.wait_status("stopped")?;
    let output = container.call(&["update", "--pids-limit", "5", &container.id])?;
    ensure!(output.status.code().is_some(), "killed: {}", output.text());
    container.delete()?;
    nothing_left(&container)
}

/// Who takes more memory than the container has is killed; neighbours and the tests themselves live on.
fn memory_hog(kit: &Kit) -> Outcome {
    kit.need_controller("memory")?;
    let mut neighbour = kit.container()?;
    neighbour.start_waiting()?;
    let mut container = kit.container()?;
    let limits = memory(&mut container);
    (limits.limit, limits.swap) = (Some(48 << 20), Some(48 << 20));
    container.start_waiting()?;
    let output = container.exec_with(&[], &["/init", "hog", "200"])?;
    ensure_eq!(output.status.code(), Some(137), "exit code of the hog");
    let reached: u64 = output.stdout.lines().last().and_then(|line| line.parse().ok()).unwrap_or_default();
    ensure!((16..=48).contains(&reached), "the hog got {reached} MiB of 48");
    let events = container.limit("memory", "memory.oom_control", "memory.events")?;
    let kills = events.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == "oom_kill");
    ensure!(kills.is_some_and(|(_, count)| count != "0"), "no kill is counted: {events}");
    ensure_eq!(neighbour.status()?, "running", "status of the neighbour");
    neighbour.exec_ok(&[], &["/init", "exit", "0"]).map(drop)
}

fn processes(kit: &Kit) -> Outcome {
    kit.need_controller("pids")?;
    let mut container = kit.container()?;
    container.spec.resources_mut().pids = Some(Pids { limit: Some(12) });
    container.spec.set_args(&["/init", "forks", "40"]);
    let found = container.run_json()?;
    ensure_eq!(*at(&found, "/error"), "EAGAIN", "what stopped it");
    ensure!(at(&found, "/started").as_u64().is_some_and(|count| (9..=11).contains(&count)), "processes: {found}");
    Ok(())
}

/// A busy loop with a quota of 0.3 processors gets as much, within a twentieth.
fn cpu_quota(kit: &Kit) -> Outcome {
    kit.need_controller("cpu")?;
    let mut container = kit.container()?;
    (cpu(&mut container).quota, cpu(&mut container).period) = (Some(30_000), Some(100_000));
    container.spec.set_args(&["/init", "spin", "6"]);
    let found = container.run_json()?;
    let number = |name: &str| at(&found, name).as_f64().unwrap_or_default();
    let share = number("/cpu") / number("/wall");
    ensure!((share - 0.3).abs() <= 0.015, "share of a processor: {share:.4}, expected 0.3");
    Ok(())
}

fn cpuset(kit: &Kit) -> Outcome {
    kit.need_controller("cpuset")?;
    let mut container = kit.container()?;
    cpu(&mut container).cpus = "0".into();
    let report = container.run_json()?;
    ensure_eq!(*at(&report, "/affinity"), "0", "processors");
    Ok(())
}

fn unified(kit: &Kit) -> Outcome {
    if kit.cgroups.mode != Mode::V2 {
        return outcome::skip("cgroup version 2 does not stand alone here");
    }
    kit.need_controller("memory")?;
    let mut container = kit.container()?;
    let unified = &mut container.spec.resources_mut().unified;
    unified.insert("memory.high".into(), "50331648".into());
    unified.insert("pids.max".into(), "55".into());
    container.start_waiting()?;
    ensure_eq!(container.limit("memory", "", "memory.high")?, "50331648", "memory.high");
    ensure_eq!(container.limit("pids", "", "pids.max")?, "55", "pids.max");
    Ok(())
}

fn unified_escape(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.resources_mut().unified.insert("../cgroup.subtree_control".into(), "-pids".into());
    container.run_refused()?;
    nothing_left(&container)
}

fn huge_pages(kit: &Kit) -> Outcome {
    kit.need_controller("hugetlb")?;
    host::need_path("/sys/kernel/mm/hugepages/hugepages-2048kB", "huge pages of 2 MB")?;
    if kit.cgroups.mode == Mode::Hybrid {
        return outcome::skip("the hybrid layout has huge pages in version 2, which belongs to the machine");
    }
    let mut container = kit.container()?;
    let limit = gantry_model::oci::linux::HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 };
    container.spec.resources_mut().hugepage_limits.push(limit);
    container.start_waiting()?;
    ensure_eq!(container.limit("hugetlb", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max")?, "4194304", "limit");
    Ok(())
}

/// Where the runtime chooses the path, the container is in a cgroup of its own all the same, and it goes with it.
fn path_absent(kit: &Kit) -> Outcome {
    kit.need_controller("pids")?;
    let mut container = kit.container()?;
    container.spec.linux_mut().cgroups_path.clear();
    container.start_waiting()?;
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid()?))?;
    let own = text.lines().filter(|line| line.contains(":pids:") || line.starts_with("0::"));
    ensure!(own.clone().any(|line| line.contains(&container.id)), "cgroup: {text}");
    container.delete_force()?;
    nothing_left(&container)
}

/// `..` must not lead out of where the path would be.
fn path_with_parents(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let inner = format!("/{0}/../../../{0}", container.id);
    container.spec.linux_mut().cgroups_path = inner;
    let output = container.run()?;
    ensure!(output.status.code().is_some(), "killed: {}", output.text());
    for one in &kit.cgroups.hierarchies {
        let outside = one.path.parent().map(|parent| parent.join(&container.id));
        ensure!(!outside.is_some_and(|dir| dir.exists()), "a cgroup was made above {}", one.path.display());
    }
    container.delete_force()?;
    nothing_left(&container)
}

fn path_nested(kit: &Kit) -> Outcome {
    kit.need_controller("pids")?;
    let mut container = kit.container()?;
    let parent = container.cgroup.clone();
    container.cgroup = format!("{parent}/deeper/still");
    container.spec.linux_mut().cgroups_path.clone_from(&container.cgroup);
    container.spec.resources_mut().pids = Some(Pids { limit: Some(33) });
    container.start_waiting()?;
    ensure_eq!(container.limit("pids", "pids.max", "pids.max")?, "33", "limit of processes");
    container.delete_force()?;
    let left = kit.cgroups.present(&container.cgroup);
    ensure!(left.is_empty(), "left behind: {left:?}");
    // The cgroups above are the caller's, who named them.
    for path in [format!("{parent}/deeper"), parent] {
        for dir in kit.cgroups.present(&path) {
            fs::remove_dir(dir)?;
        }
    }
    Ok(())
}

fn below_are_removed(kit: &Kit) -> Outcome {
    kit.need_controller("pids")?;
    let mut container = kit.container()?;
    container.start_waiting()?;
    let Some(dir) = kit.cgroups.dir("pids", &container.cgroup) else { return outcome::fail("no directory") };
    fs::create_dir_all(dir.join("a/b/c"))?;
    container.delete_force()?;
    nothing_left(&container)
}

fn exec_below(kit: &Kit) -> Outcome {
    kit.need_controller("pids")?;
    let mut container = kit.container()?;
    container.start_waiting()?;
    let Some(dir) = kit.cgroups.dir("pids", &container.cgroup) else { return outcome::fail("no directory") };
    fs::create_dir(dir.join("below"))?;
    let option = if is_v2(kit, "pids") { "below" } else { "pids:below" };
    let report = container.exec_report(&["--cgroup", option])?;
    let lines = at(&report, "/cgroup").as_array().cloned().unwrap_or_default();
    let found = lines.iter().filter_map(|line| line.as_str()).any(|line| line.ends_with("/below"));
    ensure!(found, "cgroups of the process: {lines:?}");
    container.refused(&["exec", "--cgroup", "../..", &container.id, "/init", "report"]).map(drop)
}

fn need_apparmor() -> Outcome {
    if host::security_modules().iter().any(|name| name == "apparmor") {
        Ok(())
    } else {
        outcome::skip("this kernel has no AppArmor")
    }
}

/// A profile that allows everything but writing to `/home`.
fn load_profile(container: &Container<'_>, name: &str) -> Outcome {
    let parser = host::need_tool("apparmor_parser")?;
    let text = format!(
        "profile {name} flags=(attach_disconnected,mediate_deleted) {{\n  file,\n  capability,\n  network,\n  mount,\n  signal,\n  ptrace,\n  unix,\n  deny /home/** w,\n}}\n"
    );
    fs::write(container.host("profile"), text)?;
    let mut command = std::process::Command::new(parser);
    command.args(["-r", "-W", "-T"]).arg(container.host("profile"));
    let output = gantry_testkit::command::run(&mut command, &container.output_dir(), container.kit.time(20.0))?;
    ensure!(output.status.success(), "apparmor_parser: {}", output.text());
    Ok(())
}

fn apparmor(kit: &Kit) -> Outcome {
    need_apparmor()?;
    let mut container = kit.container()?;
    let name = format!("{}-profile", container.id);
    load_profile(&container, &name)?;
    container.spec.process_mut().apparmor_profile.clone_from(&name);
    container.spec.set_args(&["/init", "report", "+", "try", "create", "/home/x", "+", "try", "create", "/tmp/x"]);
    let output = container.run_ok()?.stdout;
    let lines: Vec<&str> = output.lines().collect();
    let label = at(&parse(lines[0])?, "/label").as_str().unwrap_or_default().to_owned();
    ensure!(label.starts_with(&name), "label {label:?}");
    ensure_eq!(lines[1..], ["EACCES", "ok"], "answers");
    container.spec.set_args(&["/init", "sleep", "100"]);
    container.start_waiting()?;
    let report = container.exec_report(&["--apparmor", &name])?;
    ensure!(
        at(&report, "/label").as_str().is_some_and(|label| label.starts_with(&name)),
        "label of exec: {}",
        at(&report, "/label")
    );
    fs::write("/sys/kernel/security/apparmor/.remove", name)?;
    Ok(())
}

fn apparmor_unknown(kit: &Kit) -> Outcome {
    need_apparmor()?;
    let mut container = kit.container()?;
    container.spec.process_mut().apparmor_profile = "no-such-profile".into();
    container.run_refused()?;
    nothing_left(&container)
}

fn selinux(kit: &Kit) -> Outcome {
    if !host::security_modules().iter().any(|name| name == "selinux") {
        return outcome::skip("this kernel runs without SELinux");
    }
    let own = fs::read_to_string("/proc/self/attr/current")?;
    let own = own.trim_end_matches(['\n', '\0']).to_owned();
    let mut container = kit.container()?;
    // The label that the tests have is one that the policy knows; a level of its own tells it from what is inherited.
    let label = if own.contains(":s0") {
        own.split(":s0").next().map(|base| format!("{base}:s0:c1,c2")).unwrap_or_default()
    } else {
        own
    };
    container.spec.process_mut().selinux_label.clone_from(&label);
    let report = container.run_json()?;
    ensure_eq!(*at(&report, "/label"), label, "label");
    Ok(())
}

fn net_device(kit: &Kit) -> Outcome {
    let ip = host::need_tool("ip")?;
    let mut container = kit.container()?;
    let number = container.id.rsplit('-').next().unwrap_or_default().to_owned();
    let (ours, theirs) =
        (format!("gt{}a{number}", std::process::id() % 1000), format!("gt{}b{number}", std::process::id() % 1000));
    let run = |words: &[&str]| {
        let mut command = std::process::Command::new(&ip);
        gantry_testkit::command::run(command.args(words), &container.output_dir(), kit.time(10.0))
    };
    let made = run(&["link", "add", &ours, "type", "veth", "peer", "name", &theirs])?;
    if !made.status.success() {
        return outcome::skip(format!("no pair of devices can be made: {}", made.stderr.trim()));
    }
    let configured = run(&["addr", "add", "192.0.2.7/24", "dev", &theirs])?;
    ensure!(configured.status.success(), "ip addr add: {}", configured.text());
    container.spec.linux_mut().net_devices.insert(theirs.clone(), NetDevice { name: "inner0".into() });
    let report = container.run_json();
    let _ = gantry_testkit::command::run(
        std::process::Command::new(&ip).args(["link", "del", &ours]),
        &container.output_dir(),
        Duration::from_secs(10),
    );
    let report = report?;
    ensure!(
        has(&report, "/net", "inner0") && !has(&report, "/net", &theirs),
        "devices inside: {}",
        at(&report, "/net")
    );
    Ok(())
}

fn net_device_missing(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.linux_mut().net_devices.insert("nodevice9".into(), NetDevice::default());
    container.run_refused()?;
    nothing_left(&container)
}
