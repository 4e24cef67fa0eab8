//! The plans, read as text.

use gantry_model::ContainerId;

use super::*;
use crate::lower::Flags;
use crate::step::{By, MountBind, MountFs, Placement};

fn external(target: &str, source: &str) -> External {
    External { target: target.to_owned(), source: source.to_owned(), recursive: false, mask: false }
}

fn recursive(target: &str, source: &str) -> External {
    External { recursive: true, ..external(target, source) }
}

fn mask(target: &str) -> External {
    External { mask: true, ..external(target, "/dev/null") }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

fn lines(options: &[Opt]) -> Vec<String> {
    options.iter().map(ToString::to_string).collect()
}

/// The options of a dump beyond those that every dump has.
fn check_dump(change: impl FnOnce(&mut CheckpointRequest<'_>, &mut DumpFacts), expect: &[&str]) {
    let id = ContainerId::new("c").unwrap();
    let mut request = CheckpointRequest {
        id: &id,
        criu: Criu { image_path: "/i".to_owned(), ..Criu::default() },
        parent_path: None,
        commit_to: None,
        leave_running: false,
        tcp_skip_in_flight: false,
        link_remap: false,
        status_fd: None,
        page_server: None,
        pre_dump: false,
    };
    let mut facts = DumpFacts { pid: 7, rootfs: "/r".to_owned(), cgroup: true, ..DumpFacts::default() };
    change(&mut request, &mut facts);
    let found = lines(&dump(&request, &facts));
    let always = ["process 7", "log to dump.log", "root /r", "NotifyScripts", "OrphanPtsMaster", "ManageCgroups"];
    for line in always {
        assert!(found.iter().any(|found| found == line), "{line} is not in {found:?}");
    }
    let rest: Vec<&String> = found.iter().filter(|line| !always.contains(&line.as_str())).collect();
    assert_eq!(rest, expect);
}

#[test]
fn dumps() {
    check_dump(|_, _| {}, &["cgroups Soft"]);
    check_dump(|_, f| f.cgroup = false, &["cgroups Ignore"]);
    check_dump(|_, f| f.no_iptables = true, &["cgroups Soft", "network lock Nftables"]);
    check_dump(|r, _| r.criu.network_lock = Some(NetworkLock::Iptables), &["cgroups Soft"]);
    check_dump(|r, _| r.leave_running = true, &["cgroups Soft", "LeaveRunning"]);
    check_dump(
        |r, _| {
            r.criu.tcp_established = true;
            r.criu.ext_unix_sk = true;
            r.criu.shell_job = true;
            r.criu.lazy_pages = true;
            r.criu.file_locks = true;
            r.criu.auto_dedup = true;
            r.criu.manage_cgroups = Some(ManageCgroups::Strict);
            r.criu.network_lock = Some(NetworkLock::Nftables);
            r.tcp_skip_in_flight = true;
            r.link_remap = true;
            r.page_server = Some(("::1".to_owned(), 99));
        },
        &[
            "TcpEstablished",
            "ExtUnixSk",
            "ShellJob",
            "LazyPages",
            "FileLocks",
            "AutoDedup",
            "cgroups Strict",
            "network lock Nftables",
            "TcpSkipInFlight",
            "LinkRemap",
            "page server ::1 port 99",
        ],
    );
    check_dump(|r, _| r.parent_path = Some("../p".to_owned()), &["cgroups Soft", "TrackMem", "parent images ../p"]);
    check_dump(
        |_, f| {
            f.own_network = true;
            f.freezer = Some("/f".to_owned());
            f.config_file = Some("/o".to_owned());
        },
        &["cgroups Soft", "empty namespaces 0x40000000", "options from /o", "freeze /f"],
    );
    check_dump(
        |_, f| f.joined = vec![(NamespaceKind::Network, 5), (NamespaceKind::Ipc, 6), (NamespaceKind::Pid, 7)],
        &["cgroups Soft", "external net[5]:extRootNetNS", "external pid[7]:extRootPidNS"],
    );
}

#[test]
fn dumped_mounts() {
    let facts = |f: &mut DumpFacts| {
        f.mounts =
            strings(&["/", "/proc", "/run/data", "/run/data/below", "/rec", "/rec/below", "/proc/keys", "/proc/acpi"]);
        f.externals = vec![
            (external("/var/run/data", "/host/data"), "/run/data".to_owned(), true),
            (recursive("/rec", "/host/rec"), "/rec".to_owned(), true),
            (external("/gone", "/host/gone"), "/gone".to_owned(), false),
            (mask("/proc/keys"), "/proc/keys".to_owned(), false),
            (mask("/proc/acpi"), "/proc/acpi".to_owned(), true),
        ];
    };
    check_dump(
        |_, f| facts(f),
        &[
            "cgroups Soft",
            "external mnt[/run/data]:/var/run/data",
            "external mnt[/rec]:/rec",
            "external mnt[/rec/below]:/rec/below",
            "external mnt[/proc/keys]:/proc/keys",
        ],
    );
    // Memory alone has no mounts.
    check_dump(
        |r, f| {
            r.pre_dump = true;
            facts(f);
        },
        &["cgroups Soft", "TrackMem"],
    );
}

#[test]
fn dumped_streams() {
    let pipe = Stream { link: "pipe:[9]".to_owned(), outside: None };
    let file = Stream { link: "/log".to_owned(), outside: Some((0x1f, 0xab)) };
    let streams = vec![pipe, file.clone(), file];
    assert_eq!(stream_names(&streams), ["pipe:[9]", "file[1f:ab]", "file[1f:ab]"]);
    check_dump(|_, f| f.streams = streams, &["cgroups Soft", "external file[1f:ab]"]);
}

/// The options of a restoration beyond those that every one has.
fn check_restore(change: impl FnOnce(&mut RestoreRequest<'_>, &mut RestoreFacts), expect: &[&str]) {
    let id = ContainerId::new("c").unwrap();
    let flags = Flags::default();
    let mut request = RestoreRequest {
        id: &id,
        bundle: "/b",
        criu: Criu { image_path: "/i".to_owned(), ..Criu::default() },
        flags: &flags,
        tcp_close: false,
        lsm_profile: None,
        lsm_mount_context: None,
        now: "",
    };
    let mut facts = RestoreFacts { root: "/r".to_owned(), ..RestoreFacts::default() };
    change(&mut request, &mut facts);
    let found = lines(&restore(&request, &facts).unwrap());
    let always = [
        "log to restore.log",
        "root /r",
        "RestoreAsSibling",
        "EvasiveDevices",
        "NotifyScripts",
        "OrphanPtsMaster",
        "ManageCgroups",
    ];
    for line in always {
        assert!(found.iter().any(|found| found == line), "{line} is not in {found:?}");
    }
    let rest: Vec<&String> = found.iter().filter(|line| !always.contains(&line.as_str())).collect();
    assert_eq!(rest, expect);
}

#[test]
fn restorations() {
    check_restore(|_, _| {}, &["cgroups Ignore"]);
    check_restore(
        |r, f| {
            r.tcp_close = true;
            r.lsm_profile = Some("selinux:x".to_owned());
            r.lsm_mount_context = Some("y".to_owned());
            f.cgroups = vec![("cpu".to_owned(), "/c".to_owned()), (String::new(), "/u".to_owned())];
            f.own_network = true;
        },
        &[
            "cgroups Soft",
            "empty namespaces 0x40000000",
            "TcpClose",
            "label selinux:x",
            "label of mounts y",
            "cgroup cpu:/c",
            "cgroup :/u",
        ],
    );
    check_restore(
        |_, f| {
            f.joined =
                vec![(NamespaceKind::Network, "/n".to_owned(), Some(5)), (NamespaceKind::Ipc, "/p".to_owned(), None)];
        },
        &["cgroups Ignore", "descriptor 5 is extRootNetNS", "join ipc /p"],
    );
    check_restore(
        |_, f| f.streams = strings(&["/dev/null", "pipe:[9]", "pipe:[9]", "pipe:[10]"]),
        &["cgroups Ignore", "descriptor 1 is pipe:[9]"],
    );
}

#[test]
fn restored_mounts() {
    check_restore(
        |_, f| {
            f.host_mounts = strings(&["/", "/host/data/more", "/host/rec", "/host/rec/below", "/host/record"]);
            f.externals = vec![
                (external("/var/run/data", "/host/data"), "/run/data".to_owned()),
                (recursive("/rec", "/host/rec"), "/rec".to_owned()),
                (mask("/proc/keys"), "/proc/keys".to_owned()),
            ];
        },
        &[
            "cgroups Ignore",
            "external mnt[/var/run/data]:/host/data",
            "external mnt[/run/data]:/host/data",
            "external mnt[/rec]:/host/rec",
            "external mnt[/rec/below]:/host/rec/below",
            "external mnt[/proc/keys]:/dev/null",
        ],
    );
}

#[test]
fn a_joined_cgroup_namespace_is_refused() {
    let error = join(NamespaceKind::Cgroup, "/c", None).unwrap_err();
    assert!(error.to_string().contains("/c"), "{error}");
}

fn step(action: Action) -> Step {
    Step { by: By::Init, action }
}

fn place(target: &str) -> Placement {
    Placement { target: target.to_owned(), ..Placement::default() }
}

fn bind(target: &str, source: Source, recursive: bool) -> Step {
    let bind = MountBind { place: place(target), source, recursive, follow_source: true, copy_symlink: false };
    step(Action::MountBind(bind))
}

fn new(target: &str) -> Step {
    step(Action::MountFs(MountFs { place: place(target), kind: "tmpfs".to_owned(), ..MountFs::default() }))
}

fn path(path: &str) -> Source {
    Source::Path(path.to_owned())
}

#[test]
fn externals_of_steps() {
    let device =
        Action::BindDevice { root: Slot(0), path: "/dev/null".to_owned(), source: "/dev/null".to_owned(), made: None };
    let masks =
        Action::MaskPaths { root: Slot(0), null: Slot(1), paths: strings(&["/proc/keys"]), label: String::new() };
    let steps = [
        new("/dev"),
        bind("/a", path("/old"), false),
        bind("/a", path("/new"), true),
        bind("/t", Source::Tree(Slot(9)), false),
        step(device),
        step(masks),
    ];
    let expect = [recursive("/a", "/new"), external("/dev/null", "/dev/null"), mask("/proc/keys")];
    assert_eq!(externals(&steps), expect, "a tree that no step opens has no source");
}

#[test]
fn points_of_steps() {
    let steps = [
        bind("/etc/hosts", path("/h"), false),
        new("/dev"),
        new("/dev/pts"),
        bind("/dev/x", path("/x"), false),
        bind("/data", path("/d"), true),
        new("/data/tmp"),
    ];
    let found = points(&steps);
    let point = |target: &str, source: Option<(&str, bool)>| Point {
        target: target.to_owned(),
        source: source.map(|(source, recursive)| (source.to_owned(), recursive)),
    };
    let expect = [
        point("/etc/hosts", Some(("/h", false))),
        point("/dev", None),
        point("/data", Some(("/d", true))),
        point("/data/tmp", None),
    ];
    assert_eq!(found, expect);
}

#[test]
fn cgroup_paths() {
    let check = |dir: &str, point: &str, root: &str, expect: Option<&str>| {
        assert_eq!(cgroup_path(dir, point, root).as_deref(), expect, "{dir}");
    };
    check("/sys/fs/cgroup/cpu/c", "/sys/fs/cgroup/cpu", "/", Some("/c"));
    check("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu", "/", Some("/"));
    check("/sys/fs/cgroup/cpu/c", "/sys/fs/cgroup/cpu", "/docker/x", Some("/docker/x/c"));
    check("/sys/fs/cgroup/cpuset/c", "/sys/fs/cgroup/cpu", "/", None);
}
