//! The engine with real containers, as root: their lives, their streams, and what becomes of them without it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]
#![allow(clippy::large_futures, reason = "there are few of them")]

mod checkpoint;
mod configurations;
mod faults;
mod kit;
mod leaks;
mod life;
mod network;
mod sandbox;
mod volumes;
