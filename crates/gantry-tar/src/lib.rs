//! Tar archives, read and written as streams.
//!
//! Layers of images, docker-archives and exported trees are all tar, in every dialect there is: ustar, pax with its
//! extended headers, GNU with long names, sparse files and binary numbers. Everything about the format is decided here,
//! and nothing about files: this crate does no input or output of its own. Names are bytes. What is read is hostile, so
//! everything that an archive may make this crate remember is bounded by [`Limits`].

mod entry;
mod error;
mod header;
mod pax;
mod read;
mod sparse;
mod write;

#[cfg(test)]
mod tests;

pub use entry::{Entry, Extent, Kind, Time, Xattr};
pub use error::{Error, Result, show};
pub use read::{Data, Limits, Reader};
pub use write::Writer;

/// Bytes of a block: headers are one block each, and data is padded to whole blocks.
pub const BLOCK: usize = 512;
