//! Single attempts: one system call or one open, and the kernel's answer by name.

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, symlink};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{AddressFamily, SocketType, socket};

/// Error numbers that expectations name.
const NAMES: [(Errno, &str); 22] = [
    (Errno::PERM, "EPERM"),
    (Errno::NOENT, "ENOENT"),
    (Errno::SRCH, "ESRCH"),
    (Errno::IO, "EIO"),
    (Errno::NXIO, "ENXIO"),
    (Errno::BADF, "EBADF"),
    (Errno::AGAIN, "EAGAIN"),
    (Errno::NOMEM, "ENOMEM"),
    (Errno::ACCESS, "EACCES"),
    (Errno::BUSY, "EBUSY"),
    (Errno::EXIST, "EEXIST"),
    (Errno::XDEV, "EXDEV"),
    (Errno::NODEV, "ENODEV"),
    (Errno::NOTDIR, "ENOTDIR"),
    (Errno::ISDIR, "EISDIR"),
    (Errno::INVAL, "EINVAL"),
    (Errno::TXTBSY, "ETXTBSY"),
    (Errno::NOSPC, "ENOSPC"),
    (Errno::ROFS, "EROFS"),
    (Errno::LOOP, "ELOOP"),
    (Errno::NOSYS, "ENOSYS"),
    (Errno::OVERFLOW, "EOVERFLOW"),
];

/// Tries what `words` say, and gives `ok` or the error's name.
pub fn attempt(words: &[&str]) -> String {
    match act(words) {
        Ok(()) => "ok".into(),
        Err(error) => name(&error),
    }
}

/// An error's name.
pub fn name(error: &io::Error) -> String {
    let known = |raw: i32| NAMES.iter().find(|(errno, _)| errno.raw_os_error() == raw).map(|(_, name)| *name);
    match error.raw_os_error() {
        Some(raw) => known(raw).map_or_else(|| format!("errno {raw}"), str::to_owned),
        None => error.to_string(),
    }
}

fn act(words: &[&str]) -> io::Result<()> {
    match words {
        ["read", path] => fs::File::open(path).and_then(|mut file| io::Read::read(&mut file, &mut [0; 16])).map(drop),
        ["open", path] => fs::File::open(path).map(drop),
        ["readdir", path] => fs::read_dir(path).map(drop),
        ["write", path, text] => fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes())),
        ["open-rw", path] => fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open(path)
            .map(drop),
        ["create", path] => fs::File::create(path).map(drop),
        ["mkdir", path] => fs::create_dir(path),
        ["unlink", path] => fs::remove_file(path),
        ["rename", from, to] => fs::rename(from, to),
        ["link", target, path] => symlink(target, path),
        ["chmod", path, mode] => {
            let mode = Mode::from_raw_mode(u32::from_str_radix(mode, 8).unwrap_or_default());
            Ok(rustix::fs::chmod(*path, mode)?)
        }
        ["chown", path, uid, gid] => std::os::unix::fs::chown(path, uid.parse().ok(), gid.parse().ok()),
        ["sethostname", text] => Ok(rustix::system::sethostname(text.as_bytes())?),
        ["mount", kind, target] => Ok(rustix::mount::mount(*kind, *target, *kind, MountFlags::empty(), None)?),
        ["bind", source, target] => Ok(rustix::mount::mount_bind(*source, *target)?),
        ["remount-rw", target] => Ok(rustix::mount::mount_remount(*target, MountFlags::BIND, "")?),
        ["umount", target] => Ok(rustix::mount::unmount(*target, UnmountFlags::DETACH)?),
        ["mknod", kind, path, major, minor] => {
            let kind = if *kind == "b" { FileType::BlockDevice } else { FileType::CharacterDevice };
            let device = rustix::fs::makedev(major.parse().unwrap_or(0), minor.parse().unwrap_or(0));
            Ok(rustix::fs::mknodat(rustix::fs::CWD, *path, kind, Mode::from_raw_mode(0o666), device)?)
        }
        ["chroot", path] => Ok(rustix::process::chroot(*path)?),
        ["socket", "inet"] => Ok(socket(AddressFamily::INET, SocketType::STREAM, None).map(drop)?),
        ["socket", "raw"] => {
            Ok(socket(AddressFamily::INET, SocketType::RAW, Some(rustix::net::ipproto::ICMP)).map(drop)?)
        }
        ["socket", "netlink"] => Ok(socket(AddressFamily::NETLINK, SocketType::RAW, None).map(drop)?),
        ["bind-port", port] => std::net::TcpListener::bind(("127.0.0.1", port.parse().unwrap_or(0))).map(drop),
        ["connect", address] => std::net::TcpStream::connect(address).map(drop),
        ["umask"] => {
            rustix::process::umask(Mode::from_raw_mode(0o22));
            Ok(())
        }
        ["kill", pid] => {
            let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw).ok_or(Errno::INVAL)?;
            Ok(rustix::process::test_kill_process(pid)?)
        }
        ["keyring"] => gantry_sys::misc::join_session_keyring(c"gantry-probe").map(drop),
        ["personality", persona] => gantry_sys::sched::set_personality(persona.parse().map_err(|_| Errno::INVAL)?),
        ["unshare", "user"] => gantry_sys::ns::unshare(0x1000_0000),
        ["unshare", "mount"] => gantry_sys::ns::unshare(0x2_0000),
        ["thread-name"] => Ok(rustix::thread::set_name(c"renamed")?),
        ["dumpable"] => Ok(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?),
        _ => Err(io::Error::other("no such attempt")),
    }
}
