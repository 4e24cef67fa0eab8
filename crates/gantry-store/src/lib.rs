//! Content, layers and snapshots on disk.
