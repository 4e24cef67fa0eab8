//! Mounts: kinds, options, propagation, where targets end up; the root; hidden and read-only paths; devices
//! (config.md, Mounts; config-linux.md, Devices, Masked Paths, Readonly Paths).

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};

use gantry_model::oci::linux::{Device, DeviceRule};
use gantry_testkit::host::mount_table;
use gantry_testkit::json::{at, has, mount_at, parse};
use gantry_testkit::spec::{Parts, caps, cgroup_mount, mapping, mount};
use gantry_testkit::{Container, Kit, Outcome, Test, ensure, ensure_eq, outcome};
use serde_json::Value;

use crate::check::{Refused, expect, refused_tests, test};

/// A mount, and how it looks from inside. In sources `@dir` is a directory outside with a file `f` in it and a tmpfs
/// on its directory `sub`, `@file` a file outside.
struct Case {
    name: &'static str,
    mount: (&'static str, &'static str, &'static str, &'static [&'static str]),
    /// Type, and words that its options must and must not have.
    looks: (&'static str, &'static [&'static str], &'static [&'static str]),
    /// What is tried, and the answers.
    tries: &'static [(&'static [&'static str], &'static str)],
}

const CREATE: &[&str] = &["create", "/m/x"];
const CREATE_SUB: &[&str] = &["create", "/m/sub/x"];
const READ: &[&str] = &["read", "/m/f"];

const CASES: &[Case] = &[
    Case {
        name: "tmpfs",
        mount: ("/m", "tmpfs", "tmpfs", &["size=1m", "mode=0710", "nosuid", "nodev", "noexec"]),
        looks: ("tmpfs", &["rw", "nosuid", "nodev", "noexec", "size=1024k", "mode=710"], &[]),
        tries: &[(CREATE, "ok")],
    },
    Case {
        name: "tmpfs_read_only",
        mount: ("/m", "tmpfs", "tmpfs", &["ro"]),
        looks: ("tmpfs", &["ro"], &["nosuid"]),
        tries: &[(CREATE, "EROFS")],
    },
    Case {
        name: "later_options_win",
        mount: ("/m", "tmpfs", "tmpfs", &["ro", "noexec", "nosuid", "rw", "exec", "suid"]),
        looks: ("tmpfs", &["rw"], &["noexec", "nosuid"]),
        tries: &[(CREATE, "ok")],
    },
    Case {
        name: "tmpfs_times",
        mount: ("/m", "tmpfs", "tmpfs", &["noatime", "nodiratime", "dirsync"]),
        looks: ("tmpfs", &["noatime", "nodiratime"], &["relatime"]),
        tries: &[],
    },
    Case {
        name: "tmpfs_strict_times",
        mount: ("/m", "tmpfs", "tmpfs", &["strictatime"]),
        looks: ("tmpfs", &[], &["relatime", "noatime"]),
        tries: &[],
    },
    Case {
        name: "tmpfs_copy_up",
        mount: ("/etc", "tmpfs", "tmpfs", &["tmpcopyup", "nodev"]),
        looks: ("tmpfs", &["rw", "nodev"], &["tmpcopyup"]),
        tries: &[(&["read", "/etc/passwd"], "ok"), (&["create", "/etc/passwd"], "ok")],
    },
    Case {
        name: "bind",
        mount: ("/m", "bind", "@dir", &["bind"]),
        looks: ("", &["rw"], &[]),
        tries: &[(CREATE, "ok"), (READ, "ok"), (&["read", "/m/sub/g"], "ENOENT")],
    },
    Case {
        name: "bind_read_only",
        mount: ("/m", "bind", "@dir", &["bind", "ro"]),
        looks: ("", &["ro"], &[]),
        tries: &[(CREATE, "EROFS"), (READ, "ok")],
    },
    Case {
        name: "bind_by_type_alone",
        mount: ("/m", "bind", "@dir", &["rbind", "nosuid", "nodev", "noexec", "noatime"]),
        looks: ("", &["nosuid", "nodev", "noexec", "noatime"], &[]),
        tries: &[(READ, "ok")],
    },
    Case {
        name: "bind_by_option_alone",
        mount: ("/m", "none", "@dir", &["rbind", "ro"]),
        looks: ("", &["ro"], &[]),
        tries: &[(READ, "ok"), (CREATE, "EROFS"), (&["read", "/m/sub/g"], "ok")],
    },
    Case {
        name: "bind_recursive_read_only_is_of_the_top",
        mount: ("/m", "bind", "@dir", &["rbind", "ro"]),
        looks: ("", &["ro"], &[]),
        tries: &[(CREATE, "EROFS"), (CREATE_SUB, "ok")],
    },
    Case {
        name: "recursive_read_only",
        mount: ("/m", "bind", "@dir", &["rbind", "rro"]),
        looks: ("", &["ro"], &[]),
        tries: &[(CREATE, "EROFS"), (CREATE_SUB, "EROFS")],
    },
    Case {
        name: "recursive_read_write_below_read_only",
        mount: ("/m", "bind", "@dir", &["rbind", "rro", "rw"]),
        looks: ("", &["rw"], &[]),
        tries: &[],
    },
    Case {
        name: "file",
        mount: ("/m", "bind", "@file", &["bind"]),
        looks: ("", &["rw"], &[]),
        tries: &[(&["read", "/m"], "ok"), (&["write", "/m", "x"], "ok")],
    },
    Case {
        name: "file_on_a_missing_path",
        mount: ("/made/here/m", "bind", "@file", &["bind", "ro"]),
        looks: ("", &["ro"], &[]),
        tries: &[(&["read", "/made/here/m"], "ok"), (&["write", "/made/here/m", "x"], "EROFS")],
    },
    Case {
        name: "directory_on_a_missing_path",
        mount: ("/made/here/m", "bind", "@dir", &["bind"]),
        looks: ("", &["rw"], &[]),
        tries: &[(&["read", "/made/here/m/f"], "ok")],
    },
    Case {
        name: "source_relative_to_the_bundle",
        mount: ("/m", "bind", "rootfs/etc", &["bind"]),
        looks: ("", &["rw"], &[]),
        tries: &[(&["read", "/m/passwd"], "ok")],
    },
    Case {
        name: "proc",
        mount: ("/m", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        looks: ("proc", &["rw", "nosuid", "noexec", "nodev"], &[]),
        tries: &[(&["read", "/m/self/status"], "ok")],
    },
    Case {
        name: "proc_with_data",
        mount: ("/m", "proc", "proc", &["hidepid=2"]),
        looks: ("proc", &["hidepid=invisible"], &[]),
        tries: &[],
    },
    Case {
        name: "sysfs",
        mount: ("/m", "sysfs", "sysfs", &["ro", "nosuid"]),
        looks: ("sysfs", &["ro", "nosuid"], &[]),
        tries: &[(&["readdir", "/m/class"], "ok")],
    },
    Case {
        name: "message_queue",
        mount: ("/m", "mqueue", "mqueue", &["nosuid"]),
        looks: ("mqueue", &["rw", "nosuid"], &[]),
        tries: &[(CREATE, "ok")],
    },
    Case {
        name: "terminals",
        mount: ("/m", "devpts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"]),
        looks: ("devpts", &["mode=620", "ptmxmode=666"], &[]),
        tries: &[(&["open-rw", "/m/ptmx"], "ok")],
    },
    Case {
        name: "private",
        mount: ("/m", "bind", "@dir", &["rbind", "rprivate"]),
        looks: ("", &[], &["shared:", "master:", "unbindable"]),
        tries: &[],
    },
    Case {
        name: "shared",
        mount: ("/m", "bind", "@dir", &["rbind", "rshared"]),
        looks: ("", &["shared:"], &["unbindable"]),
        tries: &[],
    },
    Case {
        name: "unbindable",
        mount: ("/m", "tmpfs", "tmpfs", &["unbindable"]),
        looks: ("tmpfs", &["unbindable"], &["shared:"]),
        tries: &[],
    },
    Case {
        name: "no_symlinks_followed",
        mount: ("/m", "tmpfs", "tmpfs", &["nosymfollow"]),
        looks: ("tmpfs", &["nosymfollow"], &[]),
        tries: &[],
    },
    Case {
        name: "relative_target_is_below_the_root",
        mount: ("m", "tmpfs", "tmpfs", &[]),
        looks: ("tmpfs", &["rw"], &[]),
        tries: &[(CREATE, "ok")],
    },
    Case {
        name: "target_with_parents_stays_inside",
        mount: ("/../../tmp/../m", "tmpfs", "tmpfs", &[]),
        looks: ("tmpfs", &["rw"], &[]),
        tries: &[(CREATE, "ok")],
    },
];

/// The tests of this area.
pub fn tests() -> Vec<Test> {
    let mut all: Vec<Test> =
        CASES.iter().map(|case| Test::new(format!("mounts::{}", case.name), move |kit| look(kit, case))).collect();
    for word in ["nosuid", "nodev", "noexec", "noatime"] {
        all.push(Test::new(format!("mounts::recursive_{word}"), move |kit| recursive(kit, word)));
    }
    for propagation in ["shared", "private", "unbindable", "slave"] {
        let name = format!("rootfs::propagation_{propagation}");
        all.push(Test::new(name, move |kit| root_propagation(kit, propagation)));
    }
    all.extend(refused_tests("mounts", REFUSED));
    all.extend([
        test("mounts::slave_of_a_shared_source", slave),
        test("mounts::shared_mounts_come_in", mounts_come_in),
        test("mounts::shared_with_the_host", shared_with_the_host),
        test("mounts::symlink_targets_stay_inside", symlink_targets),
        test("mounts::dangling_symlink_makes_nothing_outside", dangling_target),
        test("mounts::in_order", in_order),
        test("mounts::a_hundred", hundred),
        test("mounts::overlay", overlay),
        test("mounts::flags_of_the_source_with_mapped_users", locked_flags),
        test("mounts::idmapped", |kit| idmapped(kit, true)),
        test("mounts::idmapped_without_user_namespace", |kit| idmapped(kit, false)),
        test("mounts::idmapped_recursively", idmapped_recursively),
        test("mounts::cgroup", |kit| cgroup(kit, false)),
        test("mounts::cgroup_in_a_namespace", |kit| cgroup(kit, true)),
        test("rootfs::read_only", root_read_only),
        test("rootfs::absolute_path", root_absolute),
        test("rootfs::no_pivot", no_pivot),
        test("rootfs::old_root_is_gone", old_root_is_gone),
        test("paths::masked", masked),
        test("paths::masked_missing_is_ignored", masked_missing),
        test("paths::read_only", read_only_paths),
        test("devices::default", default_devices),
        test("devices::links", device_links),
        test("devices::asked_for", devices_asked_for),
        test("devices::allowed_by_the_cgroup", device_cgroup),
        test("devices::bound_from_the_host", device_bind),
    ]);
    all
}

const REFUSED: &[Refused] = &[
    Refused {
        name: "missing_source_is_refused",
        change: |c| {
            c.mount(mount("/m", "bind", "/nowhere/at/all", &["bind"]));
            Ok(())
        },
        says: "/nowhere/at/all",
    },
    Refused {
        name: "unknown_type_is_refused",
        change: |c| {
            c.mount(mount("/m", "nosuchfs", "x", &[]));
            Ok(())
        },
        says: "m",
    },
    Refused {
        name: "unknown_option_is_refused",
        change: |c| {
            c.mount(mount("/m", "tmpfs", "tmpfs", &["frobnicate=1"]));
            Ok(())
        },
        says: "/m",
    },
    Refused {
        name: "missing_root_is_refused",
        change: |c| {
            c.spec.root = Some(gantry_model::oci::spec::Root { path: "nowhere".into(), readonly: false });
            Ok(())
        },
        says: "nowhere",
    },
    Refused {
        name: "root_propagation_unknown_is_refused",
        change: |c| {
            c.spec.linux_mut().rootfs_propagation = "sideways".into();
            Ok(())
        },
        says: "",
    },
    Refused {
        name: "device_type_unknown_is_refused",
        change: |c| {
            let device = Device { path: "/dev/odd".into(), kind: "x".into(), ..Device::default() };
            c.spec.linux_mut().devices = vec![device];
            Ok(())
        },
        says: "",
    },
];

/// A directory outside, with a file, and a tmpfs with a file below.
fn source_dir(container: &mut Container<'_>) -> Outcome<String> {
    let dir = container.host_dir("source")?;
    fs::create_dir_all(dir.join("sub"))?;
    fs::write(dir.join("f"), "file")?;
    container.host_mount("tmpfs", "tmpfs", &dir.join("sub"), "size=1m")?;
    fs::write(dir.join("sub/g"), "deeper")?;
    Ok(dir.display().to_string())
}

/// Runs the probe's report and then the tries, and gives the report and the answers.
fn report_and_try(container: &mut Container<'_>, tries: &[&[&str]]) -> Outcome<(Value, Vec<String>)> {
    let mut args = vec!["/init", "report"];
    for words in tries {
        args.extend(["+", "try"]);
        args.extend(*words);
    }
    container.spec.set_args(&args);
    let output = container.run_ok()?.stdout;
    let (report, answers) = output.split_once('\n').unwrap_or((&output, ""));
    Ok((parse(report)?, answers.lines().map(str::to_owned).collect()))
}

/// All words that say what a mount is like.
fn words(found: &Value) -> Vec<String> {
    let lists = ["/options", "/super", "/propagation"];
    let items = lists.iter().filter_map(|list| at(found, list).as_array()).flatten();
    items.filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// The mount at a place, or a failure that shows where there are some.
fn find<'a>(report: &'a Value, target: &str) -> Outcome<&'a Value> {
    let targets = || at(report, "/mounts").as_array().into_iter().flatten().map(|one| at(one, "/target").to_string());
    mount_at(report, target)
        .map_or_else(|| outcome::fail(format!("nothing mounted at {target}: {:?}", targets().collect::<Vec<_>>())), Ok)
}

fn check_look(found: &Value, kind: &str, must: &[&str], must_not: &[&str]) -> Outcome {
    if !kind.is_empty() {
        ensure_eq!(*at(found, "/type"), kind, "type of the mount");
    }
    let words = words(found);
    // A word that ends in a colon stands for all that begin with it, as the numbers of peer groups differ.
    let has =
        |wanted: &str| words.iter().any(|word| word == wanted || wanted.ends_with(':') && word.starts_with(wanted));
    for word in must {
        ensure!(has(word), "the mount has no {word}: {found}");
    }
    for word in must_not {
        ensure!(!has(word), "the mount has {word}: {found}");
    }
    Ok(())
}

fn look(kit: &Kit, case: &Case) -> Outcome {
    let mut container = kit.container()?;
    let (target, kind, source, options) = case.mount;
    let source = match source {
        "@dir" => source_dir(&mut container)?,
        "@file" => {
            fs::write(container.host("file"), "file")?;
            container.host("file").display().to_string()
        }
        other => other.to_owned(),
    };
    container.mount(mount(target, kind, &source, options));
    let tries: Vec<&[&str]> = case.tries.iter().map(|(words, _)| *words).collect();
    let (report, answers) = report_and_try(&mut container, &tries)?;
    let seen = if target.ends_with("/../m") || target == "m" { "/m" } else { target };
    let (kind, must, must_not) = case.looks;
    check_look(find(&report, seen)?, kind, must, must_not)?;
    let expected: Vec<&str> = case.tries.iter().map(|(_, answer)| *answer).collect();
    ensure_eq!(answers, expected, "answers to {tries:?}");
    Ok(())
}

/// `rX` puts the attribute on every mount below, where `X` puts it on the top alone.
fn recursive(kit: &Kit, word: &str) -> Outcome {
    let mut container = kit.container()?;
    let source = source_dir(&mut container)?;
    container.mount(mount("/plain", "bind", &source, &["rbind", word]));
    container.mount(mount("/deep", "bind", &source, &["rbind", &format!("r{word}")]));
    let report = container.run_json()?;
    check_look(find(&report, "/plain")?, "", &[word], &[])?;
    check_look(find(&report, "/plain/sub")?, "", &[], &[word])?;
    check_look(find(&report, "/deep")?, "", &[word], &[])?;
    check_look(find(&report, "/deep/sub")?, "", &[word], &[])
}

fn root_propagation(kit: &Kit, propagation: &str) -> Outcome {
    let mut container = kit.container()?;
    container.spec.linux_mut().rootfs_propagation = propagation.into();
    let report = container.run_json()?;
    let root = find(&report, "/")?;
    match propagation {
        "shared" => check_look(root, "", &["shared:"], &[]),
        "unbindable" => check_look(root, "", &["unbindable"], &["shared:"]),
        // The tests' own mounts are private, so there is no group to be a slave of.
        _ => check_look(root, "", &[], &["shared:", "unbindable"]),
    }
}

/// A directory outside that is a shared mount.
fn shared_source(container: &mut Container<'_>) -> Outcome<String> {
    let dir = container.host_dir("shared")?;
    container.host_mount("tmpfs", "tmpfs", &dir, "size=1m")?;
    rustix::mount::mount_change(&dir, rustix::mount::MountPropagationFlags::SHARED)?;
    fs::create_dir(dir.join("later"))?;
    Ok(dir.display().to_string())
}

fn slave(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let source = shared_source(&mut container)?;
    container.mount(mount("/m", "bind", &source, &["rbind", "rslave"]));
    container.spec.linux_mut().rootfs_propagation = "rslave".into();
    let report = container.run_json()?;
    check_look(find(&report, "/m")?, "", &["master:"], &["shared:"])
}

/// What is mounted outside after the start comes into a slave, and what is mounted inside stays there.
fn mounts_come_in(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let source = shared_source(&mut container)?;
    container.mount(mount("/m", "bind", &source, &["rbind", "rslave"]));
    container.spec.linux_mut().rootfs_propagation = "rslave".into();
    container.start_waiting()?;
    let later = container.host("shared/later");
    container.host_mount("tmpfs", "tmpfs", &later, "size=1m")?;
    fs::write(later.join("new"), "")?;
    let output = container.exec_ok(&[], &["/init", "try", "read", "/m/later/new"])?;
    ensure_eq!(output.stdout.trim(), "ok", "the new mount's file from inside");
    Ok(())
}

/// What is mounted below a shared mount is there on both sides, whoever mounted it, and the host keeps what it had.
fn shared_with_the_host(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let source = shared_source(&mut container)?;
    let (before, inner) = (container.host("shared/before"), container.host("shared/inner"));
    fs::create_dir(&before)?;
    fs::create_dir(&inner)?;
    container.host_mount("tmpfs", "tmpfs", &before, "size=1m")?;
    container.mount(mount("/m", "bind", &source, &["rbind", "rshared"]));
    container.mount(mount("/own", "bind", &source, &["rbind", "rprivate"]));
    container.spec.linux_mut().rootfs_propagation = "shared".into();
    container.spec.process_mut().capabilities = Some(caps(&["CAP_SYS_ADMIN"]));
    container.start_waiting()?;
    let host = |target: &std::path::Path| {
        let table = mount_table("self");
        table.into_iter().find(|mounted| std::path::Path::new(&mounted.target) == target)
    };
    let group = host(std::path::Path::new(&source)).map(|mounted| mounted.propagation).unwrap_or_default();
    ensure!(group.iter().any(|word| word.starts_with("shared:")), "the source is not shared: {group:?}");
    let inside = mount_table(&container.pid()?.to_string());
    let propagation = |target: &str| inside.iter().find(|mounted| mounted.target == target).map(|m| &m.propagation);
    ensure_eq!(propagation("/m"), Some(&group), "the peer group inside");
    ensure!(propagation("/own").is_some_and(Vec::is_empty), "what is private is handed on: {:?}", propagation("/own"));
    ensure!(host(&before).is_some(), "the host lost a mount when the old root was taken away");
    // In both directions.
    let later = container.host("shared/later");
    container.host_mount("tmpfs", "tmpfs", &later, "size=1m")?;
    fs::write(later.join("new"), "")?;
    let output = container.exec_ok(&[], &["/init", "try", "read", "/m/later/new"])?;
    ensure_eq!(output.stdout.trim(), "ok", "the new mount's file from inside");
    let output = container.exec_ok(&[], &["/init", "try", "mount", "tmpfs", "/m/inner"])?;
    ensure_eq!(output.stdout.trim(), "ok", "a mount from inside");
    let came = host(&inner).is_some();
    rustix::mount::unmount(&inner, rustix::mount::UnmountFlags::DETACH)?;
    ensure!(came, "a mount from inside did not come out");
    ensure!(host(&before).is_some() && host(&later).is_some(), "the host lost its mounts");
    Ok(())
}

/// Links in the root lead where they lead for the container, never to what the host has there.
fn symlink_targets(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let outside = container.host_dir("outside")?;
    fs::create_dir_all(container.rootfs(&outside.display().to_string()))?;
    symlink(&outside, container.rootfs("absolute"))?;
    symlink("../../../../../../../../tmp", container.rootfs("upwards"))?;
    symlink("etc", container.rootfs("inner"))?;
    container.mount(mount("/absolute/a", "tmpfs", "tmpfs", &["size=1m"]));
    container.mount(mount("/upwards/b", "tmpfs", "tmpfs", &["size=1m"]));
    container.mount(mount("/inner/c", "tmpfs", "tmpfs", &["size=1m"]));
    let report = container.run_json()?;
    find(&report, &format!("{}/a", outside.display()))?;
    find(&report, "/tmp/b")?;
    find(&report, "/etc/c")?;
    ensure_eq!(fs::read_dir(&outside)?.count(), 0, "entries made outside");
    ensure!(container.rootfs("etc/c").is_dir(), "no target in the root's own /etc");
    Ok(())
}

/// A link to nowhere: refused, or made where it leads for the container; never outside.
fn dangling_target(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let outside = container.host_dir("outside")?;
    symlink(outside.join("new"), container.rootfs("absolute"))?;
    container.mount(mount("/absolute/a", "tmpfs", "tmpfs", &["size=1m"]));
    let output = container.run()?;
    ensure!(output.status.code().is_some(), "killed: {}", output.text());
    ensure_eq!(fs::read_dir(&outside)?.count(), 0, "entries made outside");
    Ok(())
}

fn in_order(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let source = source_dir(&mut container)?;
    container.mount(mount("/m", "tmpfs", "tmpfs", &["size=1m"]));
    container.mount(mount("/m/inside", "bind", &source, &["bind"]));
    container.mount(mount("/m/inside/sub", "tmpfs", "tmpfs", &["size=1m", "ro"]));
    let tries: [&[&str]; 3] = [&["read", "/m/inside/f"], &["create", "/m/y"], &["create", "/m/inside/sub/z"]];
    let (_, answers) = report_and_try(&mut container, &tries)?;
    ensure_eq!(answers, ["ok", "ok", "EROFS"], "answers");
    Ok(())
}

fn hundred(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    for number in 0..100 {
        container.mount(mount(&format!("/m/{number}"), "tmpfs", "tmpfs", &["size=4k"]));
    }
    let report = container.run_json()?;
    for number in [0, 50, 99] {
        find(&report, &format!("/m/{number}"))?;
    }
    Ok(())
}

fn overlay(kit: &Kit) -> Outcome {
    if !fs::read_to_string("/proc/filesystems")?.contains("\toverlay") {
        return outcome::skip("this kernel has no overlay file system");
    }
    let mut container = kit.container()?;
    let (lower, upper, work) =
        (container.host_dir("lower")?, container.host_dir("upper")?, container.host_dir("work")?);
    fs::write(lower.join("f"), "below")?;
    let layers = [("lowerdir", &lower), ("upperdir", &upper), ("workdir", &work)];
    let options: Vec<String> = layers.iter().map(|(name, dir)| format!("{name}={}", dir.display())).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    container.mount(mount("/m", "overlay", "overlay", &options));
    let (_, answers) = report_and_try(&mut container, &[READ, CREATE])?;
    ensure_eq!(answers, ["ok", "ok"], "answers");
    ensure!(upper.join("x").exists(), "the new file is not in the upper layer");
    Ok(())
}

/// In a user namespace the flags of a source may be locked; a bind mount that asks for others must not fail for it.
fn locked_flags(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let dir = container.host_dir("locked")?;
    container.host_mount("tmpfs", "tmpfs", &dir, "nosuid,nodev,noexec,mode=755")?;
    fs::write(dir.join("f"), "")?;
    container.spec.map_users(&[mapping(0, 100_000, 65_536)]);
    container.mount(mount("/m", "bind", &dir.display().to_string(), &["bind", "ro"]));
    fs::create_dir(container.rootfs("m"))?;
    let (report, answers) = report_and_try(&mut container, &[READ, CREATE])?;
    check_look(find(&report, "/m")?, "tmpfs", &["ro"], &[])?;
    ensure_eq!(answers, ["ok", "EROFS"], "answers");
    Ok(())
}

/// A source with files of root and of user 1000.
fn owned_source(container: &mut Container<'_>) -> Outcome<String> {
    let dir = container.host_dir("owned")?;
    fs::create_dir(container.rootfs("m"))?;
    fs::write(dir.join("root"), "")?;
    fs::write(dir.join("user"), "")?;
    chown(dir.join("user"), Some(1000), Some(1000))?;
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    Ok(dir.display().to_string())
}

/// Runs `stat` on paths, and gives owner and group of each.
fn owners(container: &mut Container<'_>, paths: &[&str]) -> Outcome<Vec<(i64, i64)>> {
    let mut args = vec!["/init", "try", "create", "/m/new"];
    for path in paths {
        args.extend(["+", "stat", path]);
    }
    container.spec.set_args(&args);
    let output = container.run_ok()?;
    let number = |found: &Value, name: &str| at(found, name).as_i64().unwrap_or(-1);
    output.stdout.lines().skip(1).map(|line| parse(line).map(|it| (number(&it, "/uid"), number(&it, "/gid")))).collect()
}

fn idmapped(kit: &Kit, user_namespace: bool) -> Outcome {
    let mut container = kit.container()?;
    let source = owned_source(&mut container)?;
    let mut mapped = mount("/m", "bind", &source, &["bind"]);
    if user_namespace {
        container.spec.map_users(&[mapping(0, 100_000, 65_536)]);
        (mapped.uid_mappings, mapped.gid_mappings) =
            (vec![mapping(0, 100_000, 65_536)], vec![mapping(0, 100_000, 65_536)]);
    } else {
        (mapped.uid_mappings, mapped.gid_mappings) = (vec![mapping(0, 5000, 2000)], vec![mapping(0, 5000, 2000)]);
        container.spec.process_mut().user.uid = 5000;
        container.spec.process_mut().user.gid = 5000;
    }
    container.mount(mapped);
    let found = owners(&mut container, &["/m/root", "/m/user", "/m/new"])?;
    let expected =
        if user_namespace { [(0, 0), (1000, 1000), (0, 0)] } else { [(5000, 5000), (6000, 6000), (5000, 5000)] };
    ensure_eq!(found, expected, "owners seen inside");
    let new = fs::metadata(container.host("owned/new"))?;
    ensure_eq!((new.uid(), new.gid()), (0, 0), "owner of the new file outside");
    Ok(())
}

fn idmapped_recursively(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let source = owned_source(&mut container)?;
    let below = container.host_dir("owned/sub")?;
    container.host_mount("tmpfs", "tmpfs", &below, "size=1m,mode=777")?;
    fs::write(below.join("root"), "")?;
    container.spec.map_users(&[mapping(0, 100_000, 65_536)]);
    let mut mapped = mount("/m", "bind", &source, &["rbind", "ridmap"]);
    (mapped.uid_mappings, mapped.gid_mappings) = (vec![mapping(0, 100_000, 65_536)], vec![mapping(0, 100_000, 65_536)]);
    container.mount(mapped);
    let found = owners(&mut container, &["/m/root", "/m/sub/root"])?;
    ensure_eq!(found, [(0, 0), (0, 0)], "owners seen inside");
    Ok(())
}

/// The container sees its own cgroup, and nothing above it. (With version 2 that takes a namespace.)
fn cgroup(kit: &Kit, namespace: bool) -> Outcome {
    let mut container = kit.container()?;
    container.mount(cgroup_mount());
    if namespace {
        container.spec.add_namespace("cgroup");
    }
    let unified = kit.cgroups.mode == gantry_testkit::cgroup::Mode::V2;
    let place = if unified { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    if !unified {
        kit.need_controller("pids")?;
    }
    let (procs, new) = (format!("{place}/cgroup.procs"), format!("{place}/x"));
    container.spec.set_args(&["/init", "report", "+", "try", "mkdir", &new, "+", "cat", &procs]);
    let output = container.run_ok()?.stdout;
    let lines: Vec<&str> = output.lines().collect();
    let report = parse(lines.first().unwrap_or(&""))?;
    ensure_eq!(lines.get(1), Some(&"EROFS"), "answer to making a cgroup");
    if namespace || !unified {
        ensure_eq!(lines.get(2..), Some(&["1"][..]), "processes in the cgroup");
    }
    let found = find(&report, place)?;
    check_look(found, if unified { "cgroup2" } else { "cgroup" }, &["ro", "nosuid", "noexec", "nodev"], &[])
}

fn root_read_only(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    if let Some(root) = &mut container.spec.root {
        root.readonly = true;
    }
    container.mount(mount("/tmp", "tmpfs", "tmpfs", &["size=1m"]));
    let tries: [&[&str]; 3] = [&["create", "/x"], &["create", "/tmp/x"], &["create", "/dev/shm/x"]];
    let (report, answers) = report_and_try(&mut container, &tries)?;
    ensure_eq!(answers, ["EROFS", "ok", "ok"], "answers");
    check_look(find(&report, "/")?, "", &["ro"], &[])
}

fn root_absolute(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let path = container.bundle().join("rootfs").display().to_string();
    container.spec.root = Some(gantry_model::oci::spec::Root { path, readonly: false });
    expect(&container.run_json()?, &[("/pid", "1")])
}

fn no_pivot(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    let output = container.run_with(&["--no-pivot"])?;
    ensure!(output.status.success(), "run --no-pivot: {}", output.text());
    expect(&parse(&output.stdout)?, &[("/pid", "1"), ("/cwd", "\"/\"")])
}

/// Nothing of the host's tree is left in the mount table.
fn old_root_is_gone(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    let report = container.run_json()?;
    let expected = ["/", "/proc", "/dev", "/sys"];
    for mounted in at(&report, "/mounts").as_array().into_iter().flatten() {
        let target = at(mounted, "/target").as_str().unwrap_or_default();
        let known =
            expected.iter().any(|base| target == *base || *base != "/" && target.starts_with(&format!("{base}/")));
        ensure!(known, "a mount of the host is seen inside: {mounted}");
    }
    Ok(())
}

fn masked(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    fs::write(container.rootfs("secret"), "secret")?;
    fs::create_dir(container.rootfs("secrets"))?;
    fs::write(container.rootfs("secrets/f"), "secret")?;
    container.spec.linux_mut().masked_paths.extend(["/secret".to_owned(), "/secrets".to_owned()]);
    container.spec.set_args(&[
        "/init",
        "stat",
        "/secret",
        "+",
        "cat",
        "/secret",
        "+",
        "ls",
        "/secrets",
        "+",
        "try",
        "create",
        "/secrets/x",
    ]);
    let output = container.run_ok()?.stdout;
    let lines: Vec<&str> = output.lines().collect();
    expect(&parse(lines[0])?, &[("/kind", "\"char\""), ("/major", "1"), ("/minor", "3")])?;
    ensure_eq!(lines[1..], ["EROFS"], "contents of the masked paths, and a file made");
    Ok(())
}

fn masked_missing(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.linux_mut().masked_paths.push("/not/there".into());
    container.spec.linux_mut().readonly_paths.push("/not/there/either".into());
    container.run_ok()?;
    ensure!(!container.rootfs("not").exists(), "a path was made to be masked");
    Ok(())
}

fn read_only_paths(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.linux_mut().readonly_paths.extend(["/etc/group".to_owned(), "/home".to_owned()]);
    let tries: [&[&str]; 4] = [
        &["write", "/proc/sys/kernel/domainname", "x"],
        &["write", "/etc/group", "x"],
        &["create", "/home/x"],
        &["write", "/etc/passwd", "x"],
    ];
    let (_, answers) = report_and_try(&mut container, &tries)?;
    ensure_eq!(answers, ["EROFS", "EROFS", "EROFS", "ok"], "answers");
    Ok(())
}

fn default_devices(kit: &Kit) -> Outcome {
    let devices = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    let mut container = kit.container()?;
    let paths: Vec<String> = devices.iter().map(|(name, ..)| format!("/dev/{name}")).collect();
    let mut args = vec!["/init", "try", "open-rw", "/dev/null"];
    for path in &paths {
        args.extend(["+", "stat", path]);
    }
    container.spec.set_args(&args);
    let output = container.run_ok()?.stdout;
    let mut lines = output.lines();
    ensure_eq!(lines.next(), Some("ok"), "opening /dev/null");
    for ((name, major, minor), line) in devices.iter().zip(lines) {
        let found = parse(line)?;
        let place = (at(&found, "/major").as_i64(), at(&found, "/minor").as_i64(), at(&found, "/mode").as_str());
        ensure_eq!(place, (Some(*major), Some(*minor), Some("0666")), "/dev/{name}");
        ensure_eq!(*at(&found, "/kind"), "char", "kind of /dev/{name}");
    }
    Ok(())
}

fn device_links(kit: &Kit) -> Outcome {
    let links = [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/ptmx", "pts/ptmx"),
    ];
    let mut container = kit.container()?;
    let mut args = vec!["/init", "echo"];
    for (path, _) in links {
        args.extend(["+", "stat", path]);
    }
    container.spec.set_args(&args);
    let output = container.run_ok()?.stdout;
    for ((path, target), line) in links.iter().zip(output.lines().skip(1)) {
        let link = parse(line)?;
        let link = at(&link, "/link").as_str().unwrap_or_default();
        ensure_eq!(link.trim_start_matches("/dev/"), *target, "{path}");
    }
    Ok(())
}

fn devices_asked_for(kit: &Kit) -> Outcome {
    let device = |path: &str, kind: &str, major, minor, mode| Device {
        path: path.into(),
        kind: kind.into(),
        major,
        minor,
        file_mode: mode,
        uid: Some(1000),
        gid: Some(50),
    };
    let mut container = kit.container()?;
    container.spec.linux_mut().devices = vec![
        device("/dev/mine", "c", 1, 3, Some(0o640)),
        device("/dev/deep/er/zero", "u", 1, 5, Some(0o666)),
        device("/dev/disk", "b", 7, 0, Some(0o600)),
        device("/dev/pipe", "p", 0, 0, Some(0o622)),
        device("/elsewhere/full", "c", 1, 7, Some(0o604)),
    ];
    container.spec.set_args(&[
        "/init",
        "stat",
        "/dev/mine",
        "+",
        "stat",
        "/dev/deep/er/zero",
        "+",
        "stat",
        "/dev/disk",
        "+",
        "stat",
        "/dev/pipe",
        "+",
        "stat",
        "/elsewhere/full",
    ]);
    let output = container.run_ok()?.stdout;
    let expected = [
        ("char", 1, 3, "0640"),
        ("char", 1, 5, "0666"),
        ("block", 7, 0, "0600"),
        ("fifo", 0, 0, "0622"),
        ("char", 1, 7, "0604"),
    ];
    ensure_eq!(output.lines().count(), expected.len(), "devices described: {output}");
    for (line, (kind, major, minor, mode)) in output.lines().zip(expected) {
        let found = parse(line)?;
        let seen = (
            at(&found, "/kind").as_str(),
            at(&found, "/major").as_i64(),
            at(&found, "/minor").as_i64(),
            at(&found, "/mode").as_str(),
        );
        ensure_eq!(seen, (Some(kind), Some(major), Some(minor), Some(mode)), "{}", at(&found, "/path"));
        ensure_eq!(
            (at(&found, "/uid").as_i64(), at(&found, "/gid").as_i64()),
            (Some(1000), Some(50)),
            "owner of {}",
            at(&found, "/path")
        );
    }
    Ok(())
}

/// The kernel log (1:11) stands for a device that nobody gets unless it is allowed.
fn device_cgroup(kit: &Kit) -> Outcome {
    if kit.cgroups.mode != gantry_testkit::cgroup::Mode::V2 {
        kit.need_controller("devices")?;
    }
    for (allow, answer) in [(false, "EPERM"), (true, "ok")] {
        let mut container = kit.container()?;
        container.spec.process_mut().capabilities = Some(caps(&["CAP_MKNOD", "CAP_SYSLOG"]));
        container.spec.resources_mut().devices.push(DeviceRule {
            allow,
            kind: Some("c".into()),
            major: Some(1),
            minor: Some(11),
            access: Some("rm".into()),
        });
        let tries: [&[&str]; 4] = [
            &["mknod", "c", "/dev/kernel-log", "1", "11"],
            &["open", "/dev/kernel-log"],
            &["mknod", "c", "/dev/other-null", "1", "3"],
            &["open-rw", "/dev/other-null"],
        ];
        let (_, answers) = report_and_try(&mut container, &tries)?;
        let made = if allow {
            ["ok", "ok"]
        } else {
            [answers[0].as_str(), if answers[0] == "EPERM" { "ENOENT" } else { answer }]
        };
        ensure_eq!(answers[..2], made, "with allow {allow}");
        ensure_eq!(answers[2..], ["ok", "ok"], "the null device with allow {allow}");
    }
    Ok(())
}

fn device_bind(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.mount(mount("/dev/bound", "bind", "/dev/zero", &["bind"]));
    container.spec.set_args(&["/init", "stat", "/dev/bound", "+", "try", "read", "/dev/bound"]);
    let output = container.run_ok()?.stdout;
    let found = parse(output.lines().next().unwrap_or_default())?;
    expect(&found, &[("/kind", "\"char\""), ("/minor", "5")])?;
    ensure!(output.lines().nth(1) == Some("ok"), "reading: {output}");
    ensure!(!has(&found, "/error", ""), "error: {found}");
    Ok(())
}
