//! What is looked up on the host for containers: devices, and what depends on the kernel. Synchronous.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gantry_model::names::capability::CapSet;
use gantry_model::oci::linux::Device;
use gantry_sys::misc::error_text;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, major, minor, openat, stat, statat};
use rustix::io::Errno;

use super::{Invalid, absolute};
use crate::request::DeviceMapping;
use crate::settings::DeviceSetting;

/// How deep directories of devices are gone into.
const MAX_DEPTH: usize = 16;
/// How many devices are taken from a directory.
const MAX_DEVICES: usize = 16_384;
/// Directories of `/dev` whose devices are not the machine's, or are each container's own.
const NOT_THE_MACHINES: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// Sending pings without a capability, by group.
pub(super) const PING_GROUPS: &str = "net.ipv4.ping_group_range";
/// From which port on no capability is needed.
const FIRST_PORT: &str = "net.ipv4.ip_unprivileged_port_start";

/// The devices of a mapping: one, or all below a directory.
///
/// # Errors
/// There is none, or the mapping makes no sense.
pub fn mapped(mapping: &DeviceMapping) -> Result<Vec<DeviceSetting>, Invalid> {
    let access = access(&mapping.permissions)?;
    let host = absolute("device path", &mapping.host)?;
    let inside = if mapping.container.is_empty() { host } else { absolute("device path", &mapping.container)? };
    let fail = |cause: String| Invalid::Device { path: host.to_owned(), cause };
    let found = stat(host).map_err(|errno| fail(error_text(errno.raw_os_error())))?;
    let devices = match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => {
            let mut devices = Vec::new();
            let dir = open(CWD, host).map_err(|errno| fail(error_text(errno.raw_os_error())))?;
            walk(&dir, inside.trim_end_matches('/'), 0, &mut devices, &|_| true)
                .map_err(|errno| fail(error_text(errno.raw_os_error())))?;
            devices
        }
        _ => device(inside, &found).into_iter().collect(),
    };
    if devices.is_empty() {
        return Err(fail("not a device node".to_owned()));
    }
    Ok(devices.into_iter().map(|device| DeviceSetting { device, access: access.clone() }).collect())
}

/// What may be done with a device: letters of `rwm`, none of them twice; empty is all.
pub(super) fn access(text: &str) -> Result<String, Invalid> {
    let fits = text.chars().enumerate().all(|(at, c)| "rwm".contains(c) && !text[..at].contains(c));
    match text {
        "" => Ok("rwm".to_owned()),
        _ if fits => Ok(text.to_owned()),
        _ => Err(Invalid::DeviceMode(text.to_owned())),
    }
}

/// The number of a block device, for limits.
///
/// # Errors
/// There is none at that path.
pub fn block_number(path: &str) -> Result<(i64, i64), Invalid> {
    let fail = |cause: String| Invalid::Device { path: path.to_owned(), cause };
    let found = stat(absolute("device path", path)?).map_err(|errno| fail(error_text(errno.raw_os_error())))?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::BlockDevice => Ok((i64::from(major(found.st_rdev)), i64::from(minor(found.st_rdev)))),
        _ => Err(fail("not a block device".to_owned())),
    }
}

/// All devices of the machine, for containers that are allowed everything. What cannot be looked at is left out.
pub fn devices() -> Vec<Device> {
    let mut devices = Vec::new();
    if let Ok(dir) = open(CWD, "/dev") {
        let wanted = |path: &str| {
            let name = path.strip_prefix("/dev/").unwrap_or(path);
            // The console is the container's terminal, and the multiplexer that of its own terminals.
            !NOT_THE_MACHINES.contains(&name) && name != "console" && name != "ptmx"
        };
        let _ = walk(&dir, "/dev", 0, &mut devices, &wanted);
    }
    devices
}

/// Takes the devices below a directory, by name. Links are not followed.
fn walk(
    dir: &OwnedFd,
    path: &str,
    depth: usize,
    devices: &mut Vec<Device>,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<(), Errno> {
    let mut names: Vec<_> =
        Dir::read_from(dir)?.filter_map(|entry| entry.ok().map(|e| e.file_name().to_owned())).collect();
    names.sort_unstable();
    for name in names {
        let Ok(text) = name.to_str() else { continue };
        let below = format!("{path}/{text}");
        if text == "." || text == ".." || !wanted(&below) || devices.len() >= MAX_DEVICES {
            continue;
        }
        // It may be gone by now.
        let Ok(found) = statat(dir, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            if let Some(dir) = (depth < MAX_DEPTH).then(|| open(dir.as_fd(), name.as_c_str()).ok()).flatten() {
                let _ = walk(&dir, &below, depth + 1, devices, wanted);
            }
        } else {
            devices.extend(device(&below, &found));
        }
    }
    Ok(())
}

fn open<P: rustix::path::Arg>(at: BorrowedFd<'_>, path: P) -> Result<OwnedFd, Errno> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A device at a path in the container, if it is one.
fn device(path: &str, found: &Stat) -> Option<Device> {
    let kind = match FileType::from_raw_mode(found.st_mode) {
        FileType::CharacterDevice => "c",
        FileType::BlockDevice => "b",
        _ => return None,
    };
    Some(Device {
        path: path.to_owned(),
        kind: kind.to_owned(),
        major: i64::from(major(found.st_rdev)),
        minor: i64::from(minor(found.st_rdev)),
        file_mode: Some(found.st_mode & 0o7777),
        uid: Some(found.st_uid),
        gid: Some(found.st_gid),
    })
}

/// The capabilities that this process has to give: all that the kernel knows, unless it was started with less.
///
/// # Errors
/// The kernel does not say.
pub fn capabilities() -> std::io::Result<Vec<String>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let set = permitted(&status).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidData))?;
    Ok(set.names().map(str::to_owned).collect())
}

/// The permitted set in /proc/PID/status.
fn permitted(status: &str) -> Option<CapSet> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:"))?;
    u64::from_str_radix(line.trim(), 16).ok().map(CapSet)
}

/// How this process's score for want of memory is adjusted: engines are often spared by it, and containers are not to be.
pub fn oom_score_adj() -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Files of this machine that tell others what it does: how hot each of its processors is.
pub fn telling() -> Vec<String> {
    const CPUS: &CStr = c"/sys/devices/system/cpu";
    let Ok(entries) = open(CWD, CPUS).and_then(Dir::new) else { return vec![] };
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str().ok()?.strip_prefix("cpu")?.parse().ok()).collect();
    numbers.sort_unstable();
    let paths = numbers.into_iter().map(|number| format!("/sys/devices/system/cpu/cpu{number}/thermal_throttle"));
    paths.filter(|path| stat(path).is_ok()).collect()
}

/// What a network of a container's own allows: pings and low ports without capabilities. What the kernel lacks is left out.
pub fn sysctls() -> BTreeMap<String, String> {
    let all = [(PING_GROUPS, "0 2147483647"), (FIRST_PORT, "0")];
    let known = all.into_iter().filter(|(name, _)| stat(format!("/proc/sys/{}", name.replace('.', "/"))).is_ok());
    known.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host: &str, container: &str, permissions: &str) -> DeviceMapping {
        let [host, container, permissions] = [host, container, permissions].map(str::to_owned);
        DeviceMapping { host, container, permissions }
    }

    #[test]
    fn one_device() {
        let check = |mapping: DeviceMapping, expect: &str| {
            let found = match mapped(&mapping) {
                Ok(list) => list
                    .iter()
                    .map(|DeviceSetting { device: d, access }| {
                        format!("{} {} {}:{} {:o} {access}", d.path, d.kind, d.major, d.minor, d.file_mode.unwrap())
                    })
                    .collect::<Vec<_>>()
                    .join("|"),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expect, "{mapping:?}");
        };
        check(mapping("/dev/null", "", ""), "/dev/null c 1:3 666 rwm");
        check(mapping("/dev/null", "/dev/nothing", "r"), "/dev/nothing c 1:3 666 r");
        let fail = |path: &str, cause: &str| {
            format!("error gathering device information while adding custom device {path:?}: {cause}")
        };
        check(mapping("/dev/gantry-none", "", ""), &fail("/dev/gantry-none", "no such file or directory"));
        check(mapping("/etc/passwd", "", ""), &fail("/etc/passwd", "not a device node"));
        check(mapping("/proc/sys/kernel", "", ""), &fail("/proc/sys/kernel", "not a device node"));
        check(
            mapping("dev/null", "", ""),
            "invalid device path \"dev/null\": it must be an absolute path without `..`",
        );
        check(mapping("/dev/null", "", "rx"), "invalid device mode: rx");
        check(mapping("/dev/null", "", "rr"), "invalid device mode: rr");
    }

    #[test]
    fn directories() {
        use rustix::fs::{makedev, mknodat};
        let dir = std::env::temp_dir().join(format!("gantry-devices-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::fs::write(dir.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.join("link")).unwrap();
        let make = |name: &str, kind| mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(0o640), makedev(1, 5));
        let made = make("sub/zero", FileType::CharacterDevice).and_then(|()| make("loop", FileType::BlockDevice));
        let found = mapped(&mapping(dir.to_str().unwrap(), "/dev/in/", "rw"));
        std::fs::remove_dir_all(&dir).unwrap();
        if made == Err(Errno::PERM) {
            eprintln!("SKIPPED: devices cannot be made here");
            return;
        }
        let paths: Vec<_> = found.unwrap().into_iter().map(|found| (found.device.path, found.device.kind)).collect();
        let expect = [("/dev/in/loop", "b"), ("/dev/in/sub/zero", "c")];
        assert_eq!(paths, expect.map(|(path, kind)| (path.to_owned(), kind.to_owned())));
    }

    #[test]
    fn what_there_is_to_give() {
        let check = |status: &str, expect: Option<u64>| assert_eq!(permitted(status), expect.map(CapSet), "{status}");
        check("Name:\tx\nCapPrm:\t0000000000000021\nCapEff:\t0000000000000001\n", Some(0x21));
        check("CapEff:\t1\n", None);
        check("CapPrm:\tx\n", None);
        assert!(capabilities().unwrap().contains(&"CAP_CHOWN".to_owned()));
    }

    #[test]
    fn of_the_machine() {
        let found = devices();
        let has = |path: &str| found.iter().any(|device| device.path == path);
        assert!(has("/dev/null") && has("/dev/zero"), "{found:?}");
        assert!(!has("/dev/console") && !has("/dev/ptmx") && !found.iter().any(|device| device.path.contains("/pts/")));
        assert!(block_number("/dev/null").is_err());
        for path in telling() {
            assert!(path.ends_with("/thermal_throttle"), "{path}");
        }
        assert_eq!(sysctls().get(FIRST_PORT).map(String::as_str), Some("0"));
    }
}
