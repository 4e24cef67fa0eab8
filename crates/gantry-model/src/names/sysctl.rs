//! Kernel parameters: which of them belong to the container, and where they lie (sysctl(8); config-linux.md, Sysctl).
//!
//! /proc/sys is namespaced only in part. A parameter that is not would change the host, so only those are let through
//! that are known to belong to a namespace which the container does not share with the runtime.

use std::collections::BTreeMap;

use super::NameError;

/// Longest name, in bytes; the path under /proc/sys stays well below the kernel's bound.
const MAX_NAME: usize = 1024;

/// Parameters of the IPC namespace outside `fs.mqueue`.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
];

/// Which namespaces the container does not share with the runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Isolation {
    /// An IPC namespace is created or joined.
    pub ipc: bool,
    /// A network namespace is created, or joined and not the runtime's own.
    pub network: bool,
    /// A UTS namespace is created or joined.
    pub uts: bool,
    /// A user namespace is created or joined.
    pub user: bool,
}

/// A parameter to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<'a> {
    /// File, relative to /proc/sys; no component is empty, `.` or `..`.
    pub path: String,
    /// What is written.
    pub value: &'a str,
}

/// Translates all parameters of a container. A domain name that is also set by `domainname`, to something else, is
/// refused: one of the two would be lost.
pub fn settings<'a>(
    sysctl: &'a BTreeMap<String, String>,
    isolation: Isolation,
    domainname: &str,
) -> Result<Vec<Setting<'a>>, NameError> {
    let setting = |(name, value): (&String, &'a String)| {
        let path = path(name)?;
        check(name, &path, isolation)?;
        if path == "kernel/domainname" && !domainname.is_empty() && value != domainname {
            return Err(NameError::invalid("sysctl", name, "it conflicts with the field domainname: set one of them"));
        }
        Ok(Setting { path, value })
    };
    sysctl.iter().map(setting).collect()
}

/// The file of a parameter, relative to /proc/sys. The first separator of the name decides what separates: after a dot,
/// dots do and a slash stands for a dot within a component; after a slash it is a path.
pub fn path(name: &str) -> Result<String, NameError> {
    let invalid = |why: &str| Err(NameError::invalid("sysctl", name, why));
    if name.len() > MAX_NAME {
        return invalid("the name is longer than 1024 bytes");
    }
    if name.contains('\0') {
        return invalid("the name has a NUL character");
    }
    let dots = name.chars().find(|&c| c == '.' || c == '/') == Some('.');
    let exchange = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if dots { name.chars().map(exchange).collect() } else { name.to_owned() };
    if path.split('/').any(|component| matches!(component, "" | "." | "..")) {
        return invalid("a part of the name is empty, . or ..: a name as net.ipv4.ip_forward is meant");
    }
    Ok(path)
}

fn check(name: &str, path: &str, isolation: Isolation) -> Result<(), NameError> {
    let need = |has: bool, why: &str| if has { Ok(()) } else { Err(NameError::invalid("sysctl", name, why)) };
    if path.starts_with("fs/mqueue/") || IPC.contains(&path) {
        return need(isolation.ipc, "it would change the host: give the container an ipc namespace");
    }
    if path.starts_with("net/") {
        return need(isolation.network, "it would change the host: give the container a network namespace of its own");
    }
    if path.starts_with("user/") {
        return need(isolation.user, "it would change the host: give the container a user namespace");
    }
    match path {
        "kernel/domainname" => need(isolation.uts, "it would change the host: give the container a uts namespace"),
        "kernel/hostname" => need(false, "it conflicts with the field hostname: set that one"),
        _ => need(false, "it is not known to belong to a namespace, and would change the host"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Isolation = Isolation { ipc: true, network: true, uts: true, user: true };

    #[test]
    fn paths() {
        let check = |name: &str, expect: Option<&str>| assert_eq!(path(name).ok().as_deref(), expect, "{name:?}");
        check("net.ipv4.ip_forward", Some("net/ipv4/ip_forward"));
        check("net/ipv4/ip_forward", Some("net/ipv4/ip_forward"));
        check("net.ipv4.conf.eno2/100.rp_filter", Some("net/ipv4/conf/eno2.100/rp_filter"));
        check("net/ipv4/conf/eno2.100/rp_filter", Some("net/ipv4/conf/eno2.100/rp_filter"));
        check("kernel", Some("kernel"));
        check("a.../b", None);
        let long = "a.".repeat(1 << 20);
        for name in [
            "",
            ".",
            "/",
            "..",
            "/net/x",
            "net.",
            "net..x",
            "net//x",
            "net/../kernel",
            "net.//.kernel.core_pattern",
            "net/./x",
            "net./.x",
            "net.x\0",
            "../kernel/core_pattern",
            &long,
        ] {
            check(name, None);
        }
    }

    #[test]
    fn isolations() {
        let check = |name: &str, isolation: Isolation, ok: bool| {
            let sysctl = BTreeMap::from([(name.to_owned(), "1".to_owned())]);
            assert_eq!(settings(&sysctl, isolation, "").is_ok(), ok, "{name:?} {isolation:?}");
        };
        let ipc = Isolation { ipc: true, ..Isolation::default() };
        let network = Isolation { network: true, ..Isolation::default() };
        let uts = Isolation { uts: true, ..Isolation::default() };
        let user = Isolation { user: true, ..Isolation::default() };
        for (name, need) in [
            ("kernel.msgmax", ipc),
            ("kernel.msgmnb", ipc),
            ("kernel.msgmni", ipc),
            ("kernel.sem", ipc),
            ("kernel.shmall", ipc),
            ("kernel.shmmax", ipc),
            ("kernel.shmmni", ipc),
            ("kernel/shm_rmid_forced", ipc),
            ("fs.mqueue.msg_max", ipc),
            ("fs/mqueue/queues_max", ipc),
            ("net.core.somaxconn", network),
            ("net/ipv4/ip_forward", network),
            ("kernel.domainname", uts),
            ("user.max_user_namespaces", user),
        ] {
            for isolation in [ipc, network, uts, user] {
                check(name, isolation, isolation == need);
            }
            check(name, ALL, true);
            check(name, Isolation::default(), false);
        }
        for name in [
            "kernel.hostname",
            "kernel.core_pattern",
            "kernel.shmmax.x",
            "kernel.shm_next_id",
            "fs.mqueue",
            "fs.mqueuex.y",
            "fs.file-max",
            "net",
            "user",
            "vm.swappiness",
            "kernel.ns_last_pid",
            "netx.y",
        ] {
            check(name, ALL, false);
        }
    }

    #[test]
    fn values() {
        let check = |name: &str, value: &str, domainname: &str, ok: bool| {
            let sysctl = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            let got = settings(&sysctl, ALL, domainname);
            assert_eq!(
                got.as_ref().is_ok_and(|s| s.iter().all(|s| s.value == value)),
                ok,
                "{name} {value} {domainname}"
            );
        };
        check("kernel.domainname", "foo", "", true);
        check("kernel.domainname", "foo", "foo", true);
        check("kernel/domainname", "foo", "bar", false);
        check("net.ipv4.ping_group_range", "0 0", "bar", true);
    }
}
