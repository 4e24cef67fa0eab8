//! The filter of every container that asks for nothing else: what Docker lets through, so that images that work there work
//! here. What it keeps out are calls that programs in containers do not need, and that reach far into the kernel.

use gantry_model::oci::seccomp::{Seccomp, SyscallArg, SyscallRule};

use super::rules::{Case, When};

/// Calls with one verdict, and what it depends on.
struct Group {
    /// Names, between spaces.
    calls: &'static str,
    /// The error that they fail with; none lets them through.
    errno: Option<u32>,
    /// A condition on an argument: which, how compared, and with what.
    arg: Option<(u32, &'static str, u64)>,
    /// Capabilities that the container must have.
    needs: &'static [&'static str],
    /// Capabilities that it must not have.
    lacks: &'static [&'static str],
    /// Architectures, one of which it must be.
    on: &'static [&'static str],
    /// Architectures that it must not be.
    not_on: &'static [&'static str],
    /// The oldest kernel.
    since: Option<(u32, u32)>,
}

/// Calls that go through, always.
const fn allow(calls: &'static str) -> Group {
    Group { calls, errno: None, arg: None, needs: &[], lacks: &[], on: &[], not_on: &[], since: None }
}

/// Calls that go through with a capability.
const fn with(needs: &'static [&'static str], calls: &'static str) -> Group {
    Group { needs, ..allow(calls) }
}

/// Calls that go through on some architectures.
const fn on(on: &'static [&'static str], calls: &'static str) -> Group {
    Group { on, ..allow(calls) }
}

/// A call that goes through with some arguments.
const fn only(call: &'static str, index: u32, op: &'static str, value: u64) -> Group {
    Group { arg: Some((index, op, value)), ..allow(call) }
}

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Families of sockets: the kernel's cryptography, and the hypervisor's.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// All `CLONE_NEW*` of clone(2) but time: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

const S390: &[&str] = &["s390", "s390x"];
const SYS_ADMIN: &[&str] = &["CAP_SYS_ADMIN"];

/// What is let through. Order matters only for whoever compares documents; it is Docker's.
#[rustfmt::skip]
static GROUPS: [Group; 33] = [
    allow(ALWAYS),
    // Older kernels let a tracer past the filter.
    Group { since: Some((4, 8)), ..allow("process_vm_readv process_vm_writev ptrace") },
    only("socket", 0, "SCMP_CMP_LT", AF_ALG),
    only("socket", 0, "SCMP_CMP_EQ", AF_ALG + 1),
    only("socket", 0, "SCMP_CMP_GT", AF_VSOCK),
    // Linux, 16-bit ids, no randomised addresses, both, and the question.
    only("personality", 0, "SCMP_CMP_EQ", 0),
    only("personality", 0, "SCMP_CMP_EQ", 0x8),
    only("personality", 0, "SCMP_CMP_EQ", 0x2_0000),
    only("personality", 0, "SCMP_CMP_EQ", 0x2_0008),
    only("personality", 0, "SCMP_CMP_EQ", 0xffff_ffff),
    on(&["ppc64le"], "sync_file_range2 swapcontext"),
    on(&["arm", "arm64"],
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"),
    on(&["amd64", "x32"], "arch_prctl"),
    on(&["amd64", "x32", "x86"], "modify_ldt"),
    on(S390, "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    on(&["riscv64"], "riscv_flush_icache"),
    with(&["CAP_DAC_READ_SEARCH"], "open_by_handle_at"),
    with(SYS_ADMIN,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules \
         lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount umount2 unshare"),
    // Processes and threads, but no namespaces. On s390 the flags are the second argument.
    Group { lacks: SYS_ADMIN, not_on: S390, ..only("clone", 0, "SCMP_CMP_MASKED_EQ", NEW_NAMESPACES) },
    Group { lacks: SYS_ADMIN, on: S390, ..only("clone", 1, "SCMP_CMP_MASKED_EQ", NEW_NAMESPACES) },
    // Its flags lie in memory, where a filter cannot look. Libraries that are told that it is not there take clone.
    Group { lacks: SYS_ADMIN, errno: Some(ENOSYS), ..allow("clone3") },
    with(&["CAP_SYS_BOOT"], "reboot"),
    with(&["CAP_SYS_CHROOT"], "chroot"),
    with(&["CAP_SYS_MODULE"], "delete_module init_module finit_module"),
    with(&["CAP_SYS_PACCT"], "acct"),
    with(&["CAP_SYS_PTRACE"], "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    with(&["CAP_SYS_RAWIO"], "iopl ioperm"),
    with(&["CAP_SYS_TIME"], "settimeofday stime clock_settime clock_settime64"),
    with(&["CAP_SYS_TTY_CONFIG"], "vhangup"),
    with(&["CAP_SYS_NICE"], "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    with(&["CAP_SYSLOG"], "syslog"),
    with(&["CAP_BPF"], "bpf"),
    with(&["CAP_PERFMON"], "perf_event_open"),
];

/// What every program may call.
#[rustfmt::skip]
const ALWAYS: &str = "\
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 \
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep \
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create \
    epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 \
    execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir \
    fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork \
    fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex \
    futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 \
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid \
    getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit \
    get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32 \
    getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy \
    io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill \
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat \
    listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise \
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 \
    mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 \
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall \
    munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open \
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv \
    preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead \
    readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr \
    removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending \
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 \
    rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max \
    sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 \
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget \
    semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 \
    setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 \
    setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt \
    set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown \
    sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs \
    statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create \
    timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create \
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 \
    ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice \
    wait4 waitid waitpid write writev";

/// Architectures whose programs a machine runs beside its own.
const BESIDE: [(&str, &[&str]); 7] = [
    ("SCMP_ARCH_LOONGARCH64", &[]),
    ("SCMP_ARCH_X86_64", &["SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
    ("SCMP_ARCH_AARCH64", &["SCMP_ARCH_ARM"]),
    ("SCMP_ARCH_MIPS64", &["SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"]),
    ("SCMP_ARCH_MIPSEL64", &["SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32"]),
    ("SCMP_ARCH_S390X", &["SCMP_ARCH_S390"]),
    ("SCMP_ARCH_RISCV64", &[]),
];

pub(super) fn resolve(case: &Case<'_>) -> Seccomp {
    // Without any the filter is for the native one.
    let known = BESIDE.iter().find(|(arch, _)| Some(*arch) == case.filter_arch());
    let architectures = known.into_iter().flat_map(|(native, beside)| std::iter::once(native).chain(*beside));
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".to_owned(),
        default_errno_ret: Some(EPERM),
        architectures: architectures.map(|arch| (*arch).to_owned()).collect(),
        syscalls: GROUPS.iter().filter(|group| group.holds(case)).map(Group::rule).collect(),
        ..Seccomp::default()
    }
}

impl Group {
    fn holds(&self, case: &Case<'_>) -> bool {
        let includes = When { capabilities: self.needs, architectures: self.on, kernel: self.since };
        let excludes = When { capabilities: self.lacks, architectures: self.not_on, kernel: None };
        includes.all(case) && !excludes.any(case)
    }

    fn rule(&self) -> SyscallRule {
        let arg = |(index, op, value): (u32, &str, u64)| SyscallArg { index, value, value_two: 0, op: op.to_owned() };
        SyscallRule {
            names: self.calls.split_ascii_whitespace().map(str::to_owned).collect(),
            action: if self.errno.is_none() { "SCMP_ACT_ALLOW" } else { "SCMP_ACT_ERRNO" }.to_owned(),
            errno_ret: self.errno,
            args: self.arg.map(arg).into_iter().collect(),
        }
    }
}
