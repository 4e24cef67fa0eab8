//! EROFS images, written as a stream.
//!
//! A layer of an image can be a directory, or one file that the kernel mounts as a file system: EROFS is read-only by
//! design, and Linux 6.12 mounts such an image straight from a file. This crate writes them. A [`Builder`] is fed the
//! entries of a layer in the order of its archive, in which a later entry of the same path replaces the earlier. It does
//! no input or output of its own, and knows nothing of layers: whiteouts (character devices 0:0) and opaque directories
//! (the attribute `trusted.overlay.opaque`) are plain entries to it. [`tar`] makes them of the names that archives of
//! layers use.
//!
//! # How an image is laid out
//!
//! Blocks have 4096 bytes. The first holds the superblock and the inode of the root, and is written last, so that half
//! an image is no image. After it come the data of files as they arrive, and between them, a mebibyte at a time, the
//! inodes of everything but directories. A short rest of a file that fills no block lies beside its inode. The
//! directories come at the end, when it is known where everything is.
//!
//! # What it needs
//!
//! Data and inodes leave memory as they come. Held until the end are the names, at some 90 bytes an entry and the length
//! of its name when that is above 24 bytes, some 500 bytes and the attributes of each directory, the texts of symbolic
//! links, and 3 MiB of buffers. [`Limits`] bounds all of it.
//!
//! # What the format cannot hold
//!
//! Images beyond 16 TiB less a block, values of attributes beyond 65,535 bytes, attributes of names that Linux has no
//! prefix for, and device numbers beyond 12 and 20 bits. They are refused by an error that says so. What of a file is a
//! hole becomes a hole of the image.

mod builder;
mod directory;
mod error;
mod finish;
mod format;
mod inodes;
mod output;
mod sum;
pub mod tar;
mod tree;
mod xattr;

pub use builder::{Attributes, Builder, Found, Kind, Limits, Options, Summary};
pub use error::{Error, Result};
pub use gantry_tar::{Time, Xattr};
