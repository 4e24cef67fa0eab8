//! What settings come to.

use super::*;
use crate::settings::{DeviceSetting, MountSetting, MountSource, Reach};
use gantry_model::oci::linux::Device;
use gantry_model::oci::spec::User;

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn place() -> Place {
    Place {
        root: "/var/lib/gantry/containers/c/root".to_owned(),
        cgroup: "/gantry/c".to_owned(),
        files: vec![("/var/lib/gantry/containers/c/hosts".to_owned(), "/etc/hosts".to_owned())],
        init: "/usr/lib/gantry/init".to_owned(),
        machine: Machine { arch: "amd64".to_owned(), kernel: (6, 1) },
        seccomp: Some(r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#.to_owned()),
        apparmor: Some("gantry-default".to_owned()),
        capabilities: strings(&["CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_KILL", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"]),
        devices: vec![Device {
            path: "/dev/kvm".to_owned(),
            kind: "c".to_owned(),
            major: 10,
            minor: 232,
            ..Device::default()
        }],
        masked: strings(&["/sys/devices/system/cpu/cpu0/thermal_throttle"]),
        sysctls: [("net.ipv4.ping_group_range", "0 1"), ("net.ipv4.ip_unprivileged_port_start", "0")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        oom_score_adj: 0,
        shm: None,
        message_queues: true,
    }
}

fn settings() -> Settings {
    Settings { args: strings(&["nginx", "-g", "x"]), hostname: "web".to_owned(), ..Settings::default() }
}

fn json(settings: &Settings) -> serde_json::Value {
    serde_json::to_value(build(settings, &place()).unwrap()).unwrap()
}

#[test]
fn by_default() {
    insta::assert_snapshot!("default", serde_json::to_string_pretty(&json(&settings())).unwrap());
}

#[test]
fn privileged() {
    let mut settings = settings();
    settings.security.privileged = true;
    let spec = json(&settings);
    assert_eq!(spec["linux"]["seccomp"], serde_json::Value::Null);
    assert_eq!(spec["linux"]["maskedPaths"], serde_json::Value::Null);
    assert_eq!(spec["linux"]["resources"]["devices"], serde_json::json!([{"allow": true, "access": "rwm"}]));
    assert_eq!(spec["linux"]["devices"][0]["path"], "/dev/kvm");
    assert_eq!(spec["process"]["capabilities"]["effective"].as_array().unwrap().len(), 5);
    assert_eq!(spec["process"]["apparmorProfile"], "unconfined");
}

#[test]
fn environments() {
    let check = |env: &[&str], terminal: bool, expect: &[&str]| {
        let settings = Settings { env: strings(env), terminal, ..settings() };
        assert_eq!(environment(&settings).unwrap(), strings(expect), "{env:?}");
    };
    check(&[], false, &[defaults::PATH, "HOSTNAME=web"]);
    check(&["A=1", "PATH=/x", "A=2", "B="], true, &["PATH=/x", "HOSTNAME=web", "TERM=xterm", "A=2", "B="]);
}

#[test]
fn capabilities() {
    let check = |add: &[&str], drop: &[&str], uid: u32, expect: &[&str]| {
        let mut settings = settings();
        (settings.security.cap_add, settings.security.cap_drop) = (strings(add), strings(drop));
        settings.user = User { uid, ..User::default() };
        let found = build(&settings, &place()).unwrap().process.unwrap().capabilities.unwrap();
        assert_eq!(found.bounding, strings(expect), "{add:?} {drop:?}");
        assert_eq!(found.effective.len(), if uid == 0 { expect.len() } else { 0 });
    };
    check(&[], &["ALL", "CAP_AUDIT_WRITE"], 0, &[]);
    check(&["net_admin"], &["all"], 1000, &["CAP_NET_ADMIN"]);
    check(&["ALL"], &["ALL"], 0, &["CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_KILL", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
    check(&["ALL"], &["CHOWN"], 0, &["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
    check(&["CHOWN"], &["CHOWN"], 0, &["CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_KILL"]);
    check(&["sys_admin"], &["CHOWN"], 0, &["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_SYS_ADMIN"]);
}

#[test]
fn mounts() {
    let bind = |path: &str| bind(path, "", false, Reach::Deep);
    let mount = |target: &str, source: MountSource, readonly: bool| MountSetting {
        target: target.to_owned(),
        readonly,
        source,
    };
    let mut settings = settings();
    settings.init = true;
    settings.mounts = vec![
        mount("/etc/hosts", bind("/own/hosts"), true),
        mount("/dev/shm", MountSource::Tmpfs { options: strings(&["size=1m"]) }, false),
        mount("/data/deep/", bind("/a"), false),
        mount("/data", bind("/b"), false),
    ];
    let spec = build(&settings, &place()).unwrap();
    let list: Vec<String> =
        spec.mounts.iter().map(|m| format!("{} {} {}", m.destination, m.source, m.options.join(","))).collect();
    insta::assert_snapshot!("mounts", list.join("\n"));
    assert_eq!(spec.process.unwrap().args, strings(&[INIT, "--", "nginx", "-g", "x"]));
}

fn bind(path: &str, propagation: &str, non_recursive: bool, reach: Reach) -> MountSource {
    MountSource::Bind { path: path.to_owned(), propagation: propagation.to_owned(), non_recursive, reach }
}

fn tmpfs(target: &str) -> MountSetting {
    MountSetting { target: target.to_owned(), readonly: false, source: MountSource::Tmpfs { options: vec![] } }
}

#[test]
fn refused() {
    let check = |change: fn(&mut Settings), expect: &str| {
        let mut settings = settings();
        change(&mut settings);
        let refused = build(&settings, &place()).unwrap_err().to_string();
        assert!(refused.contains(expect), "{refused}");
    };
    check(|s| s.args.clear(), "no command specified");
    check(|s| s.args = vec![String::new()], "no command specified");
    let unknown = "invalid CapAdd: unknown capability: \"CAP_NET_ADMINN\"";
    check(|s| s.security.cap_add = vec!["net_adminn".to_owned()], unknown);
    check(|s| s.security.cap_drop = vec!["X".to_owned()], "invalid CapDrop: unknown capability: \"CAP_X\"");
    let mode: fn(&mut Settings) = |s| {
        let source = bind("/a", "sideways", false, Reach::Deep);
        s.mounts = vec![MountSetting { target: "/x".to_owned(), readonly: false, source }];
    };
    check(mode, "invalid propagation mode: \"sideways\"");
    check(|s| s.env = vec!["=x".to_owned()], "environment variable");
    check(|s| s.working_dir = "a".to_owned(), "working directory");
    check(|s| s.working_dir = "/a/../b".to_owned(), "working directory");
    check(|s| s.security.seccomp = Filter::Profile("{".to_owned()), "seccomp");
    check(|s| (s.init, s.namespaces.pid) = (true, Namespace::Host), "conflicting");
    check(|s| s.mounts = vec![tmpfs("/")], "mount path");
    check(|s| s.mounts = vec![tmpfs("rel")], "mount path");
    check(|s| s.mounts = vec![tmpfs("/a"), tmpfs("/a/")], "duplicate mount point: /a");
}

fn device(path: &str, access: &str) -> DeviceSetting {
    let device = Device { path: path.to_owned(), kind: "c".to_owned(), major: 7, minor: 8, ..Device::default() };
    DeviceSetting { device, access: access.to_owned() }
}

#[test]
fn devices_and_what_may_be_done() {
    let check = |privileged: bool, asked: Vec<DeviceSetting>, paths: &[&str], rules: &[&str]| {
        let mut settings = settings();
        settings.security.privileged = privileged;
        settings.devices = asked;
        settings.device_rules = vec![options::device_rule("b 9:* r").unwrap()];
        let linux = build(&settings, &place()).unwrap().linux.unwrap();
        let found: Vec<&str> = linux.devices.iter().map(|device| device.path.as_str()).collect();
        assert_eq!(found, paths);
        let all = linux.resources.unwrap().devices;
        let rule = |rule: &linux::DeviceRule| {
            let number = |number: Option<i64>| number.map(|n| n.to_string()).unwrap_or_default();
            let (kind, access) = (rule.kind.clone().unwrap_or_default(), rule.access.clone().unwrap_or_default());
            format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor))
        };
        let found: Vec<String> = all.iter().skip(all.len() - rules.len()).map(rule).collect();
        assert_eq!(found, rules);
    };
    check(false, vec![device("/dev/x", "r")], &["/dev/x"], &["c 7:8 r", "b 9:-1 r"]);
    check(false, vec![device("/dev/x", "r"), device("/dev/x", "")], &["/dev/x"], &["c 7:8 r", "c 7:8 rwm", "b 9:-1 r"]);
    check(true, vec![device("/dev/x", "r")], &["/dev/kvm", "/dev/x"], &[" : rwm"]);
    check(true, vec![device("/dev/kvm", "r")], &["/dev/kvm"], &[" : rwm"]);
}

#[test]
fn user_namespaces() {
    let mut settings = settings();
    let host_id = 1 << 20;
    settings.user_namespace = Some(Mapping { host_id, size: 65_536, join: None });
    settings.namespaces.network = Namespace::Path("/run/net".to_owned());
    settings.mounts =
        vec![MountSetting { target: "/data".to_owned(), readonly: false, source: bind("/a", "", false, Reach::Deep) }];
    let spec = build(&settings, &place()).unwrap();
    let linux = spec.linux.unwrap();
    let ids = [(0, host_id, 65_536)];
    for mappings in [&linux.uid_mappings, &linux.gid_mappings] {
        assert_eq!(mappings.iter().map(|m| (m.container_id, m.host_id, m.size)).collect::<Vec<_>>(), ids);
    }
    let kinds: Vec<&str> = linux.namespaces.iter().map(|namespace| namespace.kind.as_str()).collect();
    assert_eq!(kinds, ["mount", "user", "network", "ipc", "uts", "pid", "cgroup"]);
    // The network is not the namespace's to change.
    assert!(linux.sysctl.is_empty());
    let idmapped: Vec<&str> = spec
        .mounts
        .iter()
        .filter(|m| m.options.iter().any(|option| option == "idmap"))
        .map(|m| &*m.destination)
        .collect();
    assert_eq!(idmapped, ["/data", "/etc/hosts"]);
    let sys = spec.mounts.iter().find(|mount| mount.destination == "/sys").unwrap();
    assert_eq!((sys.kind.as_str(), sys.options.join(",")), ("bind", "rbind,rprivate,rro".to_owned()));
    settings.namespaces.network = Namespace::Own;
    let linux = build(&settings, &place()).unwrap().linux.unwrap();
    // Pings are for groups of the host.
    assert_eq!(linux.sysctl.keys().collect::<Vec<_>>(), ["net.ipv4.ip_unprivileged_port_start"]);
    settings.user_namespace = Some(Mapping { host_id: 1, size: 2, join: Some("/proc/7/ns/user".to_owned()) });
    let linux = build(&settings, &place()).unwrap().linux.unwrap();
    assert!(linux.uid_mappings.is_empty() && linux.gid_mappings.is_empty());
    assert_eq!((linux.namespaces[1].kind.as_str(), linux.namespaces[1].path.as_str()), ("user", "/proc/7/ns/user"));
}

#[test]
fn what_a_user_namespace_excludes() {
    let check = |change: fn(&mut Settings), expect: &str| {
        let mut settings = settings();
        settings.user_namespace = Some(Mapping { host_id: 1000, size: 10, join: None });
        change(&mut settings);
        let refused = build(&settings, &place()).unwrap_err().to_string();
        assert!(refused.starts_with(expect), "{refused}");
    };
    check(|s| s.security.privileged = true, "privileged mode is incompatible with user namespaces");
    check(|s| s.namespaces.network = Namespace::Host, "cannot share the host's network namespace");
    check(|s| s.namespaces.pid = Namespace::Host, "cannot share the host PID namespace");
    check(|s| s.security.writable_cgroups = Some(true), "option WritableCgroups conflicts with user namespaces");
    check(
        |s| s.user.additional_gids = vec![3, 10],
        "id 10 is not mapped in the container: its user namespace has 10 ids",
    );
}

/// Mounts as `TARGET KIND OPTIONS`.
fn mounted(change: fn(&mut Settings, &mut Place)) -> Vec<String> {
    let (mut settings, mut place) = (settings(), place());
    change(&mut settings, &mut place);
    let mounts = build(&settings, &place).unwrap().mounts;
    mounts.iter().map(|m| format!("{} {} {}", m.destination, m.kind, m.options.join(","))).collect()
}

#[test]
fn mounts_that_depend() {
    let check = |change: fn(&mut Settings, &mut Place), has: &[&str], lacks: &[&str]| {
        let found = mounted(change);
        assert!(has.iter().all(|line| found.iter().any(|mount| mount == line)), "{has:?} in {found:#?}");
        let starts = |line: &&str| found.iter().any(|mount| mount.starts_with(*line));
        assert!(!lacks.iter().any(starts), "{lacks:?} in {found:#?}");
    };
    let cgroups = ["ro", "rw"].map(|access| format!("/sys/fs/cgroup cgroup nosuid,noexec,nodev,relatime,{access}"));
    check(|_, _| {}, &[&cgroups[0], "/sys sysfs nosuid,noexec,nodev,ro", "/etc/hosts bind rbind,rprivate"], &[]);
    check(|s, _| s.security.writable_cgroups = Some(true), &[&cgroups[1]], &[]);
    check(|s, _| s.security.privileged = true, &[&cgroups[1], "/sys sysfs nosuid,noexec,nodev,rw"], &[]);
    check(
        |s, _| (s.security.privileged, s.security.writable_cgroups) = (true, Some(false)),
        &[&cgroups[0], "/sys sysfs nosuid,noexec,nodev,rw"],
        &[],
    );
    check(|s, _| s.no_shm = true, &[], &["/dev/shm "]);
    check(|s, _| s.readonly_root = true, &["/etc/hosts bind rbind,rprivate,ro"], &[]);
    check(|s, _| s.mounts = vec![tmpfs("/dev")], &["/dev tmpfs nosuid,nodev,noexec"], &["/dev/shm ", "/dev/pts "]);
    check(|s, _| s.namespaces.network = Namespace::Host, &["/sys bind rbind,rprivate,rro"], &["/sys sysfs"]);
    check(|_, p| p.shm = Some("/run/shm".to_owned()), &["/dev/shm bind rbind,rprivate"], &[]);
    let other =
        MountSource::Other { kind: "sysfs".to_owned(), source: "none".to_owned(), options: strings(&["noexec"]) };
    assert_eq!(serde_json::from_value::<MountSource>(serde_json::to_value(&other).unwrap()).unwrap(), other);
    check(
        |s, _| {
            let (kind, source) = ("proc".to_owned(), "none".to_owned());
            let source = MountSource::Other { kind, source, options: strings(&["noexec"]) };
            s.mounts = vec![MountSetting { target: "/p".to_owned(), readonly: true, source }];
        },
        &["/p proc noexec,ro"],
        &[],
    );
}

#[test]
fn how_far_read_only_reaches() {
    let check = |reach: Reach, non_recursive: bool, kernel: (u32, u32), expect: &str| {
        let (mut settings, mut place) = (settings(), place());
        place.machine.kernel = kernel;
        let source = bind("/a", "rslave", non_recursive, reach);
        settings.mounts = vec![MountSetting { target: "/ro".to_owned(), readonly: true, source }];
        let found = match build(&settings, &place) {
            Ok(spec) => {
                assert_eq!(spec.linux.unwrap().rootfs_propagation, "rslave");
                spec.mounts.iter().find(|mount| mount.destination == "/ro").unwrap().options.join(",")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expect, "{reach:?} {non_recursive} {kernel:?}");
    };
    check(Reach::Deep, false, (5, 12), "rbind,rslave,rro");
    check(Reach::Deep, false, (5, 11), "rbind,rslave,ro");
    check(Reach::Deep, true, (6, 1), "bind,rslave,ro");
    check(Reach::Flat, false, (6, 1), "rbind,rslave,ro");
    check(Reach::AllOrNothing, false, (6, 1), "rbind,rslave,rro");
    check(Reach::AllOrNothing, false, (5, 11), "a read-only mount with all mounts below needs Linux 5.12");
}

#[test]
fn what_is_hidden() {
    let check = |change: fn(&mut Settings), masked: usize, readonly: usize| {
        let mut settings = settings();
        change(&mut settings);
        let linux = build(&settings, &place()).unwrap().linux.unwrap();
        assert_eq!((linux.masked_paths.len(), linux.readonly_paths.len()), (masked, readonly), "{linux:?}");
    };
    check(|_| {}, defaults::MASKED.len() + 1, defaults::READONLY.len());
    check(|s| s.security.privileged = true, 0, 0);
    check(|s| s.security.masked_paths = Some(vec![]), 0, defaults::READONLY.len());
    let unconfined: fn(&mut Settings) =
        |s| options::security(&strings(&["systempaths=unconfined"])).unwrap().apply(&mut s.security);
    check(unconfined, 0, 0);
}

#[test]
fn filters_and_profiles() {
    // The first call of the filter, and AppArmor with and without.
    let check = |options: &[&str], privileged: bool, filter: Option<&str>, apparmor: [&str; 2]| {
        let mut settings = settings();
        settings.security.privileged = privileged;
        options::security(&strings(options)).unwrap().apply(&mut settings.security);
        let mut place = place();
        place.seccomp = None;
        for (profile, expect) in [Some("gantry-default".to_owned()), None].into_iter().zip(apparmor) {
            place.apparmor = profile;
            let spec = build(&settings, &place).unwrap();
            assert_eq!(spec.process.unwrap().apparmor_profile, expect, "{options:?}");
            let found = spec.linux.unwrap().seccomp.map(|filter| filter.parse().unwrap().syscalls[0].names[0].clone());
            assert_eq!(found.as_deref(), filter, "{options:?}");
        }
    };
    check(&[], false, Some("accept"), ["gantry-default", ""]);
    check(&[], true, None, ["unconfined", ""]);
    check(&["seccomp=unconfined", "apparmor=unconfined"], false, None, ["unconfined", ""]);
    check(&["seccomp=builtin", "apparmor=mine"], true, Some("accept"), ["mine", "mine"]);
    let own = r#"seccomp={"defaultAction":"A","syscalls":[{"name":"x","action":"B"}]}"#;
    check(&[own], false, Some("x"), ["gantry-default", ""]);
}

#[test]
fn scores_for_want_of_memory() {
    let check = |asked: Option<i32>, own: i32, expect: Option<i32>| {
        let settings = Settings { oom_score_adj: asked, ..settings() };
        let place = Place { oom_score_adj: own, ..place() };
        assert_eq!(build(&settings, &place).unwrap().process.unwrap().oom_score_adj, expect, "{asked:?} {own}");
    };
    check(None, 0, None);
    check(None, -500, Some(0));
    check(Some(100), -500, Some(100));
    check(Some(0), 0, Some(0));
}

#[test]
fn hooks_and_more() {
    let mut settings = settings();
    assert_eq!(build(&settings, &place()).unwrap().hooks, None);
    let hook = gantry_model::oci::spec::Hook { path: "/bin/true".to_owned(), ..Default::default() };
    settings.hooks.create_container.push(hook);
    settings.intel_rdt = Some(linux::IntelRdt { clos_id: "gold".to_owned(), ..Default::default() });
    settings.net_devices.insert("eth9".to_owned(), linux::NetDevice::default());
    settings.namespaces.network = Namespace::Host;
    let spec = build(&settings, &place()).unwrap();
    assert_eq!(spec.hooks.unwrap().create_container.len(), 1);
    let linux = spec.linux.unwrap();
    assert_eq!((linux.intel_rdt.unwrap().clos_id.as_str(), linux.net_devices.len()), ("gold", 1));
    // The network's parameters are not the container's to set on the host.
    assert!(linux.sysctl.is_empty());
}
