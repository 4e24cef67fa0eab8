//! Signal masks, and signals taken as data: from a queue by one call, or from a descriptor.
//!
//! A supervisor blocks the signals it hands on before it starts the process, so that none is lost and none ends it;
//! the mask that was there before has to be restored in the child, which inherits the blocked one.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A set of signals.
#[derive(Clone, Copy)]
pub struct SigSet(libc::sigset_t);

impl SigSet {
    /// The set without signals.
    pub fn empty() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the whole set that it is given, and cannot fail for a valid pointer.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            Self(set.assume_init())
        }
    }

    /// The set of all signals but those that the C library keeps to itself.
    pub fn all() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigfillset initialises the whole set that it is given, and cannot fail for a valid pointer.
        unsafe {
            libc::sigfillset(set.as_mut_ptr());
            Self(set.assume_init())
        }
    }

    /// The set with this signal. A number that is no signal changes nothing.
    #[must_use]
    pub fn with(mut self, signal: i32) -> Self {
        // SAFETY: the set is initialised; a number out of range is refused without effect.
        unsafe { libc::sigaddset(&raw mut self.0, signal) };
        self
    }

    /// The set without this signal. A number that is no signal changes nothing.
    #[must_use]
    pub fn without(mut self, signal: i32) -> Self {
        // SAFETY: the set is initialised; a number out of range is refused without effect.
        unsafe { libc::sigdelset(&raw mut self.0, signal) };
        self
    }

    /// Whether the signal is in the set.
    pub fn contains(&self, signal: i32) -> bool {
        // SAFETY: the set is initialised; a number out of range is refused.
        unsafe { libc::sigismember(&raw const self.0, signal) == 1 }
    }
}

impl std::fmt::Debug for SigSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries((1..=64).filter(|&s| self.contains(s))).finish()
    }
}

/// Has this process ignore a signal, and whatever it executes too until that decides otherwise.
///
/// # Errors
/// There is no such signal, or it cannot be ignored.
pub fn ignore(signal: i32) -> io::Result<()> {
    // SAFETY: SIG_IGN is no function that could do anything.
    if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Blocks the signals of `set` beside those already blocked in this thread, and returns the mask before.
///
/// # Errors
/// None that a valid set can cause.
pub fn block(set: &SigSet) -> io::Result<SigSet> {
    mask(libc::SIG_BLOCK, set)
}

/// Makes `set` the mask of this thread, and returns the mask before. Async-signal-safe: a child may call it before
/// exec.
///
/// # Errors
/// None that a valid set can cause.
pub fn set_mask(set: &SigSet) -> io::Result<SigSet> {
    mask(libc::SIG_SETMASK, set)
}

/// Starts a program with this mask of signals, whatever the caller's is.
///
/// # Errors
/// Those of [`std::process::Command::spawn`].
pub fn spawn_with_mask(command: &mut std::process::Command, set: SigSet) -> io::Result<std::process::Child> {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: between fork and exec only pthread_sigmask is called, which is async-signal-safe and allocates nothing.
    unsafe { command.pre_exec(move || set_mask(&set).map(drop)) };
    command.spawn()
}

fn mask(how: libc::c_int, set: &SigSet) -> io::Result<SigSet> {
    let mut old = SigSet::empty();
    // SAFETY: both sets are initialised and live through the call.
    match unsafe { libc::pthread_sigmask(how, &raw const set.0, &raw mut old.0) } {
        0 => Ok(old),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Waits for a signal of `set`, which must be blocked, takes it and returns its number.
///
/// # Errors
/// None beside those of an invalid set; an interruption by a signal that is not blocked is waited through.
pub fn wait(set: &SigSet) -> io::Result<i32> {
    loop {
        // SAFETY: the set is initialised; a null pointer for the information is allowed (sigwaitinfo(2)).
        let signal = unsafe { libc::sigwaitinfo(&raw const set.0, std::ptr::null_mut()) };
        if signal > 0 {
            return Ok(signal);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Waits at most `timeout` for a signal of `set`, which must be blocked; `None` if none came.
///
/// # Errors
/// None beside those of an invalid set; an interruption by a signal that is not blocked ends the wait with
/// `Interrupted`.
pub fn wait_timeout(set: &SigSet, timeout: Duration) -> io::Result<Option<i32>> {
    let timeout =
        libc::timespec { tv_sec: timeout.as_secs().min(i32::MAX as u64) as _, tv_nsec: timeout.subsec_nanos() as _ };
    // SAFETY: set and timeout are initialised and live through the call; null is allowed for the information.
    let signal = unsafe { libc::sigtimedwait(&raw const set.0, std::ptr::null_mut(), &raw const timeout) };
    if signal > 0 {
        return Ok(Some(signal));
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) }
}

/// A descriptor from which the signals of a set, which must be blocked, are read.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Opens the descriptor: close-on-exec, non-blocking.
    ///
    /// # Errors
    /// Too many descriptors are open.
    pub fn new(set: &SigSet) -> io::Result<Self> {
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd: RawFd = unsafe { libc::signalfd(-1, &raw const set.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just returned the descriptor, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes the next signal and returns its number; `None` if there is none.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn take(&self) -> io::Result<Option<i32>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        loop {
            // SAFETY: the buffer is as long as is said, and is written by the kernel alone.
            let read = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) };
            if read == size as isize {
                // SAFETY: the kernel wrote the whole structure, which has no invalid values.
                return Ok(Some(unsafe { info.assume_init() }.ssi_signo as i32));
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return Ok(None),
                _ => return Err(error),
            }
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends a signal by its number, realtime ones too, to the process of a pidfd.
///
/// # Errors
/// `ESRCH` if the process has ended and was reaped, `EPERM` if it may not be signalled, `EINVAL` if
/// the number is no signal.
pub fn send(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed and open; a null pointer for the information is allowed, flags are zero.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0 as libc::c_uint,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let set = SigSet::empty().with(libc::SIGTERM).with(40).with(0).with(1000);
        assert_eq!(format!("{set:?}"), "{15, 40}");
        assert!(!SigSet::all().without(libc::SIGHUP).contains(libc::SIGHUP));
        assert!(SigSet::all().contains(libc::SIGTERM));
    }

    /// Raises `signal` in this thread, where it is blocked, and takes it back by `taken`.
    fn check(signal: i32, taken: impl Fn(&SigSet) -> i32) {
        let set = SigSet::empty().with(signal);
        let old = block(&set).unwrap();
        // SAFETY: the signal is blocked in this thread, which it is directed to.
        unsafe { libc::raise(signal) };
        assert_eq!(taken(&set), signal);
        let mask = set_mask(&old).unwrap();
        assert!(mask.contains(signal) && !old.contains(signal));
    }

    #[test]
    fn signals_are_taken() {
        check(libc::SIGUSR1, |set| wait(set).unwrap());
        check(libc::SIGUSR2, |set| wait_timeout(set, Duration::from_secs(5)).unwrap().unwrap());
        check(44, |set| wait(set).unwrap());
        check(libc::SIGUSR1, |set| {
            let fd = SignalFd::new(set).unwrap();
            let signal = fd.take().unwrap().unwrap();
            assert_eq!(fd.take().unwrap(), None);
            signal
        });
        let none = SigSet::empty().with(libc::SIGUSR1);
        let old = block(&none).unwrap();
        assert_eq!(wait_timeout(&none, Duration::from_millis(1)).unwrap(), None);
        set_mask(&old).unwrap();
    }
}
