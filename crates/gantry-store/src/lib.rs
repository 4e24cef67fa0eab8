//! Content, layers and snapshots on disk: what images are made of and containers stand on.
//!
//! A [`Store`] is a directory that one process owns. It holds content by digest, as an OCI image layout that other programs
//! can read; the layers of images, unpacked; snapshots of them that containers write to; and the names of images.
//! All of it is synchronous and can be used from many threads at once.
//!
//! # What is promised
//! - Content has its final name only when all of it is there, has the right digest, and is on the disk.
//! - A name, once given, outlives a crash of the process and of the machine, with the content that it needs.
//! - A crash at any point leaves the old state or the new one. Opening the store throws half-made things away.
//! - What a lease, a name or a snapshot needs is not collected, and a collection makes nobody wait for longer than it takes
//!   to remove a few files.
//!
//! How each is kept is said where it is done: `ingest` and `db` for content and rows, `recover` for crashes, `collect` for
//! collection, `layers` and `keeper` for what is synced when, `snapshot` for what containers write to.

mod blob;
mod check;
mod collect;
mod db;
mod dirs;
mod erofs;
mod error;
mod hash;
mod images;
mod index;
mod ingest;
mod keeper;
pub mod layer;
mod layers;
mod lease;
mod lock;
mod mapped;
mod mount;
mod options;
mod recover;
mod reserve;
mod rows;
mod snapshot;
mod store;
mod usage;

pub use check::{Checked, Fault};
pub use collect::{Collected, Filter, Policy};
pub use error::{Error, Result};
pub use hash::{chain_id, chain_ids};
pub use images::Image;
pub use ingest::{Claim, Expect, Ingest};
pub use layers::{Layer, LayerClaim, LayerGuard, PendingLayer};
pub use lease::Lease;
pub use mount::MountOptions;
pub use options::{Clock, LayerForm, OnWait, Options};
pub use reserve::Reserve;
pub use rows::LayerKind;
pub use snapshot::{MAX_LAYERS, Snapshot};
pub use store::Store;
pub use usage::{Tally, TreeUsage, Usage};
