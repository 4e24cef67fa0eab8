//! Tests of the store on real directories. They need root: layers have owners and devices, snapshots are mounted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

mod collect;
mod content;
mod crash;
mod forms;
mod full;
mod kit;
mod layers;
mod snapshots;
