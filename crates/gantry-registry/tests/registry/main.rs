//! The registry from outside, over loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

mod access;
mod collect;
mod conformance;
mod crash;
mod host;
mod kit;
mod room;
mod rules;
mod s3;
mod serving;
mod specification;
mod uploading;
mod upstream;
