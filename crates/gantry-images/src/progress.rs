//! What is told while images move.
//!
//! Events are small, typed, and rare: of bytes that pass, one a tenth of a second and layer. Whoever gets them decides
//! what they look like.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gantry_model::digest::Digest;

/// Between two events about the same bytes.
const INTERVAL: Duration = Duration::from_millis(100);

/// Who is told. It is called from several threads, and should return soon.
pub type Reporter = Arc<dyn Fn(Progress) + Send + Sync>;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A manifest or index was found.
    Resolved {
        /// Its digest.
        target: Digest,
    },
    /// Something happened to a layer.
    Layer {
        /// Digest of the layer's blob, or of the uncompressed layer where there is no blob yet.
        digest: Digest,
        /// What happened.
        step: Step,
    },
    /// Something happened that a person may want to know.
    Note(String),
}

/// What happens to a layer. `done` and `total` are in bytes of the compressed layer; a total of 0 is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is one of the layers, and waits for its turn.
    Waiting {
        /// Size.
        total: u64,
    },
    /// It is here already, or there.
    Exists,
    /// It was taken from another repository of the registry.
    Mounted,
    /// Bytes arrive.
    Downloading {
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// All bytes are here and right.
    Downloaded,
    /// Bytes are unpacked.
    Extracting {
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It is a layer of the store now.
    Pulled,
    /// Bytes are sent.
    Pushing {
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It is there.
    Pushed,
}

/// A reporter that nobody listens to.
pub fn silent() -> Reporter {
    Arc::new(|_| {})
}

/// Tells of bytes that pass, not too often. Cheap enough to be asked for each piece.
pub(crate) struct Meter {
    reporter: Reporter,
    digest: Digest,
    start: Instant,
    /// Milliseconds after the start at which the next event is due.
    due: AtomicU64,
}

impl Meter {
    pub(crate) fn new(reporter: &Reporter, digest: &Digest) -> Self {
        #[allow(clippy::disallowed_methods, reason = "how often events are told is no decision that a test repeats")]
        let start = Instant::now();
        Self { reporter: reporter.clone(), digest: digest.clone(), start, due: AtomicU64::new(0) }
    }

    /// Tells what happened.
    pub(crate) fn tell(&self, step: Step) {
        (self.reporter)(Progress::Layer { digest: self.digest.clone(), step });
    }

    /// Tells it if the last such event is long enough ago.
    pub(crate) fn pass(&self, step: impl FnOnce() -> Step) {
        let now = self.start.elapsed().as_millis() as u64;
        let due = self.due.load(Ordering::Relaxed);
        let next = now + INTERVAL.as_millis() as u64;
        if now >= due && self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.tell(step());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn events_are_rare() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let list = told.clone();
        let reporter: Reporter = Arc::new(move |event| list.lock().unwrap().push(event));
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let meter = Meter::new(&reporter, &digest);
        let begun = Instant::now();
        for done in 0..100_000 {
            meter.pass(|| Step::Downloading { done, total: 100_000 });
        }
        let most = 1 + begun.elapsed().as_millis() as usize / 50;
        meter.tell(Step::Downloaded);
        let told = told.lock().unwrap();
        assert!((2..=most + 1).contains(&told.len()), "{told:?}");
        assert_eq!(
            told[0],
            Progress::Layer { digest: digest.clone(), step: Step::Downloading { done: 0, total: 100_000 } }
        );
        assert_eq!(told.last(), Some(&Progress::Layer { digest, step: Step::Downloaded }));
    }
}
