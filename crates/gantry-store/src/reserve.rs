//! Space that is kept so that what makes room, or has happened already, can be written on a full disk.

use std::fs::File;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};

use crate::error::free_bytes;

/// Bytes that are kept.
const BYTES: u64 = 1 << 20;

/// A file that is there for its space.
#[derive(Debug)]
pub struct Reserve(PathBuf);

impl Reserve {
    /// The one at a path, which need not be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Sets the space aside, unless that is done or there is hardly any. Returns whether it is kept now.
    pub fn set_aside(&self) -> bool {
        if self.0.exists() {
            return true;
        }
        if self.0.parent().map_or(0, free_bytes) < 16 * BYTES {
            return false;
        }
        let made = File::create(&self.0);
        let made = made.and_then(|file| fallocate(&file, FallocateFlags::empty(), 0, BYTES).map_err(Into::into));
        if let Err(error) = &made {
            tracing::debug!(%error, "no space is set aside for a full disk");
        }
        made.is_ok()
    }

    /// Gives the space up. Returns whether there was some.
    pub fn give_up(&self) -> bool {
        let removed = std::fs::remove_file(&self.0);
        if let Err(error) = &removed {
            tracing::debug!(%error, "no space was kept for a full disk");
        }
        removed.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_kept_and_given_up_once() {
        let directory = std::env::temp_dir().join(format!("gantry-reserve-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let reserve = Reserve::new(directory.join("reserve"));
        assert!(!reserve.give_up());
        assert!(reserve.set_aside() && reserve.set_aside());
        assert_eq!(std::fs::metadata(directory.join("reserve")).unwrap().len(), BYTES);
        assert!(reserve.give_up() && !reserve.give_up());
        std::fs::remove_dir(&directory).unwrap();
    }
}
