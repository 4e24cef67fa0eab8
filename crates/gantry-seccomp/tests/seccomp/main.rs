//! What compiled filters do, seen through the interpreter: by cases, against a naive reading of the same profile, against
//! libseccomp, and in the kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod cache;
mod cases;
mod kernel_headers;
mod oracle;
mod properties;
mod reference;
mod support;
