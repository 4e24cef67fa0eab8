//! Layers, unpacked for real and compared with what GNU tar makes of them, with what overlayfs shows, and with what they
//! were packed from. They need root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

mod corpus;
mod hostile;
mod kit;
mod live;
mod random;
mod round;
mod settle;
mod whiteout;
