//! What is planned, as text.

use std::collections::BTreeMap;

use gantry_cgroup::{Layout, Location, Request, default_device_rules, plan_create, plan_update};
use gantry_model::oci::linux::{DeviceRule, Resources};

const HYBRID: (&str, &str) = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
     32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
     34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
     35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
     36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n\
     37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
     40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
     41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
    "9:name=systemd:/s\n6:freezer:/\n5:devices:/\n4:memory:/m/n\n3:cpuset:/\n1:cpu,cpuacct:/\n0::/u/v\n",
);
const V2: (&str, &str) =
    ("52 51 0:38 / /sys/fs/cgroup rw - cgroup2 none rw\n", "0::/user.slice/user-1000.slice/session-1.scope\n");
const V1: (&str, &str) = (
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
     36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n",
    "5:devices:/\n4:memory:/\n",
);

struct Case<'a> {
    host: (&'a str, &'a str),
    path: &'a str,
    systemd: bool,
    rootless: bool,
    resources: &'a str,
    defaults: &'a [DeviceRule],
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self { host: V2, path: "/pod/box", systemd: false, rootless: false, resources: "{}", defaults: &[] }
    }
}

fn plan(case: &Case<'_>) -> String {
    let layout = Layout::parse(case.host.0, case.host.1).unwrap();
    let resources: Resources = serde_json::from_str(case.resources).unwrap();
    let annotations = BTreeMap::from([("org.systemd.property.TimeoutStopSec".to_owned(), "uint64 3".to_owned())]);
    let request = Request {
        id: "box",
        cgroups_path: case.path,
        systemd: case.systemd,
        rootless: case.rootless,
        resources: Some(&resources),
        device_defaults: case.defaults,
        owner: None,
        annotations: Some(&annotations),
        user_manager: Some("/user.slice/user-1000.slice/user@1000.service"),
    };
    match plan_create(&layout, &request) {
        Ok(plan) => plan.to_string(),
        Err(error) => format!("error: {error}\n"),
    }
}

fn check(case: &Case<'_>, expect: &str) {
    let got = plan(case);
    assert_eq!(got.trim_end(), expect.trim(), "\n--- got:\n{got}");
}

/// Only the lines that contain a text.
fn check_lines(case: &Case<'_>, with: &str, expect: &str) {
    let got = plan(case);
    let lines: Vec<&str> = got.lines().filter(|line| line.contains(with)).collect();
    assert_eq!(lines.join("\n"), expect.trim(), "\n--- got:\n{got}");
}

#[test]
fn v2_without_limits() {
    check(
        &Case::default(),
        "\
make cgroup /sys/fs/cgroup/pod/box
enable cpu cpuset io memory pids for /sys/fs/cgroup/pod/box
attach device filter to /sys/fs/cgroup/pod/box: deny all (8 instructions)",
    );
    let everything = r#"{"devices": [{"allow": true, "access": "rwm"}]}"#;
    check_lines(&Case { resources: everything, ..Case::default() }, "device", "");
    let defaults = default_device_rules();
    check_lines(
        &Case { defaults: &defaults, ..Case::default() },
        "device",
        "attach device filter to /sys/fs/cgroup/pod/box: deny all, allow c *:* m, allow b *:* m, allow c 1:3 rwm, \
         allow c 1:5 rwm, allow c 1:7 rwm, allow c 1:8 rwm, allow c 1:9 rwm, allow c 5:0 rwm, allow c 5:1 rwm, \
         allow c 5:2 rwm, allow c 10:200 rwm, allow c 136:* rwm (67 instructions)",
    );
}

const ALL_LIMITS: &str = r#"{
    "memory": {"limit": 1000, "reservation": 500, "swap": 3000, "kernel": 7, "swappiness": 5, "disableOOMKiller": true},
    "cpu": {"shares": 1024, "quota": 50000, "burst": 10, "period": 200000, "cpus": "0-1", "mems": "0",
            "realtimeRuntime": 5},
    "pids": {"limit": 0},
    "blockIO": {"weight": 100, "leafWeight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}, {"major": 9, "minor": 1, "rate": 2}]},
    "hugepageLimits": [{"pageSize": "2MB", "limit": 4}],
    "rdma": {"mlx": {"hcaHandles": 1, "hcaObjects": 2}},
    "network": {"classID": 5},
    "unified": {"memory.high": "900", "io.latency": "8:0 target=1\n8:16 target=2\n", "misc.max": "x 1"},
    "devices": [{"allow": true, "access": "rwm"}]
}"#;

#[test]
fn v2_with_everything() {
    let case = Case { resources: ALL_LIMITS, ..Case::default() };
    check(
        &case,
        r#"
make cgroup /sys/fs/cgroup/pod/box
enable cpu cpuset io memory pids hugetlb rdma misc for /sys/fs/cgroup/pod/box, pids memory io cpu cpuset hugetlb rdma misc without fail
write "1" to /sys/fs/cgroup/pod/box/pids.max
write "2000" to /sys/fs/cgroup/pod/box/memory.swap.max
write "1000" to /sys/fs/cgroup/pod/box/memory.max
write "500" to /sys/fs/cgroup/pod/box/memory.low
ignore resources.memory.kernel: the kernel has no separate limit for it
ignore resources.memory.swappiness: cgroup v2 has nothing like it
ignore resources.memory.disableOOMKiller: cgroup v2 has nothing like it
write the first that exists: "100" to /sys/fs/cgroup/pod/box/io.bfq.weight, "910" to /sys/fs/cgroup/pod/box/io.weight
write the first that exists: "8:0 10" to /sys/fs/cgroup/pod/box/io.bfq.weight, "8:0 1" to /sys/fs/cgroup/pod/box/io.weight
write "8:0 rbps=9 wiops=max" to /sys/fs/cgroup/pod/box/io.max
write "9:1 wiops=2" to /sys/fs/cgroup/pod/box/io.max
ignore resources.blockIO.leafWeight: cgroup v2 has no leaf weights
write "100" to /sys/fs/cgroup/pod/box/cpu.weight
write "10" to /sys/fs/cgroup/pod/box/cpu.max.burst and "50000 200000" to /sys/fs/cgroup/pod/box/cpu.max, in the order that is accepted
ignore resources.cpu.realtimeRuntime and realtimePeriod: cgroup v2 has no realtime groups
write "0-1" to /sys/fs/cgroup/pod/box/cpuset.cpus
write "0" to /sys/fs/cgroup/pod/box/cpuset.mems
write "4" to /sys/fs/cgroup/pod/box/hugetlb.2MB.max
write "4" to /sys/fs/cgroup/pod/box/hugetlb.2MB.rsvd.max, if it is there
write "mlx hca_handle=1 hca_object=2" to /sys/fs/cgroup/pod/box/rdma.max
ignore resources.network: cgroup v2 has neither net_cls nor net_prio
write "8:0 target=1" to /sys/fs/cgroup/pod/box/io.latency
write "8:16 target=2" to /sys/fs/cgroup/pod/box/io.latency
write "900" to /sys/fs/cgroup/pod/box/memory.high
write "x 1" to /sys/fs/cgroup/pod/box/misc.max"#,
    );
}

#[test]
fn hybrid() {
    let resources = r#"{
        "memory": {"limit": 1000, "swap": 3000, "swappiness": 5, "disableOOMKiller": true, "checkBeforeUpdate": true},
        "cpu": {"shares": 512, "quota": 50000, "burst": 10, "period": 200000, "realtimePeriod": 8, "realtimeRuntime": 5,
                "mems": "0", "idle": 1},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4}],
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}]
    }"#;
    check(
        &Case { host: HYBRID, resources, ..Case::default() },
        r#"
make cgroup /sys/fs/cgroup/cpu,cpuacct/pod/box
make cgroup /sys/fs/cgroup/cpuset/pod/box
make cgroup /sys/fs/cgroup/memory/pod/box
make cgroup /sys/fs/cgroup/devices/pod/box
make cgroup /sys/fs/cgroup/freezer/pod/box
make cgroup /sys/fs/cgroup/systemd/pod/box
make cgroup /sys/fs/cgroup/unified/pod/box
copy cpuset.cpus and cpuset.mems from the parent of /sys/fs/cgroup/cpuset/pod/box where empty
enable hugetlb for /sys/fs/cgroup/unified/pod/box, hugetlb without fail
fail unless /sys/fs/cgroup/memory/pod/box/memory.usage_in_bytes is below 1000
fail unless /sys/fs/cgroup/memory/pod/box/memory.memsw.usage_in_bytes is below 3000
write "1000" to /sys/fs/cgroup/memory/pod/box/memory.limit_in_bytes and "3000" to /sys/fs/cgroup/memory/pod/box/memory.memsw.limit_in_bytes, in the order that is accepted
write "1" to /sys/fs/cgroup/memory/pod/box/memory.oom_control
write "5" to /sys/fs/cgroup/memory/pod/box/memory.swappiness
write "512" to /sys/fs/cgroup/cpu,cpuacct/pod/box/cpu.shares
write "10" to /sys/fs/cgroup/cpu,cpuacct/pod/box/cpu.cfs_burst_us, if it is there and "50000" to /sys/fs/cgroup/cpu,cpuacct/pod/box/cpu.cfs_quota_us, in the order that is accepted
write "200000" to /sys/fs/cgroup/cpu,cpuacct/pod/box/cpu.cfs_period_us and "50000" to /sys/fs/cgroup/cpu,cpuacct/pod/box/cpu.cfs_quota_us, in the order that is accepted
write "8" to /sys/fs/cgroup/cpu,cpuacct/pod/box/cpu.rt_period_us and "5" to /sys/fs/cgroup/cpu,cpuacct/pod/box/cpu.rt_runtime_us, in the order that is accepted
write "1" to /sys/fs/cgroup/cpu,cpuacct/pod/box/cpu.idle
write "0" to /sys/fs/cgroup/cpuset/pod/box/cpuset.mems
write "4" to /sys/fs/cgroup/unified/pod/box/hugetlb.2MB.max
write "4" to /sys/fs/cgroup/unified/pod/box/hugetlb.2MB.rsvd.max, if it is there
write to devices.allow (+) and devices.deny (-) of /sys/fs/cgroup/devices/pod/box: -a, +c 1:3 rw
init: write "0" to /sys/fs/cgroup/cpu,cpuacct/pod/box/tasks
init: write "0" to /sys/fs/cgroup/cpuset/pod/box/tasks
init: write "0" to /sys/fs/cgroup/memory/pod/box/tasks
init: write "0" to /sys/fs/cgroup/devices/pod/box/tasks
init: write "0" to /sys/fs/cgroup/freezer/pod/box/tasks
init: write "0" to /sys/fs/cgroup/systemd/pod/box/tasks"#,
    );
}

#[test]
fn places() {
    let memory = |path, rootless| Case { host: HYBRID, path, rootless, ..Case::default() };
    check_lines(
        &memory("a/b", false),
        "make cgroup /sys/fs/cgroup/memory",
        "make cgroup /sys/fs/cgroup/memory/m/n/a/b",
    );
    check_lines(
        &memory("a/b", false),
        "make cgroup /sys/fs/cgroup/unified",
        "make cgroup /sys/fs/cgroup/unified/u/a/b",
    );
    check_lines(&memory("", false), "make cgroup /sys/fs/cgroup/memory", "make cgroup /sys/fs/cgroup/memory/box");
    check_lines(&memory("", true), "make cgroup /sys/fs/cgroup/memory", "make cgroup /sys/fs/cgroup/memory/m/box");
    check_lines(
        &Case { path: "", rootless: true, ..Case::default() },
        "make",
        "make cgroup /sys/fs/cgroup/user.slice/user-1000.slice/box",
    );
    check_lines(&Case { rootless: true, ..Case::default() }, "device", "");
}

#[test]
fn systemd_v2() {
    let resources = r#"{"memory": {"limit": 1000}, "pids": {"limit": -1}, "cpu": {"shares": 1024, "quota": 12345, "cpus": "0-1"},
        "unified": {"memory.oom.group": "1", "memory.high": "max"}, "devices": [{"allow": true, "access": "rwm"}]}"#;
    check(
        &Case { path: "a-b.slice:docker:1f", systemd: true, resources, ..Case::default() },
        r#"
with init: start unit docker-1f.scope: Description=container box, Slice=a-b.slice, Delegate=true, MemoryAccounting=true, CPUAccounting=true, IOAccounting=true, TasksAccounting=true, DefaultDependencies=false, OOMPolicy=kill, DevicePolicy=auto, DeviceAllow=, MemoryMax=1000, TasksMax=infinity, CPUWeight=100, CPUQuotaPerSecUSec=130000, AllowedCPUs=03, MemoryHigh=infinity, TimeoutStopUSec=3000000
with init: make cgroup /sys/fs/cgroup/a.slice/a-b.slice/docker-1f.scope unless it exists
with init: enable cpu cpuset io memory pids for /sys/fs/cgroup/a.slice/a-b.slice/docker-1f.scope, pids memory cpu cpuset without fail
with init: write "max" to /sys/fs/cgroup/a.slice/a-b.slice/docker-1f.scope/pids.max
with init: write "1000" to /sys/fs/cgroup/a.slice/a-b.slice/docker-1f.scope/memory.max
with init: write "100" to /sys/fs/cgroup/a.slice/a-b.slice/docker-1f.scope/cpu.weight
with init: write "12345 100000" to /sys/fs/cgroup/a.slice/a-b.slice/docker-1f.scope/cpu.max
with init: write "0-1" to /sys/fs/cgroup/a.slice/a-b.slice/docker-1f.scope/cpuset.cpus
with init: write "max" to /sys/fs/cgroup/a.slice/a-b.slice/docker-1f.scope/memory.high
with init: write "1" to /sys/fs/cgroup/a.slice/a-b.slice/docker-1f.scope/memory.oom.group
with init: attach device filter to /sys/fs/cgroup/a.slice/a-b.slice/docker-1f.scope in place of others: allow all (8 instructions)"#,
    );
    check_lines(
        &Case { path: "", systemd: true, rootless: true, ..Case::default() },
        "make cgroup",
        "with init: make cgroup /sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/user.slice/gantry-box.scope \
         unless it exists",
    );
}

#[test]
fn systemd_hybrid() {
    let case =
        Case { host: HYBRID, path: ":x:y", systemd: true, resources: r#"{"memory": {"limit": 9}}"#, ..Case::default() };
    check_lines(
        &case,
        "write the process",
        "\
with init: write the process to /sys/fs/cgroup/cpu,cpuacct/system.slice/x-y.scope/cgroup.procs
with init: write the process to /sys/fs/cgroup/cpuset/system.slice/x-y.scope/cgroup.procs
with init: write the process to /sys/fs/cgroup/memory/system.slice/x-y.scope/cgroup.procs
with init: write the process to /sys/fs/cgroup/devices/system.slice/x-y.scope/cgroup.procs
with init: write the process to /sys/fs/cgroup/freezer/system.slice/x-y.scope/cgroup.procs
with init: write the process to /sys/fs/cgroup/unified/system.slice/x-y.scope/cgroup.procs",
    );
    assert!(plan(&case).contains("BlockIOAccounting=true") && plan(&case).contains("MemoryLimit=9"));
}

#[test]
fn refused() {
    let v1 = |resources| Case { host: V1, resources, ..Case::default() };
    let check = |case: &Case<'_>, expect: &str| check(case, expect);
    check(
        &v1(r#"{"unified": {"memory.high": "1"}}"#),
        "error: resources.unified = memory.high: this host has no cgroup v2",
    );
    check(
        &v1(r#"{"pids": {"limit": 5}}"#),
        "error: controller `pids` is not available under /sys/fs/cgroup/memory/pod/box: no hierarchy of this host, or \
         none that the container is in, has it; leave the limit out",
    );
    check(
        &Case { resources: r#"{"unified": {"../x.y": "1"}}"#, ..Case::default() },
        "error: resources.unified = ../x.y: not the name of a file of the cgroup",
    );
    check(&Case { path: "/a/../../b", ..Case::default() }, "error: cgroup path \"/a/../../b\": contains \"..\"");
    check(
        &Case { path: "/a/b", systemd: true, ..Case::default() },
        "error: cgroup path \"/a/b\": the systemd driver takes slice:prefix:name",
    );
    check(&v1(r#"{"memory": {"swappiness": 101}}"#), "error: resources.memory.swappiness = 101: from 0 to 100");
    assert!(plan(&Case { host: ("", ""), ..Case::default() }).contains("no cgroup file system is mounted"));
    check(&Case { host: ("", ""), rootless: true, ..Case::default() }, "");
}

fn check_update(host: (&str, &str), resources: &str, expect: &str) {
    let layout = Layout::parse(host.0, host.1).unwrap();
    let v1 = r#"{"v1": [{"subsystems": ["memory"], "dir": "/m"}, {"subsystems": ["devices"], "dir": "/d"}]}"#;
    let text = if layout.is_v2() { r#"{"unified": "/c"}"# } else { v1 };
    let location: Location = serde_json::from_str(text).unwrap();
    let steps = plan_update(&layout, &location, &serde_json::from_str(resources).unwrap(), &[]);
    let got =
        steps.map_or_else(|e| e.to_string(), |s| s.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    assert_eq!(got, expect.trim());
}

#[test]
fn updates() {
    check_update(V2, "{}", "");
    check_update(
        V2,
        r#"{"cpu": {"period": 1000}}"#,
        "enable cpu for /c, cpu without fail\nwrite the old quota and 1000 to /c/cpu.max",
    );
    check_update(
        V2,
        r#"{"cpu": {"quota": -1}, "memory": {"limit": 5, "checkBeforeUpdate": true}}"#,
        "fail unless /c/memory.current is below 5\nenable memory cpu for /c, memory cpu without fail\n\
         write \"5\" to /c/memory.max\nwrite \"max\" to /c/cpu.max",
    );
    check_update(
        V1,
        r#"{"memory": {"limit": -1}, "devices": [{"allow": true, "type": "b", "access": "r"}]}"#,
        "write \"-1\" to /m/memory.limit_in_bytes and \"-1\" to /m/memory.memsw.limit_in_bytes, if it is there, in the \
         order that is accepted\nbring the devices of /d to: deny all but b *:* r",
    );
    check_update(
        V2,
        r#"{"devices": [{"allow": true, "type": "a", "access": "rwm"}]}"#,
        "attach device filter to /c in place of others: allow all (8 instructions)",
    );
}

#[test]
fn location_survives_its_file() {
    let text =
        r#"{"unified":"/u","v1":[{"subsystems":["cpu","cpuacct"],"dir":"/c"}],"unit":{"name":"a.scope","bus":"user"}}"#;
    let location: Location = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&location).unwrap(), text);
    let paths: Vec<String> = location.paths().iter().map(|(k, v)| format!("{k}={}", v.display())).collect();
    assert_eq!(paths, ["=/u", "cpu=/c", "cpuacct=/c"]);
    assert_eq!(serde_json::to_string(&Location::none()).unwrap(), "{}");
}
