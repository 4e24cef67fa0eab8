//! Images against a real store and a real registry. The store unpacks as root, so these tests need it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

mod archives;
mod commit;
mod crash;
mod kit;
mod manage;
mod transfer;
