//! Executing programs: execve(2) and execveat(2) over lists of C strings.

use std::ffi::{CStr, CString, NulError};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A list of C strings in the form that exec takes: pointers with a null at the end.
#[derive(Debug)]
pub struct CStringList {
    strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl CStringList {
    /// Copies `strings`; fails on one that holds a NUL.
    pub fn new<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Result<Self, NulError> {
        let strings = strings.into_iter().map(|s| CString::new(s.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        Ok(Self { strings, pointers })
    }

    /// The strings.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// Replaces this process by `path`; returns only the error.
pub fn execve(path: &CStr, args: &CStringList, env: &CStringList) -> io::Error {
    // SAFETY: the lists end in null, and their strings live as long as the lists.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Replaces this process by the file that `fd` is open on; returns only the error.
pub fn fexecve(fd: BorrowedFd<'_>, args: &CStringList, env: &CStringList) -> io::Error {
    // SAFETY: as for execve; the empty path with AT_EMPTY_PATH names the descriptor itself.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            args.pointers.as_ptr(),
            env.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}
