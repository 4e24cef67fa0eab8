//! What configurations come to, as text: what `--dry-run` prints is what is tested.

mod mutated;
mod refused;

use gantry_cgroup::{Freezer, Write};
use gantry_model::ContainerId;
use serde_json::{Value, json};

use super::*;

/// What a configuration is lowered with.
struct Setting {
    host: Host,
    flags: Flags,
    cgroup: CgroupInput,
    start_now: bool,
}

impl Setting {
    /// Root of a host with cgroup v2 alone, who runs a container.
    fn root() -> Self {
        let unified = CgroupMount { v2: true, host_path: "/sys/fs/cgroup/web".into(), ..CgroupMount::default() };
        let cgroup_mounts = CgroupMounts { v2: true, hierarchies: vec![unified], links: vec![] };
        let write = Write { path: "/sys/fs/cgroup/web/pids.max".into(), value: "100".into() };
        let cgroup = CgroupInput {
            before: vec![
                CgroupStep::MakeCgroup {
                    mount: "/sys/fs/cgroup".into(),
                    dir: "/sys/fs/cgroup/web".into(),
                    freezer: Freezer::V2,
                },
                CgroupStep::Write { write, optional: false },
            ],
            clone_into: true,
            ..CgroupInput::default()
        };
        let host = Host { privileged: true, cgroup_mounts, ..Host::default() };
        Self { host, flags: Flags::default(), cgroup, start_now: true }
    }

    /// An ordinary user without a cgroup.
    fn user() -> Self {
        let host = Host { euid: 1000, egid: 1000, cgroup_mounts: Self::root().host.cgroup_mounts, ..Host::default() };
        Self { host, cgroup: CgroupInput::default(), ..Self::root() }
    }

    /// Root of a host with cgroup v1 and the second beside it.
    fn hybrid() -> Self {
        let v1 = |dir: &str, options: &[(&str, Option<&str>)]| CgroupMount {
            dir: dir.into(),
            options: options.iter().map(|(key, value)| ((*key).into(), value.map(Into::into))).collect(),
            v2: false,
            host_path: format!("/sys/fs/cgroup/{dir}/web"),
        };
        let hierarchies = vec![
            v1("cpu,cpuacct", &[("cpu", None), ("cpuacct", None)]),
            v1("systemd", &[("none", None), ("name", Some("systemd"))]),
            CgroupMount { v2: true, ..v1("unified", &[]) },
        ];
        let links = ["cpu", "cpuacct"].map(|name| (name.to_owned(), "cpu,cpuacct".to_owned())).into();
        let mut setting = Self::root();
        setting.host.cgroup_mounts = CgroupMounts { v2: false, hierarchies, links };
        let join = ["cpu,cpuacct", "systemd"].map(|dir| format!("/sys/fs/cgroup/{dir}/web/tasks")).into();
        setting.cgroup = CgroupInput { clone_into: true, join, ..CgroupInput::default() };
        setting
    }

    fn lower(&self, config: &Value) -> Result<Vec<Step>> {
        let mut spec: Spec = serde_json::from_value(config.clone())
            .map_err(|cause| Error::Parse { path: "config.json".to_owned(), cause })?;
        complete(&mut spec, &self.host);
        lower(&Input {
            id: &ContainerId::new("web").unwrap(),
            bundle: "/bundle",
            spec: &spec,
            host: &self.host,
            flags: &self.flags,
            cgroup: &self.cgroup,
            start_now: self.start_now,
        })
    }
}

/// What the usual runtimes' `spec` writes.
fn default_config() -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |to: &str, kind: &str, source: &str, options: &str| {
        let options: Vec<&str> = options.split_whitespace().collect();
        json!({"destination": to, "type": kind, "source": source, "options": options})
    };
    json!({
        "ociVersion": "1.3.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "runc",
        "mounts": [
            mount("/proc", "proc", "proc", ""),
            mount("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
            mount("/dev/pts", "devpts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"),
            mount("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=65536k"),
            mount("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
            mount("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro")
        ],
        "linux": {
            "namespaces": namespaces("pid network ipc uts mount cgroup"),
            "maskedPaths": ["/proc/kcore", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/sys"]
        }
    })
}

/// Namespaces, by their kinds; `kind=path` is one that is joined.
fn namespaces(kinds: &str) -> Value {
    let one = |word: &str| match word.split_once('=') {
        Some((kind, path)) => json!({"type": kind, "path": path}),
        None => json!({"type": word}),
    };
    kinds.split_whitespace().map(one).collect()
}

/// A mapping of the first ids to those from `host` on.
fn mapped(host: u32) -> Value {
    json!([{"containerID": 0, "hostID": host, "size": 65536}])
}

/// A document with another laid over it: objects are merged, null takes away, everything else replaces (RFC 7386).
fn patched(document: &Value, patch: &Value) -> Value {
    let (Value::Object(document), Value::Object(patch)) = (document, patch) else { return patch.clone() };
    let mut out = document.clone();
    for (key, value) in patch {
        match (value, out.get(key)) {
            (Value::Null, _) => drop(out.remove(key)),
            (value, Some(there)) => drop(out.insert(key.clone(), patched(there, value))),
            (value, None) => drop(out.insert(key.clone(), patched(&json!({}), value))),
        }
    }
    Value::Object(out)
}

/// Compares the steps of a changed default configuration with those recorded under this name.
fn check(name: &str, setting: &Setting, patch: &Value) {
    let steps = setting.lower(&patched(&default_config(), patch)).unwrap();
    insta::assert_snapshot!(name, crate::step::listing(&steps));
}

#[test]
fn defaults() {
    check("default", &Setting::root(), &json!({}));
    check("default_create", &Setting { start_now: false, ..Setting::root() }, &json!({}));
}

/// What Docker asks for: a terminal in the foreground, a working directory, a filter, limits, devices of its own.
#[test]
fn docker() {
    let mut setting = Setting::root();
    setting.flags.console = ConsoleTo::Socket("/run/docker/console.sock".into());
    setting.start_now = false;
    check(
        "docker",
        &setting,
        &json!({
            "process": {
                "terminal": true,
                "consoleSize": {"height": 24, "width": 80},
                "user": {"uid": 1000, "gid": 1000, "additionalGids": [1000, 27], "umask": 18},
                "args": ["nginx", "-g", "daemon off;"],
                "cwd": "/srv/www",
                "noNewPrivileges": false,
                "oomScoreAdj": 100,
                "rlimits": [{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}, {"type": "RLIMIT_NOFILE", "hard": 4, "soft": 2}]
            },
            "root": {"path": "/var/lib/docker/overlay2/x/merged", "readonly": null},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "gid=5"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]},
                {"destination": "/etc/hosts", "type": "bind", "source": "/var/lib/docker/hosts", "options": ["rbind", "rprivate"]},
                {"destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "rro", "rslave"]}
            ],
            "linux": {
                "devices": [
                    {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0},
                    {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 384, "gid": 7}
                ],
                "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shmmax": "4096"},
                "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"},
                "rootfsPropagation": "rslave"
            }
        }),
    );
}

#[test]
fn user_namespaces() {
    let patch = json!({
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "gid=70000"]},
            {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["bind"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
        ],
        "linux": {
            "namespaces": namespaces("pid network ipc uts mount cgroup user"),
            "uidMappings": mapped(100_000),
            "gidMappings": mapped(200_000)
        }
    });
    check("user_namespace", &Setting::root(), &patch);
    let single = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    let patch = patched(&patch, &json!({"linux": {"uidMappings": single, "gidMappings": single}}));
    check("rootless", &Setting::user(), &patch);
    let ranges =
        json!([{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 100_000, "size": 65536}]);
    let patch = patched(&patch, &json!({"linux": {"uidMappings": ranges, "gidMappings": ranges}}));
    check("rootless_ranges", &Setting::user(), &patch);
}

/// A container of a pod: its sandbox's namespaces are joined.
#[test]
fn joined() {
    let kinds = "pid=/proc/9/ns/pid network=/run/netns/pod ipc=/proc/9/ns/ipc uts=/proc/9/ns/uts mount cgroup";
    check("pod", &Setting::root(), &json!({"linux": {"namespaces": namespaces(kinds)}}));
    let kinds = format!("{kinds} user=/proc/9/ns/user");
    check("pod_with_users", &Setting::root(), &json!({"linux": {"namespaces": namespaces(&kinds)}}));
}

#[test]
fn idmapped() {
    let bind =
        |to: &str, options: &[&str]| json!({"destination": to, "type": "bind", "source": "/srv", "options": options});
    let own = patched(&bind("/own", &["bind"]), &json!({"uidMappings": mapped(7000), "gidMappings": mapped(8000)}));
    let again = patched(&own, &json!({"destination": "/again", "options": ["rbind", "ridmap"]}));
    let users = json!({
        "namespaces": namespaces("pid mount user"),
        "uidMappings": mapped(100_000),
        "gidMappings": mapped(100_000)
    });
    check(
        "idmapped",
        &Setting::root(),
        &json!({
            "hostname": null,
            "mounts": [own, again, bind("/theirs", &["bind", "idmap"]), bind("/range", &["bind", "idmap=uids=0-5000-10;gids=@1-2-3"])],
            "linux": users
        }),
    );
    check("idmapped_without_users", &Setting::root(), &json!({"mounts": [own, again]}));
}

#[test]
fn terminals() {
    let mut setting = Setting::root();
    setting.flags.console = ConsoleTo::Runtime;
    check("terminal", &setting, &json!({"process": {"terminal": true}}));
}

#[test]
fn hooks() {
    let hook = |path: &str| json!([{"path": path, "args": [path], "timeout": 3}]);
    let all = json!({
        "prestart": hook("/bin/prestart"),
        "createRuntime": hook("/bin/create-runtime"),
        "createContainer": hook("/bin/create-container"),
        "startContainer": hook("/bin/start-container"),
        "poststart": hook("/bin/poststart"),
        "poststop": hook("/bin/poststop")
    });
    check("hooks", &Setting::root(), &json!({"hooks": all, "mounts": []}));
}

#[test]
fn without_a_mount_namespace() {
    let patch = json!({
        "mounts": null,
        "root": {"readonly": null},
        "linux": {"namespaces": namespaces("pid uts"), "maskedPaths": null, "readonlyPaths": null}
    });
    check("no_mount_namespace", &Setting::root(), &patch);
    let mounts = json!([{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}]);
    check("no_mount_namespace_but_mounts", &Setting::root(), &patched(&patch, &json!({"mounts": mounts})));
}

#[test]
fn classes() {
    let mut setting = Setting::root();
    setting.host.resctrl = Some("/sys/fs/resctrl".into());
    let rdt = json!({"closID": "gold", "l3CacheSchema": "L3:0=ff", "schemata": ["MB:0=50"], "enableMonitoring": true});
    check("intel_rdt", &setting, &json!({"mounts": [], "linux": {"intelRdt": rdt}}));
    check("intel_rdt_default", &setting, &json!({"mounts": [], "linux": {"intelRdt": {"closID": "/"}}}));
}

#[test]
fn cgroup_mounts() {
    let mount = json!({"mounts": [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]}]});
    check("cgroup_v1", &Setting::hybrid(), &mount);
    let shared = patched(&mount, &json!({"linux": {"namespaces": namespaces("pid uts mount")}}));
    check("cgroup_v1_shared", &Setting::hybrid(), &shared);
    check("cgroup_v2_shared", &Setting::root(), &shared);
}

/// Everything that is set for a process or a container beyond the usual.
#[test]
fn rarities() {
    let mut setting = Setting::root();
    (setting.host.apparmor, setting.host.selinux) = (true, true);
    (setting.flags.preserve_fds, setting.flags.listen_fds) = (2, 3);
    setting.flags.listen_fdnames = Some("web:admin".into());
    setting.flags.no_pivot = true;
    setting.flags.no_new_keyring = true;
    setting.flags.notify_socket = Some("/run/systemd/notify".into());
    setting.cgroup.after = vec![CgroupStep::Ignore { what: "resources.memory.kernel", why: "there is none" }];
    check(
        "rarities",
        &setting,
        &json!({
            "domainname": "example.org",
            "process": {
                "apparmorProfile": "docker-default",
                "selinuxLabel": "system_u:system_r:container_t:s0",
                "scheduler": {"policy": "SCHED_BATCH", "nice": 5},
                "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
                "capabilities": {"bounding": ["CAP_CHOWN", "CAP_NONSENSE"], "ambient": ["CAP_OTHER"]}
            },
            "mounts": [{"destination": "/run", "type": "tmpfs", "source": "x", "options": ["tmpcopyup", "rro", "unbindable"]}],
            "linux": {
                "namespaces": namespaces("pid network ipc uts mount time"),
                "timeOffsets": {"monotonic": {"secs": 60}, "boottime": {"secs": 7, "nanosecs": 5}},
                "personality": {"domain": "LINUX32", "flags": ["ADDR_NO_RANDOMIZE"]},
                "memoryPolicy": {"mode": "MPOL_INTERLEAVE", "nodes": "0-1"},
                "netDevices": {"eth7": {"name": "lan"}, "eth8": {}},
                "mountLabel": "system_u:object_r:container_file_t:s0",
                "rootfsPropagation": "shared"
            }
        }),
    );
}

/// A process that joins, and changes of mounts.
#[test]
fn joining() {
    let setting = Setting::hybrid();
    let spec: Spec = serde_json::from_value(default_config()).unwrap();
    let id = ContainerId::new("web").unwrap();
    let mut process = spec.process.clone().unwrap();
    process.exec_cpu_affinity = serde_json::from_value(json!({"initial": "0-1", "final": "1"})).unwrap();
    let all = |kinds: &str| {
        let kinds = kinds.split_whitespace().map(|kind| NamespaceKind::from_name(kind).unwrap().clone_flag());
        kinds.fold(0, |all, flag| all | flag)
    };
    let exec = |name: &str, kinds: &str| {
        let input = ExecInput {
            id: &id,
            process: &process,
            seccomp: true,
            host: &setting.host,
            flags: &setting.flags,
            cgroup: &setting.cgroup,
            namespaces: all(kinds),
            init: Slot(0),
            root: None,
            groups: true,
        };
        insta::assert_snapshot!(name, crate::step::listing(&lower_exec(&input).unwrap()));
    };
    exec("exec", "pid network ipc uts mount cgroup");
    exec("exec_in_user_namespace", "pid network ipc uts mount cgroup user");
    let mounts: Vec<gantry_model::oci::spec::Mount> = serde_json::from_value(json!([
        {"destination": "/data", "type": "bind", "source": "/srv", "options": ["bind", "ro"]},
        {"destination": "/data/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]}
    ]))
    .unwrap();
    for (name, add) in [("mounts_add", true), ("mounts_remove", false)] {
        let input = MountsInput {
            id: &id,
            bundle: "/bundle",
            spec: &spec,
            host: &setting.host,
            mounts: &mounts,
            add,
            namespaces: all("pid ipc mount"),
            init: Slot(0),
        };
        insta::assert_snapshot!(name, crate::step::listing(&lower_mounts(&input).unwrap()));
    }
}
