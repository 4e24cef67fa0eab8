//! Everything that a process can see of its surroundings, as one JSON document.

use std::fs;

use rustix::process::{Pid, Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};

use crate::host::mount_table;

/// Capabilities by number (capabilities(7)).
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Resource limits by name (getrlimit(2)).
const LIMITS: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_STACK", Resource::Stack),
];

/// Everything. What cannot be read, as without `/proc`, is `null` or empty.
pub fn report() -> Value {
    let status = text("/proc/self/status");
    let field = |name: &str| status_field(&status, name);
    let groups: Vec<u32> = field("Groups").split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let name = rustix::system::uname();
    let env: Map<String, Value> = std::env::vars().map(|(name, value)| (name, value.into())).collect();
    json!({
        "uid": rustix::process::getuid().as_raw(),
        "euid": rustix::process::geteuid().as_raw(),
        "gid": rustix::process::getgid().as_raw(),
        "egid": rustix::process::getegid().as_raw(),
        "groups": groups,
        "umask": field("Umask"),
        "cwd": std::env::current_dir().map(|dir| dir.display().to_string()).ok(),
        "args": std::env::args().collect::<Vec<_>>(),
        "env": env,
        "pid": rustix::process::getpid().as_raw_pid(),
        "ppid": Pid::as_raw(rustix::process::getppid()),
        "sid": rustix::process::getsid(None).map(Pid::as_raw_pid).ok(),
        "pgid": rustix::process::getpgid(None).map(Pid::as_raw_pid).ok(),
        "caps": capabilities(&status),
        "rlimits": limits(),
        "no_new_privs": field("NoNewPrivs") == "1",
        "seccomp": field("Seccomp").parse::<u32>().ok(),
        "seccomp_filters": field("Seccomp_filters").parse::<u32>().ok(),
        "oom_score_adj": text("/proc/self/oom_score_adj").trim().parse::<i32>().ok(),
        "personality": text("/proc/self/personality").trim(),
        "scheduler": scheduler(),
        "affinity": field("Cpus_allowed_list"),
        "mems": field("Mems_allowed_list"),
        "mempolicy": memory_policy(),
        "label": text("/proc/self/attr/current").trim_end_matches(['\n', '\0']),
        "hostname": name.nodename().to_string_lossy(),
        "domainname": name.domainname().to_string_lossy(),
        "machine": name.machine().to_string_lossy(),
        "namespaces": namespaces(),
        "mounts": mounts(),
        "fds": fds(),
        "tty": terminal(),
        "cgroup": text("/proc/self/cgroup").lines().collect::<Vec<_>>(),
        "uid_map": ids("/proc/self/uid_map"),
        "gid_map": ids("/proc/self/gid_map"),
        "setgroups": text("/proc/self/setgroups").trim(),
        "clock": { "monotonic": clock_gettime(ClockId::Monotonic).tv_sec, "boottime": clock_gettime(ClockId::Boottime).tv_sec },
        "timens_offsets": text("/proc/self/timens_offsets").lines().map(words).collect::<Vec<_>>(),
        "keys": text("/proc/keys").lines().collect::<Vec<_>>(),
        "net": text("/proc/self/net/dev").lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect::<Vec<_>>(),
        "exe": fs::read_link("/proc/self/exe").map(|path| path.display().to_string()).unwrap_or_default(),
    })
}

/// The open descriptors, in order, each with what it leads to. The one that this reading opens is not among them.
pub fn fds() -> Value {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Value::Null };
    let mut numbers: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    let found = numbers.into_iter().filter_map(|fd| {
        // The reading's own descriptor is closed by now.
        let target = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        Some(json!({ "fd": fd, "target": target.display().to_string() }))
    });
    found.collect()
}

/// Whether the standard streams are terminals, and which, and how large.
pub fn terminal() -> Value {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdin()).ok();
    json!({
        "streams": streams.map(rustix::termios::isatty),
        "name": fs::read_link("/proc/self/fd/0").map(|path| path.display().to_string()).unwrap_or_default(),
        "rows": size.map(|size| size.ws_row),
        "columns": size.map(|size| size.ws_col),
        "controlling": fs::File::open("/dev/tty").is_ok(),
    })
}

/// The identity of each namespace.
pub fn namespaces() -> Value {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let found = kinds.iter().map(|kind| ((*kind).to_owned(), crate::host::namespace_id("self", kind).into()));
    Value::Object(found.collect())
}

/// Where something is mounted.
pub fn mount_targets() -> Vec<String> {
    mount_table("self").into_iter().map(|mounted| mounted.target).collect()
}

/// The mount table.
fn mounts() -> Value {
    let table = mount_table("self").into_iter().map(|mounted| {
        json!({
            "target": mounted.target,
            "root": mounted.root,
            "type": mounted.kind,
            "source": mounted.source,
            "options": mounted.options,
            "super": mounted.super_options,
            "propagation": mounted.propagation,
        })
    });
    table.collect()
}

/// The five sets, as sorted names.
fn capabilities(status: &str) -> Value {
    let sets = [
        ("inheritable", "CapInh"),
        ("permitted", "CapPrm"),
        ("effective", "CapEff"),
        ("bounding", "CapBnd"),
        ("ambient", "CapAmb"),
    ];
    let found = sets.iter().map(|(name, field)| {
        let bits = u64::from_str_radix(&status_field(status, field), 16).unwrap_or_default();
        let mut names: Vec<String> = (0..64).filter(|bit| bits >> bit & 1 == 1).map(capability_name).collect();
        names.sort();
        ((*name).to_owned(), names.into())
    });
    Value::Object(found.collect())
}

/// A capability's name; its number when it is newer than the table.
fn capability_name(bit: usize) -> String {
    CAPABILITIES.get(bit).map_or_else(|| format!("CAP_{bit}"), |name| format!("CAP_{name}"))
}

/// All resource limits; `null` is unlimited.
fn limits() -> Value {
    let found = LIMITS.iter().map(|(name, resource)| {
        let limit = getrlimit(*resource);
        ((*name).to_owned(), json!({ "soft": limit.current, "hard": limit.maximum }))
    });
    Value::Object(found.collect())
}

/// Scheduling policy, nice value and real-time priority (proc_pid_stat(5)).
fn scheduler() -> Value {
    let stat = text("/proc/self/stat");
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let number = |at: usize| fields.get(at - 3).and_then(|word| word.parse::<i64>().ok());
    let sched = text("/proc/self/sched");
    let named = |name: &str| {
        sched.lines().find_map(|line| {
            line.split_once(':').filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
        })
    };
    json!({ "nice": number(19), "priority": number(40), "policy": number(41), "deadline": named("dl.deadline"), "runtime": named("dl.runtime") })
}

/// The memory policy in force, as the kernel shows it for the program's own pages.
fn memory_policy() -> Value {
    let maps = text("/proc/self/numa_maps");
    maps.lines()
        .find(|line| line.contains("heap") || line.contains("stack"))
        .and_then(|line| line.split(' ').nth(1))
        .into()
}

/// A file of id mappings, each a list of three numbers.
fn ids(path: &str) -> Vec<Vec<u64>> {
    let numbers = |line: &str| line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    text(path).lines().map(numbers).collect()
}

/// A line's words, one blank between.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The value of a field of `/proc/self/status`.
fn status_field(status: &str, name: &str) -> String {
    let found = status.lines().find_map(|line| line.split_once(':').filter(|(key, _)| *key == name));
    found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

/// A file's text; empty when it cannot be read.
fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
