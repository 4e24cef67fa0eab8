//! What Rust's standard library for the GNU target refers to and musl does not have.
//!
//! The runtime's executable is linked against musl: a start of glibc asks the processor for its caches some seventy
//! times, and in a virtual machine each question costs microseconds; the runtime starts twice for each container. The
//! types that the standard library hands to the C library have the same layout in both on the architectures that are
//! built for, since both take them from the kernel.

use std::ffi::{c_char, c_int, c_void};

/// The version of glibc whose interfaces may be assumed: the oldest that Rust supports, so that none is called for that
/// musl may lack.
#[unsafe(no_mangle)]
extern "C" fn gnu_get_libc_version() -> *const c_char {
    c"2.17".as_ptr()
}

/// The unwinder's shortcut to an object's frames: "not found" makes it walk the program headers instead.
#[unsafe(no_mangle)]
extern "C" fn _dl_find_object(_address: *mut c_void, _result: *mut c_void) -> c_int {
    -1
}
