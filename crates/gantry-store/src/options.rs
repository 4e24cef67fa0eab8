//! How a store is opened, and what it does by itself.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::collect::Policy;
use crate::layer;

/// A clock: nanoseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What is called when another process has the store, with who holds it.
pub type OnWait = Arc<dyn Fn(&str) + Send + Sync>;

/// How layers lie on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerForm {
    /// As trees of files, which every kernel can mount.
    #[default]
    Directories,
    /// As one file each, an EROFS image that the kernel mounts from it: needs Linux 6.12, and a file system of the store
    /// that can hand out its files so.
    Erofs,
}

impl std::str::FromStr for LayerForm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "directories" => Ok(Self::Directories),
            "erofs" => Ok(Self::Erofs),
            other => Err(format!("{other:?} is no form of layers: they are \"directories\" or \"erofs\"")),
        }
    }
}

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// How long [`Store::open`](crate::Store::open) waits for another process that has the store.
    pub lock_wait: Duration,
    /// Called once, when it begins to wait.
    pub on_wait: Option<OnWait>,
    /// What is collected without being asked: after something was removed, and when the store grows over the policy's
    /// size. None leaves all to [`Store::collect`](crate::Store::collect).
    pub auto_collect: Option<Policy>,
    /// How long the beginning of a cut-off download is kept for resuming.
    pub partial_ttl: Duration,
    /// How long the store's own thread waits for more work before it begins: syncs and collections serve all of it.
    pub pause: Duration,
    /// How layers that are unpacked from now on lie on disk. Those that are here stay as they are; both stand on each other.
    pub layers: LayerForm,
    /// Bounds of layers, and how they are unpacked.
    pub layer: layer::Options,
    /// The time.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lock_wait: Duration::from_secs(60),
            on_wait: None,
            auto_collect: Some(Policy::default()),
            partial_ttl: Duration::from_secs(24 * 3600),
            pause: Duration::from_secs(1),
            layers: LayerForm::Directories,
            layer: layer::Options::default(),
            clock: Arc::new(system_clock),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("lock_wait", &self.lock_wait).finish_non_exhaustive()
    }
}

/// The system's clock.
#[allow(clippy::disallowed_methods)] // the edge: everything else gets the clock from the options
fn system_clock() -> i64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
