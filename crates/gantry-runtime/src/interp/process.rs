//! What a process is given before its program runs: identity, capabilities, directory, and the program itself.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, accessat, fchown, fstat, makedev, stat};
use rustix::io::Errno;
use rustix::process::{fchdir, getcwd};
use rustix::termios::isatty;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::mounts::Cause;
use super::paths::{open_beneath, open_host, open_in};
use crate::step::{CapSets, Credentials, Label};

/// The magic number of procfs (statfs(2)).
const PROC_SUPER_MAGIC: u64 = 0x9fa0;
/// The inode of procfs's root directory.
const PROC_ROOT_INODE: u64 = 1;
/// The most of a passwd file that is read, in bytes.
const MAX_PASSWD: u64 = 4 << 20;
/// Where programs are looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn cause(error: impl Into<io::Error>) -> Cause {
    crate::error::cause_text(&error.into())
}

/// Becomes root of the user namespace.
pub(super) fn become_root(groups: bool) -> Result<(), Cause> {
    if groups {
        set_thread_groups(&[]).map_err(cause)?;
    }
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_res_gid(gid, gid, gid).map_err(cause)?;
    set_thread_res_uid(uid, uid, uid).map_err(cause)
}

/// Takes user and groups on; permitted capabilities are kept for the step that sets them.
pub(super) fn set_credentials(credentials: &Credentials) -> Result<(), Cause> {
    set_keep_capabilities(true).map_err(cause)?;
    if let Some(groups) = &credentials.groups {
        let groups: Vec<Gid> = groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
        set_thread_groups(&groups).map_err(|e| format!("set groups: {}", cause(e)))?;
    }
    let gid = Gid::from_raw(credentials.gid);
    set_thread_res_gid(gid, gid, gid).map_err(|e| format!("set group {}: {}", credentials.gid, cause(e)))?;
    let uid = Uid::from_raw(credentials.uid);
    set_thread_res_uid(uid, uid, uid).map_err(|e| format!("set user {}: {}", credentials.uid, cause(e)))?;
    set_keep_capabilities(false).map_err(cause)
}

/// The capabilities that the kernel has, one after another.
fn kernel_capabilities() -> impl Iterator<Item = CapabilitySet> {
    (0..64)
        .map(|number| CapabilitySet::from_bits_retain(1 << number))
        .take_while(|&cap| capability_is_in_bounding_set(cap).is_ok())
}

/// Drops what is not kept from the bounding set.
pub(super) fn limit_bounding(keep: u64) -> Result<(), Cause> {
    let keep = CapabilitySet::from_bits_retain(keep);
    for cap in kernel_capabilities() {
        if !keep.contains(cap) && capability_is_in_bounding_set(cap).unwrap_or(true) {
            remove_capability_from_bounding_set(cap).map_err(cause)?;
        }
    }
    Ok(())
}

/// Sets the capability sets. Those that the kernel does not know are left out.
pub(super) fn set_caps(sets: &CapSets) -> Result<(), Cause> {
    let known = kernel_capabilities().fold(CapabilitySet::empty(), CapabilitySet::union);
    let set = |bits: u64| CapabilitySet::from_bits_retain(bits) & known;
    let (effective, permitted, inheritable) = (set(sets.effective), set(sets.permitted), set(sets.inheritable));
    set_capabilities(None, CapabilitySets { effective, permitted, inheritable }).map_err(cause)?;
    clear_ambient_capability_set().map_err(cause)?;
    for cap in set(sets.ambient).iter() {
        configure_capability_in_ambient_set(cap, true)
            .map_err(|e| format!("raise {cap:?} in the ambient set: {}", cause(e)))?;
    }
    Ok(())
}

/// Changes to a directory inside the root, and checks that the kernel sees it there.
pub(super) fn change_directory(path: &str) -> Result<(), Cause> {
    let root = open_host("/", OFlags::PATH | OFlags::DIRECTORY).map_err(cause)?;
    let dir = open_in(root.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).map_err(cause)?;
    fchdir(&dir).map_err(cause)?;
    check_inside()
}

/// Fails unless the working directory lies inside the root.
pub(super) fn check_inside() -> Result<(), Cause> {
    match getcwd(vec![]) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        Ok(_) | Err(Errno::NOENT) => Err("the directory is outside the container's root".to_owned()),
        Err(error) => Err(cause(error)),
    }
}

/// The home directory of a user, by the container's passwd file; `/` where it is not known.
pub(super) fn home_of(uid: u32) -> String {
    let find = || -> Option<String> {
        use std::io::Read;
        let root = open_host("/", OFlags::PATH | OFlags::DIRECTORY).ok()?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = std::fs::File::from(open_in(root.as_fd(), "/etc/passwd", flags, Mode::empty()).ok()?);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut text = Vec::new();
        file.take(MAX_PASSWD).read_to_end(&mut text).ok()?;
        home_in(&text, uid)
    };
    find().unwrap_or_else(|| "/".to_owned())
}

/// Looks a user up in the text of a passwd file (passwd(5)).
fn home_in(passwd: &[u8], uid: u32) -> Option<String> {
    passwd.split(|&byte| byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b':').collect();
        let found: u32 = std::str::from_utf8(fields.get(2)?).ok()?.parse().ok()?;
        let home = std::str::from_utf8(fields.get(5)?).ok()?;
        (found == uid && !home.is_empty()).then(|| home.to_owned())
    })
}

/// Finds a program as execvp(3) does, with the PATH of the program's own environment.
pub(super) fn find_program(name: &str, env: &[String]) -> Result<String, Cause> {
    let fails = |why: &str| Err(format!("exec: {name:?}: {why}"));
    if name.is_empty() {
        return fails("no program is given");
    }
    if name.contains('/') {
        return match executable(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(error) if error == Errno::NOENT || error == Errno::NOTDIR => {
                fails(&format!("stat {name}: {}", cause(error)))
            }
            Err(error) => fails(&cause(error)),
        };
    }
    let path = env.iter().rev().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut denied = false;
    for dir in path.split(':').filter(|dir| dir.starts_with('/')) {
        let candidate = format!("{}/{name}", dir.trim_end_matches('/'));
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::ACCESS) => denied = true,
            Err(_) => {}
        }
    }
    if denied { fails("permission denied") } else { fails("executable file not found in $PATH") }
}

/// Whether a path is a file that this process may execute.
fn executable(path: &str) -> Result<(), Errno> {
    let kind = FileType::from_raw_mode(stat(path)?.st_mode);
    if kind == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    if kind != FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}

/// Gives the standard streams to the user, so that the program may open them again by `/proc/self/fd`. Streams that
/// are shared by design (the null device) or cannot be given away stay as they are.
pub(super) fn own_stdio(uid: u32, gid: u32) -> Result<(), Cause> {
    let (stdin, stdout, stderr) = (rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr());
    for fd in [stdin, stdout, stderr] {
        let Ok(stat) = fstat(fd) else { continue };
        let null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3);
        // A terminal's group is that of programs which write to other users' terminals.
        let group = (!isatty(fd)).then_some(gid);
        if null || (stat.st_uid == uid && group.is_none_or(|gid| gid == stat.st_gid)) {
            continue;
        }
        match fchown(fd, Some(Uid::from_raw(uid)), group.map(Gid::from_raw)) {
            Err(Errno::INVAL | Errno::PERM | Errno::ROFS | Errno::NOTSUP) => {}
            result => result.map_err(cause)?,
        }
    }
    Ok(())
}

/// Opens a procfs that nothing in the container can have replaced or covered: a detached mount of our own, or where
/// the kernel refuses one because parts of the visible one are covered, the visible one after it proved genuine.
pub(super) fn open_proc() -> Result<OwnedFd, Cause> {
    match super::mounts::new_fs("proc", "proc", &[], crate::step::Attributes::default()) {
        Ok(proc) => Ok(proc),
        Err(refused) => {
            let proc = open_host("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW).map_err(cause)?;
            let genuine = rustix::fs::fstatfs(&proc).map_err(cause)?.f_type as u64 == PROC_SUPER_MAGIC
                && fstat(&proc).map_err(cause)?.st_ino == PROC_ROOT_INODE;
            if genuine { Ok(proc) } else { Err(format!("{refused}; and /proc is no procfs")) }
        }
    }
}

/// Writes to a file of procfs, resolved without leaving it.
pub(super) fn write_proc(proc: &OwnedFd, path: &str, value: &str) -> Result<(), Cause> {
    let file = open_beneath(proc.as_fd(), path, OFlags::WRONLY).map_err(cause)?;
    let written = rustix::io::write(&file, value.as_bytes()).map_err(cause)?;
    if written == value.len() { Ok(()) } else { Err("the kernel took only a part of the value".to_owned()) }
}

/// Sets the label of the next exec.
pub(super) fn set_label(proc: &OwnedFd, label: &Label) -> Result<(), Cause> {
    // What this process is called depends on the PID namespace of the procfs.
    let name = rustix::fs::readlinkat(proc, "thread-self", vec![]).map_err(cause)?;
    let name = name.to_str().map_err(|_| "thread-self is not what it should be".to_owned())?;
    let thread = format!("{name}/attr");
    match label {
        Label::AppArmor(profile) => {
            let value = format!("exec {profile}");
            match write_proc(proc, &format!("{thread}/apparmor/exec"), &value) {
                Err(missing) if missing.contains("no such file") => write_proc(proc, &format!("{thread}/exec"), &value),
                result => result,
            }
        }
        Label::SeLinux(label) => {
            write_proc(proc, &format!("{thread}/keycreate"), label)?;
            write_proc(proc, &format!("{thread}/exec"), label)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes() {
        let passwd =
            b"root:x:0:0:root:/root:/bin/sh\nbroken\n:::\na:x:7:7::/home/a:/bin/sh\nb:x:8:8:::\n\xff:x:9:9::/n:\n";
        let check = |uid, home: Option<&str>| assert_eq!(home_in(passwd, uid).as_deref(), home, "{uid}");
        check(0, Some("/root"));
        check(7, Some("/home/a"));
        check(8, None);
        check(9, Some("/n"));
        check(10, None);
    }

    #[test]
    fn programs() {
        let env = |path: &str| vec![format!("PATH={path}")];
        let check = |name: &str, path: &str, found: Result<&str, &str>| match (find_program(name, &env(path)), found) {
            (Ok(found), Ok(wanted)) => assert_eq!(found, wanted),
            (Err(cause), Err(part)) => assert!(cause.contains(part), "{cause:?} has {part:?}"),
            (got, wanted) => panic!("{name}: {got:?} is not {wanted:?}"),
        };
        check("sh", "/nowhere:/bin", Ok("/bin/sh"));
        check("/bin/sh", "", Ok("/bin/sh"));
        check("sh", ".:bin", Err("executable file not found in $PATH"));
        check("no-such-program", "/bin", Err("executable file not found in $PATH"));
        check("/no/such", "", Err("no such file or directory"));
        check("/etc", "", Err("is a directory"));
        check("/etc/passwd", "", Err("permission denied"));
        check("", "/bin", Err("no program"));
    }
}
