//! Layers: from a tar, compressed or not, to a directory that overlayfs mounts as a lower one, and back.
//!
//! A layer is what a stranger sends, and it is unpacked by root. So nothing is resolved by path: each directory is opened
//! below the one that holds it, without following a link, and a link within the layer is followed by this module itself,
//! which cannot leave the root. What a layer may use up is bounded by [`Limits`].
//!
//! Unpacking needs no parent, so layers unpack beside each other. What does need the parents is noted in [`Pending`], and
//! [`settle`] does it once they are there.
//!
//! Within one layer the last entry of a name wins, as everywhere. Whiteouts mean the parents only: an entry of the same
//! layer stands beside a whiteout of its name, before or after it, and a directory is then opaque. A directory that takes
//! the place of something else in its own layer hides what the parents have, and is opaque too.

mod apply;
mod attributes;
mod compress;
mod describe;
mod diff;
mod dirs;
mod error;
mod image;
mod names;
mod pipe;
mod settle;
mod tree;
mod unpack;

use gantry_model::digest::Digest;

pub use compress::{Compression, Decompressed, decompress};
pub use diff::{DiffOptions, Live, archive, archive_as, diff};
pub use error::LayerError;
pub use image::{Image, image};
pub use settle::settle;
pub use unpack::{unpack, unpack_unverified};

/// Result of this module.
pub type Result<T, E = LayerError> = std::result::Result<T, E>;

/// What the overlay file system writes into its directories, and an archive may not.
const OVERLAY_PREFIX: &[u8] = b"trusted.overlay.";
/// Says that a directory hides that of the layers below.
const OPAQUE: &str = "trusted.overlay.opaque";
/// Prefix of the name of a whiteout (image-spec, layer.md, Whiteouts).
const WHITEOUT: &[u8] = b".wh.";
/// Prefix of what AUFS kept for itself, and of the name that makes a directory opaque.
const WHITEOUT_META: &[u8] = b".wh..wh.";
/// The name that makes a directory opaque (image-spec, layer.md, Opaque Whiteout).
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";

/// What a layer may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of the uncompressed archive, and of any one file with its holes.
    pub bytes: u64,
    /// Bytes of the path of an entry, and of the target of a link.
    pub path: usize,
    /// Directories above an entry.
    pub depth: usize,
    /// Bytes of the extended header of one entry.
    pub pax: u64,
    /// How many times as large as the compressed archive the uncompressed one may be, beyond `ratio_free`.
    pub ratio: u64,
    /// Bytes that the uncompressed archive may have whatever its ratio.
    pub ratio_free: u64,
    /// Bytes of names that are remembered up to the end: those of directories and of links to parents.
    pub names: usize,
}

impl Default for Limits {
    /// Far above what any image needs, and below what would take a host down.
    fn default() -> Self {
        Self {
            entries: 10_000_000,
            bytes: 1 << 40,
            path: 4096,
            depth: 1024,
            pax: 4 << 20,
            ratio: 200,
            ratio_free: 1 << 30,
            names: 256 << 20,
        }
    }
}

/// How a layer is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What it may use up.
    pub limits: Limits,
    /// Whether device nodes are made. If not, a layer that has some is refused.
    pub devices: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { limits: Limits::default(), devices: true }
    }
}

/// What became of a layer.
#[derive(Debug)]
pub struct Unpacked {
    /// SHA-256 of the uncompressed archive (image-spec, config.md, Layer DiffID).
    pub diff_id: Digest,
    /// Bytes of the uncompressed archive.
    pub size: u64,
    /// Bytes that the files take on disk, about: data in whole blocks of 4096, and one for each directory.
    pub disk: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// What [`settle`] has to do.
    pub pending: Pending,
}

/// What a layer needs its parents for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Directories, in order, that the archive has no entry for, only entries below them. The root is the empty name.
    implied: Vec<Vec<u8>>,
    /// Hard links to files of parents, in the order of the archive.
    links: Vec<PendingLink>,
    /// Whether the root hides all that the parents have.
    opaque_root: bool,
}

impl Pending {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.implied.is_empty() && self.links.is_empty() && !self.opaque_root
    }
}

/// A hard link to a file of a parent. Both names are without links in them, so far as this layer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PendingLink {
    path: Vec<u8>,
    target: Vec<u8>,
}
