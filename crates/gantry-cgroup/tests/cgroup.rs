//! Tests of the whole crate: plans as data, and real cgroups of this host.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a failure is what a test is for

#[path = "cgroup/host.rs"]
mod host;
#[path = "cgroup/hybrid.rs"]
mod hybrid;
#[path = "cgroup/plans.rs"]
mod plans;
#[path = "cgroup/unified.rs"]
mod unified;
