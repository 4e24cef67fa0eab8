//! Namespaces: kinds, `CLONE_NEW*` numbers and names under /proc (namespaces(7); config-linux.md, Namespaces).

use super::NameError;

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NamespaceKind {
    /// User and group ids, capabilities.
    User,
    /// View of the control groups.
    Cgroup,
    /// System V IPC, POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// Network devices, addresses, ports.
    Network,
    /// Process ids.
    Pid,
    /// Boot and monotonic clocks.
    Time,
    /// Mount points.
    Mount,
}

impl NamespaceKind {
    /// All kinds, in an order in which they can be joined one after the other: the user namespace first, since it
    /// gives the right to join the others, the mount namespace last, since the others' files are opened by path.
    pub const ALL: [Self; 8] =
        [Self::User, Self::Cgroup, Self::Ipc, Self::Uts, Self::Network, Self::Pid, Self::Time, Self::Mount];

    /// The kind by the name that the specification gives it.
    pub fn from_name(name: &str) -> Result<Self, NameError> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let hint = "one of cgroup, ipc, mount, network, pid, time, user, uts is meant";
            NameError::unknown("namespace type", name, hint)
        })
    }

    /// The kind's name in the specification.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Network => "network",
            Self::Pid => "pid",
            Self::Time => "time",
            Self::Mount => "mount",
        }
    }

    /// The kind's `CLONE_NEW*` flag, as clone3(2), unshare(2) and setns(2) take it.
    pub fn clone_flag(self) -> u64 {
        match self {
            Self::User => 0x1000_0000,
            Self::Cgroup => 0x0200_0000,
            Self::Ipc => 0x0800_0000,
            Self::Uts => 0x0400_0000,
            Self::Network => 0x4000_0000,
            Self::Pid => 0x2000_0000,
            Self::Time => 0x0000_0080,
            Self::Mount => 0x0002_0000,
        }
    }

    /// The kind's file in `/proc/PID/ns`.
    pub fn proc_name(self) -> &'static str {
        match self {
            Self::Network => "net",
            Self::Mount => "mnt",
            other => other.name(),
        }
    }
}

/// The names of all kinds, sorted, for the features document.
pub fn known() -> Vec<&'static str> {
    let mut names: Vec<_> = NamespaceKind::ALL.iter().map(|kind| kind.name()).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let check = |name: &str, expect: Option<(u64, &str)>| {
            let got = NamespaceKind::from_name(name).ok().map(|kind| (kind.clone_flag(), kind.proc_name()));
            assert_eq!(got, expect, "{name:?}");
        };
        check("user", Some((0x1000_0000, "user")));
        check("cgroup", Some((0x0200_0000, "cgroup")));
        check("ipc", Some((0x0800_0000, "ipc")));
        check("uts", Some((0x0400_0000, "uts")));
        check("network", Some((0x4000_0000, "net")));
        check("pid", Some((0x2000_0000, "pid")));
        check("time", Some((0x80, "time")));
        check("mount", Some((0x0002_0000, "mnt")));
        for name in ["", "net", "mnt", "PID", "pid ", "pid\0", "syslog"] {
            check(name, None);
        }
        assert_eq!(known(), ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"]);
    }
}
