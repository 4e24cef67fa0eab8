//! What containers take on disk.

use crate::engine::{Engine, blocking};
use crate::error::{Error, Result};

/// What a container takes on disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// What it wrote.
    pub written: u64,
    /// That and its image.
    pub all: u64,
}

impl Engine {
    /// What a container takes on disk.
    pub async fn size(&self, asked: &str) -> Result<Size> {
        let record = self.find(asked)?.record();
        let store = self.images().store().clone();
        blocking(move || {
            let id = &record.id;
            let snapshot = store.snapshot(id)?.ok_or_else(|| Error::NoSuch("snapshot", id.clone()))?;
            let written = crate::files::size(&snapshot.upper())?;
            let mut all = written;
            let mut chain = record.image.as_ref().and_then(|image| image.chain.clone());
            while let Some(next) = chain {
                let Some(layer) = store.layer(&next)? else { break };
                all += layer.size;
                chain = layer.parent;
            }
            Ok(Size { written, all })
        })
        .await
    }
}
