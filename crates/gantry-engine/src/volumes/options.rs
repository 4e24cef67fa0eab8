//! What a volume with options stands for: a file system that is mounted while containers use it.

use std::ffi::CString;
use std::net::{IpAddr, ToSocketAddrs as _};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount as kernel_mount, mount_change, mount_remount, unmount,
};

use super::Volume;
use crate::error::{Context, Error, Result};

/// Options that a volume can have.
const KNOWN: [&str; 4] = ["type", "device", "o", "size"];
/// An option, and which must be there too if it is.
const NEEDED: [(&str, &str); 4] = [("o", "device"), ("o", "type"), ("type", "device"), ("device", "type")];

/// Options of mount(8) that are flags, and whether they set them.
const FLAGS: [(&str, bool, MountFlags); 20] = [
    ("ro", true, MountFlags::RDONLY),
    ("rw", false, MountFlags::RDONLY),
    ("nosuid", true, MountFlags::NOSUID),
    ("suid", false, MountFlags::NOSUID),
    ("nodev", true, MountFlags::NODEV),
    ("dev", false, MountFlags::NODEV),
    ("noexec", true, MountFlags::NOEXEC),
    ("exec", false, MountFlags::NOEXEC),
    ("sync", true, MountFlags::SYNCHRONOUS),
    ("async", false, MountFlags::SYNCHRONOUS),
    ("dirsync", true, MountFlags::DIRSYNC),
    ("noatime", true, MountFlags::NOATIME),
    ("atime", false, MountFlags::NOATIME),
    ("nodiratime", true, MountFlags::NODIRATIME),
    ("diratime", false, MountFlags::NODIRATIME),
    ("relatime", true, MountFlags::RELATIME),
    ("norelatime", false, MountFlags::RELATIME),
    ("strictatime", true, MountFlags::STRICTATIME),
    ("nostrictatime", false, MountFlags::STRICTATIME),
    ("bind", true, MountFlags::BIND),
];

/// How mounts are handed on.
const PROPAGATIONS: [(&str, MountPropagationFlags); 4] = [
    ("shared", MountPropagationFlags::SHARED),
    ("slave", MountPropagationFlags::DOWNSTREAM),
    ("private", MountPropagationFlags::PRIVATE),
    ("unbindable", MountPropagationFlags::UNBINDABLE),
];

/// How something is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    kind: String,
    device: String,
    flags: MountFlags,
    /// Whether its flags are set by a second call, since a bind does not take them.
    remount: bool,
    propagation: MountPropagationFlags,
    /// What is left for the file system.
    data: String,
}

/// Refuses options that a volume cannot have.
pub(super) fn check(name: &str, options: &std::collections::BTreeMap<String, String>) -> Result<()> {
    for key in options.keys() {
        if !KNOWN.contains(&key.as_str()) {
            return Err(Error::Invalid(format!("create {name}: invalid option: {key:?}")));
        }
    }
    if options.get("size").is_some_and(|size| !size.is_empty()) {
        return Err(Error::Unsupported(format!("create {name}: quotas are not to be had: leave \"size\" out")));
    }
    for (given, needed) in NEEDED {
        if options.contains_key(given) && !options.contains_key(needed) {
            return Err(Error::Invalid(format!("create {name}: missing required option: {needed:?}")));
        }
    }
    Ok(())
}

/// Whether a volume is a directory and nothing else.
pub(super) fn is_plain(volume: &Volume) -> bool {
    !volume.damaged && ["type", "device"].iter().all(|key| volume.options.get(*key).is_none_or(String::is_empty))
}

/// Decides how a volume is mounted. `resolve` finds the address of a host, for file systems that want one.
fn plan(volume: &Volume, resolve: impl Fn(&str) -> Option<IpAddr>) -> Result<Plan> {
    let option = |name: &str| volume.options.get(name).map_or("", String::as_str);
    let mut plan = Plan {
        kind: option("type").to_owned(),
        device: option("device").to_owned(),
        flags: MountFlags::empty(),
        remount: false,
        propagation: MountPropagationFlags::empty(),
        data: String::new(),
    };
    let mut data: Vec<String> = Vec::new();
    for option in option("o").split(',').filter(|option| !matches!(*option, "" | "defaults")) {
        let recursive = option.strip_prefix('r').unwrap_or_default();
        let named = |name: &str| PROPAGATIONS.iter().find(|(known, _)| *known == name).map(|(_, flag)| *flag);
        if let Some((_, set, flag)) = FLAGS.iter().find(|(known, ..)| *known == option) {
            plan.flags.set(*flag, *set);
        } else if option == "rbind" {
            plan.flags |= MountFlags::BIND | MountFlags::REC;
        } else if let Some(flag) = named(option) {
            plan.propagation = flag;
        } else if let Some(flag) = named(recursive) {
            plan.propagation = flag | MountPropagationFlags::REC;
        } else {
            data.push(option.to_owned());
        }
    }
    if matches!(plan.kind.as_str(), "nfs" | "nfs4" | "cifs") {
        addresses(volume, &plan.kind, &plan.device, &mut data, resolve)?;
    }
    let bind = MountFlags::BIND | MountFlags::REC;
    plan.remount = plan.flags.contains(MountFlags::BIND) && !plan.flags.difference(bind).is_empty();
    if plan.kind == "none" || plan.flags.contains(MountFlags::BIND) {
        plan.kind.clear();
    }
    plan.data = data.join(",");
    Ok(plan)
}

/// Gives the kernel the address of a server, which mount(8) would find out: in place of a name, or of none.
fn addresses(
    volume: &Volume,
    kind: &str,
    device: &str,
    data: &mut Vec<String>,
    resolve: impl Fn(&str) -> Option<IpAddr>,
) -> Result<()> {
    let find = |host: &str| match host.parse::<IpAddr>() {
        Ok(address) => Ok(address),
        Err(_) => resolve(host).ok_or_else(|| {
            let name = &volume.name;
            Error::Invalid(format!(
                "error resolving passed in network volume address: volume {name}: no such host {host}"
            ))
        }),
    };
    let mut given = false;
    for option in data.iter_mut() {
        for key in ["addr=", "ip="] {
            if let Some(host) = option.strip_prefix(key) {
                *option = format!("{key}{}", find(host)?);
                given = true;
            }
        }
    }
    let (key, host) = match kind {
        "cifs" => ("ip=", device.trim_start_matches(['/', '\\']).split(['/', '\\']).next()),
        _ => ("addr=", device.rsplit_once(":/").map(|(host, _)| host.trim_matches(['[', ']']))),
    };
    if let Some(host) = host.filter(|host| !given && !host.is_empty()) {
        data.push(format!("{key}{}", find(host)?));
    }
    Ok(())
}

/// The address of a host; one of IPv4 if there is one.
fn resolve(host: &str) -> Option<IpAddr> {
    let found: Vec<IpAddr> = (host, 0).to_socket_addrs().ok()?.map(|address| address.ip()).collect();
    found.iter().find(|address| address.is_ipv4()).or(found.first()).copied()
}

/// Mounts what a volume with options stands for, unless it is mounted.
pub(crate) fn mount(volume: &Volume) -> Result<()> {
    if volume.damaged {
        let cause = "what it stands for is not known: remove it, or mend its record.json".to_owned();
        return Err(Error::Damaged { what: format!("the record of volume {}", volume.name), cause });
    }
    if is_plain(volume) || is_mounted(volume)? {
        return Ok(());
    }
    let plan = plan(volume, resolve)?;
    let at = volume.mountpoint.as_str();
    let data = CString::new(plan.data).map_err(|_| Error::Invalid("a mount option has a NUL".to_owned()))?;
    let what = || {
        let (name, device) = (&volume.name, &plan.device);
        format!("error while mounting volume '{at}': failed to mount local volume {name}: mount {device}:{at}")
    };
    kernel_mount(plan.device.as_str(), at, plan.kind.as_str(), plan.flags, Some(data.as_c_str())).context(what)?;
    let settled = if plan.remount { mount_remount(at, plan.flags.difference(MountFlags::REC), c"") } else { Ok(()) };
    let settled = settled.and_then(|()| match plan.propagation {
        none if none.is_empty() => Ok(()),
        propagation => mount_change(at, propagation),
    });
    if settled.is_err() {
        // One that allows more than was asked for is not to be used.
        unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).context(what)?;
    }
    settled.context(what)
}

/// Unmounts what a volume stands for.
pub(super) fn unmount_it(volume: &Volume) -> Result<()> {
    if is_plain(volume) || !is_mounted(volume)? {
        return Ok(());
    }
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    unmount(volume.mountpoint.as_str(), flags).context(|| format!("unmount volume {}", volume.name))
}

/// Whether something is mounted on the directory of a volume.
fn is_mounted(volume: &Volume) -> Result<bool> {
    let what = || format!("look at {}", volume.mountpoint);
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match statx(CWD, volume.mountpoint.as_str(), flags, StatxFlags::TYPE) {
        Ok(stat) => Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        // A file system whose server is away: it is mounted, and whoever uses it learns so.
        Err(Errno::STALE | Errno::HOSTDOWN | Errno::HOSTUNREACH | Errno::TIMEDOUT | Errno::IO) => Ok(true),
        Err(errno) => Err(errno).context(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(kind: &str, device: &str, o: &str) -> Volume {
        let options = [("type", kind), ("device", device), ("o", o)];
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Volume { name: "vv".to_owned(), options, ..Volume::default() }
    }

    #[test]
    fn plans() {
        let check = |kind: &str, device: &str, o: &str, expect: &str| {
            let resolve = |host: &str| (host == "server").then(|| [10, 0, 0, 9].into());
            let shown = match plan(&volume(kind, device, o), resolve) {
                Ok(plan) => {
                    let flags: Vec<&str> = plan.flags.iter_names().map(|(name, _)| name).collect();
                    let hand: Vec<&str> = plan.propagation.iter_names().map(|(name, _)| name).collect();
                    let again = if plan.remount { " again" } else { "" };
                    format!("{:?} {} {flags:?} {hand:?} {:?}{again}", plan.kind, plan.device, plan.data)
                }
                Err(error) => error.to_string(),
            };
            assert_eq!(shown, expect, "{kind} {device} {o}");
        };
        check("tmpfs", "tmpfs", "size=1m,uid=5,noexec", r#""tmpfs" tmpfs ["NOEXEC"] [] "size=1m,uid=5""#);
        check("tmpfs", "tmpfs", "", r#""tmpfs" tmpfs [] [] """#);
        check("tmpfs", "x", "ro,rw,defaults,,nosuid,suid", r#""tmpfs" x [] [] """#);
        check("none", "/srv", "bind", r#""" /srv ["BIND"] [] """#);
        check("none", "/srv", "bind,ro", r#""" /srv ["BIND", "RDONLY"] [] "" again"#);
        check("ext4", "/srv", "rbind,rshared", r#""" /srv ["BIND", "REC"] ["SHARED", "REC"] """#);
        check("ext4", "/dev/x", "slave,discard", r#""ext4" /dev/x [] ["DOWNSTREAM"] "discard""#);
        check("nfs", ":/x", "addr=server,rw,vers=4", r#""nfs" :/x [] [] "addr=10.0.0.9,vers=4""#);
        check("nfs", ":/x", "addr=192.0.2.1", r#""nfs" :/x [] [] "addr=192.0.2.1""#);
        check("nfs4", "server:/x", "ro", r#""nfs4" server:/x ["RDONLY"] [] "addr=10.0.0.9""#);
        check("nfs4", "[2001:db8::1]:/x", "", r#""nfs4" [2001:db8::1]:/x [] [] "addr=2001:db8::1""#);
        check("cifs", "//server/share", "user=a", r#""cifs" //server/share [] [] "user=a,ip=10.0.0.9""#);
        let gone = "error resolving passed in network volume address: volume vv: no such host gone";
        check("nfs", ":/x", "addr=gone", gone);
    }

    #[test]
    fn checks() {
        let try_it = |options: &[(&str, &str)], expect: &str| {
            let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let found = check("ab", &options).map_or_else(|error| error.to_string(), |()| String::new());
            assert_eq!(found, expect, "{options:?}");
        };
        try_it(&[], "");
        try_it(&[("foo", "x")], "create ab: invalid option: \"foo\"");
        try_it(&[("type", "tmpfs")], "create ab: missing required option: \"device\"");
        try_it(&[("device", "tmpfs")], "create ab: missing required option: \"type\"");
        try_it(&[("o", "size=1m")], "create ab: missing required option: \"device\"");
        try_it(&[("o", "size=1m"), ("device", "tmpfs")], "create ab: missing required option: \"type\"");
        try_it(&[("type", ""), ("device", ""), ("o", "")], "");
        try_it(&[("size", "")], "");
        try_it(&[("size", "1m")], "create ab: quotas are not to be had: leave \"size\" out");
    }

    #[test]
    fn mounts() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: it needs root");
            return;
        }
        let dir = std::env::temp_dir().join(format!("gantry-volume-{}", std::process::id()));
        let (at, source) = (dir.join("at"), dir.join("source"));
        std::fs::create_dir_all(&at).unwrap();
        std::fs::create_dir_all(&source).unwrap();
        let on = |volume: Volume| Volume { mountpoint: at.display().to_string(), ..volume };
        // In a mount namespace of a thread's own, which goes with it.
        let test = || {
            gantry_sys::ns::unshare(0x2_0000).unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            let memory = on(volume("tmpfs", "tmpfs", "size=1m,mode=700"));
            mount(&memory).unwrap();
            std::fs::write(at.join("file"), "").unwrap();
            mount(&memory).unwrap();
            assert!(at.join("file").exists(), "it is mounted once");
            unmount_it(&memory).unwrap();
            assert!(!at.join("file").exists());
            unmount_it(&memory).unwrap();
            let bound = on(volume("none", source.to_str().unwrap(), "bind,ro"));
            mount(&bound).unwrap();
            let written = std::fs::write(at.join("file"), "");
            assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
            unmount_it(&bound).unwrap();
            let error = mount(&on(volume("none", "/none/such", "bind"))).unwrap_err().to_string();
            assert!(error.contains("failed to mount local volume vv: mount /none/such:"), "{error}");
        };
        let result = std::thread::scope(|scope| scope.spawn(test).join());
        std::fs::remove_dir_all(&dir).unwrap();
        result.unwrap();
    }
}
