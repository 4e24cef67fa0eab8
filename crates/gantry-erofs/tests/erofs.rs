//! Tests of the whole crate: images that are read back by a small reader of their own, and by the kernel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure is what a test is for

#[path = "erofs/images.rs"]
mod images;
#[path = "erofs/layers.rs"]
mod layers;
#[path = "erofs/model.rs"]
mod model;
#[path = "erofs/mounts.rs"]
mod mounts;
#[path = "erofs/reader.rs"]
mod reader;
#[path = "erofs/sample.rs"]
mod sample;
