//! The only unsafe code of Gantry: system calls that no library wraps, behind functions that cannot be misused.
//!
//! Nothing here decides anything. Each function is one system call, or one indivisible idiom of a few, and returns the
//! kernel's error as `std::io::Error` or `rustix::io::Errno`.

pub mod arena;
pub mod bpf;
pub mod clone;
pub mod exec;
pub mod memory;
pub mod misc;
pub mod mount;
#[cfg(gantry_musl)]
mod musl;
pub mod netlink;
pub mod ns;
pub mod sched;
pub mod seccomp;
pub mod signal;
