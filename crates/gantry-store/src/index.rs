//! The OCI image layout (image-layout.md) that the content directory is.
//!
//! `index.json` says what the database says, for other programs. It is replaced whole whenever names change, and again
//! when the store is opened, so it needs no sync of its own.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::PoisonError;

use gantry_model::image::{Index, media};

use crate::error::{Error, Result};
use crate::images::parse;
use crate::rows::{NAMES, TARGETS, TargetRow};
use crate::store::Inner;

/// The annotation by which a layout names a manifest (annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Brings `oci-layout` and `index.json` to what the database says.
pub(crate) fn write(inner: &Inner) -> Result<()> {
    let _turn = inner.index.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = index(inner)?;
    replace(inner, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    match replace(inner, "index.json", &bytes) {
        // Names can still be removed from a full disk: that is what space was set aside for.
        Err(error) if error.is_full() => {
            inner.reserve().give_up();
            replace(inner, "index.json", &bytes)
        }
        other => other,
    }
}

fn index(inner: &Inner) -> Result<Vec<u8>> {
    let (targets, names) =
        inner.db.read("list images", |tx| Ok((tx.list::<TargetRow>(TARGETS, "")?, tx.list::<String>(NAMES, "")?)))?;
    let mut by_target: HashMap<String, Vec<String>> = HashMap::new();
    for (name, target) in names {
        by_target.entry(target).or_default().push(parse(&name)?.to_string());
    }
    let mut manifests = Vec::new();
    for (key, row) in targets {
        let names = by_target.remove(&key).unwrap_or_default();
        if names.is_empty() {
            manifests.push(row.descriptor.clone());
        }
        for name in names {
            let mut descriptor = row.descriptor.clone();
            descriptor.annotations.insert(REF_NAME.to_owned(), name);
            manifests.push(descriptor);
        }
    }
    let media_type = Some(media::OCI_INDEX.to_owned());
    let index = Index {
        schema_version: 2,
        media_type,
        artifact_type: None,
        manifests,
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    };
    serde_json::to_vec(&index).map_err(|error| Error::corrupt("index.json", error.to_string()))
}

/// Replaces a file of the layout, if it says something else.
fn replace(inner: &Inner, name: &str, bytes: &[u8]) -> Result<()> {
    let path = inner.dirs.content.join(name);
    if std::fs::read(&path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let fresh = inner.dirs.tmp.join(format!("{name}-{}", inner.dirs.number()));
    let written = put(&fresh, &path, bytes);
    written.map_err(|error| inner.dirs.error(format!("write {}", path.display()), error))
}

fn put(fresh: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    std::fs::write(fresh, bytes)?;
    std::fs::rename(fresh, path)
}
