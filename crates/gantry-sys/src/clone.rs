//! Making processes: clone3(2) as a fork, and the end of a forked child.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Which side of [`fork`] the caller is on.
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The caller; holds what it needs to watch the new process.
    Parent {
        /// The child's id in the caller's PID namespace.
        pid: i32,
        /// A descriptor of the child, closed on exec.
        pidfd: OwnedFd,
    },
}

/// What [`fork`] is asked for beyond a plain copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForkOptions<'fd> {
    /// `CLONE_NEW*` bits; no others.
    pub namespaces: u64,
    /// A cgroup v2 directory in which the child is born (`CLONE_INTO_CGROUP`).
    pub cgroup: Option<BorrowedFd<'fd>>,
    /// Whether the child becomes a sibling (`CLONE_PARENT`): the caller's parent reaps it.
    pub sibling: bool,
}

/// All namespaces that can be created by clone3(2).
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64
    | 0x80; // CLONE_NEWTIME

/// `CLONE_INTO_CGROUP`, whose constant in libc has too narrow a type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks by clone3(2): the child is a copy of this process, in new namespaces and in a cgroup as asked.
///
/// The caller must have one thread; another thread's locks would stay held in the child. The runtime starts none.
pub fn fork(options: &ForkOptions<'_>) -> io::Result<Forked> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain data for which all zeroes is the kernel's "nothing asked".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (options.namespaces & NAMESPACES) | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    if options.sibling {
        args.flags |= libc::CLONE_PARENT as u64;
    } else {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = options.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child gets a copy of the address space and continues on its copy of this stack, as
    // after fork(2). `args` is initialised, its size is passed, and `pidfd` outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        // SAFETY: the kernel stored a new descriptor that nothing else owns.
        pid => Ok(Forked::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// Ends this process at once, without running destructors or handlers that belong to the parent's copy.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Sets a signal to its default action; one that cannot be set (SIGKILL, SIGSTOP, the C library's own) stays as it is.
pub fn default_action(signal: i32) {
    // SAFETY: SIG_DFL installs no handler, and a refusal changes nothing.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Sets every signal to its default action and unblocks all, so that a program starts with neither of ours.
pub fn reset_signals() {
    (1..=64).for_each(default_action);
    // SAFETY: the set is initialised by sigemptyset before it is read.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_runs_and_ends() {
        match fork(&ForkOptions::default()).unwrap() {
            Forked::Child => exit_now(7),
            Forked::Parent { pidfd, .. } => {
                let status = rustix::process::waitid(
                    rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)),
                    rustix::process::WaitIdOptions::EXITED,
                );
                assert_eq!(status.unwrap().unwrap().exit_status(), Some(7));
            }
        }
    }
}
