//! The networks of an engine, in namespaces of their own: the machine's are never touched.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod beside;
mod kit;
mod measure;
mod names;
mod ports;
mod reach;
mod six;
mod upkeep;
