//! The rows of the database, and its tables.
//!
//! Values are JSON: rows are small and few, a person can read them, and a field can be added.

use gantry_model::digest::Digest;
use gantry_model::image::Descriptor;
use redb::TableDefinition;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};

/// A table from a text to JSON.
pub(crate) type Table = TableDefinition<'static, &'static str, &'static [u8]>;

/// A digest to its [`BlobRow`].
pub(crate) const BLOBS: Table = TableDefinition::new("blobs");
/// A chain id to its [`LayerRow`].
pub(crate) const LAYERS: Table = TableDefinition::new("layers");
/// The digest of a manifest or index to its [`TargetRow`].
pub(crate) const TARGETS: Table = TableDefinition::new("targets");
/// A reference to the digest of its target, as a JSON string.
pub(crate) const NAMES: Table = TableDefinition::new("names");
/// `DIFF_ID BLOB_DIGEST` to the descriptor of a blob that holds this layer.
pub(crate) const DIFFS: Table = TableDefinition::new("diffs");
/// What the store is: its version.
pub(crate) const META: Table = TableDefinition::new("meta");

/// The version of this layout.
pub(crate) const VERSION: u32 = 1;

/// A blob.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BlobRow {
    pub(crate) size: u64,
    pub(crate) created: i64,
}

/// How a layer lies on disk.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerKind {
    /// A directory tree.
    #[default]
    Directory,
    /// An EROFS image in a file of this name beside the directory.
    Erofs {
        /// Name of the file.
        file: String,
    },
}

/// A layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LayerRow {
    /// Number of its directory.
    pub(crate) number: u64,
    pub(crate) chain: Digest,
    pub(crate) parent: Option<Digest>,
    pub(crate) diff_id: Digest,
    pub(crate) size: u64,
    pub(crate) created: i64,
    /// When a snapshot of it was last made or removed.
    pub(crate) used: i64,
    #[serde(default)]
    pub(crate) kind: LayerKind,
    /// The boot in which it was unpacked, until its files are known to be on the disk itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) boot: Option<String>,
}

/// What names point to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TargetRow {
    pub(crate) descriptor: Descriptor,
    pub(crate) created: i64,
    /// When a name was last given to it.
    pub(crate) tagged: i64,
}

/// A row as bytes.
pub(crate) fn encode<T: Serialize>(row: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(row).map_err(|error| Error::corrupt("a row of the database", error.to_string()))
}

/// A row from bytes.
pub(crate) fn decode<T: DeserializeOwned>(table: &str, key: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::corrupt(format!("row {key} of table {table} of the database"), error.to_string()))
}
