//! What is refused, and in which words.

use serde_json::{Value, json};

use super::{Setting, default_config, namespaces, patched};
use crate::lower::{CgroupMounts, ConsoleTo};

/// One range of ids.
fn ids(inside: u32, outside: u32, size: u32) -> Value {
    json!([{"containerID": inside, "hostID": outside, "size": size}])
}

/// A file system in memory.
fn mount(destination: &str) -> Value {
    json!({"destination": destination, "type": "tmpfs"})
}

/// What refuses a changed configuration.
fn refusal(setting: &Setting, patch: &Value) -> String {
    match setting.lower(&patched(&default_config(), patch)) {
        Ok(_) => "nothing".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn check(patch: &Value, expect: &str) {
    assert_eq!(refusal(&Setting::root(), patch), expect, "{patch}");
}

#[test]
fn documents() {
    check(
        &json!({"ociVersion": ""}),
        "config.json: ociVersion: it is missing; this runtime knows versions 1.0.0 to 1.3.x",
    );
    check(
        &json!({"ociVersion": "2.0.0"}),
        "config.json: ociVersion: \"2.0.0\" is not supported; this runtime knows versions 1.0.0 to 1.3.x",
    );
    check(
        &json!({"ociVersion": "1.4.0"}),
        "config.json: ociVersion: \"1.4.0\" is not supported; this runtime knows versions 1.0.0 to 1.3.x",
    );
    check(
        &json!({"ociVersion": "1.0"}),
        "config.json: ociVersion: \"1.0\" is not supported; this runtime knows versions 1.0.0 to 1.3.x",
    );
    check(
        &json!({"ociVersion": "1.0.0-"}),
        "config.json: ociVersion: \"1.0.0-\" is not supported; this runtime knows versions 1.0.0 to 1.3.x",
    );
    check(&json!({"process": null}), "config.json: process: it is missing, and has the program");
    check(&json!({"root": null}), "config.json: root: it is missing");
    check(&json!({"root": {"path": ""}}), "config.json: root.path: it is empty or has a NUL");
    check(&json!({"root": {"path": "/"}}), "config.json: root.path: the host's root cannot be a container's");
    check(&json!({"root": {"path": "/srv/../"}}), "config.json: root.path: the host's root cannot be a container's");
    check(
        &json!({"hooks": {"prestart": [{"path": "bin/x"}]}}),
        "config.json: hooks.prestart: path \"bin/x\" is not absolute",
    );
    check(
        &json!({"hooks": {"poststop": [{"path": "/bin/x", "timeout": 0}]}}),
        "config.json: hooks.poststop: a timeout is a number of seconds above zero",
    );
    check(&json!({"mounts": vec![mount("/x"); 100_001]}), "config.json: mounts: 100001 entries, at most 100000 fit");
}

#[test]
fn processes() {
    check(&json!({"process": {"args": []}}), "config.json: process.args: it is empty, and names the program");
    check(&json!({"process": {"args": ["a\0b"]}}), "config.json: process.args: a string has a NUL character");
    check(&json!({"process": {"env": ["A=\0"]}}), "config.json: process.env: a string has a NUL character");
    check(&json!({"process": {"cwd": "srv"}}), "config.json: process.cwd: \"srv\" is not an absolute path");
    check(&json!({"process": {"cwd": ""}}), "config.json: process.cwd: \"\" is not an absolute path");
    check(&json!({"process": {"cwd": "/a\0"}}), "config.json: process.cwd: it has a NUL character");
    check(
        &json!({"process": {"terminal": true}}),
        "config.json: process.terminal: a terminal needs somewhere to go: pass --console-socket, or stay in the foreground",
    );
    check(
        &json!({"process": {"oomScoreAdj": 2000}}),
        "config.json: process.oomScoreAdj: 2000 is not between -1000 and 1000",
    );
    check(
        &json!({"process": {"rlimits": [{"type": "RLIMIT_NONSENSE", "hard": 1, "soft": 1}]}}),
        "config.json: process.rlimits: unknown rlimit \"RLIMIT_NONSENSE\": a limit of getrlimit(2) is meant, as RLIMIT_NOFILE",
    );
    check(
        &json!({"process": {"rlimits": [{"type": "RLIMIT_CPU", "hard": 1, "soft": 2}]}}),
        "config.json: process.rlimits: invalid rlimit \"RLIMIT_CPU\": the soft limit 2 is above the hard limit 1",
    );
    check(
        &json!({"process": {"rlimits": [{"type": "RLIMIT_CPU", "hard": 1, "soft": 1}, {"type": "RLIMIT_CPU", "hard": 1, "soft": 1}]}}),
        "config.json: process.rlimits: invalid rlimit \"RLIMIT_CPU\": it stands twice: keep one of them",
    );
    check(
        &json!({"process": {"scheduler": {"policy": "SCHED_NONSENSE"}}}),
        "config.json: process.scheduler: unknown scheduler policy \"SCHED_NONSENSE\": a policy of sched(7) is meant, as SCHED_BATCH",
    );
    check(
        &json!({"process": {"ioPriority": {"class": "IOPRIO_CLASS_NONSENSE", "priority": 4}}}),
        "config.json: process.ioPriority: unknown io priority class \"IOPRIO_CLASS_NONSENSE\": IOPRIO_CLASS_RT, IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE is meant",
    );
    check(
        &json!({"process": {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 9}}}),
        "config.json: process.ioPriority: invalid io priority \"9\": a level from 0 to 7 is meant",
    );
    check(
        &json!({"process": {"apparmorProfile": "x"}}),
        "config.json: process.apparmorProfile: AppArmor is not enabled on this host",
    );
    check(
        &json!({"process": {"selinuxLabel": "x"}}),
        "config.json: process.selinuxLabel: SELinux is not enabled on this host",
    );
    check(&json!({"linux": {"mountLabel": "x"}}), "config.json: linux.mountLabel: SELinux is not enabled on this host");
    check(
        &json!({"linux": {"personality": {"domain": "BSD"}}}),
        "config.json: linux.personality: unknown personality domain \"BSD\": LINUX or LINUX32 is meant",
    );
    check(
        &json!({"linux": {"memoryPolicy": {"mode": "MPOL_NONSENSE"}}}),
        "config.json: linux.memoryPolicy: unknown memory policy mode \"MPOL_NONSENSE\": a mode of set_mempolicy(2) is meant, as MPOL_BIND",
    );
}

#[test]
fn namespaces_and_what_needs_them() {
    check(
        &json!({"linux": {"namespaces": namespaces("pid mount clock")}}),
        "config.json: linux.namespaces: unknown namespace type \"clock\": one of cgroup, ipc, mount, network, pid, time, user, uts is meant",
    );
    check(
        &json!({"linux": {"namespaces": namespaces("pid mount pid")}}),
        "config.json: linux.namespaces: pid stands twice",
    );
    check(
        &json!({"linux": {"namespaces": namespaces("pid mount uts=proc/1/ns/uts")}}),
        "config.json: linux.namespaces: path \"proc/1/ns/uts\" is not absolute",
    );
    check(
        &json!({"linux": {"namespaces": namespaces("pid mount")}}),
        "config.json: hostname: it would be the host's: add a uts namespace to linux.namespaces",
    );
    check(
        &json!({"hostname": null, "domainname": "x", "linux": {"namespaces": namespaces("pid mount")}}),
        "config.json: domainname: it would be the host's: add a uts namespace to linux.namespaces",
    );
    check(&json!({"hostname": "x".repeat(65)}), "config.json: hostname: a name has at most 64 bytes and no NUL");
    check(&json!({"hostname": "a\0"}), "config.json: hostname: a name has at most 64 bytes and no NUL");
    check(
        &json!({"linux": {"uidMappings": ids(0, 0, 1)}}),
        "config.json: linux.uidMappings: mappings need a user namespace in linux.namespaces",
    );
    check(
        &json!({"linux": {"namespaces": namespaces("uts mount user"), "uidMappings": ids(0, 0, 1)}}),
        "config.json: linux.gidMappings: invalid id mapping \"\": it has no range: map at least one id",
    );
    check(
        &json!({"linux": {"namespaces": namespaces("uts mount user"), "uidMappings": ids(0, 0, 0), "gidMappings": ids(0, 0, 1)}}),
        "config.json: linux.uidMappings: invalid id mapping \"0 0 0\": the range is empty: its size is at least 1",
    );
    check(
        &json!({"linux": {"namespaces": namespaces("uts mount user"), "uidMappings": ids(0, u32::MAX, 2), "gidMappings": ids(0, 0, 1)}}),
        "config.json: linux.uidMappings: invalid id mapping \"0 4294967295 2\": the range reaches beyond the greatest id, 4294967294",
    );
    check(
        &json!({"linux": {"timeOffsets": {"boottime": {"secs": 1}}}}),
        "config.json: linux.timeOffsets: offsets need a new time namespace in linux.namespaces",
    );
    check(
        &json!({"linux": {"namespaces": namespaces("uts mount time"), "timeOffsets": {"uptime": {"secs": 1}}}}),
        "config.json: linux.timeOffsets: unknown clock of a time offset \"uptime\": monotonic or boottime is meant",
    );
    check(
        &json!({"linux": {"namespaces": namespaces("uts mount"), "netDevices": {"eth0": {}}}}),
        "config.json: linux.netDevices: devices need a network namespace in linux.namespaces",
    );
    check(
        &json!({"linux": {"netDevices": {"eth0": {"name": "a/b"}}}}),
        "config.json: linux.netDevices: invalid network device name \"a/b\": 1 to 15 bytes without space, / and : are meant, with %d at most once",
    );
    check(
        &json!({"linux": {"sysctl": {"kernel.panic": "1"}}}),
        "config.json: linux.sysctl: invalid sysctl \"kernel.panic\": it is not known to belong to a namespace, and would change the host",
    );
    check(
        &json!({"linux": {"sysctl": {"kernel.hostname": "x"}}}),
        "config.json: linux.sysctl: invalid sysctl \"kernel.hostname\": it conflicts with the field hostname: set that one",
    );
    check(
        &json!({"linux": {"sysctl": {"net.../x": "1"}}}),
        "config.json: linux.sysctl: invalid sysctl \"net.../x\": a part of the name is empty, . or ..: a name as net.ipv4.ip_forward is meant",
    );
    check(
        &json!({"linux": {"namespaces": namespaces("uts mount"), "sysctl": {"net.core.somaxconn": "1"}}}),
        "config.json: linux.sysctl: invalid sysctl \"net.core.somaxconn\": it would change the host: give the container a network namespace of its own",
    );
    check(
        &json!({"linux": {"namespaces": namespaces("uts mount"), "sysctl": {"kernel.shmmax": "1"}}}),
        "config.json: linux.sysctl: invalid sysctl \"kernel.shmmax\": it would change the host: give the container an ipc namespace",
    );
    check(
        &json!({"linux": {"namespaces": namespaces("uts pid")}}),
        "config.json: linux.maskedPaths: it needs a mount namespace in linux.namespaces",
    );
    check(
        &json!({"mounts": null, "linux": {"namespaces": namespaces("uts pid")}}),
        "config.json: linux.maskedPaths: it needs a mount namespace in linux.namespaces",
    );
    check(
        &json!({"linux": {"intelRdt": {"closID": "x"}}}),
        "config.json: linux.intelRdt: resctrl is not mounted on this host",
    );
    check(
        &json!({"linux": {"rootfsPropagation": "sideways"}}),
        "config.json: linux.rootfsPropagation: unknown propagation \"sideways\": [r]shared, [r]slave, [r]private or [r]unbindable is meant",
    );
}

#[test]
fn mounts_and_devices() {
    check(
        &json!({"mounts": [{"destination": "", "type": "tmpfs"}]}),
        "config.json: mounts[0]: the destination is missing",
    );
    check(&json!({"mounts": [{"destination": "/x"}]}), "config.json: mounts[0]: the type is missing");
    check(
        &json!({"mounts": [{"destination": "/x", "type": "bind"}]}),
        "config.json: mounts[0]: a bind mount needs a source",
    );
    check(
        &json!({"mounts": [{"destination": "/x", "options": ["rbind"]}]}),
        "config.json: mounts[0]: a bind mount needs a source",
    );
    check(
        &json!({"mounts": [{"destination": "/x\0", "type": "tmpfs"}]}),
        "config.json: mounts[0].destination: it has a NUL character",
    );
    check(
        &json!({"mounts": [{"destination": "/proc", "type": "tmpfs"}]}),
        "config.json: mounts[0]: only proc itself may be mounted at /proc",
    );
    check(
        &json!({"mounts": [{"destination": "/a/../proc/", "type": "bind", "source": "/srv"}]}),
        "config.json: mounts[0]: only proc itself may be mounted at /proc",
    );
    check(
        &json!({"mounts": [{"destination": "/proc/self", "type": "bind", "source": "/srv"}]}),
        "config.json: mounts[0]: /proc/self is inside proc, where a mount would hide facts from the container's tools",
    );
    check(
        &json!({"mounts": [{"destination": "/proc/sys/kernel", "type": "ext4", "source": "/dev/x"}]}),
        "config.json: mounts[0]: /proc/sys/kernel is inside proc, where ext4 cannot be mounted",
    );
    check(
        &json!({"mounts": [{"destination": "/x", "type": "tmpfs", "options": ["idmap"]}]}),
        "config.json: mounts[0]: ids can be mapped for bind mounts only",
    );
    check(
        &json!({"mounts": [{"destination": "/x", "type": "bind", "source": "/srv", "options": ["idmap"]}]}),
        "config.json: mounts: /x: idmap needs mappings: on the mount, or a user namespace in linux.namespaces",
    );
    check(
        &json!({"mounts": [{"destination": "/x", "type": "bind", "source": "/srv", "options": ["idmap=uids=x"]}]}),
        "config.json: mounts[0]: invalid mount option \"idmap=uids=x\": a range is from-to-size, three numbers, with @ before it if relative",
    );
    check(
        &json!({"mounts": [{"destination": "/x", "type": "bind", "source": "/srv", "uidMappings": ids(0, 5, 1)}]}),
        "config.json: mounts[0]: uidMappings and gidMappings go together",
    );
    check(
        &json!({"mounts": [{"destination": "/x", "type": "bind", "source": "/srv", "uidMappings": ids(0, 5, 0), "gidMappings": ids(0, 5, 1)}]}),
        "config.json: mounts: /x: invalid id mapping \"0 5 0\": the range is empty: its size is at least 1",
    );
    check(
        &json!({"linux": {"devices": [{"path": "/dev/x", "type": "x", "major": 1, "minor": 3}]}}),
        "config.json: linux.devices: /dev/x: unknown device type \"x\": c, u, b or p is meant",
    );
    check(
        &json!({"linux": {"devices": [{"path": "/dev/x", "type": "c", "major": -1, "minor": 3}]}}),
        "config.json: linux.devices: /dev/x: invalid major device number \"-1\": a number from 0 to 4095 is meant",
    );
    check(
        &json!({"linux": {"devices": [{"path": "/", "type": "c", "major": 1, "minor": 3}]}}),
        "config.json: linux.devices: \"/\" is no path of a device",
    );
}

/// What depends on the host or on flags.
#[test]
fn settings() {
    let check = |change: fn(&mut Setting), patch: Value, expect: &str| {
        let mut setting = Setting::root();
        change(&mut setting);
        assert_eq!(refusal(&setting, &patch), expect, "{patch}");
    };
    check(
        |setting| setting.host.cgroup_mounts = CgroupMounts::default(),
        json!({"mounts": [{"destination": "/c", "type": "cgroup2"}]}),
        "config.json: mounts: cgroup2 is asked for, and this host has none",
    );
    check(
        |setting| setting.flags.console = ConsoleTo::Socket("/run/c".into()),
        json!({}),
        "--console-socket /run/c is given, but the process asks for no terminal",
    );
    check(
        |setting| setting.host.resctrl = Some("/sys/fs/resctrl".into()),
        json!({"linux": {"intelRdt": {"closID": "a/b"}}}),
        "config.json: linux.intelRdt.closID: \"a/b\" is no name of a directory",
    );
    check(
        |setting| setting.host.resctrl = Some("/sys/fs/resctrl".into()),
        json!({"linux": {"intelRdt": {"closID": ".."}}}),
        "config.json: linux.intelRdt.closID: \"..\" is no name of a directory",
    );
    check(
        |setting| *setting = Setting::user(),
        json!({"linux": {"netDevices": {"eth0": {}}}}),
        "config.json: linux.netDevices: moving network devices needs root",
    );
    check(
        |setting| *setting = Setting::user(),
        json!({"mounts": [{"destination": "/x", "type": "bind", "source": "/srv", "uidMappings": ids(0, 5, 1), "gidMappings": ids(0, 5, 1)}]}),
        "config.json: mounts[0]: mapping the ids of a mount needs root",
    );
    check(
        |setting| *setting = Setting::user(),
        json!({"process": {"user": {"additionalGids": [5]}}, "linux": {"namespaces": namespaces("uts mount user"), "uidMappings": ids(0, 1000, 1), "gidMappings": ids(0, 1000, 1)}}),
        "config.json: process.user.additionalGids: groups cannot be set: they are kept by an annotation, or a user namespace has a single group",
    );
}
